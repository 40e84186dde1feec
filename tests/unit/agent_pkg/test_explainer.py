# SPDX-License-Identifier: Apache-2.0
"""What the agent explains of a container, from the question on loopback to the table."""

from __future__ import annotations

import http.client
import json
import socket
import threading

import pytest
from memplace.errors import KernelWithoutProcessMbind, ValidationError
from memplace_agent.cli import explain
from memplace_agent.engine.explainer import Explainer
from memplace_agent.http import LoopbackServer
from memplace_agent.procfs.query import Way
from memplace_agent.settings import settings_from_env

ID = "a" * 64
NO_WAIT = 0.0


class Agent:
    """A node whose deciding thread works whenever somebody has asked."""

    def __init__(self, node, wait_s=5.0):
        self.node = node
        self.explainer = Explainer(node.clock, wait_s)
        node.engine.explainer = self.explainer
        node.reconciler = node.engine.reconciler(node.store)
        self.server = LoopbackServer(0, self.explainer.route)
        self.server.start()

    def ask(self, path, host=None):
        """Status and document of a GET, while the agent is at work."""
        stop = threading.Event()

        def work():
            while not stop.wait(0.01):
                self.node.reconciler.audit()

        thread = threading.Thread(target=work)
        thread.start()
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=10)
        try:
            connection.request("GET", path, headers={"Host": host} if host else {})
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        finally:
            connection.close()
            stop.set()
            thread.join()

    def command(self, *args):
        stop = threading.Event()

        def work():
            while not stop.wait(0.01):
                self.node.reconciler.audit()

        thread = threading.Thread(target=work)
        thread.start()
        try:
            return explain.main([*args, "--port", str(self.server.port)])
        finally:
            stop.set()
            thread.join()


@pytest.fixture
def agent(started):
    agent = Agent(started)
    yield agent
    agent.server.stop()


def test_the_list_says_which_containers_there_are_and_how_they_fare(agent, kit):
    agent.node.full(kit.placement())
    status, document = agent.ask("/v1/containers")
    assert status == 200 and document["schema"] == 1
    (one,) = document["containers"]
    assert (one["id"], one["namespace"], one["pod"], one["container"]) == (ID, "ns", "p", "c0")
    assert (one["placement"], one["state"]) == ("mp", "Placed")


def test_a_container_is_explained_region_by_region(agent, kit):
    agent.node.full(kit.placement())
    status, document = agent.ask(f"/v1/containers/{ID}")
    assert status == 200
    (process,) = document["container"]["processes"]
    heap = next(r for r in process["regions"] if r["type"] == "Brk")
    told = {key: heap[key] for key in ("rule", "policyOf", "policy")}
    assert told == {"rule": "heap", "policyOf": "Memplace", "policy": "PreferredMany:1"}
    assert heap["numaNodes"] == [{"id": 1, "bytes": 1 << 20}]
    kernel = next(r for r in process["regions"] if r["type"] == "Kernel")
    assert [why["reason"] for why in kernel["whyNot"]] == ["Special"]
    (rule,) = process["rules"]
    assert rule["plan"] == ["nothing: 2 mappings as the rule wants it"]


def plan_of(agent):
    (process,) = agent.ask(f"/v1/containers/{ID}")[1]["container"]["processes"]
    (rule,) = process["rules"]
    return rule["plan"], {region["plan"] for region in process["regions"]} - {""}


@pytest.mark.parametrize(
    ("spec", "first"),
    [
        ({"onUnsupported": "Fail"}, "nothing is done: no policy can be set"),
        ({"onUnsupported": "Observe"}, "bytes are only measured"),
        ({"onUnsupported": "BestEffort"}, "no policy can be set on this node: pages are moved"),
        ({"onUnsupported": "BestEffort", "paused": True}, "spec.paused"),
    ],
)
def test_a_node_that_can_set_no_policies_has_no_plan_to(started, kit, spec, first):
    started.unsupported = KernelWithoutProcessMbind("this kernel does not announce it.")
    started.way = Way.MAPS
    started.restart()
    agent = Agent(started)
    try:
        agent.node.full(kit.placement(**spec))
        rule, regions = plan_of(agent)
    finally:
        agent.server.stop()
    assert rule[0].startswith(first) and not any("set " in text for text in (*rule[1:], *regions))


def test_what_is_paused_has_no_plan(agent, kit):
    agent.node.full(kit.placement(paused=True))
    rule, regions = plan_of(agent)
    assert len(rule) == 1 and rule[0].startswith("spec.paused") and not regions


def test_a_dry_run_says_what_would_be_done_and_that_it_is_not(agent, kit):
    agent.node.full(kit.placement(mode="DryRun"))
    rule, regions = plan_of(agent)
    assert rule[0] == "mode DryRun: nothing is changed; with mode Enforce:"
    assert [text.split()[0] for text in rule[1:]] == ["set", "move"] and regions


def test_explaining_changes_nothing(agent, kit):
    agent.node.full(kit.placement())
    calls, reports = len(agent.node.machine.calls), agent.node.reports()
    agent.ask(f"/v1/containers/{ID}")
    agent.node.run(30)
    assert len(agent.node.machine.calls) == calls
    assert agent.node.reports() == reports


def test_no_thread_of_http_reads_processes(agent, kit):
    agent.node.full(kit.placement())
    readers = set()
    agent.node.machine.on_read = lambda _: readers.add(threading.current_thread().name)
    agent.ask(f"/v1/containers/{ID}")
    assert readers and not any(name.startswith("http") for name in readers)


def test_nobody_waits_for_ever_for_an_agent_that_does_not_come_to_it(started):
    status, body = Explainer(started.clock, NO_WAIT).route("/v1/containers")
    assert status == 503 and b"try again" in body


def test_what_was_asked_a_moment_ago_is_not_looked_at_again(agent, kit):
    agent.node.full(kit.placement())
    first = agent.ask(f"/v1/containers/{ID}")[1]
    agent.node.clock.now += 3
    again = agent.ask(f"/v1/containers/{ID}")[1]
    assert again == {**first, "ageSeconds": first["ageSeconds"] + 3}
    agent.node.clock.now += 3
    assert agent.ask(f"/v1/containers/{ID}")[1]["ageSeconds"] == 0


def test_an_error_is_an_answer_and_stops_nothing(agent, kit, monkeypatch):
    agent.node.full(kit.placement())
    monkeypatch.setattr("memplace_agent.engine.explaining.read_members", lambda _: 1 / 0)
    status, document = agent.ask(f"/v1/containers/{ID}")
    assert status == 500 and "ZeroDivisionError" in document["problem"]
    assert agent.ask("/v1/containers")[0] == 200


def test_a_process_that_can_t_be_read_is_no_reason_to_say_nothing_of_the_others(agent, kit):
    agent.node.machine.start(101, ID, kit.heap(), kit.anon())
    agent.node.full(kit.placement())
    (agent.node.machine.host.pid(101) / "maps").unlink()
    (agent.node.machine.host.pid(101) / "status").unlink()
    container = agent.ask(f"/v1/containers/{ID}")[1]["container"]
    assert [process["pid"] for process in container["processes"]] == [100]


@pytest.mark.parametrize("path", ["/", "/metrics", "/v1/containers/", "/v1/containers/../x"])
def test_other_paths_are_not_found(agent, path):
    assert agent.ask(path)[0] == 404


def test_a_container_without_a_placement_is_not_explained(agent):
    agent.node.full()
    assert agent.ask(f"/v1/containers/{ID}")[0] == 404


@pytest.mark.parametrize(
    ("host", "status"),
    [("localhost:1", 200), ("127.0.0.1", 200), ("[::1]:5", 200), ("evil.example:8081", 403)],
)
def test_a_page_of_the_web_can_t_ask_under_a_name_of_its_own(agent, kit, host, status):
    agent.node.full(kit.placement())
    assert agent.ask("/v1/containers", host)[0] == status


def test_only_loopback_is_listened_on(agent):
    assert agent.server.address[0] == "127.0.0.1"
    with socket.socket() as other:
        other.bind(("127.0.0.2", agent.server.port))  # free: not all addresses are taken


def test_a_process_of_very_many_mappings_has_a_short_answer(agent, kit):
    many = [kit.anon(0x20000000 + at * 8192, 4096, perms="rw-p") for at in range(1500)]
    agent.node.machine.processes.clear()
    agent.node.machine.start(102, ID, kit.heap(), *many)
    agent.node.full(kit.placement())
    document = agent.ask(f"/v1/containers/{ID}")[1]
    process = max(document["container"]["processes"], key=lambda p: p["mappings"])
    assert process["mappings"] > 1500 and len(process["regions"]) == 200
    assert process["cut"]["regions"] > 1200
    assert len(json.dumps(document)) < 200_000


def test_answers_are_few_and_forgotten(started, kit):
    agent = Agent(started, NO_WAIT)
    for letter in "abcdefgh":
        agent.explainer.route(f"/v1/containers/{letter * 64}")
        agent.node.reconciler.audit()
    assert len(agent.explainer._answers) == 4
    agent.node.clock.now += 61
    agent.node.reconciler.audit()
    assert not agent.explainer._answers
    for number in range(40):
        status, _ = agent.explainer.route(f"/v1/containers/{number}")
        assert status == 503
    assert len(agent.explainer._asked) == 16
    agent.server.stop()


def test_the_command_lists_and_explains(agent, kit, capsys):
    agent.node.full(kit.placement())
    assert agent.command() == 0
    head, line = capsys.readouterr().out.splitlines()
    assert head.split() == ["POD", "CONTAINER", "PLACEMENT", "STATE", "REASON"]
    assert line.split() == ["ns/p", "c0", "mp", "Placed", "Placed"]
    assert agent.command("ns/p/c0") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "ns/p/c0  placement mp: Placed"
    assert any("PreferredMany:1+" in line for line in lines)
    assert max(map(len, lines)) <= 100


def test_the_command_gives_json_and_says_what_is_not_there(agent, kit, capsys):
    agent.node.full(kit.placement())
    assert agent.command("ns/p", "-o", "json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["containers"][0]["container"]["about"]["container"] == "c0"
    assert agent.command("ns/other") == 3
    assert "no container of ns/other" in capsys.readouterr().err


def test_the_command_says_that_nobody_listens(capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        assert explain.main(["--port", str(taken.getsockname()[1])]) == 1
    assert "no agent answers" in capsys.readouterr().err


def test_it_is_off_unless_asked_for():
    assert settings_from_env({"NODE_NAME": "n"}).explain_port is None
    assert settings_from_env({"NODE_NAME": "n", "MEMPLACE_EXPLAIN_PORT": "0"}).explain_port is None
    given = {"NODE_NAME": "n", "MEMPLACE_EXPLAIN_PORT": "8081"}
    assert settings_from_env(given).explain_port == 8081


@pytest.mark.parametrize("text", ["8080.5", "-1", "65536", "1e3", "nan", "http"])
@pytest.mark.parametrize("name", ["MEMPLACE_EXPLAIN_PORT", "MEMPLACE_HTTP_PORT"])
def test_a_port_is_a_whole_number(name, text):
    with pytest.raises(ValidationError, match="write a port from 1 to 65535"):
        settings_from_env({"NODE_NAME": "n", name: text})
