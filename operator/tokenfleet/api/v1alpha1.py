"""The models of tokenfleet.dev/v1alpha1: spec and status of an LLMDeployment and of an LLMRouter.

What a field promises works, or the field is not here. Defaults that will not change with a release stand here, and so in the
CRD, where `kubectl get -o yaml` shows them; what may change (images, probes, engine flags) is resolved by the controller.
Every field has a description, which `kubectl explain` shows. What both kinds say of a router stands in router.py.
"""

import re
from collections.abc import Callable, Iterable
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import Field, ValidationError

from tokenfleet import contract
from tokenfleet.api.router import FRACTION, Router, only_defaults
from tokenfleet.api.rules import Rule, Ruled
from tokenfleet.errors import InvalidSpec

_SOURCE = "^pvc://[a-z0-9]([-a-z0-9.]*[a-z0-9])?(/[A-Za-z0-9._-]+)*$"
_NAME = "^[a-z]([-a-z0-9]*[a-z0-9])?$"
_SHOWN = 80
_Model = TypeVar("_Model", bound=Ruled)

OWNED_FLAGS = (
    "api-key",
    "api-server-count",
    "config",
    "data-parallel-size",
    "headless",
    "host",
    "middleware",
    "model",
    "pipeline-parallel-size",
    "port",
    "root-path",
    "served-model-name",
    "shutdown-timeout",
    "tensor-parallel-size",
    "uds",
)
"""vLLM's flags that `extraArgs` may not set (nor any `--ssl-*`): the pod around the engine depends on their values."""

_TRANSFER = "^--kv-transfer-config(=|$)"
_OWNED = f"^(--ssl-|(--({'|'.join(OWNED_FLAGS)})|-(dp|pp|tp))(=|$))"


ModelName = Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[A-Za-z0-9]([A-Za-z0-9._:/-]*)$")]
"""What requests may call a model."""
ObjectName = Annotated[str, Field(min_length=1, max_length=contract.MAX_NAME_LENGTH, pattern=_NAME)]
"""The name of an LLMDeployment or an LLMRouter."""


def _matches(pattern: str, text: str) -> bool:
    """As the API server's regular expressions have it: `$` is the end of the text, also where that is a line break."""
    return re.search(pattern.replace("$", r"\Z"), text) is not None


class Model(Ruled):
    """Which model, and where its files are."""

    rules: ClassVar = (
        Rule(
            cel=f"self.source.matches('{_SOURCE}')",
            message="source must be pvc://CLAIM/PATH: a PersistentVolumeClaim of this namespace and the model's folder in it",
            holds=lambda model: _matches(_SOURCE, model.source),
        ),
        Rule(
            cel="!self.source.contains('/../') && !self.source.endsWith('/..') && !self.source.contains('/./') && "
            "!self.source.endsWith('/.')",
            message="source must not contain '.' or '..' segments; write the path from the root of the claim",
            holds=lambda model: not {".", ".."} & set(model.source.split("/")),
        ),
    )

    source: Annotated[str, Field(max_length=1024)] = Field(
        description="Where the model's files are: pvc://CLAIM/PATH, a PersistentVolumeClaim of this namespace and the folder "
        "in it that holds config.json and the safetensors.",
        examples=["pvc://models/llama-3-8b"],
    )
    served_name: ModelName | None = Field(
        default=None, description="The name that requests give as `model`. Default: the LLMDeployment's name."
    )


class Parallelism(Ruled):
    """How one replica is split over GPUs. A replica takes tensor * pipeline of them."""

    tensor: Annotated[int, Field(ge=1, le=64)] = Field(
        default=1,
        description="GPUs that share each layer (tensor parallelism). Must divide the model's attention heads.",
    )
    pipeline: Annotated[int, Field(ge=1, le=64)] = Field(
        default=1, description="Groups of layers, each on GPUs of its own (pipeline parallelism)."
    )

    @property
    def gpus(self) -> int:
        """GPUs of one replica."""
        return self.tensor * self.pipeline


class Batching(Ruled):
    """vLLM's continuous batching. What is absent is chosen by vLLM for the hardware."""

    rules: ClassVar = (
        Rule(
            cel="!has(self.maxNumSeqs) || !has(self.maxNumBatchedTokens) || self.maxNumBatchedTokens >= self.maxNumSeqs",
            message="maxNumBatchedTokens must be at least maxNumSeqs: every running sequence needs one token a step",
            holds=lambda batching: (
                batching.max_num_seqs is None
                or batching.max_num_batched_tokens is None
                or batching.max_num_batched_tokens >= batching.max_num_seqs
            ),
        ),
    )

    max_num_seqs: Annotated[int, Field(ge=1, le=65536)] | None = Field(
        default=None, description="Sequences that run in one batch at most. Default: vLLM's."
    )
    max_num_batched_tokens: Annotated[int, Field(ge=1, le=16777216)] | None = Field(
        default=None, description="Tokens of one step at most, prefill and decode together. Default: vLLM's."
    )
    chunked_prefill: bool = Field(
        default=True,
        description="Split long prompts into chunks, so that running streams go on while a prompt is read.",
    )


class Engine(Ruled):
    """How vLLM runs the model."""

    rules: ClassVar = (
        Rule(
            cel="self.batching.chunkedPrefill || !has(self.maxModelLen) || !has(self.batching.maxNumBatchedTokens) || "
            "self.batching.maxNumBatchedTokens >= self.maxModelLen",
            message="without chunkedPrefill a whole prompt is one step: "
            "set batching.maxNumBatchedTokens to at least maxModelLen, or turn chunkedPrefill on",
            holds=lambda engine: (
                engine.batching.chunked_prefill
                or engine.max_model_len is None
                or engine.batching.max_num_batched_tokens is None
                or engine.batching.max_num_batched_tokens >= engine.max_model_len
            ),
        ),
        Rule(
            cel=f"!self.extraArgs.exists(argument, argument.replace('_', '-').matches('{_OWNED}'))",
            message=f"extraArgs must not set --{', --'.join(OWNED_FLAGS)}, -dp, -pp, -tp or --ssl-*: the pod around the "
            "engine depends on them; use model, parallelism, drain, or a flag for each setting instead",
            holds=lambda engine: not any(_matches(_OWNED, flag.replace("_", "-")) for flag in engine.extra_args),
        ),
    )

    dtype: Literal["auto", "bfloat16", "float16", "float32"] = Field(
        default="auto", description="Type of the weights and activations. auto: as the model's config.json says."
    )
    max_model_len: Annotated[int, Field(ge=1, le=16777216)] | None = Field(
        default=None,
        description="Tokens of one sequence at most, prompt and answer together. Default: the model's own limit.",
    )
    gpu_memory_utilization: Annotated[str, Field(pattern=FRACTION)] = Field(
        default="0.90",
        description="Share of each GPU's memory that vLLM takes for weights, activations and KV cache. A decimal in quotes, "
        'such as "0.90". Without effect on `cpu`, where the KV cache has 1 GiB unless extraArgs set --kv-cache-memory-bytes.',
    )
    batching: Batching = Field(default=Batching(), description="Continuous batching.")
    prefix_caching: bool = Field(
        default=True,
        description="Keep the KV blocks of prompts, so that a prompt with the same beginning skips that part.",
    )
    extra_args: Annotated[list[Annotated[str, Field(min_length=1, max_length=1024)]], Field(max_length=64)] = Field(
        default=[], description="More flags for vLLM, one word an item, after those that Tokenfleet sets."
    )


class RouterRef(Ruled):
    """A router that is shared with others."""

    name: ObjectName = Field(description="The name of an LLMRouter in this namespace.")


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


class LLMDeploymentSpec(Ruled):
    """What the user wants."""

    rules: ClassVar = (
        Rule(
            cel="self.accelerator != 'cpu' || (self.parallelism.tensor == 1 && self.parallelism.pipeline == 1)",
            message="parallelism needs GPUs: leave tensor and pipeline at 1 on accelerator cpu, or name a GPU class",
            holds=lambda spec: spec.accelerator != "cpu" or spec.parallelism.gpus == 1,
        ),
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
            cel="!has(self.disaggregation) || self.parallelism.pipeline == 1",
            message="disaggregation needs parallelism.pipeline 1: vLLM cannot fetch a KV cache into a pipeline; raise tensor",
            holds=lambda spec: spec.disaggregation is None or spec.parallelism.pipeline == 1,
        ),
        Rule(
            cel="!has(self.disaggregation) || !self.engine.extraArgs.exists(argument, "
            f"argument.replace('_', '-').matches('{_TRANSFER}'))",
            message="extraArgs must not set --kv-transfer-config where disaggregation is on: it is what disaggregation sets",
            holds=lambda spec: (
                spec.disaggregation is None
                or not any(_matches(_TRANSFER, flag.replace("_", "-")) for flag in spec.engine.extra_args)
            ),
        ),
        Rule(
            cel=f"!has(self.routerRef) || ({only_defaults('self.router', Router())})",
            message="router and routerRef exclude each other: put router's settings into the LLMRouter, or remove routerRef",
            holds=lambda spec: spec.router_ref is None or spec.router == Router(),
        ),
    )

    model: Model = Field(description="Which model, and where its files are.")
    accelerator: Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")] = Field(
        description="What a replica runs on: `cpu`, `nvidia` (any NVIDIA GPU), or a class such as nvidia-h100-80gb; "
        "docs/accelerators.md lists them.",
        examples=["nvidia-h100-80gb"],
    )
    parallelism: Parallelism = Field(default=Parallelism(), description="GPUs of one replica.")
    engine: Engine = Field(default=Engine(), description="How vLLM runs the model.")
    disaggregation: Disaggregation | None = Field(
        default=None,
        description="Read prompts on pods of their own, so that long ones hold up no answers. Absent: each replica does both.",
    )
    replicas: Annotated[int, Field(ge=0, le=1000)] = Field(default=1, description="Engine pods. `kubectl scale` sets it.")
    router: Router = Field(default=Router(), description="The router in front of the engines.")
    router_ref: RouterRef | None = Field(
        default=None,
        description="An LLMRouter that serves this model instead of a router of its own. Absent: a router of its own.",
    )
    drain: Drain = Field(default=Drain(), description="How replicas say goodbye.")
    rollout: Rollout = Field(default=Rollout(), description="How a changed engine replaces the old one.")
    pod_template: PodTemplate = Field(default=PodTemplate(), description="Merged last into the engine pods.")


class Target(Ruled):
    """An LLMDeployment that answers for a model."""

    deployment: ObjectName = Field(description="An LLMDeployment of this namespace whose routerRef names this LLMRouter.")
    weight: Annotated[int, Field(ge=0, le=1000)] = Field(
        default=1,
        description="Its share of the model's requests, relative to the other targets'. 0: only what no other has room for.",
    )


class Route(Ruled):
    """How the requests for one model are spread."""

    rules: ClassVar = (
        Rule(
            cel="self.targets.all(one, self.targets.exists_one(other, other.deployment == one.deployment))",
            message="targets must not name a deployment twice: add up the two weights",
            holds=lambda route: _distinct(target.deployment for target in route.targets),
        ),
        Rule(
            cel="self.targets.size() == 0 || self.targets.exists(one, one.weight > 0)",
            message="targets must not all have the weight 0: give one of them a share",
            holds=lambda route: not route.targets or any(target.weight > 0 for target in route.targets),
        ),
        Rule(
            cel="!(self.model in self.fallbacks) && self.fallbacks.all(one, self.fallbacks.exists_one(other, other == one))",
            message="fallbacks must be other models than the route's own, each named once: remove what is named twice",
            holds=lambda route: _distinct((route.model, *route.fallbacks)),
        ),
        Rule(
            cel="self.targets.size() > 0 || self.fallbacks.size() > 0",
            message="a route must have targets or fallbacks: without one, a model is served by all that have its servedName",
            holds=lambda route: bool(route.targets or route.fallbacks),
        ),
    )

    model: ModelName = Field(description="The name that requests give as `model`.")
    targets: Annotated[list[Target], Field(max_length=16)] = Field(
        default=[],
        description="What answers. Default: every LLMDeployment of this router whose servedName is `model`, in equal shares.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["deployment"]},
    )
    fallbacks: Annotated[list[ModelName], Field(max_length=8)] = Field(
        default=[], description="Models that answer instead while this one has no place for a request, in order."
    )


class LLMRouterSpec(Router):
    """What the user wants of a shared router."""

    rules: ClassVar = (
        *Router.rules,
        Rule(
            cel="self.routes.all(one, self.routes.exists_one(other, other.model == one.model))",
            message="routes must not name a model twice: make one route of the two",
            holds=lambda spec: _distinct(route.model for route in spec.routes),
        ),
    )

    drain: Drain = Field(default=Drain(), description="How router pods say goodbye.")
    routes: Annotated[list[Route], Field(max_length=64)] = Field(
        default=[],
        description="Models that several LLMDeployments share, or that others stand in for. Each LLMDeployment whose routerRef "
        "names this LLMRouter is served under its servedName without one.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["model"]},
    )


def _distinct(names: Iterable[str]) -> bool:
    listed = list(names)
    return len(set(listed)) == len(listed)


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


NAME_RULE = Rule(
    cel=f"self.metadata.name.size() <= {contract.MAX_NAME_LENGTH} && self.metadata.name.matches('{_NAME}')",
    message=f"metadata.name must begin with a letter, hold only a-z, 0-9 and '-', and have at most "
    f"{contract.MAX_NAME_LENGTH} characters, so that the names of its Services and pods fit",
    holds=lambda name: len(name) <= contract.MAX_NAME_LENGTH and _matches(_NAME, name),
)
"""The one rule on the whole object, of either kind; `holds` takes the name."""

Spec = LLMDeploymentSpec | LLMRouterSpec


def parse_spec(name: str, spec: Any) -> LLMDeploymentSpec:
    """The spec of the LLMDeployment `name`, checked; raises InvalidSpec with a line for every field that is wrong."""
    return _parse(LLMDeploymentSpec, contract.PLURAL, name, spec)


def parse_router_spec(name: str, spec: Any) -> LLMRouterSpec:
    """The spec of the LLMRouter `name`, likewise."""
    return _parse(LLMRouterSpec, contract.ROUTER_PLURAL, name, spec)


PARSERS: dict[str, Callable[[str, Any], Spec]] = {contract.KIND: parse_spec, contract.ROUTER_KIND: parse_router_spec}
"""By kind."""


def _parse(model: type[_Model], plural: str, name: str, spec: Any) -> _Model:
    if not NAME_RULE.holds(name):
        raise InvalidSpec(NAME_RULE.message)
    try:
        return model.model_validate(spec)
    except ValidationError as error:
        raise InvalidSpec("; ".join(_explain(problem, plural) for problem in error.errors())) from error


def _explain(problem: Any, plural: str) -> str:
    """One pydantic problem as `spec.field: what is wrong`."""
    path = "spec" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in problem["loc"])
    match problem["type"]:
        case "extra_forbidden":
            return f"{path}: no such field; kubectl explain {plural}.{path.rpartition('.')[0]} lists those there are"
        case "missing":
            return f"{path}: required"
        case "model_type" | "dict_type":
            return f"{path}: must be an object"
    message = str(problem["msg"]).removeprefix("Value error, ")
    given = problem["input"]
    return f"{path}: {message}" + ("" if isinstance(given, dict | list | Ruled) else f" (given: {_short(repr(given))})")


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


__all__ = ["LLMDeploymentSpec", "LLMDeploymentStatus", "LLMRouterSpec", "LLMRouterStatus", "parse_router_spec", "parse_spec"]
