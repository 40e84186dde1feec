# SPDX-License-Identifier: Apache-2.0
"""What people type: ``inspect`` a process, ``explain`` a container. The daemon has none of it."""
