"""The durable queue's steps on a real Redis: each happens once, whoever else is at it, and nothing accepted is lost."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis

from tests.integration.redis_server import RedisServer
from tokenfleet.router.durable.requests import Claim, KeyReused, Outcome, QueueAway, QueueFull, State, Stored, Submission
from tokenfleet.router.durable.store import AsyncStore
from tokenfleet.router.terms import AsyncTerms

TERMS = AsyncTerms(enabled=True, visibility_seconds=1, max_tries=2, result_seconds=60, max_pending=100)
DONE = Outcome(State.SUCCEEDED, 200, "r-1", b'{"ok": true}')
_IDS = count()


def a_submission(**changes: object) -> Submission:
    one = Submission(
        id=f"async_{next(_IDS)}",
        owner="alice",
        model="llama",
        path=b"/v1/completions",
        headers=b"traceparent: 00\r\n",
        body=b'{"model": "llama"}',
        reserved=b"{}",
        once="",
        digest="d",
    )
    return msgspec.structs.replace(one, **changes)


@dataclass
class Fleet:
    """Routers on one Redis."""

    url: str
    stores: list[AsyncStore] = field(default_factory=list)

    def router(self, consumer: str, *, scope: str = "default/llama") -> AsyncStore:
        self.stores.append(AsyncStore(lambda: self.url, scope=scope, consumer=consumer))
        return self.stores[-1]


@pytest.fixture
async def fleet(redis_url: str) -> AsyncIterator[Fleet]:
    fleet = Fleet(redis_url)
    yield fleet
    for store in fleet.stores:
        await store.close()


async def taken(store: AsyncStore, terms: AsyncTerms = TERMS) -> Claim:
    """The next claim, as soon as there is one."""
    async with asyncio.timeout(10):
        while (claim := await store.take("llama", terms)) is None:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        return claim


async def seen(store: AsyncStore, id_: str) -> Stored:
    found = await store.find(id_, owner="alice")
    assert found is not None
    return found


async def ask(url: str, *words: str) -> Any:
    """What Redis itself says of one of the queue's keys."""
    kept = ("dead", "queue:llama")
    async with Redis.from_url(url) as redis:
        command: Any = redis.execute_command
        return await command(*(f"tokenfleet:{{default/llama}}:async:{word}" if word in kept else word for word in words))


async def test_a_request_goes_from_queued_to_its_result(fleet: Fleet) -> None:
    store = fleet.router("a")
    one = a_submission()
    receipt = await store.submit(one, TERMS)
    assert (receipt.id, receipt.state) == (one.id, State.QUEUED)
    assert receipt.expires - receipt.created == TERMS.result_seconds
    claim = await store.take("llama", TERMS)
    assert claim == Claim(one.id, 1, 1, "alice", one.path, one.headers, one.body, one.reserved)
    running = await seen(store, one.id)
    assert (running.state, running.ended, running.body) == (State.RUNNING, None, None)
    assert await store.finish(claim, DONE)
    ended = await seen(store, one.id)
    assert (ended.state, ended.status, ended.request_id, ended.body, ended.tries) == (State.SUCCEEDED, 200, "r-1", DONE.body, 1)
    assert ended.ended is not None and ended.started is not None
    assert receipt.created <= ended.started <= ended.ended < ended.expires
    assert await store.take("llama", TERMS) is None
    assert await store.sweep() == 0
    assert await store.pending(["llama", "unknown"]) == {"llama": 0, "unknown": 0}


async def test_what_was_accepted_is_handed_out_once_and_in_order_however_many_take(fleet: Fleet) -> None:
    routers = [fleet.router(name) for name in "abcd"]
    sent = [a_submission() for _ in range(40)]
    for one in sent:
        await routers[0].submit(one, TERMS)
    got = [claim async for claim in _all(routers)]
    assert sorted(got) == sorted(one.id for one in sent)
    await routers[0].submit(first := a_submission(), TERMS)
    await routers[0].submit(second := a_submission(), TERMS)
    assert [(await taken(routers[1])).id, (await taken(routers[2])).id] == [first.id, second.id]


async def _all(routers: list[AsyncStore]) -> AsyncIterator[str]:
    """All that there is, taken by all at once."""
    patient = msgspec.structs.replace(TERMS, visibility_seconds=60)
    while any(claims := await asyncio.gather(*(router.take("llama", patient) for router in routers))):
        for claim in claims:
            if claim is not None:
                yield claim.id


async def test_a_silent_routers_claim_goes_to_another_and_its_late_result_is_refused(fleet: Fleet) -> None:
    slow, other = fleet.router("slow"), fleet.router("other")
    await slow.submit(a_submission(), TERMS)
    lost = await taken(slow)
    assert await other.take("llama", TERMS) is None
    claim = await taken(other)
    assert (claim.id, claim.number, claim.tries) == (lost.id, 2, 2)
    assert not await slow.finish(lost, msgspec.structs.replace(DONE, body=b"late"))
    assert await slow.give_back(lost, TERMS, seconds=0, counts=True) is None
    assert await slow.beat([lost]) == {lost.id}
    assert await other.beat([claim]) == set()
    assert await other.finish(claim, DONE)
    assert not await slow.finish(lost, msgspec.structs.replace(DONE, body=b"later still"))
    assert await other.finish(claim, DONE), "the same once more, as after an answer that was lost"
    assert (await seen(other, lost.id)).body == DONE.body


async def test_two_claims_of_one_number_are_told_apart_by_their_routers(fleet: Fleet) -> None:
    """A Redis that lost its last moments may hand out the same number again."""
    holder, other = fleet.router("holder"), fleet.router("other")
    await holder.submit(a_submission(), TERMS)
    claim = await taken(holder)
    assert not await other.finish(claim, DONE)
    assert await holder.finish(claim, DONE)


async def test_a_claim_that_is_kept_alive_stays(fleet: Fleet) -> None:
    store, other = fleet.router("a"), fleet.router("b")
    await store.submit(a_submission(), TERMS)
    claim = await taken(store)
    for _ in range(8):
        await asyncio.sleep(0.25)
        assert await store.beat([claim]) == set()
        assert await other.take("llama", TERMS) is None
    assert await store.finish(claim, DONE)


async def test_a_request_whose_routers_die_ends_as_a_dead_letter_after_its_tries(fleet: Fleet) -> None:
    store = fleet.router("a")
    await store.submit(a_submission(), TERMS)
    quick = msgspec.structs.replace(TERMS, visibility_seconds=0)
    claims = [await taken(store, quick), await taken(store, quick)]
    assert await store.take("llama", quick) is None
    dead = await seen(store, claims[0].id)
    assert (dead.state, dead.tries, dead.code) == (State.DEAD, 2, "tries_exhausted")
    assert dead.message == "Given up after 2 tries. The last one: the router that ran it was lost."
    ((_, letter),) = await ask(fleet.url, "XRANGE", "dead", "-", "+")
    assert (letter[b"id"].decode(), letter[b"owner"], letter[b"reason"].decode()) == (dead.id, b"alice", dead.message)
    assert not await store.finish(claims[1], DONE)
    assert await store.sweep() == 0
    assert await store.pending(["llama", "unknown"]) == {"llama": 0, "unknown": 0}


async def test_a_request_that_fails_is_tried_again_after_its_wait_and_then_is_dead(fleet: Fleet) -> None:
    store = fleet.router("a")
    await store.submit(a_submission(), TERMS)
    claim = await taken(store)
    before = asyncio.get_running_loop().time()
    assert await store.give_back(claim, TERMS, seconds=0.3, failure="it broke.", counts=True) is State.QUEUED
    assert (await seen(store, claim.id)).state is State.QUEUED
    again = await taken(store)
    assert asyncio.get_running_loop().time() - before >= 0.29
    assert (again.id, again.tries) == (claim.id, 2)
    assert await store.give_back(again, TERMS, seconds=0, failure="it broke again.", counts=True) is State.DEAD
    assert (await seen(store, claim.id)).message == "Given up after 2 tries. The last one: it broke again."


async def test_a_request_that_found_no_place_keeps_its_tries(fleet: Fleet) -> None:
    store = fleet.router("a")
    await store.submit(one := a_submission(), TERMS)
    await store.submit(a_submission(), TERMS)
    for number in range(1, 6):
        claim = await taken(store)
        assert (claim.id, claim.number, claim.tries) == (one.id, number, 1), "it stays the first"
        assert await store.give_back(claim, TERMS, seconds=0, counts=False) is State.QUEUED
    assert (await seen(store, one.id)).tries == 0


@pytest.mark.parametrize("running", [pytest.param(False, id="queued"), pytest.param(True, id="running")])
async def test_what_is_cancelled_runs_no_more_and_answers_nothing(fleet: Fleet, running: bool) -> None:
    store = fleet.router("a")
    await store.submit(one := a_submission(), TERMS)
    claim = await taken(store) if running else None
    assert await store.cancel(one.id, owner="bob") is None
    assert await store.cancel(one.id, owner="alice") is (State.RUNNING if running else State.QUEUED)
    assert await store.cancel(one.id, owner="alice") is State.CANCELLED
    if claim is not None:
        assert await store.beat([claim]) == {one.id}
        assert not await store.finish(claim, DONE)
        assert await store.give_back(claim, TERMS, seconds=0, counts=True) is None
    assert await store.take("llama", msgspec.structs.replace(TERMS, visibility_seconds=0)) is None
    assert (await seen(store, one.id)).state is State.CANCELLED
    assert await store.pending(["llama"]) == {"llama": 0}


async def test_of_a_cancel_and_a_result_at_once_one_wins(fleet: Fleet) -> None:
    store, other = fleet.router("a"), fleet.router("b")
    for _ in range(30):
        await store.submit(one := a_submission(), TERMS)
        claim = await taken(store)
        stored, before = await asyncio.gather(store.finish(claim, DONE), other.cancel(one.id, owner="alice"))
        ended = (await seen(store, one.id)).state
        assert (stored, before, ended) in (
            (True, State.SUCCEEDED, State.SUCCEEDED),
            (False, State.RUNNING, State.CANCELLED),
        )


async def test_parallel_submissions_under_one_idempotency_key_are_one_request(fleet: Fleet) -> None:
    routers = [fleet.router(name) for name in "abcd"]
    receipts = await asyncio.gather(*(router.submit(a_submission(once="k"), TERMS) for router in routers for _ in range(5)))
    assert len({receipt.id for receipt in receipts}) == 1
    claim = await taken(routers[0])
    assert await routers[1].take("llama", TERMS) is None
    assert await routers[0].finish(claim, DONE)
    assert (await routers[2].submit(a_submission(once="k"), TERMS)).state is State.SUCCEEDED
    with pytest.raises(KeyReused):
        await routers[3].submit(a_submission(once="k", digest="other"), TERMS)
    assert (await routers[3].submit(a_submission(once="l", digest="other"), TERMS)).id != claim.id


async def test_results_and_idempotency_keys_expire(fleet: Fleet) -> None:
    store = fleet.router("a")
    brief = msgspec.structs.replace(TERMS, result_seconds=1)
    receipt = await store.submit(a_submission(once="k"), brief)
    claim = await taken(store, brief)
    assert await store.finish(claim, DONE)
    async with asyncio.timeout(10):
        while await store.find(receipt.id, owner="alice") is not None:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert (await store.submit(a_submission(once="k"), brief)).id != receipt.id


async def test_what_has_not_ended_when_its_time_is_over_is_a_dead_letter(fleet: Fleet) -> None:
    store = fleet.router("a")
    brief = msgspec.structs.replace(TERMS, result_seconds=1)
    receipts = [await store.submit(a_submission(), brief) for _ in range(2)]
    claim = await taken(store)
    assert (await store.sweep(), await store.pending(["llama"])) == (0, {"llama": 2})
    async with asyncio.timeout(10):
        late = 0
        while (late := late + await store.sweep()) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert [(await seen(store, one.id)).code for one in receipts] == ["expired", "expired"]
    assert await store.beat([claim]) == {claim.id}
    assert await store.take("llama", TERMS) is None


async def test_no_more_are_pending_than_may_be(fleet: Fleet) -> None:
    store = fleet.router("a")
    small = msgspec.structs.replace(TERMS, max_pending=2)
    await store.submit(a_submission(), small)
    await store.submit(repeated := a_submission(once="k"), small)
    with pytest.raises(QueueFull):
        await store.submit(a_submission(), small)
    assert (await store.submit(repeated, small)).id == repeated.id, "what is stored is not stored again"
    assert await store.finish(await taken(store), DONE)
    await store.submit(a_submission(), small)


async def test_models_owners_and_routers_are_kept_apart(fleet: Fleet) -> None:
    store, stranger = fleet.router("a"), fleet.router("a", scope="default/other")
    await store.submit(one := a_submission(), TERMS)
    assert await store.take("other-model", TERMS) is None
    assert await stranger.take("llama", TERMS) is None
    assert await stranger.find(one.id, owner="alice") is None
    assert await store.find(one.id, owner="bob") is None
    assert await store.find("async_unknown", owner="alice") is None
    assert (await taken(store)).id == one.id


async def test_a_killed_redis_that_comes_back_has_all_that_it_accepted(fleet: Fleet, redis_server: RedisServer) -> None:
    store = fleet.router("a")
    accepted = [(await store.submit(a_submission(), TERMS)).id for _ in range(20)]
    claim = await taken(store)
    redis_server.kill()
    with pytest.raises(QueueAway):
        await store.submit(a_submission(), TERMS)
    with pytest.raises(QueueAway):
        await store.finish(claim, DONE)
    redis_server.start()
    assert await store.finish(claim, DONE)
    rest = [(await taken(store, msgspec.structs.replace(TERMS, visibility_seconds=60))).id for _ in range(19)]
    assert [claim.id, *rest] == accepted


async def test_a_full_redis_takes_results_but_no_new_requests(fleet: Fleet, redis_server: RedisServer) -> None:
    store = fleet.router("a")
    for _ in range(3):
        await store.submit(a_submission(), TERMS)
    claims = [await taken(store) for _ in range(2)]
    redis_server.command("CONFIG", "SET", "maxmemory", "1")
    try:
        with pytest.raises(QueueAway, match="maxmemory"):
            await store.submit(a_submission(), TERMS)
        assert await store.beat(claims) == set()
        assert await store.finish(claims[0], DONE)
        assert await store.give_back(claims[1], TERMS, seconds=0, counts=True, failure="x") is State.QUEUED
        assert (await taken(store)).id == claims[1].id
        assert (await taken(store)).tries == 1
        assert await store.cancel(claims[1].id, owner="alice") is State.RUNNING
    finally:
        redis_server.command("CONFIG", "SET", "maxmemory", "0")
    assert await store.pending(["llama"]) == {"llama": 1}


async def test_a_redis_that_would_lose_what_it_accepted_is_told_of(fleet: Fleet, redis_server: RedisServer) -> None:
    store = fleet.router("a")
    assert await store.doubts() == []
    redis_server.command("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    redis_server.command("CONFIG", "SET", "maxmemory", "1gb")
    try:
        (doubt,) = await store.doubts()
        assert "set maxmemory-policy noeviction" in doubt
    finally:
        redis_server.command("CONFIG", "SET", "maxmemory", "0")
        redis_server.command("CONFIG", "SET", "maxmemory-policy", "noeviction")


async def test_routers_that_are_long_gone_are_forgotten_but_never_what_they_hold(fleet: Fleet) -> None:
    store, gone = fleet.router("a"), fleet.router("gone")
    await gone.submit(a_submission(), TERMS)
    await gone.submit(a_submission(), TERMS)
    assert await gone.finish(await taken(gone), DONE)
    held = await taken(store)
    await store.forget_consumers("llama")
    assert await _consumers(fleet.url) == {"a", "gone"}
    await asyncio.sleep(0.01)
    await store.forget_consumers("llama", silent_ms=1)
    assert await _consumers(fleet.url) == {"a"}
    assert await store.finish(held, DONE)
    await store.forget_consumers("unknown-model")


async def _consumers(url: str) -> set[str]:
    return {row[b"name"].decode() for row in await ask(url, "XINFO", "CONSUMERS", "queue:llama", "routers")}
