# SPDX-License-Identifier: Apache-2.0
"""How both shells talk to the API server: requests, lists and watches of bytes."""
