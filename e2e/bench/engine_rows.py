"""The rows of the engine's benchmark: each runs what it compares in turns and says what came of it.

A ratio is the first thing by the second, the median over the rounds; its range stands beside it.
"""

import asyncio
import itertools
import re
import statistics
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final

import httpx

from e2e.bench import engine_work as work
from e2e.bench.completions import Answer, Request, ask, closed_loop, in_batches
from e2e.bench.engine_figures import Ratio, Row, milliseconds, p99, per_second
from e2e.bench.engine_judge import Judged, judge
from e2e.bench.engines import CONTEXT, SERVED, Engine, build_deployment, cpu_seconds, running, without_middleware
from e2e.kubectl import Kubectl

BATCH: Final = 16
ACCEPTED: Final = "vllm:spec_decode_num_accepted_tokens_total"
DRAFTED: Final = "vllm:spec_decode_num_draft_tokens_total"
DRAFT_MODEL: Final = "pvc://models/tokenfleet-demo-variants/draft"


def send_to(engine: Engine) -> Callable[[Request], Awaitable[Answer]]:
    return partial(ask, engine.url, SERVED)


def rate(answers: Sequence[Answer], seconds: float) -> float:
    """Tokens a second."""
    return sum(answer.tokens for answer in answers) / seconds


async def timed(answers: Awaitable[list[Answer]]) -> tuple[list[Answer], float]:
    began = asyncio.get_running_loop().time()
    return await answers, asyncio.get_running_loop().time() - began


async def warm(engines: Sequence[Engine]) -> None:
    for engine in engines:
        await closed_loop(work.mixed(8, seed=99), clients=4, send=send_to(engine))


def static_vs_continuous(kubectl: Kubectl, rounds: int) -> Row:
    """The same engine and requests: all at once, or the next batch when the longest answer of the one before has ended."""

    async def measure(engine: Engine) -> list[tuple[float, float]]:
        await warm([engine])
        pairs = []
        for number in range(rounds):
            requests = work.mixed(4 * BATCH, seed=number)
            static, static_seconds = await timed(in_batches(requests, size=BATCH, send=send_to(engine)))
            again = work.mixed(4 * BATCH, seed=number + 1000)
            again = [Request(prompt=one.prompt, tokens=other.tokens) for one, other in zip(again, requests, strict=True)]
            flowing, seconds = await timed(closed_loop(again, clients=len(again), send=send_to(engine)))
            pairs.append((rate(flowing, seconds), rate(static, static_seconds)))
        return pairs

    with running(kubectl, [build_deployment("batching", {"batching": {"maxNumSeqs": BATCH}})]) as (engine,):
        pairs = asyncio.run(measure(engine))
    ratio = Ratio.of(pairs)
    return Row(
        title="continuous / static batching, tokens a second",
        figures=per_second(continuous=[p[0] for p in pairs], static=[p[1] for p in pairs]),
        ratio=ratio, wanted="> 1", result=ratio.median,
    )  # fmt: skip


def prefix_cache(kubectl: Kubectl, rounds: int) -> Row:
    """Time to first token of questions behind one long system prompt, with the cache and without."""

    async def ttfts(engine: Engine, requests: Sequence[Request]) -> float:
        answers = [await send_to(engine)(request) for request in requests]
        return statistics.median(answer.ttft for answer in answers[1:])  # the first one fills the cache

    async def measure(on: Engine, off: Engine) -> list[tuple[float, float]]:
        await warm([on, off])
        pairs = []
        for number in range(rounds):
            requests = work.sharing(12, prefix=1500, seed=number)
            pairs.append((await ttfts(on, requests), await ttfts(off, requests)))
        return pairs

    deployments = [
        build_deployment("prefix-on", {"prefixCaching": True}),
        build_deployment("prefix-off", {"prefixCaching": False}),
    ]
    with running(kubectl, deployments) as (on, off):
        pairs = asyncio.run(measure(on, off))
    ratio = Ratio.of(pairs)
    return Row(
        title="prefix cache on / off, TTFT behind a shared prompt of 1,500 tokens",
        figures=milliseconds(on=[p[0] for p in pairs], off=[p[1] for p in pairs]),
        ratio=ratio, wanted="< 1", result=ratio.median,
    )  # fmt: skip


def speculative(kubectl: Kubectl, rounds: int) -> list[Row]:
    """Seconds a token, with guesses and without: from the prompt's own words, and from a draft model."""

    async def itl(engine: Engine, requests: Sequence[Request]) -> float:
        answers = await closed_loop(requests, clients=2, send=send_to(engine))
        return statistics.median(answer.itl for answer in answers)

    async def measure(engines: Sequence[Engine]) -> list[list[float]]:
        await warm(engines)
        return [[await itl(engine, work.repeating(8, seed=number)) for engine in engines] for number in range(rounds)]

    methods: dict[str, dict[str, Any]] = {
        "ngram": {"method": "ngram", "numTokens": 4},
        "draft": {"method": "draft", "draftModel": DRAFT_MODEL, "numTokens": 3},
    }
    deployments = [build_deployment("guess-none", {})]
    deployments += [build_deployment(f"guess-{name}", {"speculative": fields}) for name, fields in methods.items()]
    with running(kubectl, deployments) as engines:
        measured = asyncio.run(measure(engines))
        acceptance = [_acceptance(engine) for engine in engines[1:]]
    rows = []
    for index, name in enumerate(methods, start=1):
        ratio = Ratio.of((values[index], values[0]) for values in measured)
        accepted = acceptance[index - 1]
        rows.append(Row(
            title=f"speculative decoding ({name}) / none, seconds a token; {accepted:.0%} accepted",
            figures=milliseconds(**{name: [v[index] for v in measured]}, none=[v[0] for v in measured]),
            ratio=ratio, wanted="", result={"acceptance": accepted, "itl_ratio": ratio.median},
        ))  # fmt: skip
    return rows


def _acceptance(engine: Engine) -> float:
    metrics = httpx.get(f"{engine.url}/metrics", trust_env=False).text
    accepted, drafted = (
        sum(float(value) for value in re.findall(rf"^{name}(?:\{{[^}}]*\}})? (\S+)$", metrics, re.MULTILINE))
        for name in (ACCEPTED, DRAFTED)
    )
    return accepted / drafted if drafted else 0.0  # nothing was guessed: no words stood in the prompt twice


async def _disturbed(engine: Engine, *, seed: int, streams: int = 4, tokens: int = 300) -> tuple[float, float]:
    """While `streams` run, a long prompt arrives again and again: p99 of their gaps, and the long ones' median TTFT."""
    prompts = itertools.chain.from_iterable(work.even(50, prompt=CONTEXT - 100, tokens=1, seed=seed + n) for n in range(1, 99))
    over = asyncio.Event()

    async def long_ones() -> list[float]:
        found = []
        while not over.is_set():
            found.append((await send_to(engine)(next(prompts))).ttft)
            await asyncio.sleep(0.25)
        return found

    async with asyncio.TaskGroup() as group:
        disturber = group.create_task(long_ones())
        answers = await closed_loop(
            work.even(streams, prompt=50, tokens=tokens, seed=seed), clients=streams, send=send_to(engine)
        )
        over.set()
    return p99([gap for answer in answers for gap in answer.gaps]), statistics.median(disturber.result())


def chunked_prefill(kubectl: Kubectl, rounds: int) -> Row:
    """Gaps of running streams while prompts of 1,950 tokens arrive, read in chunks of 256 or at once."""

    async def measure(on: Engine, off: Engine) -> list[tuple[float, float]]:
        await warm([on, off])
        return [
            ((await _disturbed(on, seed=1000 * n))[0], (await _disturbed(off, seed=1000 * n + 500))[0]) for n in range(rounds)
        ]

    deployments = [
        build_deployment("chunks-on", {"batching": {"chunkedPrefill": True, "maxNumBatchedTokens": 256}}),
        build_deployment("chunks-off", {"batching": {"chunkedPrefill": False, "maxNumBatchedTokens": CONTEXT}}),
    ]
    with running(kubectl, deployments) as (on, off):
        pairs = asyncio.run(measure(on, off))
    ratio = Ratio.of(pairs)
    return Row(
        title="chunked prefill on / off, p99 of running streams' gaps while long prompts come",
        figures=milliseconds(on=[p[0] for p in pairs], off=[p[1] for p in pairs]),
        ratio=ratio, wanted="< 1", result=ratio.median,
    )  # fmt: skip


def disaggregation(kubectl: Kubectl, rounds: int) -> Row:
    """The same two pods: one that reads prompts and one that answers, or two that do both. By the router: it moves them."""

    async def measure(apart: Engine, together: Engine) -> list[tuple[tuple[float, float], tuple[float, float]]]:
        await warm([apart, together])
        return [
            (await _disturbed(apart, seed=1000 * n), await _disturbed(together, seed=1000 * n + 500)) for n in range(rounds)
        ]

    deployments = [
        build_deployment("apart", {}, disaggregation={"prefill": {"replicas": 1}}, replicas=1),
        build_deployment("together", {}, replicas=2),
    ]
    with running(kubectl, deployments, by_router=True) as (apart, together):
        measured = asyncio.run(measure(apart, together))
    gaps = Ratio.of((one[0], other[0]) for one, other in measured)
    ttfts = Ratio.of((one[1], other[1]) for one, other in measured)
    return Row(
        title="prefill and decode apart / together, p99 of running streams' gaps while long prompts come",
        figures=milliseconds(apart=[one[0] for one, _ in measured], together=[other[0] for _, other in measured]),
        ratio=gaps, wanted="", result={"itl_p99_ratio": gaps.median, "ttft_ratio": ttfts.median},
    )  # fmt: skip


def middleware(kubectl: Kubectl, rounds: int) -> list[Row]:
    """With our middleware around vLLM's server and without: tokens a second, and CPU time; and an outside judge of the first.

    Throughput is at the mercy of whoever else has the cores; CPU time hardly is, so the overhead goes by that.
    """

    async def measure(engines: Sequence[Engine]) -> list[dict[str, tuple[float, float]]]:
        await warm(engines)
        found = []
        for number in range(3 * rounds):
            one = {}
            for engine in engines if number % 2 else reversed(engines):
                requests = work.even(160, prompt=64, tokens=64, seed=number)
                before = await asyncio.to_thread(cpu_seconds, kubectl, engine)
                answers, seconds = await timed(closed_loop(requests, clients=32, send=send_to(engine)))
                used = await asyncio.to_thread(cpu_seconds, kubectl, engine) - before
                one[engine.name] = rate(answers, seconds), rate(answers, used)
            found.append(one)
        return found

    with running(kubectl, [build_deployment("middleware", {}), without_middleware("bare")]) as engines:
        found = asyncio.run(measure(engines))
        ours, theirs = judge(kubectl, engines[0], rounds=rounds)
    titles = "tokens a second", "tokens a second of CPU time"
    sides = [[(one["middleware"][index], one["bare"][index]) for one in found] for index in range(len(titles))]
    rows = [
        Row(
            title=f"with our middleware / bare vLLM, {title}",
            figures=per_second(ours=[pair[0] for pair in pairs], bare=[pair[1] for pair in pairs]),
            ratio=Ratio.of(pairs), wanted="≥ 0.98", result=round(1 - Ratio.of(pairs).median, 4), details={"pairs": pairs},
        )
        for title, pairs in zip(titles, sides, strict=True)
    ]  # fmt: skip
    return [
        *rows,
        _agreement("tokens a second", "tokens_per_second", ours, theirs),
        _agreement("TTFT", "ttft_ms", ours, theirs),
        _agreement("seconds a token", "itl_ms", ours, theirs),
    ]


def _agreement(title: str, figure: str, ours: Sequence[Judged], theirs: Sequence[Judged]) -> Row:
    pairs = [(getattr(one, figure), getattr(other, figure)) for one, other in zip(ours, theirs, strict=True)]
    ratio, sides = Ratio.of(pairs), zip(*pairs, strict=True)
    return Row(
        title=f"this client / vllm bench serve, {title} of one server",
        figures={name: f"{statistics.median(side):,.2f}" for name, side in zip(("ours", "theirs"), sides, strict=True)},
        ratio=ratio, wanted="near 1", result={figure: ratio.median},
    )  # fmt: skip
