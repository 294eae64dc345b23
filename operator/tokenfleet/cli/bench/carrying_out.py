"""Carries a load test out: finds the model, chooses how prompts are worded, and drives the load while it is kept and shown."""

import asyncio
import contextlib
import signal
import ssl
import time
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from random import Random
from typing import Any, TypeVar

from rich.console import Console

from tokenfleet.bench.client import BadTarget, Client, Endpoint
from tokenfleet.bench.datasets import BadDataset, Dataset
from tokenfleet.bench.figures import Trim
from tokenfleet.bench.journal import Journal, Unwritable
from tokenfleet.bench.load import drive
from tokenfleet.bench.prompts import Lengths, Prompt, Synthetic, Wording
from tokenfleet.bench.record import Run
from tokenfleet.bench.wording import choose_wording
from tokenfleet.cli.bench.asked import Asked, describe, pick_endpoint, pick_model
from tokenfleet.cli.bench.progress import Display
from tokenfleet.cli.errors import CliError, Unusable

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """How the server is reached."""

    url: str
    model: str | None
    key: str | None
    timeout: float
    tls: ssl.SSLContext | bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What is asked: of a file, or made up."""

    data: Dataset | None
    input: Lengths
    output: Lengths
    output_given: bool
    """Then it holds for a file's prompts too."""
    prefix: int
    prefixes: int
    turns: int
    endpoint: Endpoint | None
    eos: bool


async def carry_out(
    asked: Asked, content: Content, access: Access, *, target: str, journal: Journal | None, console: Console
) -> Run:
    """Raises BadTarget and CliError before the first request; what goes wrong later is part of the run."""
    first = next(iter(content.data), None) if content.data is not None else None
    endpoint = pick_endpoint(content.endpoint, first, turns=content.turns if content.data is None else 1)
    model = await find_model(access)
    extra = {} if content.eos else {"ignore_eos": True}
    async with Client(
        access.url, model=model, key=access.key, endpoint=endpoint, timeout=access.timeout, tls=access.tls, extra=extra
    ) as client:
        wording = await choose_wording(client) if content.data is None or content.data.kind == "trace" else None
        meta = {
            "target": target, "url": client.base, "model": model, "endpoint": endpoint,
            "startedAt": datetime.now(UTC).isoformat(timespec="seconds"), "seed": asked.seed, "load": describe(asked.pattern),
            "prompts": _described(content, wording), "ignoreEos": not content.eos,
            "warmup": _trimmed(asked.warmup),
            "cooldown": _trimmed(asked.cooldown),
            "slo": asked.slo.as_json() if asked.slo is not None else None,
        }  # fmt: skip
        if journal is not None:
            journal.begin(meta)
        halt, display, began = asyncio.Event(), Display(console, asked.stop), time.process_time()
        with _interrupting(halt), display.shown():
            run = await drive(
                client, _prompts(content, wording, asked.seed), asked.pattern, stop=asked.stop,
                chance=Random(f"arrivals {asked.seed}"), on_progress=display,
                on_exchange=journal.add if journal is not None else None, leaving=asked.leaving,
                at_once=asked.max_concurrency, halt=halt, meta=meta,
            )  # fmt: skip
    return replace(run, meta={**run.meta, "clientCpuSeconds": round(time.process_time() - began, 3)})


async def find_model(access: Access) -> str:
    """Raises BadTarget where no such server answers, and Unusable for a model that it has not."""
    async with Client(access.url, model="", key=access.key, tls=access.tls) as client:
        status, told = await client.fetch("/models")
        if status in (401, 403):
            raise CliError(f"{client.base} answers {status}: give an API key that it knows with --key or TOKENFLEET_API_KEY.")
        listed = told.get("data") if isinstance(told, dict) else None
        if status != 200 or not isinstance(listed, list):
            raise BadTarget(f"{client.base}/models answers {status}: this is no server of OpenAI's API.")
        return pick_model(access.model, [each for each in listed if isinstance(each, dict)], client.base)


def _trimmed(trim: Trim | None) -> dict[str, float] | None:
    return None if trim is None else {"requests": trim.requests, "seconds": trim.seconds}


def on_a_loop(work: Coroutine[Any, Any, _Result]) -> _Result:
    """uvloop's where it is installed."""
    try:
        from uvloop import new_event_loop
    except ImportError:
        return asyncio.run(work)
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(work)


@contextlib.contextmanager
def sentences() -> Iterator[None]:
    """What went wrong with a load test becomes what ends a command."""
    try:
        yield
    except BadTarget as error:
        raise CliError(str(error)) from error
    except (BadDataset, Unwritable) as error:
        raise Unusable(str(error)) from error


def _prompts(content: Content, wording: Wording | None, seed: int) -> Iterator[Prompt]:
    chance = Random(seed)
    if content.data is None:
        assert wording is not None
        return Synthetic(
            input=content.input, output=content.output, wording=wording, prefix=content.prefix, prefixes=content.prefixes,
            turns=content.turns,
        ).prompts(chance)  # fmt: skip
    data = replace(content.data, wording=wording)
    if not content.output_given:
        return iter(data)
    return (replace(prompt, output_tokens=content.output.draw(chance)) for prompt in data)


def _described(content: Content, wording: Wording | None) -> dict[str, Any]:
    told: dict[str, Any] = {"wording": wording.way} if wording is not None else {}
    if content.data is not None:
        return told | {"dataset": content.data.as_json()}
    told |= {"input": str(content.input), "output": str(content.output), "turns": content.turns}
    return told | ({"prefix": content.prefix, "prefixes": content.prefixes} if content.prefix else {})


@contextlib.contextmanager
def _interrupting(halt: asyncio.Event) -> Iterator[None]:
    """Ctrl-C ends the load and not the program: the figures until then are worth having."""
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, halt.set)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGINT)
