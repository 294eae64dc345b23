"""From the watch and from listings into the store and the queue."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.controller.test_store import KEY, child, deployment
from tokenfleet import contract
from tokenfleet.controller.cluster import Unavailable
from tokenfleet.controller.feed import Feed
from tokenfleet.controller.kinds import Kind
from tokenfleet.controller.observed import Json
from tokenfleet.controller.resync import Resync
from tokenfleet.controller.store import Store
from tokenfleet.controller.work_queue import WorkQueue


class Api:
    """Listings of what is in `objects`, two a page."""

    def __init__(self, *objects: Json, version: int = 100) -> None:
        self.objects, self.version = list(objects), version
        self.asked: list[tuple[str, str | None, str]] = []
        self.fails = 0
        self.serving = [True]

    async def serves(self, kind: Kind) -> bool:
        return self.serving.pop(0) if len(self.serving) > 1 else self.serving[0]

    async def pages(self, kind: Kind, namespace: str | None, *, selector: str = "") -> AsyncIterator[tuple[list[Json], int]]:
        self.asked.append((kind.name, namespace, selector))
        if self.fails:
            self.fails -= 1
            raise Unavailable("away")
        found = [body for body in self.objects if body["kind"] == kind.name]
        for first in range(0, max(len(found), 1), 2):
            yield found[first : first + 2], self.version


class Parts:
    def __init__(self, api: Api, *, namespaces: tuple[str, ...] = (), seconds: float = 300) -> None:
        self.store, self.queue, self.missed = Store(), WorkQueue(jitter=lambda: 0.5), 0
        self.resync = Resync(
            self.store, self.queue, api, namespaces=namespaces, seconds=seconds, jitter=lambda: 0.0, sleep=self.sleep
        )
        self.feed = Feed(self.store, self.queue, namespaces=namespaces, missed=self.miss)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)

    def miss(self) -> None:
        self.missed += 1

    async def drain(self) -> list[Any]:
        return [await self.queue.get() for _ in range(len(self.queue))]


async def test_an_event_puts_its_llmdeployment_in_line() -> None:
    parts = Parts(Api())
    parts.feed.hear("ADDED", deployment())
    assert await parts.drain() == [KEY]


async def test_the_echo_of_what_is_known_puts_nobody_in_line() -> None:
    parts = Parts(Api())
    parts.store.put(child())
    parts.feed.hear("ADDED", child())
    assert await parts.drain() == []


async def test_a_removal_puts_the_owner_in_line_and_a_late_event_brings_nothing_back() -> None:
    parts = Parts(Api())
    parts.store.put(child())
    parts.feed.hear("DELETED", child(version=5))
    assert await parts.drain() == [KEY]
    parts.feed.hear("MODIFIED", child(version=4))
    assert await parts.drain() == []


async def test_other_namespaces_are_not_ours() -> None:
    parts = Parts(Api(), namespaces=("elsewhere",))
    parts.feed.hear("ADDED", deployment())
    assert len(parts.store) == 0


async def test_a_watch_that_began_anew_may_have_missed_something() -> None:
    parts = Parts(Api())
    parts.feed.hear(None, child())
    assert parts.missed == 0, "the first listing"
    parts.feed.hear(None, child())
    assert parts.missed == 1


async def test_everything_is_read_and_everybody_is_put_in_line() -> None:
    api = Api(deployment(), *(child(kind="Role", version=number) | {"metadata": named(number)} for number in range(3)))
    parts = Parts(api)
    await parts.resync.once()
    assert len(parts.store) == 4
    assert await parts.drain() == [KEY]
    assert ("Pod", None, contract.LABEL_ROLE) in api.asked
    assert {(contract.KIND, None, ""), (contract.ROUTER_KIND, None, "")} <= set(api.asked)


def named(number: int) -> Json:
    return {**child()["metadata"], "name": f"role-{number}", "uid": f"u{number}", "resourceVersion": str(number + 1)}


async def test_the_beginning_waits_for_the_crds_and_for_the_api(caplog: pytest.LogCaptureFixture) -> None:
    api = Api(deployment())
    api.serving, api.fails = [False, False, True, False, True], 3
    parts, waited = Parts(api), 0

    async def reachable() -> None:
        nonlocal waited
        waited += 1

    await parts.resync.begin(reachable)
    assert waited == 2 + 3 + 1
    assert parts.store.owners() == [KEY]
    told = [line for line in caplog.messages if "waiting for the CRD" in line]
    assert [line.partition(" of ")[2] for line in told] == ["LLMDeployment and LLMRouter.", "LLMRouter."]


async def test_what_vanished_unseen_is_found_and_what_is_newer_stays() -> None:
    parts = Parts(Api(deployment(), version=10))
    for body in (deployment(), child(version=4), child(kind="Role", version=11)):
        parts.store.put(body)
    await parts.resync.once()
    assert await parts.drain() == [KEY]
    assert ("Service", "ns", "child") not in parts.store
    assert ("Role", "ns", "child") in parts.store, "made after the listing began"


async def test_only_the_chosen_namespaces_are_read() -> None:
    api = Api()
    await Parts(api, namespaces=("a", "b")).resync.once()
    assert {namespace for _, namespace, _ in api.asked} == {"a", "b"}


@pytest.mark.parametrize("fails", [0, 2], ids=["at once", "after two listings that failed"])
async def test_a_resync_that_was_asked_for_reconciles_everybody(fails: int) -> None:
    api = Api(deployment())
    parts = Parts(api)
    parts.store.put(deployment())
    api.fails = fails
    parts.resync.soon()
    keeping = asyncio.create_task(parts.resync.keep())
    assert await asyncio.wait_for(parts.queue.get(), timeout=5) == KEY
    keeping.cancel()


async def test_a_resync_comes_by_itself_too() -> None:
    parts = Parts(Api(deployment()), seconds=0.01)
    parts.store.put(deployment())
    keeping = asyncio.create_task(parts.resync.keep())
    assert await asyncio.wait_for(parts.queue.get(), timeout=5) == KEY
    keeping.cancel()
