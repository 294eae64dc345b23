"""What becomes of a claimed request, by what its engine did: a result, another try that counts, or one that does not."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import msgspec
import pytest

from tests.router.harness import MODEL, Call, Router, Script, answer, fleet, router, until
from tokenfleet.router.balancing.replicas import Sighting
from tokenfleet.router.balancing.replicas import State as ReplicaState
from tokenfleet.router.callers.rates import Reservation
from tokenfleet.router.durable.requests import Claim, Outcome, Reserved, State
from tokenfleet.router.durable.run import MAX_ANSWER_BYTES, Again, Run
from tokenfleet.router.rejections import Rejected
from tokenfleet.router.terms import AsyncTerms, QueueTerms, Rate, Terms

USED = {"usage": {"prompt_tokens": 3, "completion_tokens": 4}}
TERMS = Terms(asynchronous=AsyncTerms(enabled=True, visibility_seconds=30), queue=QueueTerms(max_depth=0))
RATE = Rate(requests_per_minute=10, tokens_per_minute=1000)


def a_claim(**changes: object) -> Claim:
    body = msgspec.json.encode({"model": MODEL, "prompt": "x"})
    reserved = msgspec.json.encode(Reserved(RATE, 100))
    claim = Claim("async_1", 1, 1, "alice", b"/v1/completions", b"traceparent: 00-1-2-01\r\n", body, reserved)
    return msgspec.structs.replace(claim, **changes)


class Ran:
    """A run and its verdict."""

    def __init__(self, front: Router, claim: Claim) -> None:
        self.verdicts: list[Outcome | Again] = []
        model = front.shared.catalog.models()[0]
        self.run = Run(front.shared, model, claim, lambda _, verdict: self.verdicts.append(verdict))
        self.run.start()

    async def verdict(self) -> Outcome | Again:
        await until(lambda: self.verdicts)
        (verdict,) = self.verdicts
        return verdict


@contextlib.asynccontextmanager
async def ran(*scripts: Script, claim: Claim | None = None) -> AsyncIterator[tuple[Router, Ran, list[Call]]]:
    async with fleet(*scripts, terms=TERMS) as (front, engines):
        yield front, Ran(front, claim or a_claim()), engines[0].calls
        assert (front.in_flight, front.shared.held_bytes) == (0, 0)


def status(code: int, payload: object = None, *, headers: str = "") -> Script:
    async def script(call: Call) -> None:
        call.json({} if payload is None else payload, status=code, headers=headers)

    return script


async def cut(call: Call) -> None:
    call.write(b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{"half":')
    await call.writer.drain()
    call.writer.close()


async def chunks(call: Call) -> None:
    call.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n")
    for part in (b'{"a"', b":1", b"}"):
        call.write(b"%x\r\n%b\r\n" % (len(part), part))
        await call.writer.drain()
    call.write(b"0\r\n\r\n")


async def die(call: Call) -> None:
    call.reset()


async def test_an_answer_is_the_outcome_as_it_came() -> None:
    async with ran(status(200, USED)) as (_, one, calls):
        verdict = await one.verdict()
        assert isinstance(verdict, Outcome)
        assert (verdict.state, verdict.status, verdict.body) == (State.SUCCEEDED, 200, msgspec.json.encode(USED))
        assert (calls[0].path, calls[0].headers["traceparent"]) == ("/v1/completions", "00-1-2-01")
        assert verdict.request_id == calls[0].headers["x-request-id"]


async def test_an_answer_in_chunks_is_kept_without_them() -> None:
    async with ran(chunks) as (_, one, _calls):
        verdict = await one.verdict()
        assert isinstance(verdict, Outcome)
        assert verdict.body == b'{"a":1}'


@pytest.mark.parametrize(
    ("payload", "code", "message"),
    [
        pytest.param({"error": {"message": "No.", "code": "bad"}}, "bad", "No.", id="as OpenAI writes it"),
        pytest.param({"error": {"message": "No.", "type": "BadRequest", "code": 400}}, "BadRequest", "No.", id="as vLLM does"),
        pytest.param({"detail": "no"}, "http_400", "The engine answered with 400.", id="in a form of its own"),
        pytest.param([1], "http_400", "The engine answered with 400.", id="in no form at all"),
    ],
)
async def test_an_engines_refusal_is_a_failure_with_its_error(payload: object, code: str, message: str) -> None:
    async with ran(status(400, payload)) as (_, one, _calls):
        verdict = await one.verdict()
        assert isinstance(verdict, Outcome)
        assert (verdict.state, verdict.status, verdict.code, verdict.message) == (State.FAILED, 400, code, message)
        assert verdict.body == msgspec.json.encode(payload)


@pytest.mark.parametrize(
    ("script", "counts", "failure"),
    [
        pytest.param(status(500), True, "a replica answered with 500.", id="an engine's fault counts"),
        pytest.param(status(502), True, "a replica answered with 502.", id="a broken gateway's counts"),
        pytest.param(status(408), True, "a replica answered with 408.", id="an engine's timeout counts"),
        pytest.param(status(503), False, "a replica answered with 503.", id="a full engine costs nothing"),
        pytest.param(status(429), False, "a replica answered with 429.", id="an engine that wants a pause costs nothing"),
        pytest.param(cut, True, "a replica was lost in the middle of its answer.", id="half an answer counts"),
        pytest.param(
            die, True, "No replica of this model could take the request (tried: engine-0).", id="a lost engine counts"
        ),
        pytest.param(
            status(503, headers="X-Tokenfleet-Draining: 1\r\n"),
            False,
            "All replicas of this model are going away. Try again soon.",
            id="an engine that is draining costs nothing",
        ),
    ],
)
async def test_what_is_tried_again(script: Script, counts: bool, failure: str) -> None:
    async with ran(script) as (_, one, _calls):
        verdict = await one.verdict()
        assert isinstance(verdict, Again)
        assert (verdict.counts, verdict.failure) == (counts, failure)


async def test_an_engine_that_nobody_reached_costs_nothing() -> None:
    nobody = Sighting(key="a", name="a", host="127.0.0.1", port=1, state=ReplicaState.ROUTABLE)
    async with router(nobody, terms=TERMS) as front:
        verdict = await Ran(front, a_claim()).verdict()
        assert isinstance(verdict, Again)
        assert (verdict.counts, front.in_flight, front.shared.held_bytes) == (False, 0, 0)


async def test_the_wait_grows_with_the_tries_up_to_the_visibility_timeout() -> None:
    waits = []
    for tries in (1, 2, 3, 9):
        async with ran(status(500), claim=a_claim(tries=tries)) as (_, one, _calls):
            verdict = await one.verdict()
            assert isinstance(verdict, Again)
            waits.append(verdict.seconds)
    assert waits == [1, 2, 4, 30]


async def test_an_answer_beyond_all_measure_is_a_failure() -> None:
    async def flood(call: Call) -> None:
        call.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % (1 << 40))
        with contextlib.suppress(ConnectionError):
            while not call.writer.is_closing():
                call.write(b"x" * (1 << 20))
                await call.writer.drain()

    async with ran(flood) as (front, one, _calls):
        verdict = await one.verdict()
        assert isinstance(verdict, Outcome)
        assert (verdict.state, verdict.code, verdict.body) == (State.FAILED, "answer_too_large", b"")
        assert str(MAX_ANSWER_BYTES) in verdict.message
        await until(lambda: front.in_flight == 0)


async def test_what_is_abandoned_ends_on_the_engine_and_says_nothing_more() -> None:
    gone = asyncio.Event()

    async def wait(call: Call) -> None:
        await call.gone()
        gone.set()

    async with ran(wait) as (front, one, calls):
        await until(lambda: calls)
        assert (front.in_flight, front.shared.held_bytes, one.run.answered) == (1, len(calls[0].body), False)
        one.run.abandon("client_gone")
        await gone.wait()
        assert (one.verdicts, one.run.answered) == ([], True)
        one.run.abandon("client_gone")
        assert front.counted(499, "client_gone") == 1


@pytest.mark.parametrize(
    ("script", "left"),
    [
        pytest.param(status(200, USED), (9, 993), id="what was used counts"),
        pytest.param(status(400), (10, 1000), id="what an engine refused does not"),
        pytest.param(status(500), (9, 900), id="what is tried again stays reserved"),
    ],
)
async def test_its_owners_limits_are_settled(script: Script, left: tuple[int, int]) -> None:
    async with fleet(script, terms=TERMS) as (front, _):
        front.shared.rates.reserve("alice", RATE, 100, lambda _: None)  # As when it was accepted.
        await Ran(front, a_claim()).verdict()
        seen: list[Reservation | Rejected] = []
        front.shared.rates.reserve("alice", RATE, 0, seen.append)
        assert not isinstance(seen[0], Rejected)
        lines = seen[0].lines
        assert b"remaining-requests: %d\r\n" % (left[0] - 1) in lines
        assert b"remaining-tokens: %d\r\n" % left[1] in lines


async def test_it_waits_behind_those_whose_clients_are_there() -> None:
    served: list[bytes] = []
    opening = asyncio.Event()

    async def one_by_one(call: Call) -> None:
        served.append(call.body)
        await opening.wait()
        await answer(call)

    terms = msgspec.structs.replace(TERMS, max_in_flight=1, queue=QueueTerms(max_depth=10))
    async with fleet(one_by_one, terms=terms) as (front, (engine,)):
        first = Ran(front, a_claim())
        await until(lambda: engine.calls)
        second = Ran(front, a_claim(id="async_2"))
        body = msgspec.json.encode({"model": MODEL, "prompt": "now"})
        head = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
        async with await front.connect() as client:
            client.write(head + body)
            await until(lambda: front.shared.catalog.models()[0].queue.depth == 2)
            opening.set()
            assert (await client.reply()).status == 200
        await first.verdict()
        await second.verdict()
        assert [b"now" in one for one in served] == [False, True, False]
