"""What the engine computes on: waiting for it, and how much of its memory is in use.

A GPU works behind the program's back, so a clock is read only after it has been waited for. A CPU has nothing to wait for:
a call returns when its work is done. torch's accelerator is handed in, so that all of this runs without one. The memory of
engines with several workers is read in each worker's own process.
"""

import contextlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from tokenfleet_engine.launch.cgroup import cpu_limit

PROCESS: Final = Path("/proc/self")
CPU_INFO: Final = Path("/proc/cpuinfo")


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Bytes. On a GPU as torch has them; on a CPU `used` is the process's resident set, and there is no reserve."""

    used: int
    peak: int
    """Since the peak was last reset."""
    reserved: int | None = None
    """By torch's allocator, in use or not."""
    free: int | None = None
    total: int | None = None
    """Of the whole device, whoever uses it."""


class Device(Protocol):
    @property
    def kind(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def synchronisation(self) -> str:
        """How a step's end is known, for the report."""

    def synchronize(self) -> None: ...
    def memory(self) -> Memory: ...
    def reset_peak(self) -> None: ...


class Accelerator:
    """A GPU, by torch.accelerator (or what is handed in for it)."""

    synchronisation: Final = "torch.accelerator.synchronize() before and after each step"

    def __init__(self, torch_accelerator: Any, *, kind: str, name: str) -> None:
        self._accelerator = torch_accelerator
        self.kind = kind
        self.name = name

    def synchronize(self) -> None:
        self._accelerator.synchronize()

    def memory(self) -> Memory:
        free, total = self._accelerator.get_memory_info()
        return Memory(
            used=self._accelerator.memory_allocated(),
            peak=self._accelerator.max_memory_allocated(),
            reserved=self._accelerator.memory_reserved(),
            free=free,
            total=total,
        )

    def reset_peak(self) -> None:
        self._accelerator.reset_peak_memory_stats()


class Processor:
    """The CPU, by what the kernel says of this process."""

    kind: Final = "cpu"
    synchronisation: Final = "none needed: on a CPU a step returns when its work is done"

    def __init__(self, *, process: Path = PROCESS, cpu_info: Path = CPU_INFO) -> None:
        self._process = process
        self.name = f"{_model_name(cpu_info)}, {cpu_limit()} cores"

    def synchronize(self) -> None:
        """Nothing runs behind the program's back."""

    def memory(self) -> Memory:
        fields = dict(_fields(self._process / "status"))
        return Memory(used=_bytes(fields["VmRSS"]), peak=_bytes(fields["VmHWM"]))

    def reset_peak(self) -> None:
        with contextlib.suppress(OSError):  # forbidden in some sandboxes; then the peak is the process's whole life's
            (self._process / "clear_refs").write_text("5")


def find_device(kind: str, *, name: str) -> Device:
    """The device of this process. `kind` and `name` are as vLLM's platform has them."""
    if kind == "cpu":
        return Processor()
    import torch

    return Accelerator(torch.accelerator, kind=kind, name=name)


def worker_memory(worker: Any) -> Memory:
    """Runs in a worker of vLLM's, wherever that lives."""
    return _worker_device(worker).memory()


def reset_worker_peak(worker: Any) -> None:
    """Runs in a worker of vLLM's too."""
    _worker_device(worker).reset_peak()


def _worker_device(worker: Any) -> Device:
    return find_device(str(getattr(worker.device, "type", "cpu")), name=f"worker of process {os.getpid()}")


def total(memories: Iterable[Memory]) -> Memory:
    """Of all workers together."""
    each = list(memories)
    return Memory(
        used=sum(memory.used for memory in each),
        peak=sum(memory.peak for memory in each),
        reserved=_sum(memory.reserved for memory in each),
        free=_sum(memory.free for memory in each),
        total=_sum(memory.total for memory in each),
    )


def _sum(values: Iterable[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _model_name(cpu_info: Path) -> str:
    return next((value for name, value in _fields(cpu_info) if name == "model name"), os.uname().machine)


def _fields(file: Path) -> Iterable[tuple[str, str]]:
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return []
    return [(name.strip(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]


def _bytes(text: str) -> int:
    """Of the kernel's "12345 kB"."""
    return int(text.split()[0]) * 1024
