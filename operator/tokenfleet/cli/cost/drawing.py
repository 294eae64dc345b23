"""Bills and shares as tables, and amounts as people read them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from tokenfleet.cli import options
from tokenfleet.cli.cost.bills import Bill, Share

NOTHING: Final = "—"
_BILL: Final = (
    "NAMESPACE", "NAME", "CLASS", "REPLICAS", "GPUS", "/HOUR", "/REQUEST", "/M IN", "/M OUT", "/M", "IDLE",
)  # fmt: skip


def console() -> Console:
    return Console(width=None if Console().is_terminal else options.WIDE, highlight=False)


def amount(value: float | None, currency: str | None = "USD", *, digits: int = 3) -> str:
    """Of money: so many digits that count, and the currency where it is not the dollar."""
    if value is None:
        return NOTHING
    text = f"{float(f'{value:.{digits}g}'):.12f}".rstrip("0").rstrip(".") if value < 1000 else f"{value:,.0f}"
    return f"${text}" if currency == "USD" else f"{text} {currency or ''}".rstrip()


def hourly(value: float | None, currency: str | None) -> str:
    return NOTHING if value is None else f"${value:,.2f}" if currency == "USD" else f"{value:,.2f} {currency or ''}".rstrip()


def bills(found: Sequence[Bill], *, namespaces: bool) -> Table:
    rows = [
        (
            bill.namespace,
            bill.name,
            bill.accelerator,
            str(bill.replicas),
            str(bill.replicas * bill.devices) if bill.devices else NOTHING,
            hourly(bill.hourly, bill.currency),
            amount(bill.rates.per_request, bill.currency),
            amount(bill.rates.per_million_prompt, bill.currency),
            amount(bill.rates.per_million_completion, bill.currency),
            amount(bill.rates.per_million_tokens, bill.currency),
            _percent(bill.rates.idle_share),
        )
        for bill in found
    ]
    return _table(_BILL, rows) if namespaces else _table(_BILL[1:], [row[1:] for row in rows])


def shares(found: Sequence[Share], *, by: str) -> Table:
    heads = ("NAMESPACE", "KEY", "SHARE", "/HOUR", "TOKENS IN", "TOKENS OUT")
    rows = [
        (
            share.namespace,
            share.key,
            _percent(share.part),
            sums(share.hourly) if share.hourly else NOTHING,
            f"{share.counts.tokens.prompt:,.0f}",
            f"{share.counts.tokens.completion:,.0f}",
        )
        for share in found
    ]
    if by == "key":
        return _table(heads, rows)
    return _table(tuple(head for head in heads if head != "KEY"), [(row[0], *row[2:]) for row in rows])


def sums(costs: Mapping[str, float]) -> str:
    return " + ".join(hourly(value, currency) for currency, value in costs.items())


def _percent(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.0%}"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    table = Table(box=None, pad_edge=False)
    listed = list(rows)
    for index, head in enumerate(heads):
        kept = max(len(cell) for cell in (head, *(row[index] for row in listed))) if head.startswith("/") else len(head)
        left = head in ("NAMESPACE", "NAME", "CLASS", "KEY")
        table.add_column(head, no_wrap=True, overflow="ellipsis", min_width=kept, justify="left" if left else "right")
    for row in listed:
        table.add_row(*row)
    return table


def bill_json(bill: Bill) -> dict[str, Any]:
    tokens = bill.counts.tokens
    return {
        "namespace": bill.namespace,
        "name": bill.name,
        "accelerator": bill.accelerator,
        "replicas": bill.replicas,
        "devicesPerReplica": bill.devices,
        "currency": bill.currency,
        "hourly": bill.hourly,
        "perRequest": bill.rates.per_request,
        "perMillionInput": bill.rates.per_million_prompt,
        "perMillionOutput": bill.rates.per_million_completion,
        "perMillionTokens": bill.rates.per_million_tokens,
        "idleShare": bill.rates.idle_share,
        "requests": bill.counts.requests,
        "promptTokens": tokens.prompt,
        "completionTokens": tokens.completion,
    }


def share_json(share: Share, *, by: str) -> dict[str, Any]:
    tokens = share.counts.tokens
    return {
        "namespace": share.namespace,
        **({"key": share.key} if by == "key" else {}),
        "share": share.part,
        "hourly": dict(share.hourly),
        "promptTokens": tokens.prompt,
        "completionTokens": tokens.completion,
    }
