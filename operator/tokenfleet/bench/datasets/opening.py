"""Finds out what a file has, and gives the prompts of it: all, or a sample that the same seed draws again.

A file is read once, as a stream: of a trace its first records, since their order and times matter; of conversations and written
prompts a sample over the whole file (reservoir sampling: J. S. Vitter, Random Sampling with a Reservoir, ACM Trans. Math.
Softw. 11, 1985), in the order of the file."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any, Final, Literal, cast, get_args

from tokenfleet.bench.datasets.conversations import conversation_of, is_conversation
from tokenfleet.bench.datasets.records import BadDataset, Record, read_records
from tokenfleet.bench.datasets.traces import Request, is_request, request_of, requests_as_prompts
from tokenfleet.bench.datasets.written import is_written, written_of
from tokenfleet.bench.prompts import Numbers, Prompt, Wording

Kind = Literal["conversations", "prompts", "trace"]
KINDS: Final = cast(tuple[Kind, ...], get_args(Kind))
KEPT: Final = 10_000
"""Prompts that are drawn where nobody says how many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """What was in a file. Each iteration gives the same prompts."""

    path: Path
    kind: Kind
    records: int
    """In the file, as far as it was read."""
    skipped: int
    """That have nothing to ask."""
    seed: int
    made: tuple[Prompt, ...] = ()
    """conversations, prompts."""
    requests: tuple[Request, ...] = ()
    """trace."""
    wording: Wording | None = None

    def __iter__(self) -> Iterator[Prompt]:
        if self.kind != "trace":
            return iter(self.made)
        return requests_as_prompts(self.requests, wording=self.wording or Numbers(), seed=self.seed)

    def __len__(self) -> int:
        return len(self.made) + len(self.requests)

    @property
    def times(self) -> tuple[float, ...] | None:
        """When each prompt was asked, in seconds since the first; None: the file does not say."""
        if self.kind != "trace":
            return None
        return tuple(each.time for each in self.requests)

    def as_json(self) -> dict[str, Any]:
        """For a run's meta."""
        told = {"file": self.path.name, "kind": self.kind, "records": self.records, "skipped": self.skipped}
        return told | {"prompts": len(self), "seed": self.seed}


def open_dataset(
    path: Path | str,
    *,
    seed: int = 0,
    count: int | None = None,
    turns: int = 1,
    output_tokens: int | None = None,
    wording: Wording | None = None,
    tokens_of: Callable[[str], int] | None = None,
) -> Dataset:
    """Raises BadDataset.

    count: prompts at most. turns: of a conversation, at most. output_tokens: of every prompt, whatever the file says.
    wording: how the prompts of a trace are made up. tokens_of: counts the tokens of a recorded answer; about four characters
    are one where it is left out."""
    where = Path(path)
    if count is not None and count < 1:
        raise BadDataset(f"{where}: there must be at least one prompt to ask (given: {count}).")
    if turns < 1:
        raise BadDataset(f"{where}: a conversation has at least one turn (given: {turns}).")
    records = read_records(where)
    first = next(records)
    kind = _kind(where, first)
    if kind == "trace":
        return _trace(where, first, records, seed=seed, count=count, output_tokens=output_tokens, wording=wording)
    sample = _Sample(count or KEPT, Random(seed))
    for record in _all(first, records):
        made = _made(where, kind, record, turns=turns, tokens_of=tokens_of or _about)
        sample.offer(made)
    if not sample.kept:
        raise BadDataset(f"{where}: none of its {sample.offered} records has anything that a user asks.")
    prompts = tuple(_shortened(prompt, output_tokens) for _, prompt in sorted(sample.kept, key=lambda pair: pair[0]))
    return Dataset(path=where, kind=kind, records=sample.offered, skipped=sample.skipped, seed=seed, made=prompts)


class _Sample:
    """So many of all that is offered, each with the same chance."""

    def __init__(self, most: int, chance: Random) -> None:
        self.kept: list[tuple[int, Prompt]] = []
        self.offered = self.skipped = 0
        self._most, self._chance = most, chance

    def offer(self, prompt: Prompt | None) -> None:
        self.offered += 1
        if prompt is None:
            self.skipped += 1
            return
        number = self.offered - self.skipped - 1
        if number < self._most:
            self.kept.append((number, prompt))
        elif (place := self._chance.randrange(number + 1)) < self._most:
            self.kept[place] = (number, prompt)


def _kind(path: Path, record: Record) -> Kind:
    tests: Mapping[Kind, Callable[[dict[str, Any]], bool]] = {
        "conversations": is_conversation,
        "prompts": is_written,
        "trace": is_request,
    }
    for kind, fits in tests.items():
        if fits(record.fields):
            return kind
    fields = ", ".join(map(repr, list(record.fields)[:8])) or "nothing"
    raise BadDataset(
        f"{path}: line {record.line}: a record has {fields}; it needs 'conversations' (as ShareGPT has them), 'prompt' or "
        "'messages', or a trace's 'timestamp', 'input_tokens' and 'output_tokens'."
    )


def _made(path: Path, kind: Kind, record: Record, *, turns: int, tokens_of: Callable[[str], int]) -> Prompt | None:
    try:
        if kind == "conversations":
            return conversation_of(record.fields, number=record.line, turns=turns, tokens_of=tokens_of)
        return written_of(record.fields)
    except ValueError as error:
        raise BadDataset(f"{path}: line {record.line}: {error}.") from error


def _trace(
    path: Path,
    first: Record,
    records: Iterator[Record],
    *,
    seed: int,
    count: int | None,
    output_tokens: int | None,
    wording: Wording | None,
) -> Dataset:
    requests: list[Request] = []
    began = 0.0
    for record in _all(first, records):
        if count is not None and len(requests) >= count:
            break
        try:
            request = request_of(record.fields)
        except ValueError as error:
            raise BadDataset(f"{path}: line {record.line}: {error}.") from error
        began = began if requests else request.time
        request = request.moved(-began, output_tokens=output_tokens)
        if requests and request.time < requests[-1].time:
            back = requests[-1].time - request.time
            raise BadDataset(f"{path}: line {record.line}: time goes back by {back:g} s: sort the records by time.")
        requests.append(request)
    return Dataset(
        path=path, kind="trace", records=len(requests), skipped=0, seed=seed, requests=tuple(requests), wording=wording
    )  # fmt: skip


def _all(first: Record, records: Iterator[Record]) -> Iterator[Record]:
    yield first
    yield from records


def _shortened(prompt: Prompt, output_tokens: int | None) -> Prompt:
    return prompt if output_tokens is None else replace(prompt, output_tokens=output_tokens)


def _about(text: str) -> int:
    return max(1, round(len(text) / 4))
