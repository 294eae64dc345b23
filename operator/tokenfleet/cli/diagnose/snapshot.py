"""All that the checks look at: what the cluster said at one moment, and of what it did not say, why not. Plain data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

from tokenfleet import contract
from tokenfleet.api.parsing import parse_spec
from tokenfleet.api.v1alpha1 import LLMDeploymentSpec
from tokenfleet.controller.observed import Observed, router_ref
from tokenfleet.controller.verdicts.scene import Role, Scene
from tokenfleet.errors import InvalidSpec

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Look:
    """Objects of one kind, or why they could not be seen."""

    items: tuple[Json, ...] = ()
    unseen: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What a request to /v1/models came to."""

    url: str
    models: tuple[str, ...] = ()
    status: int | None = None
    """None: there was no answer."""
    words: str = ""


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    namespace: str
    name: str
    now: datetime
    owner: Json | None
    """None: the cluster knows no LLMDeployments."""
    lease: Look = Look()
    controllers: Look = Look()
    """Pods."""
    deployments: Look = Look()
    services: Look = Look()
    slices: Look = Look()
    pods: Look = Look()
    """Of the LLMDeployment."""
    router: Look = Look()
    """The LLMRouter that routerRef names, or none."""
    router_pods: Look = Look()
    """Its."""
    nodes: Look = Look()
    all_pods: Look = Look()
    claims: Look = Look()
    events: Look = Look()
    secrets: Mapping[str, bool | None] = field(default_factory=dict)
    """Whether each that the spec names is there; None: that may not be read."""
    last_words: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By pod: the last lines of its engine that ended."""
    reply: Reply | None = None
    """None: there was no router to ask."""

    @property
    def place(self) -> str:
        return f"{self.namespace}/{self.name}"

    def kubectl(self, words: str) -> str:
        return f"kubectl -n {self.namespace} {words}"

    @cached_property
    def spec(self) -> LLMDeploymentSpec | None:
        """None: it cannot be run."""
        try:
            return parse_spec(self.name, (self.owner or {}).get("spec") or {})
        except InvalidSpec:
            return None

    @cached_property
    def observed(self) -> Observed:
        """As the controller would see it."""
        owner = self.owner or {}
        children = {("Deployment", one["metadata"]["name"]): {"kind": "Deployment", **one} for one in self.deployments.items}
        return Observed(
            owner={"kind": contract.KIND, **owner},
            children=children,
            pods=self.pods.items,
            router=next(iter(self.router.items), None),
            wanted=((owner.get("status") or {}).get("scaling") or {}).get("desired"),
        )

    @property
    def router_name(self) -> str | None:
        """Of a shared one."""
        return router_ref(self.owner or {})

    def scene(self, role: Role) -> Scene:
        return Scene(role=role, observed=self.observed, spec=self.spec)

    def condition(self, kind: str) -> Json | None:
        conditions = ((self.owner or {}).get("status") or {}).get("conditions") or ()
        return next((dict(one) for one in conditions if one["type"] == kind), None)
