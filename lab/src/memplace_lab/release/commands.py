# SPDX-License-Identifier: Apache-2.0
"""Commands about releases. They need neither root nor the lab's machines."""

from __future__ import annotations

import os
from pathlib import Path

from memplace_lab.base.commands import Command, Commands, Options, Parser
from memplace_lab.base.steps import LabError, say
from memplace_lab.release import version


def _release(options: Options) -> None:
    from memplace_lab.release import make  # CycloneDX is no part of a bare Python

    dirty = os.environ.get("ALLOW_DIRTY", "") == "1"
    commit = make.make(options.checkout, options.out, allow_dirty=dirty, dpkg=options.dpkg)
    say(f"release {commit.version} of {commit.name} is in {options.out}")


def _with_folders(parser: Parser) -> None:
    parser.add_argument("--checkout", type=Path, default=Path(), help="default: here")
    out = Path("out/release")
    parser.add_argument("--out", type=Path, default=out, help="default: %(default)s")
    parser.add_argument(
        "--dpkg",
        type=Path,
        help="var/lib/dpkg of an image of this commit: has its packages in the bill of materials",
    )


def _version(options: Options) -> None:
    try:
        version.write(Path(), options.version)
    except OSError as error:
        raise LabError(str(error)) from error


def _with_version(parser: Parser) -> None:
    parser.add_argument("version", help="three numbers, like 0.2.0")


COMMANDS: Commands = {
    "release": Command(
        "make the files of a release from the commit that is checked out", _release, _with_folders
    ),
    "version": Command(
        "write a version into every place of this checkout that tells one", _version, _with_version
    ),
}
