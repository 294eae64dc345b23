"""How replicas come and go, and what the user adds to their pods: `disaggregation`, `drain`, `rollout`, `podTemplate`."""

from typing import Annotated, Any, ClassVar

from pydantic import Field

from tokenfleet.api.rules import Rule, Ruled


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
