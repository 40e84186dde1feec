# SPDX-License-Identifier: Apache-2.0
"""Files of /proc/PID: total pure parsers from text to dataclasses, and their join."""
