"""The table of specs against pydantic; tests/integration/test_specs.py runs it against a real API server."""

import pytest

from tests.api.specs import BAD, BAD_FOR_US, GOOD, MINIMAL, Row, parameters
from tokenfleet.api import conditions
from tokenfleet.api.v1alpha1 import PARSERS, parse_spec
from tokenfleet.errors import InvalidSpec


@pytest.mark.parametrize("row", parameters(GOOD))
def test_a_good_spec_is_taken_and_comes_back_as_written(row: Row) -> None:
    taken = PARSERS[row.kind](row.name, row.spec).model_dump(by_alias=True, exclude_unset=True)
    assert taken == row.spec


@pytest.mark.parametrize("row", parameters([*BAD, *BAD_FOR_US]))
def test_a_bad_spec_is_refused_with_the_field_and_the_fix(row: Row) -> None:
    with pytest.raises(InvalidSpec) as refused:
        PARSERS[row.kind](row.name, row.spec)
    assert refused.value.reason == conditions.INVALID_SPEC
    for words in row.words:
        assert words.lower() in refused.value.message.lower()


def test_every_mistake_is_told_at_once() -> None:
    with pytest.raises(InvalidSpec) as refused:
        parse_spec("x", {**MINIMAL, "replicas": -1, "drain": {"timeoutSeconds": 0}})
    assert "spec.replicas" in refused.value.message
    assert "spec.drain.timeoutSeconds" in refused.value.message


@pytest.mark.parametrize("spec", [None, [], "pvc://models/x", 7], ids=repr)
def test_a_spec_that_is_no_object_is_refused_without_a_traceback(spec: object) -> None:
    with pytest.raises(InvalidSpec, match=r"^spec: "):
        parse_spec("x", spec)


def test_a_message_does_not_repeat_a_long_input() -> None:
    with pytest.raises(InvalidSpec) as refused:
        parse_spec("x", {**MINIMAL, "accelerator": "x" * 5000})
    assert len(refused.value.message) < 500


def test_each_row_has_a_sentence_of_its_own() -> None:
    sentences = [row.sentence for row in (*GOOD, *BAD, *BAD_FOR_US)]
    assert len(sentences) == len(set(sentences))
