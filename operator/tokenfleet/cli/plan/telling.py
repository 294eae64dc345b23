"""Reviews in words and as JSON: a paragraph a deployment, a line a part, and the difference last, coloured on a terminal."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from rich.console import Console
from rich.text import Text

from tokenfleet.cli.plan.changes import Change
from tokenfleet.cli.plan.review import Pace, Review
from tokenfleet.cli.plan.units import span
from tokenfleet.planning.capacity import Capacity
from tokenfleet.planning.memory.memory import Memory
from tokenfleet.planning.optimize.reasons import money

Json = dict[str, Any]

_GIB: Final = 1 << 30
_HOURS_A_MONTH: Final = 730
_WIDTH: Final = 9
_COLOURS: Final = {"+": "green", "-": "red", "@": "cyan", "~": "yellow", "!": "red"}
_WORDS: Final = {"create": "made", "change": "changed", "delete": "deleted", "taken": "in the way"}


def tell(console: Console, reviews: Sequence[Review], others: Sequence[str], *, diff: bool) -> None:
    for index, review in enumerate(reviews):
        if index:
            console.print()
        console.print(f"{review.kind} {review.namespace}/{review.name}  ({review.where})", style="bold", soft_wrap=True)
        for label, line in _lines(review):
            console.print(Text.assemble((f"  {label:<{_WIDTH}} ", "cyan"), line), soft_wrap=True)
        for style, title, sentences in (
            ("yellow", "Not told", review.untold),
            ("yellow", "Risk", review.risks),
            ("bold red", "Problem", review.problems),
        ):
            for sentence in dict.fromkeys(sentences):
                console.print(Text.assemble((f"  {title:<{_WIDTH}} ", style), sentence), soft_wrap=True)
        if diff and review.children is not None:
            for change in review.children.changes:
                _tell_difference(console, change)
    if others:
        console.print(f"\nNot looked at: {', '.join(others)}.", style="dim", soft_wrap=True)


def _lines(review: Review) -> Iterator[tuple[str, str]]:
    """(label, line): a label once, and then blank."""
    if review.memory is not None:
        yield from _labelled("Memory", _memory(review.memory))
    if review.pace is not None:
        yield from _labelled("Speed", _pace(review.pace))
    if review.bill is not None:
        bill = review.bill
        low, high = bill.replicas
        counts = f"{low}" if low == high else f"{low} to {high}"
        costs = [money(each, bill.currency) for each in dict.fromkeys((bill.least, bill.most))]
        months = [money(each * _HOURS_A_MONTH, bill.currency) for each in dict.fromkeys((bill.least, bill.most))]
        plural = "" if (low, high) == (1, 1) else "s"
        yield "Cost", f"{' to '.join(costs)} an hour, {' to '.join(months)} a month, for {counts} replica{plural}"
    if review.capacity is not None:
        yield from _labelled("Devices" if review.capacity.resource else "Room", _capacity(review.capacity))
    if review.children is not None:
        yield from _labelled("Changes", _changes(review.children.changes))
    if review.rollout:
        yield from _labelled("Rollout", iter(review.rollout))


def _labelled(label: str, lines: Iterator[str]) -> Iterator[tuple[str, str]]:
    for line in lines:
        yield label, line
        label = ""


def _memory(memory: Memory) -> Iterator[str]:
    weights = _gib(memory.weights + memory.draft + memory.adapters)
    beside = _gib(memory.activations + memory.graphs)
    if not memory.fits:
        room = f"; {_gib(memory.usable)} of {_gib(memory.device)} usable" if memory.device else ""
        yield f"{weights} of weights and {beside} of working memory{room}"
        return
    room = f" on each device, of {_gib(memory.usable)} usable" if memory.device else ""
    yield f"{weights} of weights, {beside} of working memory and {_gib(memory.kv_cache)} of KV cache{room}"
    longest = f"{memory.max_concurrency:.1f} sequences of {memory.max_model_len:,}"
    yield f"{memory.kv_tokens:,} tokens find room in the KV cache of a replica: {longest}"


def _pace(pace: Pace) -> Iterator[str]:
    traffic, error = pace.traffic, pace.alone.error
    yield (
        f"alone, first token after {span(pace.alone.ttft)}, then one each {span(pace.alone.itl)} (± {error:.0%}), for "
        f"{traffic.input_tokens} + {traffic.output_tokens} tokens"
    )
    within = f" within {traffic.promises} at P95" if traffic.promises else ""
    yield f"a replica takes up to {pace.capacity:.2f} requests/s{within}"
    if pace.loaded is not None and traffic.rate is not None:
        loaded = pace.loaded
        growing = "" if loaded.stable else "; it does not keep up, and requests wait longer and longer"
        yield (
            f"at {traffic.rate:g} requests/s, TTFT {span(loaded.ttft_tail)} and ITL {span(loaded.itl_tail)} at P95, "
            f"{loaded.batch:.0f} in the batch{growing}"
        )


def _capacity(found: Capacity) -> Iterator[str]:
    able = [place for place in found.places if place.refusal is None]
    if found.resource is not None:
        devices = sum(place.devices for place in able)
        waiting = "1 pod that waits already wants" if found.pending == 1 else f"{found.pending} pods that wait already want"
        ahead = f"; {waiting} {found.pending_devices:g}" if found.pending else ""
        nodes = "1 node" if len(able) == 1 else f"{len(able)} nodes"
        yield f"{found.free:g} of {devices:g} {found.resource} free on {nodes} of the class{ahead}"
    if found.wanted == 0:
        yield "no more replicas are to be started"
    else:
        yield f"{found.startable} of {found.wanted} replicas to be started find room now"
    yield from (f"{place.node} is not counted: {place.refusal}" for place in found.places if place.refusal is not None)


def _changes(changes: Sequence[Change]) -> Iterator[str]:
    if not changes:
        yield "none"
        return
    for change in changes:
        yield f"{change.sign} {change.kind} {change.name} {_WORDS[change.action]}"


def _tell_difference(console: Console, change: Change) -> None:
    lines = change.diff()
    if lines:
        console.print()
    for line in lines[:2]:  # of which object
        console.print(Text(line, style="bold"), soft_wrap=True)
    for line in lines[2:]:
        console.print(Text(line, style=_COLOURS.get(line[:1], "")), soft_wrap=True)


def _gib(count: int) -> str:
    return f"{count / _GIB:.1f} GiB"


def as_body(reviews: Sequence[Review], others: Sequence[str]) -> Json:
    """For programs: seconds, bytes, and money by the hour."""
    return {"deployments": [_review_body(each) for each in reviews], "notLookedAt": list(others)}


def _review_body(review: Review) -> Json:
    changes = review.children.changes if review.children is not None else None
    return {
        "kind": review.kind,
        "namespace": review.namespace,
        "name": review.name,
        "problems": list(dict.fromkeys(review.problems)),
        "risks": list(dict.fromkeys(review.risks)),
        "untold": list(dict.fromkeys(review.untold)),
        "memory": None if review.memory is None else _memory_body(review.memory),
        "speed": None if review.pace is None else _pace_body(review.pace),
        "cost": None if review.bill is None else {
            "currency": review.bill.currency,
            "hourly": review.bill.least,
            "hourlyAtMost": review.bill.most,
        },
        "capacity": None if review.capacity is None else _capacity_body(review.capacity),
        "changes": None if changes is None else [
            {"action": each.action, "kind": each.kind, "name": each.name, "diff": "\n".join(each.diff())} for each in changes
        ],
        "rollout": review.rollout,
    }  # fmt: skip


def _memory_body(memory: Memory) -> Json:
    return {
        "fits": memory.fits,
        "shortage": memory.shortage,
        "fixes": list(memory.fixes),
        "usable": memory.usable,
        "weights": memory.weights,
        "kvCache": memory.kv_cache,
        "kvTokens": memory.kv_tokens,
        "maxModelLen": memory.max_model_len,
        "maxConcurrency": memory.max_concurrency,
    }


def _pace_body(pace: Pace) -> Json:
    loaded = None if pace.loaded is None else {"ttft": pace.loaded.ttft_tail, "itl": pace.loaded.itl_tail}
    return {
        "ttftAlone": pace.alone.ttft,
        "itlAlone": pace.alone.itl,
        "error": pace.alone.error,
        "requestsPerSecond": pace.capacity,
        "atRate": loaded,
    }


def _capacity_body(found: Capacity) -> Json:
    return {
        "resource": found.resource,
        "free": found.free,
        "wanted": found.wanted,
        "startable": found.startable,
        "pendingPods": found.pending,
        "pendingDevices": found.pending_devices,
        "waitsFor": list(found.waits_for),
        "nodes": [
            {"name": place.node, "devices": place.devices, "free": place.free, "takes": place.takes, "refusal": place.refusal}
            for place in found.places
        ],
    }
