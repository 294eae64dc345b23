"""What every answer of the API server means for the caller, and what is sent to it."""

import asyncio
import json
import logging
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest

from tests.controller.objects import NAME, NAMESPACE, UID
from tokenfleet import contract
from tokenfleet.controller import kinds
from tokenfleet.controller.cluster import Cluster, ClusterError, NotLeading, Refused, Stale, Unavailable, decide
from tokenfleet.controller.observed import Json
from tokenfleet.controller.reachability import CAP_SECONDS, Reachability

SERVICE = kinds.of("Service")
BODY: Json = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a", "namespace": NAMESPACE}}


class Server:
    """kubernetes.aio's client as far as Cluster uses it; `answers` are (status, body), or errors to raise."""

    def __init__(self, *answers: tuple[int, Any] | Exception, headers: dict[str, str] | None = None) -> None:
        self.answers = list(answers)
        self.headers = headers or {}
        self.requests: list[tuple[str, str, Any, dict[str, str]]] = []
        self.configuration = SimpleNamespace(host="https://api", get_api_key_with_prefix=self._token)
        self.rest_client = SimpleNamespace(request=self._request)

    async def _token(self, name: str, *, alias: str) -> str:
        return "Bearer secret"

    async def _request(self, method: str, url: str, *, headers: dict[str, str], body: Any, _request_timeout: Any) -> Any:
        self.requests.append((method, url, body, headers))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        status, data = answer

        async def read() -> bytes:
            return data if isinstance(data, bytes) else json.dumps(data).encode()

        return SimpleNamespace(status=status, headers=self.headers, read=read)


def cluster(server: Server, *, reachability: Reachability | None = None, leading: bool = True) -> Cluster:
    return Cluster(server, reachability or Reachability(), may_write=lambda: leading)  # type: ignore[arg-type]


def status(code: int, message: str = "Words.", *, reason: str = "", field: str = "") -> tuple[int, Json]:
    details = {"causes": [{"field": field}]} if field else {}
    return code, {"kind": "Status", "code": code, "message": message, "reason": reason, "details": details}


@pytest.mark.parametrize(
    ("answer", "decision"),
    [
        pytest.param(status(404), Stale, id="gone"),
        pytest.param(status(409), Stale, id="changed, or there already"),
        pytest.param(status(410), Stale, id="a listing that took too long"),
        pytest.param(status(422, field="metadata.uid"), Stale, id="another object of that name"),
        pytest.param(
            status(403, "unable to create new content in namespace a because it is being terminated"), Stale, id="dying"
        ),
        pytest.param(status(400), Refused, id="an admission webhook says no"),
        pytest.param(status(403), Refused, id="forbidden"),
        pytest.param(status(413), Refused, id="too large"),
        pytest.param(status(422, field="spec.replicas"), Refused, id="invalid"),
        pytest.param(status(500, reason="InternalError"), Refused, id="an admission webhook that cannot be called"),
        pytest.param(status(500, "etcdserver: leader changed"), Unavailable, id="etcd is busy with itself"),
        pytest.param(status(401), Unavailable, id="a token that has just ended"),
        pytest.param(status(429), Unavailable, id="too many requests"),
        pytest.param(status(503), Unavailable, id="not now"),
        pytest.param((502, b"<html>"), Unavailable, id="a proxy's page"),
        pytest.param((403, b"null"), Refused, id="an answer that is no Status"),
    ],
)
def test_what_an_answer_means(answer: tuple[int, Any], decision: type[ClusterError]) -> None:
    code, body = answer
    error = decide("PATCH /x", code, body if isinstance(body, bytes) else json.dumps(body).encode())
    assert type(error) is decision
    if isinstance(body, dict):
        assert body["message"] in str(error)


@pytest.mark.parametrize(("text", "seconds"), [("7", 7.0), ("0.5", 0.5), ("-1", 0.0), ("Fri, 31 Dec", None), (None, None)])
def test_retry_after(text: str | None, seconds: float | None) -> None:
    error = decide("x", 429, b"{}", retry_after=text)
    assert isinstance(error, Unavailable) and error.retry_after == seconds


@pytest.mark.parametrize(
    ("uid", "condition"),
    [
        pytest.param(None, {"resourceVersion": "1"}, id="one that must not exist yet"),
        pytest.param("u", {"uid": "u"}, id="this very one"),
    ],
)
async def test_an_apply_is_server_side_forced_and_conditional(uid: str | None, condition: Json) -> None:
    server = Server((200, {"ok": 1}))
    assert await cluster(server).apply(SERVICE, BODY, uid=uid) == {"ok": 1}
    ((method, url, body, headers),) = server.requests
    assert (method, url) == (
        "PATCH",
        f"https://api/api/v1/namespaces/{NAMESPACE}/services/a?fieldManager={contract.FIELD_MANAGER}&force=true",
    )
    assert body == {**BODY, "metadata": {**BODY["metadata"], **condition}}
    assert headers["Content-Type"] == "application/apply-patch+yaml"
    assert headers["Authorization"] == "Bearer secret"
    assert "uid" not in BODY["metadata"], "what was given stays as it was"


async def test_a_status_is_applied_to_the_subresource_of_this_very_object() -> None:
    server = Server((200, {}))
    metadata = {"name": NAME, "namespace": NAMESPACE, "uid": UID, "labels": {"a": "b"}}
    deployment = {"kind": contract.KIND, "metadata": metadata, "spec": {}}
    await cluster(server).apply_status(deployment, {"ready": "1/1"})
    ((_, url, body, _),) = server.requests
    assert f"/apis/tokenfleet.dev/v1alpha1/namespaces/{NAMESPACE}/llmdeployments/{NAME}/status?" in url
    assert body["metadata"] == {"name": NAME, "namespace": NAMESPACE, "uid": UID}
    assert body.keys() == {"apiVersion", "kind", "metadata", "status"}


async def test_a_status_of_an_llmrouter_goes_to_its_own_kind() -> None:
    server = Server((200, {}))
    router = {"kind": contract.ROUTER_KIND, "metadata": {"name": "shared", "namespace": NAMESPACE, "uid": UID}}
    await cluster(server).apply_status(router, {"ready": "1/1"})
    ((_, url, body, _),) = server.requests
    assert f"/namespaces/{NAMESPACE}/llmrouters/shared/status?" in url
    assert body["kind"] == contract.ROUTER_KIND


async def test_a_delete_names_its_victim_and_does_not_mind_if_it_is_gone() -> None:
    server = Server(status(404))
    await cluster(server).delete(SERVICE, NAMESPACE, "a", uid="u")
    assert server.requests[0][2]["preconditions"] == {"uid": "u"}


async def test_nothing_is_written_by_one_who_may_not_lead() -> None:
    server = Server()
    api = cluster(server, leading=False)
    for write in (api.apply(SERVICE, BODY, uid=None), api.delete(SERVICE, "a", "b", uid="u"), api.post_event(BODY)):
        with pytest.raises(NotLeading):
            await write
    assert server.requests == []


async def test_annotations_of_a_pod_are_set_and_taken_away_if_it_is_still_this_one() -> None:
    server = Server((200, {"a": 1}))
    assert await cluster(server).annotate_pod(NAMESPACE, "a", {"b": "c", "d": None}, uid="u") == {"a": 1}
    ((method, url, body, headers),) = server.requests
    assert (method, url) == ("PATCH", f"https://api/api/v1/namespaces/{NAMESPACE}/pods/a")
    assert headers["Content-Type"] == "application/merge-patch+json"
    assert body == {"metadata": {"uid": "u", "annotations": {"b": "c", "d": None}}}


async def test_a_condition_of_a_pod_leaves_the_others_as_they_are() -> None:
    server = Server((200, {"a": 1}))
    await cluster(server).set_pod_condition(NAMESPACE, "a", {"type": "x", "status": "True"}, uid="u")
    ((method, url, body, headers),) = server.requests
    assert (method, url) == ("PATCH", f"https://api/api/v1/namespaces/{NAMESPACE}/pods/a/status")
    assert headers["Content-Type"] == "application/strategic-merge-patch+json"
    assert body == {"metadata": {"uid": "u"}, "status": {"conditions": [{"type": "x", "status": "True"}]}}


@pytest.mark.parametrize(
    ("answer", "may"),
    [
        pytest.param((200, {"items": []}), True, id="it may"),
        pytest.param(status(403), False, id="it may not"),
        pytest.param(TimeoutError(), True, id="nobody answers, so the watch will tell"),
    ],
)
async def test_whether_nodes_may_be_read(answer: tuple[int, Any] | Exception, may: bool) -> None:
    server = Server(answer)
    assert await cluster(server).may_list(kinds.NODE) is may
    assert server.requests[0][1] == "https://api/api/v1/nodes?limit=1"


async def test_reading_needs_no_lead_and_nothing_there_is_none() -> None:
    api = cluster(Server((200, {"a": 1}), status(404)), leading=False)
    assert await api.get(SERVICE, NAMESPACE, "a") == {"a": 1}
    assert await api.get(SERVICE, NAMESPACE, "a") is None


async def test_a_listing_is_read_page_by_page() -> None:
    first = {"metadata": {"resourceVersion": "7", "continue": "more"}, "items": [{"metadata": {"name": "a"}}]}
    last = {"metadata": {"resourceVersion": "7"}, "items": [{"metadata": {"name": "b"}}]}
    server = Server((200, first), (200, last))
    pages = [page async for page in cluster(server).pages(SERVICE, None, selector="x")]
    assert [(items[0]["metadata"]["name"], items[0]["kind"], version) for items, version in pages] == [
        ("a", "Service", 7),
        ("b", "Service", 7),
    ]
    assert server.requests[0][1] == "https://api/api/v1/services?limit=500&labelSelector=x"
    assert server.requests[1][1].endswith("&continue=more")


@pytest.mark.parametrize(
    ("answer", "serves"),
    [
        pytest.param((200, {"resources": [{"name": contract.PLURAL}]}), True, id="there"),
        pytest.param((200, {"resources": [{"name": "others"}]}), False, id="not this one"),
        pytest.param((404, b"404 page not found"), False, id="the group is unknown"),
    ],
)
async def test_whether_the_crd_is_there(answer: tuple[int, Any], serves: bool) -> None:
    assert await cluster(Server(answer)).serves(kinds.LLM_DEPLOYMENT) is serves


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(aiohttp.ClientConnectionError("refused"), id="refused"),
        pytest.param(aiohttp.ServerDisconnectedError(), id="cut off"),
        pytest.param(TimeoutError(), id="no answer in time"),
        pytest.param(OSError("no route"), id="no network"),
    ],
)
async def test_no_answer_is_a_reason_to_wait(error: Exception) -> None:
    reachability = Reachability()
    with pytest.raises(Unavailable):
        await cluster(Server(error), reachability=reachability).get(SERVICE, NAMESPACE, "a")
    assert reachability.away


@pytest.mark.parametrize(("code", "away"), [(429, True), (503, True), (404, False), (422, False), (500, False)])
async def test_only_answers_that_concern_all_make_all_wait(code: int, away: bool) -> None:
    reachability = Reachability()
    api = cluster(Server(status(code)), reachability=reachability)
    with pytest.raises(ClusterError):
        await api.apply(SERVICE, BODY, uid=None)
    assert reachability.away is away


async def test_a_call_that_hangs_ends_at_its_deadline() -> None:
    server = Server()

    async def hang(*_: Any, **__: Any) -> None:
        await asyncio.Event().wait()

    server.rest_client = SimpleNamespace(request=hang)
    with pytest.raises(Unavailable, match="TimeoutError"):
        await cluster(server).call("GET", "/x", seconds=0.01)


class Sleeper:
    def __init__(self) -> None:
        self.now, self.slept = 0.0, list[float]()

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


async def test_waits_grow_to_a_cap_and_have_no_end(caplog: pytest.LogCaptureFixture) -> None:
    time = Sleeper()
    reachability = Reachability(clock=lambda: time.now, sleep=time.sleep, jitter=lambda: 1.0)
    with caplog.at_level(logging.INFO):
        for _ in range(100):
            reachability.failed("refused")
            reachability.failed("refused: another call at the same moment")
            await reachability.wait()
        assert time.slept[:4] == pytest.approx([0.2, 0.4, 0.8, 1.6]) and time.slept[-1] == pytest.approx(CAP_SECONDS)
        reachability.succeeded()
        await reachability.wait()
    assert len(time.slept) == 100
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"], "told once, and once more at the end"
    reachability.failed("again", retry_after=30.0)
    await reachability.wait()
    assert time.slept[-1] == pytest.approx(30.0), "the server's own wish is honoured"


async def tail(server: Server, reachability: Reachability | None = None) -> str:
    return await cluster(server, reachability=reachability).log_tail(
        NAMESPACE, "engine-a", "fetch", lines=5, limit=100, seconds=0.05
    )


async def test_the_end_of_a_log_is_asked_for_and_is_text() -> None:
    server = Server((200, "[1/2 bytes] \u00e9\n".encode() + b"\xff"))
    assert await tail(server) == "[1/2 bytes] \u00e9\n\ufffd"
    ((method, url, body, _),) = server.requests
    assert (method, body) == ("GET", None)
    query = "container=fetch&tailLines=5&limitBytes=100"
    assert url == f"https://api/api/v1/namespaces/{NAMESPACE}/pods/engine-a/log?{query}"


@pytest.mark.parametrize(
    ("answer", "decision"),
    [
        pytest.param(status(403), Refused, id="no right to read logs"),
        pytest.param(status(404), Stale, id="no such pod"),
        pytest.param(status(400, "container fetch is waiting to start"), Refused, id="not begun"),
        pytest.param(status(500, "dial tcp 10.0.0.1:10250", reason="InternalError"), Refused, id="a node that is away"),
        pytest.param(status(502), Unavailable, id="a tunnel that is down"),
        pytest.param(status(429), Unavailable, id="not now"),
        pytest.param(aiohttp.ClientConnectionError("reset"), Unavailable, id="a connection that broke"),
    ],
)
async def test_a_log_that_cannot_be_read_makes_nobody_else_wait(
    answer: tuple[int, Any] | Exception, decision: type[ClusterError]
) -> None:
    reachability = Reachability()
    with pytest.raises(decision):
        await tail(Server(answer), reachability)
    assert not reachability.away


async def test_a_log_that_does_not_come_is_given_up() -> None:
    class Silent(Server):
        async def _request(self, *arguments: Any, **options: Any) -> Any:
            await asyncio.Event().wait()

    reachability = Reachability()
    with pytest.raises(Unavailable, match="TimeoutError"):
        await tail(Silent(), reachability)
    assert not reachability.away
