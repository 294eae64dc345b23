"""The port of probes, metrics and people."""

import asyncio
from html import escape

import msgspec

from tests.router.harness import Call, Client, Reply, Router, answer, fleet, get, post, router, until
from tokenfleet.router.balancing.replicas import Sighting, State
from tokenfleet.router.callers.keys import Keyring


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
            'llm_router_requests_total{code="200",model="llama",reason="relayed"} 1.0',
            'llm_router_requests_total{code="404",model="",reason="model_not_found"} 1.0',
            'llm_router_in_flight{replica="engine-0"} 1.0',
            'llm_router_replicas{state="routable"} 1.0',
            'llm_router_time_to_first_byte_seconds_count{model="llama"} 1.0',
            'llm_router_request_seconds_bucket{le="+Inf",model="llama"} 1.0',
            'llm_router_queue_depth{model="llama",priority="normal"} 0.0',
            "llm_router_client_connections 1.0",
            "llm_router_watch_synced 1.0",
        ):
            assert line in text.splitlines()
        go.set()
        await client.reply()


async def test_each_replica_is_shown_as_data() -> None:
    async with fleet(answer) as (front, (engine,)):
        await front.ask(post())
        for path in ("/debug/replicas", "/debug/replicas.json"):
            reply = await page(front, get(path))
            assert reply.headers["content-type"] == "application/json"
            assert msgspec.json.decode(reply.body) == {
                "leaving": False,
                "connections": 0,
                "models": [
                    {
                        "model": "llama",
                        "waiting": {"high": 0, "normal": 0, "low": 0},
                        "queueDepth": 0,
                        "load": 0.0,
                        "policy": "LeastConnections",
                        "replicas": [
                            {
                                "name": "engine-0",
                                "address": f"127.0.0.1:{engine.port}",
                                "deployment": "llama",
                                "role": "serve",
                                "state": "routable",
                                "reason": "",
                                "inFlight": 0,
                                "foreign": 0.0,
                                "spareConnections": 1,
                            }
                        ],
                    }
                ],
            }


async def test_a_browser_gets_a_page_that_refreshes_itself_and_shows_names_as_text() -> None:
    evil = "<script>alert(1)</script>"
    sightings = (
        Sighting("a", "engine-a", "10.0.0.1", 8000, State.ROUTABLE),
        Sighting("b", "engine-b", "10.0.0.2", 8000, State.DRAINING, reason=evil),
    )
    async with router(*sightings) as front:
        reply = await page(front, get("/debug/replicas", headers="Accept: text/html,application/xhtml+xml,*/*;q=0.8\r\n"))
        text = reply.body.decode()
        assert reply.headers["content-type"] == "text/html; charset=utf-8"
        assert '<meta http-equiv="refresh" content="2">' in text
        assert "nobody waits" in text
        assert '<span class="state routable">routable</span>' in text
        assert f'<span class="state draining">draining</span> {escape(evil)}' in text
        assert evil not in text
        front.replicas.observe([])
        front.shared.leaving = True
        text = (await page(front, get("/debug/replicas", headers="accept: text/html\r\n"))).body.decode()
        assert "No replica runs." in text
        assert "This router is shutting down." in text


async def test_a_router_that_wants_keys_and_has_none_is_not_ready() -> None:
    async with router() as front:
        front.shared.keyring = Keyring()
        reply = await page(front, get("/readyz"))
        assert reply.status == 503
        assert reply.body.startswith(b"no API keys: the Secret of auth.keysSecret is missing")


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
