"""`tokenfleet logs` against an API server that has pods and what they said."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web
from kubernetes.client import ApiClient, Configuration
from typer.testing import CliRunner

from tests.cli.fleet_objects import Json, pod
from tokenfleet import contract
from tokenfleet.cli.cluster.connection import Cluster
from tokenfleet.cli.errors import CliError, Unusable
from tokenfleet.cli.logs.reading import Extent, Line, Logs
from tokenfleet.cli.logs.selection import Source, parse_span, selector, sources
from tokenfleet.cli.main import app

_PODS = "/api/v1/namespaces/chat/pods"


def started(name: str, run: str, *, container: str = contract.CONTAINER_ENGINE, restarts: int = 0) -> Json:
    return pod(name, containers=[{"name": container, "containerID": run, "restartCount": restarts}])


@dataclass
class ApiServer:
    """Pods, their logs by (pod, container), and what happens to a watch."""

    pods: list[Json] = field(default_factory=list)
    logs: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    status: int = 200
    """Of a log."""
    asked: list[dict[str, str]] = field(default_factory=list)
    changes: "asyncio.Queue[Json]" = field(default_factory=asyncio.Queue)
    url: str = ""

    def cluster(self) -> Cluster:
        return Cluster(ApiClient(Configuration(host=self.url)), namespace="chat")

    async def start(self) -> web.AppRunner:
        application = web.Application()
        application.router.add_get(_PODS, self._pods)
        application.router.add_get(_PODS + "/{pod}/log", self._log)
        runner = web.AppRunner(application, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        address: Any = runner.addresses[0]
        self.url = f"http://127.0.0.1:{address[1]}"
        return runner

    async def _pods(self, request: web.Request) -> web.StreamResponse:
        if "watch" not in request.query:
            return web.json_response({"items": self.pods, "metadata": {"resourceVersion": "1"}})
        stream = web.StreamResponse()
        await stream.prepare(request)
        while True:
            body = await self.changes.get()
            body["metadata"]["resourceVersion"] = "2"
            await stream.write(json.dumps({"type": "MODIFIED", "object": body}).encode() + b"\n")

    async def _log(self, request: web.Request) -> web.Response:
        self.asked.append(dict(request.query) | {"pod": request.match_info["pod"]})
        if self.status != 200:
            return web.Response(status=self.status)
        lines = self.logs.get((request.match_info["pod"], request.query["container"]), [])
        return web.Response(text="".join(f"{line}\n" for line in lines))


@pytest.fixture
async def api() -> AsyncIterator[ApiServer]:
    server = ApiServer()
    runner = await server.start()
    yield server
    await runner.cleanup()


def chosen(api: ApiServer, role: str | None = None) -> Logs:
    return Logs(api.cluster(), namespace="chat", selector="x=y", role=role)


async def test_what_all_have_said_comes_in_the_order_of_time(api: ApiServer) -> None:
    api.pods = [started("a", "1"), started("b", "1", container="router")]
    api.logs = {
        ("a", "engine"): ["2026-01-01T00:00:01Z one", "2026-01-01T00:00:03Z three"],
        ("b", "router"): ["2026-01-01T00:00:02Z two"],
    }
    async with chosen(api) as logs:
        lines = list(await logs.there(await logs.sources(), Extent(tail=100, since_seconds=60)))
    assert [(line.source.label, line.text) for line in lines] == [("a", "one"), ("b", "two"), ("a", "three")]
    assert api.asked[0] | {"pod": "", "container": ""} == {
        "container": "",
        "pod": "",
        "follow": "false",
        "timestamps": "true",
        "tailLines": "100",
        "sinceSeconds": "60",
    }


async def test_following_takes_up_pods_that_come_and_containers_that_start_again(api: ApiServer) -> None:
    api.pods = [started("a", "1"), pod("later", containers=[{"name": "engine", "containerID": ""}])]
    api.logs = {("a", "engine"): ["2026-01-01T00:00:01Z first"]}
    told: asyncio.Queue[Line] = asyncio.Queue()
    async with chosen(api) as logs:
        following = asyncio.create_task(logs.follow(Extent(tail=1), told.put_nowait, lambda _: None))
        assert (await asyncio.wait_for(told.get(), 10)).text == "first"
        api.logs[("a", "engine")] = ["2026-01-01T00:00:02Z again"]
        api.changes.put_nowait(started("a", "2", restarts=1))
        assert (await asyncio.wait_for(told.get(), 10)).text == "again"
        api.logs[("new", "engine")] = ["2026-01-01T00:00:03Z new"]
        api.changes.put_nowait(started("new", "1"))
        assert (await asyncio.wait_for(told.get(), 10)).source.pod == "new"
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
    first = next(one for one in api.asked if one["pod"] == "a")
    assert first["tailLines"] == "1"
    assert {one.get("tailLines") for one in api.asked if one is not first} == {None}, "of what comes meanwhile, all"


async def test_a_log_that_was_cut_is_taken_up_where_it_was(api: ApiServer) -> None:
    api.pods = [started("a", "1")]
    api.logs = {("a", "engine"): ["2026-01-01T00:00:01.5Z one"]}
    told: asyncio.Queue[Line] = asyncio.Queue()
    async with chosen(api) as logs:
        following = asyncio.create_task(logs.follow(Extent(), told.put_nowait, lambda _: None))
        assert (await asyncio.wait_for(told.get(), 10)).text == "one"
        api.logs[("a", "engine")].append("2026-01-01T00:00:01.7Z two")
        assert (await asyncio.wait_for(told.get(), 10)).text == "two"
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
    assert [one.get("sinceTime") for one in api.asked][:2] == [None, "2026-01-01T00:00:01Z"]
    assert told.empty()


async def test_a_log_that_may_not_be_read_is_said(api: ApiServer) -> None:
    api.pods, api.status = [started("a", "1")], 403
    async with chosen(api) as logs:
        with pytest.raises(CliError, match=r"You may not read the log of chat/a: ask for a role that lets you get pods/log\."):
            await logs.there(await logs.sources(), Extent())


async def test_a_container_that_has_not_started_has_said_nothing(api: ApiServer) -> None:
    api.pods, api.status = [started("a", "1")], 400
    async with chosen(api) as logs:
        assert list(await logs.there(await logs.sources(), Extent(previous=True))) == []
    assert api.asked[0]["previous"] == "true"


@pytest.mark.parametrize(
    ("role", "router", "labels"),
    [
        pytest.param(None, None, "tokenfleet.dev/deployment=llama", id="all"),
        pytest.param("engine", None, "tokenfleet.dev/deployment=llama,tokenfleet.dev/role=engine", id="engines"),
        pytest.param("router", "shared", "tokenfleet.dev/router=shared,tokenfleet.dev/role=router", id="a shared router's"),
        pytest.param("fetch", None, "tokenfleet.dev/deployment=llama,tokenfleet.dev/role in (engine,prefill)", id="downloads"),
    ],
)
def test_which_pods_a_role_means(role: str | None, router: str | None, labels: str) -> None:
    assert selector("llama", role, router=router) == labels


def test_which_containers_a_role_means() -> None:
    containers = [{"name": "engine", "containerID": "2"}, {"name": "sidecar", "containerID": "3"}]
    body = pod("a", containers=containers)
    body["status"]["initContainerStatuses"] = [{"name": "fetch", "containerID": "1", "restartCount": 2}]
    fetch, engine, sidecar = Source("a", "fetch", "1", 2), Source("a", "engine", "2", 0), Source("a", "sidecar", "3", 0)
    assert sources([body], None) == [fetch, engine, sidecar]
    assert sources([body], "engine") == [engine, sidecar]
    assert sources([body], "fetch") == [fetch]
    assert [one.label for one in (fetch, engine, sidecar)] == ["a/fetch", "a", "a/sidecar"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        pytest.param("logs llama -f --previous", "give one of the two", id="what goes on has not ended"),
        pytest.param("logs llama --role gpu", "give one of engine, router, prefill, fetch, inspection", id="no role"),
        pytest.param("logs llama --since yesterday", "give one such as 30s, 10m, 2h or 1d", id="no span"),
    ],
)
def test_options_that_cannot_be_meant(line: str, words: str) -> None:
    error = CliRunner().invoke(app, line.split()).exception
    assert isinstance(error, Unusable)
    assert words in str(error)


def test_spans() -> None:
    assert [parse_span(text) for text in ("30s", "10m", "2h", "1d")] == [30, 600, 7_200, 86_400]
