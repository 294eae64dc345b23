"""Which turns of a status are told as an Event."""

import pytest

from tests.controller.objects import NOW, llm_deployment
from tokenfleet.api import conditions as c
from tokenfleet.controller.announcement import announcement
from tokenfleet.controller.observed import Json


def status(side: str, reason: str, message: str = "Because.") -> Json:
    return {"conditions": [{"type": c.READY, "status": side, "reason": reason, "message": message}]}


READY = status("True", c.AS_EXPECTED)
UPDATING = status("True", c.UPDATING)
CREATING = status("False", c.CREATING)
LOADING = status("False", c.LOADING_MODEL)
MISSING = status("False", c.MODEL_NOT_FOUND)
KILLED = status("False", c.OUT_OF_MEMORY)


def told(before: Json | None, after: Json) -> Json | None:
    deployment = llm_deployment()
    deployment["metadata"]["resourceVersion"] = "7"
    return announcement(deployment, before=before, after=after, now=NOW, reporter="controller-0")


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
