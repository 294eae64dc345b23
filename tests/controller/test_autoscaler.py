"""The autoscaler's loop, with clocks of its own: when it looks, what it decides, what it remembers, and what it tells."""

import asyncio
import copy
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from tests.controller.objects import NAME, NAMESPACE, SHARED, llm_deployment, llm_router, workload
from tests.controller.objects import pod as any_pod
from tests.controller.test_signals import levels, line, replicas
from tests.controller.world import KEY, World
from tokenfleet import contract
from tokenfleet.api import conditions
from tokenfleet.controller.autoscaling.autoscaler import GRACE_SECONDS, Autoscaler
from tokenfleet.controller.autoscaling.budget import Budgets
from tokenfleet.controller.autoscaling.known_specs import KnownSpecs
from tokenfleet.controller.autoscaling.metrics import ScalingMetrics
from tokenfleet.controller.cluster import Refused
from tokenfleet.controller.observed import Json
from tokenfleet.controller.signals.board import Board, Source
from tokenfleet.controller.signals.report import decode
from tokenfleet.controller.store import Key, Store

BEGIN = 1_800_000_000.0
ZERO = {"minReplicas": 0, "maxReplicas": 3, "scaleToZeroAfterSeconds": 600}


class Quotas:
    """The API, as far as a budget needs it."""

    def __init__(self) -> None:
        self.hard: str | None = None
        self.used = "0"
        self.broken = False
        self.asked = 0

    async def call(self, method: str, path: str) -> Json:
        assert (method, path) == ("GET", f"/api/v1/namespaces/{NAMESPACE}/resourcequotas")
        self.asked += 1
        if self.broken:
            raise Refused("GET resourcequotas: 403: no")
        if self.hard is None:
            return {"items": []}
        amounts = {"hard": {"requests.nvidia.com/gpu": self.hard}, "used": {"requests.nvidia.com/gpu": self.used}}
        return {"items": [{"spec": {"hard": amounts["hard"]}, "status": amounts}]}


class Stage:
    """One LLMDeployment with one router, and time that passes only as a test says."""

    def __init__(self, *, status: Json | None = None, ready: bool = True, **spec: Any) -> None:
        self.clock, self.store, self.world = 0.0, Store(), World()
        self.told: list[Key] = []
        self.awake: list[str] = []
        self.registry = CollectorRegistry()
        self.quotas = Quotas()
        self.spec = {"autoscaling": {"maxReplicas": 5}, **spec}
        self.pods: list[str] = []
        self._generation = 0
        self.edit(status=status)
        self.begin(ready=ready)

    def begin(self, *, ready: bool = True) -> None:
        """A controller begins to lead, and follows the router."""
        specs = KnownSpecs(self.store)
        self.board = Board(
            clock=lambda: self.clock,
            routers_of=lambda key: (key,),
            slots_of=specs.slots,
            changed=lambda key: self.scaler.heard(key),
        )
        self.registry = CollectorRegistry()
        self.scaler = Autoscaler(
            self.store,
            self.board,
            specs,
            Budgets(self.quotas, clock=lambda: self.clock, answered=lambda key: self.scaler.heard(key)),
            ScalingMetrics(self.registry),
            told=self.told.append,
            awake=lambda _, message: self.awake.append(message),
            doomed_nodes=frozenset,
            clock=lambda: self.clock,
            now=lambda: BEGIN + self.clock,
        )
        self.router: Source = self.board.add("r", KEY, ready=ready)

    def edit(self, *, status: Json | None = None, **spec: Any) -> None:
        self.spec |= spec
        self._generation += 1
        body = llm_deployment(generation=self._generation, status=status, **self.spec)
        self.store.put(copy.deepcopy(self.world.add(body, uid="uid-llama")))

    def run(self, *names: str, placed: bool = True, ready: bool = True) -> None:
        """These engine pods are there now."""
        for name in names:
            body = any_pod(name, ready=ready, ip="10.0.0.1" if placed else "")
            body["spec"] = {"nodeName": "node-0"} if placed else {}
            self.store.put(copy.deepcopy(self.world.add(body)))
            self.pods.append(name)

    def report(self, *, busy: int = 0, **differences: Any) -> None:
        """The router tells: `busy` requests on each replica."""
        told = levels(replicas=replicas(**dict.fromkeys(self.pods, (busy, "routable"))), **differences)
        self.board.told(self.router, decode(line(llama=told)))

    def look(self, seconds: float = 0.0) -> int | None:
        """Let time pass, and look."""
        self.clock += seconds
        if self.router.report is not None:
            self.board.heard(self.router)
        self.scaler.look(KEY)
        return self.scaler.wanted(KEY)

    def save(self) -> None:
        """What a reconcile does: write the status."""
        self.edit(status={"scaling": self.scaler.status(KEY)})

    @property
    def history(self) -> list[tuple[int, int, str]]:
        status = self.scaler.status(KEY) or {}
        return [(item["before"], item["after"], item["reason"]) for item in status.get("history", [])]

    @property
    def reason(self) -> str | None:
        verdict = self.scaler.verdict(KEY)
        return None if verdict is None else verdict.reason

    def sample(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, labels)


# --- deciding


def test_a_queue_is_answered_at_once() -> None:
    stage = Stage()
    stage.run("a")
    stage.report()
    assert stage.look() == 1
    stage.told.clear()
    stage.report(waiting=300, busy=256)
    assert stage.look(1) == 3
    assert stage.told == [KEY], "a reconcile is asked for"
    assert stage.history == [(1, 3, "QueueDepth")]
    assert stage.reason == conditions.AS_EXPECTED
    own = {"namespace": NAMESPACE, "deployment": NAME}
    assert stage.sample(contract.METRIC_SCALING_DESIRED, **own) == 3
    assert stage.sample(f"{contract.METRIC_SCALING_DECISIONS}_total", **own, reason="QueueDepth") == 1


def test_nothing_new_is_not_told_twice() -> None:
    stage = Stage()
    stage.run("a")
    stage.report()
    stage.look()
    stage.told.clear()
    for _ in range(5):
        stage.look(1)
    assert stage.told == []


def test_pods_that_load_are_given_credit_and_pending_ones_block_nothing() -> None:
    stage = Stage()
    stage.run("a")
    stage.report(waiting=300, busy=256)
    stage.look()
    stage.run("b", ready=False)
    stage.run("c", placed=False, ready=False)
    stage.pods = ["a"]
    stage.report(waiting=300, busy=256)
    assert stage.look(1) == 3


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param({"autoscaling": None}, id="not autoscaled"),
        pytest.param({"autoscaling": {"maxReplicas": 5, "actuator": "HPA"}}, id="another decides"),
        pytest.param({"suspend": True}, id="suspended"),
    ],
)
def test_what_is_not_ours_to_scale_is_let_be(spec: Json) -> None:
    stage = Stage(**spec)
    stage.report(waiting=50)
    assert stage.look() is None
    assert stage.scaler.status(KEY) is None


def test_one_that_is_suspended_later_is_let_go() -> None:
    stage = Stage()
    stage.report()
    assert stage.look() == 1
    stage.edit(suspend=True)
    assert stage.look() is None
    assert stage.sample(contract.METRIC_SCALING_DESIRED, namespace=NAMESPACE, deployment=NAME) is None


def test_while_the_spec_cannot_be_run_what_was_decided_holds() -> None:
    stage = Stage()
    stage.run("a")
    stage.report(waiting=300, busy=256)
    assert stage.look() == 3
    stage.edit(accelerator="nonsense", slo={})
    assert stage.look(1) == 3


def test_who_sets_the_count_begins_anew() -> None:
    stage = Stage()
    stage.report()
    stage.look()
    stage.edit(replicas=4)
    assert stage.look(1) == 4
    assert stage.history == [(1, 4, "ReplicasSet")]
    status = stage.scaler.status(KEY)
    assert status is not None and status["specReplicas"] == 4


def test_five_decisions_are_remembered_the_newest_first() -> None:
    stage = Stage(autoscaling={"maxReplicas": 9})
    stage.report()
    stage.look()
    for replicas_ in (2, 3, 4, 5, 6, 7):
        stage.edit(replicas=replicas_)
        stage.look(1)
    assert [after for _, after, _ in stage.history] == [7, 6, 5, 4, 3]


def test_the_spec_is_read_anew_when_it_or_its_llmrouter_changes() -> None:
    stage = Stage(routerRef={"name": SHARED})
    specs = KnownSpecs(stage.store)
    known = specs.of(KEY)
    assert known is not None and known.router_max_in_flight is None
    assert specs.of(KEY) is known
    stage.store.put(stage.world.add(llm_router(maxInFlight=7)))
    known = specs.of(KEY)
    assert known is not None and known.router_max_in_flight == 7
    stage.edit(engine={"batching": {"maxNumSeqs": 4}})
    assert specs.slots(KEY) == 4
    stage.store.forget(KEY)
    assert specs.of(KEY) is None


# --- no signal


def test_a_load_that_is_not_known_takes_nothing_away_and_is_told_after_a_while() -> None:
    stage = Stage(status={"scaling": {"desired": 3, "actuator": "Builtin", "specReplicas": 1}})
    assert stage.look() == 3
    assert stage.reason is None, "a router may not have been reached yet"
    assert stage.look(GRACE_SECONDS + 1) == 3
    assert stage.reason == conditions.SIGNAL_STALE
    assert stage.look(86_400) == 3


def test_without_a_router_that_is_ready_that_is_what_is_told() -> None:
    stage = Stage(ready=False)
    stage.look(GRACE_SECONDS + 1)
    assert stage.reason == conditions.SIGNAL_MISSING


def test_what_sleeps_is_woken_when_nothing_is_known_for_too_long() -> None:
    stage = Stage(autoscaling=ZERO, status={"scaling": {"desired": 0, "actuator": "Builtin", "specReplicas": 1}})
    assert stage.look() == 0
    assert stage.look(121) == 1
    assert stage.history == [(0, 1, "SignalMissing")]


def test_what_sleeps_is_woken_by_what_one_router_tells_though_another_is_silent() -> None:
    stage = Stage(autoscaling=ZERO, status={"scaling": {"desired": 0, "actuator": "Builtin", "specReplicas": 1}})
    stage.board.add("silent", KEY, ready=True)
    stage.report(waiting=1)
    assert stage.look() == 1


# --- to zero and back


def asleep(**more: Any) -> Stage:
    stage = Stage(autoscaling=ZERO, status={"scaling": {"desired": 0, "actuator": "Builtin", "specReplicas": 1}}, **more)
    stage.report()
    assert stage.look() == 0
    return stage


def test_one_without_requests_falls_asleep_on_time() -> None:
    stage = Stage(autoscaling=ZERO)
    stage.run("a")
    stage.report()
    assert stage.look() == 1
    assert stage.look(599) == 1
    assert stage.look(1) == 0
    assert stage.history == [(1, 0, "Idle")]


def test_a_request_wakes_it_and_the_parts_of_that_are_told() -> None:
    stage = asleep()
    stage.clock += 50
    stage.report(waiting=1, idleSeconds=0.0)
    assert stage.look(0.25) == 1
    assert stage.history == [(0, 1, "WakeUp")]
    stage.run("a", ready=False)
    stage.look(3)
    assert stage.awake == []
    stage.run("a")
    stage.look(4)
    stage.report(waiting=0, busy=1, idleSeconds=0.0)
    stage.look(0.5)
    (message,) = stage.awake
    assert message.startswith("A replica serves, 7.8 s after the request that woke it: 0.2 s until this was decided")
    for part, seconds in (("decide", 0.25), ("pod", 7.0), ("use", 0.5), ("all", 7.75)):
        assert stage.sample(f"{contract.METRIC_WAKE_SECONDS}_sum", part=part) == pytest.approx(seconds)


def test_a_restart_does_not_begin_the_idle_time_anew() -> None:
    stage = Stage(autoscaling=ZERO)
    stage.run("a")
    stage.report(idleSeconds=0.0)
    stage.look()
    status = stage.scaler.status(KEY)
    assert status is not None and status["lastRequestTime"] == "2027-01-15T08:00:00Z"
    stage.save()
    stage.clock += 580
    stage.begin()
    stage.report(idleSeconds=580.0)
    assert stage.look() == 1
    assert stage.look(79) == 1
    assert stage.look(2) == 0, "no more than a minute late, as lastRequestTime is kept to the minute"


def test_a_restart_while_it_sleeps_or_wakes_goes_on() -> None:
    stage = asleep()
    stage.save()
    stage.begin()
    stage.report(idleSeconds=10_000.0)
    assert stage.look(5) == 0
    stage.report(waiting=1, idleSeconds=0.0)
    assert stage.look() == 1
    stage.save()
    stage.begin()
    assert stage.look() == 1
    stage.report(waiting=1, idleSeconds=0.0)
    assert stage.look(1) == 1
    assert stage.history == [(0, 1, "WakeUp")]


@pytest.mark.parametrize(
    ("desired", "replicas_", "marked", "count"),
    [
        pytest.param(0, 1, 0, 1, id="it had woken the model"),
        pytest.param(1, 3, 0, 3, id="it had added replicas"),
        pytest.param(1, 3, 2, 1, id="it had told others to go, and status of that"),
        pytest.param(2, 2, 0, 2, id="it had told status of all"),
    ],
)
def test_what_a_controller_did_just_before_its_death_is_not_taken_back(
    desired: int, replicas_: int, marked: int, count: int
) -> None:
    scaling = {"desired": desired, "actuator": "Builtin", "specReplicas": 1}
    stage = Stage(autoscaling=ZERO, status={"scaling": scaling})
    body = workload("engine", replicas=replicas_)
    body["metadata"]["labels"] = {contract.LABEL_DEPLOYMENT: NAME, contract.LABEL_ROLE: contract.ROLE_ENGINE}
    stage.store.put(stage.world.add(body))
    for number in range(marked):
        stage.store.put(stage.world.add(any_pod(f"engine-{number}", draining=True)))
    assert stage.look() == count


def test_the_minute_of_the_last_request_is_all_that_changes_in_status_under_load() -> None:
    stage = Stage(autoscaling=ZERO)
    stage.run("a")
    for _ in range(120):
        stage.report(busy=1, idleSeconds=0.0)
        stage.look(1)
    assert len(stage.told) == 3, "the first look, and two minutes that began"


# --- the budget


def on_gpus(**quota: Any) -> Stage:
    """A queue that asks for three replicas, and one runs."""
    stage = Stage(accelerator="nvidia")
    for name, value in quota.items():
        setattr(stage.quotas, name, value)
    stage.run("a")
    stage.report(waiting=300, busy=256)
    return stage


async def answered(stage: Stage) -> int | None:
    """The count, once the quota was read."""
    stage.look()
    for _ in range(5):
        await asyncio.sleep(0)
    return stage.look()


@pytest.mark.parametrize(
    ("quota", "count", "reason"),
    [
        pytest.param({}, 3, conditions.AS_EXPECTED, id="no quota: as many as are wanted"),
        pytest.param({"hard": "8", "used": "1"}, 3, conditions.AS_EXPECTED, id="room enough"),
        pytest.param({"hard": "2", "used": "1"}, 2, conditions.BUDGET_EXHAUSTED, id="room for one more"),
        pytest.param({"hard": "1", "used": "1"}, 1, conditions.BUDGET_EXHAUSTED, id="no room"),
        pytest.param({"broken": True}, 1, conditions.BUDGET_UNKNOWN, id="it cannot be read: none is added"),
    ],
)
async def test_gpus_are_started_as_far_as_the_quota_goes(quota: Json, count: int, reason: str) -> None:
    stage = on_gpus(**quota)
    assert await answered(stage) == count
    assert stage.reason == reason


async def test_the_quota_is_asked_for_more_and_then_remembered() -> None:
    stage = Stage(accelerator="nvidia")
    stage.run("a")
    stage.report()
    await answered(stage)
    assert stage.quotas.asked == 0
    stage.report(waiting=300, busy=256)
    await answered(stage)
    await answered(stage)
    assert stage.quotas.asked == 1
    stage.quotas.hard = "1"
    stage.clock += 16
    stage.report(waiting=3000, busy=256)
    assert await answered(stage) == 3
    assert stage.quotas.asked == 2


async def test_an_accelerator_without_devices_needs_no_quota() -> None:
    stage = Stage()
    stage.quotas.broken = True
    stage.run("a")
    stage.report(waiting=300, busy=256)
    assert await answered(stage) == 3
    assert stage.quotas.asked == 0


# --- when it looks


async def test_news_are_looked_at_once_a_second_and_at_once_where_it_sleeps() -> None:
    stage = asleep()
    loop = asyncio.get_running_loop()
    keeping = loop.create_task(stage.scaler.keep())
    try:
        for _ in range(3):
            await asyncio.sleep(0)
        stage.report(waiting=1, idleSeconds=0.0)
        for _ in range(3):
            await asyncio.sleep(0)
        assert stage.scaler.wanted(KEY) == 1
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
