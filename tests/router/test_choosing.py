"""Which engine gets a request, seen from the wire: affinity, engines' own counts, limits and ejection."""

import contextlib
from collections import Counter
from typing import Any

import pytest

from tests.router.harness import MODEL, Call, Engine, Router, answer, engines, fleet, post, router
from tokenfleet import contract
from tokenfleet.router.balancing.outliers import BASE_SECONDS, CONSECUTIVE
from tokenfleet.router.balancing.pauses import CAP_SECONDS
from tokenfleet.router.terms import QueueTerms, Terms

HELLO = {"role": "user", "content": "Hello!"}


def terms(policy: Any, **others: Any) -> Terms:
    return Terms(policy=policy, queue=QueueTerms(max_depth=0), **others)


async def busiest(front: Router, made: list[Engine], *requests: bytes) -> int:
    """How many of these, one after the other, the engine with most of them gets."""
    before = [len(engine.calls) for engine in made]
    for request in requests:
        assert (await front.ask(request)).status == 200
    return max(len(engine.calls) - count for engine, count in zip(made, before, strict=True))


@pytest.mark.parametrize(
    ("policy", "others", "request_headers", "stays"),
    [
        pytest.param("SessionAffinity", {}, "X-Session-Id: a1b2\r\n", True, id="a session"),
        pytest.param("SessionAffinity", {"session_header": "X-User"}, "x-user: bob\r\n", True, id="a header of one's own"),
        pytest.param("SessionAffinity", {}, "X-User: bob\r\n", False, id="without its header"),
        pytest.param("PrefixAffinity", {}, "", True, id="a conversation"),
        pytest.param("LeastConnections", {}, "X-Session-Id: a1b2\r\n", False, id="no affinity"),
    ],
)
async def test_what_belongs_together_goes_to_one_engine(
    policy: str, others: dict[str, Any], request_headers: str, stays: bool
) -> None:
    async with fleet(*[answer] * 4, terms=terms(policy, **others)) as (front, made):
        turns = [[HELLO, *[{"role": "assistant", "content": "Yes?"}, HELLO] * number] for number in range(8)]
        bodies = [{"model": MODEL, "messages": messages} for messages in turns]
        most = await busiest(front, made, *(post(body, headers=request_headers) for body in bodies))
        assert most == (8 if stays else 2)


async def test_conversations_are_spread() -> None:
    async with fleet(*[answer] * 4, terms=terms("PrefixAffinity")) as (front, made):
        bodies = [{"model": MODEL, "messages": [{"role": "user", "content": f"Question {number}"}]} for number in range(40)]
        assert await busiest(front, made, *map(post, bodies)) < 20


async def test_an_engines_own_count_is_taken_and_kept_from_the_client() -> None:
    async def crowded(call: Call) -> None:
        call.json({}, headers=f"{contract.HEADER_IN_FLIGHT}: 11\r\n")

    async with fleet(crowded) as (front, _):
        reply = await front.ask(post())
        assert contract.HEADER_IN_FLIGHT not in reply.headers
        assert front.replicas.all()[0].foreign.load == 2.0  # a fifth of the 10 that are not ours


async def test_a_crowded_engine_is_given_less() -> None:
    async def crowded(call: Call) -> None:
        call.json({}, headers=f"{contract.HEADER_IN_FLIGHT}: 11\r\n")

    async def alone(call: Call) -> None:
        call.json({}, headers=f"{contract.HEADER_IN_FLIGHT}: 1\r\n")

    async with fleet(crowded, alone) as (front, made):
        for _ in range(20):
            await front.ask(post())
        assert (len(made[0].calls), len(made[1].calls)) == (1, 19)


@pytest.mark.parametrize(
    ("status", "headers", "ejected"),
    [
        pytest.param(502, "", True, id="bad gateway"),
        pytest.param(504, "", True, id="gateway timeout"),
        pytest.param(503, "", True, id="a 503 of no engine of ours"),
        pytest.param(400, "", False, id="the client's fault"),
        pytest.param(429, "retry-after: 1\r\n", False, id="too many requests"),
        pytest.param(503, "retry-after: 1\r\n", False, id="a full engine"),
        pytest.param(503, f"{contract.HEADER_DRAINING}: true\r\n", False, id="a draining engine"),
        pytest.param(500, "", False, id="an error of the engine's own, perhaps the request's doing"),
    ],
)
async def test_which_answers_eject(status: int, headers: str, ejected: bool) -> None:
    async def failing(call: Call) -> None:
        call.json({}, status=status, headers=headers)

    async with fleet(failing, answer) as (front, made):
        for _ in range(2 * CONSECUTIVE):
            await front.ask(post())
            front.advance(CAP_SECONDS / 10)  # of a pause, not of an ejection
        assert [replica.ejected for replica in front.replicas.all()] == [ejected, False]
        got = len(made[0].calls)
        for _ in range(4):
            await front.ask(post())
            front.advance(CAP_SECONDS / 10)
        assert (len(made[0].calls) == got) is ejected


async def test_an_engine_that_cannot_be_reached_is_ejected_and_asked_again_later() -> None:
    async with engines(answer, answer) as made:
        port, made[0].port = made[0].port, 1
        async with router(*(engine.sighting() for engine in made)) as front:
            for _ in range(2 * CONSECUTIVE):
                assert (await front.ask(post())).status == 200
                front.advance(CAP_SECONDS / 5)
            assert front.shared.metrics.retries == Counter(connect=CONSECUTIVE)
            assert front.replicas.all()[0].ejected
            made[0].port = port
            front.replicas.observe([engine.sighting() for engine in made])
            front.advance(BASE_SECONDS)
            await front.ask(post())
            await front.ask(post())
            assert len(made[0].calls) == 1


async def test_streams_that_break_off_eject() -> None:
    async def breaking(call: Call) -> None:
        call.begin_stream()
        call.event()
        await call.writer.drain()
        call.reset()

    async with fleet(breaking, answer) as (front, _):
        for _ in range(2 * CONSECUTIVE):
            with contextlib.suppress(ConnectionError):
                await front.ask(post(stream=True))
            front.advance(CAP_SECONDS / 5)
        assert [replica.ejected for replica in front.replicas.all()] == [True, False]


async def test_beyond_the_limit_of_all_engines_a_request_is_refused() -> None:
    async def endless(call: Call) -> None:
        call.begin_stream()
        call.event()
        await call.gone()

    limited = terms("LeastConnections", max_in_flight=2)
    async with fleet(endless, endless, terms=limited) as (front, made), contextlib.AsyncExitStack() as held:
        for _ in range(4):
            client = await held.enter_async_context(await front.connect())
            client.write(post(stream=True))
            assert (await client.head())[0] == 200
        assert [len(engine.calls) for engine in made] == [2, 2]
        refused = await front.ask(post())
        assert (refused.status, refused.error["code"], refused.headers["retry-after"]) == (503, "queue_full", "5")
