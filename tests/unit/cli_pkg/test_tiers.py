# SPDX-License-Identifier: Apache-2.0
"""What placements hold of the tiers of a node."""

from __future__ import annotations

from memplace.api.v1alpha1 import ContainerState
from memplace_cli.tiers import placed_by_node

from tests.unit.operator_pkg import worlds


def test_a_container_of_which_a_dry_run_tells_as_well_counts_once() -> None:
    acts = worlds.report(worlds.pod_report(rules=(worlds.measured(n1=5),)), name="acts")
    dry = worlds.report(
        worlds.pod_report(state=ContainerState.DRY_RUN, rules=(worlds.measured(n1=7),)), name="dry"
    )
    for reports in ((acts, dry), (dry, acts)):
        assert placed_by_node(worlds.node(*reports)) == {1: 5}
    assert placed_by_node(worlds.node(dry)) == {1: 7}
