# SPDX-License-Identifier: Apache-2.0
"""What a release is made of, and the version that all of it has. Needs no root."""
