"""A reconcile while a pod fetches its model: what gets into the status, when it looks again, and that all else goes on."""

import pytest

from tests.controller.objects import LATER, NAME, noted, pod, ready_pod, running, waiting
from tests.controller.objects import crashed as crashed_container
from tests.controller.world import Operator, World
from tokenfleet import contract
from tokenfleet.api import conditions as c
from tokenfleet.api.v1alpha1 import LLMDeploymentStatus
from tokenfleet.controller.cluster import ClusterError, Refused, Stale, Unavailable
from tokenfleet.controller.downloads import LOOK_SECONDS, SILENT_SECONDS
from tokenfleet.controller.observed import Json

POD = "engine-a"
STATUS = ("status", contract.KIND, NAME)
ROLLED_OUT = {"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "readyReplicas": 1, "availableReplicas": 1}


def fetching(fetch: Json | None = None) -> Json:
    inits = (fetch or running(contract.CONTAINER_FETCH),)
    return pod(POD, phase="Pending", inits=inits, containers=(waiting("PodInitializing"),))


def says(done: int, *, left: int | None = 9) -> str:
    return f"hf://org/model: {contract.progress(done=done, total=100, left=left)}\n"


@pytest.fixture
async def operator() -> Operator:
    """An LLMDeployment that is as it should be, but for its engine pod, which fetches."""
    world = World()
    world.add_deployment()
    operator = Operator(world)
    await operator.turn()
    world.add(fetching())
    return operator


def status(operator: Operator) -> Json:
    found: Json = operator.world.one(contract.KIND, NAME)["status"]
    return found


def engine_ready(operator: Operator) -> Json:
    return next(each for each in status(operator)["conditions"] if each["type"] == c.ENGINE_READY)


async def test_the_progress_stands_in_the_status_and_is_looked_at_again(operator: Operator) -> None:
    operator.world.logs[POD] = says(10)
    assert STATUS in await operator.turn()
    assert status(operator)["download"] == {"pod": POD, "bytes": 10, "totalBytes": 100, "secondsLeft": 9}
    LLMDeploymentStatus.model_validate(status(operator))
    assert engine_ready(operator)["reason"] == c.FETCHING_MODEL
    assert operator.last.again_after == LOOK_SECONDS
    assert not operator.last.wrote, "a look at a download is no change of a child, and does not slow anything down"


async def test_only_the_numbers_change_while_it_goes_on(operator: Operator) -> None:
    """And nobody is told by an Event: that a model is fetched is the ordinary course."""
    told = []
    for done in (10, 20, 100):
        operator.world.logs[POD] = says(done, left=None)
        assert await operator.turn() == [STATUS]
        told.append((status(operator)["download"]["bytes"], engine_ready(operator)))
    assert [number for number, _ in told] == [10, 20, 100]
    assert told[0][1] == told[1][1] == told[2][1]


async def test_no_progress_no_write(operator: Operator) -> None:
    operator.world.logs[POD] = says(10)
    await operator.turn()
    assert await operator.turn() == []
    assert operator.last.again_after == LOOK_SECONDS
    assert await operator.turn(seeing=False) == []


@pytest.mark.parametrize(
    "then",
    [
        pytest.param(ready_pod(POD), id="it serves"),
        pytest.param(fetching(crashed_container(noted(c.DISK_FULL), name=contract.CONTAINER_FETCH)), id="it failed"),
        pytest.param(None, id="it is gone"),
    ],
)
async def test_once_no_pod_fetches_it_vanishes_and_nothing_is_looked_at(operator: Operator, then: Json | None) -> None:
    operator.world.logs[POD] = says(10)
    await operator.turn()
    gone = operator.world.remove("Pod", POD)
    if then is None:
        operator.store.remove(gone)
    else:
        operator.world.add(then, uid=gone["metadata"]["uid"])
    reads = len(operator.world.log_reads)
    assert STATUS in await operator.turn()
    assert "download" not in status(operator)
    assert operator.last.again_after is None
    assert len(operator.world.log_reads) == reads


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(Refused('pods "engine-a" is forbidden'), id="no right to read logs"),
        pytest.param(Stale("404"), id="no such pod"),
        pytest.param(Unavailable("timeout"), id="a node that does not answer"),
    ],
)
async def test_a_log_that_cannot_be_read_disturbs_nothing(operator: Operator, error: ClusterError) -> None:
    operator.world.logs[POD] = error
    operator.world.edit(contract.KIND, NAME, lambda body: body["spec"].update(replicas=3))
    writes = await operator.turn()
    assert ("apply", "Deployment", f"{NAME}-engine") in writes and STATUS in writes
    assert "download" not in status(operator)
    assert engine_ready(operator)["reason"] == c.FETCHING_MODEL
    assert operator.last.again_after == SILENT_SECONDS
    assert await operator.turn() == []


async def test_what_cannot_be_run_still_tells_of_the_download_of_what_runs(operator: Operator) -> None:
    operator.world.logs[POD] = says(10)
    operator.world.edit(contract.KIND, NAME, lambda body: body["spec"].update(accelerator="abacus"))
    await operator.turn()
    assert status(operator)["download"]["bytes"] == 10


async def test_a_fleet_that_fetches_nothing_reads_no_log(operator: Operator) -> None:
    world = operator.world
    world.remove("Pod", POD)
    for role in ("engine", "router"):
        world.add(ready_pod(f"{role}-b", role=role, created=LATER))
        world.edit("Deployment", f"{NAME}-{role}", lambda body: body.update(status=ROLLED_OUT))
    again = Operator(world)
    await again.turn()
    for _ in range(3):
        assert await again.turn() == []
        assert again.last.again_after is None
    assert world.log_reads == []
