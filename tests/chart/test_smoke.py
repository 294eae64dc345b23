"""The script behind `helm test`: what it says of healthy and of broken installations, over real sockets on loopback."""

import importlib.util
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import certifi
import pytest

SCRIPT = Path(__file__).parent.parent.parent / "charts" / "tokenfleet" / "files" / "smoke.py"

Answer = tuple[int, str]
"""Status and body; a body that ends in CUT is cut off there, before the length that its header promised."""
CUT = "\0"

MODELS = json.dumps({"data": [{"id": "llama"}]})
RESOURCES = json.dumps({"resources": [{"name": "llmdeployments"}, {"name": "llmdeployments/status"}]})


def event(text: str) -> str:
    return f"data: {json.dumps({'choices': [{'text': text}]})}\n\n"


STREAM = event(" a") + event(" fleet") + "data: [DONE]\n\n"
HEALTHY: dict[str, list[Answer]] = {
    "/apis/tokenfleet.dev/v1alpha1": [(200, RESOURCES)],
    "/readyz": [(200, "ok")],
    "/v1/models": [(200, MODELS)],
    "/v1/completions": [(200, STREAM)],
}


@pytest.fixture
def smoke() -> ModuleType:
    spec = importlib.util.spec_from_file_location("smoke", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["smoke"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


Serve = Callable[[dict[str, list[Answer]]], str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """`serve(answers)` answers each path in turn, the last answer for ever; returns the URL."""
    servers: list[ThreadingHTTPServer] = []

    def start(answers: dict[str, list[Answer]]) -> str:
        left = {path: list(turns) for path, turns in answers.items()}

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                turns = left.get(self.path, [(404, "no such path")])
                status, body = turns.pop(0) if len(turns) > 1 else turns[0]
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body.removesuffix(CUT).encode())

            def do_POST(self) -> None:
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                assert (request["model"], request["stream"]) == ("llama", True)
                self.do_GET()

            def log_message(self, *_: Any) -> None:
                pass

        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=servers[-1].serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def client(smoke: ModuleType, tmp_path: Path) -> Any:
    """A client with half a minute left, whose naps take no time."""
    (tmp_path / "token").write_text("t0ken")
    (tmp_path / "ca.crt").write_text(Path(certifi.where()).read_text())
    return smoke.Client(deadline=time.monotonic() + 30, sleep=lambda seconds: None, account=tmp_path)


def test_a_healthy_installation(smoke: ModuleType, client: Any, serve: Serve) -> None:
    url = serve(HEALTHY)
    assert smoke.check_api(client, url) == "the API server serves llmdeployments.tokenfleet.dev/v1alpha1"
    assert smoke.check_controller(client, url) == "the controller is ready"
    assert smoke.check_completion(client, url) == "llama answers: Kubernetes is a fleet"


def test_a_503_is_asked_again(smoke: ModuleType, client: Any, serve: Serve) -> None:
    url = serve(HEALTHY | {"/v1/completions": [(503, "starting"), (503, "starting"), (200, STREAM)]})
    assert smoke.check_completion(client, url) == "llama answers: Kubernetes is a fleet"


@pytest.mark.parametrize(
    ("check", "answers", "words"),
    [
        pytest.param(
            "check_api", {"/apis/tokenfleet.dev/v1alpha1": [(404, "nope")]}, "404 nope. See: kubectl get crd", id="no CRD"
        ),
        pytest.param(
            "check_api",
            {"/apis/tokenfleet.dev/v1alpha1": [(200, '{"resources": [{"name": "llmrouters"}]}')]},
            "does not serve llmdeployments",
            id="another CRD of the group",
        ),
        pytest.param("check_controller", {"/readyz": [(500, "no lead")]}, "500 no lead. See: kubectl get pods", id="not ready"),
        pytest.param("check_completion", {"/v1/models": [(200, '{"data": []}')]}, "lists no model", id="no model"),
        pytest.param("check_completion", {"/v1/completions": [(429, "slow down")]}, "429 slow down", id="a limit"),
        pytest.param(
            "check_completion",
            {"/v1/completions": [(200, event("one") + CUT)]},
            "broke its answer off: IncompleteRead",
            id="a stream that breaks off",
        ),
        pytest.param(
            "check_completion",
            {"/v1/completions": [(200, event("one"))]},
            "ended the stream without [DONE]: 'one'",
            id="a stream that ends without [DONE]",
        ),
        pytest.param(
            "check_completion",
            {"/v1/completions": [(200, "data: [DONE]\n\n")]},
            "ended the stream without a token",
            id="a stream without a token",
        ),
        pytest.param(
            "check_completion",
            {"/v1/completions": [(200, event("one") + 'data: {"error": {"message": "replica died"}}\n\n')]},
            "replica died",
            id="an error in the stream",
        ),
    ],
)
def test_a_broken_installation_says_where(
    smoke: ModuleType, client: Any, serve: Serve, check: str, answers: dict[str, list[Answer]], words: str
) -> None:
    url = serve(HEALTHY | answers)
    with pytest.raises(smoke.Failed) as failure:
        getattr(smoke, check)(client, url)
    assert words in str(failure.value)
    assert "See: kubectl" in str(failure.value)


@pytest.mark.parametrize("answers", [pytest.param([(503, "no replica")], id="503 for ever"), pytest.param(None, id="nobody")])
def test_the_deadline_ends_the_wait(smoke: ModuleType, client: Any, serve: Serve, answers: list[Answer] | None) -> None:
    client.deadline = time.monotonic()
    url = serve({"/readyz": answers}) if answers else "http://127.0.0.1:9"
    with pytest.raises(smoke.Failed, match="503 no replica" if answers else "did not answer"):
        smoke.check_controller(client, url)


def test_the_exit_status_is_that_of_the_checks(
    smoke: ModuleType, serve: Serve, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("TIMEOUT_SECONDS", "0")
    monkeypatch.setenv("API_URL", serve({}))
    monkeypatch.setenv("CONTROLLER_URL", "http://127.0.0.1:9")
    (tmp_path / "token").write_text("t0ken")
    (tmp_path / "ca.crt").write_text(Path(certifi.where()).read_text())
    assert smoke.main(account=tmp_path) == 1
    assert capsys.readouterr().out.startswith("FAIL  http://127.0.0.1:")
