"""Connections per peer: counted exactly whatever way they end, and one too many is told so."""

import asyncio
import contextlib
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.router.harness import Call, Client, Router, answer, fleet, get, post, until
from tokenfleet.router.wire.limits import Limits
from tokenfleet.router.wire.peers import Peers


@given(moves=st.lists(st.tuples(st.sampled_from(["10.0.0.1", "10.0.0.2", "fd00::1"]), st.booleans()), max_size=60))
def test_no_order_of_coming_and_going_miscounts(moves: list[tuple[str, bool]]) -> None:
    peers, expected = Peers(), Counter[str]()
    for address, comes in moves:
        if comes:
            entered = peers.enter(address, most=3)
            assert (entered is None) == (expected[address] == 3)
            expected[address] += entered is not None
        elif expected[address]:
            peers.leave(address)
            expected[address] -= 1
        assert {one: peers.of(one) for one in expected} == expected
    for address in expected.elements():
        peers.leave(address)
    assert len(peers) == 0


@pytest.mark.parametrize(
    ("address", "peer"),
    [
        pytest.param("192.0.2.1", "192.0.2.1", id="IPv4"),
        pytest.param("::ffff:192.0.2.1", "192.0.2.1", id="IPv4 that came to an IPv6 socket"),
        pytest.param("2001:db8::1", "2001:db8::1", id="IPv6"),
        pytest.param("fe80::1%eth0", "fe80::1%eth0", id="IPv6 with its interface"),
        pytest.param("::ffff:0:1", "::ffff:0:1", id="IPv6 that only looks like it"),
    ],
)
def test_an_address_is_the_same_peer_on_either_socket(address: str, peer: str) -> None:
    assert Peers().enter(address, most=1) == peer


async def test_a_connection_too_many_gets_503_and_is_closed_and_the_others_go_on() -> None:
    async with (
        fleet(answer, limits=Limits(peer_connections=2)) as (front, (engine,)),
        await front.connect() as first,
        await front.connect() as second,
    ):
        await until(lambda: front.server.peers.of("127.0.0.1") == 2)
        async with await front.connect() as third:
            third.write(post())
            reply = await third.reply()
            assert (reply.status, reply.headers["connection"], reply.whole) == (503, "close", True)
            assert (reply.error["code"], int(reply.headers["retry-after"]) > 0) == ("too_many_connections", True)
            assert engine.calls == []
            assert front.counted(503, "too_many_connections") == 1
            for client in (first, second):
                client.write(post())
                assert (await client.reply()).status == 200
            front.advance(3)
            assert await third.closed()
        assert front.server.peers.of("127.0.0.1") == 2
        first.reset()
        await until(lambda: front.server.peers.of("127.0.0.1") == 1)
        assert (await front.ask(post())).status == 200


async def test_a_lowered_limit_is_for_new_connections() -> None:
    async with fleet(answer) as (front, _), await front.connect() as client:
        client.write(get("/v1/models"))
        assert (await client.reply()).status == 200
        front.shared.limits = Limits(peer_connections=1)
        assert (await front.ask(post())).status == 503
        client.write(get("/v1/models"))
        assert (await client.reply()).status == 200


async def test_whichever_way_connections_end_none_stays_counted() -> None:
    chance = random.Random(5)

    async def moody(call: Call) -> None:
        if chance.random() < 0.3:
            call.reset()
        else:
            await answer(call)

    async with fleet(moody, moody, limits=Limits(peer_connections=4)) as (front, _):
        await asyncio.gather(*(_visitor(front, chance) for _ in range(12)))
        front.advance(100)
        front.advance(100)
        await until(lambda: not front.shared.clients)
        assert len(front.server.peers) == 0
        assert front.counted(503, "too_many_connections") > 0


async def _visitor(front: Router, chance: random.Random) -> None:
    for _ in range(30):
        async with await front.connect() as client:
            sent = chance.choice((post(), post(stream=True), b"BAD\r\n\r\n", post()[:30], b""))
            client.write(sent)
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                await _leave(client, chance, waits=len(sent) > 30 or sent.startswith(b"BAD"))


async def _leave(client: Client, chance: random.Random, *, waits: bool) -> None:
    way = chance.randrange(4)
    if way == 0:
        client.reset()
    elif way == 1:
        client.writer.write_eof()
    elif waits:
        await client.reply()
