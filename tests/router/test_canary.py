"""A canary's share of the requests: by its LLMDeployment's status, of its own router and of a shared one, adapters included."""

from collections import Counter
from typing import Any

import pytest

from tests.router.test_inventory import Parts, deployment, pod, router
from tokenfleet import contract
from tokenfleet.router.source.cluster_objects import Deployment, Pod

CANARY = {contract.LABEL_TRACK: contract.TRACK_CANARY}


def canary(name: str, of: str = "a", *, role: str = contract.ROLE_ENGINE, ready: bool = True) -> Pod:
    labels = {contract.LABEL_DEPLOYMENT: of, contract.LABEL_ROLE: role, **CANARY}
    return pod(name, of, ready=ready, labels=labels)


def tried(name: str = "a", *, weight: int | None = None, **more: Any) -> Deployment:
    """An LLMDeployment whose canary has this weight."""
    return deployment(name, status=None if weight is None else {"rollout": {"weight": weight}}, **more)


def shares(parts: Parts, model: str = "a", *, requests: int = 100) -> Counter[str]:
    """Who gets so many requests in a row, by track."""
    found: Counter[str] = Counter()
    for _ in range(requests):
        place = parts.model(model).place(None, ())
        found[place.pool.track if place is not None else "nobody"] += 1
        if place is not None:
            place.lease.release()
    return found


@pytest.mark.parametrize(
    ("weight", "expected"),
    [
        pytest.param(None, {"stable": 100}, id="nothing before there is a rollout"),
        pytest.param(0, {"stable": 100}, id="nothing without a weight"),
        pytest.param(10, {"stable": 90, "canary": 10}, id="its percent"),
        pytest.param(50, {"stable": 50, "canary": 50}, id="half"),
        pytest.param(100, {"canary": 100}, id="everything"),
    ],
)
@pytest.mark.parametrize(
    "is_shared", [pytest.param(False, id="of its own router"), pytest.param(True, id="of a shared router")]
)
async def test_the_canary_gets_its_share(weight: int | None, expected: dict[str, int], is_shared: bool) -> None:
    parts = Parts("shared" if is_shared else "a", is_shared=is_shared)
    parts.told.deployments([tried(weight=weight)])
    parts.told.pods([pod("a-0"), pod("a-1"), canary("a-c")])
    assert shares(parts) == expected


async def test_without_canary_pods_a_weight_changes_nothing() -> None:
    parts = Parts("a", is_shared=False)
    parts.told.pods([pod("a-0")])
    parts.told.deployments([tried(weight=50)])
    assert [(pool.track, pool.weight) for pool in parts.model("a").pools] == [("stable", 1)]


async def test_a_canary_that_is_not_ready_costs_no_request() -> None:
    parts = Parts("a", is_shared=False)
    parts.told.pods([pod("a-0"), canary("a-c", ready=False)])
    parts.told.deployments([tried(weight=50)])
    assert shares(parts) == {"stable": 100}


async def test_a_canary_without_a_weight_answers_where_nobody_else_could() -> None:
    parts = Parts("a", is_shared=False)
    parts.told.deployments([tried(weight=0)])
    parts.told.pods([pod("a-0", ready=False), canary("a-c")])
    assert shares(parts) == {"canary": 100}
    parts.told.pods([pod("a-0"), canary("a-c")])
    assert shares(parts) == {"stable": 100}


async def test_a_canary_without_a_weight_does_not_even_get_what_the_others_have_no_room_for() -> None:
    parts = Parts("a", is_shared=False)
    parts.told.deployments([tried(weight=0, ref=None, spec={"router": {"maxInFlight": 1}})])
    parts.told.pods([pod("a-0"), canary("a-c")])
    assert parts.model("a").place(None, ()) is not None
    assert parts.model("a").place(None, ()) is None


async def test_the_weights_of_routes_and_of_the_canary_multiply() -> None:
    parts = Parts()
    parts.told.routers([router(routes=[{"model": "m", "targets": [{"deployment": "a", "weight": 3}, {"deployment": "b"}]}])])
    parts.told.deployments([tried("a", weight=20), tried("b")])
    parts.told.pods([pod("a-0"), canary("a-c"), pod("b-0", "b")])
    found: Counter[tuple[str, str]] = Counter()
    for _ in range(100):
        place = parts.model("m").place(None, ())
        assert place is not None
        found[place.pool.name, place.pool.track] += 1
        place.lease.release()
    assert found == {("a", "stable"): 60, ("a", "canary"): 15, ("b", "stable"): 25}


async def test_adapters_are_split_as_their_model_is() -> None:
    parts = Parts("a", is_shared=False)
    adapters = {"model": {"source": "pvc://x", "adapters": [{"name": "sql"}]}}
    annotations = {contract.ANNOTATION_ADAPTERS: "sql"}
    labels = {contract.LABEL_DEPLOYMENT: "a", contract.LABEL_ROLE: contract.ROLE_ENGINE, **CANARY}
    parts.told.deployments([tried(weight=10, spec=adapters)])
    parts.told.pods([pod("a-0", annotations=annotations), pod("a-c", annotations=annotations, labels=labels)])
    assert shares(parts, "sql") == {"stable": 90, "canary": 10}


async def test_the_weight_follows_the_status_and_the_pods() -> None:
    parts = Parts("a", is_shared=False)
    parts.told.deployments([tried(weight=10)])
    parts.told.pods([pod("a-0"), canary("a-c")])
    assert shares(parts)["canary"] == 10
    parts.told.deployments([tried(weight=50)])
    assert shares(parts)["canary"] == 50
    parts.told.pods([pod("a-0")])
    assert shares(parts) == {"stable": 100}


async def test_the_controller_hears_of_a_canary_that_gets_nothing() -> None:
    parts = Parts("a", is_shared=False)
    parts.told.deployments([tried(weight=0)])
    parts.told.pods([pod("a-0"), canary("a-c")])
    assert sorted(one.name for group in parts.shared.fleet["a"] for one in group.all()) == ["a-0", "a-c"]
