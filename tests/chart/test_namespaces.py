# SPDX-License-Identifier: Apache-2.0
"""Where the chart's objects live."""

from __future__ import annotations

from tests.support.release.installing import NAMESPACE, Chart

OF_NO_NAMESPACE = {
    "ClusterRole",
    "ClusterRoleBinding",
    "CustomResourceDefinition",
    "SecurityContextConstraints",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
}


def test_all_that_lives_in_a_namespace_says_in_which(chart: Chart) -> None:
    # `helm template | kubectl apply` would put it into that of the admin's context.
    switches = ("networkPolicy", "podMonitor", "prometheusRule", "dashboard", "agent.nri")
    found = chart.render(
        *[f"{name}.enabled=true" for name in (*switches, "operator.podDisruptionBudget")],
        "openshift.securityContextConstraints=true",
        "uninstall.argocd=true",
        'tenancy.tiers="Granted"',
    )
    spaces = {(o["kind"], o["metadata"].get("namespace")) for o in found}
    (space,) = {space for _, space in spaces} - {None}
    assert space == NAMESPACE
    assert {kind for kind, where in spaces if where is None} == OF_NO_NAMESPACE
