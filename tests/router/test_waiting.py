"""Requests that no replica has begun: they wait for one that can have them, and nobody is asked again and again meanwhile."""

import asyncio
import contextlib

import msgspec
import pytest

from tests.router.harness import MODEL, Call, Router, answer, engines, fleet, post, router, until
from tokenfleet.router.balancing.pauses import CAP_SECONDS
from tokenfleet.router.balancing.replicas import Sighting, State
from tokenfleet.router.models import Model
from tokenfleet.router.terms import QueueTerms, Terms

QUEUE = Terms(queue=QueueTerms(max_depth=64, timeout_seconds=60))


async def drain(call: Call) -> None:
    call.json({}, status=503, headers="X-Tokenfleet-Draining: 1\r\nRetry-After: 1\r\n")


async def full(call: Call) -> None:
    call.json({"error": {"message": "full"}}, status=503, headers="retry-after: 7\r\n")


async def sleepy(call: Call) -> None:
    call.json({}, status=503)


async def die(call: Call) -> None:
    call.reset()


def nobody(name: str = "engine-0") -> Sighting:
    """A replica where nothing listens."""
    return Sighting(key=name, name=name, host="127.0.0.1", port=1, state=State.ROUTABLE)


def served(front: Router) -> Model:
    (model,) = front.shared.catalog.models()
    return model


def gauges(front: Router) -> tuple[int, int, int]:
    return front.in_flight, served(front).queue.depth, front.shared.held_bytes


async def pass_time(front: Router, seconds: float) -> None:
    """In the wheel's turns, each with time for what it sets going."""
    for _ in range(round(seconds * 4)):
        front.advance(0.25)
        for _ in range(30):
            await asyncio.sleep(0)


@pytest.mark.parametrize("script", [drain, full, sleepy, die])
async def test_a_request_that_its_only_replica_does_not_begin_waits_for_another(script: object) -> None:
    assert callable(script)
    async with fleet(script, answer, terms=QUEUE) as (front, (first, second)), await front.connect() as client:
        front.replicas.observe([first.sighting()])
        client.write(post())
        await until(lambda: first.calls and served(front).queue.depth == 1)
        front.replicas.observe([first.sighting(State.DRAINING), second.sighting()])
        assert (await client.reply()).status == 200
        assert (len(first.calls), len(second.calls)) == (1, 1)
        assert gauges(front) == (0, 0, 0)


async def test_a_request_whose_only_replica_is_out_of_reach_waits_until_it_is_back() -> None:
    async with engines(answer) as (engine,), router(nobody(), terms=QUEUE) as front, await front.connect() as client:
        client.write(post())
        await until(lambda: served(front).queue.depth == 1)
        front.replicas.observe([engine.sighting()])
        assert not engine.calls, "it is still left alone: its state is what it was"
        await pass_time(front, 0.5)
        assert (await client.reply()).status == 200
        assert front.shared.metrics.retries == {"connect": 1}
        assert gauges(front) == (0, 0, 0)


async def test_a_replica_that_was_lost_and_is_ready_again_is_as_good_as_new() -> None:
    """Its container was restarted in place: the same pod at the same address."""
    async with fleet(die, terms=QUEUE) as (front, (engine,)), await front.connect() as client:
        client.write(post())
        await until(lambda: served(front).queue.depth == 1)
        front.replicas.observe([engine.sighting(State.UNREADY)])
        engine.script = answer
        front.replicas.observe([engine.sighting()])
        assert (await client.reply()).status == 200
        assert len(engine.calls) == 2


async def test_a_request_that_ends_its_replica_again_and_again_is_given_up() -> None:
    async with fleet(die, terms=QUEUE) as (front, (engine,)), await front.connect() as client:
        client.write(post())
        await until(lambda: engine.calls)
        await pass_time(front, 5)
        reply = await client.reply()
        assert (reply.status, reply.error["code"], len(engine.calls)) == (502, "upstream_lost", 3)


async def test_who_waits_in_vain_is_told_when_to_try_again() -> None:
    async with fleet(drain, terms=QUEUE) as (front, (engine,)), await front.connect() as client:
        client.write(post())
        await until(lambda: engine.calls)
        await pass_time(front, 59)
        assert served(front).queue.depth == 1
        await pass_time(front, 1.5)
        reply = await client.reply()
        assert (reply.status, reply.error["code"]) == (503, "queue_timeout")
        assert int(reply.headers["retry-after"]) >= 1
        assert gauges(front) == (0, 0, 0)


@pytest.mark.parametrize(
    ("script", "least", "most"),
    [
        pytest.param(drain, 10, 17, id="it drains: 0.25, 0.5, 1, 2, 4, then every 5 s"),
        pytest.param(full, 100, 260, id="it is full: four times a second at most"),
    ],
)
async def test_nobody_is_asked_again_and_again(script: object, least: int, most: int) -> None:
    assert callable(script)
    async with fleet(script, terms=QUEUE) as (front, (engine,)), contextlib.AsyncExitStack() as stack:
        for _ in range(20):
            client = await stack.enter_async_context(await front.connect())
            client.write(post())
        await until(lambda: served(front).queue.depth == 20)
        asked = len(engine.calls)
        assert asked <= 20
        await pass_time(front, 55)
        assert least <= len(engine.calls) - asked <= most
        assert served(front).queue.depth == 20


async def test_connections_are_not_tried_again_and_again() -> None:
    async with router(nobody(), terms=QUEUE) as front, contextlib.AsyncExitStack() as stack:
        for _ in range(20):
            client = await stack.enter_async_context(await front.connect())
            client.write(post())
        await until(lambda: served(front).queue.depth == 20)
        for _ in range(40):
            await pass_time(front, 1)
        retries = front.shared.metrics.retries["connect"]
        assert 8 <= retries <= 40, "twenty at the beginning, at most, and then one after each pause"
        assert front.replicas.failures == retries


async def test_a_full_engine_gets_the_next_request_as_soon_as_one_of_its_own_ends() -> None:
    go = asyncio.Event()
    running = 0

    async def one_at_a_time(call: Call) -> None:
        nonlocal running
        if running:
            await full(call)
            return
        running += 1
        await go.wait()
        running -= 1
        await answer(call)

    async with fleet(one_at_a_time, terms=QUEUE) as (front, (engine,)), contextlib.AsyncExitStack() as stack:
        first, second = [await stack.enter_async_context(await front.connect()) for _ in range(2)]
        first.write(post())
        await until(lambda: len(engine.calls) == 1)
        second.write(post())
        await until(lambda: served(front).queue.depth == 1)
        assert len(engine.calls) == 2
        go.set()
        assert [(await client.reply()).status for client in (first, second)] == [200, 200]
        assert front.shared.metrics.retries == {"full": 1}


async def test_a_replica_in_doubt_is_reached_anew_and_has_all_its_places_again_at_once() -> None:
    """Only one connection broke: its next request takes its time, and must not hold up the others."""
    go = asyncio.Event()
    broken: list[Call] = []

    async def engine(call: Call) -> None:
        if b"break" in call.body:
            broken.append(call)
            call.reset()
            return
        await go.wait()
        await answer(call)

    async with fleet(engine, answer, terms=QUEUE) as (front, (one, _)), contextlib.AsyncExitStack() as stack:
        front.replicas.observe([one.sighting()])
        go.set()
        assert (await front.ask(post())).status == 200, "there is a spare connection now"
        go.clear()
        clients = [await stack.enter_async_context(await front.connect()) for _ in range(6)]
        clients[0].write(post({"model": MODEL, "messages": [], "user": "break"}))
        await until(lambda: broken and served(front).queue.depth == 1)
        clients[0].reset()
        await until(lambda: served(front).queue.depth == 0)
        for client in clients[1:]:
            client.write(post())
        await until(lambda: served(front).queue.depth == 5)
        front.advance(0.5)
        await until(lambda: front.in_flight == 5)
        go.set()
        assert [(await client.reply()).status for client in clients[1:]] == [200] * 5


async def test_who_comes_back_goes_before_those_who_came_later_and_keeps_its_time() -> None:
    begun: list[str] = []

    async def engine(call: Call) -> None:
        if not busy.is_set():
            await full(call)
            return
        begun.append(msgspec.json.decode(call.body)["user"])
        await answer(call)

    busy = asyncio.Event()
    async with fleet(engine, terms=QUEUE) as (front, _), contextlib.AsyncExitStack() as stack:
        clients = {}
        for name in "abc":
            clients[name] = client = await stack.enter_async_context(await front.connect())
            client.write(post({"model": MODEL, "messages": [], "user": name}))
            await until(lambda: served(front).queue.depth == len(clients))
            await pass_time(front, 10)
        await pass_time(front, 31)
        assert (await clients["a"].reply()).error["code"] == "queue_timeout", (
            "60 s after it came, however often it was asked for"
        )
        busy.set()
        await pass_time(front, 0.5)
        assert [(await clients[name].reply()).status for name in "bc"] == [200, 200]
        assert begun == ["b", "c"]


async def test_while_one_replica_is_out_of_reach_the_others_are_not_asked_to_wait() -> None:
    async with engines(answer) as (engine,), router(nobody("a"), engine.sighting(), terms=QUEUE) as front:
        for _ in range(40):
            assert (await front.ask(post())).status == 200
        assert front.shared.metrics.retries["connect"] <= 1
        front.advance(CAP_SECONDS)
        assert (await front.ask(post())).status == 200
        assert served(front).queue.depth == 0


async def test_a_client_that_leaves_while_its_request_waits_again_leaves_nothing_behind() -> None:
    async with fleet(drain, terms=QUEUE) as (front, (engine,)), await front.connect() as client:
        client.write(post())
        await until(lambda: served(front).queue.depth == 1)
        client.reset()
        await until(lambda: front.counted(499, "client_gone") == 1)
        await pass_time(front, 2)
        assert (len(engine.calls), gauges(front)) == (1, (0, 0, 0))
