# SPDX-License-Identifier: Apache-2.0
"""What acts on processes: policies at once, pages from a queue."""
