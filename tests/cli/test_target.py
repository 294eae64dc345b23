"""Where a command sends its requests: from a name to an answer of its router, by an API server that forwards."""

import ssl
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.cli.fleet_objects import Json, deployment, pod
from tests.cli.forward_server import ForwardServer
from tests.cli.openai_server import OpenAI
from tests.router.certificates import Pair
from tokenfleet import contract
from tokenfleet.cli.cluster import routers
from tokenfleet.cli.cluster.target import deployed, target
from tokenfleet.cli.errors import CliError, Unusable
from tokenfleet.cli.options import Place

_LLMD = f"/apis/{contract.GROUP}/{contract.VERSION}/namespaces/default/{contract.PLURAL}/llama"
_LLMR = f"/apis/{contract.GROUP}/{contract.VERSION}/namespaces/default/{contract.ROUTER_PLURAL}/shared"
_PODS = "/api/v1/namespaces/default/pods"
_SECRET = "/api/v1/namespaces/default/secrets/tls"


@contextmanager
def cluster(
    server: OpenAI, *, spec: Json, router: Json | None = None, pods: list[Json] | None = None
) -> Iterator[ForwardServer]:
    """Of one LLMDeployment, whose router pod `r` is the server."""
    body = deployment(spec=spec)
    body["metadata"]["namespace"] = "default"
    listed = pods if pods is not None else [pod("r", role=contract.ROLE_ROUTER)]
    objects: dict[str, Any] = {_LLMD: body, _PODS: {"items": listed}}
    if router is not None:
        objects[_LLMR] = {"metadata": {"name": "shared"}, "spec": router}
    with ForwardServer({"r": int(server.url.rpartition(":")[2])}, objects).running() as api:
        yield api


def get(url: str, context: ssl.SSLContext | None = None) -> bytes:
    handlers: list[Any] = [urllib.request.ProxyHandler({})]
    if context is not None:
        handlers.append(urllib.request.HTTPSHandler(context=context))
    with urllib.request.build_opener(*handlers).open(url, timeout=10) as answer:
        return bytes(answer.read())


def open_and_close(api: ForwardServer) -> None:
    with deployed(api.cluster(), "llama", tell=quiet):
        pass


def quiet(text: str) -> None:
    raise AssertionError(text)


@pytest.mark.parametrize(
    ("text", "url"),
    [
        pytest.param("http://host:8000", "http://host:8000/v1", id="without a path"),
        pytest.param("https://host/v1/", "https://host/v1", id="as the docs of a server have it"),
    ],
)
def test_an_url_is_taken_as_it_is(text: str, url: str) -> None:
    with target(Place(), text) as found:
        assert (found.base_url, found.model, found.ssl, found.deployment) == (url, None, None, None)
    with pytest.raises(Unusable, match="is no URL of a server"), target(Place(), "ftp://host"):
        pass


@pytest.mark.parametrize(
    ("spec", "router", "model"),
    [
        pytest.param({}, None, "llama", id="a router of its own"),
        pytest.param({"model": {"servedName": "chat"}}, None, "chat", id="a name that it is served by"),
        pytest.param({"routerRef": {"name": "shared"}}, {}, "llama", id="a shared router"),
    ],
)
def test_a_name_is_the_way_to_its_router(spec: Json, router: Json | None, model: str) -> None:
    with (
        OpenAI().running() as server,
        cluster(server, spec=spec, router=router) as api,
        deployed(api.cluster(), "llama", tell=quiet) as found,
    ):
        assert get(f"{found.base_url}/models") == b'{"data": [{"id": "demo"}]}'
        assert (found.model, found.base_url.startswith("http://127.0.0.1:")) == (model, True)


TLS = {"router": {"tls": {"secretName": "tls"}}}


def serving(directory: Path, pair: Pair) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    (directory / "tls.crt").write_bytes(pair.chain)
    (directory / "tls.key").write_bytes(pair.key)
    context.load_cert_chain(directory / "tls.crt", directory / "tls.key")
    return context


def test_a_router_with_tls_is_known_by_the_certificate_in_its_secret(tmp_path: Path) -> None:
    own, other = Pair("own"), Pair("other")
    with OpenAI().running(serving(tmp_path, own)) as server, cluster(server, spec=TLS) as api:
        api.objects[_SECRET] = {"data": {"tls.crt": b64encode(own.chain).decode()}}
        with deployed(api.cluster(), "llama", tell=quiet) as found:
            assert found.base_url.startswith("https://127.0.0.1:")
            assert not found.insecure
            assert b"demo" in get(f"{found.base_url}/models", found.ssl)
        api.objects[_SECRET] = {"data": {"tls.crt": b64encode(other.chain).decode()}}
        with (
            deployed(api.cluster(), "llama", tell=quiet) as found,
            pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY"),
        ):
            get(f"{found.base_url}/models", found.ssl)


def test_a_certificate_that_cannot_be_verified_is_told(tmp_path: Path) -> None:
    told: list[str] = []
    with OpenAI().running(serving(tmp_path, Pair("own"))) as server, cluster(server, spec=TLS) as api:
        api.objects[_SECRET] = 403
        with deployed(api.cluster(), "llama", tell=told.append) as found:
            assert found.insecure
            assert b"demo" in get(f"{found.base_url}/models", found.ssl)
    assert told == [
        "The router's certificate is not verified, since its Secret default/tls cannot be read: "
        "You may not get the Secret default/tls: ask for a role that lets you get Secrets."
    ]


def test_what_is_in_the_way_is_said() -> None:
    with OpenAI().running() as server:
        unready = [pod("r", role=contract.ROLE_ROUTER, ready=False)]
        with cluster(server, spec={}, pods=unready) as api, pytest.raises(CliError) as error:
            open_and_close(api)
        assert "No router of the LLMDeployment llama in the namespace default is ready" in str(error.value)
        assert "`tokenfleet diagnose llama -n default` says why" in str(error.value)
        with (
            cluster(server, spec={"routerRef": {"name": "shared"}}) as api,
            pytest.raises(CliError, match="no LLMRouter shared"),
        ):
            open_and_close(api)


def test_a_router_s_word_about_its_replicas_is_read_by_a_forward() -> None:
    words = {"/debug/replicas.json": (200, dict[str, Any](), '{"models": []}')}
    with OpenAI(refusals=words).running() as server, cluster(server, spec={}) as api:
        found = routers.routers_of(api.cluster(), {"metadata": {"name": "llama"}})
        assert routers.ready_pods(api.cluster(), found) == ["r"]
        assert routers.read_replicas(api.cluster(), namespace="default", pod="r") == {"models": []}
