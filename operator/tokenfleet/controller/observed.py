"""One LLMDeployment or LLMRouter and all that belongs to it, as the API server told it at one moment.

`Observed` is the only thing that planning and reporting look at: after it is taken, nothing of a reconcile reads the API.
`Outcome` is what applying a plan came to. Both are plain data, so that tests write them by hand.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]
"""A Kubernetes object, as its JSON has it."""

ChildKey = tuple[str, str]
"""(kind, name) of a child; its namespace is its owner's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Download:
    """How far one pod's download of a model is, by its own word."""

    pod: str
    done: int
    total: int
    """Bytes, both."""
    left: int | None = None
    """Seconds; None where that cannot be said."""

    def as_status(self) -> Json:
        """As status.download."""
        status: Json = {"pod": self.pod, "bytes": self.done, "totalBytes": self.total}
        return status if self.left is None else {**status, "secondsLeft": self.left}


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """A snapshot. Bodies come without managedFields."""

    owner: Json
    """The LLMDeployment or LLMRouter: metadata, spec, status."""
    children: Mapping[ChildKey, Json] = field(default_factory=dict)
    """The children that the owner controls (by ownerReference), and objects of others that stand in their place."""
    pods: tuple[Json, ...] = ()
    """Its engine and router pods, those going away included."""
    router: Json | None = None
    """Of an LLMDeployment: the LLMRouter that its routerRef names, where there is one."""
    members: tuple[Json, ...] = ()
    """Of an LLMRouter: the LLMDeployments whose routerRef names it, by name."""
    download: Download | None = None
    """Of an LLMDeployment: how far a pod is that fetches the model, where one does and says so."""

    @property
    def kind(self) -> str:
        return str(self.owner["kind"])

    @property
    def name(self) -> str:
        return str(self.owner["metadata"]["name"])

    @property
    def namespace(self) -> str:
        return str(self.owner["metadata"]["namespace"])

    @property
    def uid(self) -> str:
        return str(self.owner["metadata"]["uid"])

    @property
    def router_ref(self) -> str | None:
        """The name of the LLMRouter that serves it; None: it has a router of its own, or is one."""
        return router_ref(self.owner)


def router_ref(owner: Json) -> str | None:
    """spec.routerRef.name, as it stands there."""
    name = ((owner.get("spec") or {}).get("routerRef") or {}).get("name")
    return str(name) if name else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """The API server, or an admission policy, refused an object of ours for good: trying again alone will not help."""

    kind: str
    name: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of the writes of one reconcile."""

    refusals: tuple[Refusal, ...] = ()
    conflicts: tuple[ChildKey, ...] = ()
    """Children whose name someone else's object has; those were left as they are."""
