# SPDX-License-Identifier: Apache-2.0
"""Reports on what the machines of bench/ print, and the API server that bench/agent talks to."""
