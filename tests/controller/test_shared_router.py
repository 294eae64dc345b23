"""An LLMRouter and the LLMDeployments that name it: what each reads of the other, and how the one takes over from the other."""

import copy
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from tests.controller.objects import (
    LATEST,
    NAME,
    NAMESPACE,
    NOW,
    SETTINGS,
    SHARED,
    llm_deployment,
    llm_router,
    pod,
    ready_pod,
    router_spec_of,
    running,
    spec_of,
)
from tests.controller.world import KEY, Operator, World
from tokenfleet import contract
from tokenfleet.api import conditions as c
from tokenfleet.api.v1alpha1 import LLMRouterStatus
from tokenfleet.controller import shared_router
from tokenfleet.controller.cluster import Stale
from tokenfleet.controller.drift import stamped
from tokenfleet.controller.observed import Json, Observed, Outcome
from tokenfleet.controller.plan import plan
from tokenfleet.controller.resources import build_children
from tokenfleet.controller.status import build_status
from tokenfleet.errors import InvalidSpec
from tokenfleet.planning.sharing import Member

ROUTER_KEY = (contract.ROUTER_KIND, NAMESPACE, SHARED)
REF = {"name": SHARED}
STARTING = ("False", c.ROUTER_STARTING)
READY = ("True", c.AS_EXPECTED)


def member(name: str, served: str | None = None, **metadata: Any) -> Json:
    """An LLMDeployment that the router serves."""
    model = {"source": "pvc://weights/x", **({"servedName": served} if served else {})}
    made = llm_deployment(name=name, model=model, routerRef=REF)
    return {**made, "metadata": {**made["metadata"], **metadata}}


def router(*, ready: tuple[str, str] | None = READY, name: str = SHARED, **spec: Any) -> Json:
    """With a status that says how it is; None: without any yet."""
    condition = ready and {"type": c.ROUTER_READY, "status": ready[0], "reason": ready[1], "message": "So it is."}
    url = f"http://{name}.{NAMESPACE}.svc/v1"
    return llm_router(name=name, status={"url": url, "conditions": [condition]} if ready else None, **spec)


def shared_workload(*, replicas: int = 2) -> Json:
    """The Deployment of an LLMRouter, converged."""
    owner = {"kind": contract.ROUTER_KIND, "name": SHARED, "uid": llm_router()["metadata"]["uid"], "controller": True}
    counts = {"observedGeneration": 1, "replicas": replicas, "updatedReplicas": replicas, "readyReplicas": replicas}
    metadata = {"name": f"{SHARED}-router", "namespace": NAMESPACE, "generation": 1, "ownerReferences": [owner]}
    return {"kind": "Deployment", "metadata": metadata, "spec": {"replicas": replicas}, "status": counts}


def router_seen(*pods: Json, members: tuple[Json, ...] = (), **fields: Any) -> Observed:
    work = shared_workload()
    return Observed(owner=llm_router(**fields), children={("Deployment", f"{SHARED}-router"): work}, pods=pods, members=members)


def serving(members: tuple[Json, ...], **fields: Any) -> Observed:
    pods = (ready_pod("router-a", role="router"), ready_pod("router-b", role="router"))
    return router_seen(*pods, members=members, **fields)


def status_of(seen: Observed) -> Json:
    spec = router_spec_of(seen.owner) if seen.kind == contract.ROUTER_KIND else spec_of(seen.owner)
    return build_status(seen, spec, Outcome(), now=NOW)


def condition(status: Json, kind: str) -> Json:
    (found,) = [item for item in status["conditions"] if item["type"] == kind]
    return dict(found)


# --- the status of an LLMRouter ---------------------------------------------------------------------------------------


def test_all_is_well() -> None:
    status = status_of(serving((member("a", "chat"), member("b")), generation=4))
    assert LLMRouterStatus.model_validate(status)
    assert {name: value for name, value in status.items() if name != "conditions"} == {
        "observedGeneration": 4,
        "replicas": 2,
        "readyReplicas": 2,
        "ready": "2/2",
        "selector": "tokenfleet.dev/router=shared,tokenfleet.dev/role=router",
        "url": "http://shared.models.svc/v1",
        "models": ["b", "chat"],
    }
    assert [each["type"] for each in status["conditions"]] == [c.READY, c.SPEC_VALID, c.ROUTER_READY]
    ready = condition(status, c.READY)
    assert (ready["status"], ready["reason"]) == READY
    assert ready["message"] == "Requests are served at http://shared.models.svc/v1."


def test_with_tls_the_url_says_so() -> None:
    assert status_of(serving((), tls={"secretName": "x"}))["url"] == "https://shared.models.svc/v1"


@pytest.mark.parametrize(
    ("members", "routes", "reason", "words"),
    [
        pytest.param((), [], c.NO_MODELS, "set spec.routerRef: {name: shared} in one", id="nobody names it"),
        pytest.param(
            (member("a", "chat"),),
            [{"model": "chat", "targets": [{"deployment": "a"}, {"deployment": "gone"}]}],
            c.ROUTES_UNRESOLVED,
            "Route chat: no LLMDeployment gone names this router by spec.routerRef.",
            id="a target that is not there",
        ),
        pytest.param(
            (member("a", "chat"),),
            [{"model": "chat", "fallbacks": ["tiny"]}],
            c.ROUTES_UNRESOLVED,
            "Route chat: no LLMDeployment of this router serves the fallback tiny.",
            id="a fallback that nobody serves",
        ),
        pytest.param(
            (member("a", "chat"), member("b", "chat")),
            [{"model": "chat", "targets": [{"deployment": "a"}]}],
            c.ROUTES_UNRESOLVED,
            "LLMDeployment b gets no requests: the route of its model chat has other targets.",
            id="one that is left with nothing to do",
        ),
    ],
)
def test_what_does_not_fit_together_is_told_and_the_rest_is_served(
    members: tuple[Json, ...], routes: list[Json], reason: str, words: str
) -> None:
    status = status_of(serving(members, routes=routes))
    for kind in (c.READY, c.SPEC_VALID):
        found = condition(status, kind)
        assert (found["status"], found["reason"]) == ("True", reason)
        assert words in found["message"]


def test_one_that_goes_away_is_served_no_more() -> None:
    assert status_of(serving((member("a"), member("b", deletionTimestamp=LATEST))))["models"] == ["a"]


def test_an_invalid_spec_keeps_the_models_that_are_served() -> None:
    seen = router_seen(status={"models": ["a"]})
    status = build_status(seen, InvalidSpec("No."), Outcome(), now=NOW)
    assert status["models"] == ["a"]
    assert condition(status, c.READY)["reason"] == c.INVALID_SPEC


@pytest.mark.parametrize(
    ("fields", "prefix"), [({}, "spec.router"), ({"shared": True}, "spec")], ids=["its own router", "a shared router"]
)
def test_while_no_router_is_ready_the_secrets_that_it_waits_for_are_named(fields: Json, prefix: str) -> None:
    """The controller may not read Secrets, so it cannot say which one is missing; the router's log does."""
    router_spec: Json = {"auth": {"keysSecret": "team-keys"}, "redis": {"urlSecret": "cache"}}
    unready = pod("router-a", role="router", containers=(running("router"),))
    if fields:
        seen = router_seen(unready, **router_spec)
    else:
        deployment = llm_deployment(router=router_spec)
        owner = {"kind": contract.KIND, "name": NAME, "uid": deployment["metadata"]["uid"], "controller": True}
        work = {**shared_workload(), "metadata": {**shared_workload()["metadata"], "ownerReferences": [owner]}}
        seen = Observed(owner=deployment, children={("Deployment", f"{NAME}-router"): work}, pods=(unready,))
    found = condition(status_of(seen), c.ROUTER_READY)
    assert (found["status"], found["reason"]) == STARTING
    assert f"team-keys ({prefix}.auth.keysSecret), cache ({prefix}.redis.urlSecret)" in found["message"]
    assert f"its log says which of them is missing. kubectl -n {NAMESPACE} logs -f router-a" in found["message"]


def test_without_secrets_none_are_named() -> None:
    seen = router_seen(pod("router-a", role="router", containers=(running("router"),)))
    assert "Secret" not in condition(status_of(seen), c.ROUTER_READY)["message"]


# --- the status of an LLMDeployment that it serves --------------------------------------------------------------------


def deployment_seen(shared: Json | None, **fields: Any) -> Observed:
    return Observed(owner=llm_deployment(**{"routerRef": REF, **fields}), pods=(ready_pod(),), router=shared)


@pytest.mark.parametrize(
    ("shared", "verdict", "words"),
    [
        pytest.param(router(), READY, "LLMRouter shared: So it is.", id="it serves"),
        pytest.param(router(ready=STARTING), STARTING, "LLMRouter shared: So it is.", id="it does not serve yet"),
        pytest.param(
            router(ready=None), ("False", c.CREATING), "LLMRouter shared has no status yet.", id="nobody has seen it yet"
        ),
        pytest.param(
            None,
            ("False", c.ROUTER_NOT_FOUND),
            "There is no LLMRouter shared in the namespace models. Create it, or correct spec.routerRef.name",
            id="there is none",
        ),
    ],
)
def test_router_ready_is_that_of_the_llmrouter(shared: Json | None, verdict: tuple[str, str], words: str) -> None:
    status = status_of(deployment_seen(shared))
    found = condition(status, c.ROUTER_READY)
    assert (found["status"], found["reason"]) == verdict
    assert words in found["message"]
    assert status.get("url") == (shared and (shared.get("status") or {}).get("url"))


# --- moving to a shared router, and back ------------------------------------------------------------------------------


def moving(shared: Json | None, *, ref: str = SHARED) -> Observed:
    """Its own router is all there, and the spec has just been given a routerRef."""
    before = llm_deployment()
    children = {}
    for number, child in enumerate(build_children(before, spec_of(before), SETTINGS)):
        live = copy.deepcopy(stamped(child))
        live["metadata"]["uid"] = f"uid-{number}"
        children[child["kind"], child["metadata"]["name"]] = live
    return Observed(owner=llm_deployment(routerRef={"name": ref}), children=children, router=shared)


@pytest.mark.parametrize(
    "shared",
    [
        pytest.param(None, id="there is no such LLMRouter"),
        pytest.param(router(ready=None), id="the controller has not looked at it"),
        pytest.param(router(ready=STARTING), id="it does not take requests yet"),
    ],
)
def test_its_own_router_stays_until_the_shared_one_serves(shared: Json | None) -> None:
    todo = plan(moving(shared), SETTINGS, now=NOW)
    assert todo.deletes == ()
    assert [each.key[0] for each in todo.applies] == ["NetworkPolicy"], "the shared router is let in beforehand"


def test_then_it_goes_and_the_engines_stay() -> None:
    todo = plan(moving(router()), SETTINGS, now=NOW)
    assert {(each.kind, each.name) for each in todo.deletes} == {
        ("Deployment", f"{NAME}-router"),
        ("PodDisruptionBudget", f"{NAME}-router"),
        ("Role", f"{NAME}-router"),
        ("RoleBinding", f"{NAME}-router"),
        ("Service", NAME),
        ("ServiceAccount", f"{NAME}-router"),
    }


def test_one_of_the_shared_ones_name_goes_at_once_since_it_stands_in_the_way() -> None:
    todo = plan(moving(router(name=NAME, ready=("False", c.NAME_CONFLICT)), ref=NAME), SETTINGS, now=NOW)
    assert ("Service", NAME) in {(each.kind, each.name) for each in todo.deletes}
    assert plan(moving(None, ref=NAME), SETTINGS, now=NOW).deletes == ()


def test_an_engine_that_is_no_longer_wanted_does_not_wait_for_a_router() -> None:
    seen = moving(None)
    extra = copy.deepcopy(seen.children["Service", f"{NAME}-engine"])
    extra["metadata"] |= {"name": "old", "uid": "old"}
    todo = plan(replace(seen, children={**seen.children, ("Service", "old"): extra}), SETTINGS, now=NOW)
    assert [each.name for each in todo.deletes] == ["old"]


# --- reconciling both -------------------------------------------------------------------------------------------------


async def settle(operator: Operator, *keys: tuple[str, str, str]) -> None:
    for _ in range(6):
        if not [write for key in keys for write in await operator.turn(key)]:
            return
    raise AssertionError(operator.world.writes)


async def test_an_llmrouter_gets_its_children_and_its_status_and_then_peace() -> None:
    world = World()
    world.add(llm_router())
    operator = Operator(world)
    built = build_children(llm_router(), router_spec_of(llm_router()), SETTINGS)
    writes = await operator.turn(ROUTER_KEY)
    assert writes == [
        *(("apply", child["kind"], child["metadata"]["name"]) for child in built),
        ("status", contract.ROUTER_KIND, SHARED),
    ]
    assert await operator.turn(ROUTER_KEY) == []
    assert await Operator(world).turn(ROUTER_KEY) == []


async def test_a_new_status_of_the_router_is_everybodys_business() -> None:
    world = World()
    world.add(llm_router())
    world.add_deployment(routerRef=REF)
    operator = Operator(world)
    turn = await operator.reconciler.reconcile(ROUTER_KEY)
    assert turn.others == (KEY,)
    assert (await operator.reconciler.reconcile(ROUTER_KEY)).others == ()


async def test_an_llmdeployment_moves_to_a_shared_router_and_back() -> None:
    world = World()
    world.add_deployment()
    operator = Operator(world)
    await settle(operator, KEY)
    own = {place for place in world.objects if place[0] != contract.KIND}
    world.edit(contract.KIND, NAME, lambda body: body["spec"].update(routerRef=REF))
    await settle(operator, KEY)
    assert {place for place in world.objects if place[0] != contract.KIND} == own, "no LLMRouter: nothing is taken away"

    world.add(llm_router())
    await settle(operator, ROUTER_KEY, KEY)
    assert ("Service", NAMESPACE, NAME) in world.objects
    for name in ("router-a", "router-b"):
        made = ready_pod(name, role="router")
        made["metadata"]["labels"] = {contract.LABEL_ROUTER: SHARED, contract.LABEL_ROLE: "router"}
        world.add(made)
    await settle(operator, ROUTER_KEY, KEY)
    assert world.names("Service") == {SHARED, f"{NAME}-engine"}
    assert world.names("Deployment") == {f"{SHARED}-router", f"{NAME}-engine"}
    assert world.one(contract.KIND, NAME)["status"]["url"] == f"http://{SHARED}.{NAMESPACE}.svc/v1"

    world.edit(contract.KIND, NAME, lambda body: body["spec"].pop("routerRef"))
    await settle(operator, KEY, ROUTER_KEY)
    assert {place for place in world.objects if place[2].startswith(NAME) and place[0] != contract.KIND} == own
    assert world.one(contract.ROUTER_KIND, SHARED)["status"]["models"] == []


async def test_the_two_kinds_do_not_fight_over_a_name() -> None:
    """An LLMDeployment with a router of its own, and an LLMRouter of its name."""
    world = World()
    world.add_deployment()
    world.add(llm_router(name=NAME))
    operator, other = Operator(world), (contract.ROUTER_KIND, NAMESPACE, NAME)
    await settle(operator, KEY)
    with pytest.raises(Exception, match="another object"):
        await operator.turn(other)
    await settle(operator, KEY, other)
    found = condition(world.one(contract.ROUTER_KIND, NAME)["status"], c.SPEC_VALID)
    assert (found["status"], found["reason"]) == ("False", c.NAME_CONFLICT)
    assert f"Service {NAME}" in found["message"] and "give the LLMRouter another name" in found["message"]
    assert world.one("Service", NAME)["metadata"]["ownerReferences"][0]["kind"] == contract.KIND
    assert condition(world.one(contract.KIND, NAME)["status"], c.SPEC_VALID)["status"] == "True"


async def test_a_router_takes_over_the_name_of_the_llmdeployment_that_it_serves() -> None:
    world = World()
    world.add_deployment()
    operator, other = Operator(world), (contract.ROUTER_KIND, NAMESPACE, NAME)
    await settle(operator, KEY)
    world.add(llm_router(name=NAME))
    with suppress(Stale):
        await operator.turn(other)
    await operator.turn(other)
    assert condition(world.one(contract.ROUTER_KIND, NAME)["status"], c.READY)["reason"] == c.NAME_CONFLICT
    world.edit(contract.KIND, NAME, lambda body: body["spec"].update(routerRef={"name": NAME}))
    world.watch(operator.store)
    turn = await operator.reconciler.reconcile(KEY)
    assert other in turn.others, "it need not wait until it looks again by itself"
    await settle(operator, other, KEY)
    assert world.one("Service", NAME)["metadata"]["ownerReferences"][0]["kind"] == contract.ROUTER_KIND
    assert condition(world.one(contract.ROUTER_KIND, NAME)["status"], c.SPEC_VALID)["status"] == "True"


def test_members_go_by_their_served_names_and_adapters_by_their_own() -> None:
    tuned = member("b")
    tuned["spec"]["model"]["adapters"] = [{"name": "sql", "source": "s3://adapters/sql"}]
    seen = serving((member("a", "chat"), tuned))
    assert shared_router.members(seen) == {"a": Member("chat"), "b": Member("b", ("sql",))}
    assert shared_router.models(seen, router_spec_of(seen.owner)) == ["b", "chat", "sql"]
