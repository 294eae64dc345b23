"""Findings as plots: one function for each, all in one style; matplotlib stays in here.

matplotlib is in the engine images and nowhere else, so it is imported when a plot is made, and its absence is an answer, not an
error. It draws without a display and writes SVG for the page (text as paths, so that it looks the same everywhere) and PNG.
"""

import importlib.util
import io
import os
import re
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

COLOURS: Final = ("#2563a8", "#d9822b", "#2e8b57", "#b23a48", "#6f4fa0", "#4c7f8c", "#8a6d3b", "#5b5b5b")
INK: Final = "#333333"
SCALES: Final = (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1))


def available() -> bool:
    return importlib.util.find_spec("matplotlib") is not None


def draw(findings: Mapping[str, Any], directory: Path) -> dict[str, str]:
    """Write NAME.png for each plot that has data, and answer with the plots as SVG by name."""
    os.environ.setdefault("MPLCONFIGDIR", tempfile.gettempdir())  # its cache; the home directory may be read-only
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    style = {
        "svg.fonttype": "path", "font.size": 10, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True,
        "grid.color": "#e4e4e4", "axes.edgecolor": "#999999", "axes.labelcolor": INK, "text.color": INK, "xtick.color": INK,
        "ytick.color": INK, "axes.titlesize": 11, "axes.titleweight": "bold", "axes.titlelocation": "left",
        "legend.frameon": False, "lines.linewidth": 1.8, "lines.markersize": 5, "svg.hashsalt": "tokenfleet",
    }  # fmt: skip
    drawn: dict[str, str] = {}
    with plt.style.context("default"), matplotlib.rc_context(style):
        for name, paint in PLOTS.items():
            figure, axes = plt.subplots(1, 2, figsize=(10.5, 3.7), layout="constrained")
            if paint(findings, axes):
                figure.savefig(directory / f"{name}.png", dpi=110)
                drawn[name] = _svg(figure)
            plt.close(figure)
    return drawn


def _svg(figure: Any) -> str:
    """Without the head of an SVG file, to stand in a page; its width is the page's to say."""
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    return re.sub(r'<svg ([^>]*?)width="[^"]*" ?', r"<svg \1", re.sub(r' height="[\d.]+pt"', "", svg, count=1), count=1)


def _prefill(findings: Mapping[str, Any], axes: Any) -> bool:
    rows = findings["prefill"]
    tokens = [row["prompt_tokens"] for row in rows]
    _spread(axes[0], tokens, rows, colour=COLOURS[0])
    axes[0].set(title="Prefill: time to the first token", xlabel="prompt tokens", ylabel="ms", ylim=(0, None))
    axes[1].plot(tokens, [row["tokens_per_second"] for row in rows], "o-", color=COLOURS[1])
    axes[1].set(title="Prefill: throughput", xlabel="prompt tokens", ylabel="tokens/s", ylim=(0, None))
    for axis in axes:
        _powers(axis, tokens)
    return bool(rows)


def _decode(findings: Mapping[str, Any], axes: Any) -> bool:
    rows = findings["decode"]
    batches = sorted({row["sequences"] for row in rows})
    for number, context in enumerate(sorted({row["context_tokens"] for row in rows})):
        line = sorted((row for row in rows if row["context_tokens"] == context), key=lambda row: row["sequences"])
        colour, label = COLOURS[number % len(COLOURS)], f"{context} tokens"
        sequences = [row["sequences"] for row in line]
        _spread(axes[0], sequences, line, colour=colour, label=label)
        axes[1].plot(sequences, [row["tokens_per_second"] for row in line], "o-", color=colour, label=label)
    axes[0].set(title="Decode: time of a step", xlabel="sequences in the batch", ylabel="ms", ylim=(0, None))
    axes[1].set(title="Decode: throughput", xlabel="sequences in the batch", ylabel="tokens/s", ylim=(0, None))
    for axis in axes:
        _powers(axis, batches)
    if rows:
        axes[0].legend(title="context", loc="upper left")
    return bool(rows)


def _memory(findings: Mapping[str, Any], axes: Any) -> bool:
    rows, cache = findings["memory"]["by_context"], findings["memory"]["kv_cache"]
    if not rows:
        return False
    tokens = [row["context_tokens"] for row in rows]
    unit, scale = _scale(max(row["kv_bytes"] for row in rows))
    axes[0].plot(tokens, [row["kv_bytes"] / scale for row in rows], "o", color=COLOURS[0], label="held, in whole blocks")
    line = [0, tokens[-1]]
    label = f"{cache['bytes_per_token']:g} bytes a token"
    axes[0].plot(line, [count * cache["bytes_per_token"] / scale for count in line], "--", color=COLOURS[1], label=label)
    axes[0].set(title="KV cache of one sequence", xlabel="context tokens", ylabel=unit, ylim=(0, None), xlim=(0, None))
    axes[0].legend(loc="upper left")
    on_cpu = findings["device"]["kind"] == "cpu"
    loaded = findings["memory"]["after_loading"]["used"]
    lines = {"peak": "s--", "used": "o-"}
    more = {name: [max(0, row["memory"][name] - loaded) for row in rows] for name in lines}
    unit, scale = _scale(max(max(values) for values in more.values()))
    for number, (name, values) in enumerate(more.items()):
        label = name if name == "peak" else "resident" if on_cpu else "allocated"
        axes[1].plot(tokens, [value / scale for value in values], lines[name], color=COLOURS[2 + number], label=label)
    title = "Memory of the process beyond loading" if on_cpu else "Memory of the device beyond loading (torch)"
    axes[1].set(title=title, xlabel="context tokens", ylabel=unit, xlim=(0, None))
    axes[1].set_ylim(0, max(1, 1.15 * axes[1].get_ylim()[1]))
    axes[1].legend(loc="upper left")
    return True


PLOTS: Final[Mapping[str, Callable[[Mapping[str, Any], Any], bool]]] = {
    "prefill": _prefill,
    "decode": _decode,
    "memory": _memory,
}


def _spread(axis: Any, places: list[int], rows: list[Mapping[str, Any]], *, colour: str, label: str | None = None) -> None:
    """The medians as a line, and a band from the 10th percentile to the 90th."""
    low, middle, high = ([1000 * row["seconds"][name] for row in rows] for name in ("p10", "median", "p90"))
    axis.plot(places, middle, "o-", color=colour, label=label)
    axis.fill_between(places, low, high, color=colour, alpha=0.18, linewidth=0)


def _powers(axis: Any, places: list[int]) -> None:
    """Points lie by powers of two; the axis names them themselves."""
    if not places:
        return
    axis.set_xscale("log", base=2)
    axis.set_xticks(
        places, [f"{place}" for place in places], rotation=45 if sum(len(str(place)) for place in places) > 28 else 0
    )
    axis.minorticks_off()
    axis.yaxis.set_major_formatter("{x:,g}")


def _scale(largest: float) -> tuple[str, int]:
    return next((pair for pair in SCALES if largest >= pair[1]), SCALES[-1])
