"""EngineReady while a model is fetched, where that fails, and where what a field names for it is not there."""

from dataclasses import replace
from typing import Any

import pytest

from tests.controller.objects import (
    EARLY,
    LATER,
    LATEST,
    crashed,
    ended,
    llm_deployment,
    noted,
    observed,
    pod,
    ready_pod,
    running,
    spec_of,
    terminated,
    unplaced_pod,
    waiting,
    workload,
)
from tokenfleet import contract
from tokenfleet.api import conditions as c
from tokenfleet.api.conditions import Verdict
from tokenfleet.controller.observed import Download, Json
from tokenfleet.controller.verdicts.checks import engine_ready

FETCH = contract.CONTAINER_FETCH
DONE = ended(terminated(0, reason="Completed"), name=FETCH, ready=True)
LOG = "kubectl -n models logs -f {} -c fetch"
CONFIG_ERROR = "CreateContainerConfigError"
OF_FETCH = (
    c.MODEL_ACCESS_DENIED,
    c.MODEL_NOT_FOUND,
    c.MODEL_STORE_UNREACHABLE,
    c.DISK_FULL,
    c.MODEL_INVALID,
)


def engine(
    *pods: Json, deployment: Json | None = None, told: str | None = None, children: tuple[Json, ...] | None = None
) -> Verdict:
    """`told`: the pod that status.download speaks of."""
    seen = observed(*pods, deployment=deployment, children=children)
    download = Download(pod=told, done=1, total=2) if told else None
    return engine_ready(replace(seen, download=download), spec_of(seen.owner))


def initialising(fetch: Json, *others: Json, name: str = "engine-a", **fields: Any) -> Json:
    """A pod whose init container `fetch` has this status."""
    return pod(name, phase="Pending", inits=(*others, fetch), containers=(waiting("PodInitializing"),), **fields)


def fetching(name: str = "engine-a", **fields: Any) -> Json:
    return initialising(running(FETCH), name=name, **fields)


@pytest.mark.parametrize(
    ("verdict", "message"),
    [
        pytest.param(
            engine(fetching(), told="engine-a"),
            f"Pod engine-a fetches the model. status.download says how far it is, and {LOG.format('engine-a')} tells more.",
            id="it says how far it is",
        ),
        pytest.param(
            engine(fetching()),
            f"Pod engine-a fetches the model. {LOG.format('engine-a')} shows how far it is.",
            id="it has not said so yet, or we may not read it",
        ),
        pytest.param(
            engine(fetching("a", created=EARLY), fetching("b", created=LATER), told="a"),
            f"Pod a fetches the model. status.download says how far it is, and {LOG.format('a')} tells more.",
            id="of several pods the one that says it",
        ),
        pytest.param(
            engine(initialising(running(FETCH, lastState={"terminated": noted(c.MODEL_STORE_UNREACHABLE)})), told="engine-a"),
            f"Pod engine-a fetches the model. status.download says how far it is, and {LOG.format('engine-a')} tells more.",
            id="a download that broke off goes on",
        ),
    ],
)
def test_a_download_that_runs(verdict: Verdict, message: str) -> None:
    assert (verdict.status, verdict.reason, verdict.message) == ("False", c.FETCHING_MODEL, message)


@pytest.mark.parametrize(
    ("verdict", "reason", "words"),
    [
        *(
            pytest.param(
                engine(initialising(crashed({**noted(reason), "exitCode": 2}, name=FETCH))),
                reason,
                "Do this. kubectl -n models logs engine-a -c fetch --previous shows its log.",
                id=f"its own word: {reason}",
            )
            for reason in OF_FETCH
        ),
        pytest.param(
            engine(initialising(ended(noted(c.DISK_FULL), name=FETCH))),
            c.DISK_FULL,
            "Do this.",
            id="at the end of the very first try",
        ),
        pytest.param(
            engine(initialising(running(FETCH, lastState={"terminated": noted(c.MODEL_ACCESS_DENIED)}))),
            c.MODEL_ACCESS_DENIED,
            "Do this.",
            id="another try says the same until it says how far it is",
        ),
        pytest.param(
            engine(initialising(crashed(noted(c.MODEL_NOT_FOUND), name=FETCH), ended(terminated(0), name="warm-up"))),
            c.MODEL_NOT_FOUND,
            "-c fetch",
            id="beside another init container, which did its work",
        ),
        pytest.param(
            engine(initialising(waiting("PodInitializing", name=FETCH), crashed(terminated(3, "no route"), name="warm-up"))),
            c.ENGINE_CRASHED,
            "Container warm-up: The warm-up ended with exit code 3. Its last lines: no route.",
            id="another init container ends before it",
        ),
        *(
            pytest.param(
                engine(pod(inits=(DONE, ended(terminated(0), name="warm-up")), containers=(ended(noted(reason)),))),
                reason,
                "Do this. kubectl -n models logs engine-a -c engine",
                id=f"after a good download, the engine's first word: {reason}",
            )
            for reason in (c.ENGINE_CONFIG_INVALID, c.MODEL_INVALID)
        ),
        pytest.param(
            engine(initialising(crashed(terminated(137, reason="OOMKilled"), name=FETCH))),
            c.OUT_OF_MEMORY,
            "killed the download of the model at its memory limit: give it more by spec.podTemplate (initContainers: name",
            id="it needs more memory",
        ),
        pytest.param(
            engine(initialising(crashed(terminated(1, "Traceback"), name=FETCH))),
            c.ENGINE_CRASHED,
            "The download of the model ended with exit code 1. Its last lines: Traceback.",
            id="it ends without a word",
        ),
        pytest.param(
            engine(initialising(waiting("ErrImagePull", "not found", name=FETCH))),
            c.IMAGE_PULL_FAILED,
            "cannot pull example.org/engine:1.0: not found.",
            id="its image is not there",
        ),
        pytest.param(
            engine(pod(inits=(DONE,), containers=(running(),))),
            c.LOADING_MODEL,
            "reads the model",
            id="it is done, and the engine reads what it fetched",
        ),
    ],
)
def test_it_is_not_ready_and_says_why(verdict: Verdict, reason: str, words: str) -> None:
    assert (verdict.status, verdict.reason) == ("False", reason), verdict.message
    assert words in verdict.message
    assert reason in c.REASONS


def test_a_download_that_fails_again_and_again_is_told_in_the_same_words() -> None:
    end = {"terminated": noted(c.MODEL_ACCESS_DENIED)}
    turns = [
        crashed(noted(c.MODEL_ACCESS_DENIED), name=FETCH, restarts=5),
        running(FETCH, lastState=end, restartCount=6),
        ended(noted(c.MODEL_ACCESS_DENIED), name=FETCH, lastState=end, restartCount=6),
    ]
    assert len({engine(initialising(status)).message for status in turns}) == 1


ROLLING = (workload("engine", status={"replicas": 2, "updatedReplicas": 1}),)


@pytest.mark.parametrize(
    ("new", "reason", "words"),
    [
        pytest.param(
            initialising(crashed(noted(c.MODEL_ACCESS_DENIED), name=FETCH), name="new", template="t2", created=LATEST),
            c.MODEL_ACCESS_DENIED,
            "logs new -c fetch",
            id="credentials that are refused",
        ),
        pytest.param(
            initialising(
                waiting(CONFIG_ERROR, 'secret "hub" not found', name=FETCH), name="new", template="t2", created=LATEST
            ),
            c.CONTAINER_CONFIG_INVALID,
            'secret "hub" not found',
            id="credentials that are not there",
        ),
        pytest.param(
            pod("new", template="t2", created=LATEST, inits=(DONE,), containers=(crashed(noted(c.ENGINE_CONFIG_INVALID)),)),
            c.ENGINE_CONFIG_INVALID,
            "logs new -c engine",
            id="a flag that vLLM refuses",
        ),
        pytest.param(
            fetching("new", template="t2", created=LATEST),
            c.UPDATING,
            "rollout status deployment/llama-engine",
            id="or a download that just takes its time",
        ),
    ],
)
def test_a_change_that_cannot_run_leaves_what_ran_serving_and_says_what_keeps_the_new_one(
    new: Json, reason: str, words: str
) -> None:
    verdict = engine(ready_pod("old"), new, children=ROLLING)
    assert (verdict.status, verdict.reason) == ("True", reason), verdict.message
    assert verdict.message.startswith("1 of 1 engine replicas are ready.")
    assert words in verdict.message


HUB = {"source": "hf://org/model", "credentials": {"secretName": "hub"}}


@pytest.mark.parametrize(
    ("words", "told", "left_out"),
    [
        pytest.param(
            'secret "hub" not found',
            "spec.model.credentials.secretName names it: create that Secret in this namespace",
            "podTemplate",
            id="the Secret of the credentials",
        ),
        pytest.param('secret "other" not found', "spec.podTemplate names", "credentials", id="another Secret"),
        pytest.param('configmap "hub" not found', "spec.podTemplate names", "credentials", id="a ConfigMap of that name"),
    ],
)
def test_what_a_container_lacks_is_told_with_the_field_that_names_it(words: str, told: str, left_out: str) -> None:
    seen = initialising(waiting(CONFIG_ERROR, words, name=FETCH))
    verdict = engine(seen, deployment=llm_deployment(model=HUB))
    assert (verdict.status, verdict.reason) == ("False", c.CONTAINER_CONFIG_INVALID)
    assert f"Container fetch cannot be made: {words}. " in verdict.message
    assert told in verdict.message and left_out not in verdict.message
    assert verdict.message.endswith("kubectl -n models describe pod engine-a shows more.")


ALL_CLAIMS = llm_deployment(
    model={
        "source": "hf://org/model",
        "cache": {"persistentVolumeClaim": "cache"},
        "adapters": [{"name": "a", "source": "pvc://lora/a"}, {"name": "b", "source": "pvc://shared/b"}],
    },
    engine={"speculative": {"method": "draft", "draftModel": "pvc://shared/draft"}},
)
OWN = llm_deployment()
REMOTE = llm_deployment(model={"source": "hf://org/model"})


@pytest.mark.parametrize(
    ("deployment", "quoted", "fields", "claims"),
    [
        pytest.param(OWN, "weights", "spec.model.source", "weights", id="the model's"),
        pytest.param(ALL_CLAIMS, "cache", "spec.model.cache.persistentVolumeClaim", "cache", id="the cache's"),
        pytest.param(ALL_CLAIMS, "lora", "spec.model.adapters[0].source", "lora", id="an adapter's"),
        pytest.param(
            ALL_CLAIMS,
            "shared",
            "spec.model.adapters[1].source or spec.engine.speculative.draftModel",
            "shared",
            id="an adapter's that is the draft's, too",
        ),
    ],
)
def test_a_claim_that_is_not_there_is_told_with_the_field_that_names_it(
    deployment: Json, quoted: str, fields: str, claims: str
) -> None:
    words = f'0/1 nodes are available: persistentvolumeclaim "{quoted}" not found. not found'
    verdict = engine(unplaced_pod(words), deployment=deployment)
    assert (verdict.status, verdict.reason) == ("False", c.VOLUME_NOT_READY)
    assert verdict.message == (
        f"The volume of {fields} cannot be used: {words}. kubectl -n models describe pvc {claims} shows its state; "
        f"create it, or change {fields}."
    )


@pytest.mark.parametrize("deployment", [pytest.param(OWN, id="beside the model's"), pytest.param(REMOTE, id="alone")])
def test_a_claim_that_no_field_names_is_of_the_pod_template(deployment: Json) -> None:
    verdict = engine(unplaced_pod('persistentvolumeclaim "extra" not found'), deployment=deployment)
    assert (verdict.status, verdict.reason) == ("False", c.VOLUME_NOT_READY)
    assert "A volume that spec.podTemplate adds cannot be used" in verdict.message
    assert "spec.model" not in verdict.message


def test_where_the_scheduler_names_no_claim_all_of_them_are_told() -> None:
    verdict = engine(unplaced_pod("pod has unbound immediate PersistentVolumeClaims"), deployment=ALL_CLAIMS)
    assert "describe pvc lora shared cache" in verdict.message
