# SPDX-License-Identifier: Apache-2.0
"""Properties fail for a counterexample only, never for a busy machine."""

from hypothesis import HealthCheck, settings

# Hypothesis also measures wall time: 200 ms per example, and how fast inputs come. On two
# cores that build a kernel next door, both fail tests of which nothing is wrong.
settings.register_profile("memplace", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("memplace")
