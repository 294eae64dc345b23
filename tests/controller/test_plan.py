"""Which writes a snapshot asks for."""

import copy
from dataclasses import replace
from typing import Any

import pytest

from tests.controller.objects import NAME, NAMESPACE, NOW, SETTINGS, UID, llm_deployment, spec_of
from tokenfleet import contract
from tokenfleet.controller.drift import stamped
from tokenfleet.controller.goodbyes import course
from tokenfleet.controller.observed import ChildKey, Json, Observed
from tokenfleet.controller.plan import Accepted, Delete, Plan, plan
from tokenfleet.controller.resources import build_children
from tokenfleet.errors import InvalidSpec

ENGINE: ChildKey = ("Deployment", f"{NAME}-engine")
ROUTER: ChildKey = ("Deployment", f"{NAME}-router")


def converged(**fields: Any) -> Observed:
    """All children are there, as the API server would have them."""
    deployment = llm_deployment(**fields)
    children = {}
    for number, child in enumerate(build_children(deployment, spec_of(deployment), SETTINGS)):
        live = copy.deepcopy(stamped(child))
        live["metadata"]["uid"] = f"uid-{number}"
        children[child["kind"], child["metadata"]["name"]] = live
    return Observed(owner=deployment, children=children)


def altered(seen: Observed, key: ChildKey, **metadata: Any) -> Observed:
    child = {**seen.children[key], "metadata": {**seen.children[key]["metadata"], **metadata}}
    return replace(seen, children={**seen.children, key: child})


def owner(**fields: Any) -> Json:
    return {"ownerReferences": [{"kind": contract.KIND, "name": NAME, "uid": UID, "controller": True, **fields}]}


def planned(seen: Observed) -> Plan:
    return plan(seen, SETTINGS, now=NOW)


def objects_of(todo: Plan) -> Plan:
    """What it says of objects other than pods."""
    return replace(todo, course=course.NONE)


def test_nothing_is_written_where_nothing_differs() -> None:
    assert objects_of(planned(converged())) == Plan(spec=spec_of(llm_deployment()))


def test_a_new_llmdeployment_gets_all_children_guards_before_pods() -> None:
    seen = Observed(owner=llm_deployment())
    todo = planned(seen)
    assert [each.key for each in todo.applies] == list(converged().children)
    assert {each.uid for each in todo.applies} == {None}
    order = [each.key[0] for each in todo.applies]
    assert order.index("NetworkPolicy") < order.index("Deployment")


def test_a_deleted_child_is_made_again_and_the_others_are_left_alone() -> None:
    seen = converged()
    children = {key: live for key, live in seen.children.items() if key != ROUTER}
    (apply,) = planned(replace(seen, children=children)).applies
    assert (apply.key, apply.uid) == (ROUTER, None)


@pytest.mark.parametrize(
    "metadata",
    [
        pytest.param({"labels": {}}, id="its labels are gone"),
        pytest.param({"annotations": {contract.ANNOTATION_APPLIED_HASH: "old"}}, id="an older version of us applied it"),
        pytest.param({"annotations": {}}, id="its hash is gone"),
    ],
)
def test_a_child_that_differs_is_applied_to_this_very_object(metadata: Json) -> None:
    seen = converged()
    (apply,) = planned(altered(seen, ROUTER, **metadata)).applies
    assert (apply.key, apply.uid) == (ROUTER, seen.children[ROUTER]["metadata"]["uid"])


def test_a_changed_spec_touches_only_what_depends_on_it() -> None:
    seen = converged()
    todo = planned(replace(seen, owner=llm_deployment(replicas=5)))
    assert [each.key for each in todo.applies] == [ENGINE]


def test_another_operator_image_rolls_routers_and_no_engine() -> None:
    todo = plan(converged(), replace(SETTINGS, operator_image="example.org/tokenfleet:2.0"), now=NOW)
    assert [each.key for each in todo.applies] == [ROUTER]


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param({"accelerator": "abacus"}, id="an accelerator that nobody knows"),
        pytest.param({"replicas": -1}, id="a field out of range"),
    ],
)
def test_an_invalid_spec_writes_nothing_at_all(spec: Json) -> None:
    seen = converged()
    children = {key: live for key, live in seen.children.items() if key != ROUTER}
    todo = planned(replace(seen, owner=llm_deployment(**spec), children=children))
    assert isinstance(todo.spec, InvalidSpec)
    assert (todo.applies, todo.deletes, todo.conflicts) == ((), (), ())


@pytest.mark.parametrize(
    "metadata",
    [
        pytest.param({"ownerReferences": []}, id="nobody owns it"),
        pytest.param(owner(uid="other", name="other"), id="another LLMDeployment owns it"),
        pytest.param(owner(kind="HelmRelease", uid="other"), id="another kind owns it"),
        pytest.param({"ownerReferences": [], "deletionTimestamp": "now"}, id="nobody owns it and it goes away"),
    ],
)
def test_what_someone_else_owns_is_reported_and_never_written(metadata: Json) -> None:
    seen = altered(converged(), ENGINE, annotations={}, **metadata)
    assert objects_of(planned(seen)) == Plan(spec=spec_of(seen.owner), conflicts=(ENGINE,))


@pytest.mark.parametrize(
    "metadata",
    [
        pytest.param({"deletionTimestamp": "now"}, id="ours, and being deleted"),
        pytest.param(owner(uid="before"), id="of the LLMDeployment of this name that was deleted before"),
        pytest.param({**owner(uid="before"), "deletionTimestamp": "now"}, id="of that one, and being deleted"),
    ],
)
def test_what_is_about_to_go_is_waited_for(metadata: Json) -> None:
    seen = altered(converged(), ENGINE, **metadata)
    assert objects_of(planned(seen)) == Plan(spec=spec_of(seen.owner), awaited=(ENGINE,))


def test_what_was_orphaned_on_purpose_is_taken_back() -> None:
    seen = altered(converged(), ENGINE, ownerReferences=[])
    (apply,) = planned(seen).applies
    assert (apply.key, apply.uid) == (ENGINE, seen.children[ENGINE]["metadata"]["uid"])


def test_a_child_that_is_no_longer_wanted_is_deleted_if_it_is_ours() -> None:
    seen = converged()
    extra: Json = {"kind": "Service", "metadata": {"name": "old", "namespace": NAMESPACE, "uid": "u", **owner()}}
    theirs = {"kind": "Service", "metadata": {"name": "theirs", "namespace": NAMESPACE, "uid": "v", **owner(uid="other")}}
    going = {"kind": "Service", "metadata": {**extra["metadata"], "name": "going", "deletionTimestamp": "now"}}
    more = {("Service", "old"): extra, ("Service", "theirs"): theirs, ("Service", "going"): going}
    todo = planned(replace(seen, children={**seen.children, **more}))
    assert todo.deletes == (Delete(kind="Service", name="old", uid="u"),)


def test_what_the_api_server_keeps_differently_is_applied_once_and_then_only_if_it_changes_again() -> None:
    seen = converged()
    kept = copy.deepcopy(seen.children[ENGINE])
    kept["spec"]["template"]["spec"]["containers"][0]["image"] = "mirror.example.org/engine:1.0"
    seen = replace(seen, children={**seen.children, ENGINE: kept})
    (apply,) = planned(seen).applies
    accepted = {ENGINE: Accepted.of(kept, apply.child)}
    assert plan(seen, SETTINGS, now=NOW, accepted=accepted).applies == ()
    edited = copy.deepcopy(kept)
    edited["spec"]["template"]["spec"]["containers"][0]["image"] = "evil.example.org/engine:1.0"
    again = plan(replace(seen, children={**seen.children, ENGINE: edited}), SETTINGS, now=NOW, accepted=accepted)
    assert [each.key for each in again.applies] == [ENGINE]
