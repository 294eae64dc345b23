"""Who is told of what: the parts that listen while a controller leads, put together."""

import asyncio
import copy
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from prometheus_client import CollectorRegistry

from tests.controller.objects import llm_deployment
from tests.controller.objects import pod as any_pod
from tests.controller.test_signals import levels, line, replicas
from tests.controller.world import KEY, World
from tests.router.harness import until
from tokenfleet import contract
from tokenfleet.controller.observed import Figures, Json
from tokenfleet.controller.signals.report import decode
from tokenfleet.controller.store import Key, Store
from tokenfleet.controller.surroundings import Surroundings
from tokenfleet.controller.work_queue import WorkQueue

ASLEEP = {"scaling": {"desired": 0, "actuator": "Builtin", "specReplicas": 1}}
ZERO = {"minReplicas": 0, "maxReplicas": 3, "scaleToZeroAfterSeconds": 600}


class Api:
    """Takes Events."""

    def __init__(self) -> None:
        self.events: list[Json] = []

    async def call(self, method: str, path: str) -> Json:
        raise AssertionError(f"{method} {path} was not to be asked")

    async def post_event(self, event: Json) -> None:
        self.events.append(event)


class House:
    """Surroundings of one LLMDeployment, whose router is a script."""

    def __init__(self, **fields: Any) -> None:
        self.store, self.world, self.queue, self.api = Store(), World(), WorkQueue(), Api()
        self.told: list[Key] = []
        self.registry = CollectorRegistry()
        self.around = Surroundings(
            self.store,
            self.queue,
            self.api,
            self.registry,
            identity="controller-0",
            doomed_nodes=frozenset,
            told=self.told.append,
        )
        self.put(llm_deployment(**fields))
        self.source = self.around.board.add("r", KEY, ready=True)

    def put(self, body: Json) -> None:
        self.store.put(copy.deepcopy(self.world.add(body)))

    def report(self, **differences: Any) -> None:
        self.around.board.told(self.source, decode(line(llama=levels(**differences))))

    def queued(self) -> list[Key]:
        """Who is in line to be reconciled, and is no more."""
        found = []
        while len(self.queue):
            key = self.queue._line[0]
            self.queue._line.popleft()
            self.queue._waiting.discard(key)
            found.append(key)
        return found


@asynccontextmanager
async def house(**fields: Any) -> AsyncIterator[House]:
    one = House(**fields)
    tasks = one.around.start()
    try:
        yield one
    finally:
        await one.around.stop()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_who_waits_for_the_load_is_reconciled_as_soon_as_it_changes() -> None:
    async with house() as one:
        one.report()
        await until(lambda: one.queued() == [KEY])  # Its figures are new.
        assert one.around.figures(KEY) == Figures(queue_depth=0, in_flight=0)
        one.report(waiting=1)
        assert one.queued() == []
        one.around.watching = {KEY}
        one.report(waiting=2)
        assert one.queued() == [KEY]
        assert one.told == [KEY] * 3


async def test_of_what_is_not_there_nothing_is_told() -> None:
    async with house() as one:
        one.around.board.told(one.source, decode(line(ghost=levels())))
        assert (one.told, one.queued()) == ([], [])


async def test_a_waiting_request_wakes_and_its_awakening_is_an_event() -> None:
    async with house(autoscaling=ZERO, status=ASLEEP) as one:
        one.report()
        await until(lambda: one.around.wanted(KEY) == 0)
        one.report(waiting=1, idleSeconds=0.0)
        await until(lambda: one.around.wanted(KEY) == 1)
        assert KEY in one.queued()
        scaling = one.around.scaling(KEY)
        assert scaling is not None and scaling["history"][0]["reason"] == "WakeUp"
        body = any_pod("engine-0", ready=True)
        body["spec"] = {"nodeName": "node-0"}
        one.put(body)
        one.report(idleSeconds=0.0, replicas=replicas(**{"engine-0": (1, "routable")}))
        await until(lambda: one.api.events)
        (event,) = one.api.events
        assert (event["reason"], event["type"], event["reportingInstance"]) == ("Awake", "Normal", "controller-0")
        assert event["message"].startswith("A replica serves, 0.")
        assert one.registry.get_sample_value(f"{contract.METRIC_WAKE_SECONDS}_count", {"part": "all"}) == 1
        verdict = one.around.scaling_ready(KEY)
        assert verdict is not None and verdict.status == "True"


async def test_fresh_and_stale_reports_are_counted() -> None:
    async with house() as one:
        one.report()
        one.around.board.add("silent", KEY, ready=True)
        for state, count in (("fresh", 1), ("stale", 1)):
            assert one.registry.get_sample_value(contract.METRIC_ROUTER_REPORTS, {"state": state}) == count
