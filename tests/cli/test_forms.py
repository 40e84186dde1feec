# SPDX-License-Identifier: Apache-2.0
"""Every command that prints something says the same as a table, as JSON and as YAML."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from memplace_cli.options import COMMANDS

from tests.cli.planner import manifest
from tests.cli.site import Memplace, Site
from tests.support.cluster import result

pytestmark = pytest.mark.timeout(60)

# Scripts for shells have one form.
FORMED = [name for name in COMMANDS if name != "completion"]
OF_THE_CLUSTER = ("tiers", "doctor")


@pytest.mark.parametrize("command", FORMED)
def test_json_and_yaml_say_the_same(
    command: str, site: Site, memplace: Memplace, tmp_path: Path
) -> None:
    # By priority: what is as old as another in one second is older in the next.
    report = result(site.place("mp", priority=1), site.run_pod("redis-0"))
    site.node_report(report)
    site.renew()
    file = tmp_path / "new.yaml"
    file.write_text(yaml.safe_dump(manifest("new")))
    more = {"explain": ["redis-0"], "plan": ["-f", str(file)]}
    more |= {each: ["mp"] for each in ("pause", "resume", "undo")}
    where = [] if command in OF_THE_CLUSTER else ["-n", site.namespace]
    # Twice at first: the second time nothing changes, and then both are of the same.
    args = [command, *more.get(command, []), *where]
    memplace(*args)
    as_json, as_yaml = (memplace(*args, "-o", form) for form in ("json", "yaml"))
    assert as_json.code == as_yaml.code
    assert as_json.json()["schema"] == 1
    assert as_json.json() == yaml.safe_load(as_yaml.out)
    assert (as_json.err, as_yaml.err) == ("", "")
