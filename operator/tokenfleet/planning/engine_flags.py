"""The flags of the bundled vLLM, and whether `spec.engine.extraArgs` is made of them.

A flag that vLLM does not know ends every start of the engine, so it is refused here, before a pod is replaced; likewise one of
OWNED_FLAGS that is written short. The words are read as vLLM reads them: argparse's abbreviations, `_` for `-`, `--flag.key
value` and `-O3`. What a value may be is vLLM's to say.

engine_flags.txt beside this module: the version, then an option a line, all its names and how many values it takes (none said:
one). `python -m tokenfleet_engine.launch.flags | python -m tokenfleet.planning.engine_flags` prints it, the first in the
engine's image.
"""

import argparse
import difflib
import json
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, NoReturn

from tokenfleet.api.flags import OWNED_FLAGS, SSL, SSL_REASON, TRANSFER_FLAG, TRANSFER_REASON
from tokenfleet.errors import InvalidSpec

_WHERE = "spec.engine.extraArgs"
_BEFORE_THE_DOT = re.compile(r"(?<=^--)[^.]*")
_NUMBER = re.compile(r"-\d+|-\d*\.\d+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Option:
    """One option of vLLM, by all its names, the main one first. `values` is argparse's nargs: None is one."""

    names: tuple[str, ...]
    values: int | str | None = None


@dataclass(frozen=True, slots=True)
class EngineFlags:
    version: str
    options: tuple[Option, ...]

    @property
    def names(self) -> list[str]:
        return [name for option in self.options for name in option.names]


@cache
def engine_flags() -> EngineFlags:
    """Those of the vLLM in Tokenfleet's engine images."""
    first, *lines = files(__package__).joinpath("engine_flags.txt").read_text(encoding="utf-8").splitlines()
    return EngineFlags(version=first.removeprefix("vllm "), options=tuple(map(_option, lines)))


def _option(line: str) -> Option:
    words = line.split()
    names = tuple(word for word in words if word.startswith("-"))
    values = words[-1] if words[-1] not in names else None
    return Option(names=names, values=int(values) if values is not None and values.isdecimal() else values)


def check_extra_args(words: Sequence[str], *, transfers: bool = False) -> None:
    """Raises InvalidSpec where vLLM would not start with these words, or they set what is not theirs to set.

    `transfers`: a field of the spec moves KV blocks, and so owns the flag for it.
    """
    owned = {**OWNED_FLAGS, **({TRANSFER_FLAG: TRANSFER_REASON} if transfers else {})}
    try:
        found, unknown = _parser().parse_known_args(list(_as_vllm(words)))
    except _UnreadableError as error:
        raise InvalidSpec(f"{_WHERE}: vLLM {engine_flags().version} refuses the flags: {error}") from None
    for option in vars(found):
        name = option.removeprefix("--")
        if reason := SSL_REASON if name.startswith(SSL) else owned.get(name):
            raise InvalidSpec(f"{_WHERE} must not set {option}, also not by a shorter name: {reason}")
    if unknown:
        raise InvalidSpec(f"{_WHERE}: {_unknown(unknown[0])}")


def _unknown(word: str) -> str:
    name, flags = word.partition("=")[0], engine_flags()
    if not name.startswith("-"):
        return f"{word!r} belongs to no flag; a flag begins with --, and its value is the item behind it"
    near = difflib.get_close_matches(name, flags.names, n=1)
    hint = f"did you mean {near[0]}?" if near else "remove it, or set podTemplate's image to an engine that has it"
    return f"vLLM {flags.version} has no flag {name}; {hint}"


def _as_vllm(words: Sequence[str]) -> Iterator[str]:
    """As vllm.utils.argparse_utils.FlexibleArgumentParser changes them before argparse reads them."""
    for word in words:
        if word.startswith("-O"):
            level = word[2:].removeprefix("=")
            yield f"--optimization-level={level}" if level else "--optimization-level"
        elif word.startswith("-") and not _NUMBER.fullmatch(word):
            name, equals, value = word.partition("=")
            name = _BEFORE_THE_DOT.sub(lambda found: found[0].replace("_", "-"), name)
            yield name.partition(".")[0] + equals + value
        else:
            yield word


class _UnreadableError(Exception):
    pass


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise _UnreadableError(message)


@cache
def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="vllm", add_help=False)
    for option in engine_flags().options:
        parser.add_argument(*option.names, dest=option.names[0], nargs=option.values, action=_Seen, default=argparse.SUPPRESS)
    return parser


class _Seen(argparse.Action):
    def __call__(self, _: object, found: argparse.Namespace, *__: object) -> None:
        setattr(found, self.dest, True)


def as_text(listed: dict[str, Any]) -> str:
    """engine_flags.txt, out of what `tokenfleet_engine.launch.flags` prints."""
    lines = sorted(_line(each["names"], each["values"]) for each in listed["options"])
    return "\n".join([f"vllm {listed['version']}", *lines, ""])


def _line(names: list[str], values: int | str | None) -> str:
    long_first = sorted(names, key=lambda name: not name.startswith("--"))
    return " ".join([*long_first, *([] if values is None else [str(values)])])


if __name__ == "__main__":
    sys.stdout.write(as_text(json.load(sys.stdin)))
