"""`tokenfleet-engine fetch` as a process, as an init container runs it, with an environment that holds what a test gives it."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tokenfleet import contract

_QUIET: Final = {"AWS_EC2_METADATA_DISABLED": "true", "NO_GCE_CHECK": "true", "NO_PROXY": "127.0.0.1"}
"""Nobody is asked who this machine is."""


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    error: str
    note: dict[str, str]
    """The reason and the message that are left for the kubelet, where there are any."""

    def failed(self, reason: str) -> str:
        """The message, of a failure that ended as one should."""
        assert self.code == 2, (self.code, self.out, self.error)
        assert "Traceback" not in self.error, self.error
        assert self.note["reason"] == reason, self.note
        assert self.note["message"] in self.error
        return self.note["message"]

    def succeeded(self) -> str:
        assert self.code == 0, (self.code, self.out, self.error)
        return self.out


@dataclass(frozen=True)
class Fetches:
    root: Path
    """A directory of this test alone."""

    @property
    def cache(self) -> Path:
        return self.root / "cache"

    def run(self, *arguments: str, environment: dict[str, str]) -> Outcome:
        process = self.start(*arguments, environment=environment)
        out, error = process.communicate(timeout=120)
        return self.outcome(process.returncode, out, error)

    def start(self, *arguments: str, environment: dict[str, str]) -> subprocess.Popen[str]:
        command = [
            sys.executable, "-m", "tokenfleet_engine.main", "fetch", "--cache", str(self.cache),
            "--termination-log", str(self.root / "note"), *arguments,
        ]  # fmt: skip
        kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
        return subprocess.Popen(
            command, env={**kept, "HOME": str(self.root), **_QUIET, **environment},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def outcome(self, code: int, out: str, error: str) -> Outcome:
        note = self.root / "note"
        content = note.read_text() if note.exists() else ""
        return Outcome(code, out, error, json.loads(content) if content else {})

    def destination(self, source: str, revision: str | None = None) -> Path:
        return self.cache / Path(contract.cached_path(source, revision)).name

    def content(self, source: str, revision: str | None = None) -> dict[str, bytes]:
        folder = self.destination(source, revision)
        return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
