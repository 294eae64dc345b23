"""What stands between an unknown model and a verdict: its subject, an inspection's progress, and engines that wait."""

from dataclasses import replace
from typing import Any

import pytest

from tests.controller.inspected import INSPECTING, SECONDS, done_pod, inspection_job, inspection_pod, kept
from tests.controller.objects import (
    NOW,
    UID,
    crashed,
    ended,
    llm_deployment,
    noted,
    observed,
    running,
    spec_of,
    terminated,
    waiting,
    workload,
)
from tokenfleet import contract
from tokenfleet.api import conditions as c
from tokenfleet.controller import moments
from tokenfleet.controller.inspections import figures, progress, subject
from tokenfleet.controller.inspections.fit import Assessment, Fit, assess
from tokenfleet.controller.observed import ChildKey, Json, Observed
from tokenfleet.controller.resources import build_children
from tokenfleet.settings import ControllerSettings

INSPECT = contract.CONTAINER_INSPECTION
ENGINE: ChildKey = ("Deployment", "llama-engine")
HUGE: Json = {"engine": {"maxModelLen": 8192}, "accelerator": "nvidia-t4-16gb"}
"""15 GiB of weights on 15 GiB of memory."""
SHORT: Json = {"engine": {"maxModelLen": 4096}}
"""Sequences of which a CPU's KV cache holds one."""


def at(seconds: float) -> str:
    """So long after NOW."""
    return moments.rfc3339(moments.seconds(NOW) + seconds)


def seen(
    *pods: Json,
    job: Json | None = None,
    told: bool = False,
    ours: tuple[Json, ...] = (),
    status: Json | None = None,
    **spec: Any,
) -> Observed:
    """An LLMDeployment with its inspection's Job and pods. told: what that found stands in the status."""
    deployment = llm_deployment(**spec)
    if told:
        status = {**(status or {}), "model": kept(deployment)}
    if status is not None:
        deployment["status"] = status
    return observed(*pods, deployment=deployment, children=(*ours, *((job,) if job else ())))


def assessed(found: Observed, *, now: str = NOW, settings: ControllerSettings = INSPECTING) -> Assessment:
    spec = spec_of(found.owner)
    ours = frozenset(found.children)
    return assess(found, spec, build_children(found.owner, spec, settings), settings, ours=ours, now=now)


def fit_of(assessment: Assessment) -> Fit:
    assert assessment.fit is not None
    return assessment.fit


def keys(assessment: Assessment) -> set[ChildKey]:
    return {(child["kind"], child["metadata"]["name"]) for child in assessment.children}


def template_of(assessment: Assessment) -> Json:
    found = [child for child in assessment.children if (child["kind"], child["metadata"]["name"]) == ENGINE]
    template: Json = found[0]["spec"]["template"]
    return template


def live(*, ready: int = 0, **spec: Any) -> Json:
    """The engines' Deployment as an LLMDeployment of this spec has it."""
    deployment = llm_deployment(**spec)
    built = build_children(deployment, spec_of(deployment), INSPECTING)
    body = next(child for child in built if (child["kind"], child["metadata"]["name"]) == ENGINE)
    body["metadata"] |= {"generation": 1, "ownerReferences": [{"kind": "LLMDeployment", "uid": UID, "controller": True}]}
    return {**body, "status": workload("engine")["status"] | {"readyReplicas": ready}}


# --- The subject ---------------------------------------------------------------------------------------------------------

BASE: Json = {"model": {"source": "hf://org/llama", "revision": "main"}}


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param({"model": {"source": "hf://org/other", "revision": "main"}}, id="another source"),
        pytest.param({"model": {"source": "hf://org/llama", "revision": "v2"}}, id="another revision"),
        pytest.param({"model": {"source": "hf://org/llama"}}, id="no revision"),
        pytest.param({**BASE, "engine": {"speculative": {"draftModel": "hf://org/small"}}}, id="a draft"),
        pytest.param(
            {**BASE, "engine": {"speculative": {"draftModel": "hf://org/small", "draftRevision": "v1"}}}, id="of a revision"
        ),
    ],
)
def test_another_model_is_another_subject(spec: Json) -> None:
    assert subject.digest_of(llm_deployment(**spec)) != subject.digest_of(llm_deployment(**BASE))


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param({"model": {**BASE["model"], "servedName": "x", "credentials": {"secretName": "s"}}}, id="of the model"),
        pytest.param({**BASE, "engine": {"maxModelLen": 1, "speculative": {"method": "ngram"}}}, id="of the engine"),
        pytest.param({**BASE, "replicas": 7, "accelerator": "nvidia-h100-80gb"}, id="of the rest"),
    ],
)
def test_what_else_changes_asks_for_no_inspection(spec: Json) -> None:
    assert subject.digest_of(llm_deployment(**spec)) == subject.digest_of(llm_deployment(**BASE))


def test_what_is_known_is_that_of_this_very_model() -> None:
    found = seen(told=True)
    known = subject.known(found)
    assert known is not None and known.facts is not None and known.facts.layers == 32
    assert subject.is_kept(found)
    other = replace(found, owner={**found.owner, "spec": {**found.owner["spec"], "model": {"source": "hf://a/b"}}})
    assert subject.known(other) is None
    assert subject.model_of(other) == subject.model_of(found), "what was known stays there until there is better"


def test_facts_that_an_earlier_release_wrote_otherwise_are_read_anew() -> None:
    found = seen(told=True)
    found.owner["status"]["model"]["facts"] = {"layers": 1}
    assert subject.known(found) is None


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        pytest.param(0, "0", id="nothing"),
        pytest.param(1000, "1000", id="bytes"),
        pytest.param(2048, "2Ki", id="without a fraction"),
        pytest.param(16_060_522_496, "15Gi", id="the weights of eight billions"),
        pytest.param(131 * 1024**3, "131Gi", id="hundreds"),
        pytest.param(2.38 * 1024**2, "2.38Mi", id="three digits"),
    ],
)
def test_bytes_are_written_as_quantities(count: float, expected: str) -> None:
    assert figures.quantity(count) == expected


# --- Its progress --------------------------------------------------------------------------------------------------------

UNSCHEDULABLE: Json = {
    "type": "PodScheduled",
    "status": "False",
    "message": '0/1 nodes are available: persistentvolumeclaim "weights" not found. preemption: no.',
}


@pytest.mark.parametrize(
    ("job", "pods", "words"),
    [
        pytest.param({}, (), "", id="its pod is not there yet"),
        pytest.param({}, (inspection_pod(phase="Pending"),), "", id="its pod is new"),
        pytest.param({}, (inspection_pod(containers=(running(INSPECT),)),), "", id="it runs"),
        pytest.param({}, (inspection_pod(containers=(waiting("ContainerCreating", name=INSPECT),)),), "", id="is made"),
        pytest.param({"ended_as": "Complete"}, (done_pod(),), "", id="it is done"),
        pytest.param({}, (inspection_pod(phase="Pending", conditions=(UNSCHEDULABLE,)),), '"weights" not found', id="no node"),
        pytest.param(
            {},
            (inspection_pod(phase="Pending", containers=(waiting("ErrImagePull", "no such image", name=INSPECT),)),),
            "no such image",
            id="no image",
        ),
        pytest.param(
            {},
            (inspection_pod(containers=(waiting("CreateContainerConfigError", 'secret "s" not found', name=INSPECT),)),),
            'secret "s" not found',
            id="no Secret",
        ),
        pytest.param(
            {},
            (inspection_pod(phase="Failed", containers=(ended(noted(c.MODEL_NOT_FOUND, "No such model."), name=INSPECT),)),),
            "No such model.",
            id="it says itself why it ended",
        ),
        pytest.param(
            {},
            (inspection_pod(phase="Failed", containers=(ended(terminated(1, "Traceback"), name=INSPECT),)),),
            "Traceback",
            id="its last lines",
        ),
        pytest.param(
            {},
            (inspection_pod(phase="Failed", reason="Evicted", message="The node was low on memory."),),
            "low on",
            id="evicted",
        ),
        pytest.param(
            {},
            (
                inspection_pod(name="z", created=NOW, containers=(running(INSPECT),)),
                inspection_pod(phase="Failed", containers=(ended(noted(c.MODEL_NOT_FOUND, "No such model."), name=INSPECT),)),
            ),
            "No such model.",
            id="it tries again, and what was wrong stays told",
        ),
        pytest.param(
            {"ended_as": "Failed", "reason": "DeadlineExceeded", "message": "Job was active longer than specified deadline"},
            (),
            "longer than specified deadline.",
            id="its time is over, and its pods are gone",
        ),
        pytest.param({"ended_as": "Complete"}, (), "Its log is gone.", id="its pod is gone before anybody read it"),
    ],
)
def test_how_an_inspection_goes(job: Json, pods: tuple[Json, ...], words: str) -> None:
    found = seen(*pods)
    told = progress.trouble(inspection_job(**job), progress.pods_of(found, of=subject.digest_of(found.owner)))
    assert (words in told) if words else told == ""


def test_pods_of_another_inspection_and_those_going_away_tell_nothing() -> None:
    other = llm_deployment(model={"source": "hf://a/b"})
    failed: Json = {"phase": "Failed", "containers": (crashed(noted(c.MODEL_NOT_FOUND)),)}
    found = seen(inspection_pod(other, **failed), inspection_pod(going=True, **failed))
    assert progress.pods_of(found, of=subject.digest_of(found.owner)) == []


def test_a_pod_of_the_job_before_tells_nothing_of_this_one() -> None:
    """Its credentials may just have been mended."""
    failed = inspection_pod(phase="Failed", containers=(ended(noted(c.MODEL_ACCESS_DENIED), name=INSPECT),))
    for uid, told in (("job-uid", True), ("another", False)):
        failed["metadata"]["ownerReferences"] = [{"kind": "Job", "uid": uid, "controller": True}]
        assert bool(progress.trouble(inspection_job(), [failed])) is told


# --- What engines wait for -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "spec"),
    [
        pytest.param(replace(INSPECTING, inspect_seconds=0), {}, id="the controller is told not to"),
        pytest.param(INSPECTING, {"accelerator": "simulated"}, id="a simulator reads no model"),
    ],
)
def test_where_nobody_asks_nothing_differs(settings: ControllerSettings, spec: Json) -> None:
    found = seen(**spec)
    spec_ = spec_of(found.owner)
    children = build_children(found.owner, spec_, settings)
    assert assess(found, spec_, children, settings, ours=frozenset(), now=NOW) == Assessment(children=tuple(children))


def test_new_engines_wait_for_the_inspection_and_nothing_else_does() -> None:
    assessment = assessed(seen())
    job, *rest = assessment.children
    assert job["kind"] == "Job"
    everything = {
        (child["kind"], child["metadata"]["name"])
        for child in build_children(llm_deployment(), spec_of(llm_deployment()), INSPECTING)
    }
    assert {(child["kind"], child["metadata"]["name"]) for child in rest} == everything - {ENGINE}
    fit = fit_of(assessment)
    assert (fit.verdict.status, fit.verdict.reason) == ("Unknown", c.INSPECTING_MODEL)
    assert fit.waits == (c.INSPECTING_MODEL, fit.verdict.message)
    assert job["metadata"]["name"] in fit.verdict.message


def test_they_wait_while_it_goes_on_as_it_should_and_are_looked_at_when_that_time_is_over() -> None:
    found = seen(inspection_pod(containers=(running(INSPECT),)), job=inspection_job(at=NOW))
    first = assessed(found, now=at(10))
    assert ENGINE not in keys(first)
    assert first.again_after is not None and 0 < first.again_after * 1.5 <= SECONDS - 10
    late = assessed(found, now=at(SECONDS))
    assert ENGINE in keys(late)
    assert fit_of(late).waits is None
    assert (fit_of(late).verdict.status, fit_of(late).verdict.reason) == ("Unknown", c.MODEL_NOT_INSPECTED)
    assert f"longer than {SECONDS} s" in fit_of(late).verdict.message
    assert any(kind == "Job" for kind, _ in keys(late)), "it may still come to its end"


def test_they_do_not_wait_for_an_inspection_in_trouble() -> None:
    found = seen(inspection_pod(phase="Pending", conditions=(UNSCHEDULABLE,)), job=inspection_job(at=NOW))
    assessment = assessed(found)
    assert ENGINE in keys(assessment)
    verdict = fit_of(assessment).verdict
    assert (verdict.status, verdict.reason) == ("Unknown", c.MODEL_NOT_INSPECTED)
    assert '"weights" not found' in verdict.message


def test_they_do_not_wait_for_a_log_that_cannot_be_read() -> None:
    found = replace(seen(done_pod(), job=inspection_job(ended_as="Complete", at=NOW)), unread="Its log cannot be read: no")
    assessment = assessed(found, now=at(1))
    assert ENGINE in keys(assessment)
    assert "Its log cannot be read: no." in fit_of(assessment).verdict.message


def test_they_wait_no_second_time_for_what_could_not_be_inspected() -> None:
    """A Job that the API server refused, or that is made anew after it failed."""
    told = {
        "type": c.MODEL_FITS,
        "status": "Unknown",
        "reason": c.MODEL_NOT_INSPECTED,
        "message": "No.",
        "observedGeneration": 1,
    }
    for job in (None, inspection_job(at=NOW)):
        assessment = assessed(seen(job=job, status={"conditions": [told]}))
        assert ENGINE in keys(assessment)
        assert any(kind == "Job" for kind, _ in keys(assessment))
        assert fit_of(assessment).verdict.message == "No."
    told["observedGeneration"] = 0
    assert ENGINE not in keys(assessed(seen(status={"conditions": [told]}))), "of another spec it says nothing"


@pytest.mark.parametrize("how", ["Failed", "Complete"])
def test_a_job_that_came_to_nothing_is_replaced_after_a_while(how: str) -> None:
    found = seen(job=inspection_job(ended_as=how, at=NOW))
    assert any(kind == "Job" for kind, _ in keys(assessed(found, now=at(progress.AGAIN_SECONDS - 1))))
    over = assessed(found, now=at(progress.AGAIN_SECONDS))
    assert not any(kind == "Job" for kind, _ in keys(over)), "it goes, so that the next turn makes another"
    assert ENGINE in keys(over)


def test_a_job_of_somebody_else_holds_nothing_up() -> None:
    found = seen(job=inspection_job(at=NOW))
    spec = spec_of(found.owner)
    assessment = assess(found, spec, build_children(found.owner, spec, INSPECTING), INSPECTING, ours=frozenset(), now=NOW)
    assert ENGINE in keys(assessment)
    assert "is not free" in fit_of(assessment).verdict.message


def test_once_it_is_known_its_job_stays_until_the_status_holds_it() -> None:
    deployment = llm_deployment(**SHORT)
    read = replace(seen(done_pod(), job=inspection_job(ended_as="Complete"), **SHORT), model=kept(deployment))
    just_read = assessed(read)
    assert any(kind == "Job" for kind, _ in keys(just_read))
    assert just_read.again_after == 0.0
    assert ENGINE not in keys(just_read), "the status comes before the engines"
    assert fit_of(just_read).waits is not None
    told = assessed(seen(done_pod(), job=inspection_job(ended_as="Complete"), told=True, **SHORT))
    assert not any(kind == "Job" for kind, _ in keys(told))
    assert ENGINE in keys(told)
    assert told.again_after is None
    assert fit_of(told) == replace(fit_of(just_read), waits=None)


def test_engines_that_run_wait_only_with_a_change() -> None:
    same = assessed(seen(ours=(live(),)))
    assert ENGINE in keys(same)
    assert fit_of(same).waits is None
    changed = assessed(seen(ours=(live(),), engine={"maxModelLen": 512}, replicas=3))
    assert template_of(changed) == live()["spec"]["template"]
    (engines,) = [
        child for child in changed.children if child["metadata"]["name"] == ENGINE[1] and child["kind"] == "Deployment"
    ]
    assert engines["spec"]["replicas"] == 3, "a count follows the spec at once"
    assert fit_of(changed).waits is not None


# --- The verdict -----------------------------------------------------------------------------------------------------------


def test_one_that_fits_says_so_in_numbers() -> None:
    fit = fit_of(assessed(seen(told=True, accelerator="nvidia-h100-80gb", engine={"maxModelLen": 8192})))
    assert (fit.verdict.status, fit.verdict.reason) == ("True", c.AS_EXPECTED)
    assert fit.memory is not None
    assert fit.memory["weights"] == "15Gi"
    tokens, most = fit.memory["kvTokens"], fit.memory["maxConcurrency"]
    assert most == tokens // 8192 > 10
    assert fit.verdict.message.startswith("Weights take 15 GiB of 79.")
    assert fit.verdict.message.endswith(f"the KV cache holds {tokens:,} tokens: {most:,} sequences of 8,192.")


def test_all_devices_of_a_replica_count_together() -> None:
    one = fit_of(assessed(seen(told=True, accelerator="nvidia-h100-80gb")))
    two = fit_of(assessed(seen(told=True, accelerator="nvidia-h100-80gb", parallelism={"tensor": 2})))
    assert one.memory is not None and two.memory is not None
    assert two.memory["weights"] == one.memory["weights"]
    assert two.memory["kvTokens"] > 2 * one.memory["kvTokens"]


def test_one_that_does_not_fit_says_what_is_missing_and_what_to_change() -> None:
    assessment = assessed(seen(told=True, **HUGE))
    fit = fit_of(assessment)
    assert (fit.verdict.status, fit.verdict.reason) == ("False", c.DOES_NOT_FIT)
    assert "15 GiB" in fit.verdict.message and "8,192 tokens" in fit.verdict.message
    assert "engine." in fit.verdict.message or "accelerator" in fit.verdict.message
    assert ENGINE not in keys(assessment)
    assert fit.waits is not None and fit.waits[0] == c.DOES_NOT_FIT
    assert assessment.again_after is None


def test_what_ran_before_goes_on_and_can_be_scaled() -> None:
    before: Json = {**HUGE, "accelerator": "nvidia-h100-80gb"}
    assessment = assessed(seen(told=True, ours=(live(ready=1, **before),), **HUGE, replicas=2))
    assert template_of(assessment) == live(**before)["spec"]["template"]
    assert fit_of(assessment).waits is not None


def test_it_can_be_restarted_as_it_is() -> None:
    before: Json = {**HUGE, "accelerator": "nvidia-h100-80gb"}
    found = seen(told=True, ours=(live(ready=1, **before),), **HUGE)
    found.owner["metadata"]["annotations"] = {contract.ANNOTATION_RESTARTED: NOW}
    template = template_of(assessed(found))
    assert template["metadata"]["annotations"][contract.ANNOTATION_RESTARTED] == NOW
    assert template["spec"] == live(**before)["spec"]["template"]["spec"]


def test_engines_of_this_very_spec_that_serve_are_believed() -> None:
    fit = fit_of(assessed(seen(told=True, ours=(live(ready=1, **HUGE),), **HUGE)))
    assert (fit.verdict.status, fit.verdict.reason) == ("True", c.AS_EXPECTED)
    assert "although planning comes to another end" in fit.verdict.message
    assert fit.waits is None
    waiting = fit_of(assessed(seen(told=True, ours=(live(ready=0, **HUGE),), **HUGE)))
    assert waiting.verdict.status == "False"
    assert waiting.waits is None, "of the same pods some more may be made"


def test_a_spec_that_changes_is_judged_at_once_without_another_inspection() -> None:
    short = fit_of(assessed(seen(told=True, accelerator="nvidia-h100-80gb", engine={"maxModelLen": 1024})))
    long = fit_of(assessed(seen(told=True, accelerator="nvidia-h100-80gb", engine={"maxModelLen": 8192})))
    assert short.memory is not None and long.memory is not None
    assert short.memory["maxConcurrency"] > long.memory["maxConcurrency"]


def test_a_class_of_unknown_memory_is_not_judged() -> None:
    assessment = assessed(seen(told=True, accelerator="nvidia"))
    fit = fit_of(assessment)
    assert (fit.verdict.status, fit.verdict.reason) == ("Unknown", c.ACCELERATOR_UNKNOWN)
    assert fit.memory is None
    assert ENGINE in keys(assessment)


def test_a_model_that_planning_does_not_know_is_not_judged() -> None:
    found = seen(told=True, accelerator="nvidia-h100-80gb")
    found.owner["status"]["model"]["facts"] = {subject.UNKNOWN: "Nobody knows NobodysForCausalLM"}
    assessment = assessed(found)
    verdict = fit_of(assessment).verdict
    assert (verdict.status, verdict.reason) == ("Unknown", c.MODEL_UNKNOWN)
    assert "Nobody knows NobodysForCausalLM." in verdict.message
    assert ENGINE in keys(assessment)
    assert not any(kind == "Job" for kind, _ in keys(assessment)), "another look would find no more"


def test_on_a_cpu_the_kv_cache_is_told_although_memory_has_no_bound() -> None:
    fit = fit_of(assessed(seen(told=True, engine={"maxModelLen": 4096})))
    assert fit.verdict.status == "True"
    assert fit.memory is not None and fit.memory["kvCache"] == "1Gi"
    assert fit.verdict.message.startswith("Weights take 15 GiB;")
