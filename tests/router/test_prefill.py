"""A disaggregated deployment: the prompt goes to a prefill replica first, and whatever fails there, the request does not."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from tests.router.harness import DONE, EVENT, MODEL, Call, Engine, Router, Script, answer, engines, post, router, until
from tokenfleet.router import prefill
from tokenfleet.router.admission import admit
from tokenfleet.router.balancing.outliers import BASE_SECONDS, CAP_SECONDS, CONSECUTIVE
from tokenfleet.router.balancing.replicas import Replicas, Sighting, State
from tokenfleet.router.callers.keys import ANONYMOUS
from tokenfleet.router.models import Pool
from tokenfleet.router.wire.limits import Limits
from tokenfleet.router.wire.request import parse

Json = dict[str, Any]
PROMPT = "The queue of a router is bounded. " * 10
CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
TRANSFER: Json = {
    "do_remote_prefill": True,
    "do_remote_decode": False,
    "remote_block_ids": [[1, 2, 3]],
    "remote_engine_id": "05795887-f1d3-4928-a645-089c40951e72",
    "remote_request_id": "cmpl-1",
    "remote_host": "10.0.0.7",
    "remote_port": 5600,
    "tp_size": 1,
    "remote_blocks_expiry_time": None,
}


def completion(**fields: Any) -> Json:
    return {"model": MODEL, "prompt": PROMPT, "max_tokens": 50, **fields}


def chat(**fields: Any) -> Json:
    return {"model": MODEL, "messages": [{"role": "user", "content": PROMPT}], **fields}


def read(call: Call) -> Json:
    body: Json = msgspec.json.decode(call.body)
    return body


async def read_prompt(call: Call) -> None:
    """The script of a prefill replica that is well."""
    call.json({"choices": [{"text": "a"}], "kv_transfer_params": TRANSFER})


def says(payload: object, *, status: int = 200) -> Script:
    async def script(call: Call) -> None:
        call.json(payload, status=status)

    return script


async def die(call: Call) -> None:
    call.reset()


async def drain(call: Call) -> None:
    call.json({}, status=503, headers="X-Tokenfleet-Draining: 1\r\n")


async def not_http(call: Call) -> None:
    call.write(b"HELLO\r\n\r\n")


async def hang(call: Call) -> None:
    await call.gone()


Front = tuple[Router, list[Engine], list[Engine]]


@contextlib.asynccontextmanager
async def disaggregated(
    *prefills: Script, decodes: tuple[Script, ...] = (answer,), limits: Limits | None = None
) -> AsyncIterator[Front]:
    """A router in front of these; engine-0, engine-1, ... on either side."""
    async with (
        engines(*prefills) as readers,
        engines(*decodes) as writers,
        router(*(one.sighting() for one in writers), limits=limits) as front,
    ):
        pool(front).prefill = Replicas(clock=lambda: front.now, optional=True)
        observe(front, *(one.sighting() for one in readers))
        yield front, readers, writers


def pool(front: Router) -> Pool:
    return front.shared.catalog.models()[0].pools[0]


def observe(front: Router, *sightings: Sighting) -> None:
    replicas = pool(front).prefill
    assert replicas is not None
    replicas.observe(sightings)


def idle(front: Router) -> bool:
    """Nothing is held on either side."""
    replicas = pool(front).prefill
    return front.in_flight == 0 and replicas is not None and replicas.in_flight == 0


def results(front: Router) -> dict[str, int]:
    return dict(front.shared.metrics.prefills)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        pytest.param(COMPLETIONS, completion(), id="a text completion"),
        pytest.param(COMPLETIONS, completion(stream=True), id="a streamed one"),
        pytest.param(COMPLETIONS, completion(prompt=[1000] * 100), id="a prompt in tokens"),
        pytest.param(CHAT, chat(), id="a chat"),
        pytest.param(CHAT, chat(stream=True, max_completion_tokens=9), id="a streamed chat"),
    ],
)
async def test_a_prompt_is_read_by_one_replica_and_answered_by_another(path: str, body: Json) -> None:
    async with disaggregated(read_prompt) as (front, (reader,), (writer,)):
        for _ in range(2):
            reply = await front.ask(post(body, path=path))
            assert (reply.status, reply.whole) == (200, True)
            assert (reply.body == EVENT * 3 + DONE) == (body.get("stream") is True)
        first, second = read(reader.calls[0]), read(writer.calls[0])
        assert (first["max_tokens"], first["stream"], first["kv_transfer_params"]["do_remote_decode"]) == (1, False, True)
        assert first.get("max_completion_tokens", 1) == 1
        assert "stream_options" not in first
        assert second.pop("kv_transfer_params") == TRANSFER
        assert second | body == second
        assert reader.calls[0].path == writer.calls[0].path == path
        assert reader.calls[0].headers["x-request-id"] == writer.calls[0].headers["x-request-id"]
        assert (len(reader.calls), len(writer.calls), reader.connections) == (2, 2, 1)
        assert results(front) == {prefill.TRANSFERRED: 2}
        assert idle(front)


async def test_the_prefill_asks_for_nothing_that_its_one_token_would_contradict() -> None:
    fields = completion(
        min_tokens=20, logprobs=5, echo=False, n=1, best_of=1, stream=True, stream_options={"include_usage": True}
    )
    async with disaggregated(read_prompt) as (front, (reader,), (writer,)):
        assert (await front.ask(post(fields, path=COMPLETIONS))).status == 200
        assert read(reader.calls[0]).keys() == {"model", "prompt", "max_tokens", "stream", "kv_transfer_params"}
        assert read(writer.calls[0]) == fields | {"kv_transfer_params": TRANSFER}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        pytest.param(COMPLETIONS, completion(n=2), id="several choices"),
        pytest.param(COMPLETIONS, completion(best_of=2), id="the best of several"),
        pytest.param(COMPLETIONS, completion(prompt=[PROMPT, PROMPT]), id="several prompts"),
        pytest.param(COMPLETIONS, completion(prompt=[[1000] * 100, [1000] * 100]), id="several prompts in tokens"),
        pytest.param(COMPLETIONS, completion(prompt_logprobs=1), id="log probabilities of the prompt"),
        pytest.param(COMPLETIONS, completion(echo=True, logprobs=1), id="an echo with log probabilities"),
        pytest.param(COMPLETIONS, completion(use_beam_search=True), id="a beam search"),
        pytest.param(COMPLETIONS, completion(prompt="short"), id="a short prompt"),
        pytest.param(CHAT, chat(messages=[]), id="a short chat"),
        pytest.param("/v1/embeddings", {"model": MODEL, "input": PROMPT}, id="an embedding"),
    ],
)
async def test_what_vllm_cannot_transfer_is_decoded_plainly(path: str, body: Json) -> None:
    async with disaggregated(read_prompt) as (front, (reader,), (writer,)):
        assert (await front.ask(post(body, path=path))).status == 200
        assert not reader.calls
        assert read(writer.calls[0]) == body
        assert results(front) == {prefill.UNSUITED: 1}


@pytest.mark.parametrize(
    ("script", "result"),
    [
        pytest.param(die, prefill.LOST, id="it dies"),
        pytest.param(drain, prefill.NO_REPLICA, id="it is going away"),
        pytest.param(says({"error": {}}, status=500), prefill.REFUSED, id="an error"),
        pytest.param(says({"error": {}}, status=400), prefill.REFUSED, id="a refusal"),
        pytest.param(says({"error": {}}, status=503), prefill.REFUSED, id="no place"),
        pytest.param(not_http, prefill.UNUSABLE, id="no HTTP"),
        pytest.param(says({"choices": []}), prefill.UNUSABLE, id="an engine without a connector"),
        pytest.param(says({"kv_transfer_params": None}), prefill.UNUSABLE, id="no parameters"),
        pytest.param(says([1]), prefill.UNUSABLE, id="another shape"),
        *(
            pytest.param(says({"kv_transfer_params": TRANSFER | {name: value}}), prefill.UNUSABLE, id=f"{name} {value!r}")
            for name, value in (
                ("do_remote_prefill", False),
                ("remote_block_ids", "x"),
                ("remote_block_ids", []),
                ("remote_block_ids", [[]]),
                ("remote_block_ids", [[-1]]),
                ("remote_engine_id", 5),
                ("remote_request_id", None),
                ("remote_host", ""),
                ("remote_port", 0),
                ("tp_size", None),
            )
        ),
        *(
            pytest.param(
                says({"kv_transfer_params": {k: v for k, v in TRANSFER.items() if k != name}}),
                prefill.UNUSABLE,
                id=f"no {name}",
            )
            for name in ("remote_host", "remote_port", "remote_engine_id", "remote_request_id", "remote_block_ids", "tp_size")
        ),
    ],
)
async def test_a_prefill_that_fails_costs_the_request_nothing(script: Script, result: str) -> None:
    async with disaggregated(script) as (front, (reader,), (writer,)):
        reply = await front.ask(post(completion(), path=COMPLETIONS))
        assert (reply.status, reply.whole) == (200, True)
        assert len(reader.calls) == 1
        assert read(writer.calls[0]) == completion()
        assert results(front) == {result: 1}
        assert idle(front)
        assert front.counted(200, "relayed") == 1


async def test_without_a_prefill_replica_the_request_is_decoded_plainly() -> None:
    async with disaggregated() as (front, _, (writer,)):
        assert (await front.ask(post(completion(), path=COMPLETIONS))).status == 200
        assert read(writer.calls[0]) == completion()
        assert results(front) == {prefill.NO_REPLICA: 1}


async def test_a_prefill_replica_out_of_reach_is_passed_over() -> None:
    async with disaggregated(read_prompt) as (front, (reader,), (writer,)):
        nobody = Sighting(key="nobody", name="nobody", host="127.0.0.1", port=1, state=State.ROUTABLE)
        observe(front, nobody, reader.sighting())
        for _ in range(4):
            assert (await front.ask(post(completion(), path=COMPLETIONS))).status == 200
        assert results(front) == {prefill.TRANSFERRED: 4}
        observe(front, nobody)
        assert (await front.ask(post(completion(), path=COMPLETIONS))).status == 200
        assert results(front) == {prefill.TRANSFERRED: 4, prefill.NO_REPLICA: 1}, "it is still left alone"
        front.advance(CAP_SECONDS)
        assert (await front.ask(post(completion(), path=COMPLETIONS))).status == 200
        assert results(front) == {prefill.TRANSFERRED: 4, prefill.NO_REPLICA: 1, prefill.UNREACHABLE: 1}
        assert read(writer.calls[-1]) == completion()
        assert idle(front)


async def test_another_prefill_replica_takes_over_from_one_that_is_going_away() -> None:
    async with disaggregated(drain, read_prompt) as (front, readers, _):
        for _ in range(4):
            assert (await front.ask(post(completion(), path=COMPLETIONS))).status == 200
        assert results(front) == {prefill.TRANSFERRED: 4}
        assert len(readers[1].calls) == 4


async def test_a_prefill_replica_that_is_silent_is_given_up() -> None:
    async with disaggregated(hang, limits=Limits(prefill_seconds=20)) as (front, (reader,), (writer,)):
        asked = asyncio.create_task(front.ask(post(completion(), path=COMPLETIONS)))
        await until(lambda: reader.calls)
        front.advance(21)
        assert (await asked).status == 200
        assert read(writer.calls[0]) == completion()
        assert results(front) == {prefill.TOO_LATE: 1}
        await until(lambda: reader.open == 0)
        assert idle(front)


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        pytest.param(hang, "stall", id="silence"),
        pytest.param(not_http, "invalid", id="no HTTP"),
        pytest.param(says({}, status=502), "status", id="bad gateway"),
        pytest.param(says({}, status=503), "status", id="a 503 of no engine of ours"),
        pytest.param(says({}, status=504), "status", id="gateway timeout"),
    ],
)
async def test_a_prefill_replica_that_fails_again_and_again_is_left_alone_for_a_while(script: Script, kind: str) -> None:
    """Even the only one, since the replica that decodes can read prompts too."""
    async with disaggregated(script, limits=Limits(prefill_seconds=20)) as (front, (reader,), (writer,)):
        for number in range(CONSECUTIVE):
            asked = asyncio.create_task(front.ask(post(completion(), path=COMPLETIONS)))
            await until(lambda number=number: len(reader.calls) > number)  # type: ignore[misc]
            if kind == "stall":
                front.advance(21)
            assert (await asked).status == 200
            front.advance(0.5)  # The pause after each, however short, is over.
        replicas = pool(front).prefill
        assert replicas is not None
        assert replicas.ejections == {kind: 1}
        assert (await front.ask(post(completion(), path=COMPLETIONS))).status == 200
        assert (len(reader.calls), len(writer.calls)) == (CONSECUTIVE, CONSECUTIVE + 1)
        assert results(front)[prefill.NO_REPLICA] == 1
        front.now += BASE_SECONDS
        reader.script = read_prompt
        assert (await front.ask(post(completion(), path=COMPLETIONS))).status == 200
        assert results(front)[prefill.TRANSFERRED] == 1, "it is asked again later"
        assert idle(front)


async def test_a_full_prefill_replica_is_passed_over_and_no_failure() -> None:
    async def full(call: Call) -> None:
        call.json({}, status=503, headers="Retry-After: 1\r\n")

    async with disaggregated(full, read_prompt) as (front, readers, _):
        for _ in range(2 * CONSECUTIVE + 2):
            assert (await front.ask(post(completion(), path=COMPLETIONS))).status == 200
            front.advance(0.5)
        assert results(front) == {prefill.TRANSFERRED: 2 * CONSECUTIVE + 2}
        replicas = pool(front).prefill
        assert replicas is not None and not replicas.ejections
        assert len(readers[0].calls) > CONSECUTIVE


async def test_a_spare_connection_that_had_ended_costs_no_prefill() -> None:
    async def once_a_connection(call: Call) -> None:
        if call.writer in seen:
            call.reset()
        else:
            seen.append(call.writer)
            await read_prompt(call)

    seen: list[asyncio.StreamWriter] = []
    async with disaggregated(once_a_connection) as (front, (reader,), _):
        for _ in range(3):
            assert (await front.ask(post(completion(), path=COMPLETIONS))).status == 200
        assert (len(reader.calls), results(front)) == (5, {prefill.TRANSFERRED: 3})


async def test_an_answer_without_an_end_is_not_collected_for_ever() -> None:
    async def flood(call: Call) -> None:
        call.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            while True:
                call.write(b"10000\r\n" + b" " * 0x10000 + b"\r\n")
                await call.writer.drain()

    async with disaggregated(flood) as (front, (reader,), _):
        assert (await front.ask(post(completion(), path=COMPLETIONS))).status == 200
        assert results(front) == {prefill.UNUSABLE: 1}
        await until(lambda: reader.open == 0)


async def test_a_client_that_leaves_ends_the_prefill_at_once() -> None:
    async with disaggregated(hang) as (front, (reader,), (writer,)), await front.connect() as client:
        client.write(post(completion(), path=COMPLETIONS))
        await until(lambda: reader.calls)
        assert front.in_flight == 1, "its place on the decode replica"
        client.reset()
        await until(lambda: reader.open == 0)
        await until(lambda: front.counted(499, "client_gone") == 1)
        assert idle(front)
        assert not writer.calls
        assert results(front) == {}


async def fail_transfers(call: Call) -> None:
    """A decode replica that cannot fetch what was read elsewhere."""
    if "kv_transfer_params" in read(call):
        call.json({"error": {"message": "EngineCore encountered an issue."}}, status=500)
    else:
        await answer(call)


@pytest.mark.parametrize("others", [0, 1], ids=["on the same replica", "on another replica"])
async def test_a_decode_replica_that_fails_with_a_transfer_is_asked_again_without(others: int) -> None:
    async with disaggregated(read_prompt, decodes=(fail_transfers,) * (1 + others)) as (front, (reader,), writers):
        reply = await front.ask(post(completion(), path=COMPLETIONS))
        assert (reply.status, reply.whole) == (200, True)
        calls = [read(call) for writer in writers for call in writer.calls]
        assert sorted("kv_transfer_params" in body for body in calls) == [False, True]
        assert len(reader.calls) == 1
        assert results(front) == {prefill.TRANSFERRED: 1, prefill.DECODE_REFUSED: 1}
        assert front.shared.metrics.retries["transfer"] == 1
        assert idle(front)


async def test_a_decode_replica_that_fails_without_a_transfer_too_is_believed() -> None:
    async with disaggregated(read_prompt, decodes=(says({"error": {}}, status=500),)) as (front, _, (writer,)):
        assert (await front.ask(post(completion(), path=COMPLETIONS))).status == 500
        assert len(writer.calls) == 2
        assert idle(front)


async def test_transfer_parameters_are_sent_once() -> None:
    """What a replica that was lost made of them, nobody knows: the blocks may be another prompt's by now."""

    async def die_with_them(call: Call) -> None:
        await (die if "kv_transfer_params" in read(call) else answer)(call)

    async with disaggregated(read_prompt, decodes=(die_with_them, die_with_them)) as (front, _, writers):
        assert (await front.ask(post(completion(), path=COMPLETIONS))).status == 200
        calls = [read(call) for writer in writers for call in writer.calls]
        assert sorted("kv_transfer_params" in body for body in calls) == [False, True]


class Waits:
    """An owner that goes on when the test does."""

    def __init__(self) -> None:
        self.told = 0

    def prefilled(self) -> None:
        self.told += 1


@pytest.mark.parametrize(
    ("seconds", "own", "carried"),
    [
        pytest.param(Limits().transfer_seconds - 1, True, True, id="fresh"),
        pytest.param(Limits().transfer_seconds + 1, True, False, id="old: the blocks may be another prompt's"),
        pytest.param(0, False, False, id="for a replica of another deployment, which has another model"),
    ],
)
async def test_transfer_parameters_are_handed_over_once_and_fresh(seconds: float, own: bool, carried: bool) -> None:
    async with disaggregated(read_prompt) as (front, _, _):
        head, _, body = post(completion(), path=COMPLETIONS).partition(b"\r\n\r\n")
        shared, owner = front.shared, Waits()
        job = admit(shared, parse(head + b"\r\n\r\n", shared.limits), body, ANONYMOUS)
        one = prefill.Prefill(owner, shared, job, pool(front))
        one.start()
        await until(lambda: owner.told)
        front.now += seconds
        taker = pool(front) if own else Pool("other", Replicas(), served_name=MODEL)
        assert (one.hand_over(taker) is not None, one.carried) == (carried, carried)
        assert (one.hand_over(pool(front)), one.carried) == (None, False)


async def test_whatever_fails_and_whoever_leaves_nothing_stays_behind() -> None:
    chance = random.Random(7)

    async def somehow(call: Call) -> None:
        for _ in range(chance.randrange(4)):
            await asyncio.sleep(0)
        await chance.choice((read_prompt, die, drain, says({}, status=500), not_http))(call)

    async def somehow_too(call: Call) -> None:
        await chance.choice((answer, answer, fail_transfers, die, drain))(call)

    async def visit(front: Router) -> None:
        async with await front.connect() as client:
            client.write(post(completion(stream=chance.random() < 0.5), path=COMPLETIONS))
            for _ in range(chance.randrange(60)):
                await asyncio.sleep(0)
            if chance.random() < 0.5:
                client.reset()
            else:
                await client.reply()

    async with disaggregated(somehow, somehow, decodes=(somehow_too,) * 3) as (front, readers, writers):
        for _ in range(20):
            await asyncio.gather(*(visit(front) for _ in range(10)))
            front.now += CAP_SECONDS  # so that those that were ejected are asked again
        await until(lambda: sum(front.shared.metrics.requests.values()) >= 150 and idle(front))
        assert sum(len(engine.calls) for engine in readers) > 50
        assert sum(len(engine.calls) for engine in writers) > 50
        assert front.shared.held_bytes == 0
