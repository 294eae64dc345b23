"""Which turns of a status are told as an Event."""

import pytest

from tests.controller.objects import NOW, llm_deployment
from tokenfleet.api import conditions as c
from tokenfleet.controller.announcement import (
    CANARY_PROMOTED,
    CANARY_PROMOTING,
    CANARY_STARTED,
    CANARY_STEP,
    CANARY_WITHDRAWN,
    announcements,
)
from tokenfleet.controller.observed import Json


def status(side: str, reason: str, message: str = "Because.") -> Json:
    return {"conditions": [{"type": c.READY, "status": side, "reason": reason, "message": message}]}


READY = status("True", c.AS_EXPECTED)
UPDATING = status("True", c.UPDATING)
CREATING = status("False", c.CREATING)
LOADING = status("False", c.LOADING_MODEL)
MISSING = status("False", c.MODEL_NOT_FOUND)
KILLED = status("False", c.OUT_OF_MEMORY)


def all_told(before: Json | None, after: Json) -> list[Json]:
    deployment = llm_deployment()
    deployment["metadata"]["resourceVersion"] = "7"
    return announcements(deployment, before=before, after=after, now=NOW, reporter="controller-0")


def told(before: Json | None, after: Json) -> Json | None:
    events = all_told(before, after)
    assert len(events) < 2
    return events[0] if events else None


@pytest.mark.parametrize(
    ("before", "after", "kind", "reason"),
    [
        pytest.param(LOADING, READY, "Normal", c.READY, id="it is ready"),
        pytest.param(None, READY, "Normal", c.READY, id="it is ready at once"),
        pytest.param(MISSING, UPDATING, "Normal", c.READY, id="it is ready again, while a rollout runs"),
        pytest.param(LOADING, MISSING, "Warning", c.MODEL_NOT_FOUND, id="it cannot go on"),
        pytest.param(None, MISSING, "Warning", c.MODEL_NOT_FOUND, id="it cannot even begin"),
        pytest.param(MISSING, KILLED, "Warning", c.OUT_OF_MEMORY, id="another trouble"),
        pytest.param(READY, KILLED, "Warning", c.OUT_OF_MEMORY, id="it is no longer ready"),
        pytest.param(READY, LOADING, "Normal", c.LOADING_MODEL, id="it is no longer ready, in the ordinary course"),
    ],
)
def test_is_told(before: Json | None, after: Json, kind: str, reason: str) -> None:
    event = told(before, after)
    assert event is not None
    assert (event["type"], event["reason"], event["message"]) == (kind, reason, "Because.")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(None, CREATING, id="the pods are being made"),
        pytest.param(CREATING, LOADING, id="the model is being loaded"),
        pytest.param(MISSING, CREATING, id="a new attempt begins"),
        pytest.param(READY, UPDATING, id="a rollout begins"),
        pytest.param(UPDATING, READY, id="a rollout ends"),
        pytest.param(MISSING, status("False", c.MODEL_NOT_FOUND, "Other words."), id="the same trouble in other words"),
    ],
)
def test_is_not_told(before: Json | None, after: Json) -> None:
    assert told(before, after) is None


def test_the_event_names_its_object_and_fits_into_one() -> None:
    event = told(None, status("False", c.REJECTED_BY_API_SERVER, "ä" * 5000))
    assert event is not None
    assert event["involvedObject"]["uid"] == llm_deployment()["metadata"]["uid"]
    assert event["metadata"]["namespace"] == event["involvedObject"]["namespace"]
    assert len(event["message"].encode()) <= 1000 and event["message"].endswith("ä ...")


def rollout(phase: str, step: int = 0, revision: str = "2-ab") -> Json:
    return {**READY, "rollout": {"phase": phase, "revision": revision, "step": step, "message": "Because."}}


@pytest.mark.parametrize(
    ("before", "after", "kind", "reason"),
    [
        pytest.param(READY, rollout("Progressing"), "Normal", CANARY_STARTED, id="a change is tried"),
        pytest.param(rollout("Progressing"), rollout("Progressing", 1), "Normal", CANARY_STEP, id="its pod gets a share"),
        pytest.param(rollout("Progressing", 1), rollout("Progressing", 2), "Normal", CANARY_STEP, id="and a larger one"),
        pytest.param(rollout("Progressing", 2), rollout("Promoting", 2), "Normal", CANARY_PROMOTING, id="it has done well"),
        pytest.param(rollout("Promoting", 2), READY, "Normal", CANARY_PROMOTED, id="all are like it"),
        pytest.param(rollout("Progressing", 1), rollout("RolledBack", 1), "Warning", c.CANARY_ROLLED_BACK, id="it did not"),
        pytest.param(rollout("RolledBack", 1), rollout("Promoting", 1), "Normal", CANARY_PROMOTING, id="somebody insists"),
        pytest.param(rollout("Progressing", 1), READY, "Normal", CANARY_WITHDRAWN, id="the spec is the old one again"),
        pytest.param(
            rollout("RolledBack", 1), rollout("Progressing", 0, "3-cd"), "Normal", CANARY_STARTED, id="the next change is tried"
        ),
    ],
)
def test_the_turns_of_a_canary_are_told(before: Json, after: Json, kind: str, reason: str) -> None:
    event = told(before, after)
    assert event is not None
    assert (event["type"], event["reason"]) == (kind, reason)
    assert event["message"].startswith("Revision ") or event["message"].startswith("All engines are of revision 2-ab")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(rollout("Progressing", 1), rollout("Progressing", 1), id="it stands where it stood"),
        pytest.param(rollout("RolledBack", 1), READY, id="the spec is mended, and nothing is on trial"),
    ],
)
def test_what_is_no_turn_of_a_canary_is_not_told(before: Json, after: Json) -> None:
    assert told(before, after) is None


def test_a_turn_of_both_is_two_events() -> None:
    reasons = [event["reason"] for event in all_told(rollout("Promoting", 1) | MISSING, READY)]
    assert reasons == [c.READY, CANARY_PROMOTED]
