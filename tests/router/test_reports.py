"""What a router tells the controller: what stands in a line, when there is one, and who gets it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from tests.router.harness import MODEL, Call, Client, Router, answer, engines, fleet, get, post, router, until
from tokenfleet import contract
from tokenfleet.router.balancing.replicas import Replicas, Sighting, State
from tokenfleet.router.models import Pool
from tokenfleet.router.reporting.reports import MOST
from tokenfleet.router.terms import QueueTerms, Terms

QUEUE = Terms(max_in_flight=1, queue=QueueTerms(max_depth=10))
Json = dict[str, Any]


class Following:
    """A connection to the reports."""

    def __init__(self, front: Router, client: Client) -> None:
        self.front = front
        self.client = client

    async def line(self) -> Json:
        """The next one."""
        async with asyncio.timeout(10):
            raw = await self.client.reader.readline()
        found: Json = msgspec.json.decode(raw) if raw != b"\n" else {}
        return found

    async def of(self, deployment: str = MODEL) -> Json:
        found: Json = (await self.line())["deployments"][deployment]
        return found

    async def silent(self) -> bool:
        """Whether nothing comes, whatever the loop has to do."""
        for _ in range(20):
            await asyncio.sleep(0)
        return not self.client.reader._buffer  # type: ignore[attr-defined]


@asynccontextmanager
async def following(front: Router) -> AsyncIterator[Following]:
    async with Client(*await asyncio.open_connection("127.0.0.1", front.admin)) as client:
        client.write(get(contract.PATH_ROUTER_REPORTS))
        status, headers = await client.head()
        assert (status, headers["content-type"]) == (200, "application/x-ndjson")
        yield Following(front, client)


async def hold(call: Call) -> None:
    """The script of an engine that streams until it is told to end."""
    call.begin_stream()
    call.event()
    await call.writer.drain()
    await call.gone()


async def in_parts(call: Call) -> None:
    """The script of an engine whose streams come token by token."""
    if b'"stream":true' not in call.body:
        await answer(call)
        return
    call.begin_stream()
    for _ in range(3):
        call.event()
        await call.writer.drain()
        await asyncio.sleep(0.002)
    call.end_stream()


async def test_the_first_line_comes_at_once_and_says_all() -> None:
    async with fleet(answer) as (front, _), following(front) as reports:
        assert await reports.line() == {
            "leaving": False,
            "deployments": {
                MODEL: {
                    "waiting": 0,
                    "pending": 0,
                    "running": 0,
                    "ended": 0,
                    "replicas": {"engine-0": {"inFlight": 0, "state": "routable"}},
                    "tracks": {},
                    "idleSeconds": None,
                }
            },
        }


async def test_while_nothing_changes_there_is_only_a_sign_of_life() -> None:
    async with fleet(answer) as (front, _), following(front) as reports:
        await reports.line()
        for _ in range(8):
            front.advance(1.25)
        assert await reports.line() == {}
        assert await reports.silent()


async def test_what_is_under_way_is_told_within_a_second_and_no_sooner() -> None:
    async with fleet(hold) as (front, _), following(front) as reports, await front.connect() as client:
        await reports.line()
        client.write(post(stream=True))
        await until(lambda: front.in_flight == 1)
        assert await reports.silent()
        front.advance(1.25)
        told = await reports.of()
        assert told["replicas"] == {"engine-0": {"inFlight": 1, "state": "routable"}}
        assert told["idleSeconds"] == 0.0


async def test_answers_are_counted_with_how_long_they_took() -> None:
    async with fleet(in_parts) as (front, _), following(front) as reports:
        await reports.line()
        await front.ask(post(stream=True))
        await front.ask(post())
        front.advance(1.25)
        track = (await reports.of())["tracks"]["stable"]
        assert (track["requests"], track["failed"]) == (2, 0)
        assert len(track["ttft"]["counts"]) == len(contract.REPORT_TTFT_BOUNDS) + 1
        assert len(track["itl"]["counts"]) == len(contract.REPORT_ITL_BOUNDS) + 1
        assert sum(track["ttft"]["counts"]) == 1, "an answer in one piece has no first token"
        assert sum(track["itl"]["counts"]) >= 1


async def test_what_answers_used_is_told() -> None:
    async def used(call: Call) -> None:
        call.json({"choices": [], "usage": {"prompt_tokens": 12, "total_tokens": 46, "completion_tokens": 34}})

    async with fleet(used) as (front, _), following(front) as reports:
        await reports.line()
        await front.ask(post())
        await front.ask(post())
        front.advance(1.25)
        track = (await reports.of())["tracks"]["stable"]
        assert (track["promptTokens"], track["completionTokens"]) == (24, 68)


async def test_idleness_is_counted_from_the_last_request() -> None:
    async with fleet(answer) as (front, _), following(front) as reports:
        await reports.line()
        await front.ask(post())
        front.advance(1.25)
        assert (await reports.of())["idleSeconds"] == 0.0
        front.advance(5)
        async with following(front) as late:
            assert (await late.of())["idleSeconds"] == 5.0


async def test_a_request_that_no_replica_can_have_is_told_at_once() -> None:
    async with router(terms=QUEUE) as front, following(front) as reports, await front.connect() as client:
        assert (await reports.of())["waiting"] == 0
        client.write(post())
        told = await reports.of()
        assert (told["waiting"], told["idleSeconds"]) == (1, 0.0)


async def test_one_that_is_refused_for_want_of_a_queue_is_wanted_for_a_while() -> None:
    async with router() as front, following(front) as reports:
        await reports.line()
        assert (await front.ask(post())).status == 503
        assert (await reports.of())["waiting"] == 1
        front.advance(9)
        assert await reports.silent()
        front.advance(2)
        assert (await reports.of())["waiting"] == 0


async def test_a_storm_on_a_sleeping_model_is_told_once_a_second() -> None:
    async with router() as front, following(front) as reports:
        await reports.line()
        for _ in range(5):
            await front.ask(post())
        assert (await reports.of())["waiting"] == 1
        assert await reports.silent()


async def test_those_who_wait_for_room_are_told_in_time() -> None:
    async with fleet(hold, terms=QUEUE) as (front, _), following(front) as reports:
        await reports.line()
        async with await front.connect() as one, await front.connect() as two:
            one.write(post(stream=True))
            await until(lambda: front.in_flight == 1)
            two.write(post(stream=True))
            await until(lambda: front.shared.catalog.models()[0].queue.depth == 1)
            assert await reports.silent()
            front.advance(1.25)
            assert (await reports.of())["waiting"] == 1


async def test_who_goes_counts_as_leaving() -> None:
    async with router() as front, following(front) as reports:
        await reports.line()
        front.shared.leaving = True
        front.advance(1.25)
        assert (await reports.line())["leaving"] is True


async def test_a_failure_that_another_replica_made_good_counts_all_the_same() -> None:
    async def broken(call: Call) -> None:
        call.reset()

    async with fleet(broken, answer) as (front, _), following(front) as reports:
        await reports.line()
        assert (await front.ask(post())).status == 200
        assert (await front.ask(post())).status == 200
        front.advance(1.25)
        track = (await reports.of())["tracks"]["stable"]
        assert (track["requests"], track["failed"]) == (2 + track["failed"], track["failed"])
        assert track["failed"] >= 1


@pytest.mark.parametrize(
    ("status", "requests", "failed"),
    [
        pytest.param(200, 1, 0, id="a good one"),
        pytest.param(400, 1, 0, id="what the client got wrong is no failure"),
        pytest.param(500, 1, 1, id="an error of the engine"),
        pytest.param(502, 1, 1, id="a failure of the replica counts once"),
    ],
)
async def test_what_a_replica_answers_counts(status: int, requests: int, failed: int) -> None:
    async def script(call: Call) -> None:
        call.json({}, status=status)

    async with fleet(script) as (front, _), following(front) as reports:
        await reports.line()
        await front.ask(post())
        front.advance(1.25)
        track = (await reports.of())["tracks"]["stable"]
        assert (track["requests"], track["failed"]) == (requests, failed)


async def test_those_who_wait_are_shared_out_by_weight() -> None:
    async with router(terms=QUEUE) as front:
        model = front.shared.catalog.models()[0]
        pools = [Pool(name, Replicas(), served_name=MODEL, weight=weight) for name, weight in (("a", 3), ("b", 1), ("b", 0))]
        model.update(QUEUE, pools, created=0)
        front.shared.catalog.replace([model])
        clients = [await front.connect() for _ in range(3)]
        for client in clients:
            client.write(post())
        await until(lambda: model.queue.depth == 3)
        async with following(front) as reports:
            told = (await reports.line())["deployments"]
            assert {name: one["waiting"] for name, one in told.items()} == {"a": 3, "b": 1}
        for client in clients:
            client.reset()
        await until(lambda: not model.queue.depth)


async def test_replicas_that_get_no_requests_are_told_of() -> None:
    async with router() as front:
        replicas = Replicas()
        replicas.observe([Sighting("k", "canary-0", "127.0.0.1", 1, State.ROUTABLE)])
        front.shared.fleet = {MODEL: (replicas,), "unrouted": ()}
        async with following(front) as reports:
            told = (await reports.line())["deployments"]
            assert told[MODEL]["replicas"] == {"canary-0": {"inFlight": 0, "state": "routable"}}
            assert told["unrouted"]["replicas"] == {}


async def test_so_many_may_follow_and_no_more() -> None:
    async with router() as front:
        clients = [Client(*await asyncio.open_connection("127.0.0.1", front.admin)) for _ in range(MOST + 1)]
        for client in clients:
            client.write(get(contract.PATH_ROUTER_REPORTS))
        assert [(await client.head())[0] for client in clients] == [200] * MOST + [503]
        for client in clients:
            client.writer.close()


async def test_who_does_not_read_loses_the_connection_and_costs_no_memory() -> None:
    async with engines(answer) as (one,), router(one.sighting()) as front:
        front.shared.fleet = {f"deployment-{number}": () for number in range(3000)}
        async with following(front) as reports:
            reports.client.reader._transport.pause_reading()  # type: ignore[attr-defined]
            told = 0
            while front.followed:
                await asyncio.sleep(0)
                front.shared.leaving = not front.shared.leaving
                front.advance(1.25)
                told += 1
                assert told < 500


async def test_nobody_follows_and_nothing_is_done() -> None:
    async with fleet(answer) as (front, _):
        await front.ask(post())
        assert not front.followed
        async with following(front) as reports:
            await reports.line()
            assert front.followed
        await until(lambda: not front.followed)
