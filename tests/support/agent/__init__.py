# SPDX-License-Identifier: Apache-2.0
"""An agent on a machine of text files: only the system calls are not real."""
