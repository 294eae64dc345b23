"""The access log: what a line says, who has one, and that a pipe that nobody reads holds nothing up."""

import asyncio
import os
from pathlib import Path
from typing import Literal

import msgspec
import pytest

from tests.router.harness import Call, answer, fleet, post, router, until
from tests.router.records import record
from tokenfleet.router.reporting.access_log import AccessLog
from tokenfleet.router.reporting.journal import Journal
from tokenfleet.router.reporting.outlet import Outlet
from tokenfleet.router.reporting.setup import Reporting
from tokenfleet.router.terms import Terms
from tokenfleet.router.wire.deadlines import NEVER, Deadlines


class Sink:
    """An outlet that takes as many bytes as it is told to."""

    def __init__(self, room: int = 1 << 20) -> None:
        self.room = room
        self.data = b""
        self.puts = 0

    def put(self, data: bytes) -> bool:
        if len(data) > self.room:
            return False
        self.room -= len(data)
        self.data += data
        self.puts += 1
        return True

    def lines(self) -> list[dict[str, object]]:
        return [msgspec.json.decode(line) for line in self.data.splitlines()]


def access_log(sink: Sink, *, wanted: str = "All") -> tuple[AccessLog, Deadlines]:
    wheel = Deadlines(lambda: 0.0)
    return AccessLog(sink, wheel, wanted=lambda: wanted, clock=lambda: 1_790_000_000.0625), wheel


def test_a_line_says_who_asked_for_what_and_what_came_of_it() -> None:
    sink = Sink()
    log, wheel = access_log(sink)
    log.ended(record(traceparent=b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", queued=0.5, tries=2))
    wheel.sweep()
    assert sink.lines() == [
        {
            "time": "2026-09-21T14:13:20.062000Z",
            "request_id": "00000000000000010000000000000002",
            "code": 200,
            "reason": "relayed",
            "path": "/v1/chat/completions",
            "model": "llama",
            "key": "ann",
            "stream": True,
            "replica": "engine-0",
            "tries": 2,
            "seconds": 1.5,
            "queue_seconds": 0.5,
            "first_byte_seconds": 0.25,
            "prompt_tokens": 12,
            "completion_tokens": 34,
            "trace_id": "0af7651916cd43dd8448eb211c80319c",
        }
    ]


def test_what_did_not_happen_is_left_out() -> None:
    sink = Sink()
    log, wheel = access_log(sink)
    journal = Journal(log.ended)
    journal.answered(401, "invalid_api_key", request_id=b"1", path=b"/v1/models")
    wheel.sweep()
    assert sink.data == (
        b'{"time":"2026-09-21T14:13:20.062000Z","request_id":"1","code":401,"reason":"invalid_api_key","path":"/v1/models"}\n'
    )


def test_what_a_client_sent_cannot_end_a_line() -> None:
    sink = Sink()
    log, wheel = access_log(sink)
    log.ended(record(model='a"}\n{"code":200'))
    wheel.sweep()
    assert [line["model"] for line in sink.lines()] == ['a"}\n{"code":200']


@pytest.mark.parametrize(
    ("code", "reason", "told"),
    [
        pytest.param(200, "relayed", False, id="a whole answer is no error"),
        pytest.param(200, "answered", False, id="nor one of the router's own"),
        pytest.param(400, "relayed", True, id="an engine's refusal is"),
        pytest.param(200, "truncated", True, id="a cut answer is, whatever its code"),
        pytest.param(200, "engine_error", True, id="so is one that the engine ended with an error"),
        pytest.param(499, "client_gone", True, id="a client that left"),
        pytest.param(503, "overloaded", True, id="a request that was shed"),
    ],
)
def test_by_default_what_went_wrong_has_a_line(code: int, reason: str, told: bool) -> None:
    sink = Sink()
    log, wheel = access_log(sink, wanted="Errors")
    log.ended(record(code=code, reason=reason))
    wheel.sweep()
    assert len(sink.lines()) == told


def test_lines_are_handed_on_together_and_nothing_is_where_there_are_none() -> None:
    sink = Sink()
    log, wheel = access_log(sink)
    for _ in range(3):
        log.ended(record())
    wheel.sweep()
    wheel.sweep()
    assert (sink.puts, len(sink.lines())) == (1, 3)
    assert log.deadline == NEVER
    for _ in range(256):
        log.ended(record())
    assert len(sink.lines()) == 259, "many do not wait for the next turn"


def test_lines_that_nobody_takes_are_counted_and_told_of() -> None:
    sink = Sink(room=0)
    log, wheel = access_log(sink)
    for _ in range(2):
        log.ended(record())
        wheel.sweep()
    sink.room = 1 << 20
    wheel.sweep()
    wheel.sweep()
    log.ended(record())
    wheel.sweep()
    dropped, line = sink.lines()
    assert dropped == {"time": "2026-09-21T14:13:20.062000Z", "dropped": 2}
    assert line["code"] == 200


# --- The thread


def test_an_outlet_writes_all_in_order(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as file:
        outlet = Outlet(file.fileno())
        for number in range(100):
            assert outlet.put(b"%d\n" % number)
        outlet.close(seconds=10)
    assert (tmp_path / "log").read_bytes() == b"".join(b"%d\n" % number for number in range(100))


def test_a_full_pipe_holds_nobody_up_and_takes_more_once_it_is_read() -> None:
    reading, writing = os.pipe()
    outlet = Outlet(writing, held_bytes=1 << 20)
    piece = b"x" * (1 << 16)
    taken = sum(outlet.put(piece) for _ in range(100))
    assert 16 <= taken <= 33
    rest = taken * len(piece)
    while rest:
        rest -= len(os.read(reading, rest))
    outlet.close(seconds=10)
    os.close(reading)
    os.close(writing)


def test_an_outlet_whose_reader_is_gone_drops_what_comes() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    outlet = Outlet(writing)
    outlet.put(b"a")
    outlet.close(seconds=10)
    assert not outlet.put(b"b")
    os.close(writing)


# --- Through a router


async def test_no_prompt_no_answer_and_no_credential_stands_in_it() -> None:
    async def engine(call: Call) -> None:
        if b"secret-prompt-2" in call.body:
            call.begin_stream()
            call.event(b'data: {"choices":[{"delta":{"content":"secret-answer"}}]}\n\n')
            call.reset()
        else:
            await answer(call)

    sink = Sink()
    async with fleet(engine) as (front, _):
        log = AccessLog(sink, front.shared.deadlines, wanted=lambda: "All", clock=lambda: 0.0)
        front.shared.journal.add(log.ended)
        for number, stream in ((1, False), (2, True)):
            body = {"model": "llama", "messages": [{"role": "user", "content": f"secret-prompt-{number}"}], "stream": stream}
            await front.ask(post(body, headers="Authorization: Bearer secret-key\r\nX-Api-Key: secret-key\r\n"))
        await until(lambda: front.in_flight == 0)
        front.advance(1)
        await asyncio.sleep(0)
        assert [(line["code"], line["reason"]) for line in sink.lines()] == [(200, "relayed"), (200, "truncated")]
        assert b"secret" not in sink.data


@pytest.mark.parametrize(
    ("mode", "codes"),
    [
        pytest.param("Off", [], id="off"),
        pytest.param("Errors", [404], id="errors"),
        pytest.param("All", [200, 404], id="all"),
    ],
)
async def test_the_spec_says_who_has_a_line_on_stdout_and_may_say_otherwise_later(
    mode: Literal["Off", "Errors", "All"], codes: list[int], capfd: pytest.CaptureFixture[str]
) -> None:
    async with router() as front:
        reporting = Reporting(front.shared, environment={})
        front.shared.adopt(Terms(access_log=mode))
        front.shared.journal.ended(record())
        front.shared.journal.answered(404, "unknown_path", request_id=b"1")
        reporting.close()
    assert [msgspec.json.decode(line)["code"] for line in capfd.readouterr().out.splitlines()] == codes
