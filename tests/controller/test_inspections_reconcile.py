"""A reconcile with an inspection in it: from no word of the model to a quiet end, whatever comes in between."""

import asyncio
import json
from dataclasses import replace

import pytest

from tests.controller.inspected import DOCUMENT, INSPECTING, SAID, SECONDS, done_pod, inspection_pod, kept
from tests.controller.objects import NAME, NOW, ended, llm_deployment, noted, observed, ready_pod
from tests.controller.world import KEY, Operator, World
from tokenfleet import contract
from tokenfleet.api import conditions as c
from tokenfleet.api.v1alpha1 import LLMDeploymentStatus
from tokenfleet.controller import moments
from tokenfleet.controller.cluster import ClusterError, Refused, Stale, Unavailable
from tokenfleet.controller.inspections import subject
from tokenfleet.controller.inspections.progress import AGAIN_SECONDS as REPLACED_SECONDS
from tokenfleet.controller.inspections.reading import AGAIN_SECONDS, READ_SECONDS, UNREADABLE_SECONDS, Look, Readings
from tokenfleet.controller.observed import Json

ENGINE = ("apply", "Deployment", f"{NAME}-engine")
STATUS = ("status", contract.KIND, NAME)
H100 = {"accelerator": "nvidia-h100-80gb", "engine": {"maxModelLen": 8192}}


def later(seconds: float) -> str:
    return moments.rfc3339(moments.seconds(NOW) + seconds)


class Story(Operator):
    """An operator that inspects; the test is the Job controller, the kubelet and the garbage collector."""

    def __init__(self, world: World) -> None:
        super().__init__(world, settings=INSPECTING)

    def job(self) -> Json | None:
        (name,) = self.world.names("Job") or (None,)
        return self.world.one("Job", name) if name else None

    def begun(self) -> None:
        job = self.job()
        assert job is not None
        self.world.edit("Job", job["metadata"]["name"], lambda body: body["metadata"].update(creationTimestamp=self.now))

    def ends(self, how: str, pod: Json | None) -> None:
        """The Job ends, with or without a pod that tells of it."""
        job = self.job()
        assert job is not None
        condition = {"type": how, "status": "True", "lastTransitionTime": self.now}
        self.world.edit("Job", job["metadata"]["name"], lambda body: body.update(status={"conditions": [condition]}))
        if pod is not None:
            self.world.add(pod)

    def says(self, text: str | ClusterError = SAID) -> None:
        pod = done_pod(self.world.one(contract.KIND, NAME))
        self.world.logs[pod["metadata"]["name"]] = text
        self.ends("Complete", pod)

    def status(self) -> Json:
        found: Json = self.world.one(contract.KIND, NAME)["status"]
        LLMDeploymentStatus.model_validate(found)
        return found

    def told(self, kind: str) -> Json:
        return next((each for each in self.status()["conditions"] if each["type"] == kind), {})

    def collect(self) -> None:
        """What a deleted Job owned goes with it."""
        for name in self.world.names("Pod"):
            if self.world.one("Pod", name)["metadata"]["labels"][contract.LABEL_ROLE] == contract.ROLE_INSPECTION:
                self.store.remove(self.world.remove("Pod", name))


@pytest.fixture
async def story() -> Story:
    """The first turn of a new LLMDeployment is over: its inspection's Job is there, and its engines wait."""
    world = World()
    world.add_deployment(**H100)
    story = Story(world)
    writes = await story.turn()
    assert any(write[:2] == ("apply", "Job") for write in writes)
    assert ENGINE not in writes
    story.begun()
    return story


async def test_engines_are_made_once_the_model_is_known_to_fit_and_the_job_goes(story: Story) -> None:
    assert story.told(c.MODEL_FITS)["reason"] == c.INSPECTING_MODEL
    assert story.told(c.ENGINE_READY)["reason"] == c.INSPECTING_MODEL
    assert story.told(c.READY)["reason"] == c.INSPECTING_MODEL
    assert await story.turn() == []
    assert story.last.again_after is not None and story.last.again_after <= SECONDS
    story.says()
    assert [write[:2] for write in await story.turn()] == [STATUS[:2]], "the status comes before engines, and the Job's end"
    status = story.status()
    assert status["model"]["architecture"] == "LlamaForCausalLM"
    assert (status["model"]["parameters"], status["model"]["weights"]) == ("8.03B", "15Gi")
    assert status["memory"]["weights"] == "15Gi"
    assert story.told(c.MODEL_FITS)["status"] == "True"
    assert story.last.again_after == 0.0
    assert story.told(c.ENGINE_READY)["reason"] == c.INSPECTING_MODEL
    job = story.job()
    assert job is not None
    assert await story.turn() == [ENGINE, ("delete", "Job", job["metadata"]["name"]), STATUS]
    assert story.told(c.ENGINE_READY)["reason"] == c.CREATING
    story.collect()
    for _ in range(3):
        assert await story.turn() == []
    assert story.last.again_after is None
    assert len(story.world.log_reads) == 1


async def test_no_engine_is_made_of_what_does_not_fit_and_the_fix_makes_it(story: Story) -> None:
    story.world.edit(contract.KIND, NAME, lambda body: body["spec"].update(accelerator="nvidia-t4-16gb"))
    await story.turn()
    story.begun()
    story.says()
    assert ENGINE not in await story.turn()
    for kind in (c.MODEL_FITS, c.READY, c.ENGINE_READY):
        assert (story.told(kind)["status"], story.told(kind)["reason"]) == ("False", c.DOES_NOT_FIT)
    assert ("event", "Event", c.DOES_NOT_FIT) not in await story.turn(), "it was told once"
    story.collect()
    assert await story.turn() == []
    story.world.edit(contract.KIND, NAME, lambda body: body["spec"].update(accelerator="nvidia-h100-80gb"))
    writes = await story.turn()
    assert ENGINE in writes
    assert not any(write[1] == "Job" for write in writes), "what is known of the model is known"
    assert story.told(c.MODEL_FITS)["status"] == "True"


async def test_memory_follows_the_spec_at_once(story: Story) -> None:
    story.says()
    await story.turn()
    before = story.status()["memory"]
    story.world.edit(contract.KIND, NAME, lambda body: body["spec"]["engine"].update(maxModelLen=4096))
    await story.turn()
    after = story.status()["memory"]
    assert after["maxConcurrency"] > before["maxConcurrency"]
    assert "of 4,096." in story.told(c.MODEL_FITS)["message"]


async def test_what_ran_before_goes_on_and_is_scaled(story: Story) -> None:
    story.says()
    await story.turn()
    await story.turn()
    story.collect()
    template = story.world.one("Deployment", f"{NAME}-engine")["spec"]["template"]
    story.world.add(ready_pod())
    story.world.edit(contract.KIND, NAME, lambda body: body["spec"].update(accelerator="nvidia-t4-16gb", replicas=2))
    assert ENGINE in await story.turn()
    engines = story.world.one("Deployment", f"{NAME}-engine")["spec"]
    assert (engines["replicas"], engines["template"]) == (2, template)
    assert story.told(c.ENGINE_READY)["status"] == "True"
    assert story.told(c.ENGINE_READY)["reason"] == c.DOES_NOT_FIT
    assert (story.told(c.READY)["status"], story.told(c.READY)["reason"]) == ("False", c.DOES_NOT_FIT)
    assert await story.turn() == []


async def test_another_model_is_inspected_before_engines_change(story: Story) -> None:
    story.says()
    await story.turn()
    await story.turn()
    story.collect()
    before = story.status()["model"]
    for role in ("engine", "router"):
        story.world.add(ready_pod(role, role=role))
    story.world.edit(contract.KIND, NAME, lambda body: body["spec"].update(model={"source": "pvc://weights/other"}))
    template = story.world.one("Deployment", f"{NAME}-engine")["spec"]["template"]
    writes = await story.turn()
    assert any(write[:2] == ("apply", "Job") for write in writes)
    assert story.world.one("Deployment", f"{NAME}-engine")["spec"]["template"] == template
    assert story.told(c.READY)["reason"] == c.INSPECTING_MODEL, "or a script would take the old engines for the new ones"
    assert story.status()["model"] == before
    assert "memory" not in story.status()
    story.begun()
    story.says()
    await story.turn()
    assert story.told(c.READY)["reason"] == c.INSPECTING_MODEL
    await story.turn()
    assert story.world.one("Deployment", f"{NAME}-engine")["spec"]["template"] != template
    assert story.status()["model"]["of"] != before["of"]


async def test_a_controller_that_starts_in_the_middle_goes_on(story: Story) -> None:
    story.says()
    again = Story(story.world)
    assert [write[:2] for write in await again.turn()] == [STATUS[:2]]
    third = Story(story.world)
    assert [write[:2] for write in await third.turn()] == [ENGINE[:2], ("delete", "Job"), STATUS[:2]]
    third.collect()
    assert await third.turn() == []


async def test_a_job_deleted_by_hand_is_made_again(story: Story) -> None:
    job = story.job()
    assert job is not None
    story.store.remove(story.world.remove("Job", job["metadata"]["name"]))
    assert ("apply", "Job", job["metadata"]["name"]) in await story.turn()


async def test_a_failed_inspection_lets_engines_be_made_and_is_tried_again(story: Story) -> None:
    end = noted(c.MODEL_NOT_FOUND, "There is no model at /models/llama.")
    deployment = story.world.one(contract.KIND, NAME)
    failed = inspection_pod(deployment, phase="Failed", containers=(ended(end, name=contract.CONTAINER_INSPECTION),))
    story.ends("Failed", failed)
    assert ENGINE in await story.turn()
    told = story.told(c.MODEL_FITS)
    assert (told["status"], told["reason"]) == ("Unknown", c.MODEL_NOT_INSPECTED)
    assert "There is no model at /models/llama." in told["message"]
    assert story.told(c.READY)["reason"] == c.CREATING, "the engine says what is wrong with it"
    assert "lastFailure" not in story.status(), "it is no engine"
    assert await story.turn() == []
    assert story.last.again_after is not None and story.last.again_after <= REPLACED_SECONDS
    story.now = later(REPLACED_SECONDS)
    job = story.job()
    assert job is not None
    assert await story.turn() == [("delete", "Job", job["metadata"]["name"])]
    story.collect()
    assert await story.turn() == [("apply", "Job", job["metadata"]["name"])]
    story.begun()
    assert await story.turn() == []
    story.says()
    await story.turn()
    assert story.told(c.MODEL_FITS)["status"] == "True"


async def test_a_log_that_is_lost_is_written_anew(story: Story) -> None:
    story.ends("Complete", None)
    assert ENGINE in await story.turn()
    assert "Its log is gone." in story.told(c.MODEL_FITS)["message"]
    story.now = later(REPLACED_SECONDS)
    await story.turn()
    assert any(write[:2] == ("apply", "Job") for write in await story.turn())


async def test_an_api_server_that_is_away_for_a_while_costs_only_that_while(story: Story) -> None:
    story.says(Unavailable("the node does not answer"))
    assert await story.turn() == []
    assert story.last.again_after == AGAIN_SECONDS
    story.world.logs = dict.fromkeys(story.world.logs, SAID)
    fails = True

    def away(write: tuple[str, str, str]) -> None:
        if fails and write[0] == "status":
            raise Unavailable("not now")

    story.world.before_write = away
    with pytest.raises(Unavailable):
        await story.turn()
    fails = False
    await story.turn()
    assert story.told(c.MODEL_FITS)["status"] == "True"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param(Refused("pods/log is forbidden"), "pods/log is forbidden", id="no right to"),
        pytest.param(Stale("404"), "404", id="it is gone"),
        pytest.param("Segmentation fault\n", "does not say what the model is", id="no word of the model"),
        pytest.param(f"{contract.INSPECTION_PREFIX}{{\n", "Expecting property name", id="half a line"),
        pytest.param(f"{contract.INSPECTION_PREFIX}[]\n", "no word of the model", id="something else"),
    ],
)
async def test_a_log_that_cannot_be_read_holds_nothing_up(story: Story, text: str | ClusterError, words: str) -> None:
    story.says(text)
    assert ENGINE in await story.turn()
    told = story.told(c.MODEL_FITS)
    assert (told["status"], told["reason"]) == ("Unknown", c.MODEL_NOT_INSPECTED)
    assert words in told["message"]
    assert story.last.again_after == UNREADABLE_SECONDS
    assert await story.turn() == []


async def test_a_model_that_planning_does_not_know_is_looked_at_once(story: Story) -> None:
    strange = {**DOCUMENT, "config": {"architectures": ["NobodysForCausalLM"]}}
    story.says(f"{contract.INSPECTION_PREFIX}{json.dumps({'model': strange, 'draft': None})}\n")
    await story.turn()
    assert ENGINE in await story.turn()
    assert (story.told(c.MODEL_FITS)["status"], story.told(c.MODEL_FITS)["reason"]) == ("Unknown", c.MODEL_UNKNOWN)
    model = story.status()["model"]
    assert (model["architecture"], model["parameters"], model["weights"]) == ("NobodysForCausalLM", "8.03B", "15Gi")
    await story.turn()
    story.collect()
    assert await story.turn() == []
    assert len(story.world.log_reads) == 1


async def test_a_job_that_the_api_server_refuses_holds_nothing_up() -> None:
    world = World()
    world.add_deployment(**H100)
    story = Story(world)

    def refuse(write: tuple[str, str, str]) -> None:
        if write[1] == "Job":
            raise Refused("jobs.batch is forbidden")

    world.before_write = refuse
    assert ENGINE not in await story.turn()
    assert story.last.again_after == 0.0
    assert story.told(c.SPEC_VALID)["status"] == "True", "it is nothing that is wrong with the spec"
    assert "jobs.batch is forbidden" in story.told(c.MODEL_FITS)["message"]
    assert ENGINE in await story.turn()
    assert await story.turn() == []
    assert story.told(c.MODEL_FITS)["reason"] == c.MODEL_NOT_INSPECTED


async def test_the_time_to_wait_ends() -> None:
    world = World()
    world.add_deployment(**H100)
    story = Story(world)
    await story.turn()
    story.begun()
    story.now = later(SECONDS)
    assert ENGINE in await story.turn()
    assert "longer than" in story.told(c.MODEL_FITS)["message"]
    assert await story.turn() == []
    story.says()
    await story.turn()
    assert story.told(c.MODEL_FITS)["status"] == "True"


async def test_an_inspections_pod_is_no_replica_and_says_no_goodbye(story: Story) -> None:
    deployment = story.world.one(contract.KIND, NAME)
    story.world.add(inspection_pod(deployment, ready=True, going=True, containers=(ready_pod()["status"]["containerStatuses"])))
    await story.turn()
    status = story.status()
    assert (status["replicas"], status["readyReplicas"], status["ready"]) == (0, 0, "0/1")
    assert "draining" not in status


async def test_an_invalid_spec_keeps_what_is_known(story: Story) -> None:
    story.says()
    await story.turn()
    before = story.status()
    story.world.edit(contract.KIND, NAME, lambda body: body["spec"].update(accelerator="abacus"))
    await story.turn()
    assert (story.status()["model"], story.status()["memory"]) == (before["model"], before["memory"])
    assert story.told(c.READY)["reason"] == c.UNKNOWN_ACCELERATOR


async def test_a_node_that_hangs_holds_up_one_reader_and_nobody_else() -> None:
    asked, release = asyncio.Event(), asyncio.Event()

    class Hanging:
        async def log_tail(self, namespace: str, pod: str, container: str, *, lines: int, limit: int, seconds: float) -> str:
            assert (container, seconds) == (contract.CONTAINER_INSPECTION, READ_SECONDS)
            asked.set()
            await release.wait()
            return SAID

    found = observed(done_pod())
    readings = Readings(Hanging(), at_once=1)
    first = asyncio.create_task(readings.look(KEY, found))
    await asked.wait()
    assert await readings.look((contract.KIND, "models", "other"), found) == Look(again_after=AGAIN_SECONDS)
    release.set()
    assert (await first).model == kept(llm_deployment())


async def test_what_is_known_is_not_read_again() -> None:
    world = World()
    deployment = llm_deployment()
    found = replace(observed(done_pod()), owner={**deployment, "status": {"model": kept(deployment)}})
    assert subject.known(found) is not None
    assert await Readings(world, at_once=1).look(KEY, found) == Look()
    assert world.log_reads == []
