"""Keeps a run on disk while it goes on, a line an answer, so that whatever ends it leaves what was known.

FILE.jsonl is that journal and stays. For FILE.json it lies beside it as FILE.jsonl, and goes once the whole document stands.
In a folder there are run.jsonl and summary.json. A result that is there already is never written over.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self, TextIO

from tokenfleet.bench.record import JOURNAL, SUMMARY, Exchange, Run, exchange_line, first_line, last_line
from tokenfleet.errors import TokenfleetError


class Unwritable(TokenfleetError):
    """A result cannot be kept there; the message says why."""


class Journal:
    """Of one run."""

    def __init__(self, out: Path) -> None:
        """Raises Unwritable."""
        self._out, self._folder = out, not out.suffix
        self.path = out / JOURNAL if self._folder else out.with_suffix(".jsonl")
        self._file: TextIO | None = None
        if out.suffix not in ("", ".json", ".jsonl"):
            raise Unwritable(f"{out}: give a folder, or a file whose name ends with .json or .jsonl.")
        for taken in {self.path, self.document}:
            if taken.exists():
                raise Unwritable(f"{taken} is there already: give another name, or remove it.")
        if not self._folder and not out.parent.is_dir():
            raise Unwritable(f"{out}: there is no folder {out.parent}.")

    @property
    def document(self) -> Path:
        """What is there at the end."""
        return self._out / SUMMARY if self._folder else self._out

    def begin(self, meta: Mapping[str, Any]) -> Self:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("x", encoding="utf-8", buffering=1)
            self._file.write(first_line(meta) + "\n")
        except OSError as error:
            raise Unwritable(f"{self.path} cannot be written: {error}.") from error
        return self

    def add(self, exchange: Exchange) -> None:
        if self._file is not None:
            self._file.write(exchange_line(exchange) + "\n")

    def end(self, run: Run, summary: Mapping[str, Any]) -> Path:
        """What the result is called."""
        assert self._file is not None
        try:
            self._file.write(last_line({name: run.meta[name] for name in ("window", "ending")}) + "\n")
            self._file.close()
            if self._folder:
                self._write({"meta": dict(run.meta), "summary": dict(summary)})
                return self._out
            if self.document != self.path:
                self._write(run.as_json() | {"summary": dict(summary)})
                self.path.unlink()
        except OSError as error:
            raise Unwritable(f"{self.document} cannot be written: {error}.") from error
        return self.document

    def _write(self, document: Mapping[str, Any]) -> None:
        half = self.document.with_name(self.document.name + ".part")
        half.write_text(json.dumps(document) + "\n", encoding="utf-8")
        half.rename(self.document)
