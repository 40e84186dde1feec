# SPDX-License-Identifier: Apache-2.0
"""``kubectl memplace``: where the memory of pods is, and why it is there."""
