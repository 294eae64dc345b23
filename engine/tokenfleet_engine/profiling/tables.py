"""Findings as tables of text: the same rows for a terminal and for the page.

A table is a title, a note, headings and rows of strings, already rounded to what a person compares; the first column stands
left, all others right. Pure.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tokenfleet_engine import sizes


@dataclass(frozen=True, slots=True)
class Table:
    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


def tables(findings: Mapping[str, Any]) -> list[Table]:
    """In the order in which they are read. One without rows is left out."""
    made = (_prefill(findings), _decode(findings), _context(findings), _batch(findings), _skipped(findings))
    return [table for table in made if table.rows]


def facts(findings: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What was measured, and on what."""
    device, engine, model, memory = (findings[name] for name in ("device", "engine", "model", "memory"))
    versions, cache = findings["versions"], memory["kv_cache"]
    loaded = memory["weights"]["loaded_bytes"]
    weights = f"{size(memory['weights']['on_disk_bytes'])} on disk" + (f", {size(loaded)} loaded" if loaded else "")
    workers = f", {engine['workers']} workers" if engine["workers"] > 1 else ""
    chunked = f"in chunks of {engine['max_num_batched_tokens']} tokens" if engine["chunked_prefill"] else "whole prompts"
    return [
        ("measured", f"{findings['created']}"),
        ("device", f"{device['name']} ({device['kind']}){workers}"),
        ("software", ", ".join(f"{name} {version}" for name, version in versions.items())),
        ("model", f"{model['path']}: {model['architecture']}, {engine['dtype']}, {engine['quantization'] or 'not quantized'}"),
        ("weights", weights),
        ("engine", f"at most {engine['max_model_len']} tokens a sequence, {engine['max_num_seqs']} sequences; prefill {chunked}"
                   f"; {'eager' if engine['eager'] else 'compiled'}; prefix cache off"),
        ("KV cache", f"{size(cache['bytes'])}, {cache['tokens']} tokens, {cache['bytes_per_token']:g} bytes a token "
                     f"({cache['blocks']} blocks of {'/'.join(map(str, cache['block_tokens']))} tokens)"),
        ("clock", f"{device['synchronisation']}"),
    ]  # fmt: skip


def render(table: Table) -> str:
    """For a terminal."""
    lines = [table.headings, *table.rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(table.headings))]
    text = [table.title, *([f"  {table.note}"] if table.note else [])]
    for number, line in enumerate(lines):
        cells = [cell.ljust(width) if column == 0 else cell.rjust(width)
                 for column, (cell, width) in enumerate(zip(line, widths, strict=True))]  # fmt: skip
        text.append(f"  {'  '.join(cells)}".rstrip())
        if number == 0:
            text.append(f"  {'  '.join('─' * width for width in widths)}")
    return "\n".join(text)


def size(count: float | None) -> str:
    return "not known" if count is None else sizes.readable(count)


def difference(count: float) -> str:
    return f"{'+' if count >= 0 else '−'}{size(abs(count))}"


def milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:.2f}" if seconds < 0.1 else f"{1000 * seconds:.1f}"


def _rate(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _prefill(findings: Mapping[str, Any]) -> Table:
    rows = [
        (
            f"{row['prompt_tokens']}", f"{row['steps']}", milliseconds(row["seconds"]["median"]),
            milliseconds(row["seconds"]["p10"]), milliseconds(row["seconds"]["p90"]), _rate(row["tokens_per_second"]),
            f"{len(row['samples'])}",
        )
        for row in findings["prefill"]
    ]  # fmt: skip
    headings = ("prompt tokens", "steps", "median ms", "p10 ms", "p90 ms", "tokens/s", "repeats")
    return Table("Prefill", headings, tuple(rows), "One prompt alone, from its arrival to its first token.")


def _decode(findings: Mapping[str, Any]) -> Table:
    rows = [
        (
            f"{row['context_tokens']}", f"{row['sequences']}", milliseconds(row["seconds"]["median"]),
            milliseconds(row["seconds"]["p10"]), milliseconds(row["seconds"]["p90"]),
            milliseconds(row["inter_token_seconds"]), _rate(row["tokens_per_second"]), f"{len(row['samples'])}",
        )
        for row in sorted(findings["decode"], key=lambda row: (row["context_tokens"], row["sequences"]))
    ]  # fmt: skip
    headings = ("context tokens", "sequences", "median ms", "p10 ms", "p90 ms", "ITL ms", "tokens/s", "steps")
    return Table("Decode", headings, tuple(rows), "One step of a batch whose sequences all stand at that context.")


def _context(findings: Mapping[str, Any]) -> Table:
    headings, cells = _memory_columns(findings)
    rows = [
        (f"{row['context_tokens']}", f"{row['blocks']}", size(row["kv_bytes"]), f"{row['sequences_that_fit']}", *cells(row))
        for row in findings["memory"]["by_context"]
    ]
    names = ("context tokens", "blocks", "KV cache", "such sequences fit", *headings)
    return Table("Memory of one sequence", names, tuple(rows), "After its prefill; the peak is of the prefill.")


def _batch(findings: Mapping[str, Any]) -> Table:
    headings, cells = _memory_columns(findings)
    ordered = sorted(findings["memory"]["by_batch"], key=lambda row: (row["context_tokens"], row["sequences"]))
    rows = [
        (f"{row['context_tokens']}", f"{row['sequences']}", f"{row['blocks']}", size(row["kv_bytes"]), *cells(row))
        for row in ordered
    ]
    names = ("context tokens", "sequences", "blocks", "KV cache", *headings)
    return Table("Memory of a batch", names, tuple(rows), "At the end of its decode steps; the peak includes its prefill.")


def _memory_columns(findings: Mapping[str, Any]) -> tuple[tuple[str, ...], Callable[[Mapping[str, Any]], Sequence[str]]]:
    """What a device's memory is called, and how a row's is written: a GPU has a reserve, a CPU has none."""
    loaded = findings["memory"]["after_loading"]["used"]

    def on_cpu(row: Mapping[str, Any]) -> Sequence[str]:
        memory = row["memory"]
        return size(memory["used"]), size(memory["peak"]), difference(memory["peak"] - loaded)

    def on_gpu(row: Mapping[str, Any]) -> Sequence[str]:
        memory = row["memory"]
        return *on_cpu(row), size(memory["reserved"]), size(memory["free"])

    names = ("peak", "peak beyond loading")
    if findings["device"]["kind"] == "cpu":
        return ("resident", *names), on_cpu
    return ("allocated", *names, "reserved", "device free"), on_gpu


def _skipped(findings: Mapping[str, Any]) -> Table:
    rows = tuple((row["point"], row["reason"]) for row in findings["skipped"])
    return Table("Left out", ("point", "reason"), rows)
