"""`tokenfleet status` on objects in memory."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.cli.fleet_objects import EARLIER, NOW, Json, deployment, pod, told
from tokenfleet import contract
from tokenfleet.cli.cluster.watching import View
from tokenfleet.cli.errors import CliError, Unusable
from tokenfleet.cli.main import app
from tokenfleet.cli.options import Place
from tokenfleet.cli.status.commands import Tools
from tokenfleet.cli.status.drawing import fleet
from tokenfleet.cli.status.page import Page, loads_of, page_of
from tokenfleet.cli.status.rows import row_of

COST = {"currency": "USD", "hourly": "7.96", "perMillionTokens": "0.31", "idleShare": "0.25"}
SCALING: Json = {
    "desired": 3,
    "actuator": "Builtin",
    "specReplicas": 2,
    "history": [{"time": EARLIER, "before": 2, "after": 3, "reason": "QueueTooLong", "message": "11 requests wait."}],
}


@dataclass
class Source:
    """What a cluster has, and how it changes while somebody looks."""

    bodies: list[Json] = field(default_factory=lambda: [deployment()])
    pods: list[Json] = field(default_factory=list)
    loads: dict[str, int] | None = None
    views: list[View] = field(default_factory=list)
    namespace: str = "chat"
    asked_for: Place | None = None
    seconds: float = 0.0

    def fleet(self, *, everywhere: bool) -> list[Json]:
        return self.bodies

    def page(self, name: str) -> Page:
        found = [body for body in self.bodies if body["metadata"]["name"] == name]
        if not found:
            raise CliError(f"There is no LLMDeployment {name}.")
        return page_of(found[0], self.pods, self.loads)

    async def watch(self, name: str | None, *, everywhere: bool) -> AsyncIterator[View]:
        for view in self.views:
            await asyncio.sleep(0)
            self.seconds += 65
            yield view

    def open(self, place: Place) -> "Source":
        self.asked_for = place
        return self

    def now(self) -> datetime:
        return NOW + timedelta(seconds=self.seconds)

    def run(self, line: str) -> Any:
        tools = Tools(open_source=self.open, now=self.now, clock=lambda: self.seconds)
        return CliRunner().invoke(app, line.split(), obj=tools)

    def done(self, line: str) -> Any:
        result = self.run(line)
        assert result.exit_code == 0, (result.output, result.exception)
        return result


def rows(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines()]


def test_the_fleet_is_a_table_of_a_line_each() -> None:
    slow = deployment("slow", conditions=[told("Ready", "False", "OutOfMemory", "…"), told("ModelFits", "False", "DoesNotFit")])
    source = Source([deployment(cost=COST, scaling=SCALING, conditions=[told("Ready"), told("ModelFits")]), slow])
    text = source.done("status -A --context east").stdout
    assert rows(text) == [
        "NAMESPACE NAME MODEL ACCELERATOR READY QUEUE IN FLIGHT $/H FITS REASON AGE",
        "chat llama hf://org/llama simulated 2/2 →3 3 14 7.96 yes AsExpected 18m",
        "chat slow hf://org/llama simulated 2/2 3 14 - no OutOfMemory 18m",
    ]
    assert source.asked_for == Place(None, "east", None)


def test_one_that_no_controller_has_seen_says_so() -> None:
    body = deployment()
    del body["status"]
    assert rows(Source([body]).done("status").stdout)[1] == "llama hf://org/llama simulated - - - - - Unseen 18m"


def test_the_fleet_for_programs() -> None:
    body = json.loads(Source([deployment(cost=COST, scaling=SCALING)]).done("status --json").stdout)[0]
    assert body["readyReplicas"], body["replicas"] == (2, 2)
    assert (body["desired"], body["queueDepth"], body["inFlight"], body["hourly"]) == (3, 3, 14, "7.96")
    assert (body["ready"], body["reason"]) == ("True", "AsExpected")
    assert "fits" not in body, "what is not known is left out"


def test_an_empty_fleet_says_where_it_looked() -> None:
    result = Source([]).done("status")
    assert result.stdout == ""
    assert "There is no LLMDeployment in the namespace chat: apply one, or look into all namespaces with -A." in result.stderr


@pytest.mark.parametrize(
    ("width", "columns"),
    [
        pytest.param(120, "NAME MODEL ACCELERATOR READY QUEUE IN FLIGHT $/H FITS REASON AGE", id="all"),
        pytest.param(85, "NAME MODEL READY QUEUE IN FLIGHT $/H FITS REASON AGE", id="the accelerator goes first"),
        pytest.param(72, "NAME READY QUEUE IN FLIGHT $/H FITS REASON AGE", id="then the model"),
        pytest.param(60, "NAME READY QUEUE IN FLIGHT $/H REASON", id="then what is least urgent"),
    ],
)
def test_a_narrow_terminal_gets_what_matters_most(width: int, columns: str) -> None:
    source = deployment("a-name-of-some-length", spec={"model": {"source": "hf://organisation/model-of-some-length"}})
    table = fleet([row_of(source)], NOW, namespaces=False, width=width)
    assert " ".join(str(column.header) for column in table.columns) == columns
    assert sum((column.width or 0) + 2 for column in table.columns) - 2 <= width


def test_one_has_a_page_with_all_that_is_known() -> None:
    failure = {"pod": "llama-engine-0", "reason": "OutOfMemory", "message": "Killed at its limit.", "time": EARLIER}
    memory = {"weights": "15Gi", "kvCache": "52Gi", "kvTokens": 425_984, "maxConcurrency": 52}
    rollout = {"phase": "Progressing", "revision": "2-ab", "message": "Step 1 of 2."}
    download = {"pod": "llama-engine-2", "bytes": 1 << 30, "totalBytes": 4 << 30, "secondsLeft": 40}
    body = deployment(cost=COST, scaling=SCALING, memory=memory, rollout=rollout, download=download, lastFailure=failure)
    drain = {contract.ANNOTATION_DRAINING: "2026-03-01T12:01:30Z"}
    waiting = {"name": "engine", "restartCount": 4, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}
    pods = [
        pod("llama-router-1", role=contract.ROLE_ROUTER),
        pod("llama-engine-1", annotations=drain),
        pod("llama-engine-2", ready=False, containers=[waiting]),
        pod("llama-engine-3", node=None, ready=False, containers=[]),
    ]
    text = rows(Source([body], pods, {"llama-engine-1": 9}).done("status llama").stdout)
    for line in (
        "LLMDeployment: chat/llama, 18m old",
        "Ready: True (AsExpected). Requests are served.",
        "Replicas: 2 of 2 ready; Builtin autoscaling wants 3",
        "Load: 14 requests in flight, 3 waiting",
        "Memory: of a replica: 15Gi of weights, 52Gi of KV cache (425,984 tokens, 52 of the longest sequences)",
        "Cost: 7.96 USD an hour, 0.31 a million tokens, 25% of it idle",
        "Rollout: Progressing, revision 2-ab. Step 1 of 2.",
        "Download: 25% of 4.0 GiB on llama-engine-2, 40 s left",
        "Last failure: 18m ago, llama-engine-0: OutOfMemory. Killed at its limit.",
        "EngineReady True AsExpected 18m It is as it should be.",
        "llama-engine-1 engine node-1 draining 9 0 in 90s 18m",
        "llama-engine-2 engine node-1 CrashLoopBackOff 0 4 - 18m",
        "llama-engine-3 engine - pending 0 0 - 18m",
        "llama-router-1 router node-1 ready - 0 - 18m",
        "18m ago 2 3 QueueTooLong 11 requests wait.",
    ):
        assert line in text
    assert Source([body], pods).done("status llama --json").exit_code == 0


def test_loads_are_those_of_all_routers_together() -> None:
    reports = [{"models": [{"replicas": [{"name": "a", "deployment": "llama", "inFlight": n}]}]} for n in (2, 3)] + [
        {"models": [{"replicas": [{"name": "b", "deployment": "other", "inFlight": 7}]}]}
    ]
    assert loads_of(reports, "llama") == {"a": 5}


def test_watching_elsewhere_is_a_line_for_each_change() -> None:
    lost = deployment(ready="1/2", inFlight=0, conditions=[told("Ready", "True", "EngineCrashed", "1 of 2 is ready.")])
    views = [View((deployment(),)), View((deployment(),)), View((lost,)), View((lost,), "The cluster is away."), View(())]
    result = Source(views=views).done("status --watch")
    assert result.stdout.splitlines() == [
        "  65s  chat/llama  2/2 ready, 14 in flight, 3 waiting, AsExpected: Requests are served.",
        "   3m  chat/llama  1/2 ready, 0 in flight, 3 waiting, EngineCrashed: 1 of 2 is ready.",
        "   5m  chat/llama is gone.",
    ]
    assert result.stderr == "The cluster is away.\n"


def test_a_name_that_is_not_there_and_options_that_contradict() -> None:
    assert str(Source().run("status absent").exception) == "There is no LLMDeployment absent."
    assert str(Source().run("status absent --watch").exception) == "There is no LLMDeployment absent."
    assert isinstance(Source().run("status llama -A").exception, Unusable)
