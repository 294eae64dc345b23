"""What counts as drift, and what is somebody else's business."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.controller.objects import SETTINGS, llm_deployment, spec_of
from tokenfleet import contract
from tokenfleet.controller.drift import covers, digest, projected, stamped
from tokenfleet.controller.observed import Json
from tokenfleet.controller.resources import build_children

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("live", "wanted"),
    [
        pytest.param({"a": 1, "b": 2}, {"a": 1}, id="a field that others set"),
        pytest.param({}, {"a": False, "b": 0, "c": "", "d": {}, "e": []}, id="the API server leaves empty values out"),
        pytest.param(
            {"env": [{"name": "theirs"}, {"name": "ours", "value": "1"}]},
            {"env": [{"name": "ours", "value": "1"}]},
            id="an item that others added to a list of named things",
        ),
        pytest.param({"ports": [{"port": 80, "nodePort": 30000}]}, {"ports": [{"port": 80}]}, id="a default inside an item"),
        pytest.param(
            {"volumes": [{"name": "b"}, {"name": "a"}]},
            {"volumes": [{"name": "a"}, {"name": "b"}]},
            id="another order of names",
        ),
    ],
)
def test_is_as_wanted(live: Any, wanted: Any) -> None:
    assert covers(live, wanted)


@pytest.mark.parametrize(
    ("live", "wanted"),
    [
        pytest.param({"a": 2}, {"a": 1}, id="a value changed"),
        pytest.param({}, {"a": 1}, id="a field removed"),
        pytest.param({"a": True}, {"a": False}, id="a default that we turn off, turned on"),
        pytest.param({"a": 1}, {"a": True}, id="a number is no boolean"),
        pytest.param({"a": "1"}, {"a": 1}, id="a text is no number"),
        pytest.param({"a": {}}, {"a": []}, id="an object is no list"),
        pytest.param({"args": ["a"]}, {"args": ["a", "b"]}, id="an argument removed"),
        pytest.param({"args": ["a", "b"]}, {"args": ["a"]}, id="an argument added: the order of arguments is ours"),
        pytest.param({"ingress": [{}, {}]}, {"ingress": [{}]}, id="a rule added to a list without names"),
        pytest.param({"ingress": [{}]}, {"ingress": []}, id="a rule where we want none"),
        pytest.param({"env": [{"name": "a", "value": "2"}]}, {"env": [{"name": "a", "value": "1"}]}, id="an item changed"),
        pytest.param({"env": []}, {"env": [{"name": "a"}]}, id="an item removed"),
        pytest.param(
            {"subjects": [{"name": "router"}, {"name": "intruder"}]},
            {"subjects": [{"name": "router"}]},
            id="one more subject of our RoleBinding",
        ),
    ],
)
def test_has_drifted(live: Any, wanted: Any) -> None:
    assert not covers(live, wanted)


def test_every_child_is_as_wanted_right_after_it_was_applied() -> None:
    deployment = llm_deployment()
    for child in build_children(deployment, spec_of(deployment), SETTINGS):
        assert covers(copy.deepcopy(stamped(child)), stamped(child))


@given(VALUES)
def test_anything_is_as_wanted_where_it_is_there_itself(value: Any) -> None:
    assert covers(copy.deepcopy(value), value)


@given(VALUES, VALUES)
def test_a_projection_of_what_is_there_stays_the_same(live: Any, wanted: Any) -> None:
    assert digest(projected(live, wanted)) == digest(projected(copy.deepcopy(live), wanted))


def test_a_projection_leaves_out_what_others_set() -> None:
    wanted = {"spec": {"cpu": "1", "env": [{"name": "a", "value": "1"}]}}
    live = {"spec": {"cpu": "1000m", "env": [{"name": "b"}, {"name": "a", "value": "1", "extra": 0}], "more": 1}, "status": {}}
    assert projected(live, wanted) == {"spec": {"cpu": "1000m", "env": [{"name": "a", "value": "1"}]}}


def test_the_stamp_changes_with_any_field_and_with_nothing_else() -> None:
    child: Json = {"kind": "Service", "metadata": {"name": "a", "annotations": {"kept": "yes"}}, "spec": {"x": 1, "y": 2}}
    reordered = {"spec": {"y": 2, "x": 1}, "metadata": {"annotations": {"kept": "yes"}, "name": "a"}, "kind": "Service"}
    marks = [stamped(each)["metadata"]["annotations"] for each in (child, reordered, {**child, "spec": {"x": 1}})]
    assert marks[0] == marks[1] != marks[2]
    assert marks[0]["kept"] == "yes" and len(marks[0][contract.ANNOTATION_APPLIED_HASH]) == 20
    assert contract.ANNOTATION_APPLIED_HASH not in child["metadata"]["annotations"]
