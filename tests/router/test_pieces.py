"""Bytes in any pieces, and bytes by chance: what a client sends decides what happens, not how it is cut; and whatever reaches
an engine is one request of the router's own making."""

import asyncio
import re
import socket
from collections.abc import Collection, Iterable, Iterator

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.router.harness import Router, router
from tests.router.test_smuggling import ALLOWED, LENGTH, REFUSED, raw
from tokenfleet.router.balancing.replicas import Sighting, State
from tokenfleet.router.wire.connection import ClientConnection
from tokenfleet.router.wire.peers import Peers
from tokenfleet.router.wire.upstream import Upstream

_ENGINE = Sighting("one", "one", "192.0.2.2", 8000, State.ROUTABLE)
_ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
_ID = re.compile(rb"x-request-id: [0-9a-f]{32}\r\n")
_SENT = re.compile(
    rb"POST (/[a-z0-9/]+) HTTP/1\.1\r\nhost: 192\.0\.2\.2:8000\r\n((?:[^:\r\n]+:[^\r\n\x00]*\r\n)*)"
    rb"x-request-id: [0-9a-f]{32}\r\ncontent-length: ([0-9]+)\r\n\r\n(.*)",
    re.DOTALL,
)
_OURS = re.compile(
    rb"(?im)^(?:host|connection|content[-_]length|transfer[-_]encoding|te|trailer|upgrade|expect|authorization|x[-_]api[-_]key|"
    rb"x[-_]request[-_]id|x[-_]forwarded[-_].*|x[-_]tokenfleet[-_].*|keep[-_]alive|proxy[-_]connection)[ \t]*:"
)


class Wire(asyncio.Transport):
    """One end of a connection, in memory: keeps what is written."""

    def __init__(self, raw: socket.socket) -> None:
        super().__init__({"peername": ("192.0.2.1", 1), "socket": raw})
        self.written = b""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def can_write_eof(self) -> bool:
        return False

    def close(self) -> None:
        """Nothing is left to be sent."""

    def abort(self) -> None:
        """As close."""

    def is_closing(self) -> bool:
        return False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """There is no buffer."""


def feed(front: Router, parts: Iterable[bytes]) -> tuple[bytes, list[bytes]]:
    """What a client gets that sends these parts, and what the engine gets, request by request; ids aside."""
    with socket.socket() as raw_socket:
        there, here = Wire(raw_socket), Wire(raw_socket)
        upstream = Upstream(front.replicas.all()[0], front.shared.upstreams)
        upstream.connection_made(there)
        front.shared.upstreams.keep(upstream)
        client = ClientConnection(front.shared, Peers())
        client.connection_made(here)
        sent = []
        for part in parts:
            client.data_received(part)
            while there.written:
                sent.append(there.written)
                there.written = b""
                upstream.data_received(_ANSWER)
        client.connection_lost(None)
        upstream.connection_lost(None)
    assert front.in_flight == 0
    return _ID.sub(b"", here.written), sent


def cut(data: bytes, cuts: Collection[int]) -> Iterator[bytes]:
    start = 0
    for end in sorted({at % len(data) for at in cuts} - {0}):
        yield data[start:end]
        start = end
    yield data[start:]


_CUTS = st.one_of(st.frozensets(st.integers(0, 400), max_size=6), st.just(range(20_000)))
_PLENTY = settings(max_examples=200, deadline=None)


@_PLENTY
@given(row=st.sampled_from(list(REFUSED.values())), cuts=_CUTS)
async def test_however_it_is_cut_what_is_refused_is_refused(row: tuple[bytes, int], cuts: Collection[int]) -> None:
    data, status = row
    async with router(_ENGINE) as front:
        got, sent = feed(front, cut(data, cuts))
        assert (got[:12], sent) == (b"HTTP/1.1 %d" % status, [])
        assert b"\r\nconnection: close\r\n" in got
        assert got.count(b"\r\ncontent-length: ") == 1


@_PLENTY
@given(row=st.sampled_from(list(ALLOWED.values())), cuts=_CUTS)
async def test_however_it_is_cut_what_passes_passes_once(row: tuple[bytes, bytes, int], cuts: Collection[int]) -> None:
    data, body, _ = row
    async with router(_ENGINE) as front:
        whole = feed(front, [data])
        got, sent = feed(front, cut(data, cuts))
        assert (got, [_ID.sub(b"", one) for one in sent]) == (whole[0], [_ID.sub(b"", one) for one in whole[1]])
        assert [one.partition(b"\r\n\r\n")[2] for one in sent] == [body]


_NAMES = (
    *(b"Host", b"hOST", b"Content-Length", b"content_length", b"Transfer-Encoding", b"Transfer_Encoding", b"Connection", b"TE"),
    *(b"Trailer", b"X-A", b"X-Forwarded-For", b"x_forwarded_", b"X-Tokenfleet-A", b"Authorization", b"X-Api-Key", b"Expect"),
    *(b"Upgrade", b"Keep-Alive", b"Proxy-Connection", b"X-Request-Id", b"Traceparent", b"Cookie", b"hosthost", b"x", b""),
)
_VALUES = (
    *(
        b"x",
        b"",
        b" ",
        b"16",
        b"17",
        b"5, 5",
        b"chunked",
        b"Chunked\t",
        b"identity",
        b"close",
        b"X-A",
        b"host, x",
        b"100-continue",
    ),
    *(
        b"Bearer a",
        b"a: b",
        b"host: y",
        b"content-length:5",
        b"\xff",
        b"\x0b",
        b"\r\n folded",
        b"a\nb: c",
        b"a\rb: c",
        b"a\x00",
    ),
)
_LINES = st.builds(
    lambda name, between, value: name + between + value,
    st.sampled_from(_NAMES),
    st.sampled_from((b": ", b":", b":\t ", b" : ", b"")),
    st.sampled_from(_VALUES),
)


@settings(max_examples=500, deadline=None)
@given(lines=st.lists(_LINES, max_size=6), at=st.integers(0, 500), odd=st.binary(max_size=2), cuts=_CUTS)
async def test_whatever_is_sent_an_engine_gets_requests_of_the_routers_own_making(
    lines: list[bytes], at: int, odd: bytes, cuts: Collection[int]
) -> None:
    data = raw(*lines, LENGTH)
    data = data[:at] + odd + data[at:]
    async with router(_ENGINE) as front:
        _, sent = feed(front, cut(data, cuts))
    for one in sent:
        match = _SENT.fullmatch(one)
        assert match is not None
        path, fields, length, body = match.groups()
        assert (path, int(length)) == (b"/v1/completions", len(body))
        assert not _OURS.search(fields)
    assert len(sent) <= 1
