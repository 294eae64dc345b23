"""A canary with everything but a cluster: a controller, a router and simulated engines, each a process of its own."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from e2e import streams
from e2e.cluster.control_plane import ControlPlane
from tests.integration.loopback_node import Node
from tests.integration.operators import Json, Namespace, Operators, eventually
from tokenfleet import contract
from tokenfleet.api import conditions as c

NAME, ENGINE, CANARY, ROUTER = "tried", "tried-engine", "tried-canary", "tried-router"
SHARE = 20


@pytest.fixture
def namespace(api: httpx.Client) -> Namespace:
    return Namespace(api, "canary-traffic")


@pytest.fixture
def node(namespace: Namespace, control_plane: ControlPlane, operators: Operators, tmp_path: Path) -> Iterator[Node]:
    """Two engines that serve, and a spec with a canary."""
    operators.start(control_plane.kubeconfig, namespace.name)
    node = Node(namespace, tmp_path, control_plane.kubeconfig)
    node.start()
    canary = {"weights": [SHARE, 50], "pauseSeconds": 4, "maxErrorRate": "0.02"}
    namespace.deploy(
        NAME,
        accelerator="simulated",
        replicas=2,
        router={"replicas": 1},
        drain={"timeoutSeconds": 5},
        rollout={"canary": canary},
    )
    eventually("all to serve", lambda: namespace.condition(NAME, c.READY).get("reason") == c.AS_EXPECTED, seconds=60)
    yield node
    node.close()


def rollout(namespace: Namespace) -> Json:
    return dict(namespace.one(contract.KIND, NAME)["status"].get("rollout") or {})


def change(namespace: Namespace, *flags: str) -> None:
    namespace.patch(contract.KIND, NAME, {"spec": {"engine": {"extraArgs": list(flags)}}})


async def reached(namespace: Namespace, seconds: float = 60, **fields: object) -> Json:
    """status.rollout, once it has these fields; with none, once it is over."""
    async with asyncio.timeout(seconds):
        while not (fields.items() <= (found := rollout(namespace)).items() and bool(found) == bool(fields)):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    return found


async def test_a_good_change_goes_through_though_the_controller_is_killed_and_a_bad_one_goes_back(
    namespace: Namespace, node: Node, operators: Operators, control_plane: ControlPlane
) -> None:
    url = f"http://{node.address(ROUTER)}:{contract.ROUTER_PORT}"
    before = node.running(ENGINE)
    load = streams.Load(url=url, model=NAME, streams=12, tokens=5, pause=0.05)
    async with streams.running(load) as tally:
        await streams.until(lambda: tally.whole > 12)
        change(namespace, "--answer-tokens=128")
        await reached(namespace, step=1)
        assert node.running(ENGINE) == before
        operators.started[-1].kill()
        operators.start(control_plane.kubeconfig, namespace.name, identity="next")
        await reached(namespace, step=2)
        await reached(namespace, phase="Promoting")
        await reached(namespace)
        assert not node.running(ENGINE) & before
        assert set(tally.outcomes) == {"whole"}, tally.problems
        before = node.running(ENGINE)
        change(namespace, "--fail-rate=0.5")
        await reached(namespace, step=1)
        ended = sum(tally.outcomes.values())
        await reached(namespace, phase="RolledBack")
        ended, failed = sum(tally.outcomes.values()) - ended, tally.outcomes["announced"]
        await asyncio.sleep(1)
        late = tally.outcomes["announced"]
        await asyncio.sleep(2)
        assert tally.outcomes["announced"] == late, "it gets nothing more"
    assert set(tally.outcomes) == {"whole", "announced"}, tally.problems
    assert 0 < failed < ended * SHARE / 100 * 1.5
    assert node.running(ENGINE) == before
    assert namespace.condition(NAME, c.READY)["reason"] == c.CANARY_ROLLED_BACK
    eventually("its pod to go", lambda: not node.running(CANARY))
