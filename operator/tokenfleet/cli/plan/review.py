"""What a plan says of one LLMDeployment: does it fit, how fast is it, what does it cost, and are the devices there. Pure.

Each part says either what it is, or in a sentence why that cannot be told. `problems` are why it would not work, `risks` what
a strict check refuses beside: promises that are not kept, and devices that are not free now.
"""

from dataclasses import dataclass, field, replace
from typing import Any, Final

from tokenfleet.api.v1alpha1 import LLMDeploymentSpec
from tokenfleet.cli.plan.changes import Children
from tokenfleet.cli.plan.units import span
from tokenfleet.controller.observed import Json
from tokenfleet.planning.accelerators import Accelerator
from tokenfleet.planning.capacity import Capacity
from tokenfleet.planning.cost import hourly
from tokenfleet.planning.memory import estimate_memory
from tokenfleet.planning.memory.memory import Memory
from tokenfleet.planning.model import ModelFacts
from tokenfleet.planning.serving_of import serving_of
from tokenfleet.planning.speed import UnknownSpeed, estimate_speed, max_rate
from tokenfleet.planning.speed.speed import Calibration, Speed, Workload

_PERCENTILE: Final = 0.95
"""At which spec.slo is promised."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """What is asked of all replicas together."""

    input_tokens: int = 1024
    output_tokens: int = 256
    rate: float | None = None
    ttft: float | None = None
    itl: float | None = None

    def promised(self, spec: LLMDeploymentSpec) -> "Traffic":
        """With what spec.slo promises, where no option does."""
        if spec.slo is None:
            return self
        ttft, itl = spec.slo.ttft_milliseconds, spec.slo.itl_milliseconds
        return replace(
            self,
            ttft=self.ttft if self.ttft is not None or ttft is None else ttft / 1000,
            itl=self.itl if self.itl is not None or itl is None else itl / 1000,
        )

    @property
    def promises(self) -> str:
        said = [f"{name} {span(value)}" for name, value in (("TTFT", self.ttft), ("ITL", self.itl)) if value is not None]
        return " and ".join(said)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Of one replica."""

    alone: Speed
    """With a single request at a time."""
    capacity: float
    """Requests a second within what is promised; 0: not even one is."""
    loaded: Speed | None
    """At its share of the traffic's rate, where one is asked for."""
    traffic: Traffic


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """Of an hour."""

    currency: str
    least: float
    most: float
    """Where autoscaling adds all that it may."""
    replicas: tuple[int, int]


@dataclass(slots=True)
class Review:
    """Of one object; an LLMRouter has children alone."""

    kind: str
    namespace: str
    name: str
    where: str
    accelerator: Accelerator | None = None
    memory: Memory | None = None
    pace: Pace | None = None
    bill: Bill | None = None
    capacity: Capacity | None = None
    children: Children | None = None
    rollout: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    risks: list[str] = field(default_factory=list)
    untold: list[str] = field(default_factory=list)

    def passes(self, *, strict: bool) -> bool:
        return not self.problems and not (strict and self.risks)

    @property
    def changes(self) -> bool:
        return self.children is not None and bool(self.children.changes)


def known_facts(before: Json | None, after: Json) -> tuple[ModelFacts, ModelFacts | None] | None:
    """The model's and its draft's, as the controller read them, where the object still names the same files."""
    model = ((before or {}).get("status") or {}).get("model")
    if before is None or model is None or _sources(before) != _sources(after):
        return None
    try:
        draft = model.get("draft")
        return ModelFacts.from_json(model["facts"]), None if draft is None else ModelFacts.from_json(draft)
    except (KeyError, TypeError):
        return None


def _sources(owner: Json) -> tuple[Any, ...]:
    model = owner["spec"]["model"]
    speculative = (owner["spec"].get("engine") or {}).get("speculative") or {}
    return model.get("source"), model.get("revision"), speculative.get("draftModel"), speculative.get("draftRevision")


def add_figures(
    review: Review,
    spec: LLMDeploymentSpec,
    accelerator: Accelerator,
    facts: tuple[ModelFacts, ModelFacts | None],
    traffic: Traffic,
    calibration: Calibration | None,
) -> None:
    """Whether it fits, and how fast it is."""
    model, draft = facts
    if accelerator.memory is None and accelerator.resource is not None:
        review.untold.append(f"The memory of {accelerator.name} is not known, so whether the model fits cannot be told.")
        return
    serving = serving_of(spec, accelerator, draft=draft)
    review.memory = memory = estimate_memory(model, serving)
    if not memory.fits:
        fixes = f": {', or '.join(memory.fixes)}" if memory.fixes else ""
        where = " on each device" if accelerator.resource is not None else ""
        missing = memory.shortage / (1 << 30)
        review.problems.append(f"The model does not fit: {missing:.1f} GiB are missing{where}{fixes}.")
        return
    promised = traffic.promised(spec)
    lengths = {"input_tokens": promised.input_tokens, "output_tokens": promised.output_tokens}
    if sum(lengths.values()) > memory.max_model_len:
        review.problems.append(
            f"A request of {promised.input_tokens} + {promised.output_tokens} tokens is longer than maxModelLen "
            f"{memory.max_model_len}: raise spec.engine.maxModelLen, or give --input and --output."
        )
        return
    try:
        alone = estimate_speed(model, serving, Workload(concurrency=1, **lengths), calibration, memory=memory)
        able = max_rate(
            model,
            serving,
            ttft=promised.ttft,
            itl=promised.itl,
            percentile=_PERCENTILE,
            calibration=calibration,
            memory=memory,
            **lengths,
        )
    except UnknownSpeed as error:
        review.untold.append(f"{error}.")
        return
    replicas = max(1, _replicas(spec)[1])
    loaded = None
    if promised.rate is not None:
        workload = Workload(rate=promised.rate / replicas, **lengths)
        loaded = estimate_speed(model, serving, workload, calibration, memory=memory)
    review.pace = Pace(alone=alone, capacity=able, loaded=loaded, traffic=promised)
    _judge(review, review.pace, replicas)


def _judge(review: Review, pace: Pace, replicas: int) -> None:
    """What is promised, and not kept."""
    rate, promises = pace.traffic.rate, pace.traffic.promises
    if pace.capacity <= 0:
        review.risks.append(f"The promise of {promises} is not kept, even with one request at a time.")
    elif rate is not None and rate > pace.capacity * replicas:
        within = f" within {promises}" if promises else ""
        review.risks.append(
            f"{rate:g} requests/s are more than {replicas} replica{'s' * (replicas != 1)} can take{within}: "
            f"{pace.capacity * replicas:.2f}."
        )


def add_bill(review: Review, spec: LLMDeploymentSpec, accelerator: Accelerator, *, spot: bool) -> None:
    least, most = _replicas(spec)
    extra = spec.disaggregation.prefill.replicas if spec.disaggregation is not None else 0
    gpus = spec.parallelism.gpus
    costs = [hourly(accelerator, gpus, count + (extra if count else 0), spot=spot) for count in (least, most)]
    if costs[0] is None or costs[1] is None or accelerator.price is None:
        if accelerator.resource is not None:
            review.untold.append(f"{accelerator.name} has no price, so the cost cannot be told: docs/accelerators.md.")
        return
    currency = accelerator.price.currency
    review.bill = Bill(currency=currency, least=costs[0], most=costs[1], replicas=(least, most))


def _replicas(spec: LLMDeploymentSpec) -> tuple[int, int]:
    """The fewest and the most that may run."""
    if spec.suspend:
        return 0, 0
    if spec.autoscaling is not None:
        return spec.autoscaling.min_replicas, spec.autoscaling.max_replicas
    return spec.replicas, spec.replicas
