"""GPU memory, with a driver of our making."""

from types import SimpleNamespace
from typing import Any

import pytest

from tokenfleet_engine.serving.gpu import gpu_memory


class Driver:
    """Three GPUs with 10, 20 and 30 bytes in use."""

    class NVMLError(Exception):
        pass

    def __init__(self, *, broken: str = "") -> None:
        self.broken = broken
        self.open = 0

    def nvmlInit(self) -> None:
        self._do("init")
        self.open += 1

    def nvmlShutdown(self) -> None:
        self.open -= 1

    def nvmlDeviceGetCount(self) -> int:
        return 3

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetUUID(self, handle: int) -> str:
        return f"GPU-{'abc'[handle]}1234"

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> Any:
        self._do("memory")
        return SimpleNamespace(used=10 * (handle + 1))

    def _do(self, name: str) -> None:
        if self.broken == name:
            raise self.NVMLError(name)


@pytest.mark.parametrize(
    ("environment", "memory"),
    [
        pytest.param({}, {"0": 10, "1": 20, "2": 30}, id="all that the driver shows"),
        pytest.param({"CUDA_VISIBLE_DEVICES": "2, 0"}, {"0": 10, "2": 30}, id="those that were chosen by index"),
        pytest.param({"CUDA_VISIBLE_DEVICES": "GPU-b"}, {"1": 20}, id="by the beginning of their name"),
        pytest.param({"CUDA_VISIBLE_DEVICES": ""}, {}, id="none"),
    ],
)
def test_memory(environment: dict[str, str], memory: dict[str, int]) -> None:
    driver = Driver()
    assert gpu_memory(environment, nvml=driver) == memory
    assert driver.open == 0


@pytest.mark.parametrize("broken", ["init", "memory"])
def test_a_driver_that_fails_is_no_figure(broken: str) -> None:
    driver = Driver(broken=broken)
    assert gpu_memory({}, nvml=driver) == {}
    assert driver.open == 0


def test_without_vllm_there_is_no_driver() -> None:
    assert gpu_memory({}) == {}
