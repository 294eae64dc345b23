"""docs/commands.md names every command that there is, and no other; and every link of a diagnosis."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.cli.test_diagnose import HEALTHY
from tokenfleet.cli.commands import ENTRIES
from tokenfleet.cli.diagnose.chain import diagnose
from tokenfleet.cli.main import app

DOC = (Path(__file__).parents[2] / "docs" / "commands.md").read_text()
_ROW = re.compile(r"^\| (`tokenfleet [^|]*) \|", re.MULTILINE)


def commands() -> Iterator[str]:
    """All that can be called, groups that do something by themselves included."""
    assert app.info.help
    for name, entry in ENTRIES.items():
        command: Any = entry.load()
        below = getattr(command, "commands", {})
        if not below or command.invoke_without_command:
            yield f"tokenfleet {name}"
        yield from (f"tokenfleet {name} {one}" for one, each in below.items() if not each.hidden)


def test_the_table_has_every_command_and_no_other() -> None:
    documented = [each for row in _ROW.findall(DOC) for each in re.findall(r"`([^`]+)`", row)]
    assert sorted(documented) == sorted(commands())


def test_every_link_of_a_diagnosis_is_explained() -> None:
    table = DOC.split("| link | what is looked at |")[1]
    explained = [line.split("|")[1].strip() for line in table.splitlines() if line.startswith("| ")]
    assert explained == [finding.link for finding in diagnose(HEALTHY).findings]
