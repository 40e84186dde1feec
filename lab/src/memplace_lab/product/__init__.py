# SPDX-License-Identifier: Apache-2.0
"""memplace itself: its images, its chart in a cluster, its operator at an API server."""
