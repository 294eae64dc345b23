"""The whole status: what a user, `kubectl wait` and /scale read."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.controller.objects import (
    LATER,
    NAME,
    NOW,
    STARTED,
    crashed,
    llm_deployment,
    noted,
    observed,
    pod,
    ready_pod,
    running,
    spec_of,
    terminated,
    unplaced_pod,
    workload,
)
from tokenfleet.api import conditions as c
from tokenfleet.api.conditions import Verdict
from tokenfleet.api.v1alpha1 import LLMDeploymentSpec, LLMDeploymentStatus
from tokenfleet.controller.inspections.fit import Fit
from tokenfleet.controller.observed import Download, Figures, Json, Observed, Outcome, Refusal
from tokenfleet.controller.status import build_status
from tokenfleet.errors import InvalidSpec

DOCS = Path(__file__).parent.parent.parent / "docs" / "conditions.md"
DONE = Outcome()


def status(
    seen: Observed,
    *,
    outcome: Outcome = DONE,
    spec: LLMDeploymentSpec | InvalidSpec | None = None,
    fit: Fit | None = None,
    now: str = NOW,
) -> Json:
    return build_status(seen, spec or spec_of(seen.owner), outcome, fit, now=now)


def condition(body: Json, kind: str) -> Json:
    (found,) = [item for item in body["conditions"] if item["type"] == kind]
    return dict(found)


def serving(*more: Json, **fields: Any) -> Observed:
    """One ready router, and a ready engine."""
    return observed(
        ready_pod(), ready_pod("router-a", role="router"), *more, deployment=llm_deployment(router={"replicas": 1}, **fields)
    )


def test_all_is_well() -> None:
    body = status(serving(generation=7))
    assert {key: value for key, value in body.items() if key != "conditions"} == {
        "observedGeneration": 7,
        "replicas": 1,
        "readyReplicas": 1,
        "ready": "1/1",
        "selector": "tokenfleet.dev/deployment=llama,tokenfleet.dev/role=engine",
        "url": "http://llama.models.svc/v1",
    }
    assert [(each["type"], each["status"], each["reason"]) for each in body["conditions"]] == [
        (kind, "True", c.AS_EXPECTED) for kind in (c.READY, c.SPEC_VALID, c.ENGINE_READY, c.ROUTER_READY)
    ]
    assert condition(body, c.READY) == {
        "type": c.READY,
        "status": "True",
        "reason": c.AS_EXPECTED,
        "message": "Requests are served at http://llama.models.svc/v1.",
        "observedGeneration": 7,
        "lastTransitionTime": NOW,
    }


@pytest.mark.parametrize(
    ("pods", "replicas", "ready", "text"),
    [
        pytest.param((), 0, 0, "0/2", id="no pods"),
        pytest.param((ready_pod("a"), pod("b", containers=(running(),))), 2, 1, "1/2", id="one of two"),
        pytest.param((ready_pod("a"), pod("b", going=True)), 1, 1, "1/2", id="a pod that goes away is not counted"),
        pytest.param((ready_pod("a"), pod("b", phase="Failed")), 1, 1, "1/2", id="a pod that failed for good is not counted"),
        pytest.param(
            (ready_pod("a"), ready_pod("b", draining=True)), 2, 1, "1/2", id="a pod that drains is there, and not ready"
        ),
        pytest.param((ready_pod("a"), ready_pod("b", ip="")), 2, 1, "1/2", id="a pod without an address is not ready"),
        pytest.param((ready_pod("r", role="router"),), 0, 0, "0/2", id="routers do not count"),
    ],
)
def test_replicas_are_counted_as_routers_see_them(pods: tuple[Json, ...], replicas: int, ready: int, text: str) -> None:
    body = status(observed(*pods, deployment=llm_deployment(replicas=2)))
    assert (body["replicas"], body["readyReplicas"], body["ready"]) == (replicas, ready, text)


@pytest.mark.parametrize(
    ("body", "state", "reason", "words"),
    [
        pytest.param(
            status(serving(), spec=InvalidSpec("spec.engine: no")),
            "False",
            c.INVALID_SPEC,
            "spec.engine: no. What ran before goes on.",
            id="an invalid spec comes first, although it serves",
        ),
        pytest.param(
            status(serving(), spec=InvalidSpec("x", reason=c.UNKNOWN_ACCELERATOR)),
            "False",
            c.UNKNOWN_ACCELERATOR,
            "x.",
            id="a class",
        ),
        pytest.param(
            status(serving(), outcome=Outcome(conflicts=(("Service", "llama"), ("Deployment", "llama-engine")))),
            "False",
            c.NAME_CONFLICT,
            "Deployment llama-engine, Service llama. Remove them",
            id="names that others have",
        ),
        pytest.param(
            status(
                serving(), outcome=Outcome(refusals=(Refusal(kind="Deployment", name="llama-engine", message="no such field"),))
            ),
            "False",
            c.REJECTED_BY_API_SERVER,
            "Deployment llama-engine: no such field. Change",
            id="an object that the API server refused",
        ),
        pytest.param(
            status(observed(pod(containers=(running(),)), deployment=llm_deployment())),
            "False",
            c.LOADING_MODEL,
            "reads the model",
            id="the engine comes before the router",
        ),
        pytest.param(
            status(observed(ready_pod(), deployment=llm_deployment())),
            "False",
            c.CREATING,
            "describe deployment llama-router",
            id="no router",
        ),
        pytest.param(
            status(serving(pod("b", containers=(running(),)), replicas=2)),
            "True",
            c.LOADING_MODEL,
            "Requests are served at http://llama.models.svc/v1. 1 of 2 engine replicas are ready. The engine reads",
            id="it serves, and says what keeps the rest",
        ),
    ],
)
def test_ready_tells_what_a_reader_wants_first(body: Json, state: str, reason: str, words: str) -> None:
    ready = condition(body, c.READY)
    assert (ready["status"], ready["reason"]) == (state, reason), ready["message"]
    assert words in ready["message"]


def test_an_invalid_spec_does_not_hide_that_requests_are_served() -> None:
    body = status(serving(), spec=InvalidSpec("no"))
    assert [condition(body, kind)["status"] for kind in (c.ENGINE_READY, c.ROUTER_READY)] == ["True", "True"]
    assert (body["ready"], body["url"]) == ("1/1", "http://llama.models.svc/v1")


def test_the_time_of_a_condition_stays_while_its_status_does() -> None:
    first = status(observed(deployment=llm_deployment()), now=STARTED)
    loading = observed(pod(containers=(running(),)), deployment=llm_deployment(status=first))
    second = status(loading, now=LATER)
    assert condition(second, c.ENGINE_READY)["reason"] == c.LOADING_MODEL
    assert condition(second, c.ENGINE_READY)["lastTransitionTime"] == STARTED
    third = status(serving(status=second), now=NOW)
    assert condition(third, c.ENGINE_READY)["lastTransitionTime"] == NOW
    assert condition(third, c.SPEC_VALID)["lastTransitionTime"] == STARTED


def test_the_last_failure_is_carried_on() -> None:
    crash = pod(containers=(crashed({**noted(c.MODEL_NOT_FOUND, "no such folder"), "finishedAt": STARTED}),))
    first = status(observed(crash))
    assert first["lastFailure"]["reason"] == c.MODEL_NOT_FOUND
    second = status(serving(status=first))
    assert second["lastFailure"] == first["lastFailure"]
    assert condition(second, c.READY)["reason"] == c.AS_EXPECTED


def test_a_router_that_failed_is_not_the_engines_failure() -> None:
    crash = pod("r", role="router", containers=(crashed(terminated(1, "x"), name="router"),))
    assert "lastFailure" not in status(observed(ready_pod(), crash))


def _pods() -> st.SearchStrategy[tuple[Json, ...]]:
    """Engines and routers in all sorts of states."""
    states = st.sampled_from(
        [
            lambda name, role: ready_pod(name, role=role),
            lambda name, role: pod(name, role=role, going=True),
            lambda name, role: pod(name, role=role, containers=(running(role),)),
            lambda name, role: pod(name, role=role, phase="Pending", ip=""),
            lambda name, role: pod(name, role=role, phase="Pending", inits=(running("fetch"),)),
            lambda name, role: pod(name, role=role, phase="Failed", reason="Evicted"),
            lambda name, role: pod(name, role=role, containers=(crashed(terminated(1, "x"), name=role),)),
            lambda name, role: unplaced_pod("0/1 nodes are available: 1 Insufficient cpu.", name=name, role=role),
        ]
    )
    made = st.lists(st.tuples(states, st.sampled_from(["engine", "router"])), max_size=6)
    return made.map(lambda each: tuple(make(f"pod-{number}", role) for number, (make, role) in enumerate(each)))


def _outcomes() -> st.SearchStrategy[Outcome]:
    return st.sampled_from(
        [
            DONE,
            Outcome(conflicts=(("Service", NAME),)),
            Outcome(refusals=(Refusal(kind="Deployment", name="llama-engine", message="no"),)),
            Outcome(refusals=(Refusal(kind="Job", name="llama-inspect-01234567", message="no"),)),
        ]
    )


_SPECS: list[Any] = [
    {},
    {"replicas": 0},
    {"replicas": 3},
    {"accelerator": "nvidia-h100-80gb"},
    {"autoscaling": {"maxReplicas": 3}},
    {"autoscaling": {"maxReplicas": 3, "actuator": "HPA"}},
    {"autoscaling": {"maxReplicas": 3}, "suspend": True},
]
_SCALED = {"desired": 2, "actuator": "Builtin", "specReplicas": 1}
_SENSES: list[Any] = [
    {},
    {"wanted": 2, "scaling": _SCALED, "scaling_ready": Verdict(status="True", reason=c.AS_EXPECTED, message="Well.")},
    {"wanted": 0, "scaling": {**_SCALED, "desired": 0}, "figures": Figures(queue_depth=0, in_flight=0)},
    {"scaling_ready": Verdict(status="False", reason=c.SIGNAL_STALE, message="A router is silent.")},
    {"cost": {"currency": "USD", "hourly": "1"}},
]

_INSPECTING = Verdict(status="Unknown", reason=c.INSPECTING_MODEL, message="A pod looks.")
_TOO_LARGE = Verdict(status="False", reason=c.DOES_NOT_FIT, message="It does not fit.")
_FITS = (
    None,
    Fit(verdict=_INSPECTING, waits=(c.INSPECTING_MODEL, "A pod looks.")),
    Fit(verdict=Verdict(status="Unknown", reason=c.ACCELERATOR_UNKNOWN, message="Nobody knows.")),
    Fit(verdict=_TOO_LARGE, memory={"weights": "15Gi", "kvCache": "0", "kvTokens": 0, "maxConcurrency": 0}),
    Fit(verdict=_TOO_LARGE, waits=(c.DOES_NOT_FIT, "No engine is made.")),
)

_DOWNLOADS = (None, Download(pod="pod-0", done=0, total=2**40), Download(pod="gone", done=1, total=2, left=0))


@given(
    pods=_pods(),
    outcome=_outcomes(),
    fields=st.sampled_from(_SPECS),
    valid=st.booleans(),
    made=st.booleans(),
    download=st.sampled_from(_DOWNLOADS),
    senses=st.sampled_from(_SENSES),
    fit=st.sampled_from(_FITS),
)
def test_a_status_is_whole_quiet_and_never_contradicts_itself(
    pods: tuple[Json, ...],
    outcome: Outcome,
    fields: Json,
    valid: bool,
    made: bool,
    download: Download | None,
    senses: Json,
    fit: Fit | None,
) -> None:
    deployment = llm_deployment(**fields)
    seen = replace(observed(*pods, deployment=deployment, children=None if made else ()), download=download, **senses)
    spec: LLMDeploymentSpec | InvalidSpec = spec_of(deployment) if valid else InvalidSpec("no")
    fit = fit if valid else None
    body = status(seen, outcome=outcome, spec=spec, fit=fit)

    LLMDeploymentStatus.model_validate(body)
    states = {each["type"]: each["status"] for each in body["conditions"]}
    needed = [part for part in c.PARTS if part not in (c.SCALING_READY, c.MODEL_FITS)]
    fits = states.get(c.MODEL_FITS) != "False"
    assert (states[c.READY] == "True") == (fits and all(states[part] == "True" for part in needed))
    assert {each["reason"] for each in body["conditions"]} <= c.REASONS.keys()
    assert all(each["message"].endswith(".") for each in body["conditions"])
    if states[c.READY] == "True":
        assert body["readyReplicas"] > 0

    again = replace(seen, owner={**deployment, "status": body})
    assert status(again, outcome=outcome, spec=spec, fit=fit, now="2027-01-01T00:00:00Z") == body


def test_the_page_of_reasons_is_current() -> None:
    rows = [f"| `{reason}` | {text} |" for reason, text in c.REASONS.items()]
    written = [line for line in DOCS.read_text().splitlines() if line.startswith("| `")]
    assert written == rows, "write these rows into docs/conditions.md:\n" + "\n".join(rows)


def test_every_reason_is_a_camel_case_word_with_a_sentence() -> None:
    constants = {value for name, value in vars(c).items() if name.isupper() and isinstance(value, str)}
    assert constants - {c.READY, *c.PARTS} == c.REASONS.keys()
    for reason, text in c.REASONS.items():
        assert reason.isalnum() and reason[0].isupper()
        assert text.endswith(".")


def test_a_rollout_is_told_by_ready() -> None:
    seen = observed(
        ready_pod(),
        ready_pod("r", role="router"),
        deployment=llm_deployment(router={"replicas": 1}),
        children=(workload("engine", status={"observedGeneration": 0}), workload("router")),
    )
    ready = condition(status(seen), c.READY)
    assert (ready["status"], ready["reason"]) == ("True", c.UPDATING)
