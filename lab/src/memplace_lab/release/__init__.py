# SPDX-License-Identifier: Apache-2.0
"""The files of a release, and the version that they share. Needs no root."""
