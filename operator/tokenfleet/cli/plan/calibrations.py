"""Files of calibrations: what `tokenfleet plan speed --calibrate` found out about a deployment, read and written here.

A file has the class of accelerators that it was measured on, the calibration, and the measurements that it came from; one that
was interrupted has its measurements and no calibration.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from tokenfleet.cli.errors import CliError, Unusable
from tokenfleet.planning.speed import Calibration

Json = dict[str, Any]

_MAKE_ONE: Final = "make one by `tokenfleet plan speed --calibrate NAME --out FILE`"


def read_calibration(file: Path) -> tuple[str, Calibration]:
    """The name of its class, and the calibration. Raises Unusable."""
    try:
        body = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Unusable(f"The calibration {file} cannot be read: {error}; {_MAKE_ONE}.") from error
    if not isinstance(body, dict) or not isinstance(body.get("accelerator"), str):
        raise Unusable(f"{file} is no calibration: it names no accelerator; {_MAKE_ONE}.")
    if not isinstance(body.get("calibration"), dict):
        raise Unusable(f"{file} has no calibration, since its benchmark did not end; {_MAKE_ONE}.")
    try:
        return body["accelerator"], Calibration.from_json(body["calibration"])
    except ValueError as error:
        raise Unusable(f"{file}: {error}; {_MAKE_ONE}.") from error


def read_calibrations(files: Sequence[Path]) -> dict[str, Calibration]:
    """By class. Raises Unusable, also where two files are of one class."""
    found: dict[str, Calibration] = {}
    for file in files:
        name, calibration = read_calibration(file)
        if name in found:
            raise Unusable(f"{file} is a second calibration of {name}: give one for each class.")
        found[name] = calibration
    return found


def calibration_for(file: Path, accelerator: str) -> Calibration:
    """Raises Unusable where it was measured on another class."""
    name, calibration = read_calibration(file)
    if name != accelerator:
        raise Unusable(f"{file} was measured on {name}, which says nothing of {accelerator}; {_MAKE_ONE}.")
    return calibration


def write_calibration(file: Path, body: Json) -> None:
    """Whole or not at all, so that an interruption leaves the last one. Raises CliError."""
    beside = file.with_name(f".{file.name}.tmp")
    try:
        beside.write_text(json.dumps(body, indent=2) + "\n", encoding="utf-8")
        beside.replace(file)
    except OSError as error:
        raise CliError(f"The calibration {file} cannot be written: {error}.") from error
