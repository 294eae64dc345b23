"""Bodies in any pieces: the same payload, and the same end, wherever the bytes are split."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.router.harness import chunk
from tokenfleet.router.wire.framing import ChunkedBody, FramingError, LengthBody

_CUTS = st.lists(st.integers(1, 9), min_size=1, max_size=8)


def pieces(data: bytes, cuts: list[int]) -> Iterator[bytes]:
    at = turn = 0
    while at < len(data):
        size = cuts[turn % len(cuts)]
        yield data[at : at + size]
        at, turn = at + size, turn + 1


@given(parts=st.lists(st.binary(min_size=1, max_size=20), max_size=6), cuts=_CUTS)
def test_a_chunked_body_in_any_pieces(parts: list[bytes], cuts: list[int]) -> None:
    raw = b"".join(map(chunk, parts)) + b"0\r\n\r\n"
    body = ChunkedBody()
    got = []
    for piece in pieces(raw, cuts):
        assert not body.complete
        got.append(body.feed(piece))
    assert (b"".join(got), body.complete, body.excess) == (b"".join(parts), True, False)


@given(payload=st.binary(max_size=60), rest=st.binary(max_size=20), cuts=_CUTS)
def test_a_body_with_a_length_in_any_pieces(payload: bytes, rest: bytes, cuts: list[int]) -> None:
    body = LengthBody(len(payload))
    got, left = [], []
    for piece in pieces(payload + rest, cuts):
        if body.complete:
            left.append(piece)
            continue
        got.append(body.feed(piece))
        left.append(body.rest)
    assert (b"".join(got), b"".join(left), body.complete) == (payload, rest, True)


@pytest.mark.parametrize("rest", [b"GET / HTTP/1.1\r\n", b"5\r\nhello\r\n", b"0\r\n\r\n", b"\x00"])
def test_what_follows_a_chunked_body_is_noticed_and_is_not_payload(rest: bytes) -> None:
    body = ChunkedBody()
    assert body.feed(chunk(b"hello") + b"0\r\n\r\n" + rest) == b"hello"
    assert (body.complete, body.excess) == (True, True)


def test_an_error_before_the_end_is_one() -> None:
    body = ChunkedBody()
    body.feed(chunk(b"hello"))
    with pytest.raises(FramingError, match="chunk size"):
        body.feed(b"zz\r\n")
