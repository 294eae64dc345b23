"""What a search came to, as a table with reasons for people and as JSON for programs."""

from typing import Any

from rich.console import Console
from rich.table import Table

from tokenfleet.cli.plan.units import span
from tokenfleet.planning.optimize import Ask, Candidate, Failure, Outcome
from tokenfleet.planning.optimize.reasons import money

Json = dict[str, Any]


def show(console: Console, outcome: Outcome, ask: Ask, *, top: int) -> None:
    """For people."""
    found = [each for each in (outcome.best, *outcome.runners_up) if each is not None]
    if found:
        at = f"P{ask.percentile * 100:g}"
        table = Table(box=None, pad_edge=False, header_style="bold")
        for name in ("$/H" if ask.currency == "USD" else f"{ask.currency}/H", "1M TOKENS", "REPLICAS"):
            table.add_column(name, justify="right", no_wrap=True)
        table.add_column("EACH ON", no_wrap=True)
        table.add_column("WEIGHTS")
        table.add_column("KV")
        for name in ("BATCH", f"TTFT {at}", f"ITL {at}", "USED"):
            table.add_column(name, justify="right")
        for index, each in enumerate(found[:top]):
            table.add_row(*_row(each), style="bold" if index == 0 else "")
        console.print(table)
        error = max(each.speed.error for each in found[:top])
        console.print(
            f"Latencies are predicted to ± {error:.0%}, and within what is promised with {ask.safety:.0%} of that as a margin.",
            style="dim",
        )
        if len(found) > top:
            console.print(f"{len(found) - top} more would do: --top {len(found)} shows them.", style="dim")
    shown = {each.serving.accelerator.name for each in found[:top]}
    others = [each for each in outcome.failures if each.accelerator not in shown]
    if others:
        console.print("\nWhy not:", style="bold")
        for failure in others:
            console.print(f"  {failure.accelerator}: {failure.reason}", highlight=False, soft_wrap=True)


def _row(each: Candidate) -> list[str]:
    serving = each.serving
    split = f"{serving.tensor} × {serving.pipeline} " if serving.pipeline > 1 else f"{serving.tensor} "
    return [
        money(each.hourly, each.currency),
        money(each.per_million_tokens, each.currency),
        str(each.replicas),
        f"{split}{serving.accelerator.name}",
        each.precision if serving.dtype == "auto" else f"{each.precision}, {serving.dtype}",
        serving.kv_dtype,
        str(serving.max_num_seqs),
        span(each.speed.ttft_tail),
        span(each.speed.itl_tail),
        f"{each.utilization:.0%}",
    ]


def nobody(outcome: Outcome, ask: Ask) -> str:
    """Where nothing keeps what is promised: who comes nearest, and by how much it misses."""
    closest = outcome.closest
    if closest is None or closest.miss is None:
        return "No class of accelerators can do what is asked: the lines above say why, each."
    by = closest.miss.by - 1
    how = f"misses it by {by:.0%}" if by > 0.005 else "misses it as soon as requests meet"
    return (
        f"Nobody can keep this promise at P{ask.percentile * 100:g}. {closest.accelerator} comes nearest and {how}: "
        f"{closest.reason}. Promise less, ask for shorter answers or prompts, or choose a smaller model."
    )


def as_body(outcome: Outcome, ask: Ask) -> Json:
    """For programs; seconds, bytes, and money by the hour."""
    return {
        "best": None if outcome.best is None else candidate_body(outcome.best),
        "runnersUp": [candidate_body(each) for each in outcome.runners_up],
        "failures": [_failure_body(each) for each in outcome.failures],
        "tried": outcome.tried,
        "currency": ask.currency,
        "percentile": ask.percentile,
        "safety": ask.safety,
    }


def candidate_body(each: Candidate) -> Json:
    serving = each.serving
    return {
        "accelerator": serving.accelerator.name,
        "replicas": each.replicas,
        "gpus": each.gpus,
        "tensor": serving.tensor,
        "pipeline": serving.pipeline,
        "dtype": serving.dtype,
        "quantization": serving.quantization,
        "kvCacheDtype": serving.kv_dtype,
        "maxNumSeqs": serving.max_num_seqs,
        "maxModelLen": serving.max_model_len,
        "hourly": each.hourly,
        "perMillionTokens": each.per_million_tokens,
        "ttft": each.speed.ttft_tail,
        "itl": each.speed.itl_tail,
        "e2eMean": each.speed.e2e,
        "error": each.speed.error,
        "capacity": each.capacity,
        "utilization": each.utilization,
        "kvTokens": each.memory.kv_tokens,
    }


def _failure_body(each: Failure) -> Json:
    by = {} if each.miss is None else {"missesBy": each.miss.by - 1}
    hourly = {} if each.hourly is None else {"hourly": each.hourly}
    return {"accelerator": each.accelerator, "reason": each.reason, **hourly, **by}
