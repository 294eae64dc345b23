"""EngineReady and RouterReady: what stands in the cluster, and what a user reads of it."""

import pytest

from tests.controller.objects import (
    CREATED,
    EARLY,
    LATER,
    LATEST,
    NAMESPACE,
    STARTED,
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
from tokenfleet.api import conditions as c
from tokenfleet.api.conditions import Verdict
from tokenfleet.controller.observed import Json, Observed
from tokenfleet.controller.verdicts.checks import engine_ready, router_ready
from tokenfleet.planning import accelerators

NO_GPU = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu. preemption: 0/3 nodes are available: 3 No preemption victims."
NOT_OF_THE_CLASS = "0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector. preemption: 0/2 are helpful."
NO_CLAIM = '0/1 nodes are available: persistentvolumeclaim "weights" not found. not found'
TWO = llm_deployment(replicas=2)
H100 = llm_deployment(accelerator="nvidia-h100-80gb")
TOO_SMALL = "0/3 nodes are available: 1 Insufficient memory, 2 node(s) didn't match Pod's node affinity/selector."
BACK_OFF = 'Back-off pulling image "example.org/engine:1.0": ErrImagePull: failed to resolve: not found'


def engine(*pods: Json, deployment: Json | None = None, children: tuple[Json, ...] | None = None) -> Verdict:
    seen = observed(*pods, deployment=deployment, children=children)
    return engine_ready(seen, spec_of(seen.owner))


def router(*pods: Json, children: tuple[Json, ...] | None = None) -> Verdict:
    seen = observed(*pods, deployment=llm_deployment(router={"replicas": 1}), children=children)
    return router_ready(seen, spec_of(seen.owner))


def refused(words: str) -> Json:
    """The engine's Deployment, whose pods the API server does not take."""
    message = f'pods "llama-engine-7d-x2" is forbidden: {words}'
    failure = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": message}
    return workload("engine", status={"conditions": [failure]})


@pytest.mark.parametrize(
    ("verdict", "message"),
    [
        pytest.param(engine(ready_pod()), "1 of 1 engine replicas are ready.", id="all that is wanted is ready"),
        pytest.param(
            engine(ready_pod("a"), ready_pod("b"), deployment=TWO), "2 of 2 engine replicas are ready.", id="two of two"
        ),
        pytest.param(
            engine(ready_pod(), pod("old", going=True, containers=(running(),))),
            "1 of 1 engine replicas are ready.",
            id="a pod that goes away does not count",
        ),
        pytest.param(
            engine(ready_pod(), pod("gone", phase="Failed", reason="Evicted")),
            "1 of 1 engine replicas are ready.",
            id="an evicted pod was replaced",
        ),
        pytest.param(
            engine(
                pod(ready=True, containers=(running(ready=True, lastState={"terminated": terminated(1, "x")}, restartCount=9),))
            ),
            "1 of 1 engine replicas are ready.",
            id="what crashed before and serves now is ready",
        ),
        pytest.param(router(ready_pod("r", role="router")), "1 of 1 router replicas are ready.", id="the router is ready"),
    ],
)
def test_all_is_as_expected(verdict: Verdict, message: str) -> None:
    assert (verdict.status, verdict.reason, verdict.message) == ("True", c.AS_EXPECTED, message)


@pytest.mark.parametrize(
    ("verdict", "reason", "words"),
    [
        # --- no pods, on purpose or not ------------------------------------------------------------------------------
        pytest.param(
            engine(deployment=llm_deployment(replicas=0)),
            c.SCALED_TO_ZERO,
            ["spec.replicas is 0", "kubectl -n models scale llmd/llama --replicas=1"],
            id="scaled to zero",
        ),
        pytest.param(
            engine(ready_pod(), deployment=llm_deployment(replicas=0)),
            c.SCALED_TO_ZERO,
            ["no engine runs"],
            id="scaled to zero, and the last pod not yet told",
        ),
        pytest.param(
            engine(pod(draining=True, ready=True), deployment=llm_deployment(replicas=0)),
            c.SCALED_TO_ZERO,
            ["Pods that still run end their requests first; status.draining names them."],
            id="scaled to zero, and a pod says goodbye",
        ),
        pytest.param(
            engine(deployment=llm_deployment(suspend=True)),
            c.SUSPENDED,
            ["spec.suspend is true", """kubectl -n models patch llmd/llama --type=merge -p '{"spec": {"suspend": false}}'"""],
            id="suspended",
        ),
        pytest.param(
            engine(
                deployment=llm_deployment(
                    replicas=0, autoscaling={"minReplicas": 0, "maxReplicas": 2, "scaleToZeroAfterSeconds": 60}
                )
            ),
            c.SCALED_TO_ZERO,
            ["The next request wakes the model."],
            id="autoscaled to zero",
        ),
        pytest.param(engine(children=()), c.CREATING, ["llama-engine is about to be made"], id="no Deployment yet"),
        pytest.param(
            engine(children=(workload("engine", owner="other", owner_kind="Deployment"),)),
            c.NAME_CONFLICT,
            ["belongs to someone else", "SpecValid"],
            id="someone else's Deployment",
        ),
        pytest.param(
            engine(children=(workload("engine", owner=None),)),
            c.NAME_CONFLICT,
            ["belongs to someone else"],
            id="nobody's Deployment",
        ),
        pytest.param(
            engine(children=(workload("engine", owner="former"),)),
            c.CREATING,
            ["about to be made"],
            id="the Deployment of a former LLMDeployment of this name",
        ),
        pytest.param(engine(), c.CREATING, ["Pods are about to be made", "describe deployment llama-engine"], id="no pods yet"),
        pytest.param(
            engine(children=(refused("exceeded quota: gpus, requested: pods=1, used: pods=0, limited: pods=0"),)),
            c.QUOTA_EXCEEDED,
            ["pods are forbidden: exceeded quota: gpus", "kubectl -n models get resourcequota"],
            id="a quota",
        ),
        pytest.param(
            engine(children=(refused('violates PodSecurity "restricted:latest": hostPath volumes'),)),
            c.REJECTED_BY_API_SERVER,
            ["pods are forbidden: violates PodSecurity", "spec.podTemplate"],
            id="Pod Security",
        ),
        # --- no node -------------------------------------------------------------------------------------------------
        pytest.param(
            engine(unplaced_pod(NO_GPU), deployment=H100),
            c.INSUFFICIENT_GPU,
            ["1 free GPU of class nvidia-h100-80gb", "3 Insufficient nvidia.com/gpu.", "spec.accelerator"],
            id="no free GPU",
        ),
        pytest.param(
            engine(unplaced_pod(NOT_OF_THE_CLASS), deployment=H100),
            c.INSUFFICIENT_GPU,
            ["nvidia-h100-80gb", "didn't match Pod's node affinity/selector."],
            id="no node of the class",
        ),
        pytest.param(
            engine(
                unplaced_pod(NO_GPU),
                deployment=llm_deployment(accelerator="nvidia", parallelism={"tensor": 4}),
            ),
            c.INSUFFICIENT_GPU,
            ["4 free GPUs of class nvidia"],
            id="not as many GPUs in one node",
        ),
        pytest.param(
            engine(
                unplaced_pod(TOO_SMALL),
                deployment=H100,
            ),
            c.UNSCHEDULABLE,
            ["Insufficient memory", "spec.podTemplate"],
            id="the node of the class has too little memory",
        ),
        pytest.param(
            engine(unplaced_pod("0/1 nodes are available: 1 Insufficient cpu.")),
            c.UNSCHEDULABLE,
            ["No node takes a pod: 0/1 nodes are available: 1 Insufficient cpu.", "kubectl -n models describe pod engine-a"],
            id="too little CPU",
        ),
        pytest.param(
            engine(unplaced_pod("0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.")),
            c.UNSCHEDULABLE,
            ["nodeSelector"],
            id="a nodeSelector of podTemplate on the CPU",
        ),
        pytest.param(
            engine(unplaced_pod(NO_CLAIM)),
            c.VOLUME_NOT_READY,
            [
                "The volume of spec.model.source cannot",
                'persistentvolumeclaim "weights" not found',
                "kubectl -n models describe pvc weights",
            ],
            id="no such claim",
        ),
        pytest.param(
            engine(unplaced_pod("0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims.")),
            c.VOLUME_NOT_READY,
            ["unbound immediate PersistentVolumeClaims", "describe pvc weights"],
            id="a claim without a volume",
        ),
        pytest.param(
            engine(unplaced_pod("", reason="SchedulingGated")), c.UNSCHEDULABLE, ["SchedulingGated"], id="held back by a gate"
        ),
        pytest.param(
            engine(unplaced_pod("1 Insufficient cpu.", name="b"), unplaced_pod(NO_GPU, name="a"), deployment=H100),
            c.INSUFFICIENT_GPU,
            ["Insufficient nvidia.com/gpu"],
            id="of two causes, the GPUs are told",
        ),
        # --- containers that cannot begin ------------------------------------------------------------------------------
        pytest.param(
            engine(pod(phase="Pending", containers=(waiting("ErrImagePull", "not found"),))),
            c.IMAGE_PULL_FAILED,
            ["cannot pull example.org/engine:1.0: not found.", "imagePullSecrets", "describe pod engine-a"],
            id="an image that is not there",
        ),
        pytest.param(
            engine(pod(phase="Pending", containers=(waiting("InvalidImageName"),))),
            c.IMAGE_PULL_FAILED,
            ["InvalidImageName"],
            id="an image with an impossible name",
        ),
        pytest.param(
            engine(pod(phase="Pending", containers=(waiting("CreateContainerConfigError", 'secret "x" not found'),))),
            c.CONTAINER_CONFIG_INVALID,
            ['Container engine cannot be made: secret "x" not found.'],
            id="a Secret that is not there",
        ),
        pytest.param(
            engine(pod(containers=(crashed(terminated(128, "exec: no such file", reason="StartError")),))),
            c.CONTAINER_CONFIG_INVALID,
            ["could not be started: exec: no such file"],
            id="a command that is not there",
        ),
        # --- engines that end --------------------------------------------------------------------------------------------
        *(
            pytest.param(
                engine(pod(containers=(crashed(noted(reason)),))),
                reason,
                ["Do this. kubectl -n models logs engine-a -c engine --previous"],
                id=f"the engine's own word: {reason}",
            )
            for reason in (
                c.MODEL_NOT_FOUND,
                c.MODEL_INVALID,
                c.ENGINE_CONFIG_INVALID,
                c.ENGINE_START_FAILED,
                c.ENGINE_CRASHED,
                c.OUT_OF_MEMORY,
            )
        ),
        pytest.param(
            engine(pod(containers=(crashed(terminated(137, reason="OOMKilled")),))),
            c.OUT_OF_MEMORY,
            ["at its memory limit", "resources.limits.memory"],
            id="killed at the memory limit",
        ),
        pytest.param(
            engine(pod(containers=(crashed(terminated(137)),))), c.OUT_OF_MEMORY, ["signal 9"], id="killed by the node"
        ),
        pytest.param(
            engine(pod(containers=(crashed({**noted(c.ENGINE_CRASHED), "reason": "OOMKilled"}),))),
            c.OUT_OF_MEMORY,
            ["at its memory limit"],
            id="the kernel's word counts more than the engine's",
        ),
        pytest.param(
            engine(pod(containers=(crashed(terminated(1, "Traceback:\nKeyError: 'x'"), restarts=1),))),
            c.ENGINE_CRASHED,
            ["exit code 1", "KeyError: 'x'"],
            id="ended once for no known cause",
        ),
        pytest.param(
            engine(pod(containers=(crashed(terminated(1, "KeyError: 'x'"), restarts=2),))),
            c.ENGINE_CRASH_LOOPING,
            ["exit code 1", "KeyError: 'x'"],
            id="ended again and again for no known cause",
        ),
        pytest.param(
            engine(pod(containers=(crashed(terminated(1, '{"reason": "Bored", "message": "x"}'), restarts=5),))),
            c.ENGINE_CRASH_LOOPING,
            ["Bored"],
            id="a reason that nobody knows is quoted",
        ),
        pytest.param(
            engine(pod(containers=(crashed(terminated(0), restarts=5),))),
            c.ENGINE_CRASH_LOOPING,
            ["exit code 0"],
            id="ended without an error",
        ),
        pytest.param(
            engine(pod(containers=(running(lastState={"terminated": terminated(137, reason="OOMKilled")}, restartCount=3),))),
            c.OUT_OF_MEMORY,
            ["at its memory limit"],
            id="started again, but has not shown that it will not end again",
        ),
        pytest.param(
            engine(pod(containers=(ended(terminated(137, reason="OOMKilled")),))),
            c.OUT_OF_MEMORY,
            ["at its memory limit"],
            id="ended just now",
        ),
        pytest.param(
            engine(pod(phase="Pending", inits=(crashed(terminated(3, "no route"), name="warm-up"),))),
            c.ENGINE_CRASHED,
            ["Container warm-up: ", "exit code 3", "logs engine-a -c warm-up --previous"],
            id="an init container of podTemplate ends with an error",
        ),
        # --- engines that are on their way, or lost it -------------------------------------------------------------------
        pytest.param(
            engine(pod(containers=(running(),))),
            c.LOADING_MODEL,
            ["reads the model", "kubectl -n models logs -f engine-a"],
            id="loading",
        ),
        pytest.param(
            engine(pod(containers=(running(started=True),), changed=CREATED)),
            c.LOADING_MODEL,
            ["reads the model"],
            id="loaded a moment ago",
        ),
        pytest.param(
            engine(pod(containers=(running(started=True, since=STARTED),), changed=LATER)),
            c.ENGINE_UNHEALTHY,
            ["served before and now fails its probe", "kubectl -n models logs engine-a"],
            id="served, and fails its probe",
        ),
        pytest.param(
            engine(
                pod(
                    containers=(
                        running(
                            started=True, since=STARTED, lastState={"terminated": terminated(1, at=CREATED)}, restartCount=1
                        ),
                    ),
                    changed=LATER,
                )
            ),
            c.ENGINE_UNHEALTHY,
            ["served before"],
            id="crashed long ago, served since, and fails its probe now",
        ),
        pytest.param(
            engine(pod(containers=(running(ready=True),))),
            c.ENGINE_UNHEALTHY,
            ["not ready although its engine is", "its node may be away"],
            id="its node is away",
        ),
        pytest.param(
            engine(pod(phase="Pending", containers=(waiting("ContainerCreating"),))),
            c.CREATING,
            ["prepare volumes and images", "describe pod engine-a"],
            id="its container is being made",
        ),
        pytest.param(engine(pod(phase="Pending", ip="")), c.CREATING, ["prepare volumes and images"], id="just made"),
        pytest.param(
            engine(pod(phase="Pending", inits=(running("warm-up"),), containers=(waiting("PodInitializing"),))),
            c.CREATING,
            ["describe pod"],
            id="an init container of podTemplate runs",
        ),
        pytest.param(
            engine(
                pod(
                    inits=(ended(terminated(0, reason="Completed"), name="fetch", ready=True),),
                    containers=(running(),),
                )
            ),
            c.LOADING_MODEL,
            ["reads the model"],
            id="an init container's good end is no failure",
        ),
        # --- rollouts with nobody serving --------------------------------------------------------------------------------
        pytest.param(
            engine(
                pod("old", template="t1", created=EARLY, containers=(crashed(noted(c.MODEL_NOT_FOUND)),)),
                pod("new", template="t2", created=LATER, containers=(running(),)),
                children=(workload("engine", status={"replicas": 2, "updatedReplicas": 1}),),
            ),
            c.LOADING_MODEL,
            ["logs -f new"],
            id="what was wrong is mended, and the new pod loads",
        ),
        pytest.param(
            engine(
                pod("old", template="t1", created=EARLY, containers=(running(),)),
                pod("new", template="t2", created=LATER, containers=(crashed(noted(c.MODEL_NOT_FOUND)),)),
            ),
            c.MODEL_NOT_FOUND,
            ["logs new"],
            id="the newest pod tells of the newest spec",
        ),
        # --- routers -----------------------------------------------------------------------------------------------------
        pytest.param(router(), c.CREATING, ["describe deployment llama-router"], id="no router pods yet"),
        pytest.param(
            router(pod("r", role="router", containers=(running("router"),))),
            c.ROUTER_STARTING,
            ["reads the Kubernetes API", "logs -f r"],
            id="a router starts",
        ),
        pytest.param(
            router(pod("r", role="router", containers=(crashed(terminated(1, "no route"), name="router"),))),
            c.ROUTER_CRASH_LOOPING,
            ["no route", "logs r -c router --previous"],
            id="a router ends",
        ),
        pytest.param(
            router(pod("r", role="router", containers=(crashed(terminated(137, reason="OOMKilled"), name="router"),))),
            c.OUT_OF_MEMORY,
            ["spec.router.replicas"],
            id="a router needs more memory",
        ),
        pytest.param(
            router(unplaced_pod("0/1 nodes are available: 1 Insufficient cpu.", name="r", role="router")),
            c.UNSCHEDULABLE,
            ["Insufficient cpu"],
            id="no node for a router",
        ),
        pytest.param(
            router(
                pod(
                    "r", role="router", phase="Pending", containers=(waiting("ErrImagePull", "x", name="router", image="op:1"),)
                )
            ),
            c.IMAGE_PULL_FAILED,
            ["cannot pull op:1"],
            id="no image for a router",
        ),
    ],
)
def test_it_is_not_ready_and_says_why(verdict: Verdict, reason: str, words: list[str]) -> None:
    assert (verdict.status, verdict.reason) == ("False", reason), verdict.message
    for each in words:
        assert each in verdict.message
    assert reason in c.REASONS


def rolling(*pods: Json, **status: int) -> Verdict:
    return engine(*pods, children=(workload("engine", status=status),))


@pytest.mark.parametrize(
    ("verdict", "reason", "words"),
    [
        pytest.param(
            engine(ready_pod("a"), pod("b", containers=(running(),)), deployment=TWO),
            c.LOADING_MODEL,
            ["1 of 2 engine replicas are ready."],
            id="the second replica loads",
        ),
        pytest.param(
            engine(ready_pod("a"), unplaced_pod(NO_GPU, name="b"), deployment=llm_deployment(replicas=2, accelerator="nvidia")),
            c.INSUFFICIENT_GPU,
            ["1 of 2 engine replicas are ready.", "maxSurge 0 and maxUnavailable 1"],
            id="no GPU for the second replica",
        ),
        pytest.param(
            engine(ready_pod("a"), deployment=TWO),
            c.CREATING,
            ["1 of 2", "about to be made"],
            id="the second is about to be made",
        ),
        pytest.param(
            rolling(
                ready_pod("old"),
                pod("new", template="t2", created=LATEST, containers=(running(),)),
                replicas=2,
                updatedReplicas=1,
            ),
            c.UPDATING,
            ["1 of 1 engine replicas are ready.", "1 of 1 are of the newest spec", "rollout status deployment/llama-engine"],
            id="a rollout, with the new pod loading",
        ),
        pytest.param(
            rolling(ready_pod("old"), observedGeneration=0),
            c.UPDATING,
            ["was just applied"],
            id="a rollout that is about to begin",
        ),
        pytest.param(
            rolling(ready_pod("old"), ready_pod("new", template="t2"), replicas=2, updatedReplicas=1),
            c.UPDATING,
            ["2 of 1 engine replicas"],
            id="a rollout, with the new pod ready and the old one not yet told",
        ),
        pytest.param(
            rolling(
                ready_pod("old"),
                pod("new", template="t2", created=LATEST, containers=(crashed(noted(c.MODEL_INVALID)),)),
                replicas=2,
                updatedReplicas=1,
            ),
            c.MODEL_INVALID,
            ["1 of 1 engine replicas are ready.", "logs new"],
            id="a rollout to something that cannot run",
        ),
    ],
)
def test_it_is_ready_and_says_what_keeps_the_rest(verdict: Verdict, reason: str, words: list[str]) -> None:
    assert (verdict.status, verdict.reason) == ("True", reason), verdict.message
    for each in words:
        assert each in verdict.message


@pytest.mark.parametrize(
    ("resource", "reason", "words"),
    [
        pytest.param(
            'resource = "nvidia.com/gpu"',
            c.INSUFFICIENT_GPU,
            "No node has 1 free GPU of class pooled (example.com/pool=inference) for a replica: 0/2 nodes",
            id="of a GPU",
        ),
        pytest.param("", c.UNSCHEDULABLE, "No node takes a pod (example.com/pool=inference): 0/2 nodes", id="of no device"),
    ],
)
def test_a_class_s_node_labels_are_told_where_no_node_has_them(resource: str, reason: str, words: str) -> None:
    pooled = f'[pooled]\nsummary = "Ours."\n{resource}\nnode_labels = {{ "example.com/pool" = "inference" }}'
    accelerators.extend(pooled, origin="the cluster's")
    try:
        verdict = engine(unplaced_pod(NOT_OF_THE_CLASS), deployment=llm_deployment(accelerator="pooled"))
    finally:
        accelerators.extend("", origin="the test's end")
    assert verdict.reason == reason
    assert words in verdict.message


def test_a_pod_that_drains_is_not_sent_to() -> None:
    verdict = engine(ready_pod("a", draining=True))
    assert (verdict.status, verdict.reason) == ("False", c.CREATING)


@pytest.mark.parametrize(
    ("seen", "status", "reason"),
    [
        pytest.param(observed(ready_pod()), "True", c.AS_EXPECTED, id="what ran before goes on"),
        pytest.param(observed(children=()), "False", c.INVALID_SPEC, id="nothing was made yet"),
        pytest.param(observed(pod(containers=(running(),))), "False", c.LOADING_MODEL, id="what ran before still loads"),
        pytest.param(
            observed(children=(workload("engine", replicas=0),)),
            "False",
            c.SCALED_TO_ZERO,
            id="what ran before was scaled to zero",
        ),
    ],
)
def test_without_a_spec_that_can_be_run_it_speaks_of_what_runs(seen: Observed, status: str, reason: str) -> None:
    verdict = engine_ready(seen, None)
    assert (verdict.status, verdict.reason) == (status, reason)


def test_the_pull_of_an_image_is_told_in_the_same_words_while_the_kubelet_backs_off() -> None:
    first = waiting("ErrImagePull", "failed to resolve: not found")
    then = waiting(
        "ImagePullBackOff", 'Back-off pulling image "example.org/engine:1.0": ErrImagePull: failed to resolve: not found'
    )
    verdicts = [engine(pod(phase="Pending", containers=(status,))) for status in (first, then)]
    assert verdicts[0] == verdicts[1]


def test_a_crash_loop_is_told_in_the_same_words_while_it_goes_round() -> None:
    end = {"terminated": terminated(1, "boom")}
    turns = [
        crashed(terminated(1, "boom"), restarts=5),
        running(lastState=end, restartCount=6),
        ended(terminated(1, "boom"), lastState=end, restartCount=6),
        crashed(terminated(1, "boom"), restarts=7),
    ]
    assert len({engine(pod(containers=(status,))).message for status in turns}) == 1


def test_the_order_of_pods_does_not_matter() -> None:
    pods = [ready_pod("a"), pod("b", containers=(running(),)), unplaced_pod(NO_CLAIM, name="c"), pod("d", going=True)]
    three = llm_deployment(replicas=3)
    assert engine(*pods, deployment=three) == engine(*reversed(pods), deployment=three)


def test_every_command_names_the_namespace() -> None:
    verdict = engine(pod(containers=(running(),)))
    assert verdict.message.count("kubectl ") == verdict.message.count(f"kubectl -n {NAMESPACE} ")


DISAGGREGATED = llm_deployment(disaggregation={})
BOTH = (workload("engine"), workload("prefill"), workload("router"))


@pytest.mark.parametrize(
    ("verdict", "status", "reason", "words"),
    [
        pytest.param(
            engine(ready_pod(), ready_pod("p", role="prefill"), deployment=DISAGGREGATED, children=BOTH),
            "True", c.AS_EXPECTED, "1 of 1 engine replicas are ready. 1 of 1 prefill replicas are ready.",
            id="both parts are ready",
        ),
        pytest.param(
            engine(ready_pod(), pod("p", role="prefill", containers=(running(),)), deployment=DISAGGREGATED, children=BOTH),
            "True", c.LOADING_MODEL, "1 of 1 engine replicas are ready. No prefill replica is ready, so engines read",
            id="requests are answered while the prefill pod starts",
        ),
        pytest.param(
            engine(ready_pod(), deployment=DISAGGREGATED, children=BOTH[::2]),
            "True", c.CREATING, "The Deployment llama-prefill is about to be made.",
            id="or is not there yet",
        ),
        pytest.param(
            engine(pod(containers=(running(),)), ready_pod("p", role="prefill"), deployment=DISAGGREGATED, children=BOTH),
            "False", c.LOADING_MODEL, "The engine reads the model",
            id="prefill pods alone answer nobody",
        ),
        pytest.param(
            engine(deployment=llm_deployment(replicas=0, disaggregation={}), children=BOTH),
            "False", c.SCALED_TO_ZERO, "spec.replicas is 0",
            id="none are wanted where nobody answers",
        ),
    ],
)  # fmt: skip
def test_prefill_pods_are_part_of_the_engines(verdict: Verdict, status: str, reason: str, words: str) -> None:
    assert (verdict.status, verdict.reason) == (status, reason)
    assert words in verdict.message
