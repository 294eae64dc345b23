"""What is: the status of an LLMDeployment and of an LLMRouter, written by the controller alone."""

from typing import Annotated, Any, Literal

from pydantic import Field

from tokenfleet.api.rules import Ruled


class Condition(Ruled):
    """One aspect of the state, as the Kubernetes API conventions have it."""

    type: Annotated[str, Field(max_length=316)] = Field(description="Ready, SpecValid, EngineReady or RouterReady.")
    status: Literal["True", "False", "Unknown"] = Field(description="True, False or Unknown.")
    reason: Annotated[str, Field(max_length=1024)] = Field(
        description="Why, as one CamelCase word; docs/conditions.md lists all."
    )
    message: Annotated[str, Field(max_length=32768)] = Field(description="Why, in words, with the next step.")
    observed_generation: Annotated[int, Field(ge=0)] = Field(description="The generation of the spec that this speaks of.")
    last_transition_time: str = Field(description="When the status last changed.", json_schema_extra={"format": "date-time"})


class Failure(Ruled):
    """The last failure of an engine pod, kept after the pod is gone."""

    pod: str = Field(description="The pod's name.")
    reason: str = Field(description="Why, as one CamelCase word.")
    message: str = Field(description="Why, in words, or the last lines of the engine's log.")
    exit_code: int | None = Field(default=None, description="The exit code of the engine's container, where it exited.")
    time: str | None = Field(default=None, description="When the container ended.", json_schema_extra={"format": "date-time"})


class Download(Ruled):
    """How far one of the downloads is that run now."""

    pod: str = Field(description="The pod that downloads.")
    bytes: Annotated[int, Field(ge=0)] = Field(description="Bytes that are there, of all files.")
    total_bytes: Annotated[int, Field(ge=0)] = Field(description="Bytes of all files.")
    seconds_left: Annotated[int, Field(ge=0)] | None = Field(
        default=None, description="How long the rest will take at the present speed, in seconds, where that can be said."
    )


_CONDITIONS: dict[str, Any] = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}


class LLMDeploymentStatus(Ruled):
    """What is: written by the controller alone."""

    observed_generation: int | None = Field(default=None, description="The generation that this status speaks of.")
    replicas: int | None = Field(default=None, description="Engine pods that exist, those going away left out.")
    ready_replicas: int | None = Field(default=None, description="Engine pods that a router can send to.")
    ready: str | None = Field(default=None, description="readyReplicas/replicas wanted, for people.")
    selector: str | None = Field(default=None, description="Label selector of the engine pods, for /scale.")
    url: str | None = Field(default=None, description="Base URL of the OpenAI-compatible API, inside of the cluster.")
    last_failure: Failure | None = Field(default=None, description="The last failure of an engine pod.")
    download: Download | None = Field(default=None, description="A download of the model's files, while one runs.")
    conditions: list[Condition] | None = Field(
        default=None,
        description="Ready, and what it is made of: SpecValid, EngineReady, RouterReady.",
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
