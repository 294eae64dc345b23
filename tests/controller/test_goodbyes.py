"""A scale-down, a suspension and a notice as a reconcile carries them out, and what becomes of them where it is killed."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from tests.controller.objects import LATEST, NAME, NOW, pod, ready_pod, running
from tests.controller.world import KEY, Operator, World, Write
from tokenfleet import contract
from tokenfleet.api import conditions as c
from tokenfleet.controller import moments
from tokenfleet.controller.cluster import Refused, Stale
from tokenfleet.controller.observed import Json, Load
from tokenfleet.controller.reconcile import NoSenses
from tokenfleet.controller.store import Key

ENGINES = ("Deployment", f"{NAME}-engine")
DEADLINE = moments.rfc3339(moments.seconds(NOW) + 600)


class Routers(NoSenses):
    """All of them have told of every mark, unless a test says otherwise."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.requests: dict[str, int] = {}
        self.silent = False
        self.nodes: frozenset[str] = frozenset()

    def load(self, key: Key) -> Load | None:
        if self.silent:
            return None
        marked = {name: contract.ANNOTATION_DRAINING in _annotations(pod) for name, pod in pods(self.world).items()}
        states = {name: "draining" if leaves else "routable" for name, leaves in marked.items()}
        return Load(complete=True, in_flight=self.requests, states=states)

    def doomed_nodes(self) -> frozenset[str]:
        return self.nodes


class Killed(BaseException):
    """Not an error that anybody would handle."""


def _annotations(pod: Json) -> dict[str, str]:
    return pod["metadata"].get("annotations") or {}


def pods(world: World) -> dict[str, Json]:
    return {name: body for (kind, _, name), body in world.objects.items() if kind == "Pod"}


def marked(world: World) -> set[str]:
    return {name for name, body in pods(world).items() if contract.ANNOTATION_DRAINING in _annotations(body)}


def count(world: World) -> int:
    return int(world.one(*ENGINES)["spec"]["replicas"])


def status(world: World) -> Json:
    return dict(world.one(contract.KIND, NAME)["status"])


def engine(name: str, **fields: Any) -> Json:
    return {**ready_pod(name, **fields), "spec": {"nodeName": f"node-{name}"}}


@pytest.fixture
def world() -> World:
    world = World()
    world.add_deployment(replicas=3)
    for name in ("a", "b", "c"):
        world.add(engine(name))
    return world


@pytest.fixture
def routers(world: World) -> Routers:
    return Routers(world)


async def started(world: World, routers: Routers) -> Operator:
    """It has nothing more to do."""
    operator = Operator(world, senses=routers)
    while await operator.turn():
        pass
    return operator


def wants(world: World, **spec: Any) -> None:
    world.edit(contract.KIND, NAME, lambda body: body["spec"].update(spec))


async def test_a_pod_is_marked_then_waited_for_and_only_then_the_count_falls(world: World, routers: Routers) -> None:
    routers.requests = {"a": 2, "b": 1, "c": 5}
    operator = await started(world, routers)
    wants(world, replicas=2)
    assert await operator.turn() == [("annotate", "Pod", "b"), ("status", contract.KIND, NAME)]
    assert _annotations(world.one("Pod", "b")) == {
        contract.ANNOTATION_DRAINING: DEADLINE,
        contract.ANNOTATION_DELETION_COST: "-1000",
    }
    assert status(world)["draining"] == [{"pod": "b", "inFlight": 1, "deadline": DEADLINE}]
    assert (status(world)["ready"], status(world)["readyReplicas"], count(world)) == ("2/2", 2, 3)
    assert KEY in operator.reconciler.watching_load
    assert operator.last.again_after == 600
    routers.requests = {"a": 2, "b": 0, "c": 5}
    assert [write for write in await operator.turn() if write[0] != "status"] == [("apply", *ENGINES)]
    assert count(world) == 2
    operator.store.remove(world.remove("Pod", "b"))
    await operator.turn()
    assert "draining" not in status(world)
    assert KEY not in operator.reconciler.watching_load


async def test_when_the_load_returns_the_mark_is_taken_away_and_no_pod_is_made(world: World, routers: Routers) -> None:
    routers.requests = {"a": 2, "b": 1, "c": 5}
    operator = await started(world, routers)
    wants(world, replicas=2)
    await operator.turn()
    wants(world, replicas=3)
    assert await operator.turn() == [("annotate", "Pod", "b"), ("status", contract.KIND, NAME)]
    assert (_annotations(world.one("Pod", "b")), count(world)) == ({}, 3)


async def test_a_mark_is_taken_away_only_after_the_count_has_changed(world: World, routers: Routers) -> None:
    """Until then a ReplicaSet that has pods to take must take no other."""
    routers.requests = {"b": 1, "a": 2, "c": 3}
    operator = await started(world, routers)
    wants(world, replicas=2)
    await operator.turn()
    wants(world, replicas=5)
    assert [write[0] for write in await operator.turn()] == ["apply", "annotate", "status"]


async def test_suspension_drains_all_and_keeps_the_rest(world: World, routers: Routers) -> None:
    routers.requests = {"a": 1}
    operator = await started(world, routers)
    wants(world, suspend=True)
    await operator.turn()
    assert (marked(world), count(world)) == ({"a", "b", "c"}, 3)
    await operator.turn()
    assert count(world) == 1, "those that had nothing went"
    for name in ("b", "c"):
        operator.store.remove(world.remove("Pod", name))
    routers.requests = {}
    await operator.turn()
    assert count(world) == 0
    operator.store.remove(world.remove("Pod", "a"))
    await operator.turn()
    (found,) = [each for each in status(world)["conditions"] if each["type"] == c.ENGINE_READY]
    assert (found["status"], found["reason"]) == ("False", c.SUSPENDED)
    assert (status(world)["ready"], "draining" in status(world)) == ("0/0", False)
    assert ("Deployment", f"{NAME}-router") in {(kind, name) for kind, _, name in world.objects}


async def test_prompts_and_answers_drain_each_by_their_own_requests(world: World, routers: Routers) -> None:
    disaggregation = {"prefill": {"replicas": 1}}
    wants(world, replicas=3, disaggregation=disaggregation, accelerator="nvidia")
    world.add({**ready_pod("p", role="prefill"), "spec": {"nodeName": "n"}})
    operator = await started(world, routers)
    routers.requests = {"p": 1}
    wants(world, suspend=True)
    await operator.turn()
    await operator.turn()
    assert (count(world), world.one("Deployment", f"{NAME}-prefill")["spec"]["replicas"]) == (0, 1)
    routers.requests = {}
    await operator.turn()
    assert world.one("Deployment", f"{NAME}-prefill")["spec"]["replicas"] == 0


async def test_a_canarys_pod_is_none_of_them(world: World, routers: Routers) -> None:
    operator = await started(world, routers)
    canary = engine("x")
    canary["metadata"]["labels"][contract.LABEL_TRACK] = contract.TRACK_CANARY
    world.add(canary)
    wants(world, replicas=2)
    await operator.turn()
    assert len(marked(world) & {"a", "b", "c"}) == 1 and "x" not in marked(world)


async def test_a_pod_that_is_being_deleted_is_told_while_it_has_requests(world: World, routers: Routers) -> None:
    operator = await started(world, routers)
    routers.requests = {"c": 4}
    world.edit("Pod", "c", lambda body: body["metadata"].update(deletionTimestamp=LATEST))
    await operator.turn()
    assert status(world)["draining"] == [{"pod": "c", "inFlight": 4, "deadline": LATEST}]
    routers.requests = {}
    await operator.turn()
    assert "draining" not in status(world)


async def test_a_notice_of_a_node_makes_room_elsewhere_first(world: World, routers: Routers) -> None:
    operator = await started(world, routers)
    routers.nodes = frozenset({"node-b"})
    await operator.turn()
    assert (count(world), marked(world)) == (4, set())
    world.add(engine("n"))
    await operator.turn()
    assert (count(world), marked(world)) == (4, {"b"})
    await operator.turn()
    assert count(world) == 3
    operator.store.remove(world.remove("Pod", "b"))
    assert [write for write in await operator.turn() if write[0] != "status"] == []


async def test_a_notice_of_a_pod_likewise(world: World, routers: Routers) -> None:
    operator = await started(world, routers)
    world.edit("Pod", "a", lambda body: body["metadata"].update(annotations={contract.ANNOTATION_NOTICE: "spot"}))
    await operator.turn()
    assert count(world) == 4
    assert _annotations(world.one("Pod", "a"))[contract.ANNOTATION_NOTICED] == NOW


async def test_without_a_word_of_the_routers_it_goes_on_after_a_while(world: World, routers: Routers) -> None:
    operator = await started(world, routers)
    routers.silent = True
    wants(world, replicas=2)
    await operator.turn()
    assert (len(marked(world)), count(world), operator.last.again_after) == (1, 3, 15)
    operator.now = moments.rfc3339(moments.seconds(NOW) + 15)
    await operator.turn()
    assert count(world) == 2


async def test_a_controller_that_just_began_gives_the_routers_time_to_tell(world: World, routers: Routers) -> None:
    operator = await started(world, routers)
    routers.requests = {"a": 1, "b": 2, "c": 2}
    wants(world, replicas=2)
    await operator.turn()
    routers.silent = True
    fresh = Operator(world, senses=routers)
    fresh.now = moments.rfc3339(moments.seconds(NOW) + 300)
    await fresh.turn()
    assert (marked(world), count(world), fresh.last.again_after) == ({"a"}, 3, 15)


async def test_a_pod_that_may_not_be_marked_holds_up_nothing_else(world: World, routers: Routers) -> None:
    operator = await started(world, routers)
    wants(world, replicas=2, router={"replicas": 3})

    def refuse(write: Write) -> None:
        if write[0] == "annotate":
            raise Refused("pods is forbidden")

    world.before_write = refuse
    assert ("apply", "Deployment", f"{NAME}-router") in await operator.turn()
    assert (marked(world), count(world)) == (set(), 3)


async def test_a_pod_that_went_before_it_was_marked_is_no_matter(world: World, routers: Routers) -> None:
    operator = await started(world, routers)
    wants(world, replicas=2)

    def vanish(write: Write) -> None:
        if write[0] == "annotate":
            raise Stale("no such pod")

    world.before_write = vanish
    await operator.turn()
    assert count(world) == 3


# --- Gates -------------------------------------------------------------------------------------------------------------


def gated(name: str = "n", *, since: str = NOW) -> Json:
    """Its containers are ready, and its gate is closed."""
    ready = {"type": "Ready", "status": "False", "reason": "ReadinessGatesNotReady", "lastTransitionTime": since}
    containers = {"type": "ContainersReady", "status": "True", "lastTransitionTime": since}
    body = pod(name, containers=(running("engine", ready=True),))
    body["status"]["conditions"] = [ready, containers]
    return {**body, "spec": {"nodeName": "n", "readinessGates": [{"conditionType": contract.CONDITION_IN_USE}]}}


def opened(world: World, name: str = "n") -> bool:
    conditions = world.one("Pod", name)["status"]["conditions"]
    return any(each["type"] == contract.CONDITION_IN_USE and each["status"] == "True" for each in conditions)


async def test_the_gate_opens_when_all_routers_use_the_pod(world: World, routers: Routers) -> None:
    operator = await started(world, routers)
    wants(world, replicas=4)
    world.add(gated())
    assert ("condition", "Pod", "n") in await operator.turn()
    (made,) = [one for one in world.one("Pod", "n")["status"]["conditions"] if one["type"] == contract.CONDITION_IN_USE]
    assert made == {"type": contract.CONDITION_IN_USE, "status": "True", "lastTransitionTime": NOW}
    assert ("condition", "Pod", "n") not in await operator.turn()


async def test_it_stays_closed_while_some_router_does_not_and_that_is_told(world: World, routers: Routers) -> None:
    operator = await started(world, routers)
    wants(world, replicas=4)
    world.add(gated())
    known = routers.load
    routers.load = lambda key: replace(known(key), states={"n": "mixed"})  # type: ignore[method-assign, type-var]
    await operator.turn()
    assert not opened(world)
    assert KEY in operator.reconciler.watching_load
    (found,) = [each for each in status(world)["conditions"] if each["type"] == c.ENGINE_READY]
    assert (found["status"], found["reason"]) == ("True", c.LOADING_MODEL)
    assert "Pod n is ready, and is about to be used by the routers." in found["message"]
    assert status(world)["readyReplicas"] == 4, "routers go by its containers"


async def test_it_opens_while_the_spec_cannot_be_run_and_nobody_is_marked(world: World, routers: Routers) -> None:
    operator = await started(world, routers)
    wants(world, replicas=1, accelerator="abacus")
    world.add(gated())
    writes = await operator.turn()
    assert ("condition", "Pod", "n") in writes
    assert (marked(world), count(world)) == (set(), 3)


async def test_without_a_word_of_the_routers_it_opens_after_five_seconds(world: World, routers: Routers) -> None:
    operator = await started(world, routers)
    wants(world, replicas=4)
    routers.silent = True
    world.add(gated())
    await operator.turn()
    assert (opened(world), operator.last.again_after) == (False, 5)
    operator.now = moments.rfc3339(moments.seconds(NOW) + 5)
    await operator.turn()
    assert opened(world)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda body: body["spec"].pop("readinessGates"), id="it has no such gate"),
        pytest.param(lambda body: body["metadata"].update(deletionTimestamp=LATEST), id="it is being deleted"),
        pytest.param(lambda body: body["status"]["conditions"][1].update(status="False"), id="its containers are not ready"),
        pytest.param(
            lambda body: body["status"]["conditions"].append({"type": contract.CONDITION_IN_USE, "status": "True"}),
            id="it is open",
        ),
    ],
)
async def test_nothing_is_opened_where(world: World, routers: Routers, change: Callable[[Json], object]) -> None:
    operator = await started(world, routers)
    wants(world, replicas=4)
    body = gated()
    change(body)
    world.add(body)
    assert ("condition", "Pod", "n") not in await operator.turn()


# --- The controller dies -----------------------------------------------------------------------------------------------


def play(world: World, operator: Operator | None) -> None:
    """The ReplicaSet's turn: pods by deletion cost, at once."""
    while len(found := pods(world)) > count(world):
        name = min(found, key=lambda each: int(_annotations(found[each]).get(contract.ANNOTATION_DELETION_COST, "0")))
        gone = world.remove("Pod", name)
        if operator is not None:
            operator.store.remove(gone)


def fewer(requests: dict[str, int]) -> Iterator[dict[str, int]]:
    while any(requests.values()):
        yield requests
        requests = {name: max(0, number - 1) for name, number in requests.items()}
    while True:
        yield requests


@pytest.mark.parametrize("writes", range(1, 5))
async def test_killed_after_every_few_writes_the_same_pods_go_and_none_with_requests(
    world: World, routers: Routers, writes: int
) -> None:
    await started(world, routers)
    wants(world, replicas=1)
    load = fewer({"a": 4, "b": 2, "c": 7})
    taken: list[str] = []
    for _ in range(60):
        routers.requests = next(load)
        operator = Operator(world, senses=routers)
        left = iter(range(writes))

        def count_down(_: Write, left: Iterator[int] = left) -> None:
            if next(left, None) is None:
                raise Killed

        world.before_write = count_down
        with suppress(Killed):
            await operator.turn()
        before = pods(world)
        play(world, None)
        gone = sorted(before.keys() - pods(world).keys())
        assert all(not routers.requests[name] for name in gone), f"{gone} had requests"
        taken += gone
        if (len(pods(world)), "draining" in status(world)) == (1, False):
            break
    assert (taken, set(pods(world)), marked(world)) == (["b", "a"], {"c"}, set())
