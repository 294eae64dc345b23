"""What `helm test` runs, in the operator's image: is the API served, is a controller ready, does a model answer?

Standard library only. Each check prints one line; the first that fails ends the test, and says what to look at. A place that
is not there yet, or answers 503, is asked again until the deadline; an answer that breaks off is a failure at once.
"""

import http.client
import json
import os
import ssl
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
RETRY_SECONDS = 1.0
PROMPT = "Kubernetes is"


class Failed(Exception):
    """A check failed; the message says why, and what to look at."""


def main(account: Path = SERVICE_ACCOUNT) -> int:
    client = Client(deadline=time.monotonic() + float(os.environ["TIMEOUT_SECONDS"]), account=account)
    checks: list[tuple[Callable[[Client, str], str], str]] = [
        (check_api, os.environ["API_URL"]),
        (check_controller, os.environ["CONTROLLER_URL"]),
    ]
    if router := os.environ.get("ROUTER_URL"):
        checks.append((check_completion, router))
    for check, url in checks:
        started = time.monotonic()
        try:
            sys.stdout.write(f"ok    {check(client, url)} ({time.monotonic() - started:.1f} s)\n")
        except Failed as failure:
            sys.stdout.write(f"FAIL  {failure}\n")
            return 1
    return 0


@dataclass
class Client:
    """Gets whole answers; asks again while nobody answers, until the deadline."""

    deadline: float
    sleep: Callable[[float], None] = time.sleep
    account: Path = SERVICE_ACCOUNT

    def fetch(self, url: str, hint: str, *, body: Any = None, token: bool = False) -> bytes:
        """The answer; raises Failed with the hint where there is none."""
        request = urllib.request.Request(url, json.dumps(body).encode() if body else None)
        request.add_header("Content-Type", "application/json")
        handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]
        if token:
            request.add_header("Authorization", f"Bearer {(self.account / 'token').read_text()}")
            context = ssl.create_default_context(cafile=str(self.account / "ca.crt"))
            handlers.append(urllib.request.HTTPSHandler(context=context))
        answer = self._open(urllib.request.build_opener(*handlers), request, hint)
        try:
            with answer:
                return bytes(answer.read())
        except (OSError, http.client.HTTPException) as error:
            raise Failed(f"{url} broke its answer off: {error!r}. See: {hint}") from error

    def _open(self, opener: urllib.request.OpenerDirector, request: urllib.request.Request, hint: str) -> Any:
        while True:
            try:
                return opener.open(request, timeout=max(self.deadline - time.monotonic(), 0.1))
            except urllib.error.HTTPError as error:
                problem = f"answered {error.code} {error.read().decode(errors='replace')[:500].strip()}"
                again = error.code == 503
            except OSError as error:
                problem, again = f"did not answer: {getattr(error, 'reason', error)}", True
            if not again or time.monotonic() + RETRY_SECONDS > self.deadline:
                raise Failed(f"{request.full_url} {problem}. See: {hint}")
            self.sleep(RETRY_SECONDS)


def check_api(client: Client, url: str) -> str:
    """The API server serves our group, and llmdeployments in it."""
    hint = "kubectl get crd llmdeployments.tokenfleet.dev"
    answer = json.loads(client.fetch(f"{url}/apis/tokenfleet.dev/v1alpha1", hint, token=True))
    if "llmdeployments" not in [resource["name"] for resource in answer["resources"]]:
        raise Failed(f"the API server does not serve llmdeployments.tokenfleet.dev. See: {hint}")
    return "the API server serves llmdeployments.tokenfleet.dev/v1alpha1"


def check_controller(client: Client, url: str) -> str:
    """A controller is ready: the Service in front of it names no others."""
    client.fetch(f"{url}/readyz", "kubectl get pods,events in the release's namespace")
    return "the controller is ready"


def check_completion(client: Client, url: str) -> str:
    """A model answers through its router, as a stream that ends as it should."""
    hint = "kubectl describe llmd, and the logs of the router and of the engine"
    models = json.loads(client.fetch(f"{url}/v1/models", hint))["data"]
    if not models:
        raise Failed(f"{url}/v1/models lists no model. See: {hint}")
    body = {"model": models[0]["id"], "prompt": PROMPT, "max_tokens": 16, "stream": True}
    text, ended = "", False
    for line in client.fetch(f"{url}/v1/completions", hint, body=body).decode().splitlines():
        data = line.removeprefix("data: ")
        ended = ended or data == "[DONE]"
        if data.startswith("{"):
            event = json.loads(data)
            if "error" in event:
                raise Failed(f"{url} ended the stream with {event['error']} after {text!r}. See: {hint}")
            text += "".join(choice["text"] for choice in event["choices"])
    if not (text and ended):
        raise Failed(f"{url} ended the stream without {'[DONE]' if text else 'a token'}: {text!r}. See: {hint}")
    return f"{body['model']} answers: {PROMPT}{text}"


if __name__ == "__main__":
    sys.exit(main())
