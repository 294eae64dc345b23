"""`tokenfleet accelerators`: the classes that `spec.accelerator` may name, by their figures and prices."""

import json
from typing import Any, Final

import typer
from rich.console import Console
from rich.table import Table

from tokenfleet.cli import options
from tokenfleet.planning.accelerators import Accelerator
from tokenfleet.planning.accelerators import accelerators as all_accelerators

_COLUMNS: Final = ("CLASS", "GIB", "GB/S", "TFLOPS", "FP8", "LINK GB/S", "PER NODE", "$/H", "SPOT")
"""And the price's source, which gives way on a narrow terminal."""
_NOTHING: Final = "—"


def accelerators(
    as_json: options.Json = False,
    _accelerators: options.Accelerators = None,
) -> None:
    """Show what `spec.accelerator` may name, by figures of one device.

    tokenfleet accelerators --accelerators our-prices.toml

    Memory, its bandwidth, FLOPs of dense matrices in 16 and in 8 bits, the link to the other devices of a node, and what an
    hour costs, on demand and spot.
    """
    found = list(all_accelerators().values())
    if as_json:
        typer.echo(json.dumps([_as_json(each) for each in found]))
        return
    rows = [row(each) for each in found]
    table = Table(box=None, pad_edge=False)
    for index, name in enumerate(_COLUMNS):
        table.add_column(name, no_wrap=True, min_width=max(len(cell) for cell in (name, *(one[index] for one in rows))))
    table.add_column("PRICE OF", no_wrap=True, overflow="ellipsis")
    for one in rows:
        table.add_row(*one)
    Console(width=None if Console().is_terminal else options.WIDE, highlight=False).print(table)


def row(each: Accelerator) -> tuple[str, ...]:
    price = each.price
    return (
        each.name,
        _figure(each.memory and each.memory / 2**30, digits=1),
        _figure(each.bandwidth and each.bandwidth / 1e9),
        _figure(each.flops.get("bf16", each.flops.get("fp16", 0.0)) / 1e12),
        _figure(each.flops.get("fp8", 0.0) / 1e12),
        _figure(each.interconnect and each.interconnect / 1e9),
        str(each.per_node) if each.resource else _NOTHING,
        _money(price.on_demand if price else None, price.currency if price else ""),
        _money(price.spot if price else None, price.currency if price else ""),
        price.source if price else _NOTHING,
    )


def _figure(value: float | None, *, digits: int = 0) -> str:
    return f"{value:,.{digits}f}" if value else _NOTHING


def _money(value: float | None, currency: str) -> str:
    return _NOTHING if value is None else f"{value:g}" if currency == "USD" else f"{value:g} {currency}"


def _as_json(each: Accelerator) -> dict[str, Any]:
    price = each.price
    return {
        "name": each.name,
        "summary": each.summary,
        "engine": each.engine,
        "resource": each.resource,
        "products": list(each.products),
        "nodeLabels": dict(each.node_labels),
        "memoryBytes": each.memory,
        "bandwidth": each.bandwidth,
        "flops": dict(each.flops),
        "interconnect": each.interconnect,
        "perNode": each.per_node,
        "price": None
        if price is None
        else {"onDemand": price.on_demand, "spot": price.spot, "currency": price.currency, "source": price.source},
    }
