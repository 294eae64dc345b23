"""How many replicas find room: nodes, taints, quotas and pods that wait, put together as the scheduler has it."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenfleet.planning.capacity import Capacity, Quota, capacity
from tokenfleet.planning.placement import Demand, Node, refusal

GPU = "nvidia.com/gpu"
PRODUCT = "nvidia.com/gpu.product"
TAINT = {"key": GPU, "value": "present", "effect": "NoSchedule"}
TOLERATION = {"key": GPU, "operator": "Exists", "effect": "NoSchedule"}
TERM = {"matchExpressions": [{"key": PRODUCT, "operator": "In", "values": ["NVIDIA-L4"]}]}
DEMAND = Demand(requests={GPU: 1, "cpu": 1, "memory": 4e9}, terms=(TERM,), tolerations=(TOLERATION,))


def node(name: str = "a", *, gpus: float = 8, used: float = 0, **changes: Any) -> Node:
    fields: dict[str, Any] = {
        "labels": {PRODUCT: "NVIDIA-L4"},
        "allocatable": {GPU: gpus, "cpu": 64, "memory": 512e9, "pods": 110},
        "used": {GPU: used},
    }
    return Node(name=name, **{**fields, **changes})


def room(*nodes: Node, wanted: int = 100, gpus: float = 1, **given: Any) -> Capacity:
    demand = replace(DEMAND, requests={**DEMAND.requests, GPU: gpus})
    return capacity(demand, resource=GPU, wanted=wanted, nodes=nodes, **given)


@pytest.mark.parametrize(
    ("nodes", "gpus", "startable"),
    [
        pytest.param([node()], 1, 8, id="one GPU each"),
        pytest.param([node(used=3)], 1, 5, id="what others have is not free"),
        pytest.param([node("a", used=5), node("b", used=6)], 4, 0, id="a replica is not spread over nodes"),
        pytest.param([node("a", used=4), node("b")], 4, 3, id="each node has room for whole replicas"),
        pytest.param([node(used=9)], 1, 0, id="more used than there is"),
        pytest.param([node(allocatable={GPU: 8, "cpu": 2, "memory": 512e9})], 1, 2, id="CPUs end first"),
        pytest.param([node(allocatable={GPU: 8, "memory": 9e9})], 1, 2, id="memory ends first"),
        pytest.param([node(allocatable={GPU: 8, "pods": 1})], 1, 1, id="pods end first"),
        pytest.param([node(taints=(TAINT,))], 1, 8, id="the taint of GPUs is tolerated"),
        pytest.param([node(taints=({"key": "team", "value": "x", "effect": "NoSchedule"},))], 1, 0, id="another is not"),
        pytest.param([node(taints=({"key": "team", "effect": "PreferNoSchedule"},))], 1, 8, id="a preference is none"),
        pytest.param([node(cordoned=True)], 1, 0, id="cordoned"),
        pytest.param([node(ready=False)], 1, 0, id="not ready"),
        pytest.param([node(labels={PRODUCT: "Tesla-T4"})], 1, 0, id="of another class"),
        pytest.param([node(labels={})], 1, 0, id="of no class"),
        pytest.param([], 1, 0, id="no node"),
    ],
)
def test_replicas_find_room_where_they_may_go(nodes: list[Node], gpus: float, startable: int) -> None:
    assert room(*nodes, gpus=gpus).startable == startable


@pytest.mark.parametrize(
    ("given", "said"),
    [
        pytest.param({}, "No node of this cluster is of the class, with nvidia.com/gpu", id="none of the class"),
        pytest.param({"nodes": [node(gpus=2)], "gpus": 4}, "needs 4 nvidia.com/gpu on one node", id="small"),
        pytest.param({"nodes": [node(used=8)]}, "No other node of the class has 1 nvidia.com/gpu free at once", id="full"),
        pytest.param({"nodes": [node(cordoned=True)]}, "Not counted: a (it is cordoned).", id="cordoned"),
        pytest.param(
            {"nodes": [node(taints=({"key": "team", "value": "x", "effect": "NoExecute"},))]},
            "a (its taint team=x:NoExecute is not tolerated)",
            id="a taint",
        ),
        pytest.param(
            {"nodes": [node()], "quotas": [Quota(name="gpus", left={f"requests.{GPU}": 2})]},
            "The ResourceQuota gpus leaves 2 of requests.nvidia.com/gpu, and 100 replicas need 100",
            id="a quota",
        ),
    ],
)
def test_the_rest_waits_for_something_that_is_named(given: dict[str, Any], said: str) -> None:
    nodes = given.pop("nodes", [])
    assert said in " ".join(room(*nodes, **given).waits_for)


@pytest.mark.parametrize(
    ("left", "startable"),
    [
        pytest.param({f"requests.{GPU}": 3}, 3, id="of GPUs"),
        pytest.param({"requests.cpu": 2.5}, 2, id="of CPUs"),
        pytest.param({"cpu": 1}, 1, id="of CPUs, by their short name"),
        pytest.param({"requests.memory": 9e9}, 2, id="of memory"),
        pytest.param({"pods": 1}, 1, id="of pods"),
        pytest.param({"count/pods": 1}, 1, id="of objects"),
        pytest.param({f"requests.{GPU}": -2}, 0, id="used beyond what it is"),
        pytest.param({"services": 0}, 8, id="of something else"),
    ],
)
def test_a_quota_bounds_what_the_namespace_adds(left: dict[str, float], startable: int) -> None:
    assert room(node(), quotas=[Quota(name="q", left=left)]).startable == startable


def test_the_tightest_of_several_quotas_holds() -> None:
    quotas = [Quota(name="a", left={f"requests.{GPU}": 5}), Quota(name="b", left={f"requests.{GPU}": 3})]
    assert room(node(), quotas=quotas).startable == 3


def test_pods_that_wait_already_come_first_and_leave_whole_nodes_whole() -> None:
    waiting = [replace(DEMAND, requests={GPU: 2}), replace(DEMAND, requests={GPU: 1, "cpu": 1})]
    found = room(node("whole"), node("begun", used=4), gpus=8, pending=waiting)
    assert (found.pending, found.pending_devices) == (2, 3)
    assert found.startable == 1
    assert {place.node: place.takes for place in found.places} == {"whole": 1, "begun": 0}


def test_pods_that_wait_for_something_else_are_not_in_the_way() -> None:
    found = room(node(gpus=1), pending=[Demand(requests={"cpu": 1}), replace(DEMAND, requests={GPU: 4})])
    assert (found.pending, found.startable) == (1, 1)


def test_nothing_is_waited_for_where_all_start() -> None:
    found = room(node(used=6), wanted=2)
    assert (found.startable, found.waits_for, found.free) == (2, (), 2)


def test_engines_without_a_device_need_cpu_and_memory_alone() -> None:
    found = capacity(Demand(requests={"cpu": 16}), resource=None, wanted=9, nodes=[node()])
    assert found.startable == 4
    assert found.waits_for == ("No node has more CPU and memory free for such a pod: free some, or add a node.",)


@pytest.mark.parametrize(
    ("expression", "fits"),
    [
        pytest.param({"key": "zone", "operator": "In", "values": ["a", "b"]}, True, id="in"),
        pytest.param({"key": "zone", "operator": "NotIn", "values": ["a"]}, False, id="not in"),
        pytest.param({"key": "none", "operator": "NotIn", "values": ["a"]}, True, id="not in, without the label"),
        pytest.param({"key": "zone", "operator": "Exists"}, True, id="there"),
        pytest.param({"key": "zone", "operator": "DoesNotExist"}, False, id="not there"),
        pytest.param({"key": "generation", "operator": "Gt", "values": ["6"]}, True, id="greater"),
        pytest.param({"key": "generation", "operator": "Lt", "values": ["6"]}, False, id="less"),
        pytest.param({"key": "zone", "operator": "Gt", "values": ["6"]}, False, id="no number"),
    ],
)
def test_node_affinity_is_the_scheduler_s(expression: dict[str, Any], fits: bool) -> None:
    found = node(labels={"zone": "a", "generation": "7"})
    demand = Demand(requests={}, terms=({"matchExpressions": [expression]},))
    assert (refusal(found, demand) is None) is fits


@pytest.mark.parametrize(
    ("toleration", "fits"),
    [
        pytest.param({"operator": "Exists"}, True, id="everything"),
        pytest.param({"key": "team", "operator": "Exists"}, True, id="the key"),
        pytest.param({"key": "team", "value": "x"}, True, id="key and value"),
        pytest.param({"key": "team", "operator": "Equal", "value": "x", "effect": "NoSchedule"}, True, id="the effect too"),
        pytest.param({"key": "team", "value": "y"}, False, id="another value"),
        pytest.param({"key": "teams", "operator": "Exists"}, False, id="another key"),
        pytest.param({"key": "team", "operator": "Exists", "effect": "NoExecute"}, False, id="another effect"),
    ],
)
def test_tolerations_are_the_scheduler_s(toleration: dict[str, Any], fits: bool) -> None:
    found = node(taints=({"key": "team", "value": "x", "effect": "NoSchedule"},))
    assert (refusal(found, Demand(requests={}, tolerations=(toleration,))) is None) is fits


def test_a_node_selector_has_to_match() -> None:
    assert refusal(node(), Demand(requests={}, node_selector={"zone": "a"})) == "its labels do not match"
    assert refusal(node(labels={"zone": "a"}), Demand(requests={}, node_selector={"zone": "a"})) is None


@given(st.lists(st.tuples(st.integers(0, 16), st.integers(0, 16)), max_size=6), st.integers(1, 8), st.integers(0, 40))
@settings(max_examples=60)
def test_no_more_start_than_are_wanted_and_than_there_are_devices_for(
    sizes: list[tuple[int, int]], gpus: int, wanted: int
) -> None:
    found = room(*(node(str(n), gpus=size, used=used) for n, (size, used) in enumerate(sizes)), gpus=gpus, wanted=wanted)
    assert found.startable <= wanted
    assert found.startable * gpus <= found.free
    assert bool(found.waits_for) == (found.startable < wanted)
