"""`tokenfleet bench run`: what is to be done is read from the options, done, kept as it goes on, and shown.

The table goes to stdout, or with --json one object; all else goes to stderr. What ends a run early, Ctrl-C, a server that is
gone, leaves what was measured until then, and an exit code that is not 0.
"""

import json
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from tokenfleet.bench.arrivals import Process
from tokenfleet.bench.client import Endpoint
from tokenfleet.bench.datasets import Dataset, open_dataset
from tokenfleet.bench.figures import Summary, summarize
from tokenfleet.bench.journal import Journal, Unwritable
from tokenfleet.bench.record import Run
from tokenfleet.cli import options
from tokenfleet.cli.bench import given, table
from tokenfleet.cli.bench.asked import Asked, Shape, build_asked, check_file, lengths_of
from tokenfleet.cli.bench.carrying_out import Access, Content, carry_out, on_a_loop, sentences
from tokenfleet.cli.cluster import target as cluster_target
from tokenfleet.cli.errors import CliError, Unusable

INPUT: Final = 512
OUTPUT: Final = 128
INTERRUPTED: Final = 130


@options.in_cluster
def run(
    target: Annotated[str, typer.Argument(help="Name of an LLMDeployment, or an URL.", show_default=False)],
    model: Annotated[
        str | None, typer.Option(help="The one that /v1/models lists, where left out.", show_default=False)
    ] = None,
    requests: Annotated[int | None, typer.Option(min=1, help="So many, beside the warm-up's.", show_default="100")] = None,
    duration: Annotated[str | None, typer.Option(help="Send for so long, such as 60s.", show_default=False)] = None,
    concurrency: Annotated[int | None, typer.Option(min=1, help="Users of a closed loop.", show_default="8")] = None,
    think: Annotated[str | None, typer.Option(help="Of a user, between two requests.", show_default=False)] = None,
    rate: Annotated[float | None, typer.Option(help="Requests a second of an open loop.", show_default=False)] = None,
    arrivals: Annotated[Process | None, typer.Option(help="How they come.", show_default="poisson")] = None,
    ramp: Annotated[str | None, typer.Option(help="FIRST:LAST:TIME: a rate that rises.", show_default=False)] = None,
    trace: Annotated[Path | None, typer.Option(help="Recorded moments and lengths.", show_default=False)] = None,
    max_concurrency: Annotated[
        int | None, typer.Option(min=1, help="Of an open loop: more wait in the client, and their wait counts.")
    ] = None,
    input_: Annotated[
        str | None,
        typer.Option("--input", help="Tokens: 512, 512±128, uniform:64:900, lognormal:512:0.8.", show_default="512"),
    ] = None,
    output: Annotated[str | None, typer.Option(help="Tokens, written likewise.", show_default="128")] = None,
    prefix: Annotated[int, typer.Option(min=0, help="Tokens in front that requests share.")] = 0,
    prefixes: Annotated[int, typer.Option(min=1, help="How many such beginnings.")] = 1,
    turns: Annotated[int, typer.Option(min=1, help="Of each conversation.")] = 1,
    dataset: Annotated[Path | None, typer.Option(help="Prompts, or conversations, of a file.", show_default=False)] = None,
    endpoint: Annotated[
        Endpoint | None, typer.Option(help="Of the API.", show_default="completions, or chat for turns")
    ] = None,
    eos: Annotated[
        bool,
        typer.Option(
            "--eos/--ignore-eos", help="Whether the model may end an answer early; --eos where the server is no vLLM."
        ),
    ] = False,
    slo: Annotated[str | None, typer.Option(help="Promises, such as ttft=500ms,itl=50ms,e2e=5s.", show_default=False)] = None,
    warmup: Annotated[
        str | None, typer.Option(help="Requests, or a time, that do not count.", show_default="one a user")
    ] = None,
    cooldown: Annotated[str | None, typer.Option(help="The same at the end.", show_default="none")] = None,
    grace: Annotated[str, typer.Option(help="What is under way when --duration is over has so long.")] = "60s",
    timeout: Annotated[str, typer.Option(help="For a whole answer.")] = "10m",
    abort_share: Annotated[float | None, typer.Option(help="Share of clients that leave.", show_default=False)] = None,
    abort_after: Annotated[str | None, typer.Option(help="When they leave, such as 2s.", show_default=False)] = None,
    seed: Annotated[int, typer.Option(help="The same seed sends the same.")] = 0,
    key: Annotated[
        str | None, typer.Option(envvar="TOKENFLEET_API_KEY", show_envvar=True, help="API key.", show_default=False)
    ] = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="Do not verify the server's certificate.")] = False,
    out: Annotated[
        Path | None, typer.Option(help="Keep the run: a new folder, or a .json or .jsonl.", show_default=False)
    ] = None,
    as_json: options.Json = False,
    *,
    place: options.Place,
) -> None:
    """Put a load on a server, and measure what its users would see.

    tokenfleet bench run chat --concurrency 16 --requests 500

    tokenfleet bench run http://127.0.0.1:8000 --rate 5 --duration 2m --input 512±128 --slo ttft=500ms,itl=50ms

    A closed loop (--concurrency) has users who each wait for their answer. An open loop (--rate, --ramp, --trace) sends at \
its own moments, however slow the server is, and latencies count from those. docs/load-tests.md defines every figure.
    """
    data = _dataset(trace, dataset, seed=seed, turns=turns)
    shape = Shape(
        concurrency=concurrency, rate=rate, ramp=ramp, arrivals=arrivals, think=think, max_concurrency=max_concurrency
    )  # fmt: skip
    asked = build_asked(
        shape, times=data.times if data is not None else None, requests=requests, duration=duration, grace=grace, warmup=warmup,
        cooldown=cooldown, slo=slo, abort_share=abort_share, abort_after=abort_after, seed=seed,
    )  # fmt: skip
    content = Content(
        data=data, input=lengths_of(input_, "--input", INPUT), output=lengths_of(output, "--output", OUTPUT), prefix=prefix,
        prefixes=prefixes, turns=turns, endpoint=endpoint, eos=eos, output_given=output is not None,
    )  # fmt: skip
    patience = given.seconds(timeout, "--timeout")
    console = Console(stderr=True, width=None if Console(stderr=True).is_terminal else options.WIDE, highlight=False)
    journal = _journal(out)
    with cluster_target.target(place, target) as server:
        tls = False if insecure else server.ssl or True
        access = Access(url=server.base_url, model=model or server.model, key=key, timeout=patience, tls=tls)
        with sentences():
            result = on_a_loop(carry_out(asked, content, access, target=target, journal=journal, console=console))
    _tell(result, asked, journal, console, as_json=as_json)


def _tell(result: Run, asked: Asked, journal: Journal | None, console: Console, *, as_json: bool) -> None:
    summary = summarize(result, slo=asked.slo, warmup=asked.warmup, cooldown=asked.cooldown)
    if as_json:
        typer.echo(json.dumps({"meta": result.meta, "summary": summary.as_json()}))
    else:
        out = Console()
        table.show(out if out.is_terminal else Console(width=options.WIDE), summary)
    for line in table.warnings(summary, result):
        console.print(line, soft_wrap=True, markup=False)
    if journal is not None:
        with sentences():
            console.print(f"Kept as {journal.end(result, summary.as_json())}.", soft_wrap=True, markup=False)
    _judge(result, summary)


def _judge(result: Run, summary: Summary) -> None:
    """Raises what says that this was no whole run."""
    ending, done = result.meta["ending"], len(result.exchanges)
    last = next((each.error for each in reversed(result.exchanges) if each.outcome in ("error", "cut")), None)
    if ending == "interrupted":
        typer.echo(f"tokenfleet: Interrupted after {done} requests; these are the figures until then.", err=True)
        raise typer.Exit(INTERRUPTED)
    if ending == "server gone":
        raise CliError(f"The server is gone after {done} requests ({last}); these are the figures until then.")
    if ending == "unfinished":
        raise CliError(f"Not all answers had ended when the --grace was over: {summary.cut + summary.errors} were cut.")
    if not summary.ok:
        raise CliError(f"No request got a whole answer{f': {last}' if last else ''}.")


def _dataset(trace: Path | None, dataset: Path | None, *, seed: int, turns: int) -> Dataset | None:
    if trace is not None and dataset is not None:
        raise Unusable("--trace and --dataset are two contents: give one of them.")
    path = trace or dataset
    if path is None:
        return None
    check_file(path, "--trace" if trace is not None else "--dataset")
    with sentences():
        data = open_dataset(path, seed=seed, turns=turns)
    if trace is not None and data.times is None:
        raise Unusable(f"--trace {path}: it has {data.kind} and no times; give it as --dataset.")
    return data


def _journal(out: Path | None) -> Journal | None:
    if out is None:
        return None
    try:
        return Journal(out)
    except Unwritable as error:
        raise Unusable(f"--out {error}") from error
