"""The spec of an LLMDeployment: its parts, each of which stands in a module of its own."""

from typing import Annotated, ClassVar

from pydantic import Field

from tokenfleet.api.combinations import HARDWARE, TOGETHER
from tokenfleet.api.engine import Engine, Parallelism
from tokenfleet.api.model import Model
from tokenfleet.api.pods import Disaggregation, Drain, PodTemplate, Rollout
from tokenfleet.api.router import Router, only_defaults
from tokenfleet.api.rules import Rule, Ruled
from tokenfleet.api.scalars import ObjectName
from tokenfleet.api.scaling import Autoscaling, Slo


class RouterRef(Ruled):
    """A router that is shared with others."""

    name: ObjectName = Field(description="The name of an LLMRouter in this namespace.")


class LLMDeploymentSpec(Ruled):
    """What the user wants."""

    rules: ClassVar = (
        *HARDWARE,
        *TOGETHER,
        Rule(
            cel="!self.podTemplate.metadata.labels.exists(label, label.startsWith('tokenfleet.dev/'))",
            message="podTemplate must not set labels of tokenfleet.dev: the routers find the engines by them",
            holds=lambda spec: not any(label.startswith("tokenfleet.dev/") for label in spec.pod_template.metadata.labels),
        ),
        Rule(
            cel="!self.podTemplate.metadata.annotations.exists(name, name.startsWith('tokenfleet.dev/'))",
            message="podTemplate must not set annotations of tokenfleet.dev: the routers take them for the controller's",
            holds=lambda spec: not any(name.startswith("tokenfleet.dev/") for name in spec.pod_template.metadata.annotations),
        ),
        Rule(
            cel=f"!has(self.routerRef) || ({only_defaults('self.router', Router())})",
            message="router and routerRef exclude each other: put router's settings into the LLMRouter, or remove routerRef",
            holds=lambda spec: spec.router_ref is None or spec.router == Router(),
        ),
        Rule(
            cel="!has(self.slo) || !has(self.autoscaling) || self.autoscaling.actuator == 'Builtin'",
            message="slo needs autoscaling.actuator Builtin: the others scale by queue and in-flight alone",
            holds=lambda spec: spec.slo is None or spec.autoscaling is None or spec.autoscaling.actuator == "Builtin",
        ),
        Rule(
            cel="!has(self.slo) || has(self.autoscaling)",
            message="slo needs autoscaling, which keeps it: add autoscaling, or remove slo",
            holds=lambda spec: spec.slo is None or spec.autoscaling is not None,
        ),
    )

    model: Model = Field(description="Which model, and where its files are.")
    accelerator: Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")] = Field(
        description="What a replica runs on: `cpu`, `nvidia` (any NVIDIA GPU), or a class such as nvidia-h100-80gb; "
        "docs/accelerators.md lists them. `simulated` runs no model at all: a simulator answers, for drills.",
        examples=["nvidia-h100-80gb"],
    )
    parallelism: Parallelism = Field(default=Parallelism(), description="GPUs of one replica.")
    engine: Engine = Field(default=Engine(), description="How vLLM runs the model.")
    disaggregation: Disaggregation | None = Field(
        default=None,
        description="Read prompts on pods of their own, so that long ones hold up no answers. Absent: each replica does both.",
    )
    replicas: Annotated[int, Field(ge=0, le=1000)] = Field(
        default=1,
        description="Engine pods. `kubectl scale` sets it. With autoscaling: how many there are at first, and anew "
        "whenever it changes.",
    )
    autoscaling: Autoscaling | None = Field(default=None, description="Replicas by demand. Absent: `replicas`.")
    slo: Slo | None = Field(default=None, description="What users are promised: autoscaling adds replicas to keep it.")
    suspend: bool = Field(default=False, description="Run no pod of it, and keep all else. What runs is drained first.")
    router: Router = Field(default=Router(), description="The router in front of the engines.")
    router_ref: RouterRef | None = Field(
        default=None,
        description="An LLMRouter that serves this model instead of a router of its own. Absent: a router of its own.",
    )
    drain: Drain = Field(default=Drain(), description="How replicas say goodbye.")
    continue_streams: bool = Field(
        default=True,
        description="Let a stream whose engine is lost go on with another replica, where that can give the same answer. "
        "A request's header x-tokenfleet-continue: off forbids it.",
    )
    rollout: Rollout = Field(default=Rollout(), description="How a changed engine replaces the old one.")
    pod_template: PodTemplate = Field(default=PodTemplate(), description="Merged last into the engine pods.")

    @property
    def sources(self) -> tuple[str, ...]:
        """Of all files that an engine reads: the model's, the draft's and the adapters'."""
        draft = self.engine.speculative.draft_model if self.engine.speculative is not None else None
        return (*self.model.sources, *([draft] if draft is not None else []))
