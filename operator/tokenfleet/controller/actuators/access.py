"""Whether a caller may read a metric: asked of the API server by a SubjectAccessReview, and remembered for a moment.

So who may read what is set where everything else is, by RBAC; the autoscaling controller's own role has it from the start.
"""

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from tokenfleet.controller.actuators.front_proxy import Caller
from tokenfleet.controller.observed import Json

GROUP: Final = "external.metrics.k8s.io"
VERSION: Final = "v1beta1"
PATH: Final = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
REMEMBERED_SECONDS: Final = 10.0
"""As long as Kubernetes' own servers do."""
REMEMBERED: Final = 1024
"""Answers."""

_Question = tuple[Caller, str, str]


class Reviewer(Protocol):
    """What is needed of the API; Cluster has it."""

    def call(self, method: str, path: str, body: Json | None = None) -> Awaitable[Json]: ...


class Access:
    def __init__(self, api: Reviewer, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._api, self._clock = api, clock
        self._answers: OrderedDict[_Question, tuple[float, bool]] = OrderedDict()

    async def allows(self, caller: Caller, *, namespace: str, metric: str) -> bool:
        """Raises ClusterError where the API server does not say."""
        question = (caller, namespace, metric)
        until, allowed = self._answers.get(question, (0.0, False))
        if self._clock() < until:
            return allowed
        answer = await self._api.call("POST", PATH, _review(caller, namespace=namespace, metric=metric))
        allowed = (answer.get("status") or {}).get("allowed") is True
        self._answers[question] = (self._clock() + REMEMBERED_SECONDS, allowed)
        self._answers.move_to_end(question)
        while len(self._answers) > REMEMBERED:
            self._answers.popitem(last=False)
        return allowed


def _review(caller: Caller, *, namespace: str, metric: str) -> Json:
    attributes = {"verb": "list", "group": GROUP, "version": VERSION, "resource": metric, "namespace": namespace}
    extra = {name: list(values) for name, values in caller.extra}
    return {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {"user": caller.user, "groups": list(caller.groups), "extra": extra, "resourceAttributes": attributes},
    }
