# SPDX-License-Identifier: Apache-2.0
"""The tests with the mark ``guest``: they run in a guest, and are reported here.

All of a kernel's that were asked for run in one guest, in their order, when the first of them is
due. Their reports are pytest's own: a failure reads as if it had happened here. A test of which
the guest did not tell everything has failed.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from memplace_lab.cluster.nri import build_adaptation
from memplace_lab.machines.apparmor import ensure_apparmor

from tests.support.guest import booting
from tests.support.guest_reports import Told

_GUESTS = pytest.StashKey[dict[str, Told]]()
_WHOLE = ("setup", "call", "teardown")


def kernel_of(item: pytest.Item) -> str:
    """The kernel that a test's mark names; "" if it runs here."""
    mark = item.get_closest_marker("guest")
    return str(mark.args[0]) if mark else ""


def replay(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """Report a test that ran in a guest; None if it is to run here."""
    name = kernel_of(item)
    if not name:
        return None
    hook = item.ihook
    hook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for report in reports_of(item, name):
        hook.pytest_runtest_logreport(report=report)
    hook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    # A test that ran here before has left the folder that it thought the next one would need.
    item.session._setupstate.teardown_exact(nextitem)
    return True


def reports_of(item: pytest.Item, name: str) -> list[pytest.TestReport]:
    """What there is to report of a test that runs in the guest of a kernel."""
    try:
        told = told_by(item.session, name)
    except (Exception, pytest.fail.Exception) as error:
        return [_failed(item, f"there was no guest: {error!r}")]
    from_json = item.config.hook.pytest_report_from_serializable
    found = [from_json(config=item.config, data=one) for one in told.reports.get(item.nodeid, ())]
    phases = tuple(report.when for report in found)
    if phases in (_WHOLE, ("setup", "teardown")):
        return found
    return [*found, _failed(item, told.why_not(item.nodeid))]


def _failed(item: pytest.Item, why: str) -> pytest.TestReport:
    return pytest.TestReport(
        nodeid=item.nodeid,
        location=item.location,
        keywords=dict.fromkeys(item.keywords, 1),
        outcome="failed",
        longrepr=why,
        when="call",
    )


def told_by(session: pytest.Session, name: str) -> Told:
    """What the guest of a kernel told; it runs the first time that somebody asks."""
    guests = session.stash.setdefault(_GUESTS, {})
    if name not in guests:
        nodeids = [item.nodeid for item in session.items if kernel_of(item) == name]
        factory: pytest.TempPathFactory = session.config._tmp_path_factory  # type: ignore[attr-defined]
        workdir = factory.mktemp(name)
        guests[name] = _run(name, nodeids, workdir)
    return guests[name]


def _run(name: str, nodeids: list[str], workdir: Path) -> Told:
    return booting.run(booting.kernel(name), nodeids, workdir, *_environment(name))


def _environment(name: str) -> list[str]:
    if name == "patched":
        return [f"MEMPLACE_NRI={build_adaptation('nri-0.8')}"]
    return [f"MEMPLACE_APPARMOR={ensure_apparmor()}"] if name == "apparmor" else []
