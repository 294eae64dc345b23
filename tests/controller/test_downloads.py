"""How far a download is: which pods are asked, what their logs say, and that no log costs anybody more than the numbers."""

import asyncio
import logging

import pytest

from tests.controller.objects import (
    CREATED,
    EARLY,
    LATER,
    LATEST,
    NAME,
    NAMESPACE,
    crashed,
    llm_deployment,
    noted,
    observed,
    pod,
    ready_pod,
    running,
    terminated,
    waiting,
)
from tests.controller.objects import ended as ended_container
from tests.controller.world import KEY, World
from tokenfleet import contract
from tokenfleet.api import conditions as c
from tokenfleet.controller.cluster import Refused, Stale, Unavailable
from tokenfleet.controller.downloads import LOOK_SECONDS, READ_SECONDS, SILENT_SECONDS, Downloads, Look, parse
from tokenfleet.controller.observed import Download, Json, Observed

OTHER = (contract.KIND, NAMESPACE, "other")
FETCH = contract.CONTAINER_FETCH
HALF = f"hf://org/model: {contract.progress(done=5, total=10, left=60)}\n"
LOCKED = "hf://org/model: another pod downloads it; waiting for its lock.\n"


def fetching(name: str = "engine-a", *, created: str = CREATED, role: str = "engine", going: bool = False) -> Json:
    return pod(
        name,
        role=role,
        created=created,
        going=going,
        phase="Pending",
        inits=(running(FETCH),),
        containers=(waiting("PodInitializing"),),
    )


def told(name: str, *, left: int | None = 60) -> Download:
    return Download(pod=name, done=5, total=10, left=left)


def seen(*pods: Json, before: Download | None = None) -> Observed:
    status = {"download": before.as_status()} if before else {}
    return observed(*pods, deployment=llm_deployment(status=status))


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def downloads(world: World) -> Downloads:
    return Downloads(world, at_once=1)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(HALF, told("p"), id="a line of progress"),
        pytest.param(HALF.strip() + "\r\n", told("p"), id="with a carriage return"),
        pytest.param(contract.progress(done=5, total=10, left=None), told("p", left=None), id="without a time"),
        pytest.param(contract.progress(done=5, total=10, left=0), told("p", left=0), id="at its very end"),
        pytest.param(contract.progress(done=1, total=10, left=90) + "\n" + HALF, told("p"), id="the last one counts"),
        pytest.param(HALF + "trying again: connection reset\n", told("p"), id="with other words after it"),
        pytest.param(LOCKED, None, id="a pod that waits for another one's download"),
        pytest.param("[5/10 bytes] and more", None, id="a line that goes on"),
        pytest.param(f"[{'9' * 5000}/1 bytes]", None, id="a number that nobody could keep"),
        pytest.param("\N{REPLACEMENT CHARACTER}\x00", None, id="no text at all"),
        pytest.param("", None, id="nothing yet"),
    ],
)
def test_a_log_is_read(text: str, expected: Download | None) -> None:
    assert parse("p", text) == expected


@pytest.mark.parametrize(
    "pods",
    [
        pytest.param((), id="no pods"),
        pytest.param((ready_pod(),), id="one that serves"),
        pytest.param((pod(phase="Pending", inits=(waiting("PodInitializing", name=FETCH),)),), id="it has not begun"),
        pytest.param(
            (pod(inits=(ended_container(terminated(0, reason="Completed"), name=FETCH),), containers=(running(),)),),
            id="it is done",
        ),
        pytest.param((pod(inits=(crashed(noted(c.DISK_FULL), name=FETCH),)),), id="it waits for its next try"),
        pytest.param((fetching(going=True),), id="its pod is being deleted"),
        pytest.param((fetching(role="router"),), id="a router's container of that name"),
        pytest.param((pod(inits=(running(FETCH),), containers=(running(),)),), id="a sidecar of that name, which never ends"),
        pytest.param((pod(containers=(running("engine"), running(FETCH))),), id="a container beside the engine of that name"),
    ],
)
async def test_where_nothing_is_fetched_no_log_is_read(world: World, downloads: Downloads, pods: tuple[Json, ...]) -> None:
    assert await downloads.look(KEY, seen(*pods, before=told("engine-a"))) == Look()
    assert world.log_reads == []


@pytest.mark.parametrize(
    ("names", "before", "expected"),
    [
        pytest.param("a", None, "a", id="one pod"),
        pytest.param("abc", None, "cab", id="the newest, then the oldest, which began first"),
        pytest.param("abc", "b", "bca", id="the one that was told of goes on being told of"),
        pytest.param("abc", "gone", "cab", id="unless it fetches no more"),
        pytest.param("abcdefgh", "d", "dha", id="of many only some"),
    ],
)
async def test_who_is_asked(world: World, downloads: Downloads, names: str, before: str | None, expected: str) -> None:
    pods = [fetching(name, created=f"2026-03-01T10:0{number}:00Z") for number, name in enumerate(names)]
    world.logs = dict.fromkeys(names, LOCKED)
    look = await downloads.look(KEY, seen(*pods, before=told(before) if before else None))
    assert "".join(world.log_reads) == expected
    assert look == Look(again_after=LOOK_SECONDS), "all of them wait"


async def test_the_pod_that_reports_is_told_and_the_rest_is_not_asked(world: World, downloads: Downloads) -> None:
    pods = [fetching("a", created=EARLY), fetching("b", created=LATER, role="prefill"), fetching("c", created=LATEST)]
    world.logs = {"a": HALF, "b": HALF, "c": LOCKED}
    assert await downloads.look(KEY, seen(*pods)) == Look(download=told("a"), again_after=LOOK_SECONDS)
    assert world.log_reads == ["c", "a"]


@pytest.mark.parametrize(
    ("others", "expected"),
    [
        pytest.param(HALF, told("a"), id="one that knows how long it takes does the work"),
        pytest.param(LOCKED, told("b", left=None), id="where nobody knows it, the first that reports is told"),
        pytest.param(Stale("404"), told("b", left=None), id="also where another one cannot be asked"),
    ],
)
async def test_a_pod_that_waits_for_another_ones_download_says_less(
    world: World, downloads: Downloads, others: str | Stale, expected: Download
) -> None:
    waits = f"another pod fetches it {contract.progress(done=5, total=10, left=None)}"
    world.logs = {"b": waits, "a": others}
    look = await downloads.look(KEY, seen(fetching("a", created=EARLY), fetching("b", created=LATER)))
    assert look == Look(download=expected, again_after=LOOK_SECONDS)


async def test_a_pod_that_went_meanwhile_does_not_hide_the_next(world: World, downloads: Downloads) -> None:
    world.logs = {"a": HALF, "b": Stale("404")}
    look = await downloads.look(KEY, seen(fetching("a", created=EARLY), fetching("b", created=LATER)))
    assert look == Look(download=told("a"), again_after=LOOK_SECONDS)


@pytest.mark.parametrize(
    ("error", "kept"),
    [
        pytest.param(Refused('pods "engine-a" is forbidden: cannot get resource "pods/log"'), False, id="no right to read it"),
        pytest.param(Stale("404"), False, id="no such pod"),
        pytest.param(Unavailable("the node does not answer"), True, id="a node that does not answer for a moment"),
    ],
)
async def test_a_log_that_cannot_be_read_costs_the_numbers_alone_and_is_said_once(
    world: World, downloads: Downloads, caplog: pytest.LogCaptureFixture, error: Stale, kept: bool
) -> None:
    world.logs = {"engine-a": error}
    before = told("engine-a")
    with caplog.at_level(logging.INFO):
        looks = [await downloads.look(KEY, seen(fetching(), before=before)) for _ in range(3)]
    assert set(looks) == {Look(download=before if kept else None, again_after=SILENT_SECONDS)}
    (record,) = caplog.records
    assert record.levelno == logging.INFO
    assert f"{NAMESPACE}/{NAME}" in record.getMessage() and str(error) in record.getMessage()
    world.logs = {"engine-a": HALF}
    assert (await downloads.look(KEY, seen(fetching()))).download == told("engine-a")
    world.logs = {"engine-a": error}
    with caplog.at_level(logging.INFO):
        await downloads.look(KEY, seen(fetching()))
    assert len(caplog.records) == 2, "it is said again after it went well in between"


async def test_a_node_that_hangs_holds_up_one_reader_and_nobody_else() -> None:
    """Whoever finds the readers busy keeps the numbers that it has, without waiting."""
    asked, release = asyncio.Event(), asyncio.Event()

    class Hanging:
        async def log_tail(self, namespace: str, pod: str, container: str, *, lines: int, limit: int, seconds: float) -> str:
            assert seconds == READ_SECONDS
            asked.set()
            await release.wait()
            return HALF

    downloads = Downloads(Hanging(), at_once=1)
    first = asyncio.create_task(downloads.look(KEY, seen(fetching())))
    await asked.wait()
    before = told("engine-a", left=90)
    second = await downloads.look(OTHER, seen(fetching(), before=before))
    assert second == Look(download=before, again_after=LOOK_SECONDS)
    release.set()
    assert (await first).download == told("engine-a")
    assert (await downloads.look(OTHER, seen(fetching()))).download == told("engine-a"), "the reader is free again"


def test_it_stands_in_the_status_as_the_api_names_it() -> None:
    assert told("p").as_status() == {"pod": "p", "bytes": 5, "totalBytes": 10, "secondsLeft": 60}
    assert told("p", left=None).as_status() == {"pod": "p", "bytes": 5, "totalBytes": 10}
    assert told("p", left=0).as_status()["secondsLeft"] == 0
