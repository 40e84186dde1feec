# SPDX-License-Identifier: Apache-2.0
"""What is shown and tested: pods, a witness of where their bytes are, and the demonstrations."""
