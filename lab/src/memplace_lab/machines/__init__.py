# SPDX-License-Identifier: Apache-2.0
"""Virtual machines: their parts, and the command lines of QEMU."""
