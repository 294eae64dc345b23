"""Reads a model's small files, and says of each way in which that fails what to do about it.

Directories, JSON, sizes: everything that `model_files`, `adapters` and `speculation` look at goes through here, so that a
file which is missing, cut off or closed to the engine's user reads the same everywhere. Must not know what a file means.
"""

import json
import os
from pathlib import Path
from typing import Any

from tokenfleet import contract
from tokenfleet_engine.failures import EngineFailure


def list_names(path: Path, *, holds: str) -> set[str]:
    """What stands in the directory; `holds` says what belongs there."""
    try:
        return {entry.name for entry in path.iterdir()}
    except FileNotFoundError:
        raise EngineFailure(contract.REASON_MODEL_NOT_FOUND, f"There is no {path}. {neighbours(path)}") from None
    except NotADirectoryError:
        raise invalid(f"{path} is a file; {holds}.") from None
    except PermissionError:
        raise unreadable(path) from None
    except OSError as error:
        raise EngineFailure(contract.REASON_MODEL_NOT_FOUND, f"{path} cannot be read: {error.strerror}.") from error


def neighbours(path: Path) -> str:
    """Name what there is instead: most wrong paths are near to a right one."""
    parent = next((p for p in path.parents if p.is_dir()), None)
    if parent is None:
        return "Neither is there any directory above it."
    try:
        names = sorted(f"{entry.name}/" if entry.is_dir() else entry.name for entry in parent.iterdir())
    except OSError:
        return f"{parent} cannot be listed by uid {os.geteuid()}."
    if not names:
        return f"{parent} is there, and empty: is it the right volume, and was the model copied into it?"
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return f"{parent} holds: {', '.join(names[:8])}{more}."


def read_json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(read(file))
    except ValueError as error:
        raise invalid(f"{file} is not valid JSON ({error}). Copy it anew.") from error
    if not isinstance(content, dict):
        raise invalid(f"{file} is not a JSON object. Copy it anew.")
    return content


def read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except PermissionError:
        raise unreadable(file) from None
    except OSError as error:
        raise invalid(f"{file} cannot be read: {error.strerror}.") from error


def size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        raise invalid(f"{file} is a link to nothing. Copy the file itself (cp -L).") from None
    except PermissionError:
        raise unreadable(file) from None


def unreadable(path: Path) -> EngineFailure:
    return invalid(
        f"{path} is not readable for uid {os.geteuid()}, which the engine runs as. Make the model's files readable for "
        "everybody (chmod -R a+rX)."
    )


def invalid(message: str) -> EngineFailure:
    return EngineFailure(contract.REASON_MODEL_INVALID, message)
