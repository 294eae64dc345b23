"""How replicas come and go, and what the user adds to their pods: `disaggregation`, `drain`, `rollout`, `podTemplate`."""

from typing import Annotated, Any, ClassVar

from pydantic import Field

from tokenfleet.api.rules import Rule, Ruled
from tokenfleet.api.scalars import FRACTION


class Prefill(Ruled):
    """Engine pods that read prompts and do no more."""

    replicas: Annotated[int, Field(ge=1, le=1000)] = Field(
        default=1, description="Pods that read prompts, each with as many GPUs as a replica. None run while spec.replicas is 0."
    )


class Disaggregation(Ruled):
    """Prompts are read by pods of their own, and their KV cache is fetched from there."""

    prefill: Prefill = Field(default=Prefill(), description="Pods that read prompts. `spec.replicas` are those that answer.")


class Drain(Ruled):
    """How replicas say goodbye."""

    timeout_seconds: Annotated[int, Field(ge=1, le=86400)] = Field(
        default=600,
        description="How long running requests of a pod that goes away may go on, in seconds. The pod's grace period is "
        "derived from it.",
    )


class Canary(Ruled):
    """A changed engine is tried by one pod first."""

    rules: ClassVar = (
        Rule(
            cel="self.weights.isSorted() && self.weights.all(one, self.weights.exists_one(other, other == one))",
            message="weights must rise: name each share once, the smallest first",
            holds=lambda canary: list(canary.weights) == sorted(set(canary.weights)),
        ),
    )

    weights: Annotated[list[Annotated[int, Field(ge=1, le=100)]], Field(min_length=1, max_length=10)] = Field(
        default=[10, 50], description="Shares of the requests that it gets, step by step, in percent."
    )
    pause_seconds: Annotated[int, Field(ge=1, le=86_400)] = Field(
        default=60, description="How long each step is watched, in seconds."
    )
    max_error_rate: Annotated[str, Field(pattern=FRACTION)] = Field(
        default="0.02",
        description="The part of its requests that may fail by its fault, as a decimal in quotes. "
        "More, and the change is rolled back.",
    )
    max_ttft_milliseconds: Annotated[int, Field(ge=1, le=3_600_000)] | None = Field(
        default=None,
        description="Time to the first token at the 95th percentile, in milliseconds, above which the change is rolled back. "
        "Default: not looked at.",
    )


class Rollout(Ruled):
    """How a changed engine replaces the old one."""

    rules: ClassVar = (
        Rule(
            cel="self.maxSurge > 0 || self.maxUnavailable > 0",
            message="maxSurge and maxUnavailable cannot both be 0: a rollout could never begin; "
            "set maxSurge to 1, or maxUnavailable to 1 where no GPU is spare",
            holds=lambda rollout: rollout.max_surge > 0 or rollout.max_unavailable > 0,
        ),
    )

    max_surge: Annotated[int, Field(ge=0, le=1000)] = Field(
        default=1, description="Replicas above `replicas` while a rollout runs. Each needs GPUs of its own."
    )
    max_unavailable: Annotated[int, Field(ge=0, le=1000)] = Field(
        default=0, description="Replicas below `replicas` while a rollout runs."
    )
    canary: Canary | None = Field(
        default=None, description="Try a change on a share of the requests first. Absent: it rolls out at once."
    )


class TemplateMetadata(Ruled):
    """More metadata for the engine pods."""

    labels: dict[str, str] = Field(default={}, description="More labels. Those of tokenfleet.dev are Tokenfleet's.")
    annotations: dict[str, str] = Field(default={}, description="More annotations.")


class PodTemplate(Ruled):
    """Merged last into the engine pods."""

    metadata: TemplateMetadata = Field(default=TemplateMetadata(), description="Labels and annotations.")
    spec: dict[str, Any] = Field(
        default={},
        description="A part of a PodSpec. Lists of named items (containers, env, volumes, volumeMounts, ...) are merged by "
        "name: the engine's container is called `engine`.",
    )
