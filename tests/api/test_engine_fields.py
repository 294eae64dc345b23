"""docs/engine-fields.md: a row for every field, with the default that it has and flags that there are."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from tokenfleet.api.rules import Ruled
from tokenfleet.api.v1alpha1 import LLMDeploymentSpec
from tokenfleet.planning.engine_flags import engine_flags

DOCS = Path(__file__).parent.parent.parent / "docs" / "engine-fields.md"
PARTS = ("model", "parallelism", "engine", "disaggregation")
SERVE = {
    *("--model", "--served-name", "--adapter", "--draft-model", "--speculative", "--sleep"),
    *("--max-in-flight", "--max-waiting", "--max-queue-seconds"),
}
"""Flags of `tokenfleet-engine serve`."""


def _fields(model: type[Ruled], path: str) -> Iterator[tuple[str, FieldInfo]]:
    """All that a user may write below a model: its fields that are no objects of ours."""
    for field in model.model_fields.values():
        here = f"{path}.{field.alias}"
        inside = next(_models(field.annotation), None)
        if inside is None:
            yield here, field
        else:
            yield from _fields(inside, here)


def _models(annotation: Any) -> Iterator[type[Ruled]]:
    if isinstance(annotation, type) and issubclass(annotation, Ruled):
        yield annotation
    for argument in get_args(annotation):
        yield from _models(argument)


FIELDS = {
    path: field
    for part in PARTS
    for model in _models(LLMDeploymentSpec.model_fields[part].annotation)
    for path, field in _fields(model, part)
}
ROWS = {
    cells[0].strip("`"): cells
    for line in DOCS.read_text().splitlines()
    if line.startswith(tuple(f"| `{part}." for part in PARTS))
    for cells in [[cell.strip() for cell in line.strip("|").split("|")]]
}


def test_the_page_has_a_row_for_every_field_and_no_other() -> None:
    assert sorted(ROWS) == sorted(FIELDS), "docs/engine-fields.md tells of fields that there are not, or not of all"


@pytest.mark.parametrize("path", FIELDS)
def test_a_row_is_whole_and_has_the_fields_default(path: str) -> None:
    _, what, _, default, _, _ = ROWS[path]
    assert what.endswith(".")
    field = FIELDS[path]
    if field.default is PydanticUndefined:
        assert default in ("required", "none", "—"), "required, at least where what holds it is there"
    elif field.default is None:
        assert default and not default.startswith("`"), "what is absent has no value"
    else:
        shown = str(field.default).lower() if isinstance(field.default, bool) else str(field.default)
        assert default == f"`{shown}`"


@pytest.mark.parametrize("path", FIELDS)
def test_a_rows_flags_are_those_of_serve_or_of_vllm(path: str) -> None:
    flags = re.findall(r"(\*?)`(--[a-z-]+)`", ROWS[path][2])
    for star, flag in flags:
        assert flag in (SERVE if star else engine_flags().names)


def test_what_is_measured_is_a_row_of_the_benchmark() -> None:
    rows = re.findall(r"^\| `([a-z0-9_]+)` \|", DOCS.read_text(), flags=re.MULTILINE)
    named = {link for cells in ROWS.values() for link in re.findall(r"\[(\w+)\]\(#measured\)", cells[5])}
    assert named <= set(rows)
