"""The command line of an engine: what of the spec reaches vLLM, and as which flag.

Only what the user wrote or the CRD defaulted is passed; the rest is vLLM's to choose for its hardware. `extraArgs` come
last, so that they win.
"""

from tokenfleet import contract
from tokenfleet.api.v1alpha1 import Engine, LLMDeploymentSpec, Parallelism
from tokenfleet.controller.resources.disaggregation import DECODE, Part, transfer_flags
from tokenfleet.planning.accelerators import Accelerator

_SCHEME = "pvc://"
_CPU_KV_CACHE_BYTES = 1024**3
"""On a CPU: vLLM would take its share of the whole node's memory, and leave no room for a second replica, or a rollout."""


def model_claim(source: str) -> str:
    """The PersistentVolumeClaim of a model's source."""
    return source.removeprefix(_SCHEME).partition("/")[0]


def model_path(source: str) -> str:
    """Where the model's files stand in an engine pod."""
    path = source.removeprefix(_SCHEME).partition("/")[2]
    return f"{contract.MODEL_MOUNT_PATH}/{path}" if path else contract.MODEL_MOUNT_PATH


def engine_arguments(name: str, spec: LLMDeploymentSpec, accelerator: Accelerator, part: Part = DECODE) -> list[str]:
    """Arguments of `tokenfleet-engine`: its own, then `--` and vLLM's."""
    return [
        "serve",
        "--model",
        model_path(spec.model.source),
        "--served-name",
        spec.model.served_name or name,
        "--port",
        str(contract.ENGINE_PORT),
        "--drain-seconds",
        str(spec.drain.timeout_seconds),
        "--",
        *_memory_flags(spec.engine, accelerator),
        *_engine_flags(spec.engine),
        *_parallel_flags(spec.parallelism),
        *transfer_flags(spec, part),
        *spec.engine.extra_args,
    ]


def _memory_flags(engine: Engine, accelerator: Accelerator) -> list[str]:
    if accelerator.resource is None:
        return ["--kv-cache-memory-bytes", str(_CPU_KV_CACHE_BYTES)]
    return ["--gpu-memory-utilization", engine.gpu_memory_utilization]


def _engine_flags(engine: Engine) -> list[str]:
    batching = engine.batching
    flags = ["--dtype", engine.dtype]
    for flag, value in (
        ("--max-model-len", engine.max_model_len),
        ("--max-num-seqs", batching.max_num_seqs),
        ("--max-num-batched-tokens", batching.max_num_batched_tokens),
    ):
        if value is not None:
            flags += [flag, str(value)]
    flags.append("--enable-chunked-prefill" if batching.chunked_prefill else "--no-enable-chunked-prefill")
    flags.append("--enable-prefix-caching" if engine.prefix_caching else "--no-enable-prefix-caching")
    return flags


def _parallel_flags(parallelism: Parallelism) -> list[str]:
    flags = []
    if parallelism.tensor > 1:
        flags += ["--tensor-parallel-size", str(parallelism.tensor)]
    if parallelism.pipeline > 1:
        flags += ["--pipeline-parallel-size", str(parallelism.pipeline)]
    return flags
