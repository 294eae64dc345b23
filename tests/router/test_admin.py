"""The port of probes, metrics and people."""

import asyncio

import msgspec

from tests.router.harness import Call, Client, Reply, Router, answer, fleet, get, post, router, until


async def page(front: Router, raw: bytes) -> Reply:
    async with Client(*await asyncio.open_connection("127.0.0.1", front.admin)) as client:
        client.write(raw)
        reply = await client.reply()
        assert await client.closed()
        return reply


async def test_a_router_that_has_read_its_source_is_ready_until_it_leaves() -> None:
    async with router() as front:
        assert (await page(front, get("/readyz"))).status == 200
        front.shared.catalog.synced = False
        reply = await page(front, get("/readyz"))
        assert (reply.status, reply.body) == (503, b"the Kubernetes API has not been read yet\n")
        front.shared.catalog.synced = True
        front.shared.leaving = True
        reply = await page(front, get("/readyz"))
        assert (reply.status, reply.body) == (503, b"shutting down\n")
        assert (await page(front, get("/healthz?verbose"))).status == 200


async def test_metrics_show_what_happened_and_what_is_under_way() -> None:
    go = asyncio.Event()

    async def slowly(call: Call) -> None:
        if len(engine.calls) > 1:
            await go.wait()
        await answer(call)

    async with fleet(slowly) as (front, (engine,)), await front.connect() as client:
        await front.ask(post())
        await front.ask(post({"model": "other"}))
        client.write(post())
        await until(lambda: len(engine.calls) == 2)
        text = (await page(front, get("/metrics"))).body.decode()
        for line in (
            'llm_router_requests_total{code="200",reason="relayed"} 1.0',
            'llm_router_requests_total{code="404",reason="model_not_found"} 1.0',
            'llm_router_in_flight{replica="engine-0"} 1.0',
            'llm_router_replicas{state="routable"} 1.0',
            "llm_router_time_to_first_byte_seconds_count 1.0",
            'llm_router_request_seconds_bucket{le="+Inf"} 1.0',
            "llm_router_client_connections 1.0",
            "llm_router_watch_synced 1.0",
        ):
            assert line in text.splitlines()
        go.set()
        await client.reply()


async def test_people_see_each_replica() -> None:
    async with fleet(answer) as (front, (engine,)):
        await front.ask(post())
        pages = msgspec.json.decode((await page(front, get("/debug/replicas"))).body)
        assert pages == {
            "models": [
                {
                    "model": "llama",
                    "replicas": [
                        {
                            "name": "engine-0",
                            "address": f"127.0.0.1:{engine.port}",
                            "state": "routable",
                            "reason": "",
                            "inFlight": 0,
                            "spareConnections": 1,
                        }
                    ],
                }
            ]
        }


async def test_what_is_no_page_is_refused() -> None:
    async with router() as front:
        assert (await page(front, get("/v1/models"))).status == 404
        assert (await page(front, b"POST /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")).status == 405
        assert (await page(front, b"GET /healthz HTTP/1.1\n\n")).status == 400
        assert (await page(front, b"GET / HTTP/1.1\r\n" + b"x" * 20_000)).status == 400


async def test_a_visitor_that_says_nothing_is_sent_away() -> None:
    async with router() as front:
        client = Client(*await asyncio.open_connection("127.0.0.1", front.admin))
        client.write(b"GET")
        await asyncio.sleep(0)
        await until(lambda: _waiting(front))
        front.advance(11)
        assert await client.closed()


def _waiting(front: Router) -> bool:
    return front.shared.deadlines.waiting > 0
