"""Objects as they change, over the ends of watches and the absences of an API server."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web
from kubernetes.client import ApiClient, Configuration

from tests.cli.fleet_objects import Json, deployment
from tokenfleet.cli.cluster.connection import Cluster, Thing
from tokenfleet.cli.cluster.watching import View, views
from tokenfleet.cli.errors import CliError

_PATH = "/apis/x"
_THING = Thing("the things", rights="list and watch things")


@dataclass
class ApiServer:
    """lists: the answers of one list after the other, the last one again and again; watches: likewise, and then silence."""

    lists: list[list[Json] | int]
    watches: list[list[Json] | int] = field(default_factory=list)
    asked: list[dict[str, str]] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(dict(request.query))
        if "watch" not in request.query:
            found = self.lists.pop(0) if len(self.lists) > 1 else self.lists[0]
            if isinstance(found, int):
                return web.Response(status=found)
            return web.json_response({"items": found, "metadata": {"resourceVersion": "7"}})
        events = self.watches.pop(0) if self.watches else await asyncio.Event().wait()
        if isinstance(events, int):
            return web.Response(status=events)
        return web.Response(text="".join(json.dumps(event) + "\n" for event in events or ()))


def event(kind: str, body: Json) -> Json:
    return {"type": kind, "object": body | {"metadata": body["metadata"] | {"resourceVersion": "8"}}}


async def seen(api: ApiServer, count: int) -> list[View]:
    application = web.Application()
    application.router.add_get(_PATH, api.answer)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    address: Any = runner.addresses[0]
    cluster = Cluster(ApiClient(Configuration(host=f"http://127.0.0.1:{address[1]}")), namespace="chat")
    found: AsyncIterator[View] = views(cluster, _PATH, _THING, {"fieldSelector": "a=b"}, patience=(0.01,))
    try:
        return [await asyncio.wait_for(anext(found), 20) for _ in range(count)]
    finally:
        await found.aclose()  # type: ignore[attr-defined]
        await runner.cleanup()


def names(view: View) -> list[str]:
    return [one["metadata"]["name"] for one in view.objects]


async def test_each_change_gives_a_view_of_all() -> None:
    a, b = deployment("a"), deployment("b")
    api = ApiServer([[a]], [[event("ADDED", b), event("BOOKMARK", b), event("DELETED", a)]])
    assert [names(view) for view in await seen(api, 4)] == [["a"], ["a", "b"], ["a", "b"], ["b"]]
    assert api.asked[0] == {"fieldSelector": "a=b"}
    assert (api.asked[1]["resourceVersion"], api.asked[1]["fieldSelector"]) == ("7", "a=b")


async def test_a_watch_that_came_too_late_lists_anew_without_a_word() -> None:
    api = ApiServer([[deployment("a")], [deployment("b")]], [410])
    assert [(names(view), view.away) for view in await seen(api, 2)] == [(["a"], ""), (["b"], "")]


async def test_an_api_server_that_is_away_is_told_and_asked_again() -> None:
    api = ApiServer([[deployment("a")], 503, 503, [deployment("b")]], [[]])
    first, away, still, back = await seen(api, 4)
    assert (names(first), names(away), names(back)) == (["a"], ["a"], ["b"])
    assert away.away == still.away
    assert away.away.startswith("The cluster cannot get the things right now")
    assert away.away.endswith("It is asked again; what is shown may be old.")
    assert back.away == ""


@pytest.mark.parametrize(
    ("lists", "watches", "words"),
    [
        pytest.param(
            [403], [], "You may not get the things: ask for a role that lets you list and watch things.", id="no list"
        ),
        pytest.param([[]], [403], "You may not watch the things", id="a list, and no watch"),
        pytest.param([503], [], "The cluster cannot get the things right now", id="away from the beginning"),
    ],
)
async def test_what_is_refused_ends_it(lists: list[Any], watches: list[Any], words: str) -> None:
    with pytest.raises(CliError) as error:
        await seen(ApiServer(lists, watches), 2)
    assert words in str(error.value)
