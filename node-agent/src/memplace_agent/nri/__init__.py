# SPDX-License-Identifier: Apache-2.0
"""NRI, by which a container runtime tells of a container before its program runs."""
