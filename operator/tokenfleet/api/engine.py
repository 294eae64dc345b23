"""`spec.engine` and `spec.parallelism`: how vLLM runs the model.

What is absent is vLLM's to choose for its hardware, and reaches it not at all. Rules that need the accelerator stand with the
whole spec (deployment.py).
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from tokenfleet.api.flags import OWNED, OWNED_FLAGS, OWNED_SHORT_FLAGS
from tokenfleet.api.kv_cache import KvCache
from tokenfleet.api.rules import Rule, Ruled, matches
from tokenfleet.api.scalars import FRACTION, Quantity
from tokenfleet.api.speculative import Speculative

OWN_VARIABLES = ("PYTHONPATH", "PYTHONHOME", "UCX_TCP_PORT_RANGE", "VLLM_API_KEY")
OWN_PREFIXES = ("TOKENFLEET_", "VLLM_NIXL_SIDE_CHANNEL_")
"""Variables of the engine's environment that are the image's or the controller's to set."""
GPU_RESOURCE = "nvidia.com/gpu"
_VARIABLE = "^[A-Za-z_][A-Za-z0-9_]*$"


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


class Admission(Ruled):
    """What an engine pod takes on; beyond it, a request is answered 503 and the router gives it to another one."""

    max_in_flight: Annotated[int, Field(ge=1, le=100_000)] | None = Field(
        default=None,
        description="Requests in flight in one pod at most, whoever sent them. Default: four times what vLLM runs in one "
        "batch.",
    )
    max_waiting: Annotated[int, Field(ge=1, le=100_000)] | None = Field(
        default=None, description="Requests that vLLM has queued at most, none of which has a token yet. Default: no bound."
    )
    max_queue_seconds: Annotated[int, Field(ge=1, le=3600)] | None = Field(
        default=None,
        description="Seconds that a new request would wait in vLLM's queue at most, by how fast requests were "
        "begun of late. Default: no bound.",
    )


class EngineResources(Ruled):
    """CPU, memory and whatever else a replica takes beside its GPUs."""

    rules: ClassVar = (
        Rule(
            cel=f"!('{GPU_RESOURCE}' in self.requests) && !('{GPU_RESOURCE}' in self.limits)",
            message=f"resources must not name {GPU_RESOURCE}: accelerator and parallelism say which GPUs, and how many",
            holds=lambda resources: GPU_RESOURCE not in {*resources.requests, *resources.limits},
        ),
    )

    requests: Annotated[dict[str, Quantity], Field(max_length=16)] = Field(
        default={}, description="By name, such as cpu or memory; the rest stays as docs/accelerators.md has it."
    )
    limits: Annotated[dict[str, Quantity], Field(max_length=16)] = Field(
        default={}, description="By name. What has a limit and no request asks for as much as its limit. Default: none."
    )


Quantization = Literal[
    "awq",
    "compressed-tensors",
    "fp8",
    "fp8_per_block",
    "fp8_per_channel",
    "gptq",
    "int8_per_channel_weight_only",
    "modelopt",
    "modelopt_fp4",
    "mxfp4",
    "mxfp8",
    "nvfp4_per_token",
    "quark",
    "torchao",
]


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
            cel=f"!self.extraArgs.exists(argument, argument.replace('_', '-').matches('{OWNED}'))",
            message=f"extraArgs must not set --{', --'.join(OWNED_FLAGS)}, --ssl-*, -{', -'.join(OWNED_SHORT_FLAGS)}: the pod "
            "around the engine depends on them; use model, parallelism, engine, drain or router, which have a field for what "
            "can be set",
            holds=lambda engine: not any(matches(OWNED, flag.replace("_", "-")) for flag in engine.extra_args),
        ),
        Rule(
            cel=f"self.env.all(name, name.matches('{_VARIABLE}'))",
            message="env must have names of letters, digits and '_' that do not begin with a digit",
            holds=lambda engine: all(matches(_VARIABLE, name) for name in engine.env),
        ),
        Rule(
            cel=f"!self.env.exists(name, name in {list(OWN_VARIABLES)} || "
            f"{' || '.join(f'name.startsWith({prefix!r})' for prefix in OWN_PREFIXES)})",
            message=f"env must not set {', '.join(OWN_VARIABLES)}, or what begins with {' or '.join(OWN_PREFIXES)}: "
            "the image and the controller set them",
            holds=lambda engine: not any(name in OWN_VARIABLES or name.startswith(OWN_PREFIXES) for name in engine.env),
        ),
        Rule(
            cel="!has(self.kvCache.cpuOffload) || self.prefixCaching",
            message="kvCache.cpuOffload needs prefixCaching: blocks are found again by it; turn it on, or remove cpuOffload",
            holds=lambda engine: engine.kv_cache.cpu_offload is None or engine.prefix_caching,
        ),
    )

    dtype: Literal["auto", "bfloat16", "float16", "float32"] = Field(
        default="auto", description="Type of the weights and activations. auto: as the model's config.json says."
    )
    quantization: Quantization | None = Field(
        default=None,
        description="How the weights are kept. Absent: as the model's files are. fp8, fp8_per_block, fp8_per_channel, mxfp8, "
        "nvfp4_per_token and int8_per_channel_weight_only also make it of files that are not quantized, while they are loaded; "
        "the others only say what the files must be.",
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
    kv_cache: KvCache = Field(default=KvCache(), description="The KV cache.")
    batching: Batching = Field(default=Batching(), description="Continuous batching.")
    prefix_caching: bool = Field(
        default=True,
        description="Keep the KV blocks of prompts, so that a prompt with the same beginning skips that part.",
    )
    speculative: Speculative | None = Field(
        default=None,
        description="Guess several tokens ahead and have the model check them in one step, which changes no answer. Absent: "
        "one token a step.",
    )
    sleep: bool = Field(
        default=False,
        description="Let the engine sleep: `tokenfleet-engine sleep` in the pod gives the GPU's memory back and keeps the "
        "process. GPUs only.",
    )
    admission: Admission = Field(default=Admission(), description="What an engine pod takes on.")
    env: Annotated[dict[str, Annotated[str, Field(max_length=4096)]], Field(max_length=64)] = Field(
        default={},
        description="Environment variables of the engine, by name. A value out of a Secret comes by podTemplate.",
    )
    resources: EngineResources = Field(default=EngineResources(), description="CPU and memory of a replica.")
    extra_args: Annotated[list[Annotated[str, Field(min_length=1, max_length=1024)]], Field(max_length=64)] = Field(
        default=[], description="More flags for vLLM, one word an item, after those that Tokenfleet sets."
    )
