"""Where a running engine writes its traces, and how they come to the user.

The directory is the one in the engine's own command line, which the kernel shows to its neighbours in the pod; from
elsewhere it has to be said. A trace is known by the prefix that its session was given. What was fetched is removed from the
engine's directory: that is memory or the node's disk, and traces are large.
"""

import contextlib
import json
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from tokenfleet import contract
from tokenfleet_engine.failures import EngineFailure

PROC: Final = Path("/proc")
FLAG: Final = "--profiler-config"
FIELD: Final = "torch_profiler_dir"


def find_directory(proc: Path = PROC) -> Path:
    """The only one that an engine on this machine (in a pod: in this container) was told. Raises EngineFailure."""
    found = sorted({name for words in _command_lines(proc) if (name := directory_in(words))})
    if len(found) == 1:
        return Path(found[0])
    state = f"several: {', '.join(found)}" if found else "none"
    raise EngineFailure(
        contract.REASON_ENGINE_CONFIG_INVALID,
        f"The engines that run beside this command name {state} as the directory of their traces. Run it in the engine's own "
        f"pod (kubectl exec), or say --trace-dir: what {FLAG} has as {FIELD}.",
    )


def directory_in(words: Sequence[str]) -> str:
    """Of one command line; nothing where it names none."""
    flags = [word.split("=", 1) if word.startswith("--") and "=" in word else [word] for word in words]
    for place, (flag, *value) in enumerate(flags):
        text = value[0] if value else next(iter(words[place + 1 : place + 2]), "")
        name = flag.replace("_", "-")
        if name == f"{FLAG}.{FIELD.replace('_', '-')}":
            return text
        if name == FLAG:
            with contextlib.suppress(ValueError, AttributeError):
                return str(json.loads(text).get(FIELD, ""))
    return ""


def fetch_traces(directory: Path, *, prefix: str, out: Path) -> list[Path]:
    """Move a session's traces. Raises EngineFailure where there are none."""
    try:
        found = sorted(file for file in directory.iterdir() if file.name.startswith(prefix))
    except OSError as error:
        raise _missing(f"{directory} cannot be read ({error.strerror}).") from error
    traces = [file for file in found if file.name.endswith((".json", ".json.gz"))]
    if not traces:
        raise _missing(f"{directory} has no trace of this session ({prefix}…).")
    fetched = [_move(file, out / file.name.removeprefix(prefix).lstrip("_-.")) for file in found]
    return [file for file in fetched if file.name.endswith((".json", ".json.gz"))]


def _move(file: Path, target: Path) -> Path:
    shutil.copyfile(file, target)
    with contextlib.suppress(OSError):  # another user's directory; it is only the space that is lost
        file.unlink()
    return target


def _missing(what: str) -> EngineFailure:
    return EngineFailure(
        contract.REASON_ENGINE_CONFIG_INVALID,
        f"{what} The engine writes where its {FLAG} says ({FIELD}), on its own machine: run this command there, and give that "
        "directory as --trace-dir.",
    )


def _command_lines(proc: Path) -> Iterable[list[str]]:
    for file in proc.glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            yield file.read_bytes().decode(errors="replace").split("\0")
