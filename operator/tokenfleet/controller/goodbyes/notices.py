"""Notices: nodes, and pods, that are about to be taken away by somebody who says so before.

A node tells it by our own annotation or by a taint of those who take nodes away. One that is only cordoned is not about to go:
people cordon nodes to look at them. Nor is one that a cluster autoscaler merely thinks about
(DeletionCandidateOfClusterAutoscaler), or of a kind that may be taken at any time (kubernetes.azure.com/scalesetpriority).
"""

import logging
from typing import Final

from tokenfleet import contract
from tokenfleet.controller.observed import Json
from tokenfleet.controller.store import Store
from tokenfleet.controller.work_queue import WorkQueue

logger = logging.getLogger(__name__)

TAINTS: Final = frozenset(
    {
        "ToBeDeletedByClusterAutoscaler",
        "aws-node-termination-handler/asg-lifecycle-termination",
        "aws-node-termination-handler/rebalance-recommendation",
        "aws-node-termination-handler/scheduled-maintenance",
        "aws-node-termination-handler/spot-itn",
        "cloud.google.com/impending-node-termination",
        "karpenter.sh/disrupted",
        "karpenter.sh/disruption",
        "node.cloudprovider.kubernetes.io/shutdown",
        "remediator.aks.microsoft.com/unschedulable",
        "remediator.kubernetes.azure.com/unschedulable",
    }
)
"""Keys; whatever the value and the effect."""


def is_under_notice(node: Json) -> bool:
    annotated = contract.ANNOTATION_NOTICE in (node["metadata"].get("annotations") or {})
    taints = (node.get("spec") or {}).get("taints") or ()
    return annotated or any(taint.get("key") in TAINTS for taint in taints)


def is_doomed(pod: Json, doomed_nodes: frozenset[str]) -> bool:
    """Whether a pod, or its node, is under notice."""
    annotated = contract.ANNOTATION_NOTICE in (pod["metadata"].get("annotations") or {})
    return annotated or (pod.get("spec") or {}).get("nodeName") in doomed_nodes


class Notices:
    """The nodes under notice, as a watch tells of them. Whoever has pods there is reconciled when one comes or goes."""

    def __init__(self, store: Store, queue: WorkQueue) -> None:
        self._store, self._queue = store, queue
        self._nodes: set[str] = set()

    def nodes(self) -> frozenset[str]:
        return frozenset(self._nodes)

    def hear(self, event: str | None, node: Json) -> None:
        """`event` is ADDED, MODIFIED or DELETED; None for a node that was listed."""
        name = node["metadata"]["name"]
        doomed = event != "DELETED" and is_under_notice(node)
        if doomed == (name in self._nodes):
            return
        (self._nodes.add if doomed else self._nodes.discard)(name)
        concerned = self._store.owners_on(name)
        logger.info("Node %s: %s; pods of %d owners there.", name, "under notice" if doomed else "no notice", len(concerned))
        for key in concerned:
            self._queue.add(key)
