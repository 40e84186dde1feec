# SPDX-License-Identifier: Apache-2.0
"""The base of all other wings: steps, the cache, background programs, Debian's packages."""
