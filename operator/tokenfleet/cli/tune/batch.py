"""`tokenfleet tune batch`: the most requests at once with which an engine keeps a promise about latency.

The result, YAML or with --json one object, goes to stdout; the tries and all else go to stderr. What ends a search early leaves
its tries in a file, and the same command goes on from there.
"""

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console

from tokenfleet.bench.client import Endpoint
from tokenfleet.bench.datasets import Dataset, open_dataset
from tokenfleet.cli import options
from tokenfleet.cli.bench import given
from tokenfleet.cli.bench.asked import check_file, lengths_of
from tokenfleet.cli.bench.carrying_out import on_a_loop, sentences
from tokenfleet.cli.errors import CliError, Unusable
from tokenfleet.cli.tune import shown
from tokenfleet.cli.tune.searching import Access, Content, search
from tokenfleet.cli.tune.state import State, default_path, open_state
from tokenfleet.cli.tune.target import bound_of, check_single, is_name
from tokenfleet.cli.tune.trying import Rules
from tokenfleet.planning.tuning import METRICS, Found, Objective, Search

INPUT: Final = 512
OUTPUT: Final = 128


@options.in_cluster
def batch(
    target: Annotated[
        str, typer.Argument(help="Name of an LLMDeployment with one replica, or URL of an engine.", show_default=False)
    ],
    slo: Annotated[
        list[str], typer.Option(help="The promise: itl=50ms, ttft=1s, tpot=…, e2e=…; may be repeated.", show_default=False)
    ],
    percentile: Annotated[float, typer.Option(help="So many percent of all cases keep it.")] = 95.0,
    input_: Annotated[
        str | None, typer.Option("--input", help="Tokens: 512, 512±128, uniform:64:900, …", show_default="512")
    ] = None,
    output: Annotated[str | None, typer.Option(help="Tokens, written likewise.", show_default="128")] = None,
    dataset: Annotated[Path | None, typer.Option(help="Prompts of a file instead.", show_default=False)] = None,
    start: Annotated[int, typer.Option(min=1, help="So many at once first.")] = 8,
    most: Annotated[int, typer.Option("--max", min=1, help="So many at once at most.")] = 256,
    precision: Annotated[str, typer.Option(help="The answer may be smaller than the largest by so much.")] = "0%",
    gain: Annotated[
        str, typer.Option(help="It ends where twice as many bring less than this in tokens; 0: it does not.")
    ] = "5%",
    confidence: Annotated[float, typer.Option(help="Of each try's verdict, in percent.")] = 95.0,
    try_time: Annotated[str, typer.Option(help="For one try at most.")] = "5m",
    state: Annotated[
        Path | None, typer.Option(help="Where the tries are kept; also when it is over.", show_default="a cache")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Begin anew, whatever was tried before.")] = False,
    out: Annotated[Path | None, typer.Option(help="Write the YAML there.", show_default="stdout")] = None,
    model: Annotated[
        str | None, typer.Option(help="The one that /v1/models lists, where left out.", show_default=False)
    ] = None,
    endpoint: Annotated[Endpoint | None, typer.Option(help="Of the API.", show_default="completions")] = None,
    timeout: Annotated[str, typer.Option(help="For a whole answer.")] = "10m",
    seed: Annotated[int, typer.Option(help="The same seed asks the same.")] = 0,
    key: Annotated[
        str | None, typer.Option(envvar="TOKENFLEET_API_KEY", show_envvar=True, help="API key.", show_default=False)
    ] = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="Do not verify the server's certificate.")] = False,
    as_json: options.Json = False,
    *,
    place: options.Place,
) -> None:
    """Find the largest batch with which an engine keeps a promise, and write the setting to apply.

    tokenfleet tune batch chat --slo itl=50ms --slo ttft=1s --input 512±128 --output 128

    The engine gets more and more requests at once: twice as many each time until the promise breaks, then what is between. A \
try goes on until it is clear whether the promise is kept, with the confidence that is asked for. Nothing else should use the \
engine meanwhile. An interrupted search goes on with the same command. docs/tuning.md has an example.
    """
    objectives = _objectives(slo, percentile)
    console = Console(stderr=True, width=None if Console(stderr=True).is_terminal else options.WIDE, highlight=False)
    content = Content(
        data=_dataset(dataset, seed), input=lengths_of(input_, "--input", INPUT), output=lengths_of(output, "--output", OUTPUT),
        endpoint=endpoint, output_given=output is not None,
    )  # fmt: skip
    _check_output(objectives, content)
    rules = Rules(objectives=objectives, alpha=1 - _confidence(confidence), seconds=given.seconds(try_time, "--try-time"))
    plan = Search(start=min(start, most), most=most, gain=_share(gain, "--gain"), precision=_share(precision, "--precision"))
    asked = _asked(target, objectives, content, plan, confidence, seed, place if is_name(target) else None)
    kept = open_state(state or default_path(asked), asked, fresh=fresh, now=datetime.now(UTC))
    _tell_kept(kept, console)
    from tokenfleet.cli.cluster.target import target as reached

    with reached(place, target) as server:
        check_single(server.deployment)
        plan = bound_of(plan, server.deployment, lambda text: console.print(text, soft_wrap=True, markup=False))
        access = Access(
            url=server.base_url, model=model or server.model, key=key, timeout=given.seconds(timeout, "--timeout"),
            tls=False if insecure else server.ssl or True,
        )  # fmt: skip
        with sentences():
            found = on_a_loop(search(plan, rules, content, access, kept, console=console, seed=seed, clock=time.monotonic))
        if state is None:
            kept.remove()
        _conclude(found, objectives, kept, server.deployment, target, out=out, console=console, as_json=as_json)


def _conclude(
    found: Found,
    objectives: tuple[Objective, ...],
    kept: State,
    deployment: dict[str, Any] | None,
    target: str,
    *,
    out: Path | None,
    console: Console,
    as_json: bool,
) -> None:
    said = shown.sentence(found, objectives, kept.probes)
    change = shown.patch(found.concurrency, deployment) if found.concurrency is not None else None
    if as_json:
        document = {
            "maxNumSeqs": found.concurrency,
            "why": found.why,
            "promises": [each.as_json() for each in objectives],
            "patch": change,
            "probes": [each.as_json() for each in kept.probes],
        }
        typer.echo(json.dumps(document, indent=2))
    if change is None:
        raise CliError(said)
    console.print(said, soft_wrap=True, markup=False)
    text = shown.as_yaml(change)
    if out is not None:
        _write(out, text)
        console.print(f"Wrote {out}. Apply it: {_command(target, deployment, str(out))}", soft_wrap=True, markup=False)
    elif not as_json:
        typer.echo(text, nl=False)
        note = f"Apply it: write it to batching.yaml (--out), then {_command(target, deployment, 'batching.yaml')}"
        console.print(note, soft_wrap=True, markup=False)


def _command(target: str, deployment: dict[str, Any] | None, file: str) -> str:
    name, where = ("NAME", "") if deployment is None else (target, f" -n {deployment['metadata'].get('namespace', 'default')}")
    return f"kubectl patch llmd {name}{where} --type=merge --patch-file {file}"


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        typer.echo(text, nl=False)
        raise CliError(f"{path} cannot be written: {error}. Its content stands above.") from error


def _objectives(texts: list[str], percentile: float) -> tuple[Objective, ...]:
    if not 50 <= percentile < 100:
        raise Unusable(f"--percentile {percentile:g}: it must be from 50 to below 100.")
    promised = given.slo(",".join(texts))
    bounds = promised.as_json() if promised is not None else {}
    return tuple(
        Objective(metric=metric, limit=bounds[metric], percentile=percentile) for metric in METRICS if metric in bounds
    )  # fmt: skip


def _confidence(percent: float) -> float:
    if not 50 <= percent <= 99.99:
        raise Unusable(f"--confidence {percent:g}: it must be from 50 to 99.99 percent.")
    return percent / 100


def _share(text: str, option: str) -> float:
    return given.number(text.strip().removesuffix("%"), option, most=99) / 100


def _check_output(objectives: tuple[Objective, ...], content: Content) -> None:
    gaps = [each.metric for each in objectives if each.metric in ("itl", "tpot")]
    if gaps and content.data is None and content.output.kind == "fixed" and content.output.first < 2:
        raise Unusable(f"--output 1: an answer of one token has no {gaps[0]}: ask for more tokens.")


def _dataset(path: Path | None, seed: int) -> Dataset | None:
    if path is None:
        return None
    check_file(path, "--dataset")
    with sentences():
        return open_dataset(path, seed=seed)


def _asked(
    target: str,
    objectives: tuple[Objective, ...],
    content: Content,
    plan: Search,
    confidence: float,
    seed: int,
    place: options.Place | None,
) -> dict[str, Any]:
    """What makes tries of one search worth nothing for another one."""
    where = {"namespace": place.namespace, "context": place.context} if place is not None else None
    return {
        "target": target, "place": where, "promises": [each.as_json() for each in objectives], "content": content.as_json(),
        "start": plan.start, "confidence": confidence, "seed": seed,
    }  # fmt: skip


def _tell_kept(kept: State, console: Console) -> None:
    if kept.probes:
        count = f"{len(kept.probes)} {'try' if len(kept.probes) == 1 else 'tries'}"
        text = f"Goes on after {count} of a search that began at {kept.began} ({kept.path}); --fresh begins anew."
        console.print(text, soft_wrap=True, markup=False)
