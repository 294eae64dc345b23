"""A model without a replica that will do: another one answers, and each replica is tried once."""

import contextlib
from collections.abc import AsyncIterator

import msgspec

from tests.router.harness import MODEL, Call, Engine, Router, Script, answer, engines, post, router
from tokenfleet.router.balancing.replicas import Replicas, Sighting, State
from tokenfleet.router.models import Pool
from tokenfleet.router.terms import QueueTerms, Terms

SMALL = "small"
NO_QUEUE = Terms(queue=QueueTerms(max_depth=0))


def nobody(name: str) -> Sighting:
    """A replica where nothing listens."""
    return Sighting(key=name, name=name, host="127.0.0.1", port=1, state=State.ROUTABLE)


async def die(call: Call) -> None:
    call.reset()


async def drain(call: Call) -> None:
    call.json({}, status=503, headers="X-Tokenfleet-Draining: 1\r\n")


async def full(call: Call) -> None:
    call.json({"error": {"message": "full"}}, status=503, headers="retry-after: 7\r\n")


async def whoever(call: Call) -> None:
    """Says what the engine was asked for."""
    call.json({"model": msgspec.json.decode(call.body)["model"]})


@contextlib.asynccontextmanager
async def two_models(
    *own: Script | Sighting, other: tuple[Script | Sighting, ...], terms: Terms = NO_QUEUE
) -> AsyncIterator[tuple[Router, list[Engine]]]:
    """A router of the model `llama`, whose fallback is `small`, whose fallback is `llama`; and the engines of both."""
    scripts = [one for one in (*own, *other) if not isinstance(one, Sighting)]
    async with engines(*scripts) as made:
        rest = iter(made)
        seen = [one if isinstance(one, Sighting) else next(rest).sighting() for one in (*own, *other)]
        async with router(*seen[: len(own)], terms=terms) as front:
            catalog = front.shared.catalog
            (llama,) = catalog.models()
            llama.update(terms, llama.pools, created=0, fallbacks=[SMALL])
            replicas = Replicas(clock=lambda: front.now)
            replicas.observe(seen[len(own) :])
            small = catalog.model(SMALL)
            small.update(terms, [Pool(SMALL, replicas, served_name=SMALL)], created=0, fallbacks=[MODEL])
            catalog.replace([llama, small])
            yield front, made


def held(front: Router) -> int:
    return sum(pool.replicas.in_flight for model in front.shared.catalog.models() for pool in model.pools)


async def test_a_fallback_answers_when_no_replica_of_a_model_can_be_reached() -> None:
    async with two_models(nobody("a"), nobody("b"), other=(whoever,)) as (front, (engine,)):
        reply = await front.ask(post())
        assert (reply.status, msgspec.json.decode(reply.body)["model"]) == (200, SMALL)
        assert (len(engine.calls), held(front)) == (1, 0)
        assert front.shared.metrics.retries["connect"] == 2
        assert front.shared.metrics.models[SMALL].requests[200, "relayed"] == 1


async def test_a_fallback_answers_when_all_replicas_of_a_model_are_lost_draining_or_full() -> None:
    for script in (die, drain, full):
        async with two_models(script, script, other=(answer,)) as (front, made):
            assert (await front.ask(post())).status == 200
            assert [len(engine.calls) for engine in made] == [1, 1, 1]
            assert held(front) == 0


async def test_a_models_own_replicas_come_first() -> None:
    async with two_models(nobody("a"), answer, other=(answer,)) as (front, made):
        for _ in range(4):
            assert (await front.ask(post())).status == 200
        assert [len(engine.calls) for engine in made] == [4, 0]


async def test_where_the_fallback_fails_too_the_client_hears_of_the_model_that_it_asked_for() -> None:
    """The fallback's own fallback is not tried, though here it is that model again."""
    async with two_models(nobody("a"), other=(nobody("b"), nobody("c"))) as (front, _):
        reply = await front.ask(post())
        assert (reply.status, reply.error["code"]) == (503, "replicas_unreachable")
        assert str(reply.error["message"]).startswith("No replica of this model could take the request (tried: a,")
        assert front.shared.metrics.retries["connect"] == 2
        assert front.shared.metrics.models[MODEL].requests[503, "replicas_unreachable"] == 1
        assert held(front) == 0


async def test_where_the_fallback_is_full_too_the_client_gets_its_answer() -> None:
    async with two_models(full, other=(full,)) as (front, made):
        reply = await front.ask(post())
        assert (reply.status, reply.headers["retry-after"]) == (503, "7")
        assert [len(engine.calls) for engine in made] == [1, 1]


async def test_where_the_fallback_fails_a_request_waits_for_the_model_that_it_asked_for() -> None:
    async def hold(call: Call) -> None:
        call.begin_stream()
        call.event()
        await call.gone()

    one_each = Terms(max_in_flight=1, queue=QueueTerms(max_depth=5))
    async with two_models(drain, hold, other=(nobody("b"),), terms=one_each) as (front, made):
        busy, waiting = await front.connect(), await front.connect()
        async with busy, waiting:
            busy.write(post(stream=True))
            assert (await busy.head())[0] == 200
            made[1].script = answer
            waiting.write(post())
            (llama, small) = front.shared.catalog.models()
            while not llama.queue.depth:
                assert not small.queue.depth
                await front.ask(b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n")
            busy.reset()
            assert (await waiting.reply()).status == 200
            assert [len(engine.calls) for engine in made] == [1, 2]
            assert held(front) == 0
