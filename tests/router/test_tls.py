"""TLS on the front: which certificate a handshake gets, what becomes of a broken one, and of whoever does not shake hands."""

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.router.certificates import Pair, write
from tests.router.harness import DONE, Call, Client, Router, answer, fleet, get, post, until
from tokenfleet.router.wire.limits import Limits
from tokenfleet.router.wire.tls import Certificates

FIRST, SECOND = Pair("first"), Pair("second")


@pytest.fixture
def mounted(tmp_path: Path) -> Path:
    """A directory with a pair in it."""
    FIRST.mount(tmp_path)
    return tmp_path


def certificates(directory: Path) -> Certificates:
    made = Certificates(directory)
    made.load()
    return made


async def connect(front: Router, context: ssl.SSLContext, **options: object) -> Client:
    """A client that has shaken hands."""
    await until(lambda: front.server.listening)
    return Client(*await asyncio.open_connection("127.0.0.1", front.port, ssl=context, **options))  # type: ignore[arg-type]


@contextlib.asynccontextmanager
async def plain(front: Router) -> AsyncIterator[Client]:
    """A client that has not, and perhaps will not."""
    await until(lambda: front.server.listening)
    async with await front.connect() as client:
        yield client


def common_name(client: Client) -> str:
    peer = client.writer.get_extra_info("ssl_object").getpeercert()
    return str(dict(part[0] for part in peer["subject"])["commonName"])


async def test_a_request_and_a_stream_go_through_tls(mounted: Path) -> None:
    async with fleet(answer, certificates=certificates(mounted)) as (front, _):
        async with await connect(front, FIRST.client()) as client:
            session = client.writer.get_extra_info("ssl_object")
            assert session.version() in ("TLSv1.2", "TLSv1.3")
            for stream in (False, True, False):
                client.write(post(stream=stream))
                reply = await client.reply()
                assert (reply.status, reply.whole) == (200, True)
                assert not stream or reply.body.endswith(DONE)
        await until(lambda: not front.shared.clients)


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        pytest.param(["h2", "http/1.1"], "http/1.1", id="HTTP/2 and HTTP/1.1"),
        pytest.param(["h2"], None, id="HTTP/2 alone"),
    ],
)
async def test_http_1_1_is_what_is_spoken(mounted: Path, offered: list[str], chosen: str | None) -> None:
    context = FIRST.client()
    context.set_alpn_protocols(offered)
    async with fleet(answer, certificates=certificates(mounted)) as (front, _), await connect(front, context) as client:
        assert client.writer.get_extra_info("ssl_object").selected_alpn_protocol() == chosen


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
async def test_tls_before_1_2_is_refused(mounted: Path) -> None:
    context = FIRST.client()
    context.set_ciphers("ALL:@SECLEVEL=0")
    async with fleet(answer, certificates=certificates(mounted)) as (front, _):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
        (await connect(front, context)).reset()
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await connect(front, context)
        await until(lambda: not front.server.handshakes)


async def test_a_new_pair_is_for_new_connections_and_those_that_are_open_go_on(mounted: Path) -> None:
    go = asyncio.Event()

    async def slowly(call: Call) -> None:
        call.begin_stream()
        call.event()
        await go.wait()
        call.event()
        call.end_stream()

    async with fleet(slowly, certificates=(held := certificates(mounted))) as (front, _):
        async with await connect(front, FIRST.client()) as before:
            before.write(post(stream=True))
            await before.head()
            SECOND.mount(mounted)
            held.load()
            async with await connect(front, SECOND.client()) as after:
                assert (common_name(before), common_name(after)) == ("first", "second")
            go.set()
            assert DONE in await before.reader.readuntil(b"\r\n0\r\n\r\n")
        with pytest.raises(ssl.SSLCertVerificationError):
            await connect(front, FIRST.client())


@pytest.mark.parametrize(
    ("chain", "key", "why"),
    [
        pytest.param(SECOND.chain, FIRST.key, "the key is not the certificate's", id="another certificate's key"),
        pytest.param(b"hello", SECOND.key, "they are not a PEM certificate chain and its PEM key", id="no certificate"),
        pytest.param(SECOND.chain, b"", "they are not a PEM certificate chain and its PEM key", id="an empty key"),
        pytest.param(SECOND.chain, SECOND.locked, "the key is encrypted", id="a key with a passphrase"),
    ],
)
async def test_a_broken_new_pair_is_told_once_and_the_old_one_stays(
    mounted: Path, chain: bytes, key: bytes, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with fleet(answer, certificates=(held := certificates(mounted))) as (front, _):
        caplog.clear()
        write(mounted, chain=chain, key=key)
        for _ in range(3):
            held.load()
        (told,) = [message for message in caplog.messages if "certificate" in message]
        assert why in told
        assert "the one before stays in use" in told
        assert why in held.trouble
        async with await connect(front, FIRST.client()) as client:
            client.write(post())
            assert (await client.reply()).status == 200
        SECOND.mount(mounted)
        held.load()
        assert held.trouble == ""
        async with await connect(front, SECOND.client()):
            pass


async def test_a_pair_that_goes_away_stays_in_use(mounted: Path, caplog: pytest.LogCaptureFixture) -> None:
    held = certificates(mounted)
    context = held.context
    for name in ("tls.crt", "tls.key"):
        (mounted / name).unlink()
    held.load()
    assert held.context is context is not None
    assert f"{mounted / 'tls.crt'} is not there; the one before stays in use" in caplog.text


async def test_nobody_listens_until_there_is_a_pair(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with fleet(answer, certificates=(held := certificates(tmp_path))) as (front, _):
        assert held.context is None
        assert held.trouble == f"{tmp_path / 'tls.crt'} is not there"
        with pytest.raises(ConnectionRefusedError):
            await front.connect()
        write(tmp_path, chain=b"", key=FIRST.key)
        held.load()
        with pytest.raises(ConnectionRefusedError):
            await front.connect()
        FIRST.mount(tmp_path)
        held.load()
        async with await connect(front, FIRST.client()) as client:
            client.write(get("/v1/models"))
            assert (await client.reply()).status == 200
    assert "the traffic port stays closed until there is one" in caplog.text


async def test_a_router_that_never_had_a_certificate_leaves_all_the_same(tmp_path: Path) -> None:
    async with fleet(answer, certificates=certificates(tmp_path)) as (front, _):
        await front.server.leave(lame_duck_seconds=0, drain_seconds=1)


async def test_the_directory_is_looked_at_again_and_again(mounted: Path) -> None:
    held = Certificates(mounted)
    following = asyncio.create_task(held.follow(pause=0))
    try:
        await held.available()
        before = held.context
        SECOND.mount(mounted)
        await until(lambda: held.context is not before)
    finally:
        following.cancel()


async def test_plain_http_is_told_so_in_plain_http(mounted: Path) -> None:
    async with fleet(answer, certificates=certificates(mounted)) as (front, (engine,)), plain(front) as client:
        client.write(post())
        reply = await client.reply()
        assert (reply.status, reply.headers["connection"], reply.whole) == (400, "close", True)
        assert reply.error["message"] == "This port speaks TLS, and got something else. Use https://."
        assert await client.closed()
        assert (engine.connections, front.counted(400, "malformed_request")) == (0, 1)
        await until(lambda: not front.server.handshakes)


def hello(context: ssl.SSLContext) -> bytes:
    """The first message of a client's handshake."""
    outgoing = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="127.0.0.1")
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(lambda whole: b"", id="nothing"),
        pytest.param(lambda whole: whole[:1], id="one byte"),
        pytest.param(lambda whole: whole[: len(whole) // 2], id="half of its hello"),
        pytest.param(lambda whole: whole, id="its hello, and no answer to ours"),
    ],
)
async def test_a_handshake_that_does_not_end_is_ended(mounted: Path, sent: Callable[[bytes], bytes]) -> None:
    async with fleet(answer, certificates=certificates(mounted)) as (front, _), plain(front) as slow:
        slow.write(sent(hello(FIRST.client())))
        await until(lambda: front.server.handshakes)
        async with await connect(front, FIRST.client()) as client:  # Others are not held up.
            client.write(post())
            assert (await client.reply()).status == 200
        front.advance(9)
        assert front.server.handshakes == 1
        front.advance(2)
        with contextlib.suppress(ConnectionError):
            await slow.reader.read()
        await until(lambda: not front.server.handshakes and not front.shared.clients)


@pytest.mark.parametrize("sent", [b"", b"\x16", b"\x16\x03\x01\x00\x01\x00"], ids=["nothing", "one byte", "gibberish"])
async def test_whoever_leaves_in_the_middle_of_a_handshake_is_forgotten(mounted: Path, sent: bytes) -> None:
    async with fleet(answer, certificates=certificates(mounted)) as (front, _):
        waiting = front.shared.deadlines.waiting
        async with plain(front) as client:
            client.write(sent)
            await until(lambda: front.server.handshakes or sent.endswith(b"\x00"))
            client.reset()
            await until(lambda: not front.server.handshakes)
        assert front.shared.deadlines.waiting == waiting


async def test_a_peer_has_no_more_handshakes_under_way_than_connections(mounted: Path) -> None:
    limits = Limits(peer_connections=3)
    async with (
        fleet(answer, certificates=certificates(mounted), limits=limits) as (front, _),
        plain(front) as one,
        plain(front) as two,
        plain(front),
    ):
        await until(lambda: front.server.handshakes == 3)
        async with plain(front) as fourth:
            assert await fourth.closed()
        one.reset()
        two.reset()
        await until(lambda: front.server.handshakes == 1)
        async with await connect(front, FIRST.client()) as client:
            client.write(post())
            assert (await client.reply()).status == 200


async def test_a_connection_too_many_is_told_so_within_tls(mounted: Path) -> None:
    limits = Limits(peer_connections=2)
    async with (
        fleet(answer, certificates=certificates(mounted), limits=limits) as (front, _),
        await connect(front, FIRST.client()),
        await connect(front, FIRST.client()),
        await connect(front, FIRST.client()) as third,
    ):
        reply = await third.reply()
        assert (reply.status, reply.error["code"], reply.headers["connection"]) == (503, "too_many_connections", "close")


async def test_a_refused_request_gets_its_answer_and_the_connection_ends(mounted: Path) -> None:
    async with fleet(answer, certificates=certificates(mounted)) as (front, _), await connect(front, FIRST.client()) as client:
        client.write(b"BAD\r\n\r\n")
        reply = await client.reply()
        assert (reply.status, reply.whole) == (400, True)
        front.advance(3)
        assert await client.closed()


async def test_a_client_that_takes_nothing_is_given_up_within_tls_too(mounted: Path) -> None:
    async def flood(call: Call) -> None:
        call.begin_stream()
        while True:
            call.event(b"x" * 65_536)
            await call.writer.drain()

    async with (
        fleet(flood, certificates=certificates(mounted)) as (front, (engine,)),
        await connect(front, FIRST.client(), limit=1) as client,
    ):
        client.write(post(stream=True))
        await until(lambda: any(one.flow.write_paused for one in front.server.clients()))
        front.advance(61)
        await until(lambda: front.in_flight == 0 and engine.open == 0 and not front.shared.clients)
        assert front.counted(499, "client_stalled") == 1


async def test_small_writes_leave_at_once(mounted: Path) -> None:
    async with fleet(answer, certificates=certificates(mounted)) as (front, _), await connect(front, FIRST.client()) as client:
        client.write(post())
        await client.reply()
        (one,) = front.server.clients()
        raw = one.transport.get_extra_info("socket")
        assert raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert raw.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
