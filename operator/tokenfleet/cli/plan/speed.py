"""`tokenfleet plan speed`: how fast a model will be on an accelerator, with what error, and what each phase waits for.

The figures are planning.speed's; here the options become a Workload, and the answer a table or JSON. With --calibrate a
deployment is measured instead (`calibrate`).
"""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from tokenfleet.cli import options
from tokenfleet.cli.errors import CliError, Unusable
from tokenfleet.cli.plan import speed_tables as tables
from tokenfleet.cli.plan.asked import Asked, asked_of, check_fits
from tokenfleet.cli.plan.calibrate import calibrate
from tokenfleet.cli.plan.calibrations import calibration_for
from tokenfleet.cli.plan.measuring import RUN_SECONDS
from tokenfleet.planning.speed import Calibration, Speed, UnknownSpeed, Workload, default_calibration, estimate_speed

Json = dict[str, Any]

_CONCURRENCIES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


@options.in_cluster
def speed(
    *,
    source: Annotated[
        str | None,
        typer.Argument(help="hf://ORG/NAME, s3://…, gs://…, a directory, or a file of its facts.", show_default=False),
    ] = None,
    file: Annotated[Path | None, typer.Option("--filename", "-f", help="An LLMDeployment instead: what its spec says.")] = None,
    accelerator: Annotated[
        str | None, typer.Option("--accelerator", "-a", help="A class of `tokenfleet accelerators`.")
    ] = None,
    input_tokens: Annotated[int, typer.Option("--input", help="Tokens of a prompt.")] = 1024,
    output_tokens: Annotated[int, typer.Option("--output", help="Tokens of an answer.")] = 256,
    concurrency: Annotated[float | None, typer.Option(help="Requests that it works on at any time.")] = None,
    rate: Annotated[float | None, typer.Option(help="Requests a second that come to one replica.")] = None,
    cached: Annotated[float, typer.Option(help="Share of a prompt that the prefix cache has, 0 to 1.")] = 0.0,
    variation: Annotated[float, typer.Option(help="Of the lengths: 0 if all are alike, 1 if they vary widely.")] = 0.0,
    percentile: Annotated[float, typer.Option(help="Of the tails that are told, below 1.")] = 0.95,
    tensor: Annotated[int, typer.Option(min=1, help="GPUs that share each layer.")] = 1,
    pipeline: Annotated[int, typer.Option(min=1, help="Groups of layers, each on GPUs of its own.")] = 1,
    quantization: Annotated[str | None, typer.Option(help="As spec.engine.quantization, such as fp8.")] = None,
    kv_dtype: Annotated[str, typer.Option(help="As spec.engine.kvCache.dtype, such as fp8.")] = "auto",
    max_model_len: Annotated[int | None, typer.Option(min=1, help="Tokens of a sequence at most.")] = None,
    max_num_seqs: Annotated[int | None, typer.Option(min=1, help="Sequences of a step at most.")] = None,
    max_num_batched_tokens: Annotated[int | None, typer.Option(min=1, help="Tokens of a step at most.")] = None,
    revision: Annotated[str | None, typer.Option(help="Of the model: a commit, a branch or a tag.")] = None,
    calibration: Annotated[Path | None, typer.Option(help="A file that --calibrate made, of this class.")] = None,
    target: Annotated[
        str | None, typer.Option("--calibrate", help="Measure this LLMDeployment, or the server at this URL, instead.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="With --calibrate: the file to write.")] = None,
    key: Annotated[str | None, typer.Option(envvar="TOKENFLEET_API_KEY", help="With --calibrate: the API key.")] = None,
    seconds: Annotated[float, typer.Option(help="With --calibrate: of each of about ten runs.")] = RUN_SECONDS,
    _accelerators: options.Accelerators = None,
    as_json: options.Json = False,
    place: options.Place,
) -> None:
    """Show time to first token, time between tokens and tokens a second of one replica, each with its error.

    Without --rate and --concurrency: a table over concurrencies. Estimates come from a model of the hardware, calibrated by \
published measurements; calibrate it by your own deployment for a smaller error:

    tokenfleet plan speed hf://Qwen/Qwen3-8B --accelerator nvidia-h100-80gb --input 1024 --output 256 --rate 4

    tokenfleet plan speed -f llm.yaml --calibrate chat --out calibration.json

    tokenfleet plan speed -f llm.yaml --calibration calibration.json --concurrency 32
    """
    if target is not None:
        if out is None:
            raise Unusable("--calibrate needs --out: the file to write the calibration to, such as calibration.json.")
        if seconds <= 0:
            raise Unusable(f"--seconds must be above 0 (given: {seconds:g}).")
    elif out is not None:
        raise Unusable("--out is the file of --calibrate: name the deployment to measure, or leave it out.")
    known = (
        None
        if target is not None and source is None and file is None
        else asked_of(
            source,
            file,
            accelerator,
            revision=revision,
            settings={
                "tensor": tensor,
                "pipeline": pipeline,
                "quantization": quantization,
                "kv_dtype": kv_dtype,
                "max_model_len": max_model_len,
                "max_num_seqs": max_num_seqs,
                "max_num_batched_tokens": max_num_batched_tokens,
            },
        )
    )
    if target is not None and out is not None:
        calibrate(known, target, out, key=key, seconds=seconds, place=place, as_json=as_json)
        return
    assert known is not None
    asked = known
    if rate is not None and concurrency is not None:
        raise Unusable("--rate and --concurrency are two loads: give one of them, or none for a table.")
    workload = _workload(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        concurrency=1.0 if rate is None and concurrency is None else concurrency,
        rate=rate,
        cached_share=cached,
        variation=variation,
        percentile=percentile,
    )
    chosen = _calibration(asked, calibration)
    check_fits(asked, workload)
    if rate is None and concurrency is None:
        _show_many(asked, workload, chosen, as_json=as_json)
    else:
        _show_one(asked, workload, chosen, as_json=as_json)


_OPTIONS: Final = {"input_tokens": "--input", "output_tokens": "--output", "cached_share": "--cached"}
"""By a workload's field; others are called like theirs."""


def _workload(**fields: Any) -> Workload:
    try:
        return Workload(**fields)
    except ValueError as error:
        field, _, rest = str(error).partition(" ")
        raise Unusable(f"{_OPTIONS.get(field, f'--{field}')} {rest}.") from error


def _calibration(asked: Asked, file: Path | None) -> Calibration:
    accelerator = asked.serving.accelerator
    if file is not None:
        return calibration_for(file, accelerator.name)
    try:
        return default_calibration(accelerator)
    except UnknownSpeed as error:
        raise CliError(f"{error}.") from error


def _show_one(asked: Asked, workload: Workload, calibration: Calibration, *, as_json: bool) -> None:
    found = estimate_speed(asked.model, asked.serving, workload, calibration, memory=asked.memory)
    if as_json:
        typer.echo(json.dumps(as_body(asked, [(workload, found)], calibration)))
    else:
        tables.show_one(asked, workload, found, calibration)
    if not found.stable:
        raise CliError(
            f"One replica does not keep up with {workload.rate:g} requests a second: {found.capacity:.3g} are the most that it "
            "can answer. Use more replicas, or a faster accelerator."
        )


def _show_many(asked: Asked, workload: Workload, calibration: Calibration, *, as_json: bool) -> None:
    """Up to the first concurrency that has no place for all."""
    rows: list[tuple[Workload, Speed]] = []
    for concurrency in _CONCURRENCIES:
        each = replace(workload, concurrency=float(concurrency))
        rows.append((each, estimate_speed(asked.model, asked.serving, each, calibration, memory=asked.memory)))
        if concurrency >= rows[-1][1].places:
            break
    if as_json:
        typer.echo(json.dumps(as_body(asked, rows, calibration)))
    else:
        tables.show_many(asked, rows, calibration)


def as_body(asked: Asked, rows: list[tuple[Workload, Speed]], calibration: Calibration) -> Json:
    return {
        "architecture": asked.model.architecture,
        "accelerator": asked.serving.accelerator.name,
        "devices": asked.serving.devices,
        "calibration": calibration.as_json(),
        "speeds": [{"workload": asdict(workload), "speed": asdict(found)} for workload, found in rows],
    }
