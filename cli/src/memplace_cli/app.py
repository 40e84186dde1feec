# SPDX-License-Identifier: Apache-2.0
"""The commands: read, decide what to say, print."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace

from memplace.errors import MemplaceError

from memplace_cli.acting import pause, resume, show_acted, show_undone, undo, wait
from memplace_cli.cluster import connect
from memplace_cli.doctor import doctor
from memplace_cli.errors import CommandFailed, Exit, Refused
from memplace_cli.explain import explain_pod
from memplace_cli.fetch import Reader
from memplace_cli.manifests import read_manifests
from memplace_cli.naming import PlacementName
from memplace_cli.options import Options, parse
from memplace_cli.output import close_output, drawn, put
from memplace_cli.picture import of_pod, of_top
from memplace_cli.preview import preview
from memplace_cli.render import show_diagnosis, show_pod, show_status, show_tiers
from memplace_cli.render_plan import show_plan
from memplace_cli.render_top import show_top
from memplace_cli.shells import SCRIPTS
from memplace_cli.status import status
from memplace_cli.tiers import tiers
from memplace_cli.top import top


def main(args: Sequence[str]) -> int:
    """Run a command; returns the exit status."""
    options = parse(args)
    try:
        if options.command == "completion":
            print(SCRIPTS[options.shell], end="")
            return Exit.OK
        code = _COMMANDS[options.command](options, _reader(options))
        sys.stdout.flush()
        return code
    except MemplaceError as err:
        print(f"memplace: {_hint(err)}", file=sys.stderr)
        return err.status if isinstance(err, CommandFailed) else Exit.WRONG
    except BrokenPipeError:
        close_output()
        return Exit.OK
    except KeyboardInterrupt:
        return Exit.WRONG


def _reader(options: Options) -> Reader:
    cluster = connect(
        kubeconfig=options.kubeconfig, context=options.context, namespace=options.namespace
    )
    return Reader(
        cluster, options.system, options.wait_s, lambda line: print(line, file=sys.stderr)
    )


def _hint(err: MemplaceError) -> str:
    if isinstance(err, Refused) and err.code == 401:
        return f"{err}. Your credentials are not accepted: log in again (kubectl auth whoami)"
    if isinstance(err, Refused) and err.code == 403:
        return f"{err}. Ask for the ClusterRole memplace-view, or name a namespace with -n"
    return str(err)


def _status(options: Options, reader: Reader) -> int:
    put(status(reader.facts(options.namespace)), options.output, show_status)
    return Exit.OK


def _tiers(options: Options, reader: Reader) -> int:
    put(tiers(reader.nodes_only()), options.output, show_tiers)
    return Exit.OK


def _explain(options: Options, reader: Reader) -> int:
    namespace, _, name = options.pod.rpartition("/")
    found = explain_pod(
        reader.pod_facts(namespace or reader.cluster.namespace, name), options.container
    )
    if not found.containers:
        raise CommandFailed(Exit.NOT_THERE, f"pod {name} has no container {options.container!r}")
    if not drawn(options.svg, of_pod(found)):
        put(found, options.output, show_pod)
    return Exit.OK


def _top(options: Options, reader: Reader) -> int:
    found = top(reader.top_facts(options.namespace), options.namespace)
    if not drawn(options.svg, of_top(found)):
        put(found, options.output, show_top)
    return Exit.OK


def _plan(options: Options, reader: Reader) -> int:
    manifests = read_manifests(options.files, options.namespace, reader.cluster.namespace)
    found = preview(manifests, reader)
    put(found, options.output, show_plan)
    if found.refused:
        return Exit.USAGE
    return Exit.WRONG if found.is_against else Exit.OK


def _placement(options: Options, reader: Reader) -> PlacementName:
    found = options.placement
    return replace(found, namespace=found.namespace or reader.cluster.namespace)


def _pause(options: Options, reader: Reader) -> int:
    put(pause(reader, _placement(options, reader)), options.output, show_acted)
    return Exit.OK


def _resume(options: Options, reader: Reader) -> int:
    put(resume(reader, _placement(options, reader)), options.output, show_acted)
    return Exit.OK


def _undo(options: Options, reader: Reader) -> int:
    found = undo(reader, _placement(options, reader))
    if options.wait:
        found = wait(reader, found, options.timeout_s)
    put(found, options.output, show_undone)
    return Exit.OK if found.done or not options.wait else Exit.WRONG


def _doctor(options: Options, reader: Reader) -> int:
    found = doctor(reader.doctor_facts())
    put(found, options.output, show_diagnosis)
    return Exit.OK if found.healthy else Exit.WRONG


_COMMANDS: dict[str, Callable[[Options, Reader], int]] = {
    "status": _status,
    "explain": _explain,
    "top": _top,
    "plan": _plan,
    "pause": _pause,
    "resume": _resume,
    "undo": _undo,
    "tiers": _tiers,
    "doctor": _doctor,
}
