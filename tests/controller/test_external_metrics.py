"""external.metrics.k8s.io over real TLS: who may ask, what is answered, and that what is not known is never 0."""

import asyncio
import contextlib
import json
import socket
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from multidict import CIMultiDict

from tests.router.certificates import Pair, write
from tests.router.harness import until
from tokenfleet import contract
from tokenfleet.controller.actuators import access, front_proxy
from tokenfleet.controller.actuators.access import Access
from tokenfleet.controller.actuators.front_proxy import Caller, FrontProxy, Unusable
from tokenfleet.controller.actuators.gauges import LoadGauges
from tokenfleet.controller.actuators.metrics_server import MetricsServer
from tokenfleet.controller.cluster import Unavailable
from tokenfleet.controller.observed import Json, Load
from tokenfleet.controller.store import Key

PROXY, STRANGER, SERVED, RENEWED = Pair("front-proxy-client"), Pair("stranger"), Pair("served"), Pair("renewed")
ROOT = "/apis/external.metrics.k8s.io"
QUEUE = f"{ROOT}/v1beta1/namespaces/models/tokenfleet_queue_depth"
HPA = {
    "X-Remote-User": "system:serviceaccount:kube-system:horizontal-pod-autoscaler",
    "X-Remote-Group": "system:serviceaccounts",
    "X-Remote-Extra-scopes%2fall": "a",
}
LOADS: dict[Key, Load] = {
    (contract.KIND, "models", "busy"): Load(complete=True, waiting=7, in_flight={"a": 3, "b": 4}),
    (contract.KIND, "models", "idle"): Load(complete=True),
    (contract.KIND, "models", "silent"): Load(complete=False, waiting=3),
}


def config_map(authority: Pair = PROXY, **data: str) -> Json:
    usual = {
        "requestheader-client-ca-file": authority.chain.decode(),
        "requestheader-allowed-names": '["front-proxy-client"]',
        "requestheader-username-headers": '["X-Remote-User"]',
        "requestheader-group-headers": '["X-Remote-Group"]',
        "requestheader-extra-headers-prefix": '["X-Remote-Extra-"]',
    }
    return {"data": usual | {name.replace("_", "-"): value for name, value in data.items()}}


class Api:
    """An API server that knows the front proxy, and lets the autoscaling controller alone read metrics."""

    def __init__(self, *answers: Json) -> None:
        self.config_map, self.away = config_map(), False
        self.reviews: list[Json] = []

    async def call(self, method: str, path: str, body: Json | None = None) -> Json:
        if method == "GET":
            assert path == front_proxy.PATH
            return self.config_map
        assert (method, path) == ("POST", access.PATH)
        assert body is not None
        if self.away:
            raise Unavailable("the API server is away")
        self.reviews.append(body["spec"])
        return {"status": {"allowed": body["spec"]["user"] == HPA["X-Remote-User"]}}


def client(pair: Pair | None, tmp_path: Path, *, server: Pair = SERVED) -> ssl.SSLContext:
    context = server.client()
    if pair is not None:
        (tmp_path / "client.pem").write_bytes(pair.chain + pair.key)
        context.load_cert_chain(tmp_path / "client.pem")
    return context


class Asker:
    def __init__(self, port: int, tmp_path: Path, server: asyncio.Task[None]) -> None:
        self.port, self._tmp_path, self._server = port, tmp_path, server

    async def until_served(self, path: str, **options: Any) -> tuple[int, Any]:
        """The first answer. Says what was in the way where there is none, and ends with the server."""
        told: Exception | None = None
        for _ in range(500):
            if self._server.done():
                self._server.result()
            try:
                return await self(path, **options)
            except (aiohttp.ClientError, ConnectionError, ssl.SSLError) as error:
                told = error
            await asyncio.sleep(0.02)
        raise AssertionError(f"not served: {told!r}")

    async def __call__(
        self, path: str, *, pair: Pair | None = PROXY, headers: dict[str, str] = HPA, server: Pair = SERVED, **query: str
    ) -> tuple[int, Any]:
        context = client(pair, self._tmp_path, server=server)
        url = f"https://127.0.0.1:{self.port}{path}"
        async with aiohttp.ClientSession() as session, session.get(url, ssl=context, headers=headers, params=query) as answer:
            return answer.status, await answer.json()


@contextlib.asynccontextmanager
async def served(api: Api, tmp_path: Path, *, look: float = 60.0) -> AsyncIterator[Asker]:
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    SERVED.mount(mounted)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    server = MetricsServer(LoadGauges(LOADS.get), api, directory=mounted, port=port, host="127.0.0.1")
    task = asyncio.create_task(server.keep(look=look))
    try:
        ask = Asker(port, tmp_path, task)
        await ask.until_served("/openapi/v3")
        yield ask
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize(
    ("metric", "name", "value"),
    [
        pytest.param("tokenfleet_queue_depth", "busy", "7", id="what waits"),
        pytest.param("tokenfleet_in_flight", "busy", "7", id="what its replicas have, all of them together"),
        pytest.param("tokenfleet_queue_depth", "idle", "0", id="nothing, said by all routers, is 0"),
    ],
)
async def test_the_autoscaling_controller_reads_a_gauge(tmp_path: Path, metric: str, name: str, value: str) -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    async with served(Api(), tmp_path) as ask:
        status, body = await ask(f"{ROOT}/v1beta1/namespaces/models/{metric}", labelSelector=f"deployment={name}")
    (item,) = body.pop("items")
    assert before <= datetime.fromisoformat(item.pop("timestamp")) <= datetime.now(UTC)
    assert status == 200
    assert item == {"metricName": metric, "metricLabels": {"deployment": name}, "value": value}
    assert body == {
        "kind": "ExternalMetricValueList",
        "apiVersion": "external.metrics.k8s.io/v1beta1",
        "metadata": {},
    }


@pytest.mark.parametrize(
    ("path", "selector", "status", "words"),
    [
        pytest.param(QUEUE, "deployment=silent", 503, "models/silent is not known", id="a router is silent: never 0"),
        pytest.param(QUEUE, "deployment=nobody", 503, "models/nobody is not known", id="no such deployment"),
        pytest.param(QUEUE, "", 400, "deployment=NAME", id="no selector"),
        pytest.param(QUEUE, "deployment in (busy,idle)", 400, "deployment=NAME", id="another selector"),
        pytest.param(QUEUE, "deployment!=busy", 400, "deployment=NAME", id="all but one"),
        pytest.param(QUEUE, "deployment=busy,x=y", 400, "deployment=NAME", id="two labels"),
        pytest.param(
            f"{ROOT}/v1beta1/namespaces/models/other", "deployment=busy", 404, "tokenfleet_in_flight", id="no such metric"
        ),
        pytest.param(f"{ROOT}/v1", "", 404, "/v1 is not served: Not Found", id="another version"),
    ],
)
async def test_what_cannot_be_said_is_an_error(tmp_path: Path, path: str, selector: str, status: int, words: str) -> None:
    async with served(Api(), tmp_path) as ask:
        found, body = await ask(path, labelSelector=selector)
    assert (found, body["kind"], body["status"], body["code"]) == (status, "Status", "Failure", status)
    assert words in body["message"]


async def test_a_selector_may_be_written_with_two_equals_signs(tmp_path: Path) -> None:
    async with served(Api(), tmp_path) as ask:
        assert (await ask(QUEUE, labelSelector="deployment==busy"))[0] == 200


async def test_discovery_names_both_metrics_and_the_group(tmp_path: Path) -> None:
    async with served(Api(), tmp_path) as ask:
        _, resources = await ask(f"{ROOT}/v1beta1")
        _, group = await ask(ROOT)
        _, groups = await ask("/apis")
        assert (await ask("/openapi/v2"))[1]["swagger"] == "2.0"
    assert resources["groupVersion"] == "external.metrics.k8s.io/v1beta1"
    assert [(each["name"], each["namespaced"]) for each in resources["resources"]] == [
        ("tokenfleet_queue_depth", True),
        ("tokenfleet_in_flight", True),
    ]
    assert group["preferredVersion"]["version"] == "v1beta1"
    assert groups["groups"] == [group]


@pytest.mark.parametrize("path", [pytest.param(QUEUE, id="a metric"), pytest.param(ROOT, id="discovery")])
@pytest.mark.parametrize(
    ("pair", "headers"),
    [
        pytest.param(None, HPA, id="no certificate, whatever the headers say"),
        pytest.param(PROXY, {}, id="the front proxy, on nobody's behalf"),
        pytest.param(PROXY, {"X-Remote-User": ""}, id="the front proxy, with an empty name"),
    ],
)
async def test_who_is_not_known_gets_401(tmp_path: Path, path: str, pair: Pair | None, headers: dict[str, str]) -> None:
    api = Api()
    async with served(api, tmp_path) as ask:
        status, body = await ask(path, pair=pair, headers=headers, labelSelector="deployment=busy")
    assert (status, body["reason"]) == (401, "Unauthorized")
    assert api.reviews == []


async def test_a_certificate_of_another_authority_ends_the_handshake(tmp_path: Path) -> None:
    async with served(Api(), tmp_path) as ask:
        with pytest.raises((aiohttp.ClientError, ConnectionError, ssl.SSLError)):
            await ask(QUEUE, pair=STRANGER)
        assert (await ask(QUEUE, labelSelector="deployment=busy"))[0] == 200


async def test_the_api_server_says_who_may_read_what(tmp_path: Path) -> None:
    api = Api()
    async with served(api, tmp_path) as ask:
        assert (await ask(QUEUE, labelSelector="deployment=busy"))[0] == 200
        assert (await ask(QUEUE, labelSelector="deployment=idle"))[0] == 200
        status, body = await ask(QUEUE, headers={"X-Remote-User": "eve"}, labelSelector="deployment=busy")
    assert (status, body["reason"]) == (403, "Forbidden")
    assert "'eve' may not list tokenfleet_queue_depth.external.metrics.k8s.io in the namespace models" in body["message"]
    asked, denied = api.reviews  # The second question of the same caller was answered from memory.
    assert denied["user"] == "eve"
    assert asked == {
        "user": HPA["X-Remote-User"],
        "groups": ["system:serviceaccounts"],
        "extra": {"scopes/all": ["a"]},
        "resourceAttributes": {
            "verb": "list",
            "group": "external.metrics.k8s.io",
            "version": "v1beta1",
            "resource": "tokenfleet_queue_depth",
            "namespace": "models",
        },
    }


async def test_without_an_answer_of_the_api_server_nobody_is_let_in(tmp_path: Path) -> None:
    api = Api()
    api.away = True
    async with served(api, tmp_path) as ask:
        assert (await ask(QUEUE, labelSelector="deployment=busy"))[0] == 503


async def test_an_answer_is_remembered_for_a_moment_and_not_for_others() -> None:
    api, now = Api(), 100.0
    allowed = Access(api, clock=lambda: now)
    hpa = Caller(HPA["X-Remote-User"])
    for _ in range(3):
        assert await allowed.allows(hpa, namespace="models", metric="m")
    assert not await allowed.allows(Caller("eve"), namespace="models", metric="m")
    assert not await allowed.allows(Caller("eve"), namespace="models", metric="m")
    assert len(api.reviews) == 2
    await allowed.allows(hpa, namespace="others", metric="m")
    now += access.REMEMBERED_SECONDS
    await allowed.allows(hpa, namespace="models", metric="m")
    assert len(api.reviews) == 4
    for number in range(access.REMEMBERED + 10):
        await allowed.allows(Caller(str(number)), namespace="models", metric="m")
    assert len(allowed._answers) == access.REMEMBERED


async def test_a_renewed_certificate_and_a_renewed_authority_are_taken(tmp_path: Path) -> None:
    api = Api()
    async with served(api, tmp_path, look=0.02) as ask:
        write(tmp_path / "mounted", chain=RENEWED.chain, key=RENEWED.key)
        api.config_map = config_map(STRANGER, requestheader_allowed_names="[]")
        answer = await ask.until_served(QUEUE, pair=STRANGER, server=RENEWED, labelSelector="deployment=busy")
        assert answer[0] == 200
        with pytest.raises((aiohttp.ClientError, ConnectionError, ssl.SSLError)):
            await ask(QUEUE, pair=PROXY, server=RENEWED)


@pytest.mark.parametrize("broken", [pytest.param(b"no key", id="no key"), pytest.param(STRANGER.key, id="another's key")])
async def test_a_broken_certificate_changes_nothing(tmp_path: Path, broken: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async with served(Api(), tmp_path, look=0.02) as ask:
        write(tmp_path / "mounted", chain=RENEWED.chain, key=broken)
        await until(lambda: "cannot be used" in caplog.text)
        assert (await ask(QUEUE, labelSelector="deployment=busy"))[0] == 200
    assert "what was known before is used" in caplog.text


def headers(**values: str) -> Any:
    return CIMultiDict({name.replace("_", "-"): value for name, value in values.items()})


CERTIFICATE = {"subject": ((("organizationName", "system"),), (("commonName", "front-proxy-client"),))}


@pytest.mark.parametrize(
    ("certificate", "names", "known"),
    [
        pytest.param(CERTIFICATE, '["front-proxy-client"]', True, id="an allowed name"),
        pytest.param(CERTIFICATE, '["aggregator"]', False, id="another name than the allowed one"),
        pytest.param(CERTIFICATE, '["system"]', False, id="a name that is only its organisation's"),
        pytest.param(CERTIFICATE, "[]", True, id="any name that the authority signed"),
        pytest.param(None, "[]", False, id="no certificate"),
        pytest.param({}, "[]", False, id="a certificate that was not verified"),
    ],
)
def test_only_the_front_proxy_may_say_who_calls(certificate: Any, names: str, known: bool) -> None:
    trusted = FrontProxy.of(config_map(requestheader_allowed_names=names))
    caller = trusted.caller(certificate, headers(x_remote_user="eve"))
    assert caller == (Caller("eve") if known else None)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        pytest.param({}, "aggregation layer", id="an API server without aggregation"),
        pytest.param(config_map(requestheader_allowed_names="a"), "requestheader-allowed-names='a'", id="no JSON"),
        pytest.param(config_map(requestheader_username_headers=json.dumps("a")), "not a list", id="a word alone"),
    ],
)
def test_a_config_map_that_does_not_say_whom_to_trust(found: Json, words: str) -> None:
    with pytest.raises(Unusable, match=words):
        FrontProxy.of(found)
