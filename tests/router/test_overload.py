"""More requests than there are places: who waits, who goes first, who is refused and how, through a real router."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Mapping
from hashlib import sha256
from random import Random

import msgspec
import pytest

from tests.router.harness import MODEL, Call, Client, Engine, Reply, Router, answer, fleet, get, post, router, until
from tokenfleet.router.balancing.replicas import State
from tokenfleet.router.callers.keys import Keyring, Priority
from tokenfleet.router.queue.shedding import Shedder
from tokenfleet.router.terms import QueueTerms, Shedding, Terms

ONE_AT_A_TIME = Terms(max_in_flight=1, queue=QueueTerms(max_depth=8, timeout_seconds=60))


class Gate:
    """An engine's script that answers when it is told to."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self._places = asyncio.Semaphore(0)

    async def __call__(self, call: Call) -> None:
        self.begun.append(msgspec.json.decode(call.body)["user"])
        await self._places.acquire()
        await answer(call)

    def let_through(self, count: int = 1) -> None:
        for _ in range(count):
            self._places.release()


def ask(user: str, *, key: str = "", stream: bool = False) -> bytes:
    headers = f"Authorization: Bearer {key}\r\n" if key else ""
    return post({"model": MODEL, "messages": [], "user": user, "stream": stream}, headers=headers)


def let_in(front: Router, keys: Mapping[str, Priority], **limits: int) -> None:
    """From now on each request needs one of these keys. limits: of some, in requests a minute."""
    front.shared.keyring = Keyring()
    front.shared.keyring.load({name: _entry(name, priority, limits.get(name)) for name, priority in keys.items()})


def _entry(key: str, priority: Priority, limit: int | None) -> bytes:
    digest = sha256(key.encode()).hexdigest()
    entry = {"sha256": digest, "lastFour": "abcd", "priority": priority.name.lower()}
    return msgspec.json.encode(entry | ({"requestsPerMinute": limit} if limit else {}))


class Crowd:
    """Clients, each with one request under way."""

    def __init__(self, front: Router) -> None:
        self.front = front
        self.queue = front.shared.catalog.models()[0].queue
        self.clients: dict[str, Client] = {}
        self.refused: list[str] = []
        """Whose answer came at once."""

    async def send(self, user: str, *, key: str = "") -> None:
        """Send a request; return once it waits, runs, or is refused."""
        before, ended = (self.queue.depth, self.front.in_flight), self.ended
        client = self.clients[user] = await self.front.connect()
        client.write(ask(user, key=key))
        await until(lambda: (self.queue.depth, self.front.in_flight) != before or self.ended > ended)
        if self.ended > ended:
            self.refused.append(user)

    async def reply(self, user: str) -> Reply:
        return await self.clients[user].reply()

    @property
    def ended(self) -> int:
        return self.front.shared.metrics.requests.total()


@contextlib.asynccontextmanager
async def crowd(gate: Gate, terms: Terms = ONE_AT_A_TIME) -> AsyncIterator[tuple[Crowd, Engine]]:
    async with fleet(gate, terms=terms) as (front, (engine,)), contextlib.AsyncExitStack() as closing:
        people = Crowd(front)
        yield people, engine
        for client in people.clients.values():
            await closing.enter_async_context(client)


def gauges(front: Router) -> tuple[int, int, int]:
    return front.in_flight, sum(model.queue.depth for model in front.shared.catalog.models()), front.shared.held_bytes


# --- Order


async def test_what_does_not_fit_waits_and_is_answered_in_the_order_of_its_arrival() -> None:
    gate = Gate()
    async with crowd(gate) as (people, _):
        for user in "abcd":
            await people.send(user)
        assert (people.front.in_flight, people.queue.depth) == (1, 3)
        gate.let_through(4)
        replies = [await people.reply(user) for user in "abcd"]
        assert [reply.status for reply in replies] == [200] * 4
        assert gate.begun == list("abcd")
        assert gauges(people.front) == (0, 0, 0)


async def test_several_places_are_filled_as_they_become_free() -> None:
    gate = Gate()
    async with crowd(gate, Terms(max_in_flight=3)) as (people, _):
        for user in "abcdef":
            await people.send(user)
        assert (people.front.in_flight, people.queue.depth) == (3, 3)
        gate.let_through(2)
        await until(lambda: len(gate.begun) == 5)
        assert (people.front.in_flight, people.queue.depth) == (3, 1)
        gate.let_through(4)
        for user in "abcdef":
            assert (await people.reply(user)).status == 200


async def test_higher_priority_goes_first_and_the_keys_of_one_priority_take_turns() -> None:
    gate = Gate()
    async with crowd(gate) as (people, _):
        keys = {"low": Priority.LOW, "ann": Priority.NORMAL, "bob": Priority.NORMAL, "top": Priority.HIGH}
        let_in(people.front, keys)
        await people.send("running", key="ann")
        for user in ("low-1", "ann-1", "ann-2", "ann-3", "bob-1", "top-1"):
            await people.send(user, key=user[:3])
        gate.let_through(7)
        for user in people.clients:
            assert (await people.reply(user)).status == 200
        assert gate.begun == ["running", "top-1", "ann-1", "bob-1", "ann-2", "ann-3", "low-1"]


async def test_a_newcomer_does_not_overtake_those_who_wait() -> None:
    gate = Gate()
    async with crowd(gate) as (people, _):
        await people.send("a")
        await people.send("b")
        gate.let_through()
        assert (await people.reply("a")).status == 200
        people.clients["a"].write(ask("c"))
        await until(lambda: people.queue.depth == 1)
        gate.let_through(2)
        assert (await people.reply("b")).status == 200
        assert (await people.reply("a")).status == 200
        assert gate.begun == ["a", "b", "c"]


# --- Leaving the queue


@pytest.mark.parametrize("goodbye", ["reset", "half-close"])
async def test_a_client_that_leaves_frees_its_place_and_nothing_is_sent_for_it(goodbye: str) -> None:
    gate = Gate()
    async with crowd(gate) as (people, engine):
        for user in "abc":
            await people.send(user)
        if goodbye == "reset":
            people.clients["b"].reset()
        else:
            people.clients["b"].writer.write_eof()
        await until(lambda: people.queue.depth == 1)
        assert people.front.counted(499, "client_gone") == 1
        gate.let_through(2)
        assert (await people.reply("a")).status == 200
        assert (await people.reply("c")).status == 200
        assert gate.begun == ["a", "c"]
        assert engine.connections == 1


async def test_whoever_waits_too_long_is_told_so_and_may_try_again_on_the_same_connection() -> None:
    gate = Gate()
    async with crowd(gate) as (people, _):
        await people.send("a")
        await people.send("b")
        people.front.advance(59)
        assert people.queue.depth == 1
        people.front.advance(1)
        reply = await people.reply("b")
        assert (reply.status, reply.error["code"], reply.error["type"]) == (503, "queue_timeout", "server_error")
        assert 1 <= int(reply.headers["retry-after"]) <= 60
        assert "connection" not in reply.headers
        people.clients["b"].write(ask("again"))
        await until(lambda: people.queue.depth == 1)
        gate.let_through(2)
        assert (await people.reply("b")).status == 200
        assert people.front.counted(503, "queue_timeout") == 1


async def test_those_who_are_sent_away_together_are_each_told_of_their_own_limits() -> None:
    gate = Gate()
    async with crowd(gate) as (people, _):
        let_in(people.front, {"ann": Priority.NORMAL, "bob": Priority.NORMAL}, ann=100, bob=200)
        await people.send("running", key="ann")
        for user in ("ann", "bob"):
            await people.send(user, key=user)
        people.front.advance(60)
        replies = [await people.reply(user) for user in ("ann", "bob")]
        assert [reply.error["code"] for reply in replies] == ["queue_timeout"] * 2
        assert [reply.headers["x-ratelimit-limit-requests"] for reply in replies] == ["100", "200"]
        gate.let_through()


# --- Too many


async def test_when_the_queue_is_full_the_next_is_refused_at_once() -> None:
    gate = Gate()
    async with crowd(gate, Terms(max_in_flight=1, queue=QueueTerms(max_depth=1))) as (people, _):
        for user in "abc":
            await people.send(user)
        reply = await people.reply("c")
        assert (reply.status, reply.error["code"], reply.headers["retry-after"]) == (503, "queue_full", "10")
        gate.let_through(2)
        assert (await people.reply("b")).status == 200


async def test_when_the_queue_is_full_a_higher_priority_takes_a_place_in_it() -> None:
    gate = Gate()
    async with crowd(gate, Terms(max_in_flight=1, queue=QueueTerms(max_depth=2))) as (people, _):
        let_in(people.front, {"low": Priority.LOW, "top": Priority.HIGH})
        for user in ("low-0", "low-1", "low-2", "top-1"):
            await people.send(user, key=user[:3])
        reply = await people.reply("low-2")
        assert (reply.status, reply.error["code"]) == (503, "queue_full")
        gate.let_through(3)
        for user in ("low-0", "low-1", "top-1"):
            assert (await people.reply(user)).status == 200
        assert gate.begun == ["low-0", "top-1", "low-1"]


async def test_shedding_rises_with_the_queue_and_takes_low_priority_first() -> None:
    gate = Gate()
    async with crowd(gate, Terms(max_in_flight=1, queue=QueueTerms(max_depth=100))) as (people, _):
        people.front.shared.shedder = Shedder(Random(7).random)
        let_in(people.front, {"low": Priority.LOW, "ann": Priority.NORMAL, "top": Priority.HIGH})
        for number in range(71):
            await people.send(f"ann-{number}", key="ann")
        assert (people.queue.depth, people.refused) == (70, [])
        for number in range(71, 131):
            await people.send(f"ann-{number}", key="ann")
        assert 85 < people.queue.depth < 100
        assert people.queue.depth + len(people.refused) == 130
        await people.send("low-1", key="low")
        await people.send("top-1", key="top")
        assert "low-1" in people.refused
        assert "top-1" not in people.refused
        replies = [await people.reply(user) for user in people.refused]
        assert {(reply.status, reply.error["code"]) for reply in replies} == {(503, "overloaded")}
        assert len({reply.headers["retry-after"] for reply in replies}) > 5
        gate.let_through(people.queue.depth + 1)
        await until(lambda: people.front.in_flight == 0)
        assert gate.begun[1] == "top-1"
        assert gauges(people.front) == (0, 0, 0)


async def test_slow_first_tokens_shed_where_there_is_a_target_for_them() -> None:
    async def stream(call: Call) -> None:
        call.begin_stream()
        call.event()
        call.end_stream()

    terms = Terms(shedding=Shedding(ttft_milliseconds=1000))
    async with fleet(stream, terms=terms) as (front, _), await front.connect() as client:
        client.write(post(stream=True))
        assert (await client.reply()).status == 200
        (model,) = front.shared.catalog.models()
        assert model.load.first_tokens.weight == 1
        for _ in range(100):
            model.load.first_token(5.0, target=1.0)
        client.write(post(stream=True))
        reply = await client.reply()
        assert (reply.status, reply.error["code"]) == (503, "overloaded")
        front.advance(10)
        client.write(post(stream=True))
        assert (await client.reply()).status == 200


# --- Models without replicas


async def test_a_model_scaled_to_zero_is_listed_and_its_requests_wait_for_a_replica() -> None:
    gate = Gate()
    async with fleet(gate, terms=ONE_AT_A_TIME) as (front, (engine,)), await front.connect() as client:
        front.replicas.observe([])
        listed = msgspec.json.decode((await front.ask(get("/v1/models"))).body)
        assert [model["id"] for model in listed["data"]] == [MODEL]
        (model,) = front.shared.catalog.models()
        client.write(ask("a"))
        await until(lambda: model.queue.depth == 1)
        front.advance(30)
        front.replicas.observe([engine.sighting(State.UNREADY)])
        assert model.queue.depth == 1
        front.replicas.observe([engine.sighting()])
        gate.let_through()
        assert (await client.reply()).status == 200
        assert gauges(front) == (0, 0, 0)


async def test_a_model_that_stays_at_zero_refuses_when_the_time_is_over() -> None:
    async with router(terms=ONE_AT_A_TIME) as front, await front.connect() as client:
        client.write(ask("a"))
        (model,) = front.shared.catalog.models()
        await until(lambda: model.queue.depth == 1)
        front.advance(60)
        reply = await client.reply()
        assert (reply.status, reply.error["code"]) == (503, "queue_timeout")
        assert int(reply.headers["retry-after"]) >= 1


async def test_a_model_that_is_served_no_more_lets_its_waiters_go() -> None:
    gate = Gate()
    async with crowd(gate) as (people, _):
        await people.send("a")
        await people.send("b")
        people.front.shared.catalog.replace([])
        reply = await people.reply("b")
        assert (reply.status, reply.error["code"]) == (404, "model_not_found")
        gate.let_through()
        assert (await people.reply("a")).status == 200


# --- Goodbyes


async def test_a_router_that_leaves_sends_those_who_wait_to_another_one_at_once() -> None:
    gate = Gate()
    async with crowd(gate) as (people, _):
        await people.send("a")
        await people.send("b")
        leaving = asyncio.create_task(people.front.server.leave(lame_duck_seconds=0.2, drain_seconds=30))
        reply = await people.reply("b")
        assert (reply.status, reply.error["code"]) == (503, "router_leaving")
        assert (reply.headers["retry-after"], reply.headers["connection"]) == ("1", "close")
        await people.send("late")
        assert (await people.reply("late")).error["code"] == "router_leaving"
        gate.let_through()
        reply = await people.reply("a")
        assert (reply.status, reply.headers["connection"]) == (200, "close")
        await asyncio.wait_for(leaving, 10)


async def test_random_aborts_leave_every_gauge_at_zero() -> None:
    chance = random.Random(11)

    async def engine(call: Call) -> None:
        if chance.random() < 0.1:
            call.reset()
            return
        for _ in range(chance.randrange(4)):
            await asyncio.sleep(0)
        await answer(call)

    terms = Terms(max_in_flight=2, queue=QueueTerms(max_depth=20))
    async with fleet(engine, engine, terms=terms) as (front, made):
        let_in(front, {"low": Priority.LOW, "ann": Priority.NORMAL, "top": Priority.HIGH})

        async def one(number: int) -> None:
            client = await front.connect()
            for _ in range(4):
                client.write(ask(str(number), key=chance.choice(("low", "ann", "top")), stream=chance.random() < 0.5))
                if chance.random() < 0.4:
                    for _ in range(chance.randrange(6)):
                        await asyncio.sleep(0)
                    client.reset()
                    return
                await client.reply()
            client.writer.close()

        async def tick() -> None:
            """Pauses pass only with time."""
            while True:
                for _ in range(20):
                    await asyncio.sleep(0)
                front.advance(0.25)

        for wave in range(10):
            ticking = asyncio.create_task(tick())
            await asyncio.gather(*(one(number) for number in range(60)))
            ticking.cancel()
            front.advance(chance.choice((0.3, 61.0)))
            await until(lambda: not front.shared.clients)
            assert gauges(front) == (0, 0, 0), f"after wave {wave}"
        assert sum(len(engine.calls) for engine in made) > 300
        assert front.counted(503, "queue_full") + front.counted(503, "overloaded") > 0
        assert all(sum(map(model.queue.waiting, Priority)) == 0 for model in front.shared.catalog.models())
