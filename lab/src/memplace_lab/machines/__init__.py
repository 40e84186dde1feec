# SPDX-License-Identifier: Apache-2.0
"""Virtual machines: what they are made of, and how QEMU is told."""
