"""What status and Events say of the count: whoever decides, and while nobody does."""

from dataclasses import replace
from typing import Any

import pytest

from tests.controller.objects import NOW, llm_deployment, observed, ready_pod, spec_of
from tokenfleet.api import conditions as c
from tokenfleet.api.conditions import Verdict
from tokenfleet.controller.announcement import announcements
from tokenfleet.controller.observed import Figures, Json, Observed, Outcome
from tokenfleet.controller.status import build_status
from tokenfleet.errors import InvalidSpec

SCALING: Json = {"desired": 3, "actuator": "Builtin", "specReplicas": 1}
STALE = Verdict(status="False", reason=c.SIGNAL_STALE, message="A router is silent.")


def seen(*, status: Json | None = None, autoscaling: Json | None = None, spec: Json | None = None, **senses: Any) -> Observed:
    """One that serves, and is autoscaled."""
    deployment = llm_deployment(status=status, autoscaling=autoscaling or {"maxReplicas": 5}, **(spec or {}))
    routers = (ready_pod(f"router-{name}", role="router") for name in "ab")
    found = observed(ready_pod(), *routers, deployment=deployment)
    return replace(found, **senses)


def status_of(found: Observed, *, valid: bool = True) -> Json:
    spec = spec_of(found.owner) if valid else InvalidSpec("no")
    return build_status(found, spec, Outcome(), now=NOW)


def reasons(status: Json) -> dict[str, tuple[str, str]]:
    return {each["type"]: (each["status"], each["reason"]) for each in status["conditions"]}


def test_the_autoscaler_speaks() -> None:
    status = status_of(seen(scaling=SCALING, scaling_ready=STALE, wanted=1))
    assert status["scaling"] == SCALING
    assert reasons(status)[c.SCALING_READY] == ("False", c.SIGNAL_STALE)


def test_what_cannot_scale_is_ready_all_the_same_and_says_so() -> None:
    status = status_of(seen(scaling=SCALING, scaling_ready=STALE, wanted=1))
    assert reasons(status)[c.READY] == ("True", c.SIGNAL_STALE)


def test_what_is_not_autoscaled_has_nothing_of_it() -> None:
    found = observed(deployment=llm_deployment(status={"scaling": SCALING}))
    status = status_of(found)
    assert "scaling" not in status
    assert c.SCALING_READY not in reasons(status)


@pytest.mark.parametrize(
    ("spec", "valid"),
    [
        pytest.param({}, True, id="before the autoscaler has looked"),
        pytest.param({"suspend": True}, True, id="while it is suspended"),
        pytest.param({}, False, id="while its spec cannot be run"),
    ],
)
def test_what_was_told_stays(spec: Json, valid: bool) -> None:
    before = status_of(seen(scaling=SCALING, scaling_ready=STALE))
    status = status_of(seen(status=before, spec=spec), valid=valid)
    assert status["scaling"] == SCALING
    told = ("True", c.AS_EXPECTED) if spec else ("False", c.SIGNAL_STALE)
    assert reasons(status)[c.SCALING_READY] == told


def test_where_another_decides_spec_replicas_is_the_count() -> None:
    status = status_of(seen(autoscaling={"maxReplicas": 5, "actuator": "HPA"}, spec={"replicas": 2}, wanted=4))
    assert status["scaling"] == {"desired": 2, "actuator": "HPA", "specReplicas": 2}
    assert reasons(status)[c.SCALING_READY] == ("Unknown", c.CREATING)


def test_the_load_is_shown_as_it_was_sampled_and_else_as_it_stands() -> None:
    status = status_of(seen(figures=Figures(queue_depth=7, in_flight=0)))
    assert (status["queueDepth"], status["inFlight"]) == (7, 0)
    assert status_of(seen(status=status))["queueDepth"] == 7
    assert "queueDepth" not in status_of(seen(status=status, figures=Figures(queue_depth=None, in_flight=None)))


def decision(before: int, after: int, time: str = NOW) -> Json:
    return {"time": time, "before": before, "after": after, "reason": "QueueDepth", "message": "So many wait."}


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        pytest.param([], [decision(1, 3)], ["ScaledUp"], id="up"),
        pytest.param([], [decision(3, 1)], ["ScaledDown"], id="down"),
        pytest.param([], [decision(0, 1)], ["Waking"], id="from sleep"),
        pytest.param([], [decision(1, 0)], ["Asleep"], id="to sleep"),
        pytest.param([decision(1, 3)], [decision(1, 3)], [], id="nothing new"),
        pytest.param([decision(1, 3)], [decision(3, 2, "later"), decision(1, 3)], ["ScaledDown"], id="only what is new"),
        pytest.param([], [decision(3, 2, "later"), decision(1, 3)], ["ScaledUp", "ScaledDown"], id="in their order"),
    ],
)
def test_each_decision_has_an_event(before: list[Json], after: list[Json], told: list[str]) -> None:
    owner = llm_deployment()
    owner["metadata"]["resourceVersion"] = "1"
    events = announcements(
        owner,
        before={"scaling": {**SCALING, "history": before}},
        after={"scaling": {**SCALING, "history": after}},
        now=NOW,
        reporter="x",
    )
    assert [event["reason"] for event in events if event["reason"] != c.CREATING and event["reason"]] == told
    for event in events:
        if event["reason"] in told:
            assert event["message"].endswith("replicas: So many wait. (QueueDepth)")
