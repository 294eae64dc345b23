"""One LLMDeployment and all that belongs to it, as the API server told it at one moment.

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
class Observed:
    """A snapshot. Bodies come without managedFields."""

    deployment: Json
    """The LLMDeployment: metadata, spec, status."""
    children: Mapping[ChildKey, Json] = field(default_factory=dict)
    """The children that the LLMDeployment controls (by ownerReference), and objects of others that stand in their place."""
    pods: tuple[Json, ...] = ()
    """Engine and router pods of this LLMDeployment, those going away included."""

    @property
    def name(self) -> str:
        return str(self.deployment["metadata"]["name"])

    @property
    def namespace(self) -> str:
        return str(self.deployment["metadata"]["namespace"])

    @property
    def uid(self) -> str:
        return str(self.deployment["metadata"]["uid"])


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
