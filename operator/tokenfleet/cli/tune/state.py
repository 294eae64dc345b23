"""The tries of a search, kept in a file as each ends, so that a search that was ended goes on where it was.

The file also has what was asked. Tries of another question are no answers to this one, so they are refused and not taken.
"""

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from tokenfleet.cli.errors import CliError, Unusable
from tokenfleet.planning.tuning import Probe

_VERSION: Final = 1


@dataclass(slots=True)
class State:
    """Of one search."""

    path: Path
    asked: Mapping[str, Any]
    began: str
    probes: list[Probe] = field(default_factory=list)

    def add(self, probe: Probe) -> None:
        """Raises CliError."""
        self.probes.append(probe)
        body = {
            "version": _VERSION,
            "asked": dict(self.asked),
            "began": self.began,
            "probes": [each.as_json() for each in self.probes],
        }
        half = self.path.with_name(self.path.name + ".part")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with half.open("w", encoding="utf-8") as file:
                file.write(json.dumps(body, indent=1) + "\n")
                file.flush()
                os.fsync(file.fileno())
            half.replace(self.path)
        except OSError as error:
            raise CliError(f"The tries cannot be kept in {self.path}: {error}.") from error

    def remove(self) -> None:
        with contextlib.suppress(OSError):
            self.path.unlink()


def open_state(path: Path, asked: Mapping[str, Any], *, fresh: bool, now: datetime) -> State:
    """With the tries that are there. Raises Unusable."""
    began = now.astimezone(UTC).isoformat(timespec="seconds")
    if fresh or not path.exists():
        return State(path, asked, began)
    anew = "name another file with --state, or begin anew with --fresh"
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
        kept, probes = body["asked"], [Probe.from_json(each) for each in body["probes"]]
        began = str(body["began"])
        if body["version"] != _VERSION:
            raise ValueError(f"it is of version {body['version']!r}")
    except (OSError, UnicodeDecodeError) as error:
        raise Unusable(f"--state {path} cannot be read: {error}.") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Unusable(f"--state {path} has no tries of ours ({type(error).__name__}: {error}): {anew}.") from error
    if other := [name for name in asked if kept.get(name) != _plain(asked[name])]:
        name = other[0]
        was, is_ = _told(kept.get(name)), _told(asked[name])
        raise Unusable(f"--state {path} is of another search ({name} was {was}, and is {is_}): {anew}.")
    return State(path, asked, began, probes)


def default_path(asked: Mapping[str, Any]) -> Path:
    """A place of its own for each question."""
    text = json.dumps(asked, sort_keys=True)
    name = re.sub(r"[^a-zA-Z0-9.-]+", "-", str(asked["target"])).strip("-")[:60]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "tokenfleet" / "tune" / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:10]}.json"


def _plain(value: Any) -> Any:
    """As it comes back from JSON."""
    return json.loads(json.dumps(value))


def _told(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) if value is not None else "not said"
