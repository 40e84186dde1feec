# SPDX-License-Identifier: Apache-2.0
"""What is printed: within the width, as text, and with long names whole."""

import io

import pytest
from memplace.api.v1alpha1 import TierBytes
from memplace_cli.doctor import Check, Diagnosis, Mark
from memplace_cli.render import show_diagnosis, show_status, show_tiers
from memplace_cli.status import Attention, NodeShown, PlacementShown, Status
from memplace_cli.tiers import Tiers, TierShown
from rich.console import Console

LONG = "ip-10-0-11-222.eu-central-1.compute.internal.a-name-of-sixty-three-bytes"
EVIL = "x\x1b[2Jy[bold]z[/bold]"


def printed(show, found, width: int = 120) -> list[str]:  # type: ignore[no-untyped-def]
    console = Console(file=io.StringIO(), width=width, highlight=False, color_system=None)
    show(found, console)
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined, no-any-return]


def a_status(name: str) -> Status:
    tier = TierShown(node=name, tier="cxl", numa_nodes=(1,), capacity_bytes=1 << 40)
    node = NodeShown(name=name, backend="Observe", reason="R", message="m " * 200, tiers=(tier,))
    return Status(
        nodes=(node,),
        placements=(
            PlacementShown(
                namespace=name,
                name=name,
                ready="False",
                reason="NotAllowedByCpuset",
                tiers=(TierBytes(name="cxl", bytes=1 << 40),),
            ),
        ),
        attention=(Attention(about=name, reason="R", message="m " * 200, advice="a " * 99),),
        left_out=("why " * 99,),
    )


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("name", ["a", LONG])
def test_tables_fit_and_fold_what_is_long(name: str, width: int) -> None:
    lines = printed(show_status, a_status(name), width)
    assert max(map(len, lines)) <= width
    flat = "".join(line[: len(name)].strip() for line in lines)
    assert name[:20] in flat
    assert not any("…" in line for line in lines)


def test_texts_are_no_markup_and_move_no_cursor() -> None:
    flat = "\n".join(printed(show_status, a_status(EVIL)))
    assert "\x1b" not in flat
    assert "x\\x1b[2Jy[bold]z[/bold]" in flat


def test_a_node_that_shows_no_tier_says_so() -> None:
    found = Tiers(tiers=(TierShown(node="n", tier="", numa_nodes=(1, 2), evidence="nothing"),))
    assert printed(show_tiers, found)[1].split() == ["n", "(none)", "1-2", "-", "-", "nothing"]


def test_nothing_at_all_is_said() -> None:
    assert printed(show_tiers, Tiers()) == ["no node has reported"]
    assert "nothing needs attention" in printed(show_status, Status())


@pytest.mark.parametrize(
    ("marks", "last"),
    [
        ([Mark.OK], "all is well"),
        ([Mark.OK, Mark.WARN], "all is well"),
        ([Mark.OK, Mark.SKIP], "nothing wrong in what could be checked"),
        ([Mark.FAIL, Mark.SKIP], "1 thing wrong"),
        ([Mark.FAIL, Mark.FAIL], "2 things wrong"),
    ],
)
def test_doctor_ends_with_one_line(marks: list[Mark], last: str) -> None:
    checks = tuple(Check(what="w", mark=mark, detail="d", advice="a") for mark in marks)
    found = Diagnosis(healthy=Mark.FAIL not in marks, checks=checks)
    assert printed(show_diagnosis, found)[-1] == last
