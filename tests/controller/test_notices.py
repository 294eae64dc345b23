"""Which nodes are about to be taken away, and who hears of it."""

import pytest

from tests.controller.test_store import KEY, OTHER, child
from tokenfleet import contract
from tokenfleet.controller.goodbyes.notices import Notices, is_doomed, is_under_notice
from tokenfleet.controller.observed import Json
from tokenfleet.controller.store import Store
from tokenfleet.controller.work_queue import WorkQueue


def node(*taints: str, name: str = "n1", unschedulable: bool = False, annotations: Json | None = None) -> Json:
    spec = {"taints": [{"key": key, "effect": "NoSchedule"} for key in taints], "unschedulable": unschedulable}
    return {"kind": "Node", "metadata": {"name": name, "annotations": annotations}, "spec": spec}


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        pytest.param(node(), False, id="nobody says so"),
        pytest.param(node(annotations={contract.ANNOTATION_NOTICE: ""}), True, id="our annotation, with any value"),
        pytest.param(node("ToBeDeletedByClusterAutoscaler"), True, id="the cluster autoscaler takes it"),
        pytest.param(node("DeletionCandidateOfClusterAutoscaler"), False, id="the cluster autoscaler thinks about it"),
        pytest.param(node("nvidia.com/gpu", "karpenter.sh/disrupted"), True, id="Karpenter takes it"),
        pytest.param(node("aws-node-termination-handler/spot-itn"), True, id="AWS takes a spot instance back"),
        pytest.param(node("cloud.google.com/impending-node-termination"), True, id="Google takes it"),
        pytest.param(node("kubernetes.azure.com/scalesetpriority"), False, id="Azure may take it at any time"),
        pytest.param(node("node.kubernetes.io/unschedulable", unschedulable=True), False, id="it is cordoned"),
        pytest.param({"metadata": {"name": "n1"}}, False, id="it has no spec"),
    ],
)
def test_which_nodes_are_under_notice(found: Json, expected: bool) -> None:
    assert is_under_notice(found) is expected


@pytest.mark.parametrize(
    ("metadata", "nodes", "expected"),
    [
        pytest.param({}, {"n1"}, True, id="its node is"),
        pytest.param({}, {"n2"}, False, id="another node is"),
        pytest.param({"annotations": {contract.ANNOTATION_NOTICE: "soon"}}, set(), True, id="it is itself"),
    ],
)
def test_which_pods_are(metadata: Json, nodes: set[str], expected: bool) -> None:
    assert is_doomed({"metadata": metadata, "spec": {"nodeName": "n1"}}, frozenset(nodes)) is expected
    assert not is_doomed({"metadata": {}}, frozenset(nodes)), "one without a node"


@pytest.mark.parametrize("end", ["MODIFIED", "DELETED", None])
async def test_those_with_pods_there_hear_of_a_notice_that_comes_and_goes(end: str | None) -> None:
    store, queue = Store(), WorkQueue()
    for name, of, where in (("a", "llama", "n1"), ("b", "mistral", "n10")):
        pod = child(kind="Pod", of=of, uid=name, spec={"nodeName": where})
        pod["metadata"]["name"] = name
        store.put(pod)
    assert (store.owners_on("n1"), store.owners_on("n10"), store.owners_on("n")) == ((KEY,), (OTHER,), ())
    notices = Notices(store, queue)
    taken = node("ToBeDeletedByClusterAutoscaler")
    notices.hear("ADDED", taken)
    notices.hear("MODIFIED", taken)
    assert (notices.nodes(), len(queue)) == (frozenset({"n1"}), 1)
    queue.done(await queue.get())
    notices.hear(end, taken if end == "DELETED" else node())
    assert (notices.nodes(), len(queue)) == (frozenset(), 1)
