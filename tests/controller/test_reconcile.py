"""Observe, plan, apply, report: against an API of dictionaries, with what can go wrong in between."""

import copy
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from tests.controller.objects import NAME, NAMESPACE, SETTINGS, llm_deployment, ready_pod, spec_of
from tests.controller.world import KEY, Operator, World, Write
from tokenfleet import contract
from tokenfleet.api import conditions as c
from tokenfleet.controller.cluster import ClusterError, Refused, Stale, Unavailable
from tokenfleet.controller.observed import Json
from tokenfleet.controller.reconcile import LOOK_AGAIN_SECONDS
from tokenfleet.controller.resources import build_children

CHILDREN = [
    (each["kind"], each["metadata"]["name"]) for each in build_children(llm_deployment(), spec_of(llm_deployment()), SETTINGS)
]
ROLLED_OUT = {"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "readyReplicas": 1, "availableReplicas": 1}
ENGINE, ROUTER = ("Deployment", f"{NAME}-engine"), ("Deployment", f"{NAME}-router")


class Killed(BaseException):
    """Not an error that anybody would handle."""


@pytest.fixture
def world() -> World:
    world = World()
    world.add_deployment()
    return world


@pytest.fixture
def operator(world: World) -> Operator:
    return Operator(world)


def condition(world: World, kind: str) -> Json:
    (found,) = [each for each in world.one(contract.KIND, NAME)["status"]["conditions"] if each["type"] == kind]
    return dict(found)


def state(world: World) -> dict[Any, Json]:
    """All objects, without what differs between two of the same making."""
    bodies = copy.deepcopy(world.objects)
    for body in bodies.values():
        body["metadata"].pop("resourceVersion")
        body["metadata"].pop("uid")
    return bodies


async def converge(operator: Operator, *, turns: int = 10) -> None:
    """Reconcile as the queue would: again after every error, until nothing is written."""
    for _ in range(turns):
        try:
            if not await operator.turn():
                return
        except ClusterError:
            continue
    raise AssertionError(f"not converged: {operator.world.writes}")


async def test_a_new_llmdeployment_gets_its_children_and_then_its_status(operator: Operator) -> None:
    assert await operator.turn() == [*(("apply", *child) for child in CHILDREN), ("status", contract.KIND, NAME)]


async def test_converged_means_no_write(operator: Operator) -> None:
    await operator.turn()
    assert await operator.turn() == []
    assert await Operator(operator.world).turn() == [], "nor after a restart"


async def test_a_reconcile_sees_what_the_one_before_it_wrote_without_any_watch(operator: Operator) -> None:
    await operator.turn()
    assert await operator.turn(seeing=False) == []


@pytest.mark.parametrize("child", [pytest.param(child, id=" ".join(child)) for child in CHILDREN])
async def test_a_child_deleted_by_hand_is_put_back(operator: Operator, child: tuple[str, str]) -> None:
    await operator.turn()
    before = state(operator.world)
    operator.store.remove(operator.world.remove(*child))
    assert await operator.turn() == [("apply", *child)]
    assert state(operator.world) == before


async def test_a_child_edited_by_hand_is_put_back(operator: Operator) -> None:
    await operator.turn()
    operator.world.edit(*ENGINE, lambda body: body["spec"].update(replicas=7))
    assert await operator.turn() == [("apply", *ENGINE)]
    assert operator.world.one(*ENGINE)["spec"]["replicas"] == 1


async def test_a_child_whose_label_was_taken_off_is_found_and_healed(operator: Operator) -> None:
    await operator.turn()
    operator.world.edit(*ENGINE, lambda body: body["metadata"].update(labels={}))
    with pytest.raises(Stale):
        await operator.turn()  # the watch does not show it any more, so it looks deleted
    assert await operator.turn() == [("apply", *ENGINE)]
    assert await operator.turn() == []


async def test_a_strangers_object_is_reported_and_left_alone_until_it_is_gone(world: World) -> None:
    theirs = world.add({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": ENGINE[1]}, "spec": {"theirs": 1}})
    operator = Operator(world)
    with pytest.raises(Stale):
        await operator.turn()
    writes = await operator.turn()
    assert [write for write in writes if write[0] != "event"] == [("status", contract.KIND, NAME)]
    assert world.one(*ENGINE) == theirs
    assert condition(world, c.READY)["reason"] == c.NAME_CONFLICT
    turn = await operator.reconciler.reconcile(KEY)
    assert (turn.wrote, turn.again_after) == (False, LOOK_AGAIN_SECONDS)
    assert await operator.turn() == [], "nothing is written while the stranger stays"
    world.remove(*ENGINE)
    assert ("apply", *ENGINE) in await operator.turn()
    assert condition(world, c.SPEC_VALID)["status"] == "True"


async def test_an_object_that_appears_between_look_and_write_is_not_touched(operator: Operator) -> None:
    def intrude(write: Write) -> None:
        if write == ("apply", *ROUTER) and ROUTER not in {(kind, name) for kind, _, name in operator.world.objects}:
            operator.world.add({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": ROUTER[1]}, "spec": {}})

    operator.world.before_write = intrude
    with pytest.raises(Stale):
        await operator.turn()
    assert operator.world.one(*ROUTER)["spec"] == {}


async def test_a_deployment_recreated_under_its_name_waits_for_the_collector_and_then_has_its_own_children(
    world: World,
) -> None:
    operator = Operator(world)
    await operator.turn()
    operator.store.remove(world.remove(contract.KIND, NAME))
    world.add_deployment()
    world.edit(contract.KIND, NAME, lambda body: body["metadata"].update(uid="successor"))
    assert await operator.turn() == [("status", contract.KIND, NAME)], (
        "the children of its predecessor are left to the collector"
    )
    assert condition(world, c.READY)["reason"] != c.NAME_CONFLICT
    for child in CHILDREN:
        operator.store.remove(world.remove(*child))
    await operator.turn()
    owners = {reference["uid"] for kind, name in CHILDREN for reference in world.one(kind, name)["metadata"]["ownerReferences"]}
    assert owners == {"successor"}


@pytest.mark.parametrize("seeing", [True, False], ids=["the watch is up to date", "the watch has seen nothing"])
async def test_a_deleted_llmdeployment_is_left_in_peace(operator: Operator, seeing: bool) -> None:
    await operator.turn()
    operator.store.remove(operator.world.remove(contract.KIND, NAME))
    operator.store.remove(operator.world.remove(*ENGINE))
    assert await operator.turn(seeing=seeing) == []


async def test_one_that_is_being_deleted_is_left_in_peace(operator: Operator) -> None:
    await operator.turn()
    operator.world.edit(contract.KIND, NAME, lambda body: body["metadata"].update(deletionTimestamp="now"))
    operator.store.remove(operator.world.remove(*ENGINE))
    assert await operator.turn() == []


async def test_an_invalid_spec_becomes_a_condition_and_disturbs_nothing(operator: Operator) -> None:
    await operator.turn()
    before = {key: body for key, body in state(operator.world).items() if key[0] != contract.KIND}
    operator.world.edit(contract.KIND, NAME, lambda body: body["spec"].update(accelerator="abacus", replicas=9))
    assert [write[0] for write in await operator.turn()] == ["status", "event"]
    assert condition(operator.world, c.READY)["reason"] == c.UNKNOWN_ACCELERATOR
    assert {key: body for key, body in state(operator.world).items() if key[0] != contract.KIND} == before
    assert await operator.turn() == []


async def test_a_refused_child_is_reported_in_the_servers_words_and_the_others_are_made(operator: Operator) -> None:
    def refuse(write: Write) -> None:
        if write == ("apply", *ENGINE):
            raise Refused("admission webhook said no")

    operator.world.before_write = refuse
    await operator.turn()
    assert operator.world.names("Deployment") == {ROUTER[1]}
    found = condition(operator.world, c.SPEC_VALID)
    assert found["reason"] == c.REJECTED_BY_API_SERVER
    assert "admission webhook said no" in found["message"]
    turn = await operator.reconciler.reconcile(KEY)
    assert turn.again_after == LOOK_AGAIN_SECONDS


async def test_what_an_admission_webhook_changes_is_not_fought_over(operator: Operator) -> None:
    def mutate(body: Json) -> Json:
        if body["kind"] == "Deployment":
            body["spec"]["template"]["spec"]["containers"][0]["image"] = "mirror.example.org/x"
        return body

    operator.world.mutate = mutate
    await operator.turn()
    assert await operator.turn() == []


async def test_the_status_speaks_of_what_the_writes_came_to(operator: Operator) -> None:
    await operator.turn()
    operator.world.edit(
        contract.KIND, NAME, lambda body: (body["spec"].update(replicas=3), body["metadata"].update(generation=2))
    )
    await operator.turn()
    assert operator.world.one(contract.KIND, NAME)["status"]["observedGeneration"] == 2


async def test_a_spec_that_changes_during_the_report_is_taken_up_at_once(operator: Operator) -> None:
    def change(write: Write) -> None:
        if write[0] == "status":
            operator.world.edit(contract.KIND, NAME, lambda body: body["metadata"].update(generation=5))

    operator.world.before_write = change
    turn = await operator.reconciler.reconcile(KEY)
    assert turn.again_after == 0.0


async def test_events_tell_of_turns_and_of_nothing_twice(operator: Operator) -> None:
    await operator.turn()
    for role, name in (("engine", f"{NAME}-engine"), ("router", f"{NAME}-router")):
        pod = ready_pod(f"{role}-a", role=role)
        operator.world.add(pod)
        operator.world.edit("Deployment", name, lambda body: body.update(status=ROLLED_OUT))
    writes = await operator.turn()
    assert ("event", "Event", c.READY) in writes
    assert await operator.turn() == []
    assert await Operator(operator.world).turn() == []


async def test_an_event_that_cannot_be_posted_does_no_harm(operator: Operator) -> None:
    def fail(write: Write) -> None:
        if write[0] == "event":
            raise Unavailable("no")

    operator.world.edit(contract.KIND, NAME, lambda body: body["spec"].update(accelerator="abacus"))
    operator.world.before_write = fail
    await operator.turn()
    assert condition(operator.world, c.READY)["reason"] == c.UNKNOWN_ACCELERATOR


@pytest.mark.parametrize("answered", [True, False], ids=["the write was done", "the write was not done"])
@pytest.mark.parametrize("write", range(len(CHILDREN) + 1))
async def test_it_converges_to_the_same_from_a_kill_at_any_write(write: int, answered: bool) -> None:
    """A new operator takes over from one that died just before, or just after, its n-th write."""
    undisturbed = World()
    undisturbed.add_deployment()
    await converge(Operator(undisturbed))

    world, count = World(), 0
    world.add_deployment()

    def die(_: Write) -> None:
        nonlocal count
        count += 1
        if count == write + 1 + answered:
            raise Killed

    world.before_write = die
    with suppress(Killed):  # just after the last write, nothing is left to be killed
        await Operator(world).turn()
    world.before_write = lambda _: None
    await converge(Operator(world))
    assert state(world) == state(undisturbed)


async def test_an_operator_of_another_version_changes_what_depends_on_it_and_no_more(operator: Operator) -> None:
    await operator.turn()
    newer = Operator(operator.world, settings=replace(SETTINGS, operator_image="example.org/tokenfleet:2.0"))
    assert await newer.turn() == [("apply", *ROUTER)]
    assert await newer.turn() == []
    assert operator.world.one(*ENGINE)["metadata"]["namespace"] == NAMESPACE
