"""`tokenfleet plan speed --calibrate`: measures a deployment, fits a calibration, and prints its error on runs that it was not
fitted to. What was measured is in the file after every run, so that an interruption loses one run at most.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import typer

from tokenfleet.bench.client import Client
from tokenfleet.cli.bench.carrying_out import Access, find_model, on_a_loop, sentences
from tokenfleet.cli.cluster.target import Target
from tokenfleet.cli.cluster.target import target as target_of
from tokenfleet.cli.errors import CliError
from tokenfleet.cli.options import Place
from tokenfleet.cli.plan import speed_tables as tables
from tokenfleet.cli.plan.asked import Asked, asked_of_deployment
from tokenfleet.cli.plan.calibrations import write_calibration
from tokenfleet.cli.plan.measuring import EXTRA, RUN_SECONDS, Grid, Stopped, grid_of, measure
from tokenfleet.planning.memory.choices import batch_of, model_length
from tokenfleet.planning.speed import Calibration, Point, fit
from tokenfleet.planning.speed.points import predict

Json = dict[str, Any]

_TIMEOUT: Final = 300.0


def calibrate(
    asked: Asked | None, text: str, out: Path, *, key: str | None, seconds: float = RUN_SECONDS, place: Place, as_json: bool
) -> None:
    """asked: what runs there; None: as the LLMDeployment that `text` names says. Raises CliError."""
    with sentences(), target_of(place, text) as found:
        known = asked if asked is not None else asked_of_deployment(found.deployment, text)
        access = Access(url=found.base_url, model=found.model, key=key, timeout=_TIMEOUT, tls=found.ssl or True)
        body = on_a_loop(_measured(known, access, found, out, seconds=seconds))
    calibration = Calibration.from_json(body["calibration"])
    if as_json:
        typer.echo(out.read_text(encoding="utf-8"), nl=False)
        return
    held_out = [Point(**each) for each in body["heldOut"]]
    typer.echo("Predicted beside measured, of runs that it was not fitted to:")
    tables.show_points([(each, predict(each, known.model, known.serving, calibration, known.memory)) for each in held_out])
    typer.echo(f"Mean error {calibration.error:.1%}. Wrote {out}; use it by --calibration {out}.")


async def _measured(asked: Asked, access: Access, target: Target, out: Path, *, seconds: float) -> Json:
    began = time.monotonic()

    def tell(text: str) -> None:
        typer.echo(f"{time.monotonic() - began:4.0f} s  {text}", err=True)

    model = await find_model(access)
    body: Json = {
        "accelerator": asked.serving.accelerator.name,
        "model": asked.name,
        "devices": asked.serving.devices,
        "target": target.base_url,
        "measuredAt": datetime.now(UTC).isoformat(timespec="seconds"),
        "calibration": None,
        "points": [],
        "heldOut": [],
    }
    async with Client(access.url, model=model, key=access.key, timeout=access.timeout, tls=access.tls, extra=EXTRA) as client:
        grid = grid_of(
            max_tokens=min(model_length(asked.model, asked.serving), await _served_length(client)),
            max_num_seqs=batch_of(asked.model, asked.serving).sequences,
        )
        tell(f"{len(grid.loads)} runs of {seconds:g} s and their warm-up")
        await _run(client, grid, body, out, seconds=seconds, tell=tell)
    fitted, held_out = ([Point(**each) for each in body[name]] for name in ("points", "heldOut"))
    tell("fitting")
    source = f"{len(fitted)} runs of {asked.name} on {asked.serving.accelerator.name}"
    found = fit(fitted, asked.model, asked.serving, held_out=held_out, memory=asked.memory, source=source)
    body["calibration"] = found.as_json()
    write_calibration(out, body)
    return body


async def _run(client: Client, grid: Grid, body: Json, out: Path, *, seconds: float, tell: Callable[[str], None]) -> None:
    def keep(point: Point) -> None:
        body["points" if len(body["points"]) < len(grid.fitted) else "heldOut"].append(point.as_json())
        write_calibration(out, body)

    try:
        await measure(client, grid.loads, seconds=seconds, tell=tell, on_point=keep)
    except Stopped as error:
        done = len(body["points"]) + len(body["heldOut"])
        kept = f"; the measurements of {done} of {len(grid.loads)} runs are in {out}" if done else ""
        raise CliError(f"There is no calibration, since {error}{kept}.") from error


async def _served_length(client: Client) -> int:
    """As the server tells it with its models, as vLLM does."""
    status, told = await client.fetch("/models")
    with suppress(KeyError, TypeError, ValueError):
        if status == 200:
            return min(int(each["max_model_len"]) for each in told["data"] if each["id"] == client.model)
    return 1 << 30
