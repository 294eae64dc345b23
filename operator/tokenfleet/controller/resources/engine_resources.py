"""What a replica asks of a node: GPUs, CPU, memory, and shared memory for vLLM's processes.

Requests keep a pod from being the first to be evicted; limits are the GPUs' alone, unless `engine.resources` has some. KV
blocks that leave the GPU (`kvCache.cpuOffload`) live in /dev/shm, so both that and the memory grow by them.
"""

from decimal import Decimal

from tokenfleet.api.v1alpha1 import LLMDeploymentSpec
from tokenfleet.controller.observed import Json
from tokenfleet.controller.resources.quantities import MILLI, amount, canonical_quantity
from tokenfleet.planning.accelerators import Accelerator

_GIB = 1024**3


def engine_resources(spec: LLMDeploymentSpec, accelerator: Accelerator) -> Json:
    """`resources` of the engine's container. What the user limits and does not request is requested up to the limit."""
    user = spec.engine.resources
    limits = {name: canonical_quantity(text, finest=MILLI) for name, text in user.limits.items()}
    requests = {name: text for name, text in _requests(spec, accelerator).items() if name not in limits}
    requests |= {name: canonical_quantity(text, finest=MILLI) for name, text in user.requests.items()}
    if accelerator.resource is not None:
        limits[accelerator.resource] = canonical_quantity(spec.parallelism.gpus)
    return {"requests": requests, **({"limits": limits} if limits else {})}


def shared_memory(spec: LLMDeploymentSpec, accelerator: Accelerator) -> str:
    """sizeLimit of /dev/shm: vLLM's processes want 160 MiB, NCCL some for each GPU, and blocks that leave it their size."""
    if accelerator.resource is None:
        return "512Mi"
    return _bytes((1 + spec.parallelism.gpus) * _GIB + _offloaded(spec))


def offload_gibibytes(spec: LLMDeploymentSpec) -> str:
    """kvCache.cpuOffload as vLLM takes it: GiB, of all GPUs of a replica together."""
    size = (Decimal(_offloaded(spec)) / _GIB).quantize(Decimal("0.000001"))
    return f"{size.normalize():f}"


def _requests(spec: LLMDeploymentSpec, accelerator: Accelerator) -> dict[str, str]:
    if accelerator.simulated:
        return {"cpu": "50m", "memory": "64Mi"}
    if accelerator.resource is None:
        return {"cpu": "250m", "memory": "3Gi"}
    gpus = spec.parallelism.gpus
    return {"cpu": canonical_quantity(gpus), "memory": _bytes(4 * gpus * _GIB + _offloaded(spec))}


def _offloaded(spec: LLMDeploymentSpec) -> int:
    size = spec.engine.kv_cache.cpu_offload
    return 0 if size is None else int(amount(size))


def _bytes(count: int) -> str:
    """In the largest unit that needs no fraction."""
    return canonical_quantity(f"{Decimal(count) / 1024}Ki") if count % 1024 == 0 else str(count)
