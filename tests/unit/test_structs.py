# SPDX-License-Identifier: Apache-2.0
"""What threads may be the first to read together is known before there are threads."""

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from memplace import structs

ROOT = Path(__file__).parents[2]
SOURCES = ("core/src", "node-agent/src", "operator/src")

# Threads of one process read new structs, all the first at the same time.
RACE = """
import sys, threading
import msgspec
from memplace.structs import prepared
sys.setswitchinterval(1e-6)
KINDS = ["str", "int", "tuple[str, ...]", "dict[str, int] | None", "msgspec.Raw"]
VALUES = ['"x"', "1", '["y"]', '{"e":2}', "{}"]
def make(i):
    fields = {f"f{k}": KINDS[k % 5] for k in range(30)} | {"inner": f"In{i}"}
    inner = {"__annotations__": {"x": "str"}, "__module__": "__main__"}
    globals()[f"In{i}"] = type(msgspec.Struct)(f"In{i}", (msgspec.Struct,), inner)
    outer = {"__annotations__": fields, "__module__": "__main__"}
    return type(msgspec.Struct)(f"S{i}", (msgspec.Struct,), outer)
made = [make(i) for i in range(400)]
if sys.argv[1] == "prepared":
    made = [prepared(each) for each in made]
body = ",".join(f'"f{k}":{VALUES[k % 5]}' for k in range(30))
raw = ("{" + body + ',"inner":{"x":"s"}}').encode()
barrier = threading.Barrier(4)
def read(n):
    for each in made:
        barrier.wait()
        for _ in range(n * 37 % 200):
            pass
        assert msgspec.json.decode(raw, type=each).inner.x == "s"
threads = [threading.Thread(target=read, args=(n,)) for n in range(4)]
for each in threads: each.start()
for each in threads: each.join()
"""


def test_prepared_structs_are_read_by_threads_at_once() -> None:
    """Without it such a process ends with SIGSEGV nearly always, which is not asserted."""
    for _ in range(3):
        done = subprocess.run([sys.executable, "-c", RACE, "prepared"], check=False)
        assert done.returncode == 0


def read_types(tree: ast.Module) -> Iterator[ast.expr]:
    """Yield the names of types in calls that read them within a function."""
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef):
            continue
        for call in ast.walk(function):
            if not isinstance(call, ast.Call):
                continue
            name = ast.unparse(call.func)
            if name in ("msgspec.json.decode", "msgspec.json.Decoder"):
                yield from (key.value for key in call.keywords if key.arg == "type")
            if name in ("msgspec.convert", "from_builtins") and len(call.args) > 1:
                yield call.args[1]


def found() -> Iterator[tuple[str, str]]:
    for source in SOURCES:
        for file in sorted((ROOT / source).rglob("*.py")):
            for type_ in read_types(ast.parse(file.read_text())):
                name = ".".join(file.relative_to(ROOT / source).with_suffix("").parts)
                if isinstance(type_, ast.Name) and not type_.id.endswith("type_"):
                    yield name, type_.id


def test_the_guard_sees_what_is_read() -> None:
    assert ("memplace_kube.watch", "_Event") in set(found())
    assert ("memplace.api.objects", "PlacementSpec") in set(found())


@pytest.mark.parametrize(("module", "name"), sorted(set(found())))
def test_what_is_read_was_prepared(module: str, name: str) -> None:
    type_ = getattr(importlib.import_module(module), name)
    if getattr(type_, "__module__", "").startswith("memplace"):
        assert type_ in structs.PREPARED
