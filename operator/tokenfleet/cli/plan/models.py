"""The model that a plan is about: read where its files are, or taken from a document that was read before.

Of the files only config.json and the headers of the weights are read. The engine's package, which does that, is loaded where it
is needed. Whatever goes wrong is one sentence.
"""

import contextlib
import json
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import typer

from tokenfleet.cli.errors import CliError, Unusable
from tokenfleet.planning.model import ModelFacts
from tokenfleet.planning.model_facts import UnknownModel, facts_of

_QUIET_SECONDS: Final = 2.0
"""Before anything is said about how long it takes."""


def read_model(source: str, *, revision: str | None = None) -> ModelFacts:
    """source: a directory, hf://, s3:// or gs://, or a file FILE.json with facts or with an inspection's document.

    Raises CliError, and Unusable where the source cannot be meant.
    """
    if source.startswith("pvc://"):
        raise Unusable(
            f"{source} is a volume of the cluster, which is not read from here. Once it is deployed, its facts are in the "
            "status: kubectl get llmd NAME -o jsonpath='{.status.model.facts}' > model.json, and then name model.json."
        )
    try:
        if source.endswith(".json") and Path(source).expanduser().is_file():
            return _from_file(Path(source).expanduser())
        return facts_of(_inspected(source, revision))
    except UnknownModel as error:
        raise CliError(f"{source}: {error}") from error


def _from_file(file: Path) -> ModelFacts:
    if file.name == "config.json":
        raise Unusable(f"{file} does not say how large the weights are. Name its directory, with the safetensors beside it.")
    try:
        body = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise Unusable(f"{file} cannot be read as JSON: {error}.") from error
    if isinstance(body, Mapping) and isinstance(body.get("model"), Mapping):
        body = body["model"]  # as `tokenfleet-engine inspect` prints it
    if isinstance(body, Mapping) and "config" in body:
        return facts_of(body)
    try:
        return ModelFacts.from_json(body)
    except (KeyError, TypeError, AttributeError) as error:
        raise Unusable(
            f"{file} has no facts of a model: it should be status.model.facts of an LLMDeployment, or what "
            "`tokenfleet-engine inspect` prints."
        ) from error


def _inspected(source: str, revision: str | None) -> Mapping[str, Any]:
    try:
        from tokenfleet_engine.failures import EngineFailure
        from tokenfleet_engine.inspection.inspect import inspect_source
    except ImportError as error:  # an installation without the extra
        raise CliError(f"Models are read by tokenfleet's extra `engine`, which is not installed ({error}).") from error
    if revision is not None and "://" not in source:
        raise Unusable(f"--revision {revision}: a directory has no revisions; {source} is read as it is.")
    try:
        return _waited(lambda: inspect_source(source, revision=revision), what=source)
    except EngineFailure as error:
        raise CliError(error.message) from error


def _waited(work: Callable[[], Mapping[str, Any]], *, what: str) -> Mapping[str, Any]:
    """The work's result; on a terminal, with how long it takes already."""
    done: list[Mapping[str, Any]] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            with contextlib.redirect_stdout(sys.stderr):  # what it says on its way is no part of the answer
                done.append(work())
        except BaseException as error:  # noqa: BLE001  (raised again where it is waited for)
            failed.append(error)

    thread, began = threading.Thread(target=run, daemon=True), time.monotonic()
    thread.start()
    thread.join(_QUIET_SECONDS)
    while thread.is_alive():
        if sys.stderr.isatty():
            typer.echo(f"\rReading the headers of {what}: {time.monotonic() - began:.0f} s ", nl=False, err=True)
        thread.join(1.0)
    if sys.stderr.isatty() and time.monotonic() - began > _QUIET_SECONDS:
        typer.echo("\r\x1b[K", nl=False, err=True)
    if failed:
        raise failed[0]
    return done[0]
