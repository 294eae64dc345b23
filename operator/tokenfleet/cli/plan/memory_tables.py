"""How `tokenfleet plan memory` shows what it found: a bar of the device's memory, a row for each part, and the classes."""

from collections.abc import Sequence
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tokenfleet.cli import options
from tokenfleet.planning.memory import Memory
from tokenfleet.planning.model import ModelFacts
from tokenfleet.planning.serving import Serving

_BAR: Final = 60
_UNITS: Final = ("B", "KiB", "MiB", "GiB")


def size(count: float) -> str:
    """14.96 GiB."""
    for unit in _UNITS:
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.2f} {unit}"
        count /= 1024
    return f"{count:.2f} TiB"


def parameters(count: int) -> str:
    """8.03B."""
    for unit, each in (("T", 1e12), ("B", 1e9), ("M", 1e6)):
        if count >= each:
            return f"{count / each:.3g}{unit}"
    return str(count)


def show(model: ModelFacts, serving: Serving, found: Memory, *, length: int | None, sequences: float | None) -> None:
    console = _console()
    console.print(f"{_title(model)} on {_devices(serving)}")
    rows = _rows(found)
    if found.device and console.is_terminal:
        console.print(_bar(found.device, rows))
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_column(justify="right")
    for name, count, color in rows:
        share = f"{count / found.device:.0%}" if found.device else ""
        table.add_row(Text(name, style=color if console.is_terminal else ""), size(count), share)
    console.print(table)
    if found.fits:
        console.print(_room(found))
        if sequences is not None:
            console.print(f"Sequences of {length:,} tokens at the same time: {sequences:.1f}")


def _room(found: Memory) -> str:
    return (
        f"Fits. The KV cache holds {found.kv_tokens:,} tokens, in blocks of {found.block_size}: {found.max_concurrency:.2f} "
        f"sequences of {found.max_model_len:,} tokens at the same time."
    )


def _rows(found: Memory) -> list[tuple[str, int, str]]:
    parts = [
        ("weights", found.weights, "blue"),
        ("draft model", found.draft, "cyan"),
        ("LoRA adapters", found.adapters, "cyan"),
        ("activations", found.activations, "yellow"),
        ("CUDA graphs", found.graphs, "magenta"),
        ("runtime", found.runtime, "bright_black"),
        ("KV cache", found.kv_cache, "green"),
        ("not vLLM's", max(0, found.device - found.usable), "white"),
    ]
    return [part for part in parts if part[1] or part[0] in {"weights", "KV cache"}]


def _bar(device: int, rows: Sequence[tuple[str, int, str]]) -> Text:
    bar, drawn = Text(), 0
    for _, count, color in rows:
        cells = min(_BAR - drawn, round(_BAR * count / device))
        bar.append("█" * cells, style=color)
        drawn += cells
    return bar.append("░" * (_BAR - drawn), style="bright_black")


def show_classes(model: ModelFacts, rows: Sequence[tuple[Serving, Memory]]) -> None:
    console = _console()
    console.print(f"{_title(model)}: the fewest devices of each class that it fits on")
    table = Table(box=None, pad_edge=False)
    table.add_column("CLASS")
    for name in ("DEVICES", "WEIGHTS EACH", "KV CACHE EACH", "KV TOKENS", "SEQUENCES", "OF TOKENS"):
        table.add_column(name, justify="right")
    for serving, found in rows:
        room = (f"{found.kv_tokens:,}", f"{found.max_concurrency:.2f}") if found.fits else ("", "")
        devices = str(serving.devices) if found.fits else f"{serving.devices}: too few"
        table.add_row(
            serving.accelerator.name, devices, size(found.weights), size(found.kv_cache), *room, f"{found.max_model_len:,}"
        )
    console.print(table)


def _title(model: ModelFacts) -> str:
    kind = f", {model.quantization}" if model.quantization else ""
    return f"{model.architecture}, {parameters(model.parameters)} parameters in {size(model.weight_bytes)}{kind}"


def _devices(serving: Serving) -> str:
    return serving.accelerator.name if serving.devices == 1 else f"{serving.devices} × {serving.accelerator.name}"


def _console() -> Console:
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=options.WIDE)
