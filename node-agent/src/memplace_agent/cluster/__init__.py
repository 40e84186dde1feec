# SPDX-License-Identifier: Apache-2.0
"""What the agent and the API server tell each other."""
