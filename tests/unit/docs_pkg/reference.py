# SPDX-License-Identifier: Apache-2.0
"""What is made of the sources: the API, the commands, the runbook, the panels, the manifests.

python tests/unit/docs_pkg/reference.py    # writes them
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from memplace.reasons import Reason
from memplace_agent.cli.options import explain_options, inspect_options, machine_options
from memplace_cli.advice import advise
from memplace_cli.options import parse
from memplace_operator.__main__ import main as operator_main

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs"
HEAD = "<!-- SPDX-License-Identifier: Apache-2.0 -->\n"
MADE = "<!-- Made by tests/unit/docs_pkg/reference.py: change {source}, and run it. -->\n"
KINDS = ("memoryplacements", "clustermemoryplacements", "memorytiers", "nodememories")
# What Kubernetes knows and each object has.
COMMON = ("apiVersion", "kind", "metadata")

Schema = dict[str, Any]


# The API


def api_page() -> str:
    """Return the page of all kinds and fields."""
    parts = [HEAD, MADE.format(source="crds/*.yaml"), _API_INTRO]
    for plural in KINDS:
        parts += _kind(yaml.safe_load((ROOT / "crds" / f"{plural}.yaml").read_text()))
    return "\n".join(parts).rstrip("\n") + "\n"


_API_INTRO = """# API

Group `memplace.dev`, version `v1alpha1`. Made from the definitions in `crds/`; `kubectl explain`
shows the version of your cluster. A field in **bold** is required. "Refused" lists the
messages with which the API server refuses an invalid object.
"""


def _kind(crd: Schema) -> Iterator[str]:
    spec = crd["spec"]
    names, version = spec["names"], spec["versions"][0]
    schema = version["schema"]["openAPIV3Schema"]
    scope = "in a namespace" if spec["scope"] == "Namespaced" else "of the whole cluster"
    yield f"## {names['kind']}\n"
    yield f"`kubectl get {names['plural']}`, or `{names['shortNames'][0]}`; {scope}.\n"
    yield _cell(schema["description"]) + "\n"
    yield from _refused([schema])
    for top in ("spec", "status"):
        if top in schema["properties"]:
            yield from _section(top, schema["properties"][top], {}, names["kind"])


def _section(path: str, schema: Schema, seen: dict[int, str], kind: str) -> Iterator[str]:
    """Yield the fields of an object, then those of the objects in it."""
    item = schema.get("items", schema)
    fields = item.get("properties", {})
    required = item.get("required", ())
    yield f"### {kind} {path}\n"
    if item.get("description") and not path.endswith("[]"):
        yield _cell(item["description"]) + "\n"
    yield "| field | type | default | meaning |\n|---|---|---|---|"
    below: list[tuple[str, Schema]] = []
    for name, field in fields.items():
        inner, where = _inner(field), f"{path}.{name}{'[]' if 'items' in field else ''}"
        link = ""
        if inner.get("properties"):
            if id(inner) in seen:
                link = f" Entries as in {seen[id(inner)]}."
            else:
                seen[id(inner)] = f"`{where}`"
                below.append((where, field))
        text, default = _said(field, required=name in required)
        label = f"**`{name}`**" if name in required else f"`{name}`"
        yield f"| {label} | {_type(field)} | {default} | {text}{link} |"
    yield ""
    yield from _refused([item, *fields.values()])
    for where, field in below:
        yield from _section(where, field, seen, kind)


def _inner(field: Schema) -> Schema:
    found = field.get("items", field)
    return found if isinstance(found, dict) else {}


def _said(field: Schema, *, required: bool) -> tuple[str, str]:
    """Return what the description says, and the default that it, or the schema, names."""
    text = _cell(field.get("description", ""))
    if "default" in field:
        value = field["default"]
        default = f"`{value}`" if value not in ({}, "") else "empty"
    elif not required and (found := re.search(r" Default: (.+?)\.?$", text)):
        default = found[1]
    else:
        return text, ""
    return re.sub(r" Default: .+$", "", text), default


def _type(field: Schema) -> str:
    inner = _inner(field)
    what = "object" if inner.get("additionalProperties") else str(inner.get("type", "object"))
    if inner.get("additionalProperties"):
        what = f"map of {inner['additionalProperties']['type']}s"
    if inner.get("x-kubernetes-int-or-string"):
        what = "integer or string"
    if inner.get("enum"):
        what = " ".join(f"`{value}`" for value in inner["enum"])
    bounds = [str(inner[key]) for key in ("minimum", "maximum") if key in inner]
    if len(bounds) == 2:
        what += f" from {bounds[0]} to {bounds[1]}"
    if "items" in field:
        most = f", at most {field['maxItems']}" if "maxItems" in field else ""
        what = f"list of {what}{most}" if inner.get("enum") else f"list of {what}s{most}"
    return what


def _refused(schemas: list[Schema]) -> Iterator[str]:
    rules = [
        rule
        for schema in schemas
        for part in (schema, schema.get("items", {}))
        if part is schemas[0] or not part.get("properties")
        for rule in part.get("x-kubernetes-validations", ())
    ]
    said = dict.fromkeys(_cell(rule["message"]) for rule in rules)
    if said:
        yield "Refused:\n"
        yield "\n".join(f"- {message}" for message in said) + "\n"


def _cell(text: str) -> str:
    # What is between < and > would be HTML, and what is between two * set apart.
    escaped = re.sub(r"([*|<>\[\]_])", r"\\\1", " ".join(text.split()))
    return escaped.replace("\\_", "_")


# The commands


def cli_page() -> str:
    """Return the page of what each command says with ``--help``."""
    source = "the options in the code"
    parts = [HEAD, MADE.format(source=source), _CLI_INTRO]
    for title, intro, helps in _COMMANDS:
        parts += [f"## {title}\n", f"{intro}\n"]
        parts += [f"```text\n{one()}```\n" for one in helps]
    return "\n".join(parts).rstrip("\n") + "\n"


_CLI_INTRO = """# Commands

This page shows the `--help` text of each command.
"""


def _help_of(program: Callable[[list[str]], object], *words: str) -> Callable[[], str]:
    def text() -> str:
        out = io.StringIO()
        with _plain_environment(), contextlib.redirect_stdout(out):  # noqa: SIM117
            with contextlib.suppress(SystemExit):
                program([*words, "--help"])
        return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"

    return text


def _subcommands(text: str) -> list[str]:
    """Return the commands that a help lists."""
    return re.findall(r"^ {4}(\w+)  ", text, re.M)


@contextlib.contextmanager
def _plain_environment() -> Iterator[None]:
    # argparse asks how wide the terminal is; some defaults are those of the environment.
    before = dict(os.environ)
    for name in [name for name in before if name.startswith("MEMPLACE")]:
        del os.environ[name]
    os.environ |= {"COLUMNS": "100", "NO_COLOR": "1"}
    try:
        yield
    finally:
        os.environ.clear()
        os.environ |= before


_COMMANDS = (
    (
        "kubectl memplace",
        "For people with a kubeconfig: [kubectl memplace](../kubectl-memplace.md).",
        [
            _help_of(parse),
            *(_help_of(parse, name) for name in _subcommands(_help_of(parse)())),
        ],
    ),
    (
        "memplace-agent",
        "In the agent's container; `machine` and `inspect` on any Linux: [inspect](../inspect.md).",
        [_help_of(machine_options), _help_of(inspect_options), _help_of(explain_options)],
    ),
    (
        "python3 -m memplace_operator",
        "In the operator's container. Use `retire` and `resume` also to remove memplace without "
        "Helm: [Install](../install.md).",
        [
            _help_of(operator_main),
            *(_help_of(operator_main, name) for name in _subcommands(_help_of(operator_main)())),
        ],
    ),
)


# The manifests in pages

_BLOCK = re.compile(
    r"(<!-- (?P<path>examples/[\w-]+\.yaml): begin -->\n).*?(<!-- (?P=path): end -->\n)", re.S
)


def with_manifests(page: str) -> str:
    """Return a page with each manifest that it names as the file is now."""

    def block(match: re.Match[str]) -> str:
        text = (ROOT / match["path"]).read_text().split("\n", 1)[1]
        return f"{match[1]}```yaml\n# {match['path']}\n{text}```\n{match[3]}"

    return _BLOCK.sub(block, page)


# What to do about a reason

_RUNBOOK = re.compile(r"(<!-- runbook: begin -->\n).*?(<!-- runbook: end -->\n)", re.S)


def with_runbook(page: str) -> str:
    """Return a page with what the command line advises about each reason."""
    rows = [f"| `{reason}` | {_linked(advise(reason))} |" for reason in Reason if advise(reason)]
    table = "\n".join(["| reason | what to do |", "|---|---|", *rows, ""])
    return _RUNBOOK.sub(lambda match: f"{match[1]}\n{table}\n{match[2]}", page)


def _linked(text: str) -> str:
    return re.sub(r"docs/([\w/-]+)\.md", r"[\1](\1.md)", _cell(text))


# The panels of the dashboard

_PANELS = re.compile(r"(<!-- panels: begin -->\n).*?(<!-- panels: end -->\n)", re.S)


def with_panels(page: str) -> str:
    """Return a page with what each panel of the dashboard says of itself."""
    text = (ROOT / "charts/memplace/files/dashboard.json").read_text()
    rows = [
        f"| {_cell(panel['title'])} | {_linked(panel['description'])} |"
        for panel in json.loads(text)["panels"]
    ]
    table = "\n".join(["| panel | what it shows, and what to do |", "|---|---|", *rows, ""])
    return _PANELS.sub(lambda match: f"{match[1]}\n{table}\n{match[2]}", page)


# All of them


def pages() -> Mapping[Path, str]:
    """Return the text that each page is to have."""
    cookbook, operate = DOCS / "cookbook.md", DOCS / "operate.md"
    return {
        DOCS / "reference/api.md": api_page(),
        DOCS / "reference/cli.md": cli_page(),
        cookbook: with_manifests(cookbook.read_text()),
        operate: with_panels(with_runbook(operate.read_text())),
    }


def main() -> None:
    """Write them."""
    for path, text in pages().items():
        path.write_text(text)


if __name__ == "__main__":
    main()
