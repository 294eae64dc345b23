"""The command line of an engine: what of the spec reaches `tokenfleet-engine`, and what vLLM, as which flag.

What takes more than a flag (a draft, adapters, admission, sleep) is an argument of `serve`, which checks it and turns it into
vLLM's. Of the rest only what the user wrote or the CRD defaulted is passed, behind `--`; what is absent is vLLM's to choose for
its hardware. `extraArgs` come last, so that they win. A simulator gets the same, but for what speaks of files and of hardware.
"""

import json

from tokenfleet import contract
from tokenfleet.api.v1alpha1 import Admission, Engine, LLMDeploymentSpec, Parallelism, Speculative
from tokenfleet.controller.resources.disaggregation import DECODE, Part, transfer_flags
from tokenfleet.controller.resources.engine_resources import offload_gibibytes
from tokenfleet.controller.resources.model_store import adapter_path, draft_path, model_path
from tokenfleet.planning.accelerators import Accelerator

_CPU_KV_CACHE_BYTES = 1024**3
"""On a CPU: vLLM would take its share of the whole node's memory, and leave no room for a second replica, or a rollout."""
_NO_FILES = "-"
"""In an adapter's place: a simulator knows its name alone."""


def engine_arguments(name: str, spec: LLMDeploymentSpec, accelerator: Accelerator, part: Part = DECODE) -> list[str]:
    """Arguments of `tokenfleet-engine`: its own, then `--` and the engine's."""
    if accelerator.simulated:
        return [
            *("simulate", *_serving(name, spec)),
            *(word for adapter in spec.model.adapters for word in ("--adapter", f"{adapter.name}={_NO_FILES}")),
            *_admission(spec.engine.admission),
            *("--", *_block_flags(spec.engine), *_batch_flags(spec.engine), *spec.engine.extra_args),
        ]
    return [
        *("serve", "--model", model_path(spec), *_serving(name, spec)),
        *_draft(spec),
        *(word for adapter in spec.model.adapters for word in ("--adapter", f"{adapter.name}={adapter_path(spec, adapter)}")),
        *_admission(spec.engine.admission),
        *(["--sleep"] if spec.engine.sleep else []),
        "--",
        *_memory_flags(spec.engine, accelerator),
        *_weight_flags(spec.engine),
        *_cache_flags(spec),
        *_block_flags(spec.engine),
        *_batch_flags(spec.engine),
        *_parallel_flags(spec.parallelism),
        *transfer_flags(spec, part),
        *spec.engine.extra_args,
    ]


def _serving(name: str, spec: LLMDeploymentSpec) -> list[str]:
    return [
        *("--served-name", spec.model.served_name or name),
        *("--port", str(contract.ENGINE_PORT)),
        *("--drain-seconds", str(spec.drain.timeout_seconds)),
    ]


def _draft(spec: LLMDeploymentSpec) -> list[str]:
    speculative = spec.engine.speculative
    if speculative is None:
        return []
    path = draft_path(spec)
    return [*(["--draft-model", path] if path is not None else []), "--speculative", _speculation(speculative)]


def _speculation(speculative: Speculative) -> str:
    said: dict[str, str | int] = {"method": speculative.method, "num_tokens": speculative.num_tokens}
    if (lookup := speculative.prompt_lookup) is not None:
        said |= {"prompt_lookup_min": lookup.min, "prompt_lookup_max": lookup.max}
    return json.dumps(said, separators=(",", ":"))


def _admission(admission: Admission) -> list[str]:
    return _given(
        ("--max-in-flight", admission.max_in_flight),
        ("--max-waiting", admission.max_waiting),
        ("--max-queue-seconds", admission.max_queue_seconds),
    )


def _memory_flags(engine: Engine, accelerator: Accelerator) -> list[str]:
    if accelerator.resource is None:
        return ["--kv-cache-memory-bytes", str(_CPU_KV_CACHE_BYTES)]
    return ["--gpu-memory-utilization", engine.gpu_memory_utilization]


def _weight_flags(engine: Engine) -> list[str]:
    return ["--dtype", engine.dtype, *_given(("--quantization", engine.quantization))]


def _cache_flags(spec: LLMDeploymentSpec) -> list[str]:
    cache = spec.engine.kv_cache
    return _given(
        ("--kv-cache-dtype", None if cache.dtype == "auto" else cache.dtype),
        ("--kv-offloading-size", None if cache.cpu_offload is None else offload_gibibytes(spec)),
    )


def _block_flags(engine: Engine) -> list[str]:
    return _given(("--block-size", engine.kv_cache.block_size))


def _batch_flags(engine: Engine) -> list[str]:
    batching = engine.batching
    return [
        *_given(
            ("--max-model-len", engine.max_model_len),
            ("--max-num-seqs", batching.max_num_seqs),
            ("--max-num-batched-tokens", batching.max_num_batched_tokens),
        ),
        "--enable-chunked-prefill" if batching.chunked_prefill else "--no-enable-chunked-prefill",
        "--enable-prefix-caching" if engine.prefix_caching else "--no-enable-prefix-caching",
    ]


def _parallel_flags(parallelism: Parallelism) -> list[str]:
    return _given(
        ("--tensor-parallel-size", parallelism.tensor if parallelism.tensor > 1 else None),
        ("--pipeline-parallel-size", parallelism.pipeline if parallelism.pipeline > 1 else None),
    )


def _given(*flags: tuple[str, str | int | None]) -> list[str]:
    """Flags that have a value."""
    return [word for flag, value in flags if value is not None for word in (flag, str(value))]
