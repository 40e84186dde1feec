# SPDX-License-Identifier: Apache-2.0
"""Rules of one entry, and a pod whose containers have no id yet."""

from memplace.assignment import PodRef
from memplace.pods import PodState


def rule(*entries, name="r", mode="PreferredMany", tiers=("cxl",), **more):
    policy = {"mode": mode, "tiers": list(tiers)} if tiers else {"mode": mode}
    return {"name": name, "regions": list(entries), "policy": policy, **more}


HEAP_RULE = rule({"type": "Heap"})


def new_pod(*names, ids=(), **kwargs):
    """Return a pod as the API server has it before its containers have an id."""
    ids = dict(zip(names, ids, strict=False))
    ref = PodRef(namespace="ns", name="p", uid="uid-p", labels={"app": "x"}, containers=tuple(ids))
    return PodState(ref, ids, declared=names or ("c0",), **kwargs)
