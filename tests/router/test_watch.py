"""The mirror of the API: list, watch, bookmarks, 410, silence, errors, and an API that is away."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
import pytest
from aiohttp import web
from kubernetes.aio import client as kubernetes

from tests.router.harness import until
from tokenfleet.errors import InvalidSettings
from tokenfleet.router.shared import Shared
from tokenfleet.router.source.cluster_objects import Pod
from tokenfleet.router.source.sources import ClusterSource
from tokenfleet.router.source.watch import Mirror, Patience, Source
from tokenfleet.router.wire.limits import Limits
from tokenfleet.settings import RouterSettings

Handler = Callable[["Watch"], Awaitable[None]]
_QUICK = Patience(connect=1.0, list=5.0, silence=5.0, breather=0.001, backoff=0.001, backoff_limit=0.002)


LABELS = {"tokenfleet.dev/deployment": "llama", "tokenfleet.dev/role": "engine"}


def pod(name: str, version: int, **metadata: Any) -> dict[str, Any]:
    return {
        "kind": "Pod",
        "metadata": {"name": name, "uid": f"uid-{name}", "resourceVersion": str(version), "labels": LABELS, **metadata},
        "status": {"phase": "Running", "podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]},
    }


class Watch:
    """One watch that a client has open."""

    def __init__(self, query: dict[str, str], response: web.StreamResponse, closing: asyncio.Event) -> None:
        self.query = query
        self._response = response
        self._closing = closing

    async def send(self, kind: str, item: dict[str, Any]) -> None:
        await self._response.write(msgspec.json.encode({"type": kind, "object": item}) + b"\n")

    async def send_raw(self, line: bytes) -> None:
        await self._response.write(line)

    async def bookmark(self, version: int) -> None:
        await self.send("BOOKMARK", {"kind": "Pod", "metadata": {"resourceVersion": str(version)}})

    async def stay(self) -> None:
        await self._closing.wait()


class Api:
    """A fake API server: lists are answered from `items`, each watch by the next handler."""

    def __init__(self) -> None:
        self.items: list[dict[str, Any]] = []
        self.deployments: list[dict[str, Any]] = []
        self.routers: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self.version = 10
        self.lists: list[dict[str, str]] = []
        self.watches: list[dict[str, str]] = []
        self.handlers: list[Handler] = []
        self.refusals: list[web.Response] = []
        self.authorization: list[str | None] = []
        self.port = 0
        self.closing = asyncio.Event()

    async def serve(self, request: web.Request) -> web.StreamResponse:
        query = dict(request.query)
        self.paths.append(request.path)
        self.authorization.append(request.headers.get("authorization"))
        if self.refusals:
            return self.refusals.pop(0)
        if "watch" not in query:
            self.lists.append(query)
            listed = {"llmdeployments": self.deployments, "llmrouters": self.routers}
            items = listed.get(request.path.rpartition("/")[2], self.items)
            return web.json_response({"metadata": {"resourceVersion": str(self.version)}, "items": items})
        self.watches.append(query)
        response = web.StreamResponse()
        await response.prepare(request)
        watch = Watch(query, response, self.closing)
        await (self.handlers.pop(0)(watch) if self.handlers else watch.stay())
        return response


@contextlib.asynccontextmanager
async def api(port: int = 0) -> AsyncIterator[Api]:
    fake = Api()
    app = web.Application()
    app.router.add_get("/{path:.*}", fake.serve)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port)
    await site.start()
    fake.port = runner.addresses[0][1]
    try:
        yield fake
    finally:
        fake.closing.set()
        await runner.cleanup()


class Seen:
    """A mirror at work, and all that it has reported."""

    def __init__(self, port: int, patience: Patience) -> None:
        self.reports: list[list[str]] = []
        self.failures = 0
        self.clients = 0
        self._port = port
        source = Source(resource="pods", path="/api/v1/pods", kind=Pod, selector=(("labelSelector", "a=b,c=d"),))
        self.mirror = Mirror(
            source, self.connect, self.changed, failed=self.failed, patience=patience, uniform=lambda low, high: high
        )

    async def connect(self) -> kubernetes.ApiClient:
        self.clients += 1
        configuration = kubernetes.Configuration(host=f"http://127.0.0.1:{self._port}")
        configuration.api_key["BearerToken"] = f"bearer token-{self.clients}"
        return kubernetes.ApiClient(configuration)

    def changed(self, pods: list[Pod]) -> None:
        self.reports.append(sorted(one.metadata.name for one in pods))

    def failed(self, resource: str) -> None:
        assert resource == "pods"
        self.failures += 1


@contextlib.asynccontextmanager
async def following(port: int, patience: Patience = _QUICK) -> AsyncIterator[Seen]:
    seen = Seen(port, patience)
    task = asyncio.create_task(seen.mirror.follow())
    try:
        yield seen
        assert not task.done(), "the mirror never ends by itself"
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_events_change_what_was_listed() -> None:
    async def events(watch: Watch) -> None:
        await watch.send("ADDED", pod("b", 11))
        await watch.send("MODIFIED", pod("a", 12))
        await watch.send("DELETED", pod("b", 13))
        await watch.stay()

    async with api() as fake:
        fake.items, fake.handlers = [pod("a", 5)], [events]
        async with following(fake.port) as seen:
            await until(lambda: len(seen.reports) == 4)
            assert seen.reports == [["a"], ["a", "b"], ["a", "b"], ["a"]]
            (watch,) = fake.watches
            assert fake.lists == [{"labelSelector": "a=b,c=d"}]
            assert (watch["resourceVersion"], watch["allowWatchBookmarks"]) == ("10", "true")
            assert 240 <= int(watch["timeoutSeconds"]) <= 360
            assert fake.authorization == ["bearer token-1"] * 2
            assert seen.failures == 0


@pytest.mark.parametrize("bookmark", [False, True])
async def test_a_watch_that_ends_goes_on_from_the_last_version_without_a_list(bookmark: bool) -> None:
    async def end(watch: Watch) -> None:
        await watch.send("ADDED", pod("a", 11))
        if bookmark:
            await watch.bookmark(20)

    async with api() as fake:
        fake.handlers = [end]
        async with following(fake.port) as seen:
            await until(lambda: len(fake.watches) == 2)
            assert fake.watches[1]["resourceVersion"] == ("20" if bookmark else "11")
            assert (len(fake.lists), seen.failures, seen.reports) == (1, 0, [[], ["a"]])


@pytest.mark.parametrize("way", ["event", "status"])
async def test_a_version_that_is_gone_is_listed_anew(way: str) -> None:
    async def gone(watch: Watch) -> None:
        fake.items, fake.version = [pod("b", 30)], 31
        if way == "event":
            await watch.send("ERROR", {"kind": "Status", "code": 410, "message": "too old resource version"})
        else:
            fake.refusals = [web.Response(status=410)]

    async with api() as fake:
        fake.items, fake.handlers = [pod("a", 5)], [gone]
        async with following(fake.port) as seen:
            await until(lambda: len(seen.reports) == 2)
            assert seen.reports == [["a"], ["b"]]
            await until(lambda: fake.watches[-1]["resourceVersion"] == "31")
            assert len(fake.lists) == 2


async def test_a_silent_watch_is_replaced_without_a_list_or_a_failure() -> None:
    async with api() as fake, following(fake.port, Patience(silence=0.02, breather=0.001)) as seen:
        await until(lambda: len(fake.watches) == 2)
        assert (len(fake.lists), seen.failures, fake.watches[1]["resourceVersion"]) == (1, 0, "10")


async def test_an_api_that_is_away_is_waited_for_with_what_was_known() -> None:
    async def one_event(watch: Watch) -> None:
        await watch.send("ADDED", pod("b", 11))
        await watch.stay()

    async with contextlib.AsyncExitStack() as first:
        fake = await first.enter_async_context(api())
        fake.items, fake.handlers = [pod("a", 5)], [one_event]
        async with following(fake.port) as seen:
            await until(lambda: len(seen.reports) == 2)
            await first.aclose()
            await until(lambda: seen.failures >= 5)
            assert seen.reports == [["a"], ["a", "b"]]
            async with api(fake.port) as again:
                await until(lambda: again.watches)
                assert (again.watches[0]["resourceVersion"], again.lists) == ("11", [])


@pytest.mark.parametrize("status", [401, 404, 503])
async def test_an_error_is_waited_out_with_a_new_client(status: int) -> None:
    async with api() as fake:
        fake.items = [pod("a", 5)]
        fake.refusals = [web.Response(status=status, text="no") for _ in range(2)]
        async with following(fake.port) as seen:
            await until(lambda: seen.reports)
            assert (seen.reports, seen.failures, seen.clients) == ([["a"]], 2, 3)
            assert fake.authorization[-1] == "bearer token-3", "credentials are read again"


@pytest.mark.parametrize("line", [b"not json\n", b'{"type":"ADDED"}\n', b'{"type":"ADDED","object":{"metadata":[]}}\n'])
async def test_an_event_that_cannot_be_read_leads_to_a_new_list(line: bytes) -> None:
    async def babble(watch: Watch) -> None:
        await watch.send_raw(line)
        await watch.stay()

    async with api() as fake:
        fake.handlers = [babble]
        async with following(fake.port) as seen:
            await until(lambda: len(fake.lists) == 2)
            assert seen.failures == 1


async def test_an_event_larger_than_the_buffer_leads_to_a_new_list() -> None:
    async def huge(watch: Watch) -> None:
        await watch.send("ADDED", pod("a", 11, annotations={"x": "y" * 5_000_000}))
        await watch.stay()

    async with api() as fake:
        fake.handlers = [huge]
        async with following(fake.port) as seen:
            await until(lambda: len(fake.lists) == 2)
            assert seen.failures == 1


async def test_retry_after_is_obeyed() -> None:
    async with api() as fake:
        fake.refusals = [web.Response(status=429, headers={"Retry-After": "60"})]
        async with following(fake.port) as seen:
            await until(lambda: seen.failures == 1)
            for _ in range(50):
                await asyncio.sleep(0)
            assert fake.lists == []


def settings(**other: Any) -> RouterSettings:
    environment = {"TOKENFLEET_NAMESPACE": "models", "TOKENFLEET_DEPLOYMENT": "llama", **other}
    return RouterSettings.from_environment(environment)


async def test_the_catalog_is_filled_from_one_deployment_and_its_pods() -> None:
    async with api() as fake:
        fake.items = [pod("a", 1), pod("b", 2, deletionTimestamp="2026-01-01T00:00:00Z")]
        fake.deployments = [
            {
                "metadata": {"name": "llama", "uid": "d", "creationTimestamp": "2026-01-02T03:04:05Z"},
                "spec": {"model": {"servedName": "llama-3"}},
            }
        ]
        shared = Shared.new(Limits())
        catalog, seen = shared.catalog, Seen(fake.port, _QUICK)
        source = ClusterSource(shared, settings(), connect=seen.connect, patience=_QUICK)
        assert not catalog.synced
        task = asyncio.create_task(source.follow())
        await until(lambda: catalog.synced and len(fake.watches) == 2)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        (model,) = catalog.models()
        assert (model.name, model.created) == ("llama-3", 1_767_323_045)
        (pool,) = model.pools
        replicas = sorted((one.name, one.seen.state.value) for one in pool.replicas.all())
        assert replicas == [("a", "routable"), ("b", "draining")]
        assert sorted(set(fake.paths)) == [
            "/api/v1/namespaces/models/pods",
            "/apis/tokenfleet.dev/v1alpha1/namespaces/models/llmdeployments",
        ]
        assert sorted(query.popitem() for query in fake.lists) == [
            ("fieldSelector", "metadata.name=llama"),
            ("labelSelector", "tokenfleet.dev/deployment=llama,tokenfleet.dev/role in (engine,prefill)"),
        ]


async def test_a_shared_router_reads_its_llmrouter_all_llmdeployments_and_their_pods() -> None:
    async with api() as fake:
        fake.items = [pod("a", 1), pod("b", 2, labels={**LABELS, "tokenfleet.dev/deployment": "of-somebody-else"})]
        fake.routers = [{"metadata": {"name": "shared", "uid": "r"}, "spec": {"queue": {"maxDepth": 3, "timeoutSeconds": 4}}}]
        fake.deployments = [
            {"metadata": {"name": "llama", "uid": "d"}, "spec": {"model": {}, "routerRef": {"name": "shared"}}},
            {"metadata": {"name": "of-somebody-else", "uid": "e"}, "spec": {"model": {}}},
        ]
        shared = Shared.new(Limits())
        source = ClusterSource(
            shared,
            settings(TOKENFLEET_ROUTER="shared"),
            connect=Seen(fake.port, _QUICK).connect,
            patience=_QUICK,
        )
        task = asyncio.create_task(source.follow())
        await until(lambda: shared.catalog.synced and len(fake.watches) == 3)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        (model,) = shared.catalog.models()
        assert (model.name, model.terms.queue.max_depth) == ("llama", 3)
        assert [replica.name for replica in model.pools[0].replicas.all()] == ["a"]
        assert sorted(path.rpartition("/")[2] for path in set(fake.paths)) == ["llmdeployments", "llmrouters", "pods"]
        assert {"fieldSelector": "metadata.name=shared"} in fake.lists
        assert {"labelSelector": "tokenfleet.dev/role in (engine,prefill)"} in fake.lists


async def test_it_is_ready_when_all_kinds_were_read() -> None:
    async with api() as fake:
        fake.refusals = [web.Response(status=500) for _ in range(3)]
        shared = Shared.new(Limits())
        connect = Seen(fake.port, _QUICK).connect
        source = ClusterSource(shared, settings(TOKENFLEET_ROUTER="shared"), connect=connect, patience=_QUICK)
        task = asyncio.create_task(source.follow())
        await until(lambda: len(fake.paths) >= 3)
        assert not shared.catalog.synced
        await until(lambda: shared.catalog.synced)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_a_deployment_that_is_deleted_is_no_longer_listed() -> None:
    async def delete(watch: Watch) -> None:
        if "fieldSelector" in watch.query:
            await watch.send("DELETED", {"metadata": {"name": "llama", "uid": "d", "resourceVersion": "11"}})
        await watch.stay()

    async with api() as fake:
        fake.deployments = [{"metadata": {"name": "llama", "uid": "d"}}]
        fake.handlers = [delete, delete]
        shared = Shared.new(Limits())
        catalog = shared.catalog
        source = ClusterSource(shared, settings(), connect=Seen(fake.port, _QUICK).connect, patience=_QUICK)
        task = asyncio.create_task(source.follow())
        await until(lambda: catalog.models())
        await until(lambda: catalog.synced and not catalog.models())
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_no_way_to_the_api_at_the_start_is_a_mistake_in_the_settings() -> None:
    async def nowhere() -> Any:
        raise InvalidSettings("No way to the Kubernetes API")

    source = ClusterSource(Shared.new(Limits()), settings(), connect=nowhere)
    with pytest.raises(InvalidSettings):
        await source.follow()
