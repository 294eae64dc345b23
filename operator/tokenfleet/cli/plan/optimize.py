"""`tokenfleet plan optimize`: the cheapest way to serve a model within what is promised, what else would do, and what not.

The search is planning.optimize's, the table optimize_tables.py's. Here the options become an Ask, and the best is written down.
"""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from rich.console import Console

from tokenfleet.cli import options
from tokenfleet.cli.errors import CliError, Unusable
from tokenfleet.cli.plan.calibrations import read_calibrations
from tokenfleet.cli.plan.models import read_model
from tokenfleet.cli.plan.optimize_tables import as_body, nobody, show
from tokenfleet.cli.plan.units import seconds
from tokenfleet.errors import InvalidSpec
from tokenfleet.planning.optimize import Ask, InvalidAsk, optimize
from tokenfleet.planning.optimize.manifest import deployment_of, is_on_this_machine

Json = dict[str, Any]


def optimize_command(
    source: Annotated[
        str, typer.Option("--model", "-m", help="hf://ORG/NAME, s3://…, gs://…, a folder, or a file of its facts.")
    ],
    rate: Annotated[float, typer.Option(help="Requests a second, of the whole fleet.")],
    input_tokens: Annotated[int, typer.Option("--input", help="Tokens of a prompt, in the mean.")],
    output_tokens: Annotated[int, typer.Option("--output", help="Tokens of an answer, in the mean.")],
    ttft: Annotated[str | None, typer.Option(help="Time to the first token that is promised: 500ms.")] = None,
    itl: Annotated[str | None, typer.Option(help="Time between two tokens that is promised: 50ms.")] = None,
    e2e: Annotated[str | None, typer.Option("--e2e", help="Time to the last token that is promised: 10s.")] = None,
    percentile: Annotated[float, typer.Option(help="Of the requests and gaps for which that holds, in percent.")] = 95,
    only: Annotated[list[str] | None, typer.Option("--only", help="A class of accelerators; several times for more.")] = None,
    revision: Annotated[str | None, typer.Option(help="Of the model, as spec.model.revision has it.")] = None,
    spot: Annotated[bool, typer.Option("--spot", help="Pay the price of spot, where a class has one.")] = False,
    currency: Annotated[str, typer.Option(help="Of the prices; classes in another one are left out.")] = "USD",
    max_model_len: Annotated[
        int | None, typer.Option("--max-model-len", help="Tokens of the longest request; input and output where left out.")
    ] = None,
    max_gpus: Annotated[int | None, typer.Option("--max-gpus", help="That there are to buy.")] = None,
    min_replicas: Annotated[int, typer.Option("--min-replicas", help="At least, so that one may be lost.")] = 1,
    headroom: Annotated[float, typer.Option(help="Room beyond the rate, in percent of it.")] = 0,
    safety: Annotated[float, typer.Option(help="Share of the prediction's error that is kept as a margin.")] = 1.0,
    as_files: Annotated[
        bool, typer.Option("--as-files", help="No fp8 that the model's files do not have: neither weights nor KV cache.")
    ] = False,
    calibration: Annotated[
        list[Path] | None, typer.Option("--calibration", help="A file of `plan speed --calibrate`, for its class.")
    ] = None,
    _accelerators: options.Accelerators = None,
    top: Annotated[int, typer.Option(min=1, help="Rows of the table.")] = 5,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write the LLMDeployment there.")] = None,
    as_json: options.Json = False,
) -> None:
    """Find the cheapest accelerators, counts and settings that serve a load within what is promised.

    Every way of running the model is looked at: class × tensor × pipeline × precision × KV cache × batch × replicas. What is
    shown is predicted, and the promises are kept even if it is off by its usual error. Ends with 1 where nothing keeps them.

    tokenfleet plan optimize --model hf://meta-llama/Llama-3.1-8B-Instruct --rate 5 --input 1024 --output 256 --ttft 500ms
    --itl 50ms --out llm.yaml && kubectl apply -f llm.yaml
    """
    model = read_model(source, revision=revision)
    try:
        ask = Ask(
            rate=rate,
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            ttft=None if ttft is None else seconds(ttft, option="--ttft"),
            itl=None if itl is None else seconds(itl, option="--itl"),
            e2e=None if e2e is None else seconds(e2e, option="--e2e"),
            percentile=percentile / 100,
            max_model_len=max_model_len,
            accelerators=tuple(only) if only else None,
            spot=spot,
            currency=currency,
            max_gpus=max_gpus,
            min_replicas=min_replicas,
            headroom=headroom / 100,
            precisions=("files",) if as_files else ("files", "fp8"),
            kv_precisions=("auto",) if as_files else ("auto", "fp8"),
            safety=safety,
            calibrations=read_calibrations(calibration or []),
        )
        outcome = optimize(model, ask)
    except (InvalidAsk, InvalidSpec) as error:
        raise Unusable(str(error)) from error
    best = outcome.best
    manifest = None if best is None else deployment_of(best, model, source=source, revision=revision)
    text = "" if manifest is None else _written(manifest, source)
    if out is not None and manifest is not None:
        _write(out, text)
    if as_json:
        typer.echo(json.dumps(as_body(outcome, ask) | {"manifest": manifest}, indent=2))
    else:
        show(Console(width=None if Console().is_terminal else options.WIDE), outcome, ask, top=top)
        if manifest is not None:
            typer.echo(f"\n{text}" if out is None else f"\n{out} holds it: kubectl apply -f {out}", nl=out is not None)
    if outcome.best is None:
        raise CliError(nobody(outcome, ask))


def _written(body: Json, source: str) -> str:
    head = "# Put the model's files into this claim first.\n" if is_on_this_machine(source) else ""
    return head + yaml.safe_dump(body, sort_keys=False)


def _write(out: Path, text: str) -> None:
    try:
        out.write_text(text)
    except OSError as error:
        raise Unusable(f"{out} cannot be written ({error.strerror}): name another file.") from error
