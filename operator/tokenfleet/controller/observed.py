"""One LLMDeployment or LLMRouter and all that belongs to it, as the API server told it at one moment.

`Observed` is the only thing that planning and reporting look at: after it is taken, nothing of a reconcile reads the API.
`Outcome` is what applying a plan came to. Both are plain data, so that tests write them by hand.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tokenfleet.api.conditions import Verdict

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
class TrackLoad:
    """What became of the requests of one track, the stable engines' or the canary's, as far as the routers can tell."""

    requests: int = 0
    """Answers that ended, since this controller follows the routers."""
    failed: int = 0
    """Those of them that failed by the engine's fault."""
    ttft_p95: float | None = None
    """Seconds, over the last half minute; None: no request."""
    itl_p95: float | None = None
    prompt_tokens: int = 0
    """Of these answers, as far as they say what they used."""
    completion_tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What the routers last told of one LLMDeployment, all of them together."""

    complete: bool
    """Every router that is ready has told it lately. Where not, nothing may be concluded from what is missing."""
    waiting: int = 0
    """Requests, the durable queue's included."""
    beyond: int = 0
    """Those of them that engines hold beyond what they work on at once: they stand in `in_flight` too."""
    in_flight: Mapping[str, int] = field(default_factory=dict)
    """By pod."""
    states: Mapping[str, str] = field(default_factory=dict)
    """By pod: routable or draining where all routers say so; else unready or ejected, or mixed."""
    idle_seconds: float | None = None
    """Since the last request; None: none was seen."""
    tracks: Mapping[str, TrackLoad] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Of the load, as status shows it; None: the routers do not say."""

    queue_depth: int | None
    in_flight: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """A snapshot. Bodies come without managedFields."""

    owner: Json
    """The LLMDeployment or LLMRouter: metadata, spec, status."""
    children: Mapping[ChildKey, Json] = field(default_factory=dict)
    """The children that the owner controls (by ownerReference), and objects of others that stand in their place."""
    pods: tuple[Json, ...] = ()
    """Its pods, of every role, those going away included."""
    router: Json | None = None
    """Of an LLMDeployment: the LLMRouter that its routerRef names, where there is one."""
    members: tuple[Json, ...] = ()
    """Of an LLMRouter: the LLMDeployments whose routerRef names it, by name."""
    download: Download | None = None
    """Of an LLMDeployment: how far a pod is that fetches the model, where one does and says so."""

    model: Json | None = None
    """Of an LLMDeployment: what an inspection just said, as status.model."""
    unread: str = ""
    """Likewise: why what it said cannot be read, in a sentence."""

    load: Load | None = None
    """Of an LLMDeployment: what its routers tell; None: none of them, as yet."""
    unheard_since: str | None = None
    """RFC 3339: since when `load` is not complete, as far as this controller knows; None: for ever, where it is not."""
    wanted: int | None = None
    """Of an autoscaled LLMDeployment: the replicas that autoscaling wants; None: it has not said so yet."""
    scaling: Json | None = None
    """Likewise: as status.scaling."""
    scaling_ready: Verdict | None = None
    """Likewise: whether the count can follow the load."""
    figures: Figures | None = None
    """What status is to show of the load; None: what it shows already."""
    doomed_nodes: frozenset[str] = frozenset()
    """Nodes that are about to be taken away."""
    cost: Json | None = None
    """Of an LLMDeployment: as status.cost; None: its accelerator has no price."""

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
    scaled_object: Verdict | None = None
    """ScalingReady where KEDA decides."""
