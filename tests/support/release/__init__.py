# SPDX-License-Identifier: Apache-2.0
"""A release of the chart on a real API server, what people wrote there, and who is played."""
