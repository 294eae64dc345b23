"""From objects of the Kubernetes API to models, pools and terms: for a router of one LLMDeployment, and for a shared one."""

import logging
from typing import Any

import msgspec
import pytest

from tokenfleet import contract
from tokenfleet.router.callers.keys import Priority
from tokenfleet.router.models import Model, Place
from tokenfleet.router.rejections import MODEL_NOT_FOUND, Rejected
from tokenfleet.router.shared import Shared
from tokenfleet.router.source.cluster_objects import Deployment, Pod, SharedRouter
from tokenfleet.router.source.inventory import Inventory
from tokenfleet.router.terms import DEFAULT_MAX_IN_FLIGHT
from tokenfleet.router.wire.limits import Limits

Json = dict[str, Any]


def deployment(name: str = "a", *, served: str | None = None, ref: str | None = "shared", **more: Any) -> Deployment:
    """One that the LLMRouter `shared` serves, but for what is given."""
    spec: Json = {"model": {"source": "pvc://x", **({"servedName": served} if served else {})}, **more.pop("spec", {})}
    if ref is not None:
        spec["routerRef"] = {"name": ref}
    status = more.pop("status", None)
    metadata = {"name": name, "uid": f"uid-{name}", "creationTimestamp": "2026-01-02T03:04:05Z", **more}
    return msgspec.json.decode(msgspec.json.encode({"metadata": metadata, "spec": spec, "status": status}), type=Deployment)


def router(**spec: Any) -> SharedRouter:
    raw = {"metadata": {"name": "shared", "uid": "r"}, "spec": {"replicas": 2, "drain": {"timeoutSeconds": 9}, **spec}}
    return msgspec.json.decode(msgspec.json.encode(raw), type=SharedRouter)


def pod(name: str, of: str = "a", *, role: str = contract.ROLE_ENGINE, ready: bool = True, **metadata: Any) -> Pod:
    labels = {contract.LABEL_DEPLOYMENT: of, contract.LABEL_ROLE: role}
    condition = {"type": "Ready", "status": str(ready)}
    raw = {
        "metadata": {"name": name, "uid": f"uid-{name}", "labels": labels, **metadata},
        "status": {"phase": "Running", "podIP": "10.0.0.1", "conditions": [condition]},
    }
    return msgspec.json.decode(msgspec.json.encode(raw), type=Pod)


class Parts:
    """An inventory, and what it fills."""

    def __init__(self, name: str = "shared", *, is_shared: bool = True) -> None:
        self.shared = Shared.new(Limits())
        self.told = Inventory(self.shared, name, is_shared=is_shared)

    def model(self, name: str) -> Model:
        found = self.shared.catalog.get(name)
        assert found is not None, self.names
        return found

    @property
    def names(self) -> list[str]:
        return [model.name for model in self.shared.catalog.models()]

    def pools(self, name: str) -> dict[str, int]:
        return {pool.name: pool.weight for pool in self.model(name).pools}


class Caller:
    """Waits for a place."""

    def __init__(self) -> None:
        self.affinity: int | None = None
        self.places: list[Place] = []
        self.refusals: list[Rejected] = []

    def granted(self, place: Place) -> None:
        self.places.append(place)

    def evicted(self, rejected: Rejected) -> None:
        self.refusals.append(rejected)


# --- a router of its own ----------------------------------------------------------------------------------------------


async def test_a_router_of_its_own_serves_its_llmdeployment_by_its_terms() -> None:
    parts = Parts("a", is_shared=False)
    spec = {"router": {"replicas": 4, "policy": "PrefixAffinity", "maxInFlight": 3, "queue": {"maxDepth": 7}}}
    parts.told.deployments([deployment(served="chat", ref=None, spec=spec)])
    parts.told.pods([pod("a-0"), pod("a-1", ready=False)])
    model = parts.model("chat")
    assert (model.terms.policy, model.terms.max_in_flight, model.terms.queue.max_depth) == ("PrefixAffinity", 3, 7)
    assert (model.created, model.fallbacks) == (1_767_323_045, ())
    (pool,) = model.pools
    assert (pool.name, pool.served_name, pool.prefill) == ("a", "chat", None)
    assert {one.name: one.seen.state.value for one in pool.replicas.all()} == {"a-0": "routable", "a-1": "unready"}


async def test_a_spec_says_whether_streams_outlive_their_replicas_and_may_change_its_mind() -> None:
    parts = Parts("a", is_shared=False)
    for spec, continues in (({}, True), ({"continueStreams": False}, False), ({"continueStreams": True}, True)):
        parts.told.deployments([deployment(ref=None, spec=spec)])
        assert [pool.continues for pool in parts.model("a").pools] == [continues]


async def test_it_serves_on_while_its_llmdeployment_moves_to_a_shared_router() -> None:
    parts = Parts("a", is_shared=False)
    parts.told.deployments([deployment(ref="shared")])
    assert parts.names == ["a"]


async def test_a_changed_spec_takes_effect_at_once_and_for_the_same_queue() -> None:
    parts = Parts("a", is_shared=False)
    parts.told.deployments([deployment(ref=None, spec={"router": {"maxInFlight": 1}})])
    parts.told.pods([pod("a-0")])
    model, caller = parts.model("a"), Caller()
    assert model.place(None, ()) is not None
    model.join(caller, priority=Priority.NORMAL, flow="alice")
    bounds = {"maxBodyBytes": 2048}
    parts.told.deployments([deployment(ref=None, spec={"router": {"maxInFlight": 2, "bounds": bounds}})])
    assert parts.model("a") is model
    assert len(caller.places) == 1, "who waited for room has it"
    assert parts.shared.limits.body_bytes == 2048


@pytest.mark.parametrize(
    ("router_spec", "engine", "limit"),
    [
        pytest.param({"maxInFlight": 5}, {"batching": {"maxNumSeqs": 9}}, 5, id="the router's spec comes first"),
        pytest.param({}, {"batching": {"maxNumSeqs": 9}}, 9, id="then what an engine runs at once"),
        pytest.param({}, {}, DEFAULT_MAX_IN_FLIGHT, id="then a default"),
    ],
)
async def test_how_many_requests_a_replica_gets(router_spec: Json, engine: Json, limit: int) -> None:
    parts = Parts("a", is_shared=False)
    parts.told.deployments([deployment(ref=None, spec={"router": router_spec, "engine": engine})])
    parts.told.pods([pod("a-0")])
    granted = [parts.model("a").place(None, ()) for _ in range(limit + 1)]
    assert [place is not None for place in granted] == [True] * limit + [False]


@pytest.mark.parametrize(
    ("bounds", "lengths", "most"),
    [
        pytest.param({"maxTokens": 7}, [100], 7, id="the router's spec is the smaller one"),
        pytest.param({"maxTokens": 700}, [100], 100, id="an engine refuses more than it takes"),
        pytest.param({"maxTokens": 700}, [100, None], 700, id="one of the engines does not say what it takes"),
        pytest.param({}, [100], 100, id="what the engine takes"),
        pytest.param({}, [100, 200], 200, id="of several engines, the longest"),
        pytest.param({"maxTokens": 150}, [100, 200], 150, id="between two engines"),
        pytest.param({}, [100, None], None, id="one does not say, and the spec neither"),
    ],
)
async def test_how_long_an_answer_may_be(bounds: Json, lengths: list[int | None], most: int | None) -> None:
    parts = Parts()
    parts.told.routers([router(bounds=bounds)])
    parts.told.deployments(
        [
            deployment(f"d{number}", served="chat", spec={"engine": {"maxModelLen": length} if length else {}})
            for number, length in enumerate(lengths)
        ]
    )
    assert parts.model("chat").terms.bounds.max_tokens == most


async def test_who_does_not_say_how_long_an_answer_may_be_is_never_given_more_than_the_engine_takes() -> None:
    parts = Parts()
    parts.told.routers([router(bounds={"maxTokens": 150})])
    lengths = {"a": 100, "b": 200, "c": None}
    spec = {name: {"engine": {"maxModelLen": length} if length else {}} for name, length in lengths.items()}
    parts.told.deployments([deployment(name, served="chat", spec=spec[name]) for name in lengths])
    assert {pool.name: pool.max_tokens for pool in parts.model("chat").pools} == {"a": None, "b": 150, "c": 150}


async def test_of_a_disaggregated_deployment_prompts_go_to_pods_of_their_own() -> None:
    parts = Parts("a", is_shared=False)
    parts.told.deployments([deployment(ref=None, spec={"disaggregation": {"prefill": {"replicas": 1}}})])
    parts.told.pods([pod("a-0"), pod("p-0", role=contract.ROLE_PREFILL)])
    (pool,) = parts.model("a").pools
    assert pool.prefill is not None
    assert [one.name for one in pool.replicas.all()] == ["a-0"]
    assert [one.name for one in pool.prefill.all()] == ["p-0"]


@pytest.mark.parametrize("is_shared", [True, False], ids=["shared", "its own"])
async def test_terms_that_cannot_be_read_leave_those_before(is_shared: bool, caplog: pytest.LogCaptureFixture) -> None:
    """The CRD may be newer than this router, which a rollout replaces soon."""
    parts = Parts("shared" if is_shared else "a", is_shared=is_shared)

    def say(spec: Json) -> None:
        if is_shared:
            parts.told.routers([router(**spec)])
            parts.told.deployments([deployment()])
        else:
            parts.told.deployments([deployment(ref=None, spec={"router": spec})])

    say({"queue": {"maxDepth": 7}})
    with caplog.at_level(logging.ERROR):
        say({"queue": {"maxDepth": 8, "fromTheFuture": True}})
    assert parts.model("a").terms.queue.max_depth == 7
    assert "the terms before stay" in caplog.text
    say({"queue": {"maxDepth": 9}})
    assert parts.model("a").terms.queue.max_depth == 9


# --- adapters ----------------------------------------------------------------------------------------------------------


def with_adapters(*names: str, **more: Any) -> Deployment:
    """A deployment whose model has these."""
    listed = [{"name": name, "source": f"s3://adapters/{name}", "revision": "v1"} for name in names]
    served = more.pop("served", None)
    model = {"source": "pvc://x", "adapters": listed, **({"servedName": served} if served else {})}
    return deployment(more.pop("name", "a"), spec={"model": model, **more.pop("spec", {})}, **more)


def loaded(*names: str) -> Json:
    """A pod's metadata."""
    return {"annotations": {contract.ANNOTATION_ADAPTERS: ",".join(names)}}


def takers(model: Model) -> list[str]:
    """Who may get its requests."""
    return sorted(one.name for pool in model.pools for one in pool.routable)


async def test_an_adapter_is_served_by_the_pods_that_have_it() -> None:
    """As in a rolling update that adds one: old pods have the model below it alone."""
    parts = Parts("a", is_shared=False)
    parts.told.deployments([with_adapters("sql", "chat", served="llama", ref=None, spec={"router": {"maxInFlight": 3}})])
    parts.told.pods([pod("old"), pod("new", **loaded("sql", "chat")), pod("newer", ready=False, **loaded("sql", "chat"))])
    assert parts.names == ["llama", "sql", "chat"]
    model, adapter = parts.model("llama"), parts.model("sql")
    assert (takers(model), takers(adapter)) == (["new", "old"], ["new"])
    assert (model.parent, adapter.parent) == (None, "llama")
    (pool,) = adapter.pools
    assert (pool.name, pool.served_name, pool.adapter) == ("a", "sql", "sql")
    assert (adapter.terms, adapter.created) == (model.terms, model.created)
    assert pool.replicas is model.pools[0].replicas
    for _ in range(3):
        place = adapter.place(None, ())
        assert place is not None and place.lease.replica.name == "new"
    assert adapter.place(None, ()) is None
    others = [model.place(None, ()) for _ in range(4)]
    assert [place and place.lease.replica.name for place in others] == ["old"] * 3 + [None], "the pod's limit is of both"


async def test_who_waits_for_an_adapter_gets_the_first_pod_that_has_it() -> None:
    parts, caller = Parts("a", is_shared=False), Caller()
    parts.told.deployments([with_adapters("sql", ref=None)])
    parts.told.pods([pod("old")])
    assert parts.model("sql").place(None, ()) is None
    parts.model("sql").join(caller, priority=Priority.NORMAL, flow="alice")
    parts.told.pods([pod("old"), pod("new", ready=False, **loaded("sql"))])
    assert not caller.places
    parts.told.pods([pod("old"), pod("new", **loaded("sql"))])
    assert [place.lease.replica.name for place in caller.places] == ["new"]


async def test_an_adapter_that_goes_tells_those_who_wait_for_it_and_leaves_its_model() -> None:
    parts, caller = Parts("a", is_shared=False), Caller()
    parts.told.deployments([with_adapters("sql", ref=None)])
    parts.told.pods([pod("a-0")])
    parts.model("sql").join(caller, priority=Priority.NORMAL, flow="alice")
    model = parts.model("a")
    parts.told.deployments([deployment(ref=None)])
    assert [refused.kind for refused in caller.refusals] == [MODEL_NOT_FOUND]
    assert parts.model("a") is model and parts.names == ["a"]


async def test_prompts_of_an_adapter_are_read_by_prefill_pods_that_have_it() -> None:
    parts = Parts("a", is_shared=False)
    parts.told.deployments([with_adapters("sql", ref=None, spec={"disaggregation": {"prefill": {"replicas": 2}}})])
    prefills = [pod("p-0", role=contract.ROLE_PREFILL), pod("p-1", role=contract.ROLE_PREFILL, **loaded("sql"))]
    parts.told.pods([pod("a-0", **loaded("sql")), *prefills])
    (pool,) = parts.model("sql").pools
    assert pool.prefill is not None
    leases = [pool.prefill.lease((), None, pool.adapter) for _ in range(3)]
    assert [lease and lease.replica.name for lease in leases] == ["p-1"] * 3


async def test_members_with_the_same_adapter_share_its_requests() -> None:
    parts = Parts()
    parts.told.deployments([with_adapters("sql", name="a"), with_adapters("sql", name="b")])
    parts.told.pods([pod("a-0", **loaded("sql")), pod("b-0", "b", **loaded("sql"))])
    places = [parts.model("sql").place(None, ()) for _ in range(10)]
    names = [place.pool.name for place in places if place is not None]
    assert (names.count("a"), names.count("b")) == (5, 5)


async def test_a_model_keeps_its_name_from_another_ones_adapter_and_both_are_named_in_an_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    parts = Parts()
    found = [with_adapters("chat", "sql", name="a"), deployment("b", served="chat")]
    for _ in range(2):
        parts.told.deployments(found)
    assert parts.pools("chat") == {"b": 1}
    assert parts.model("chat").pools[0].adapter is None
    assert parts.names == ["a", "chat", "sql"]
    (said,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "Adapter chat of LLMDeployment a" in said.message and "LLMDeployment b" in said.message


# --- a shared router ----------------------------------------------------------------------------------------------------


async def test_a_shared_router_serves_all_that_name_it() -> None:
    parts = Parts()
    parts.told.routers([router(maxInFlight=3)])
    gone = deployment("gone", deletionTimestamp="2026-01-01T00:00:00Z")
    parts.told.deployments([deployment("b", served="chat"), deployment("a"), deployment("c", ref="other"), gone])
    parts.told.pods([pod("a-0"), pod("b-0", "b"), pod("c-0", "c")])
    assert sorted(parts.names) == ["a", "chat"]
    assert [one.name for one in parts.model("chat").pools[0].replicas.all()] == ["b-0"]
    assert parts.model("a").terms.max_in_flight == 3


async def test_the_order_in_which_kinds_are_read_makes_no_difference() -> None:
    routes = [{"model": "chat", "targets": [{"deployment": "a", "weight": 3}]}]
    first, last = Parts(), Parts()
    told = [
        ("routers", [router(routes=routes, maxInFlight=1)]),
        ("deployments", [deployment("a"), deployment("b", served="chat")]),
        ("pods", [pod("a-0"), pod("b-0", "b")]),
    ]
    for parts, steps in ((first, told), (last, told[::-1])):
        for kind, found in steps:
            getattr(parts.told, kind)(found)
        assert parts.pools("chat") == {"a": 3}
        assert [one.name for one in parts.model("chat").pools[0].replicas.all()] == ["a-0"]
        assert parts.model("a").terms.max_in_flight == 1


async def test_weights_split_the_requests_of_a_model() -> None:
    parts = Parts()
    targets = [{"deployment": "a", "weight": 3}, {"deployment": "b", "weight": 1}]
    parts.told.routers([router(routes=[{"model": "chat", "targets": targets}])])
    parts.told.deployments([deployment("a", served="chat"), deployment("b", served="chat-next")])
    parts.told.pods([pod("a-0"), pod("b-0", "b")])
    model = parts.model("chat")
    places = [model.place(None, ()) for _ in range(100)]
    names = [place.pool.name for place in places if place is not None]
    assert (names.count("a"), names.count("b")) == (75, 25)
    assert {pool.name: pool.served_name for pool in model.pools} == {"a": "chat", "b": "chat-next"}


async def test_fallbacks_are_those_that_are_served() -> None:
    parts = Parts()
    parts.told.routers([router(routes=[{"model": "chat", "fallbacks": ["nowhere", "small"]}])])
    parts.told.deployments([deployment("a", served="chat"), deployment("b", served="small")])
    assert parts.model("chat").fallbacks == ("small",)
    assert parts.model("small").fallbacks == ()


async def test_a_target_that_goes_leaves_its_share_and_comes_back_to_it() -> None:
    parts = Parts()
    targets = [{"deployment": "a"}, {"deployment": "b"}]
    parts.told.routers([router(routes=[{"model": "chat", "targets": targets}])])
    both = [deployment("a", served="chat"), deployment("b", served="chat")]
    parts.told.pods([pod("a-0"), pod("b-0", "b")])
    for found, pools in ((both, {"a": 1, "b": 1}), (both[:1], {"a": 1}), (both, {"a": 1, "b": 1})):
        parts.told.deployments(found)
        assert parts.pools("chat") == pools
    assert [len(pool.replicas.all()) for pool in parts.model("chat").pools] == [1, 1]


async def test_a_model_that_goes_tells_those_who_wait_for_it() -> None:
    parts = Parts()
    parts.told.deployments([deployment("a")])
    caller = Caller()
    parts.model("a").join(caller, priority=Priority.NORMAL, flow="alice")
    parts.told.deployments([])
    assert [refused.kind for refused in caller.refusals] == [MODEL_NOT_FOUND]
    assert parts.names == []


async def test_two_names_of_the_same_replicas_share_their_room() -> None:
    parts = Parts()
    routes = [{"model": "alias", "targets": [{"deployment": "a"}]}]
    parts.told.routers([router(routes=routes, maxInFlight=1)])
    parts.told.deployments([deployment("a")])
    parts.told.pods([pod("a-0")])
    taken, caller = parts.model("a").place(None, ()), Caller()
    assert taken is not None and parts.model("alias").place(None, ()) is None
    parts.model("alias").join(caller, priority=Priority.NORMAL, flow="alice")
    taken.lease.release()
    assert len(caller.places) == 1


async def test_what_is_known_stays_when_the_llmrouter_is_gone() -> None:
    """Its pods are deleted soon after it; until then they serve."""
    parts = Parts()
    parts.told.routers([router(maxInFlight=3)])
    parts.told.deployments([deployment("a")])
    parts.told.routers([])
    assert (parts.names, parts.model("a").terms.max_in_flight) == (["a"], 3)


async def test_events_that_change_nothing_touch_nothing() -> None:
    parts = Parts()
    parts.told.deployments([deployment("a")])
    parts.told.pods([pod("a-0"), pod("a-1")])
    model = parts.model("a")
    (pool,) = model.pools
    pool.credit = 42
    parts.told.deployments([deployment("a", annotations={"x": "y"})])
    parts.told.pods([pod("a-1", annotations={"x": "y"}), pod("a-0")][::-1])
    assert parts.model("a").pools[0] is pool and pool.credit == 42
