"""status.lastFailure: which of all ends is told, and that it outlives the pod."""

import pytest

from tests.controller.objects import (
    CREATED,
    EARLY,
    LATER,
    LATEST,
    STARTED,
    crashed,
    ended,
    noted,
    pod,
    ready_pod,
    running,
    terminated,
)
from tokenfleet.api import conditions as c
from tokenfleet.controller.observed import Json
from tokenfleet.controller.verdicts.failures import last_failure

BEFORE = {"pod": "engine-0", "reason": c.OUT_OF_MEMORY, "message": "m", "exitCode": 137, "time": STARTED}


def test_there_is_none_where_nothing_failed() -> None:
    assert last_failure([ready_pod(), pod(containers=(running(),))], previous=None) is None


def test_it_is_whole() -> None:
    end = terminated(1, "boom", at=LATER)
    assert last_failure([pod("p", containers=(crashed(end),))], previous=None) == {
        "pod": "p",
        "reason": c.ENGINE_CRASHED,
        "message": "The engine ended with exit code 1. Its last lines: boom",
        "exitCode": 1,
        "time": LATER,
    }


def test_it_outlives_the_pod() -> None:
    assert last_failure([], previous=BEFORE) == BEFORE


@pytest.mark.parametrize(
    ("at", "reason"),
    [
        pytest.param(LATER, c.MODEL_INVALID, id="a newer one takes its place"),
        pytest.param(CREATED, c.OUT_OF_MEMORY, id="an older one does not"),
    ],
)
def test_the_newest_is_kept(at: str, reason: str) -> None:
    seen = pod(containers=(crashed({**noted(c.MODEL_INVALID), "finishedAt": at}),))
    found = last_failure([seen], previous=BEFORE)
    assert found is not None
    assert found["reason"] == reason


def test_of_several_pods_the_newest_end_counts() -> None:
    ends = {"a": EARLY, "b": LATEST, "c": LATER}
    seen = [pod(name, containers=(crashed(terminated(1, at=at)),)) for name, at in ends.items()]
    for order in (seen, seen[::-1]):
        found = last_failure(order, previous=None)
        assert found is not None
        assert found["pod"] == "b"


def test_an_end_that_was_asked_for_is_no_failure() -> None:
    gone = pod(going=True, phase="Failed", reason="x", containers=(ended(terminated(137, at=LATEST)),))
    assert last_failure([gone], previous=None) is None


def test_a_pod_that_goes_still_tells_of_its_last_crash() -> None:
    crash = {"terminated": terminated(1, "boom", at=EARLY)}
    gone = pod(going=True, containers=(ended(terminated(0, at=LATEST), lastState=crash),))
    found = last_failure([gone], previous=None)
    assert found is not None
    assert (found["exitCode"], found["time"]) == (1, EARLY)


def test_what_was_mended_is_still_told() -> None:
    found = last_failure(
        [pod(ready=True, containers=(running(ready=True, lastState={"terminated": terminated(1)}),))], previous=None
    )
    assert found is not None
    assert found["reason"] == c.ENGINE_CRASHED


def test_an_init_container_that_did_its_work_is_no_failure() -> None:
    done = ended(terminated(0, reason="Completed"), name="fetch", ready=True)
    assert last_failure([pod(inits=(done,))], previous=None) is None


@pytest.mark.parametrize(
    ("status", "message"),
    [
        pytest.param({"message": "The node was low on memory."}, "The node was low on memory.", id="with a message"),
        pytest.param({}, "The kubelet ended the pod: Evicted", id="without one"),
    ],
)
def test_an_evicted_pod_is_told(status: Json, message: str) -> None:
    found = last_failure([pod("p", phase="Failed", reason="Evicted", changed=LATER, **status)], previous=None)
    assert found == {"pod": "p", "reason": "Evicted", "message": message, "time": LATER}


@pytest.mark.parametrize(
    ("end", "reason", "words"),
    [
        pytest.param(
            noted(c.MODEL_NOT_FOUND, "no config.json"), c.MODEL_NOT_FOUND, "no config.json", id="the engine's own word"
        ),
        pytest.param(
            {**noted(c.DISK_FULL, "12 GiB are wanted"), "exitCode": 2}, c.DISK_FULL, "12 GiB", id="the download's own word"
        ),
        pytest.param(
            terminated(2, '{"reason": "ModelInvalid", "message": "line 1\\nline \\u00e'),
            c.MODEL_INVALID,
            "line 1\nline …",
            id="a word that the kubelet cut is still one",
        ),
        pytest.param(
            terminated(2, '{"reason": "ModelInvalid", "message": "a \\\\"'),
            c.MODEL_INVALID,
            "a \\…",
            id="wherever it was cut",
        ),
        pytest.param(
            terminated(2, '{"reason": "Anything", "message": "line'),
            c.ENGINE_CRASHED,
            '{"reason": "Anything"',
            id="half of something else is a log",
        ),
        pytest.param(terminated(1, '{"reason": "Mod'), c.ENGINE_CRASHED, '{"reason": "Mod', id="half a note is a log"),
        pytest.param(terminated(1, '{"level": "error"}'), c.ENGINE_CRASHED, '{"level": "error"}', id="a log in JSON is a log"),
        pytest.param(terminated(1, "{[]}"), c.ENGINE_CRASHED, "{[]}", id="braces are a log"),
        pytest.param(terminated(1), c.ENGINE_CRASHED, "It left no log.", id="no log"),
        pytest.param(
            terminated(128, "container init was OOM-killed (memory limit too low?)", reason="StartError"),
            c.OUT_OF_MEMORY,
            "at its memory limit",
            id="killed before it began",
        ),
        pytest.param(
            terminated(137, "not located", reason="ContainerStatusUnknown"),
            c.ENGINE_CRASHED,
            "not located",
            id="a container that the kubelet lost was not killed for memory",
        ),
        pytest.param(terminated(143), c.ENGINE_CRASHED, "exit code 143", id="ended by a signal that asks"),
    ],
)
def test_an_end_is_explained(end: Json, reason: str, words: str) -> None:
    found = last_failure([pod(containers=(crashed(end),))], previous=None)
    assert found is not None
    assert found["reason"] == reason
    assert words in found["message"]


def test_a_long_log_is_cut_at_a_line() -> None:
    lines = "\n".join(f"line {number}" for number in range(1000))
    found = last_failure([pod(containers=(crashed(terminated(1, lines)),))], previous=None)
    assert found is not None
    quoted = found["message"].partition("Its last lines: ")[2]
    assert quoted.startswith("…line ")
    assert quoted.endswith("line 999")
    assert len(quoted) <= 1001
