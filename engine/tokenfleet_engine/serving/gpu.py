"""How much memory is in use on the GPUs that this process sees, as NVIDIA's driver counts it.

By the NVML binding that vLLM ships, where vLLM is loaded already: nothing is imported for it, so a simulator has no such
figure, and neither has a CPU. The driver counts what all processes use, vLLM's workers among them, which no process could say
of itself.
"""

import os
import sys
from collections.abc import Mapping
from typing import Any


def gpu_memory(environment: Mapping[str, str] = os.environ, *, nvml: Any = None) -> dict[str, int]:
    """Bytes in use by the GPU's index. Empty where there is no driver, or it does not answer."""
    nvml = nvml or _nvml()
    if nvml is None:
        return {}
    try:
        nvml.nvmlInit()
        try:
            handles = {str(index): nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())}
            mine = _visible(environment, {index: nvml.nvmlDeviceGetUUID(handle) for index, handle in handles.items()})
            return {index: int(nvml.nvmlDeviceGetMemoryInfo(handles[index]).used) for index in mine}
        finally:
            nvml.nvmlShutdown()
    except nvml.NVMLError:
        return {}


def _nvml() -> Any:
    if "vllm" not in sys.modules:
        return None
    try:
        from vllm.third_party import pynvml
    except ImportError:
        return None
    return pynvml


def _visible(environment: Mapping[str, str], uuids: Mapping[str, str | bytes]) -> list[str]:
    """In a pod the driver shows the pod's GPUs alone; on a machine of one's own this variable may choose among them."""
    text = environment.get("CUDA_VISIBLE_DEVICES")
    if text is None:
        return list(uuids)
    chosen = [word.strip() for word in text.split(",")]
    names = {index: uuid.decode() if isinstance(uuid, bytes) else uuid for index, uuid in uuids.items()}
    return [index for index, name in names.items() if index in chosen or any(word and name.startswith(word) for word in chosen)]
