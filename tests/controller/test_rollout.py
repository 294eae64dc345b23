"""A change on its way to the engines, by whole reconciles: a canary's promotion, its rollback, and kills in between."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.controller.objects import NAME, NAMESPACE, NOW, pod, ready_pod, running, terminated, waiting
from tests.controller.world import KEY, Operator, World, Write
from tokenfleet import contract
from tokenfleet.api import conditions as c
from tokenfleet.controller.drift import digest
from tokenfleet.controller.observed import Json, Load, TrackLoad
from tokenfleet.controller.reconcile import NoSenses
from tokenfleet.controller.store import Key

ENGINE, CANARY, PREFILL = f"{NAME}-engine", f"{NAME}-canary", f"{NAME}-prefill"
PAUSE = 60
CONFIG: Json = {"weights": [10, 50], "pauseSeconds": PAUSE}
OLD, NEW, NEWER = 512, 480, 448
"""engine.maxModelLen, by which templates are told apart."""
PAST = "2026-03-01T11:00:00Z"


class Killed(BaseException):
    """Not an error that anybody would handle."""


@dataclass
class Senses(NoSenses):
    """What the routers count."""

    requests: int = 0
    failed: int = 0
    complete: bool = True
    told: bool = True

    def load(self, key: Key) -> Load | None:
        track = TrackLoad(requests=self.requests, failed=self.failed)
        return Load(complete=self.complete, tracks={contract.TRACK_CANARY: track}) if self.told else None


@dataclass
class Stage:
    """A world whose Deployments become complete when told to, and a clock."""

    world: World = field(default_factory=World)
    senses: Senses = field(default_factory=Senses)
    seconds: int = 0
    generations: dict[str, tuple[int, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.world.mutate = self._count
        self.operator = Operator(self.world, senses=self.senses)

    def _count(self, body: Json) -> Json:
        """As the API server counts generations."""
        if body["kind"] == "Deployment":
            name, spec = body["metadata"]["name"], digest(body["spec"])
            number, before = self.generations.get(name, (0, ""))
            self.generations[name] = (number + (spec != before), spec)
            body["metadata"]["generation"] = self.generations[name][0]
        return body

    def begin(self, **spec: Any) -> None:
        rollout = {"canary": CONFIG}
        self.world.add_deployment(
            **{"engine": {"maxModelLen": OLD}, "replicas": 2, "rollout": rollout, "router": {"replicas": 1}, **spec}
        )

    def change(self, *, generation: int = 2, annotations: Json | None = None, **spec: Any) -> None:
        def edit(body: Json) -> None:
            body["spec"].update(spec)
            body["metadata"]["generation"] = generation
            body["metadata"]["annotations"] = annotations or {}

        self.world.edit(contract.KIND, NAME, edit)

    def complete(self, *names: str) -> None:
        """The rollouts of these Deployments, or of all that there are."""
        for name in names or sorted(self.world.names("Deployment")):
            self.world.edit("Deployment", name, _complete)

    def leave(self) -> None:
        """Engines that drain are done, and go."""
        for name in sorted(self.world.names("Pod")):
            if contract.ANNOTATION_DRAINING in (self.world.one("Pod", name)["metadata"].get("annotations") or {}):
                self.operator.store.remove(self.world.remove("Pod", name))

    def restart(self) -> None:
        self.operator = Operator(self.world, senses=self.senses)

    async def turn(self, *, later: int = 0) -> list[Write]:
        self.seconds += later
        self.operator.now = f"{datetime.fromisoformat(NOW) + timedelta(seconds=self.seconds):%Y-%m-%dT%H:%M:%SZ}"
        return await self.operator.turn()

    async def settle(self) -> None:
        """Turns until nothing is written, with every rollout complete."""
        for _ in range(12):
            self.complete()
            self.leave()
            if not await self.turn():
                return
        raise AssertionError(f"not settled: {self.world.writes}")

    @property
    def rollout(self) -> Json | None:
        found: Json | None = self.world.one(contract.KIND, NAME)["status"].get("rollout")
        return found

    @property
    def place(self) -> tuple[str, int, int] | None:
        """Phase, step and weight."""
        return (self.rollout["phase"], self.rollout["step"], self.rollout["weight"]) if self.rollout else None

    def length(self, name: str) -> int:
        """The engine.maxModelLen that a Deployment's pods have."""
        args = self.world.one("Deployment", name)["spec"]["template"]["spec"]["containers"][0]["args"]
        return int(args[args.index("--max-model-len") + 1])

    def condition(self, kind: str = c.READY) -> Json:
        conditions = self.world.one(contract.KIND, NAME)["status"]["conditions"]
        return next(dict(each) for each in conditions if each["type"] == kind)

    def has_canary(self) -> bool:
        return CANARY in self.world.names("Deployment")


def _complete(body: Json) -> None:
    count = body["spec"]["replicas"]
    counts = dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas", "availableReplicas"), count)
    body["status"] = {"observedGeneration": body["metadata"].get("generation", 1), **counts}


@pytest.fixture
async def stage() -> Stage:
    """Two engines that serve, and a spec with a canary."""
    made = Stage()
    made.begin()
    for name in ("engine-a", "engine-b"):
        made.world.add(ready_pod(name))
    made.world.add(ready_pod("router-a", role="router"))
    await made.settle()
    return made


def changed(length: int = NEW) -> Json:
    return {"engine": {"maxModelLen": length}}


def of_canary(body: Json) -> Json:
    body["metadata"]["labels"][contract.LABEL_TRACK] = contract.TRACK_CANARY
    return body


async def at_step(stage: Stage, step: int) -> None:
    """A change whose canary has come this far, without a failure."""
    stage.change(**changed())
    await stage.turn()
    stage.complete(CANARY)
    await stage.turn()
    for _ in range(1, step):
        stage.senses.requests += 50
        await stage.turn(later=PAUSE)
    assert stage.rollout is not None and stage.rollout["step"] == step


async def test_without_a_change_nothing_is_tried(stage: Stage) -> None:
    assert (stage.rollout, stage.has_canary()) == (None, False)
    assert stage.condition()["reason"] == c.AS_EXPECTED
    stage.change(replicas=3, rollout={"canary": CONFIG, "maxSurge": 2}, router={"replicas": 1, "queue": {"maxDepth": 7}})
    stage.world.add(ready_pod("engine-c"))
    await stage.settle()
    assert (stage.rollout, stage.has_canary()) == (None, False), "what rolls no pod needs no trial"
    assert stage.world.one("Deployment", ENGINE)["spec"]["replicas"] == 3


async def test_a_change_gets_one_pod_first_and_the_others_keep_theirs(stage: Stage) -> None:
    stage.change(**changed())
    writes = await stage.turn()
    assert [write for write in writes if write[1] == "Deployment"] == [("apply", "Deployment", CANARY)]
    assert ("event", "Event", "CanaryStarted") in writes
    assert (stage.length(ENGINE), stage.length(CANARY)) == (OLD, NEW)
    assert stage.place == ("Progressing", 0, 0)
    assert stage.rollout is not None and stage.rollout["revision"].startswith("2-")
    assert (stage.condition()["status"], stage.condition()["reason"]) == ("True", c.CANARY_PROGRESSING)
    assert await stage.turn(later=3600) != [], "its message, once its pod's trouble is known"
    assert await stage.turn(later=3600) == [], "nothing decides but its pod"


async def test_the_canary_is_no_replica_and_not_of_the_others_selector(stage: Stage) -> None:
    await at_step(stage, 1)
    stage.world.add(of_canary(ready_pod("canary-a")))
    await stage.turn()
    status = stage.world.one(contract.KIND, NAME)["status"]
    assert (status["replicas"], status["readyReplicas"], status["ready"]) == (2, 2, "2/2")
    body = stage.world.one("Deployment", CANARY)
    track = {contract.LABEL_TRACK: contract.TRACK_CANARY}
    assert track.items() <= body["spec"]["selector"]["matchLabels"].items()
    assert track.items() <= body["spec"]["template"]["metadata"]["labels"].items()
    assert body["spec"]["replicas"] == 1
    assert contract.LABEL_TRACK not in stage.world.one("Deployment", ENGINE)["spec"]["template"]["metadata"]["labels"]


async def test_a_good_change_is_promoted(stage: Stage) -> None:
    await at_step(stage, 2)
    assert stage.place == ("Progressing", 2, 50)
    assert stage.length(ENGINE) == OLD
    assert stage.operator.last.again_after == pytest.approx(40), (
        "sooner than the pause is over: the queue spreads what it is told"
    )
    stage.senses.requests += 50
    writes = await stage.turn(later=PAUSE)
    assert ("event", "Event", "CanaryPromoting") in writes
    assert stage.place == ("Promoting", 2, 50)
    assert (stage.length(ENGINE), stage.has_canary()) == (NEW, True)
    assert stage.condition()["reason"] == c.UPDATING
    await stage.turn(later=600)
    assert stage.has_canary(), "it serves until the others are like it"
    stage.complete(ENGINE)
    writes = await stage.turn()
    assert {("delete", "Deployment", CANARY), ("event", "Event", "CanaryPromoted")} <= set(writes)
    assert (stage.rollout, stage.condition()["reason"]) == (None, c.AS_EXPECTED)
    assert await stage.turn() == []


async def test_a_bad_change_is_rolled_back_and_not_tried_again(stage: Stage) -> None:
    await at_step(stage, 1)
    stage.senses.requests, stage.senses.failed = 40, 9
    writes = await stage.turn(later=5)
    assert ("event", "Event", "CanaryRolledBack") in writes
    assert stage.place == ("RolledBack", 1, 0)
    assert (stage.has_canary(), stage.operator.last.again_after) == (True, 0.0), "routers learn first that its weight is 0"
    assert ("delete", "Deployment", CANARY) in await stage.turn()
    assert stage.length(ENGINE) == OLD
    ready = stage.condition()
    assert (ready["status"], ready["reason"]) == ("True", c.CANARY_ROLLED_BACK)
    assert "9 of 40 requests failed (22.5%)" in ready["message"]
    assert ready["message"].endswith(f"roll it out nevertheless: tokenfleet rollout promote {NAME} -n {NAMESPACE}")
    stage.restart()
    stage.change(generation=3, replicas=4)
    await stage.turn(later=9999)
    assert (stage.place, stage.has_canary(), stage.length(ENGINE)) == (("RolledBack", 1, 0), False, OLD)
    assert stage.world.one("Deployment", ENGINE)["spec"]["replicas"] == 4, "scaling is no other change"


@pytest.mark.parametrize(
    ("spec", "place", "length"),
    [
        pytest.param(changed(NEWER), ("Progressing", 0, 0), OLD, id="another change is tried"),
        pytest.param(changed(OLD), None, OLD, id="the old spec is just that"),
        pytest.param({"rollout": {}}, None, NEW, id="without a canary it rolls out"),
    ],
)
@pytest.mark.parametrize("rolled_back", [False, True])
async def test_what_a_new_spec_does(stage: Stage, rolled_back: bool, spec: Json, place: Any, length: int) -> None:
    await at_step(stage, 1)
    if rolled_back:
        stage.senses.requests, stage.senses.failed = 40, 9
        await stage.settle()
    stage.change(generation=3, **spec)
    await stage.turn()
    assert (stage.place, stage.length(ENGINE)) == (place, length)
    assert stage.has_canary() == (place is not None)
    if stage.has_canary():
        assert stage.length(CANARY) == NEWER
        await stage.turn()
        assert stage.place == place, "the old canary's pod is not the new one's"


@pytest.mark.parametrize("step", [0, 1, 2])
async def test_a_controller_that_begins_anew_goes_on_where_it_was(stage: Stage, step: int) -> None:
    stage.change(**changed())
    await stage.turn()
    if step:
        stage.complete(CANARY)
        await stage.turn()
    if step == 2:
        await stage.turn(later=PAUSE)
    before = stage.rollout
    stage.restart()
    await stage.turn(later=1)
    assert stage.rollout is not None and before is not None
    known = ("phase", "revision", "step", "weight", "since", "began")
    assert {name: stage.rollout[name] for name in known} == {name: before[name] for name in known}


def orders(stage: Stage, verb: str, revision: str | None = None) -> Json:
    assert stage.rollout is not None
    return {contract.ANNOTATION_ROLLOUT: f"{verb}:{revision or stage.rollout['revision']}"}


async def test_orders_by_hand(stage: Stage) -> None:
    await at_step(stage, 1)
    stage.change(annotations=orders(stage, "abort", "1-other"))
    await stage.turn()
    assert stage.place == ("Progressing", 1, 10), "an order is for the revision that it names"
    stage.change(annotations=orders(stage, "abort"))
    await stage.settle()
    assert (stage.place, stage.has_canary(), stage.length(ENGINE)) == (("RolledBack", 1, 0), False, OLD)
    stage.change(annotations=orders(stage, "promote"))
    await stage.turn()
    assert (stage.place, stage.has_canary(), stage.length(ENGINE)) == (("Promoting", 1, 0), False, NEW)
    await stage.settle()
    assert stage.rollout is None


@pytest.mark.parametrize("how", [{"told": False}, {"complete": False}])
async def test_without_word_from_the_routers_it_holds(stage: Stage, how: Json) -> None:
    await at_step(stage, 1)
    stage.senses = stage.operator.reconciler._senses = replace(stage.senses, **how)
    await stage.turn(later=10 * PAUSE)
    assert stage.place == ("Progressing", 1, 10)
    assert "holds at this step while not all routers tell" in stage.condition()["message"]
    assert KEY in stage.operator.reconciler.watching_load


async def test_why_the_canarys_pod_does_not_start_is_told(stage: Stage) -> None:
    stage.change(**changed())
    stage.world.add(of_canary(pod("canary-a", containers=(waiting("ImagePullBackOff", image="nowhere/engine"),))))
    await stage.turn()
    await stage.turn(later=9999)
    assert stage.place == ("Progressing", 0, 0)
    ready = stage.condition()
    assert (ready["status"], ready["reason"]) == ("True", c.IMAGE_PULL_FAILED)
    assert "Its pod is not ready: The node cannot pull nowhere/engine" in ready["message"]


@pytest.mark.parametrize(
    ("step", "at", "place"),
    [
        pytest.param(1, PAST, ("Progressing", 1, 10), id="before it served"),
        pytest.param(1, "2026-03-01T12:00:07Z", ("RolledBack", 1, 0), id="at its first step"),
        pytest.param(2, "2026-03-01T12:00:59Z", ("RolledBack", 2, 0), id="at its first step, as is known at the second"),
    ],
)
async def test_an_engine_that_ended_while_it_served_is_rolled_back(stage: Stage, step: int, at: str, place: Any) -> None:
    await at_step(stage, step)
    engine = running(ready=True, since=at, lastState={"terminated": terminated(1, "No more.", at=at)})
    stage.world.add(of_canary(pod("canary-a", ready=True, containers=(engine,))))
    await stage.turn(later=10)
    assert stage.place == place


async def test_a_restart_needs_no_trial(stage: Stage) -> None:
    stage.change(annotations={contract.ANNOTATION_RESTARTED: "2026-03-01T12:00:00Z"})
    await stage.settle()
    assert (stage.rollout, stage.has_canary()) == (None, False)
    annotations = stage.world.one("Deployment", ENGINE)["spec"]["template"]["metadata"].get("annotations") or {}
    assert annotations.get(contract.ANNOTATION_RESTARTED) == "2026-03-01T12:00:00Z"
    await at_step(stage, 1)
    stage.change(annotations={contract.ANNOTATION_RESTARTED: "2026-03-01T12:30:00Z"}, generation=2, **changed())
    await stage.turn()
    assert stage.place is not None and stage.place[0] == "Progressing"
    assert stage.length(ENGINE) == OLD, "the engines are restarted as they were"
    template = stage.world.one("Deployment", ENGINE)["spec"]["template"]
    assert template["metadata"]["annotations"][contract.ANNOTATION_RESTARTED] == "2026-03-01T12:30:00Z"


async def test_a_name_that_clients_use_cannot_be_tried_by_some(stage: Stage) -> None:
    stage.change(model={"source": "pvc://weights/llama", "servedName": "other"})
    await stage.turn()
    assert (stage.place, stage.has_canary()) == (("Promoting", 0, 0), False)
    assert "The model has another name" in stage.condition()["message"]
    await stage.settle()
    assert stage.rollout is None


async def test_with_nobody_running_a_change_is_just_made(stage: Stage) -> None:
    stage.change(suspend=True)
    await stage.settle()
    stage.change(generation=3, **changed())
    await stage.settle()
    assert (stage.rollout, stage.has_canary(), stage.length(ENGINE)) == (None, False, NEW)


async def test_a_change_that_was_rolled_back_is_not_made_while_nobody_runs(stage: Stage) -> None:
    await at_step(stage, 1)
    stage.senses.requests, stage.senses.failed = 40, 9
    await stage.settle()
    stage.change(suspend=True)
    await stage.settle()
    assert (stage.place, stage.length(ENGINE)) == (("RolledBack", 1, 0), OLD)


async def test_a_canary_that_is_switched_on_together_with_a_change_tries_it() -> None:
    stage = Stage()
    stage.begin(rollout={})
    await stage.settle()
    assert contract.ANNOTATION_TEMPLATE not in stage.world.one("Deployment", ENGINE)["metadata"]["annotations"]
    stage.world.edit("Deployment", ENGINE, lambda body: body["spec"]["template"]["spec"].update(dnsPolicy="ClusterFirst"))
    before = copy.deepcopy(stage.world.one("Deployment", ENGINE)["spec"]["template"])
    stage.change(rollout={"canary": CONFIG}, **changed())
    await stage.turn()
    assert (stage.place, stage.length(CANARY)) == (("Progressing", 0, 0), NEW)
    assert stage.world.one("Deployment", ENGINE)["spec"]["template"] == before, "no pod of it is touched"
    assert "dnsPolicy" in stage.world.one("Deployment", ENGINE)["metadata"]["annotations"][contract.ANNOTATION_TEMPLATE]


async def test_pods_that_read_prompts_wait_for_the_promotion() -> None:
    stage = Stage()
    stage.begin(accelerator="nvidia", disaggregation={})
    await stage.settle()
    stage.change(**changed())
    await stage.turn()
    assert (stage.length(ENGINE), stage.length(PREFILL), stage.length(CANARY)) == (OLD, OLD, NEW)
    stage.change(annotations=orders(stage, "promote"))
    await stage.turn()
    assert (stage.length(ENGINE), stage.length(PREFILL)) == (NEW, NEW)
    stage.complete(ENGINE)
    await stage.turn()
    assert stage.place is not None and stage.place[0] == "Promoting", "both are waited for"
    await stage.settle()
    assert stage.rollout is None


async def test_other_pods_for_prompts_cannot_be_tried_by_some() -> None:
    stage = Stage()
    stage.begin(accelerator="nvidia")
    await stage.settle()
    stage.change(disaggregation={})
    await stage.turn()
    assert (stage.place, stage.has_canary()) == (("Promoting", 0, 0), False)
    assert PREFILL in stage.world.names("Deployment")


async def test_a_spec_that_cannot_be_run_leaves_the_canary_where_it_is(stage: Stage) -> None:
    await at_step(stage, 1)
    before = stage.rollout
    stage.change(generation=3, accelerator="abacus")
    await stage.turn(later=PAUSE)
    assert stage.rollout == before
    assert stage.has_canary()


def good(stage: Stage) -> None:
    stage.senses.requests += 50


def bad(stage: Stage) -> None:
    stage.senses.requests += 50
    stage.senses.failed += 25


async def walk(stage: Stage, happens: Callable[[Stage], None], *, kill_at: int | None = None, every_turn: bool = False) -> int:
    """To the end of a trial: the writes that it took. kill_at: the write before which the controller is killed."""
    count = 0

    def note(write: Write) -> None:
        nonlocal count
        if count == kill_at:
            count += 1
            raise Killed
        count += 1

    stage.world.before_write = note
    stage.change(**changed())
    for _ in range(14):
        try:
            await stage.turn(later=PAUSE // 2)
        except Killed:
            stage.restart()
        if every_turn:
            stage.restart()
        assert_sound(stage)
        stage.complete()
        happens(stage)
    stage.world.before_write = lambda _: None
    return count


def assert_sound(stage: Stage) -> None:
    """What holds at every moment: no engine gets a change that has not come through all its steps."""
    if stage.length(ENGINE) == NEW and stage.rollout is not None:
        assert stage.rollout["phase"] == "Promoting" or stage.place == ("Progressing", 2, 50), "killed before it was written"


async def fresh() -> Stage:
    made = Stage()
    made.begin()
    await made.settle()
    return made


@pytest.mark.parametrize(
    ("happens", "phase", "length"),
    [pytest.param(good, None, NEW, id="promoted"), pytest.param(bad, "RolledBack", OLD, id="rolled back")],
)
async def test_a_kill_before_any_write_changes_nothing_of_how_it_ends(
    happens: Callable[[Stage], None], phase: str | None, length: int
) -> None:
    writes = await walk(await fresh(), happens)
    assert writes > 6
    for kill_at in range(writes):
        stage = await fresh()
        await walk(stage, happens, kill_at=kill_at)
        assert (stage.rollout or {}).get("phase") == phase, kill_at
        assert (stage.length(ENGINE), stage.has_canary()) == (length, False), kill_at
    stage = await fresh()
    await walk(stage, happens, every_turn=True)
    assert ((stage.rollout or {}).get("phase"), stage.length(ENGINE), stage.has_canary()) == (phase, length, False)
