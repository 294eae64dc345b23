"""What is: the status of an LLMDeployment and of an LLMRouter, written by the controller alone."""

from typing import Annotated, Any, Literal

from pydantic import Field

from tokenfleet.api.rules import Ruled

_TIME: dict[str, Any] = {"format": "date-time"}


class Condition(Ruled):
    """One aspect of the state, as the Kubernetes API conventions have it."""

    type: Annotated[str, Field(max_length=316)] = Field(
        description="Ready, SpecValid, ModelFits, EngineReady, RouterReady or ScalingReady."
    )
    status: Literal["True", "False", "Unknown"] = Field(description="True, False or Unknown.")
    reason: Annotated[str, Field(max_length=1024)] = Field(
        description="Why, as one CamelCase word; docs/conditions.md lists all."
    )
    message: Annotated[str, Field(max_length=32768)] = Field(description="Why, in words, with the next step.")
    observed_generation: Annotated[int, Field(ge=0)] = Field(description="The generation of the spec that this speaks of.")
    last_transition_time: str = Field(description="When the status last changed.", json_schema_extra=_TIME)


class Failure(Ruled):
    """The last failure of an engine pod, kept after the pod is gone."""

    pod: str = Field(description="The pod's name.")
    reason: str = Field(description="Why, as one CamelCase word.")
    message: str = Field(description="Why, in words, or the last lines of the engine's log.")
    exit_code: int | None = Field(default=None, description="The exit code of the engine's container, where it exited.")
    time: str | None = Field(default=None, description="When the container ended.", json_schema_extra=_TIME)


class Download(Ruled):
    """How far one of the downloads is that run now."""

    pod: str = Field(description="The pod that downloads.")
    bytes: Annotated[int, Field(ge=0)] = Field(description="Bytes that are there, of all files.")
    total_bytes: Annotated[int, Field(ge=0)] = Field(description="Bytes of all files.")
    seconds_left: Annotated[int, Field(ge=0)] | None = Field(
        default=None, description="How long the rest will take at the present speed, in seconds, where that can be said."
    )


class ModelStatus(Ruled):
    """What the model is, as its files say."""

    of: str = Field(description="A digest of the source, the revision and the draft that this was read from.")
    architecture: str = Field(description="As its config.json has it.")
    parameters: str = Field(description="How many, such as 8.03B; of a mixture of experts all of them.")
    weights: str = Field(description="Of its files, such as 15Gi.")
    context_tokens: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="The longest sequence that it was made for."
    )
    facts: dict[str, Any] = Field(description="What planning counts with.")
    draft: dict[str, Any] | None = Field(default=None, description="Likewise, of the draft model.")


class MemoryStatus(Ruled):
    """What one replica's memory is planned to be taken by, of all its devices together."""

    weights: str = Field(description="The model's, such as 15Gi, and those of a draft.")
    kv_cache: str = Field(description="What is left for the KV cache.")
    kv_tokens: Annotated[int, Field(ge=0)] = Field(description="Tokens that the KV cache holds.")
    max_concurrency: Annotated[int, Field(ge=0)] = Field(
        description="Sequences of the greatest length that find room at the same time."
    )


class CostStatus(Ruled):
    """What the engines cost. Absent where the accelerator has no price."""

    currency: str = Field(description="Of all figures.")
    hourly: str = Field(description="Of an hour with the replicas that there are.")
    per_million_tokens: str | None = Field(
        default=None,
        description="Of a million tokens, prompts' and answers' together, as measured over the last hour of use; absent "
        "before there were any.",
    )
    idle_share: str | None = Field(
        default=None, description="Share of that hour's cost that ran while no request was in flight, such as 0.25."
    )


class ScalingDecision(Ruled):
    """One change of the wanted count."""

    time: str = Field(description="When.", json_schema_extra=_TIME)
    before: int = Field(description="Replicas wanted before.")
    after: int = Field(description="Replicas wanted from then on.")
    reason: str = Field(description="Why, as one CamelCase word; docs/scaling.md lists all.")
    message: str = Field(description="Why, in words and figures.")


class Scaling(Ruled):
    """What autoscaling wants."""

    desired: Annotated[int, Field(ge=0)] = Field(description="Replicas wanted.")
    actuator: str = Field(description="Who decides: Builtin, HPA or KEDA.")
    spec_replicas: Annotated[int, Field(ge=0)] = Field(description="spec.replicas as last seen: another one is a new start.")
    last_request_time: str | None = Field(
        default=None, description="When the last request was seen, to the minute.", json_schema_extra=_TIME
    )
    history: list[ScalingDecision] = Field(default=[], description="The last five decisions, the newest first.")


class Draining(Ruled):
    """A pod that gets nothing new, and ends what it has."""

    pod: str = Field(description="Its name.")
    in_flight: Annotated[int, Field(ge=0)] | None = Field(
        default=None, description="Requests that it still has; absent where the routers do not say."
    )
    deadline: str = Field(description="When it goes at the latest.", json_schema_extra=_TIME)


class RolloutFigures(Ruled):
    """What became of the canary's requests, renewed every ten seconds or so while there are any."""

    since: str = Field(description="When its first step began.", json_schema_extra=_TIME)
    time: str = Field(description="As of when.", json_schema_extra=_TIME)
    requests: Annotated[int, Field(ge=0)] = Field(default=0, description="Its answers that ended.")
    failed: Annotated[int, Field(ge=0)] = Field(default=0, description="Those of them that failed by its fault.")
    ttft_milliseconds: Annotated[int, Field(ge=0)] | None = Field(
        default=None,
        description="Time to the first token at the 95th percentile over half a minute; absent where no request came.",
    )
    slow_since: str | None = Field(
        default=None, description="Since when that is above maxTtftMilliseconds.", json_schema_extra=_TIME
    )
    counted_requests: Annotated[int, Field(ge=0)] | None = Field(
        default=None, description="The routers' own counter at that time, from which the next figures are counted on."
    )
    counted_failed: Annotated[int, Field(ge=0)] | None = Field(default=None, description="Likewise, of those that failed.")


class RolloutStatus(Ruled):
    """How far a changed spec is that a canary tries."""

    phase: Literal["Progressing", "Promoting", "RolledBack"] = Field(
        description="Progressing: the canary has a share of the requests. Promoting: all pods are replaced. "
        "RolledBack: the old ones run on."
    )
    revision: str = Field(
        description="What is tried: the generation of the spec that asked for it, and a digest of the pods that it makes. "
        "A spec that makes the same pods, one that was scaled for instance, is the same revision."
    )
    step: Annotated[int, Field(ge=0)] = Field(
        default=0, description="The step of rollout.canary.weights, from 1; 0: its pod is not ready yet."
    )
    weight: Annotated[int, Field(ge=0, le=100)] = Field(
        default=0, description="The canary's share of the requests, in percent."
    )
    began: str = Field(description="When this revision was first seen.", json_schema_extra=_TIME)
    since: str = Field(description="When this phase or step began.", json_schema_extra=_TIME)
    message: str = Field(description="What is waited for, or why it was rolled back.")
    figures: RolloutFigures | None = Field(default=None, description="What it is judged by.")


_CONDITIONS: dict[str, Any] = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}


class LLMDeploymentStatus(Ruled):
    """What is: written by the controller alone."""

    observed_generation: int | None = Field(default=None, description="The generation that this status speaks of.")
    replicas: int | None = Field(default=None, description="Engine pods that exist, those going away left out.")
    ready_replicas: int | None = Field(default=None, description="Engine pods that a router can send to.")
    ready: str | None = Field(default=None, description="readyReplicas/replicas wanted, for people.")
    selector: str | None = Field(default=None, description="Label selector of the engine pods, for /scale.")
    url: str | None = Field(default=None, description="Base URL of the OpenAI-compatible API, inside of the cluster.")
    queue_depth: Annotated[int, Field(ge=0)] | None = Field(
        default=None, description="Requests that wait, as of the last ten seconds or so; absent where the routers do not say."
    )
    in_flight: Annotated[int, Field(ge=0)] | None = Field(
        default=None, description="Requests in flight, as of the last ten seconds or so; absent where the routers do not say."
    )
    model: ModelStatus | None = Field(default=None, description="What the model is, as its files say.")
    memory: MemoryStatus | None = Field(default=None, description="What a replica's memory is planned to be taken by.")
    cost: CostStatus | None = Field(default=None, description="What the engines cost.")
    scaling: Scaling | None = Field(default=None, description="What autoscaling wants, and why.")
    draining: list[Draining] | None = Field(default=None, description="Pods that say goodbye.")
    rollout: RolloutStatus | None = Field(default=None, description="How far a change is that a canary tries.")
    last_failure: Failure | None = Field(default=None, description="The last failure of an engine pod.")
    download: Download | None = Field(default=None, description="A download of the model's files, while one runs.")
    conditions: list[Condition] | None = Field(
        default=None,
        description="Ready, and what it is made of: SpecValid, ModelFits, EngineReady, RouterReady, and ScalingReady where "
        "autoscaled.",
        json_schema_extra=_CONDITIONS,
    )


class LLMRouterStatus(Ruled):
    """What is: written by the controller alone."""

    observed_generation: int | None = Field(default=None, description="The generation that this status speaks of.")
    replicas: int | None = Field(default=None, description="Router pods that exist, those going away left out.")
    ready_replicas: int | None = Field(default=None, description="Router pods that take requests.")
    ready: str | None = Field(default=None, description="readyReplicas/replicas wanted, for people.")
    selector: str | None = Field(default=None, description="Label selector of the router pods, for /scale.")
    url: str | None = Field(default=None, description="Base URL of the OpenAI-compatible API, inside of the cluster.")
    models: list[str] | None = Field(default=None, description="The names that requests may give as `model`.")
    conditions: list[Condition] | None = Field(
        default=None,
        description="Ready, and what it is made of: SpecValid, RouterReady.",
        json_schema_extra=_CONDITIONS,
    )
