"""How many replicas run: `autoscaling`, and the `slo` that it may keep.

What each actuator cannot do is refused here rather than ignored. Whether a cron line and a time zone can be read is checked in
Python alone (CEL knows neither), so such a spec is taken by the API server and told by the condition SpecValid.
"""

from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError
from pydantic import Field, field_validator

from tokenfleet.api.rules import Rule, Ruled

Count = Annotated[int, Field(ge=0, le=1000)]
Milliseconds = Annotated[int, Field(ge=1, le=3_600_000)]


class Slo(Ruled):
    """What users are promised, at the 95th percentile."""

    rules: ClassVar = (
        Rule(
            cel="has(self.ttftMilliseconds) || has(self.itlMilliseconds)",
            message="slo must promise something: set ttftMilliseconds or itlMilliseconds, or remove slo",
            holds=lambda slo: slo.ttft_milliseconds is not None or slo.itl_milliseconds is not None,
        ),
    )

    ttft_milliseconds: Milliseconds | None = Field(default=None, description="Time to the first token, in milliseconds.")
    itl_milliseconds: Milliseconds | None = Field(
        default=None, description="Time between two tokens of an answer, in milliseconds."
    )


class ScaleDown(Ruled):
    """How replicas become fewer."""

    stabilization_seconds: Annotated[int, Field(ge=0, le=86_400)] = Field(
        default=300,
        description="For how long the load must have fitted on fewer replicas until they go, in seconds; "
        "then the wait begins anew.",
    )


class Schedule(Ruled):
    """Other bounds from a time on."""

    rules: ClassVar = (
        Rule(
            cel="!has(self.maxReplicas) || self.minReplicas <= self.maxReplicas",
            message="minReplicas must not be above maxReplicas",
            holds=lambda schedule: schedule.max_replicas is None or schedule.min_replicas <= schedule.max_replicas,
        ),
    )

    cron: Annotated[str, Field(min_length=1, max_length=120)] = Field(
        description="When it begins: minute, hour, day of month, month, day of week. It holds until another one begins.",
        examples=["0 8 * * 1-5"],
    )
    timezone: Annotated[str, Field(min_length=1, max_length=64)] = Field(
        default="UTC", description="Time zone of `cron`, as the IANA database names it, such as Europe/Paris."
    )
    min_replicas: Count = Field(description="Instead of autoscaling's.")
    max_replicas: Annotated[int, Field(ge=1, le=1000)] | None = Field(
        default=None, description="Instead of autoscaling's. Default: autoscaling's."
    )

    @field_validator("cron")
    @classmethod
    def _is_cron(cls, cron: str) -> str:
        if len(cron.split()) != 5:
            raise ValueError('must have five parts, such as "0 8 * * 1-5": minute, hour, day of month, month, day of week')
        try:
            CronSim(cron, datetime(2026, 1, 1))
        except CronSimError as error:
            raise ValueError(f'must be a cron line such as "0 8 * * 1-5" ({error})') from None
        return cron

    @field_validator("timezone")
    @classmethod
    def _is_timezone(cls, timezone: str) -> str:
        try:
            ZoneInfo(timezone)
        except (ValueError, OSError, KeyError):
            raise ValueError("must be a time zone of the IANA database, such as Europe/Paris or UTC") from None
        return timezone


def _only_builtin(field: str, *, cel: str, why: str, holds: Any) -> Rule:
    return Rule(
        cel=f"self.actuator == 'Builtin' || {cel}",
        message=f"{field} needs actuator Builtin: {why}",
        holds=lambda scaling: scaling.actuator == "Builtin" or holds(scaling),
    )


class Autoscaling(Ruled):
    """Replicas by demand."""

    rules: ClassVar = (
        Rule(
            cel="self.minReplicas <= self.maxReplicas",
            message="minReplicas must not be above maxReplicas",
            holds=lambda scaling: scaling.min_replicas <= scaling.max_replicas,
        ),
        Rule(
            cel="has(self.scaleToZeroAfterSeconds) == (self.minReplicas == 0)",
            message="minReplicas 0 and scaleToZeroAfterSeconds go together: set both to scale to zero, or neither",
            holds=lambda scaling: (scaling.scale_to_zero_after_seconds is not None) == (scaling.min_replicas == 0),
        ),
        Rule(
            cel="has(self.scaleToZeroAfterSeconds) || self.schedules.all(one, one.minReplicas > 0)",
            message="a schedule's minReplicas 0 needs scaleToZeroAfterSeconds: set it, and minReplicas to 0",
            holds=lambda scaling: (
                scaling.scale_to_zero_after_seconds is not None or all(one.min_replicas > 0 for one in scaling.schedules)
            ),
        ),
        Rule(
            cel="self.schedules.all(one, has(one.maxReplicas) || one.minReplicas <= self.maxReplicas)",
            message="a schedule's minReplicas must not be above maxReplicas: raise maxReplicas, or give the schedule one",
            holds=lambda scaling: all(
                one.max_replicas is not None or one.min_replicas <= scaling.max_replicas for one in scaling.schedules
            ),
        ),
        Rule(
            cel="self.actuator != 'HPA' || self.minReplicas > 0",
            message="minReplicas 0 needs actuator Builtin or KEDA: a HorizontalPodAutoscaler does not scale to zero",
            holds=lambda scaling: scaling.actuator != "HPA" or scaling.min_replicas > 0,
        ),
        _only_builtin(
            "scaleDown.stabilizationSeconds above 1800",
            cel="self.scaleDown.stabilizationSeconds <= 1800",
            why="a HorizontalPodAutoscaler limits what goes in half an hour at most",
            holds=lambda scaling: scaling.scale_down.stabilization_seconds <= 1800,
        ),
        _only_builtin(
            "schedules",
            cel="self.schedules.size() == 0",
            why="a HorizontalPodAutoscaler has none, and a ScaledObject would not know which one holds",
            holds=lambda scaling: not scaling.schedules,
        ),
    )

    min_replicas: Count = Field(
        default=1, description="Replicas at least. 0: none after scaleToZeroAfterSeconds without one request."
    )
    max_replicas: Annotated[int, Field(ge=1, le=1000)] = Field(description="Replicas at most.")
    queue_depth: Annotated[int, Field(ge=1, le=100_000)] = Field(
        default=5, description="Requests that may wait for each replica; more, and there will be another replica."
    )
    concurrency: Annotated[int, Field(ge=1, le=100_000)] | None = Field(
        default=None,
        description="Requests in flight on each replica that are wanted. Default: what a replica takes at most, "
        "by router.maxInFlight.",
    )
    actuator: Literal["Builtin", "HPA", "KEDA"] = Field(
        default="Builtin",
        description="Who decides. Builtin: the controller. HPA: a HorizontalPodAutoscaler that it makes. KEDA: a ScaledObject.",
    )
    scale_down: ScaleDown = Field(default=ScaleDown(), description="How replicas become fewer.")
    scale_to_zero_after_seconds: Annotated[int, Field(ge=1, le=2_592_000)] | None = Field(
        default=None,
        description="Without a request for this long, in seconds, no replica runs. The next request wakes the model.",
    )
    schedules: Annotated[list[Schedule], Field(max_length=16)] = Field(
        default=[], description="Other bounds at other times. The schedule that began last holds."
    )
