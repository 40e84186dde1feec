# SPDX-License-Identifier: Apache-2.0
"""The API group memplace.dev as frozen, typed structs."""
