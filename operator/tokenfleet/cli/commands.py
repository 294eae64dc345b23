"""Commands that are loaded when they are called, and not before: what one of them needs costs the others nothing.

The table in main.py says of each where it is and, in a line, what it is for; so help and completion of the names load none
of them.
"""

from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command, get_group


@dataclass(frozen=True, slots=True)
class Entry:
    """One command, or one group of commands."""

    name: str
    place: str
    """MODULE:NAME of its function, or of its typer.Typer."""
    line: str
    """What it is for, as help shows it beside the name."""

    def load(self) -> Any:
        module, _, name = self.place.partition(":")
        found = getattr(import_module(module), name)
        if isinstance(found, typer.Typer):
            command: Any = get_group(found)
        else:
            single = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
            single.command()(found)
            command = get_command(single)
        command.name = self.name
        return command

    def sketch(self) -> TyperCommand:
        """What stands for it in a list."""
        return TyperCommand(self.name, short_help=self.line, help=self.line)


ENTRIES: Final[dict[str, Entry]] = {}
"""By name, in the order of help: main.py fills it."""


class Commands(TyperGroup):
    """A group with those entries, beside what is registered as usual."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [*ENTRIES, *(name for name in super().list_commands(ctx) if name not in ENTRIES)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        entry = ENTRIES.get(cmd_name)
        return entry.sketch() if entry is not None else super().get_command(ctx, cmd_name)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The one that is called, and so the only one that is loaded."""
        name, command, rest = super().resolve_command(ctx, args)
        entry = ENTRIES.get(name or "")
        return name, entry.load() if entry is not None else command, rest
