# SPDX-License-Identifier: Apache-2.0
"""`memplace-agent inspect` on a kernel with process_mbind()."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.guest.harness import LARGE_ON_CXL, MIB, Target, inspected, line_of, pages_of

pytestmark = pytest.mark.guest("patched")


def test_inspect_places_a_process_once_and_gives_it_back():
    target = Target()
    start = target.hello["anon"]
    # No pod's: those are the agent's.
    Path("/sys/fs/cgroup/cgroup.procs").write_text(str(target.pid))
    manifest = Path("/run/placement.yaml")
    manifest.write_text(LARGE_ON_CXL)
    args = ("-f", str(manifest), "--tier", "cxl=1")
    before = inspected(target.pid, *args)["process"]
    assert before["notes"] == [], before["notes"]
    assert before["reading"]["policies"] == "ProcmapQuery", before["reading"]
    (rule,) = before["rules"]
    assert rule["misplaced"] >= 4 * MIB and rule["policies"] >= 1, rule
    assert line_of(target.pid, start).split()[1] == "default"
    done = inspected(target.pid, *args, "--apply")
    assert done["problems"] == [] and done["moved"] >= 4 * MIB, done["problems"]
    assert " prefer (many)=static:1 " in line_of(target.pid, start), line_of(target.pid, start)
    assert set(pages_of(target.pid, start)) == {1}
    assert line_of(target.pid, target.hello["bound"]).split()[1] == "bind:0"
    region = next(r for r in done["after"]["regions"] if int(r["start"], 16) == start)
    told = (region["policy"], region["policyOf"], region["rule"])
    assert told == ("PreferredMany:1", "Memplace", "large"), region
    inspected(target.pid, "--undo")
    assert line_of(target.pid, start).split()[1] == "default", line_of(target.pid, start)
    assert set(pages_of(target.pid, start)) == {1}
    assert not list(Path("/run/memplace-inspect").iterdir())
    assert target.do("check")["intact"]
    target.end()
