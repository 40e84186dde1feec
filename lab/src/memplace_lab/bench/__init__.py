# SPDX-License-Identifier: Apache-2.0
"""What bench/ makes of what its machines print, and the API server that it talks to."""
