"""Streams whose replica is lost: wherever they are cut, the client gets what it would have got, as one stream."""

import asyncio
import random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.router.harness import EVENT, MODEL, NO_QUEUE, Call, Reply, Script, answer, post, until
from tests.router.harness import fleet as scripted
from tests.router.simulated import ENGINE_DEATH, QUEUE, End, Fleet, hang, report, reset, simulated_fleet, told
from tokenfleet.router.callers.keys import Priority
from tokenfleet.router.continuing.continuing import KEPT_BODY_BYTES
from tokenfleet.router.terms import QueueTerms, Terms
from tokenfleet.router.wire.limits import Limits

ONE_AT_A_TIME = Terms(max_in_flight=1, queue=QueueTerms(max_depth=8, timeout_seconds=60))
CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "Tell me of the sea"}], "max_tokens": 12}
COMPLETION: dict[str, Any] = {"prompt": "Once upon a time", "max_tokens": 12}
STOP = {"stop": ["clay co", "chair bro"], "min_tokens": 5, "temperature": 0}
"""Each comes in one of the two, and begins and ends within a token."""
EACH_USAGE = {"stream_options": {"include_usage": True, "continuous_usage_stats": True}}
USAGE = {"stream_options": {"include_usage": True}}


async def ask(fleet: Fleet, body: dict[str, Any], *, headers: str = "", version: str = "1.1") -> Reply:
    path = "/v1/chat/completions" if "messages" in body else "/v1/completions"
    return await fleet.front.ask(post({"model": MODEL, "stream": True, **body}, path=path, headers=headers, version=version))


@pytest.mark.parametrize("end", [reset, report])
@pytest.mark.parametrize(
    "body",
    [
        pytest.param(COMPLETION, id="a completion"),
        pytest.param(COMPLETION | USAGE, id="a completion whose client wants its usage"),
        pytest.param({"prompt": "Once upon a time"}, id="a completion of the usual length"),
        pytest.param(COMPLETION | EACH_USAGE, id="a completion whose client wants its usage with each token"),
        pytest.param(COMPLETION | STOP | USAGE, id="a completion with stop strings, of which one comes"),
        pytest.param(CHAT | STOP | USAGE, id="a chat with stop strings, of which one comes"),
        pytest.param(CHAT, id="a chat"),
        pytest.param(CHAT | USAGE | {"max_completion_tokens": 9}, id="a chat with both bounds"),
        pytest.param(
            {"messages": [*CHAT["messages"], {"role": "assistant", "content": "It is"}], "max_tokens": 12, **USAGE}
            | {"continue_final_message": True, "add_generation_prompt": False},
            id="a chat that goes on with a message of the client's",
        ),
    ],
)
async def test_wherever_a_stream_is_cut_its_client_gets_the_same(body: dict[str, Any], end: End) -> None:
    async with simulated_fleet(2) as fleet:
        fleet.end = end
        whole = await ask(fleet, body)
        wanted = told(whole)
        assert wanted.done and wanted.text
        size = len(whole.body) + 300  # The router may have taken the usage out.
        places = set(range(1, size, 71)) | {whole.body.find(b"\n\n", at) + 2 for at in range(0, len(whole.body), 60)}
        for place in sorted(places):
            fleet.cuts = [place]
            reply = await ask(fleet, body)
            got = told(reply)
            assert (reply.status, reply.whole) == (200, True), place
            assert len(got.headings) == 1, place
            got.headings = wanted.headings
            assert got == wanted, place
            fleet.front.advance(6)
        assert fleet.results["continued"] > 10
        assert fleet.results.keys() <= {"continued", "finished"}
        assert fleet.front.in_flight == fleet.front.shared.held_bytes == 0


@given(st.lists(st.integers(1, 2600), min_size=1, max_size=2), st.sampled_from([CHAT | USAGE, COMPLETION, COMPLETION | STOP]))
@settings(max_examples=40, deadline=None)
def test_cut_anywhere_and_even_twice_it_is_the_same(cuts: list[int], body: dict[str, Any]) -> None:
    async def check() -> None:
        async with simulated_fleet(3) as fleet:
            wanted = told(await ask(fleet, body))
            fleet.cuts = list(cuts)
            got = told(await ask(fleet, body))
            assert len(got.headings) == 1
            got.headings = wanted.headings
            assert got == wanted
            assert (fleet.front.in_flight, fleet.front.shared.held_bytes) == (0, 0)

    asyncio.run(check())


async def test_a_stream_that_is_cut_a_third_time_ends_with_an_error_and_without_a_done() -> None:
    async with simulated_fleet(4) as fleet:
        fleet.cuts = [500, 300, 300]
        reply = await ask(fleet, COMPLETION)
        got = told(reply)
        assert (reply.whole, got.error, got.done) == (False, "upstream_lost", False)
        assert fleet.results == {"continued": 2, "too_often": 1}
        assert fleet.front.counted(200, "truncated") == 1
        assert fleet.front.in_flight == fleet.front.shared.held_bytes == 0


async def test_what_the_next_replica_is_asked() -> None:
    async with simulated_fleet(2) as fleet:
        fleet.cuts = [700]
        body = CHAT | {"min_tokens": 10, "seed": 7}
        text = told(await ask(fleet, body)).text
        assert text
        first, second = sorted(fleet.generations, key=lambda body: len(body["messages"]))
        assert second["messages"][:-1] == first["messages"]
        (role, sofar) = second["messages"][-1].values()
        assert role == "assistant"
        assert text.startswith(sofar)
        assert (second["continue_final_message"], second["add_generation_prompt"]) == (True, False)
        sent = len(sofar.split())
        assert (second["max_tokens"], second["min_tokens"], second["seed"]) == (12 - sent, 10 - sent, 7)
        assert second["stream_options"] == {"include_usage": True}
        calls = [call for engine in fleet.made for call in engine.calls if call.path == "/tokenize"]
        asked = [msgspec.json.decode(call.body) for call in calls]
        assert [len(question["messages"]) for question in asked] == [1, 2]


async def test_a_chat_without_a_bound_stays_without_one() -> None:
    async with simulated_fleet(2, "--max-model-len", "40") as fleet:
        body = {"messages": CHAT["messages"]}
        wanted = told(await ask(fleet, body))
        fleet.cuts = [900]
        assert told(await ask(fleet, body)).text == wanted.text
        assert not any("max_tokens" in generation for generation in fleet.generations)


async def test_where_every_token_was_sent_the_router_says_the_end() -> None:
    """An engine that dies after its last token, and before it has said that it was the last."""
    body = COMPLETION | USAGE | {"max_tokens": 3}
    async with simulated_fleet(2) as fleet:
        whole = await ask(fleet, body)
        tokens = whole.body.rindex(b"data: {", 0, whole.body.index(b'"choices":[]'))
        fleet.keeps_quiet, fleet.cuts = True, [tokens - len('"length"') + len("null")]
        got = told(await ask(fleet, body))
        assert (got.text, got.finish, got.usage, got.done) == (told(whole).text, ["length"], told(whole).usage, True)
        assert fleet.results == {"finished": 1}
        assert [generation["max_tokens"] for generation in fleet.generations] == [3, 3], "nobody was asked to go on"


async def test_of_a_stream_that_had_not_begun_to_speak_all_comes_from_the_next_replica() -> None:
    async with simulated_fleet(2) as fleet:
        wanted = told(await ask(fleet, CHAT))
        fleet.cuts = [20]
        got = told(await ask(fleet, CHAT))
        assert (got.text, got.roles) == (wanted.text, 1)
        first, second = fleet.generations[-2:]
        assert {**first, "model": ""} == {**second, "model": ""}
        assert [call.path for engine in fleet.made for call in engine.calls].count("/tokenize") == 0


# --- Where nobody may go on


@pytest.mark.parametrize(
    ("body", "headers", "result"),
    [
        pytest.param(COMPLETION, "X-Tokenfleet-Continue: off\r\n", "off", id="its header says so"),
        pytest.param(COMPLETION | {"n": 2, "temperature": 1}, "", "unsuited", id="two choices"),
        pytest.param(COMPLETION | {"prompt": ["One", "Two"]}, "", "unsuited", id="two prompts"),
        pytest.param(COMPLETION | {"prompt": [300, 301]}, "", "unsuited", id="a prompt in tokens"),
        pytest.param(COMPLETION | {"echo": True}, "", "unsuited", id="an answer that begins with its prompt"),
        pytest.param(COMPLETION | {"ignore_eos": True}, "", "unsuited", id="ends of text that are not shown"),
        pytest.param(COMPLETION | {"return_token_ids": True}, "", "unsuited", id="tokens beside the text"),
        pytest.param(COMPLETION | {"guided_regex": "a+"}, "", "unsuited", id="a grammar, as it was called before"),
        pytest.param(
            COMPLETION | {"stop": ["zzz"], "include_stop_str_in_output": True}, "", "unsuited", id="a stop string in the answer"
        ),
        pytest.param(CHAT | {"include_reasoning": False}, "", "unsuited", id="reasoning that is not shown"),
        pytest.param(CHAT | {"add_generation_prompt": False}, "", "unsuited", id="a chat that is not asked for an answer"),
        pytest.param(COMPLETION | {"user": "x" * KEPT_BODY_BYTES}, "", "too_large", id="a body that is not kept"),
    ],
)
async def test_a_stream_that_nobody_may_go_on_with_ends_with_an_error(body: dict[str, Any], headers: str, result: str) -> None:
    async with simulated_fleet(2) as fleet:
        fleet.cuts = [500]
        reply = await ask(fleet, body, headers=headers)
        got = told(reply)
        assert (reply.whole, got.error, got.done) == (False, "upstream_lost", False)
        assert fleet.results == {result: 1}
        assert len(fleet.generations) == 1
        assert fleet.front.counted(200, "truncated") == 1
        assert fleet.front.in_flight == fleet.front.shared.held_bytes == 0


async def test_a_deployment_may_not_want_it() -> None:
    async with simulated_fleet(2) as fleet:
        (model,) = fleet.front.shared.catalog.models()
        model.pools[0].continues = False
        fleet.cuts = [500]
        assert told(await ask(fleet, COMPLETION)).error == "upstream_lost"
        assert fleet.results == {"off": 1}


async def test_without_continuing_an_engines_own_error_passes_as_it_said_it() -> None:
    async with simulated_fleet(4) as fleet:
        fleet.end, fleet.cuts = report, [500]
        reply = await ask(fleet, COMPLETION, headers="x-tokenfleet-continue: off\r\n")
        assert reply.body.endswith(ENGINE_DEATH)
        assert not reply.whole
        fleet.front.advance(6)
        fleet.cuts = [300, 300, 300]
        reply = await ask(fleet, COMPLETION)
        assert reply.body.endswith(ENGINE_DEATH), "nor may it be withheld where nobody goes on in the end"
        assert fleet.front.counted(200, "engine_error") == 2


@pytest.mark.parametrize(
    ("delta", "result"),
    [
        pytest.param({"tool_calls": [{"index": 0, "id": "x", "function": {"name": "f"}}]}, "tool_call", id="a tool call"),
        pytest.param({"reasoning": "Let me see"}, "reasoning", id="reasoning"),
        pytest.param({"reasoning_content": "Let me see"}, "reasoning", id="reasoning, as it was called before"),
    ],
)
async def test_what_is_more_than_text_is_not_gone_on_with(delta: dict[str, Any], result: str) -> None:
    async def speak(call: Call) -> None:
        call.begin_stream()
        call.event()
        call.event(b"data: " + msgspec.json.encode({"choices": [{"index": 0, "delta": delta}]}) + b"\n\n")
        await call.writer.drain()
        call.reset()

    async with scripted(speak, answer) as (front, made):
        front.replicas.observe([made[0].sighting()])
        reply = await front.ask(post(stream=True))
        assert (reply.whole, b"upstream_lost" in reply.body) == (False, True)
        assert front.shared.metrics.continuations == {result: 1}


async def test_an_error_that_is_the_requests_own_is_not_tried_elsewhere() -> None:
    wrong = b'data: {"error": {"message": "too long", "code": 400}}\n\n'

    async def object_to(call: Call) -> None:
        call.begin_stream()
        call.event()
        call.event(wrong)
        call.end_stream()

    async with scripted(object_to, answer) as (front, made):
        front.replicas.observe([made[0].sighting()])
        reply = await front.ask(post(stream=True))
        assert (reply.body, reply.whole) == (EVENT + wrong, False)
        assert not front.shared.metrics.continuations


async def unable(call: Call) -> None:
    """Counts, and refuses the rest."""
    if call.path == "/tokenize":
        call.json({"count": 5, "max_model_len": 100})
    else:
        call.json({"error": {"message": "no template"}}, status=400)


async def countless(call: Call) -> None:
    call.json({"error": {"message": "not found"}}, status=404)


async def gibberish(call: Call) -> None:
    call.json({"count": "many"})


@pytest.mark.parametrize(
    ("script", "result"),
    [
        pytest.param(unable, "refused", id="it refuses to go on"),
        pytest.param(countless, "uncounted", id="it cannot count"),
        pytest.param(gibberish, "uncounted", id="it counts in another way"),
    ],
)
async def test_a_next_replica_that_cannot_do_it_ends_the_stream_with_an_error(script: Script, result: str) -> None:
    async def cut(call: Call) -> None:
        call.begin_stream()
        call.event()
        await call.writer.drain()
        call.reset()

    body = msgspec.json.encode({"model": MODEL, "stream": True, "prompt": "a"})
    async with scripted(script, cut, terms=QUEUE) as (front, _):
        reply = await front.ask(post(body, path="/v1/completions"))
        assert reply.body.startswith(EVENT)
        assert (reply.whole, b"upstream_lost" in reply.body) == (False, True)
        assert front.shared.metrics.continuations == {result: 1}
        assert front.in_flight == 0


# --- Waiting for a replica


async def test_with_no_other_replica_it_waits_for_one_and_before_those_that_have_not_begun() -> None:
    async with simulated_fleet(2, terms=ONE_AT_A_TIME) as fleet:
        front, (first, second) = fleet.front, fleet.made
        wanted = told(await ask(fleet, CHAT)).text
        front.replicas.observe([first.sighting()])
        async with await front.connect() as client, await front.connect() as late:
            fleet.cuts = [700]
            (model,) = front.shared.catalog.models()
            client.write(post({"model": MODEL, "stream": True, **CHAT}))
            await until(lambda: front.in_flight)
            late.write(post({"model": MODEL, "stream": False, **CHAT, "user": "late"}))
            await until(lambda: model.queue.depth == 2 and not front.in_flight)
            assert model.queue.waiting(Priority.HIGH) == 1
            front.replicas.observe([second.sighting()])
            got = told(await client.reply())
            assert (got.text, got.done) == (wanted, True)
            assert (await late.reply()).status == 200
            paths = [(call.path, b"late" in call.body) for call in second.calls[-4:]]
            assert [late for _, late in paths] == [False, False, False, True]
            assert front.in_flight == front.shared.held_bytes == 0


async def test_it_goes_on_with_the_same_replica_once_that_is_back() -> None:
    """Its container was restarted in place, for a router that no watch tells of it."""
    async with simulated_fleet(1) as fleet:
        wanted = told(await ask(fleet, COMPLETION)).text
        fleet.cuts = [700]
        async with await fleet.front.connect() as client:
            (model,) = fleet.front.shared.catalog.models()
            client.write(post({"model": MODEL, "stream": True, **COMPLETION}, path="/v1/completions"))
            await until(lambda: model.queue.depth)
            fleet.front.advance(0.5)
            got = told(await client.reply())
            assert (got.text, got.done) == (wanted, True)


async def test_where_none_comes_in_time_it_ends_with_an_error() -> None:
    async with simulated_fleet(1) as fleet, await fleet.front.connect() as client:
        front = fleet.front
        (model,) = front.shared.catalog.models()
        fleet.cuts = [700]
        client.write(post({"model": MODEL, "stream": True, **COMPLETION}, path="/v1/completions"))
        await until(lambda: model.queue.depth)
        front.replicas.observe([])
        front.advance(59)
        assert model.queue.depth == 1
        front.advance(2)
        got = told(reply := await client.reply())
        assert (reply.whole, got.error, got.done) == (False, "upstream_lost", False)
        assert fleet.results == {"no_replica": 1}
        assert (model.queue.depth, front.shared.held_bytes) == (0, 0)


async def test_without_a_queue_nothing_is_waited_for() -> None:
    async with simulated_fleet(1, terms=NO_QUEUE) as fleet:
        fleet.cuts = [700]
        assert told(await ask(fleet, COMPLETION)).error == "upstream_lost"
        assert fleet.results == {"no_replica": 1}


@pytest.mark.parametrize("moment", ["it waits", "tokens are counted", "it goes on"])
async def test_a_client_that_leaves_meanwhile_leaves_nothing_behind(moment: str) -> None:
    go = asyncio.Event()

    async def cut(call: Call) -> None:
        call.begin_stream()
        call.event()
        await call.writer.drain()
        call.reset()

    async def slow(call: Call) -> None:
        if moment == "it goes on" and call.path == "/tokenize":
            call.json({"count": len(call.body), "max_model_len": 1000})
            return
        await asyncio.wait(
            [asyncio.ensure_future(go.wait()), asyncio.ensure_future(call.gone())], return_when="FIRST_COMPLETED"
        )
        go.set()

    async with scripted(slow, cut, terms=QUEUE) as (front, (second, first)), await front.connect() as client:
        if moment == "it waits":
            front.replicas.observe([first.sighting()])
        (model,) = front.shared.catalog.models()
        body = {"model": MODEL, "stream": True, "prompt": "a"}
        client.write(post(body, path="/v1/completions"))
        count = {"it waits": 0, "tokens are counted": 1, "it goes on": 3}[moment]
        await until(lambda: len(second.calls) == count and (count or model.queue.depth))
        client.reset()
        await until(lambda: front.counted(499, "client_gone") == 1)
        assert (front.in_flight, model.queue.depth, front.shared.held_bytes) == (0, 0, 0)
        if count:
            await asyncio.wait_for(go.wait(), 10)
        assert len(second.calls) == count


async def test_a_stream_that_falls_silent_goes_on_elsewhere() -> None:
    async with simulated_fleet(2, limits=Limits(first_byte_seconds=50, silence_seconds=20)) as fleet:
        wanted = told(await ask(fleet, COMPLETION)).text
        fleet.end, fleet.cuts = hang, [700]
        async with await fleet.front.connect() as client:
            client.write(post({"model": MODEL, "stream": True, **COMPLETION}, path="/v1/completions"))
            await until(lambda: fleet.hung)
            _, headers = await client.head()
            for _ in range(100):
                await asyncio.sleep(0)
            fleet.front.advance(21)
            got = told(await client.rest(headers))
            assert (got.text, got.done) == (wanted, True)


async def test_a_router_that_leaves_still_goes_on_with_its_streams() -> None:
    async with simulated_fleet(2) as fleet:
        front, (first, second) = fleet.front, fleet.made
        wanted = told(await ask(fleet, COMPLETION)).text
        front.replicas.observe([first.sighting()])
        async with await front.connect() as client:
            (model,) = front.shared.catalog.models()
            fleet.cuts = [700]
            client.write(post({"model": MODEL, "stream": True, **COMPLETION}, path="/v1/completions"))
            await until(lambda: model.queue.depth)
            leaving = asyncio.create_task(front.server.leave(lame_duck_seconds=0.05, drain_seconds=30))
            await until(lambda: front.shared.leaving and model.queue.depth)
            front.replicas.observe([second.sighting()])
            got = told(await client.reply())
            assert (got.text, got.done) == (wanted, True)
            await asyncio.wait_for(leaving, 10)


async def test_an_http_1_0_client_gets_it_whole_too() -> None:
    async with simulated_fleet(2) as fleet:
        wanted = told(await ask(fleet, COMPLETION))
        for cut in (700, 10_000):
            fleet.cuts = [cut]
            reply = await ask(fleet, COMPLETION, version="1.0")
            assert (told(reply).text, told(reply).done, "transfer-encoding" in reply.headers) == (wanted.text, True, False)


async def test_what_was_used_is_counted_once_for_limits_and_metrics() -> None:
    async with simulated_fleet(2) as fleet:
        fleet.cuts = [900]
        await ask(fleet, COMPLETION)
        ((_, tokens),) = fleet.front.shared.metrics.tokens.items()
        assert (tokens.prompt, tokens.completion) == (4, 12)


async def test_random_cuts_and_goodbyes_leave_every_gauge_at_zero() -> None:
    chance = random.Random(5)
    async with simulated_fleet(3) as fleet:
        front = fleet.front
        wanted = {kind: told(await ask(fleet, body)).text for kind, body in (("chat", CHAT), ("completion", COMPLETION))}
        fleet.cuts = [chance.choice((chance.randrange(2500), 1_000_000)) for _ in range(1000)]
        whole = 0

        async def tick() -> None:
            while True:
                for _ in range(20):
                    await asyncio.sleep(0)
                front.advance(0.25)

        async def visit() -> None:
            nonlocal whole
            for _ in range(10):
                kind, path = chance.choice((("chat", "/v1/chat/completions"), ("completion", "/v1/completions")))
                async with await front.connect() as client:
                    client.write(post({"model": MODEL, "stream": True, **(CHAT if kind == "chat" else COMPLETION)}, path=path))
                    if chance.random() < 0.2:
                        for _ in range(chance.randrange(200)):
                            await asyncio.sleep(0)
                        client.reset()
                        continue
                    got = told(reply := await client.reply())
                    assert reply.status == 200
                    assert got.done is not bool(got.error)
                    assert wanted[kind].startswith(got.text) and (got.error or got.text == wanted[kind])
                    whole += got.done

        ticking = asyncio.create_task(tick())
        await asyncio.gather(*(visit() for _ in range(20)))
        ticking.cancel()
        await until(lambda: not front.shared.clients)
        (model,) = front.shared.catalog.models()
        assert (front.in_flight, model.queue.depth, front.shared.held_bytes) == (0, 0, 0)
        assert whole > 100
        assert fleet.results["continued"] > 40
