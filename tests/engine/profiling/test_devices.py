"""Devices, by an accelerator of our making and a process's files as the kernel writes them."""

from dataclasses import dataclass, field
from pathlib import Path

from tokenfleet_engine.profiling.devices import Accelerator, Memory, Processor, total


@dataclass
class FakeTorchAccelerator:
    """The functions of torch.accelerator that are called, with a card of 1000 bytes."""

    calls: list[str] = field(default_factory=list)

    def synchronize(self) -> None:
        self.calls.append("synchronize")

    def reset_peak_memory_stats(self) -> None:
        self.calls.append("reset")

    def memory_allocated(self) -> int:
        return 300

    def max_memory_allocated(self) -> int:
        return 450

    def memory_reserved(self) -> int:
        return 500

    def get_memory_info(self) -> tuple[int, int]:
        return 400, 1000


def test_an_accelerator_is_waited_for_and_its_memory_is_torchs() -> None:
    torch = FakeTorchAccelerator()
    device = Accelerator(torch, kind="cuda", name="NVIDIA H100")
    device.synchronize()
    device.reset_peak()
    assert torch.calls == ["synchronize", "reset"]
    assert device.memory() == Memory(used=300, peak=450, reserved=500, free=400, total=1000)


def test_a_processor_tells_its_name_and_the_process_memory(tmp_path: Path) -> None:
    (tmp_path / "status").write_text("Name:\tpython3\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n")
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nmodel name\t: AMD EPYC\n")
    device = Processor(process=tmp_path, cpu_info=tmp_path / "cpuinfo")
    device.reset_peak()
    assert device.memory() == Memory(used=1024 * 1024, peak=2048 * 1024)
    assert device.name.startswith("AMD EPYC, ")
    assert (tmp_path / "clear_refs").read_text() == "5"


def test_a_processor_goes_on_where_the_peak_cannot_be_reset(tmp_path: Path) -> None:
    Processor(process=tmp_path / "forbidden").reset_peak()


def test_memory_of_workers_adds_up_and_what_none_knows_stays_unknown() -> None:
    assert total([Memory(used=1, peak=2), Memory(used=3, peak=4)]) == Memory(used=4, peak=6)
    cards = [Memory(used=1, peak=1, reserved=5, free=7, total=9)] * 2
    assert total(cards) == Memory(used=2, peak=2, reserved=10, free=14, total=18)
