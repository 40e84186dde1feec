# SPDX-License-Identifier: Apache-2.0
"""What is read of the machine as a whole: memory pressure, room, and the kernel's habits."""
