# SPDX-License-Identifier: Apache-2.0
"""What everything else stands on: steps, the cache, background programs, Debian's packages."""
