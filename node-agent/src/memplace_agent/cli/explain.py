# SPDX-License-Identifier: Apache-2.0
"""``memplace-agent explain``: ask the agent why a container's memory is where it is."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import msgspec
from memplace.explained import SCHEMA, ContainerExplained, ContainerListed, Cut

from memplace_agent.cli.ask import ask
from memplace_agent.cli.errors import CommandFailed, Exit, status_of
from memplace_agent.cli.options import ExplainOptions, explain_options
from memplace_agent.cli.screen import print_lines, screen
from memplace_agent.cli.table import container_lines, listed_lines

_LIMITS = {"table": 30, "wide": 200, "json": 0}


def main(args: Sequence[str]) -> int:
    """Run the command; returns the exit status."""
    return status_of(lambda: _run(explain_options(args)))


def _run(options: ExplainOptions) -> int:
    document, _ = ask(options.port, "/v1/containers")
    containers = _convert(document, "containers", list[ContainerListed])
    if not options.names:
        if options.output == "json":
            _print_json(document)
        else:
            print_lines(listed_lines(containers, screen()))
        return Exit.OK
    chosen = [each for each in containers if _is_meant(each, options.names)]
    if not chosen:
        raise CommandFailed(
            Exit.NO_PROCESS,
            f"no container of {'/'.join(options.names)} on this node follows a placement "
            "(explain without a name lists them)",
        )
    answers = [ask(options.port, f"/v1/containers/{each.id}")[0] for each in chosen]
    if options.output == "json":
        _print_json({"schema": SCHEMA, "containers": answers})
        return Exit.OK
    for number, answer in enumerate(answers):
        if number:
            print()
        found = _cut(_convert(answer, "container", ContainerExplained), options)
        wide = options.output == "wide"
        print_lines(container_lines(found, answer["ageSeconds"], screen(), wide=wide))
    return Exit.OK


def _is_meant(container: ContainerListed, names: Sequence[str]) -> bool:
    return (container.namespace, container.pod, container.container)[: len(names)] == tuple(names)


def _convert(document: dict[str, Any], key: str, type_: Any) -> Any:
    if document.get("schema") != SCHEMA:
        raise CommandFailed(
            Exit.FAILED,
            f"the agent speaks schema {document.get('schema')}, this program {SCHEMA}: "
            "use the one from the agent's image",
        )
    try:
        return msgspec.convert(document[key], type_)
    except (KeyError, msgspec.ValidationError) as err:
        raise CommandFailed(Exit.FAILED, f"the agent's answer is not understood: {err}") from err


def _cut(container: ContainerExplained, options: ExplainOptions) -> ContainerExplained:
    limit = _LIMITS[options.output] if options.limit is None else options.limit
    if not limit:
        return container
    processes = []
    for process in container.processes:
        kept = sorted(process.regions, key=lambda r: (-r.resident, -r.size))[:limit]
        left = sum(r.resident for r in process.regions) - sum(r.resident for r in kept)
        cut = Cut(
            regions=process.cut.regions + len(process.regions) - len(kept),
            resident=process.cut.resident + left,
        )
        processes.append(msgspec.structs.replace(process, regions=tuple(kept), cut=cut))
    return msgspec.structs.replace(container, processes=tuple(processes))


def _print_json(document: object) -> None:
    sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(document)) + b"\n")
