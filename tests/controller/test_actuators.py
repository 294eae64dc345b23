"""Who decides how many replicas run, seen through whole reconciles: exactly one, and one goes before the next comes."""

from dataclasses import replace
from typing import Any

import pytest

from tests.controller.objects import NAME, NAMESPACE, NOW, SETTINGS, UID, llm_deployment, observed, spec_of
from tests.controller.world import Operator, World
from tokenfleet import contract
from tokenfleet.api import conditions as c
from tokenfleet.controller import kinds
from tokenfleet.controller.actuators import scaled_objects
from tokenfleet.controller.actuators.autoscaler_check import autoscaler_ready
from tokenfleet.controller.actuators.handover import decides, external, status, wanted
from tokenfleet.controller.actuators.leader_label import LeaderLabel
from tokenfleet.controller.actuators.scaled_objects import ScaledObjects
from tokenfleet.controller.cluster import Refused, Stale, Unavailable
from tokenfleet.controller.observed import Json, Observed

KEDA_SETTINGS = replace(SETTINGS, keda_address="keda.tokenfleet-system.svc:9091")
SCALED_OBJECT, AUTOSCALER = ("ScaledObject", NAME), ("HorizontalPodAutoscaler", NAME)
KEY = (contract.KIND, NAMESPACE, NAME)


def scaling(actuator: str | None) -> Json | None:
    return None if actuator is None else {"maxReplicas": 4, "actuator": actuator}


def change(world: World, actuator: str | None) -> None:
    def edit(body: Json) -> None:
        body["status"] = {**(body.get("status") or {}), "scaling": remembered(body)}
        body["spec"]["autoscaling"] = scaling(actuator)

    world.edit(contract.KIND, NAME, edit)


def remembered(body: Json) -> Json | None:
    """status.scaling, as a reconcile leaves it."""
    before = body["spec"].get("autoscaling")
    return before and {"actuator": before["actuator"], "desired": 1, "specReplicas": 1}


def deciding(world: World) -> set[str]:
    return {kind for kind, _, _ in world.objects if kind in ("ScaledObject", "HorizontalPodAutoscaler")}


@pytest.fixture
def world() -> World:
    world = World()
    world.unserved.clear()
    return world


@pytest.mark.parametrize(
    ("first", "then", "there"),
    [
        pytest.param("HPA", "KEDA", {"ScaledObject"}, id="from an autoscaler to KEDA"),
        pytest.param("KEDA", "HPA", {"HorizontalPodAutoscaler"}, id="from KEDA to an autoscaler"),
        pytest.param("HPA", "Builtin", set(), id="from an autoscaler to the controller"),
        pytest.param("KEDA", "Builtin", set(), id="from KEDA to the controller"),
        pytest.param("KEDA", None, set(), id="from KEDA to nobody"),
    ],
)
@pytest.mark.parametrize("restarted", [False, True], ids=["", "by another process"])
async def test_one_goes_before_the_next_comes(
    world: World, first: str, then: str | None, there: set[str], restarted: bool
) -> None:
    world.add_deployment(autoscaling=scaling(first))
    operator = Operator(world, settings=KEDA_SETTINGS)
    await operator.turn()
    assert len(deciding(world)) == 1
    change(world, then)
    seen: list[set[str]] = []
    world.before_write = lambda _: seen.append(deciding(world))
    operator = Operator(world, settings=KEDA_SETTINGS) if restarted else operator
    await operator.turn()
    assert deciding(world) == there
    assert max(len(each) for each in seen) == 1, "two decided at once"


async def test_a_scaled_object_is_written_once_and_looked_at_now_and_then(world: World) -> None:
    world.add_deployment(autoscaling=scaling("KEDA"))
    operator = Operator(world, settings=KEDA_SETTINGS)
    assert ("apply", *SCALED_OBJECT) in await operator.turn()
    assert operator.last.again_after is not None
    assert operator.last.again_after == pytest.approx(scaled_objects.AGAIN_SECONDS, abs=1)
    world.reads.clear()
    assert ("apply", *SCALED_OBJECT) not in await operator.turn()
    assert world.reads == []
    world.edit(contract.KIND, NAME, lambda body: body["spec"]["autoscaling"].update(maxReplicas=6))
    assert ("apply", *SCALED_OBJECT) in await operator.turn()
    assert world.one(*SCALED_OBJECT)["spec"]["maxReplicaCount"] == 6


async def test_suspending_takes_the_scaled_object_away_and_resuming_brings_it_back(world: World) -> None:
    world.add_deployment(autoscaling=scaling("KEDA"))
    operator = Operator(world, settings=KEDA_SETTINGS)
    for suspend in (False, True, False):
        world.add({**world.one(contract.KIND, NAME), "spec": {**world.one(contract.KIND, NAME)["spec"], "suspend": suspend}})
        await operator.turn()
        assert deciding(world) == (set() if suspend else {"ScaledObject"})


async def test_where_keda_never_decided_nobody_asks_for_scaled_objects(world: World) -> None:
    world.add_deployment(autoscaling=scaling("HPA"))
    operator = Operator(world, settings=KEDA_SETTINGS)
    await operator.turn()
    await operator.turn()
    assert not [read for read in world.reads if read[0] == "ScaledObject"]


def theirs(**metadata: Any) -> Json:
    return {"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "metadata": {"name": NAME, **metadata}}


OURS = [{"kind": contract.KIND, "name": NAME, "uid": UID, "controller": True}]


async def apply(world: World, *, scaler: str | None = "keda:9091", now: float = 0.0) -> tuple[Any, float | None]:
    deployment = llm_deployment(autoscaling=scaling("KEDA"))
    objects = ScaledObjects(world, scaler=scaler, clock=lambda: now)
    return await objects.apply_wanted(KEY, observed(deployment=deployment), spec_of(deployment))


@pytest.mark.parametrize(
    ("there", "unserved", "scaler", "reason", "words"),
    [
        pytest.param(None, set(), None, c.KEDA_NOT_ENABLED, "autoscaling.keda.enabled", id="the scaler is off"),
        pytest.param(None, {"ScaledObject"}, "keda:9091", c.KEDA_NOT_INSTALLED, "Install KEDA", id="no KEDA in the cluster"),
        pytest.param(theirs(), set(), "keda:9091", c.NAME_CONFLICT, "someone else", id="somebody's own ScaledObject"),
        pytest.param(
            theirs(ownerReferences=OURS, deletionTimestamp="2026-03-01T12:00:00Z"),
            set(),
            "keda:9091",
            c.CREATING,
            "still being deleted",
            id="KEDA still lets go of the one before",
        ),
        pytest.param(
            {
                **theirs(ownerReferences=OURS),
                "status": {"conditions": [{"type": "Ready", "status": "False", "message": "no scaler"}]},
            },
            set(),
            "keda:9091",
            c.AUTOSCALER_INACTIVE,
            "no scaler",
            id="KEDA cannot use it",
        ),
    ],
)
async def test_what_keeps_keda_from_deciding_is_told(
    world: World, there: Json | None, unserved: set[str], scaler: str | None, reason: str, words: str
) -> None:
    world.unserved = unserved
    if there is not None:
        world.add(there)
    verdict, again = await apply(world, scaler=scaler)
    assert (verdict.status, verdict.reason) == ("False", reason)
    assert words in verdict.message
    assert again == (None if scaler is None else scaled_objects.SOON_SECONDS)


async def test_a_refusal_of_the_api_server_is_quoted(world: World) -> None:
    def refuse(_: object) -> None:
        raise Refused("the workload is already managed by the hpa 'mine'")

    world.before_write = refuse
    verdict, _ = await apply(world)
    assert (verdict.status, verdict.reason) == ("False", c.REJECTED_BY_API_SERVER)
    assert "already managed by the hpa 'mine'" in verdict.message


async def test_one_that_could_not_be_changed_goes_all_the_same(world: World) -> None:
    world.add_deployment(autoscaling=scaling("KEDA"))
    operator = Operator(world, settings=KEDA_SETTINGS)
    await operator.turn()

    def refuse(write: Any) -> None:
        if write == ("apply", *SCALED_OBJECT):
            raise Refused("no")

    world.before_write = refuse
    world.edit(contract.KIND, NAME, lambda body: body["spec"]["autoscaling"].update(maxReplicas=9))
    await operator.turn()
    assert world.one(*SCALED_OBJECT)["spec"]["maxReplicaCount"] == 4
    change(world, "Builtin")
    await operator.turn()
    assert deciding(world) == set()


async def test_kedas_own_autoscaler_is_left_alone_and_tells_that_keda_decides(world: World) -> None:
    """KEDA gives it the labels of the ScaledObject, so it is seen as a child."""
    world.add_deployment(
        autoscaling=scaling("KEDA"), status={"scaling": {"actuator": "Builtin", "desired": 3, "specReplicas": 1}}
    )
    operator = Operator(world, settings=KEDA_SETTINGS)
    await operator.turn()
    assert world.one(contract.KIND, NAME)["status"]["scaling"]["actuator"] == "Builtin"
    made = world.one(*SCALED_OBJECT)["metadata"]
    owner = {"kind": "ScaledObject", "name": NAME, "uid": made["uid"], "controller": True}
    metadata = {"name": f"keda-hpa-{NAME}", "labels": made["labels"], "ownerReferences": [owner]}
    world.add({"kind": "HorizontalPodAutoscaler", "metadata": metadata, "status": {"conditions": [ACTIVE]}})
    await operator.turn()
    assert deciding(world) == {"ScaledObject", "HorizontalPodAutoscaler"}
    found = world.one(contract.KIND, NAME)["status"]["scaling"]
    assert (found["actuator"], found["desired"]) == ("KEDA", 1)


async def test_somebody_elses_scaled_object_is_not_deleted(world: World) -> None:
    world.add(theirs())
    deployment = llm_deployment(autoscaling=scaling("Builtin"), status={"scaling": {"actuator": "KEDA"}})
    await ScaledObjects(world, scaler="keda:9091").remove_unwanted(KEY, observed(deployment=deployment), spec_of(deployment))
    assert deciding(world) == {"ScaledObject"}


# --- the autoscaler's own words ---------------------------------------------------------------------------------------


def with_autoscaler(*conditions: Json, status: Json | None = None, replicas: int = 1) -> Observed:
    deployment = llm_deployment(autoscaling=scaling("HPA"), status=status, replicas=replicas)
    live = {"kind": AUTOSCALER[0], "metadata": {"name": NAME}, "status": {"conditions": list(conditions)}}
    seen = observed(deployment=deployment)
    return replace(seen, children={**seen.children, AUTOSCALER: live})


ACTIVE: Json = {"type": "ScalingActive", "status": "True", "reason": "ValidMetricFound"}
FAILED: Json = {"type": "ScalingActive", "status": "False", "reason": "FailedGetExternalMetric", "message": "no metrics."}


@pytest.mark.parametrize(
    ("conditions", "status", "reason", "words"),
    [
        pytest.param([ACTIVE], "True", c.AS_EXPECTED, "llama decides.", id="it decides"),
        pytest.param([], "True", c.AS_EXPECTED, "llama decides.", id="it has not looked yet"),
        pytest.param(
            [FAILED],
            "False",
            c.AUTOSCALER_INACTIVE,
            "no metrics. Set the chart's autoscaling.externalMetrics.enabled",
            id="nobody serves the metric",
        ),
        pytest.param(
            [{"type": "ScalingActive", "status": "False", "reason": "ScalingDisabled", "message": "count is zero"}],
            "False",
            c.AUTOSCALER_INACTIVE,
            "scale to 1 yourself",
            id="scaled to zero by hand",
        ),
        pytest.param(
            [{"type": "ScalingActive", "status": "False", "reason": "Odd"}],
            "False",
            c.AUTOSCALER_INACTIVE,
            "cannot scale: Odd. Look at kubectl -n models describe hpa llama.",
            id="another cause, without words",
        ),
    ],
)
def test_an_autoscaler_that_cannot_scale_says_so(conditions: list[Json], status: str, reason: str, words: str) -> None:
    verdict = autoscaler_ready(with_autoscaler(*conditions))
    assert (verdict.status, verdict.reason) == (status, reason)
    assert words in verdict.message


def test_an_autoscaler_that_is_not_made_yet_is_no_failure() -> None:
    verdict = autoscaler_ready(observed(deployment=llm_deployment(autoscaling=scaling("HPA"))))
    assert (verdict.status, verdict.reason) == ("Unknown", c.CREATING)


BUILTIN: Json = {"scaling": {"actuator": "Builtin", "desired": 4, "specReplicas": 1}}


@pytest.mark.parametrize(
    ("status", "conditions", "replicas", "count"),
    [
        pytest.param(BUILTIN, [], 1, 4, id="what the controller wanted goes on while the autoscaler has not looked"),
        pytest.param(BUILTIN, [FAILED], 1, 4, id="and while it cannot"),
        pytest.param(BUILTIN, [], 3, 3, id="until somebody sets spec.replicas"),
        pytest.param(BUILTIN, [ACTIVE], 1, 1, id="or it leaves spec.replicas on purpose"),
        pytest.param({"scaling": {"actuator": "HPA", "desired": 4, "specReplicas": 1}}, [FAILED], 2, 2, id="it decided before"),
        pytest.param(None, [], 2, 2, id="a new one"),
    ],
)
def test_the_count_while_another_takes_over(status: Json | None, conditions: list[Json], replicas: int, count: int) -> None:
    seen = with_autoscaler(*conditions, status=status, replicas=replicas)
    assert wanted(seen, spec_of(seen.owner), decides=decides(seen)) == count


@pytest.mark.parametrize(
    ("before", "conditions", "replicas", "told"),
    [
        pytest.param(None, [], 2, {"desired": 2, "actuator": "HPA"}, id="a new one"),
        pytest.param(BUILTIN, [], 1, {"desired": 4, "actuator": "Builtin"}, id="the controller's count goes on, and its name"),
        pytest.param(BUILTIN, [ACTIVE], 1, {"desired": 1, "actuator": "HPA", "from": 4}, id="until the autoscaler decides"),
        pytest.param(BUILTIN, [], 3, {"desired": 3, "actuator": "HPA", "from": 4}, id="or sets a count"),
    ],
)
def test_what_the_status_keeps_of_it(before: Json | None, conditions: list[Json], replicas: int, told: Json) -> None:
    seen = with_autoscaler(*conditions, status=before, replicas=replicas)
    found = status(seen, spec_of(seen.owner), now=NOW)
    assert found is not None
    history = found.pop("history", [])
    assert found == {"desired": told["desired"], "actuator": told["actuator"], "specReplicas": replicas}
    assert [(each["time"], each["before"], each["after"], each["reason"]) for each in history] == (
        [(NOW, told["from"], told["desired"], "ReplicasSet")] if "from" in told else []
    )


def test_the_history_has_five_changes_the_newest_first() -> None:
    scaling: Json = {"actuator": "HPA", "desired": 1, "specReplicas": 1}
    for replicas in (2, 3, 4, 3, 2, 1, 1):
        seen = with_autoscaler(ACTIVE, status={"scaling": scaling}, replicas=replicas)
        scaling = status(seen, spec_of(seen.owner), now=NOW) or {}
    assert [(each["before"], each["after"]) for each in scaling["history"]] == [(2, 1), (3, 2), (4, 3), (3, 4), (2, 3)]


def test_where_the_controller_decides_its_status_is_not_ours_to_write() -> None:
    deployment = llm_deployment(autoscaling=scaling("Builtin"))
    assert status(observed(deployment=deployment), spec_of(deployment), now=NOW) is None


@pytest.mark.parametrize(("actuator", "who"), [("Builtin", None), (None, None), ("HPA", "HPA"), ("KEDA", "KEDA")])
def test_who_decides_instead_of_the_controller(actuator: str | None, who: str | None) -> None:
    assert external(spec_of(llm_deployment(autoscaling=scaling(actuator)))) == who


# --- the leader's label -----------------------------------------------------------------------------------------------


class Pods:
    def __init__(self, *answers: Exception) -> None:
        self.answers, self.labels = list(answers), []  # type: ignore[var-annotated]

    async def label_pod(self, namespace: str, name: str, labels: Any) -> None:
        assert (namespace, name) == ("tokenfleet-system", "controller-0")
        if self.answers:
            raise self.answers.pop(0)
        self.labels.append(dict(labels))


@pytest.mark.parametrize(
    ("answers", "labels", "log"),
    [
        pytest.param([], [{"tokenfleet.dev/leader": None}, {"tokenfleet.dev/leader": "true"}], "", id="cleared, then set"),
        pytest.param(
            [Unavailable("away"), Unavailable("away")],
            [{"tokenfleet.dev/leader": None}, {"tokenfleet.dev/leader": "true"}],
            "",
            id="as often as it takes",
        ),
        pytest.param([Stale("gone"), Stale("gone")], [], "no Service finds this controller", id="outside of a pod"),
        pytest.param([Refused("no"), Refused("no")], [], "could not be labelled: no", id="without the right to"),
    ],
)
async def test_the_pod_that_leads_is_labelled(
    answers: list[Exception], labels: list[Json], log: str, caplog: pytest.LogCaptureFixture
) -> None:
    pods = Pods(*answers)
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    caplog.set_level("INFO")
    label = LeaderLabel(pods, namespace="tokenfleet-system", pod="controller-0", sleep=sleep)
    await label.clear()
    await label.set()
    assert pods.labels == labels
    assert log in caplog.text
    assert len(slept) == sum(isinstance(answer, Unavailable) for answer in answers)


def test_the_kinds_that_are_watched_are_in_every_cluster() -> None:
    assert "HorizontalPodAutoscaler" in {kind.name for kind in kinds.STORED}
    assert "ScaledObject" not in {kind.name for kind in kinds.STORED}
