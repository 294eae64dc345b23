"""Replicas that fail: who is asked next while the client has seen nothing, and what the client sees after that."""

import asyncio

import msgspec
import pytest

from tests.router.harness import DONE, EVENT, Call, Script, answer, chunk, engines, fleet, post, router, until
from tokenfleet.router.balancing.pauses import CAP_SECONDS
from tokenfleet.router.balancing.replicas import Sighting, State
from tokenfleet.router.terms import QueueTerms, Terms
from tokenfleet.router.wire.limits import Limits


async def die(call: Call) -> None:
    """Before a byte of an answer."""
    call.reset()


async def die_after_the_head(call: Call) -> None:
    call.begin_stream()
    await call.writer.drain()
    call.reset()


async def drain(call: Call) -> None:
    call.json({}, status=503, headers="X-Tokenfleet-Draining: 1\r\nRetry-After: 1\r\n")


def nobody(name: str) -> Sighting:
    """A replica where nothing listens."""
    return Sighting(key=name, name=name, host="127.0.0.1", port=1, state=State.ROUTABLE)


@pytest.mark.parametrize("script", [die, die_after_the_head, drain])
async def test_another_replica_answers_while_the_client_has_seen_nothing(script: object) -> None:
    assert callable(script)
    async with fleet(script, answer) as (front, made):
        for _ in range(4):
            reply = await front.ask(post(stream=True))
            assert (reply.status, reply.body, reply.whole) == (200, EVENT * 3 + DONE, True)
            front.advance(CAP_SECONDS)
        assert [len(engine.calls) for engine in made] == [2, 4]
        assert front.in_flight == 0
        assert front.counted(200, "relayed") == 4


async def test_a_replica_that_cannot_be_reached_is_passed_over() -> None:
    async with engines(answer) as (engine,), router(nobody("a"), nobody("b"), engine.sighting()) as front:
        for _ in range(6):
            assert (await front.ask(post())).status == 200
        assert front.shared.metrics.retries["connect"] > 0
        assert front.in_flight == 0


async def test_with_every_replica_out_of_reach_the_client_gets_503_and_their_names() -> None:
    async with router(nobody("a"), nobody("b")) as front, await front.connect() as client:
        client.write(post())
        reply = await client.reply()
        assert (reply.status, reply.error["code"]) == (503, "replicas_unreachable")
        assert sorted(str(reply.error["message"]).split("tried: ")[1].removesuffix(").").split(", ")) == ["a", "b"]
        assert "retry-after" in reply.headers
        assert front.in_flight == 0


async def test_with_every_replica_draining_the_client_gets_503_and_retry_after() -> None:
    async with fleet(drain, drain) as (front, made):
        reply = await front.ask(post())
        assert (reply.status, reply.error["code"], reply.headers["retry-after"]) == (503, "all_replicas_draining", "5")
        assert [len(engine.calls) for engine in made] == [1, 1]
        assert "X-Tokenfleet-Draining" not in reply.headers


@pytest.mark.parametrize("script", [die, die_after_the_head, drain])
async def test_what_one_request_has_found_out_the_next_ones_need_not(script: Script) -> None:
    async with fleet(script, answer) as (front, made):
        for _ in range(20):
            assert (await front.ask(post(stream=True))).status == 200
        assert [len(engine.calls) for engine in made] == [1, 20]


async def full(call: Call) -> None:
    """As our own engine's admission says that it takes no more."""
    call.json({"error": {"message": "full"}}, status=503, headers="retry-after: 7\r\n")


async def test_a_full_engine_is_passed_over_and_counts_as_load_and_not_as_a_failure() -> None:
    async with fleet(full, answer) as (front, made):
        for _ in range(12):
            assert (await front.ask(post())).status == 200
            front.advance(CAP_SECONDS)
        assert [len(engine.calls) for engine in made] == [6, 12]
        assert front.shared.metrics.retries == {"full": 6}
        assert not front.replicas.ejections and not any(replica.ejected for replica in front.replicas.all())
        assert front.in_flight == 0


async def test_with_every_engine_full_the_client_gets_the_last_ones_answer_and_its_retry_after() -> None:
    async with fleet(full, full) as (front, made):
        for _ in range(4):
            reply = await front.ask(post())
            assert (reply.status, reply.error["message"], reply.headers["retry-after"]) == (503, "full", "7")
        assert [len(engine.calls) for engine in made] == [4, 4]
        assert not front.replicas.ejections
        assert front.counted(503, "relayed") == 4


async def test_a_full_engine_is_not_left_for_one_that_has_all_that_it_may() -> None:
    async def hold(call: Call) -> None:
        call.begin_stream()
        call.event()
        await call.gone()

    limited = Terms(max_in_flight=1, queue=QueueTerms(max_depth=0))
    async with fleet(full, hold, terms=limited) as (front, made), await front.connect() as client:
        client.write(post(stream=True))
        assert (await client.head())[0] == 200
        reply = await front.ask(post())
        assert (reply.status, reply.headers["retry-after"]) == (503, "7")
        assert [len(engine.calls) for engine in made] == [1, 1]


async def test_a_request_that_kills_replicas_is_not_given_to_all_of_them() -> None:
    async with fleet(*[die] * 6) as (front, made):
        reply = await front.ask(post())
        assert (reply.status, reply.error["code"]) == (502, "upstream_lost")
        assert sum(len(engine.calls) for engine in made) == 3
        assert front.in_flight == 0


async def engine_dead(call: Call) -> None:
    """As vLLM's server answers once the process that computes is gone, and before it ends itself."""
    message = "EngineCore encountered an issue. See stack trace (above) for the root cause."
    call.json({"error": {"message": message, "type": "InternalServerError", "param": None, "code": 500}}, status=500)


@pytest.mark.parametrize("stream", [True, False])
async def test_what_a_server_without_its_engine_cannot_answer_another_replica_does(stream: bool) -> None:
    async with fleet(engine_dead, answer) as (front, made):
        for _ in range(4):
            assert (await front.ask(post(stream=stream))).status == 200
        assert [len(engine.calls) for engine in made] == [1, 4]
        assert front.shared.metrics.retries == {"lost": 1}
        assert front.in_flight == 0


async def test_a_request_that_ends_all_engines_gets_the_last_ones_answer() -> None:
    async with fleet(*[engine_dead] * 6) as (front, made):
        reply = await front.ask(post())
        assert (reply.status, str(reply.error["message"])[:10]) == (500, "EngineCore")
        assert sum(len(engine.calls) for engine in made) == 3


async def test_a_stale_connection_is_replaced_by_a_fresh_one_to_the_same_replica() -> None:
    async def once_a_connection(call: Call) -> None:
        if call.writer in seen:
            call.reset()
        else:
            seen.append(call.writer)
            await answer(call)

    seen: list[asyncio.StreamWriter] = []
    async with fleet(once_a_connection) as (front, (engine,)):
        for _ in range(3):
            assert (await front.ask(post())).status == 200
        assert (engine.connections, len(engine.calls)) == (3, 5)
        assert front.shared.metrics.retries["stale_connection"] == 2


async def test_a_connection_that_ended_while_spare_is_not_used() -> None:
    async def once(call: Call) -> None:
        await answer(call)
        await call.writer.drain()
        call.writer.close()

    async with fleet(once) as (front, (engine,)):
        for _ in range(3):
            assert (await front.ask(post())).status == 200
            await until(lambda: front.shared.upstreams.idle_total() == 0)
        assert (len(engine.calls), front.shared.metrics.retries.total()) == (3, 0)


async def test_a_spare_connection_is_closed_before_the_replica_would() -> None:
    async with fleet(answer) as (front, (engine,)):
        await front.ask(post())
        assert front.shared.upstreams.idle_total() == 1
        front.advance(4.5)
        await until(lambda: engine.open == 0)
        assert front.shared.upstreams.idle_total() == 0


async def test_a_replica_that_talks_out_of_turn_loses_its_connection() -> None:
    async def chatter(call: Call) -> None:
        await answer(call)
        await call.writer.drain()
        call.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

    async with fleet(chatter) as (front, (engine,)):
        for _ in range(3):
            reply = await front.ask(post())
            assert msgspec.json.decode(reply.body)["ok"] is True
            await until(lambda: front.shared.upstreams.idle_total() == 0)
        assert engine.connections == 3


async def test_a_stream_that_is_cut_ends_with_an_error_event_and_does_not_look_whole() -> None:
    async def cut(call: Call) -> None:
        call.begin_stream()
        call.event()
        call.write(chunk(EVENT)[:20])
        await call.writer.drain()
        call.reset()

    async with fleet(cut, answer) as (front, made):
        front.replicas.observe([made[0].sighting()])
        reply = await front.ask(post(stream=True))
        assert (reply.status, reply.whole) == (200, False)
        assert b"[DONE]" not in reply.body
        last = reply.body.split(b"\n\n")[-2]
        assert msgspec.json.decode(last.removeprefix(b"data: "))["error"]["code"] == "upstream_lost"
        assert front.counted(200, "truncated") == 1
        assert (front.in_flight, len(made[1].calls)) == (0, 0)


async def test_a_stream_that_ends_too_early_without_a_fault_is_cut_too() -> None:
    async def stop(call: Call) -> None:
        call.begin_stream()
        call.event()
        await call.writer.drain()
        call.writer.close()

    async with fleet(stop) as (front, _):
        reply = await front.ask(post(stream=True))
        assert (reply.whole, b"upstream_lost" in reply.body) == (False, True)


async def test_an_answer_with_a_length_that_is_cut_breaks_the_clients_connection() -> None:
    async def cut(call: Call) -> None:
        call.write(b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{"half":')
        await call.writer.drain()
        call.writer.close()

    async with fleet(cut) as (front, _):
        reply = await front.ask(post())
        assert (reply.status, reply.whole) == (200, False)
        assert b"error" not in reply.body


async def test_an_http_1_0_client_can_tell_a_cut_stream_by_its_error_event() -> None:
    async def cut(call: Call) -> None:
        call.begin_stream()
        call.event()
        await call.writer.drain()
        call.reset()

    async with fleet(cut) as (front, _):
        reply = await front.ask(post(stream=True, version="1.0"))
        assert reply.body.startswith(EVENT + b"\n\ndata: ")
        assert b"[DONE]" not in reply.body


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        pytest.param(b"SSH-2.0-OpenSSH\r\n\r\n", "its head is not HTTP/1.1", id="not HTTP"),
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\nbody", "neither Content-Length nor chunks", id="no framing"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n", "ambiguous", id="two framings"
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n", "content-length twice", id="two lengths"
        ),
        pytest.param(b"HTTP/1.1 200 OK\r\nx: y\r\n folded\r\n\r\n", "its head is not HTTP/1.1", id="a folded header"),
        pytest.param(b"HTTP/1.1 101 Switching\r\n\r\n", "it switches protocols", id="another protocol"),
        pytest.param(b"HTTP/1.1 200 OK\r\nx: " + b"y" * 40_000, "its head is too large", id="a head of 40 KB"),
        pytest.param(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", "chunk size", id="no chunks"),
    ],
)
async def test_an_answer_that_is_not_http_becomes_502(raw: bytes, why: str) -> None:
    async def babble(call: Call) -> None:
        call.write(raw)

    async with fleet(babble) as (front, (engine,)):
        reply = await front.ask(post())
        assert (reply.status, reply.error["code"]) == (502, "upstream_invalid")
        assert why in str(reply.error["message"])
        await until(lambda: engine.open == 0)
        assert front.in_flight == 0


async def test_a_replica_that_says_nothing_for_too_long_becomes_504() -> None:
    async def silence(call: Call) -> None:
        await call.gone()

    limits = Limits(first_byte_seconds=30, silence_seconds=30)
    async with fleet(silence, limits=limits) as (front, (engine,)), await front.connect() as client:
        client.write(post())
        await until(lambda: engine.calls)
        front.advance(29)
        front.advance(2)
        reply = await client.reply()
        assert (reply.status, reply.error["message"]) == (504, "The model's replica sent nothing for 30 s.")
        await until(lambda: engine.open == 0)
        assert front.in_flight == 0


async def test_a_stream_that_stalls_in_the_middle_is_cut() -> None:
    async def stall(call: Call) -> None:
        call.begin_stream()
        call.event()
        await call.gone()

    async with fleet(stall) as (front, (engine,)), await front.connect() as client:
        client.write(post(stream=True))
        await client.head()
        front.advance(601)
        rest = await client.reader.read()
        assert b"sent nothing" not in rest, "what clients learn does not name our limits"
        assert b"upstream_lost" in rest
        await until(lambda: engine.open == 0)


async def test_a_replica_that_is_gone_from_the_api_finishes_its_stream_and_gets_nothing_new() -> None:
    go = asyncio.Event()

    async def slowly(call: Call) -> None:
        call.begin_stream()
        call.event()
        await go.wait()
        call.end_stream()

    async with fleet(slowly, answer) as (front, (old, new)), await front.connect() as client:
        front.replicas.observe([old.sighting()])
        client.write(post(stream=True))
        await client.head()
        for sightings in ([old.sighting(State.DRAINING), new.sighting()], [new.sighting()]):
            front.replicas.observe(sightings)
            assert (await front.ask(post())).status == 200
            assert len(old.calls) == 1
            assert front.in_flight == 1
        go.set()
        assert (await client.reader.readuntil(b"\r\n0\r\n\r\n")).endswith(chunk(DONE) + b"0\r\n\r\n")
        await until(lambda: front.in_flight == 0)
        assert [replica.name for replica in front.replicas.all()] == [new.name]
