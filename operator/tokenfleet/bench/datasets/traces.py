"""Traces: when requests came and how long they and their answers were, without what they said. Pure.

    {"timestamp": 0.25, "input_tokens": 900, "output_tokens": 120}              seconds, or RFC 3339
    {"timestamp": 27482, "input_length": 6955, "output_length": 52, "hash_ids": [46, 47]}     Mooncake's: milliseconds
    TIMESTAMP,ContextTokens,GeneratedTokens                                      Azure's, as CSV

A text of the right length is made up for each. Where a trace says which blocks of 512 tokens a prompt begins with (Mooncake's
hash_ids; R. Qin et al., Mooncake, FAST 2025), prompts with the same numbers begin with the same text, and so meet the server's
prefix cache as they did when they were recorded.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from math import isfinite
from random import Random
from typing import Any, Final

from tokenfleet.bench.datasets.written import whole
from tokenfleet.bench.prompts import Prompt, Wording

BLOCK: Final = 512
"""Tokens that one of Mooncake's hash_ids stands for."""
_TIMES: Final = ("timestamp", "time", "TIMESTAMP", "Timestamp", "arrival_time")
_INPUTS: Final = ("input_tokens", "input_length", "ContextTokens", "Request tokens", "prompt_tokens")
_OUTPUTS: Final = ("output_tokens", "output_length", "GeneratedTokens", "Response tokens", "completion_tokens")


@dataclass(frozen=True, slots=True)
class Request:
    """One of a trace."""

    time: float
    """Seconds."""
    input_tokens: int
    output_tokens: int
    blocks: tuple[int, ...] = ()

    def moved(self, seconds: float, *, output_tokens: int | None = None) -> "Request":
        return replace(self, time=self.time + seconds, output_tokens=output_tokens or self.output_tokens)


def is_request(fields: Mapping[str, Any]) -> bool:
    return all(any(name in fields for name in names) for names in (_TIMES, _INPUTS, _OUTPUTS))


def request_of(fields: Mapping[str, Any]) -> Request:
    """Raises ValueError, without a full stop, where it is none."""
    (_, time), (input_name, inputs), (output_name, outputs) = (_field(fields, names) for names in (_TIMES, _INPUTS, _OUTPUTS))
    blocks = fields.get("hash_ids") or []
    if not isinstance(blocks, list) or not all(isinstance(each, int) for each in blocks):
        raise ValueError("'hash_ids' must be a list of whole numbers")
    seconds = _seconds(time)
    return Request(
        seconds / 1000 if "hash_ids" in fields and not isinstance(time, str) else seconds,
        whole(inputs, input_name, least=1),
        max(1, whole(outputs, output_name, least=0)),
        tuple(blocks),
    )


def requests_as_prompts(requests: Sequence[Request], *, wording: Wording, seed: int) -> Iterator[Prompt]:
    """A text is made when it is asked for, and not kept: a trace may be larger than memory when it is spelt out."""
    for number, request in enumerate(requests):
        yield replace(
            _joined(list(_pieces(request, number, wording=wording, seed=seed))),
            input_tokens=request.input_tokens,
            output_tokens=request.output_tokens,
        )


def _pieces(request: Request, number: int, *, wording: Wording, seed: int) -> Iterator[Prompt]:
    left = request.input_tokens
    for block in request.blocks:
        if left <= 0:
            return
        yield wording.prompt(Random(f"{seed} block {block}"), tokens=min(BLOCK, left), prefix=None)
        left -= BLOCK
    if left > 0:
        yield wording.prompt(Random(f"{seed} request {number}"), tokens=left, prefix=None)


def _joined(pieces: Sequence[Prompt]) -> Prompt:
    if len(pieces) == 1:
        return pieces[0]
    if all(piece.token_ids is not None for piece in pieces):
        return Prompt(token_ids=tuple(each for piece in pieces for each in piece.token_ids or ()))
    texts = [
        piece.text if piece.text is not None else str((piece.messages or ({},))[-1].get("content", "")) for piece in pieces
    ]
    return Prompt(text=" ".join(texts))


def _field(fields: Mapping[str, Any], names: Sequence[str]) -> tuple[str, Any]:
    found = next((name for name in names if fields.get(name) is not None), None)
    if found is None:
        raise ValueError(f"{names[0]!r} is missing, as every record of a trace has it")
    return found, fields[found]


def _seconds(given: object) -> float:
    if isinstance(given, str):
        try:
            moment = datetime.fromisoformat(given)
            return moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()
        except ValueError:
            pass
    try:
        seconds = float(given)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        seconds = float("nan")
    if isinstance(given, bool) or not isfinite(seconds):
        raise ValueError(f"the time must be seconds or RFC 3339 (given: {given!r})")
    return seconds
