"""The records of a file, one after the other: a JSON array, one JSON object a line, or CSV, and each of them also as .gz.

Nothing but the record at hand is held, so a file may be larger than memory. Every error says the line; a file that ends in the
middle is told apart from one that is wrong, since the first is a download to repeat.
"""

import csv
import gzip
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TextIO

from tokenfleet.errors import TokenfleetError

_PIECE: Final = 1 << 20
_LARGEST: Final = 64 << 20
"""Characters of one record; beyond it something is wrong that is not found before the end of the file."""
_CUT: Final = "it ends in the middle of a record: is the download complete?"


class BadDataset(TokenfleetError):
    """A file has no prompts that can be used; the message says where and why."""


@dataclass(frozen=True, slots=True)
class Record:
    """An object of a file."""

    line: int
    """Where it begins, from 1."""
    fields: dict[str, Any]


def read_records(path: Path) -> Iterator[Record]:
    """Raises BadDataset, which names the file and the line."""
    last = 0
    try:
        with _opened(path) as file:
            for record in _records(path, file):
                last = record.line
                yield record
    except BadDataset as error:
        raise BadDataset(f"{path}: {error}") from error
    except (EOFError, zlib.error):
        raise BadDataset(f"{path}: the compressed file breaks off after line {last}: is the download complete?") from None
    except UnicodeDecodeError as error:
        raise BadDataset(f"{path}: after line {last}, byte {error.start} of a piece is no UTF-8: is it a text file?") from error
    except OSError as error:
        raise BadDataset(f"{path} cannot be read: {error}.") from error
    if not last:
        raise BadDataset(f"{path} has no records: it is empty.")


def _opened(path: Path) -> TextIO:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig")
    return path.open(encoding="utf-8-sig")


def _records(path: Path, file: TextIO) -> Iterator[Record]:
    if (path.stem if path.suffix == ".gz" else path.name).endswith(".csv"):
        return _rows(file)
    first, lines = _first_character(file)
    if first == "[":
        return _items(file, lines)
    if first in ("{", ""):
        return _lines(file, first, lines)
    raise BadDataset(
        f"line {lines + 1}: begins with {first!r}: it is neither a JSON array, nor one JSON object a line, nor .csv."
    )


def _first_character(file: TextIO) -> tuple[str, int]:
    """(the first that is no white space, or nothing; how many lines came before it)"""
    lines = 0
    while (character := file.read(1)).isspace():
        lines += character == "\n"
    return character, lines


def _rows(file: TextIO) -> Iterator[Record]:
    reader = csv.DictReader(file)
    for row in reader:
        if None in row.values() or None in row:
            raise BadDataset(f"line {reader.line_num}: it has not as many columns as the first: is the download complete?")
        yield Record(reader.line_num, row)


def _lines(file: TextIO, first: str, before: int) -> Iterator[Record]:
    """first: what was read of the first line."""
    held = None
    for number, text in enumerate(file, before + 1):
        if held is not None:
            yield held
            held = None
        line, first = first + text, ""
        if not line.strip():
            continue
        try:
            held = _record(number, json.loads(line))
        except ValueError as error:
            cut = not line.endswith("\n")
            why = _CUT if cut else f"no JSON ({error}): each line must be an object of its own."
            raise BadDataset(f"line {number}: {why}") from error
    if held is not None:
        yield held


def _items(file: TextIO, before: int) -> Iterator[Record]:
    """Of an array whose bracket has been read. Whatever lies behind its end is not looked at."""
    array = _Array(file, before + 1)
    separator = ""
    while (character := array.next_character()) != "]":
        if separator and character != separator:
            raise BadDataset(f"line {array.line}: {character!r} where a comma or the end of the array must be.")
        if separator:
            array.skip()
            array.next_character()
        line = array.line
        yield _record(line, array.value())
        separator = ","


class _Array:
    """The rest of a file, of which a piece is held."""

    def __init__(self, file: TextIO, line: int) -> None:
        self.line = line
        self._file, self._text, self._place = file, "", 0
        self._decoder = json.JSONDecoder()

    def next_character(self) -> str:
        """That is no white space."""
        while True:
            while self._place < len(self._text):
                if not (character := self._text[self._place]).isspace():
                    return character
                self.skip()
            if not self._more():
                raise BadDataset(f"line {self.line}: {_CUT}")

    def skip(self) -> None:
        self.line += self._text[self._place] == "\n"
        self._place += 1

    def value(self) -> Any:
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._place)
            except json.JSONDecodeError as error:
                where = self.line + self._text.count("\n", self._place, error.pos)
                if not _may_go_on(self._text, error):
                    why = f"no JSON ({error.msg}) in the record that begins at line {self.line}."
                    raise BadDataset(f"line {where}: {why}") from error
                if not self._more():
                    raise BadDataset(f"line {where}: {_CUT}") from error
                continue
            self.line += self._text.count("\n", self._place, end)
            self._place = end
            return value

    def _more(self) -> bool:
        """Doubles what is held of a record, so that a long one is not begun too often."""
        rest = self._text[self._place :]
        if len(rest) > _LARGEST:
            raise BadDataset(f"line {self.line}: the record that begins here does not end within {_LARGEST >> 20} MiB.")
        piece = self._file.read(max(_PIECE, len(rest)))
        self._text, self._place = rest + piece, 0
        return bool(piece)


def _may_go_on(text: str, error: json.JSONDecodeError) -> bool:
    """Whether what is wrong may be that the text is not all there; the longest that can be cut is an escape."""
    return error.msg.startswith("Unterminated") or not text[error.pos + len("\\u0000") :].strip()


def _record(line: int, value: object) -> Record:
    if not isinstance(value, dict):
        raise BadDataset(f"line {line}: a record must be an object, not {type(value).__name__}.")
    return Record(line, value)
