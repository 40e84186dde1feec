# SPDX-License-Identifier: Apache-2.0
"""What the Tab key brings: asked by kubectl and by a real bash, with names of a real cluster."""

from __future__ import annotations

import os
import pty
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from memplace_cli import completing
from memplace_cli.options import COMMANDS
from memplace_lab.product.apiserver import ApiServer

from tests.cli.site import Site

pytestmark = pytest.mark.timeout(90)

SCRIPTS = Path(sys.executable).parent
Complete = Callable[..., list[str]]


@pytest.fixture
def env(api: ApiServer, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Return an environment in which the command and a cluster are found."""
    monkeypatch.setenv("KUBECONFIG", str(api.kubeconfig("admin")))
    monkeypatch.setenv("PATH", f"{SCRIPTS}:{os.environ['PATH']}")
    return dict(os.environ)


def words(*typed: str) -> list[str]:
    """Return what may stand there, without descriptions."""
    found, directive = completing.complete(typed)
    assert directive == 4
    return [each.partition("\t")[0] for each in found]


def test_commands_and_their_options() -> None:
    assert words("") == list(COMMANDS)
    assert words("pa") == ["pause"]
    assert words("-n", "x", "res") == ["resume"]
    assert words("explain", "--co") == ["--context", "--container"]
    assert "--svg" in words("top", "--") and "--svg" not in words("tiers", "--")
    assert words("completion", "") == ["bash", "fish", "zsh"]
    assert words("status", "-o", "") == ["table", "json", "yaml"]
    assert words("status", "") == [] and words("nonsense", "") == []
    assert words() == list(COMMANDS)
    assert all("\t" in each for each in completing.complete([""])[0])


@pytest.mark.parametrize("option", ["-f", "--filename", "--kubeconfig"])
def test_where_a_file_may_stand(option: str) -> None:
    assert completing.complete(["plan", option, ""]) == ([], 0)


def test_names_come_from_the_cluster(api: ApiServer, site: Site) -> None:
    def named(*typed: str) -> list[str]:
        return words("--kubeconfig", str(api.kubeconfig("admin")), *typed)

    site.place("mp-a")
    site.place("mp-b")
    site.run_pod("redis-0")
    site.apply_default("default-a")
    namespace = site.namespace
    assert named("pause", "-n", namespace, "") == ["mp-a", "mp-b", "cmp/default-a"]
    assert named("pause", "-n", namespace, "c") == ["cmp/default-a"]
    assert named("pause", "cmp/d") == ["cmp/default-a"]
    long = "clustermemoryplacement"
    assert named("resume", "cl") == named("resume", f"{long}/") == [f"{long}/default-a"]
    assert named("undo", "-n", namespace, "mp/mp-a") == ["mp/mp-a"]
    assert named("undo", f"mp/{namespace}/mp-b") == [f"mp/{namespace}/mp-b"]
    assert named("undo", f"--namespace={namespace}", "mp-b") == ["mp-b"]
    assert named("resume", f"{namespace}/mp") == [f"{namespace}/mp-a", f"{namespace}/mp-b"]
    assert named("explain", "-n", namespace, "") == ["redis-0"]
    assert named("explain", "-n", namespace, "redis-0", "") == []
    assert named("status", "-n", namespace[:-1]) == [namespace]
    assert named("status", "--context", "") == ["it"]


def test_who_may_not_list_those_of_the_cluster_gets_the_rest(api: ApiServer, site: Site) -> None:
    site.place("mp-a")
    site.apply_default("default-a")
    site.may_read("tenant")
    where = ("--kubeconfig", str(api.kubeconfig("tenant")), "-n", site.namespace)
    assert words("pause", *where, "") == ["mp-a"]
    assert words("pause", *where, "cmp/") == []


def test_it_is_quiet_where_nobody_answers(
    api: ApiServer, tmp_path: Path, capfd: pytest.CaptureFixture[str], site: Site
) -> None:
    site.place("mp-a")
    none = str(tmp_path / "none")
    forbidden = str(api.kubeconfig("nobody"))
    config = yaml.safe_load(api.kubeconfig("admin").read_text())
    with socket.socket() as deaf:  # takes connections, and never answers
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        config["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{deaf.getsockname()[1]}"
        silent = tmp_path / "silent"
        silent.write_text(yaml.safe_dump(config))
        for kubeconfig in (none, forbidden, str(silent)):
            started = time.monotonic()
            assert words("--kubeconfig", kubeconfig, "pause", "-n", site.namespace, "") == []
            assert time.monotonic() - started < 4, kubeconfig
    assert words("--kubeconfig", none, "status", "--context", "") == []
    assert capfd.readouterr() == ("", "")


def test_kubectl_asks_the_program_beside_it(
    api: ApiServer, env: dict[str, str], site: Site
) -> None:
    site.place("mp-a")
    command = [str(api.binaries / "kubectl"), "__complete", "memplace"]
    site.apply_default("default-a")
    own = ["undo", "-n", site.namespace, ""]
    for typed, found in (
        (["und"], ["undo"]),
        (own, ["mp-a", "cmp/default-a"]),
        (["undo", "cmp/"], ["cmp/default-a"]),
    ):
        done = subprocess.run(
            [*command, *typed], env=env, capture_output=True, text=True, timeout=60
        )
        lines = [line.partition("\t")[0] for line in done.stdout.splitlines()]
        assert lines == [*found, ":4"], done.stderr


def test_what_is_completed_without_a_cluster_needs_no_client(env: dict[str, str]) -> None:
    code = (
        "import sys; from memplace_cli import completing; completing.main(['und'])\n"
        "assert not {'kubernetes', 'rich'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, ":4"), done.stderr


class Bash:
    """A bash at a terminal that somebody types into."""

    def __init__(self, env: dict[str, str], folder: Path) -> None:
        rc = folder / "rc"
        rc.write_text(
            "PS1='ready> '\nbind 'set enable-bracketed-paste off'\nbind 'set bell-style none'\n"
            "source <(memplace completion bash)\n"
        )
        command = ["bash", "--noprofile", "--rcfile", str(rc), "-i"]
        self._pid, self._fd = pty.fork()
        if self._pid == 0:
            os.chdir(folder)
            os.execvpe("bash", command, env | {"TERM": "dumb"})
        self.until("ready> ")

    def type(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def until(self, wanted: str) -> str:
        """Return what the screen got until it has a text."""
        seen, deadline = "", time.monotonic() + 30
        while wanted not in seen:
            assert time.monotonic() < deadline, seen
            if select.select([self._fd], [], [], 0.2)[0]:
                seen += os.read(self._fd, 4096).decode()
        return seen

    def close(self) -> None:
        os.close(self._fd)
        os.waitpid(self._pid, 0)


def test_a_bash_completes_what_is_typed(env: dict[str, str], site: Site, tmp_path: Path) -> None:
    site.place("mp-a")
    site.apply_default("default-a")
    (tmp_path / "one file.yaml").write_text("")
    bash = Bash(env, tmp_path)
    try:
        bash.type("memplace und\t")
        bash.until("memplace undo ")
        bash.type(f"-n {site.namespace} m\t")
        bash.until("mp-a ")
        bash.type("\x15memplace undo cm\t")
        bash.until("cmp/default-a ")
        bash.type("\x15memplace plan -f on\t")
        bash.until(r"one\ file.yaml")
        bash.type("\x15memplace top --s\t\t")
        assert "--system-namespace" in bash.until("--svg")
    finally:
        bash.close()


def test_what_stands_behind_the_cursor_is_not_asked_about(env: dict[str, str]) -> None:
    script = (
        "source <(memplace completion bash); COMP_WORDS=(memplace pau xyz); COMP_CWORD=1\n"
        "_memplace; printf '%s\\n' \"${COMPREPLY[@]}\""
    )
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-c", script],
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.stdout, done.stderr) == ("pause\n", "")
