"""Asynchronous requests through real routers, a real Redis and engines that die: what was accepted ends once."""

import asyncio
import hashlib
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tests.integration.async_routers import MODEL, Json, Router, Routers, engine, until
from tests.integration.redis_server import RedisServer
from tests.router.harness import Call

SENT = {"traceparent": "00-1-2-01", "Idempotency-Key": "k"}
ORDER = {"Idempotency-Key": "order-7"}
ANSWER = {"id": "cmpl-1", "choices": [{"text": "é"}], "usage": {"prompt_tokens": 1, "completion_tokens": 2}}


@pytest.fixture
async def routers(tmp_path: Path, redis_url: str) -> AsyncIterator[Routers]:
    routers = Routers(tmp_path, redis_url)
    yield routers
    await routers.close()


async def well(call: Call) -> None:
    call.json(ANSWER)


class Gate:
    """An engine's script that answers when it is told to."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.gone = 0

    async def __call__(self, call: Call) -> None:
        leaving = asyncio.create_task(call.gone())
        opening = asyncio.create_task(self.open.wait())
        await asyncio.wait((leaving, opening), return_when=asyncio.FIRST_COMPLETED)
        opening.cancel()
        if leaving.done():
            self.gone += 1
            raise ConnectionError
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        call.json(ANSWER)


def key(token: str) -> Json:
    return {"sha256": hashlib.sha256(token.encode()).hexdigest(), "lastFour": token[-4:]}


async def test_a_request_is_accepted_runs_and_its_answer_is_kept_as_it_came(routers: Routers) -> None:
    async with engine(well) as one:
        router = await routers.start(one)
        answer = await router.post({"model": MODEL, "messages": []}, path="/v1/async/chat/completions", headers=SENT)
        receipt = answer.json()
        assert (answer.status_code, receipt["object"], receipt["status"]) == (202, "async.request", "queued")
        assert answer.headers["location"] == f"/v1/async/requests/{receipt['id']}"
        assert receipt["expires_at"] - receipt["created_at"] == 86_400
        ended = await router.ended(receipt["id"])
        assert (ended["status"], ended["endpoint"], ended["tries"]) == ("succeeded", "/v1/chat/completions", 1)
        assert ended["error"] is None
        raw = (await router.http.get(answer.headers["location"])).content
        assert b'"choices":[{"text":"\xc3\xa9"}]' in raw, "byte by byte"
        assert (ended["response"]["status_code"], ended["response"]["body"]) == (200, ANSWER)
        (call,) = one.calls
        assert (call.path, call.headers["traceparent"]) == ("/v1/chat/completions", "00-1-2-01")
        assert call.headers["x-request-id"] == ended["response"]["request_id"]
        assert "idempotency-key" not in call.headers
        assert ended["created_at"] <= ended["started_at"] <= ended["completed_at"] < ended["expires_at"]


async def test_a_killed_routers_request_is_finished_by_another_and_answered_once(routers: Routers) -> None:
    gate = Gate()
    async with engine(gate) as one:
        first = await routers.start(one)
        id_ = await first.accepted()
        await until("the engine to have it", lambda: one.calls)
        second = await routers.start(one)
        first.kill()
        assert (await second.state(id_))["status"] == "running"
        await until("another try", lambda: len(one.calls) == 2)
        gate.open.set()
        ended = await second.ended(id_)
        assert (ended["status"], ended["tries"], ended["response"]["body"]) == ("succeeded", 2, ANSWER)
        assert ended["response"]["request_id"] == one.calls[1].headers["x-request-id"]
        await asyncio.sleep(1.5)  # Longer than a claim lives: would it be tried again, it would be now.
        assert len(one.calls) == 2


async def test_a_router_that_slept_through_its_claim_does_not_write_over_the_new_ones_result(routers: Routers) -> None:
    gate = Gate()
    async with engine(gate) as one:
        sleeper = await routers.start(one)
        id_ = await sleeper.accepted()
        await until("the engine to have it", lambda: one.calls)
        sleeper.signal(signal.SIGSTOP)
        other = await routers.start(one)
        await until("another try", lambda: len(one.calls) == 2)
        gate.open.set()  # Both tries are answered; the sleeper finds its answer when it wakes up.
        ended = await other.ended(id_)
        sleeper.signal(signal.SIGCONT)
        await until("the sleeper to see it", lambda: "its claim" in sleeper.log)
        assert await other.state(id_) == ended == await sleeper.state(id_)
        assert ended["response"]["request_id"] == one.calls[1].headers["x-request-id"]


async def test_a_killed_engines_requests_are_tried_again(routers: Routers) -> None:
    gate = Gate()
    async with engine(gate) as one:
        router = await routers.start(one)
        ids = [await router.accepted() for _ in range(4)]
        await until("the engine to have all", lambda: len(one.calls) == 4)
        one.kill()
        gate.open.set()
        await until("the loss to be noticed", lambda: "no other has room" in router.log)
        await one.start()
        for id_ in ids:
            ended = await router.ended(id_)
            assert (ended["status"], ended["response"]["body"]) == ("succeeded", ANSWER)
            assert ended["tries"] <= 3
        assert len(one.calls) == 8, "each was sent twice, and no more"


@pytest.mark.parametrize(
    ("status", "state", "tries", "code"),
    [
        pytest.param(400, "failed", 1, "bad_prompt", id="an engine's refusal is the result"),
        pytest.param(500, "dead", 2, "tries_exhausted", id="an engine's fault is tried again, and then a dead letter"),
    ],
)
async def test_engines_errors(routers: Routers, status: int, state: str, tries: int, code: str) -> None:
    error = {"error": {"message": "No.", "type": "BadRequestError", "param": None, "code": "bad_prompt"}}

    async def fail(call: Call) -> None:
        call.json(error, status=status)

    async with engine(fail) as one:
        router = await routers.start(one, max_tries=2)
        ended = await router.ended(await router.accepted())
        assert (ended["status"], ended["tries"], ended["error"]["code"]) == (state, tries, code)
        assert len(one.calls) == tries
        if state == "failed":
            assert (ended["error"]["message"], ended["response"]["body"]) == ("No.", error)
        else:
            assert (ended["error"]["message"], ended["response"]) == (
                "Given up after 2 tries. The last one: a replica answered with 500.",
                None,
            )


async def test_a_full_engine_costs_no_tries(routers: Routers) -> None:
    answers = iter([503, 503, 429, 503, 200])

    async def busy(call: Call) -> None:
        call.json(ANSWER, status=next(answers))

    async with engine(busy) as one:
        router = await routers.start(one, max_tries=1)
        ended = await router.ended(await router.accepted())
        assert (ended["status"], ended["tries"], len(one.calls)) == ("succeeded", 1, 5)


async def test_with_no_engine_at_all_requests_wait(routers: Routers) -> None:
    async with engine(well) as one:
        one.kill()
        router = await routers.start(one, max_tries=1)
        id_ = await router.accepted()
        await until("a first attempt", lambda: "no other has room" in router.log)
        assert (await router.state(id_))["status"] in ("queued", "running")
        await one.start()
        assert ((await router.ended(id_))["status"], len(one.calls)) == ("succeeded", 1)


async def test_a_redis_that_is_killed_and_comes_back_has_lost_nothing(routers: Routers, redis_server: RedisServer) -> None:
    gate = Gate()
    async with engine(gate) as one:
        router = await routers.start(one, visibility_seconds=10)
        ids = [await router.accepted() for _ in range(12)]
        await until("the engine to be full", lambda: len(one.calls) == 4)
        redis_server.kill()
        answer = await router.post()
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "queue_unavailable")
        assert int(answer.headers["retry-after"]) > 0
        gone = await router.http.get(f"/v1/async/requests/{ids[0]}")
        assert (gone.status_code, gone.json()["error"]["code"]) == (503, "queue_unavailable")
        gate.open.set()
        await until("results that Redis does not take", lambda: "not stored yet" in router.log)
        redis_server.start()
        ended = [await router.ended(id_) for id_ in ids]
        assert {(one["status"], one["tries"]) for one in ended} == {("succeeded", 1)}
        assert len(one.calls) == 12, "and nothing ran twice"


async def test_a_redis_that_hangs_holds_up_nothing_but_the_queue(routers: Routers, redis_server: RedisServer) -> None:
    async with engine(well) as one:
        router = await routers.start(one, visibility_seconds=30)
        id_ = await router.accepted()
        await router.ended(id_)
        redis_server.command("CLIENT", "PAUSE", "5000", "ALL")
        hanging = asyncio.create_task(router.post(headers=ORDER))
        for _ in range(20):
            assert (await router.post(path="/v1/completions")).status_code == 200
        assert not hanging.done()
        answer = await hanging
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "queue_unavailable")
        async with asyncio.timeout(20):
            while (answer := await router.post(headers=ORDER)).status_code != 202:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        assert (await router.ended(answer.json()["id"]))["status"] == "succeeded"
        assert len(one.calls) == 22, "asking again under its key made no second one"


async def test_routers_that_are_killed_one_after_the_other_lose_nothing(routers: Routers) -> None:
    async def work(call: Call) -> None:
        await asyncio.sleep(0.7)
        call.json(ANSWER)

    async with engine(work) as one:
        keeper, *victims = [await routers.start(one, max_tries=20) for _ in range(4)]
        ids = [await keeper.accepted() for _ in range(100)]
        seen: dict[str, Json] = {}
        for victim in victims:
            await victim.shows("llm_router_async_running", 4)
            victim.kill()
            for id_ in ids:
                state = await keeper.state(id_)
                assert id_ not in seen or state == seen[id_], "what has ended stays as it is"
                if state["completed_at"] is not None:
                    seen[id_] = state
        ended = [await keeper.ended(id_) for id_ in ids]
        assert {state["status"] for state in ended} == {"succeeded"}
        assert all(seen.get(state["id"], state) == state for state in ended)
        tries = sum(state["tries"] for state in ended)
        assert len(one.calls) <= tries, "nothing ran that was not claimed"
        assert 100 + len(victims) <= tries <= 100 + 4 * len(victims), "each victim took a try of what it held, and of no more"


@pytest.mark.parametrize("elsewhere", [pytest.param(False, id="where it runs"), pytest.param(True, id="by another router")])
async def test_what_is_cancelled_while_it_runs_ends_on_the_engine_too(routers: Routers, elsewhere: bool) -> None:
    gate = Gate()
    async with engine(gate) as one:
        router = await routers.start(one)
        id_ = await router.accepted()
        await until("the engine to have it", lambda: one.calls)
        canceller = await routers.start(one) if elsewhere else router
        answer = await canceller.http.delete(f"/v1/async/requests/{id_}")
        assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")
        await until("the engine to be told", lambda: gate.gone == 1)
        again = await canceller.http.delete(f"/v1/async/requests/{id_}")
        assert (again.status_code, again.json()["status"]) == (200, "cancelled")
        gate.open.set()
        await asyncio.sleep(1.5)  # Longer than a claim lives.
        assert ((await router.state(id_))["status"], len(one.calls)) == ("cancelled", 1)


async def test_what_is_cancelled_before_it_runs_never_does(routers: Routers) -> None:
    gate = Gate()
    async with engine(gate) as one:
        router = await routers.start(one, spec={"maxInFlight": 1})
        ids = [await router.accepted() for _ in range(3)]
        await until("the first to run", lambda: one.calls)
        assert (await router.http.delete(f"/v1/async/requests/{ids[1]}")).json()["status"] == "cancelled"
        gate.open.set()
        assert [(await router.ended(id_))["status"] for id_ in ids] == ["succeeded", "cancelled", "succeeded"]
        assert len(one.calls) == 2
        late = await router.http.delete(f"/v1/async/requests/{ids[0]}")
        assert (late.status_code, late.json()["error"]["code"]) == (409, "request_ended")


async def test_cancels_and_results_that_cross_leave_one_end(routers: Routers) -> None:
    async def soon(call: Call) -> None:
        await asyncio.sleep(0.01)
        call.json(ANSWER)

    async def race(router: Router, wait: float) -> tuple[str, int]:
        id_ = await router.accepted()
        await asyncio.sleep(wait)
        cancelled = (await router.http.delete(f"/v1/async/requests/{id_}")).status_code
        ended = await router.ended(id_)
        await asyncio.sleep(0.1)
        assert await router.state(id_) == ended
        return ended["status"], cancelled

    async with engine(soon) as one:
        router = await routers.start(one)
        outcomes = await asyncio.gather(*(race(router, number * 0.002) for number in range(24)))
        assert set(outcomes) <= {("cancelled", 200), ("succeeded", 409)}
        assert len(set(outcomes)) == 2, "the race was a race"


async def test_parallel_clients_with_one_idempotency_key_get_one_request(routers: Routers) -> None:
    async with engine(well) as one:
        fleet = [await routers.start(one), await routers.start(one)]
        answers = await asyncio.gather(*(fleet[n % 2].post(headers=ORDER) for n in range(24)))
        assert {answer.status_code for answer in answers} == {202}
        (id_,) = {answer.json()["id"] for answer in answers}
        await fleet[0].ended(id_)
        assert (await fleet[1].post(headers=ORDER)).json()["status"] == "succeeded"
        other = await fleet[0].post({"model": MODEL, "prompt": "y"}, headers=ORDER)
        assert (other.status_code, other.json()["error"]["code"]) == (422, "idempotency_key_reused")
        assert len(one.calls) == 1


async def test_interactive_requests_go_first(routers: Routers) -> None:
    gate = Gate()
    async with engine(gate) as one:
        router = await routers.start(one, spec={"maxInFlight": 1})
        interactive = asyncio.create_task(router.post(path="/v1/completions"))
        await until("the engine to be full", lambda: one.calls)
        id_ = await router.accepted()
        later = asyncio.create_task(router.post({"model": MODEL, "prompt": "later"}, path="/v1/completions"))
        await asyncio.sleep(0.7)  # It is looked for room every half second.
        assert ((await router.state(id_))["status"], len(one.calls)) == ("queued", 1)
        gate.open.set()
        assert [(await interactive).status_code, (await later).status_code] == [200, 200]
        assert (await router.ended(id_))["status"] == "succeeded"
        assert b"later" in one.calls[1].body, "the asynchronous one came last"


async def test_metrics_tell_of_the_queue(routers: Routers) -> None:
    gate = Gate()
    async with engine(gate) as one:
        router = await routers.start(one, spec={"maxInFlight": 1})
        for _ in range(3):
            await router.accepted()
        idle = await routers.start(one)
        await router.shows("llm_router_async_running", 1)
        await idle.shows("llm_router_async_running", 2)
        await idle.shows('llm_router_async_pending{model="llama"}', 3)
        assert await idle.metric("llm_router_client_connections") == 1, "of the client that started it"
        gate.open.set()
        await router.shows('llm_router_async_tries_total{result="succeeded"}', 1)
        await idle.shows('llm_router_async_tries_total{result="succeeded"}', 2)
        await router.shows('llm_router_async_pending{model="llama"}', 0)


async def test_a_request_is_its_owners_alone_and_limited_when_it_is_accepted(routers: Routers) -> None:
    keys = {"alice": key("alice-secret") | {"requestsPerMinute": 2}, "bob": key("bob-secret")}
    once = {"Idempotency-Key": "k"}
    alice, bob = ({"authorization": f"Bearer {name}-secret"} for name in keys)
    async with engine(well) as one:
        router = await routers.start(one, keys=keys)
        await router.shows("llm_router_redis_up", 1)
        answer = await router.post(headers=alice | once)
        assert (answer.status_code, answer.headers["x-ratelimit-limit-requests"]) == (202, "2")
        location = answer.headers["location"]
        for method in ("GET", "DELETE"):
            strange = await router.http.request(method, location, headers=bob)
            assert (strange.status_code, strange.json()["error"]["code"]) == (404, "request_not_found")
            assert (await router.http.request(method, location)).status_code == 401
        assert (await router.post(headers=bob | once)).json()["id"] != answer.json()["id"]
        assert (await router.http.get(location, headers=alice)).status_code == 200
        await until("both to run", lambda: len(one.calls) == 2)
        assert (await router.post(headers=alice | once)).status_code == 202, "the same again costs nothing"
        await asyncio.sleep(0.5)  # What it took is given back.
        assert (await router.post(headers=alice)).status_code == 202
        limited = await router.post(headers=alice)
        assert (limited.status_code, limited.json()["error"]["code"]) == (429, "rate_limit_exceeded")
        assert "authorization" not in one.calls[0].headers


async def test_a_router_that_is_asked_to_leave_gives_its_request_to_another_at_once(routers: Routers) -> None:
    gate = Gate()
    async with engine(gate) as one:
        leaving = await routers.start(one, visibility_seconds=600)
        id_ = await leaving.accepted()
        await until("the engine to have it", lambda: one.calls)
        other = await routers.start(one, visibility_seconds=600)
        leaving.signal(signal.SIGTERM)
        await until("the other to have it", lambda: len(one.calls) == 2)
        assert await asyncio.to_thread(leaving.child.process.wait, 20) == 0
        gate.open.set()
        ended = await other.ended(id_)
        assert (ended["status"], ended["tries"]) == ("succeeded", 1)


async def test_a_request_that_runs_may_finish_while_its_router_leaves(routers: Routers) -> None:
    gate = Gate()
    async with engine(gate) as one:
        leaving = await routers.start(one)
        id_ = await leaving.accepted()
        await until("the engine to have it", lambda: one.calls)
        leaving.signal(signal.SIGTERM)
        await until("the goodbye", lambda: "leaving" in leaving.log)
        gate.open.set()
        assert await asyncio.to_thread(leaving.child.process.wait, 20) == 0
        other = await routers.start(one)
        assert ((await other.state(id_))["status"], len(one.calls)) == ("succeeded", 1)


async def test_what_is_refused_is_refused_at_once(routers: Routers) -> None:
    async def check(answer: httpx.Response, status: int, code: str) -> None:
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)

    gate = Gate()
    async with engine(gate) as one:
        router = await routers.start(one, spec={"maxInFlight": 1, "bounds": {"maxBodyBytes": 2000}}, max_pending=2)
        body = {"model": MODEL, "prompt": "x"}
        await check(await router.post(body | {"stream": True}), 400, "stream_unsupported")
        await check(await router.post(body | {"n": 100}), 400, "out_of_bounds")
        await check(await router.post(body | {"model": "other"}), 404, "model_not_found")
        await check(await router.post(body | {"prompt": "x" * 2000}), 413, "body_too_large")
        await check(await router.post(headers={"Idempotency-Key": "k" * 256}), 400, "out_of_bounds")
        await check(await router.http.get("/v1/async/requests/async_0"), 404, "request_not_found")
        await check(await router.http.get(f"/v1/async/requests/async_{'0' * 32}"), 404, "request_not_found")
        await check(await router.http.post("/v1/async/embeddings", json=body), 404, "unknown_path")
        await check(await router.http.put(f"/v1/async/requests/async_{'0' * 32}"), 405, "method_not_allowed")
        await router.accepted()
        await router.accepted()
        full = await router.post()
        await check(full, 503, "async_queue_full")
        assert int(full.headers["retry-after"]) > 0
        assert len(one.calls) <= 1


async def test_a_request_that_no_router_can_read_is_a_dead_letter_and_harms_no_other(
    routers: Routers, redis_server: RedisServer
) -> None:
    gate = Gate()
    async with engine(gate) as one:
        router = await routers.start(one, spec={"maxInFlight": 1}, max_tries=2)
        first, broken, third = [await router.accepted() for _ in range(3)]
        key = f"tokenfleet:{{static/llmdeployments/static}}:async:request:{broken}"
        redis_server.command("HSET", key, "body", "neither JSON nor anything")
        gate.open.set()
        ended = [await router.ended(id_) for id_ in (first, broken, third)]
        assert [one["status"] for one in ended] == ["succeeded", "dead", "succeeded"]
        assert ended[1]["error"]["message"].startswith("Given up after 2 tries. The last one: this router cannot run it")
