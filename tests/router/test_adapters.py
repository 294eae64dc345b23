"""An LLMDeployment's LoRA adapters from the wire: in the middle of a rolling update, where one of two engines has it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from hashlib import sha256
from typing import Any

import msgspec
import pytest
from msgspec import structs

from tests.router.harness import DONE, EVENT, Call, Engine, Router, Script, answer, engines, get, post, router, until
from tokenfleet.router.balancing.outliers import CONSECUTIVE
from tokenfleet.router.callers.keys import Keyring
from tokenfleet.router.models import Pool
from tokenfleet.router.terms import QueueTerms, Terms

ADAPTER = "sql"
ADAPTERS = frozenset({ADAPTER})
Front = tuple[Router, Engine, Engine]


@contextlib.asynccontextmanager
async def rollout(old: Script = answer, new: Script = answer, *, terms: Terms | None = None) -> AsyncIterator[Front]:
    """A router, an engine of before and one that has the adapter."""
    async with engines(old, new) as (first, second), router() as front:
        observe(front, first, second)
        catalog = front.shared.catalog
        (model,) = catalog.models()
        adapter = catalog.model(ADAPTER)
        pool = Pool(model.pools[0].name, front.replicas, served_name=ADAPTER, adapter=ADAPTER)
        for one, pools, parent in ((model, model.pools, None), (adapter, (pool,), model.name)):
            one.update(terms or model.terms, pools, created=0, parent=parent)
        catalog.replace([model, adapter])
        yield front, first, second


def observe(front: Router, without: Engine, *having: Engine) -> None:
    """These run; the first one lacks the adapter."""
    front.replicas.observe([without.sighting(), *(structs.replace(one.sighting(), adapters=ADAPTERS) for one in having)])


def ask(**fields: Any) -> bytes:
    return post({"model": ADAPTER, "messages": [], **fields})


async def test_an_adapters_requests_go_to_the_engine_that_has_it_and_the_models_to_both() -> None:
    async with rollout() as (front, old, new):
        for _ in range(6):
            assert (await front.ask(ask())).status == 200
        assert (len(old.calls), len(new.calls)) == (0, 6)
        assert {msgspec.json.decode(call.body)["model"] for call in new.calls} == {ADAPTER}
        for _ in range(6):
            assert (await front.ask(post())).status == 200
        assert (len(old.calls), len(new.calls)) == (3, 9)
        assert front.shared.metrics.models[ADAPTER].requests[200, "relayed"] == 6
        assert front.in_flight == 0


async def test_a_stream_of_an_adapter() -> None:
    async with rollout() as (front, _, new):
        reply = await front.ask(ask(stream=True))
        assert (reply.body, reply.whole) == (EVENT * 3 + DONE, True)
        assert msgspec.json.decode(new.calls[0].body)["model"] == ADAPTER


async def test_a_request_waits_until_an_engine_has_its_adapter() -> None:
    async with rollout(terms=Terms()) as (front, old, new), await front.connect() as client:
        observe(front, old)
        client.write(ask())
        adapter = front.shared.catalog.get(ADAPTER)
        assert adapter is not None
        await until(lambda: adapter.queue.depth == 1)
        assert (await front.ask(post())).status == 200, "the model itself is served on"
        observe(front, old, new)
        assert (await client.reply()).status == 200
        assert (len(old.calls), len(new.calls), front.in_flight) == (1, 1, 0)


async def test_without_a_queue_the_refusal_names_the_adapter() -> None:
    async with rollout() as (front, old, _):
        observe(front, old)
        reply = await front.ask(ask())
        assert (reply.status, reply.error["code"]) == (503, "no_ready_replica")
        assert "the adapter sql" in str(reply.error["message"])
        assert "retry-after" in reply.headers


async def test_no_other_engine_is_asked_when_the_one_with_the_adapter_is_lost() -> None:
    async def die(call: Call) -> None:
        call.reset()

    async with rollout(new=die) as (front, old, new):
        reply = await front.ask(ask())
        assert (reply.status, reply.error["code"]) == (503, "replicas_unreachable")
        assert (len(old.calls), len(new.calls)) == (0, 1)


async def test_what_an_engine_has_in_flight_and_its_failures_are_of_all_names_together() -> None:
    go = asyncio.Event()

    async def holds(call: Call) -> None:
        await go.wait()
        await answer(call)

    one_each = Terms(max_in_flight=1, queue=QueueTerms(max_depth=5))
    async with rollout(new=holds, terms=one_each) as (front, old, new), await front.connect() as client:
        client.write(ask())
        await until(lambda: new.calls)
        for _ in range(3):
            assert (await front.ask(post())).status == 200
        assert (len(old.calls), len(new.calls)) == (3, 1), "the engine that is busy with the adapter gets nothing else"
        go.set()
        assert (await client.reply()).status == 200
    async with rollout() as (front, old, new):

        async def breaks(call: Call) -> None:
            call.json({}, status=502)

        new.script = breaks
        for _ in range(CONSECUTIVE):
            await front.ask(ask())
        new.script, before = answer, len(new.calls)
        for _ in range(4):
            assert (await front.ask(post())).status == 200
        assert len(new.calls) == before, "what failed for the adapter is ejected for the model too"
        assert (await front.ask(ask())).status == 200, "and asked all the same where no other has the adapter"


async def test_models_lists_adapters_and_a_key_may_be_for_one_alone() -> None:
    async with rollout() as (front, _, new):
        listed = msgspec.json.decode((await front.ask(get("/v1/models"))).body)["data"]
        assert [(one["id"], one["parent"]) for one in listed] == [("llama", None), (ADAPTER, "llama")]
        front.shared.keyring = Keyring()
        entry = {"sha256": sha256(b"tf-x").hexdigest(), "lastFour": "tf-x", "models": [ADAPTER]}
        front.shared.keyring.load({"x": msgspec.json.encode(entry)})
        key = "Authorization: Bearer tf-x\r\n"
        listed = msgspec.json.decode((await front.ask(get("/v1/models", headers=key))).body)["data"]
        assert [one["id"] for one in listed] == [ADAPTER]
        assert (await front.ask(post(headers=key))).status == 403
        assert (await front.ask(post({"model": ADAPTER, "messages": []}, headers=key))).status == 200
        assert len(new.calls) == 1


@pytest.mark.parametrize(("path", "names"), [("/debug/replicas.json", {"llama": 2, ADAPTER: 1})])
async def test_the_overview_shows_who_has_an_adapter(path: str, names: dict[str, int]) -> None:
    async with rollout() as (front, _, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", front.admin)
        writer.write(get(path, headers="Connection: close\r\n"))
        body = (await reader.read()).partition(b"\r\n\r\n")[2]
        writer.close()
        assert {model["model"]: len(model["replicas"]) for model in msgspec.json.decode(body)["models"]} == names
