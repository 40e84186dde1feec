# SPDX-License-Identifier: Apache-2.0
"""How both shells talk to the API server, in bytes, and the TLS of what they serve themselves."""
