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
from pathlib import Path
from typing import Any

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
PROMPT = "Kubernetes is"


class Failed(Exception):
    """A check failed; the message says why, and what to look at."""


def main() -> int:
    deadline = time.monotonic() + float(os.environ["TIMEOUT_SECONDS"])
    checks: list[tuple[Callable[[str, float], str], str]] = [
        (check_api, os.environ["API_URL"]),
        (check_controller, os.environ["CONTROLLER_URL"]),
    ]
    if router := os.environ.get("ROUTER_URL"):
        checks.append((check_completion, router))
    for check, url in checks:
        started = time.monotonic()
        try:
            sys.stdout.write(f"ok    {check(url, deadline)} ({time.monotonic() - started:.1f} s)\n")
        except Failed as failure:
            sys.stdout.write(f"FAIL  {failure}\n")
            return 1
    return 0


def check_api(url: str, deadline: float) -> str:
    """The API server serves our group, and llmdeployments in it."""
    hint = "kubectl get crd llmdeployments.tokenfleet.dev"
    answer = json.loads(fetch(f"{url}/apis/tokenfleet.dev/v1alpha1", deadline, hint, token=True))
    if "llmdeployments" not in [resource["name"] for resource in answer["resources"]]:
        raise Failed(f"the API server does not serve llmdeployments.tokenfleet.dev. See: {hint}")
    return "the API server serves llmdeployments.tokenfleet.dev/v1alpha1"


def check_controller(url: str, deadline: float) -> str:
    """A controller is ready: the Service in front of it names no others."""
    fetch(f"{url}/readyz", deadline, "kubectl get pods,events in the release's namespace")
    return "the controller is ready"


def check_completion(url: str, deadline: float) -> str:
    """A model answers through its router, as a stream that ends as it should."""
    hint = "kubectl describe llmd, and the logs of the router and of the engine"
    models = json.loads(fetch(f"{url}/v1/models", deadline, hint))["data"]
    if not models:
        raise Failed(f"{url}/v1/models lists no model. See: {hint}")
    body = {"model": models[0]["id"], "prompt": PROMPT, "max_tokens": 16, "stream": True}
    text, ended = "", False
    for line in fetch(f"{url}/v1/completions", deadline, hint, body=body).decode().splitlines():
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


def fetch(url: str, deadline: float, hint: str, *, body: Any = None, token: bool = False) -> bytes:
    """The whole answer."""
    request = urllib.request.Request(url, json.dumps(body).encode() if body else None)
    request.add_header("Content-Type", "application/json")
    handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]
    if token:
        request.add_header("Authorization", f"Bearer {(SERVICE_ACCOUNT / 'token').read_text()}")
        context = ssl.create_default_context(cafile=str(SERVICE_ACCOUNT / "ca.crt"))
        handlers.append(urllib.request.HTTPSHandler(context=context))
    opener = urllib.request.build_opener(*handlers)
    while True:
        try:
            answer = opener.open(request, timeout=max(deadline - time.monotonic(), 0.1))
            break
        except urllib.error.HTTPError as error:
            problem = f"answered {error.code} {error.read().decode(errors='replace')[:500].strip()}"
            if error.code != 503:
                raise Failed(f"{url} {problem}. See: {hint}") from error
        except OSError as error:
            problem = f"did not answer: {getattr(error, 'reason', error)}"
        if time.monotonic() + 1 > deadline:
            raise Failed(f"{url} {problem}. See: {hint}")
        time.sleep(1)
    try:
        with answer:
            return bytes(answer.read())
    except (OSError, http.client.HTTPException) as error:
        raise Failed(f"{url} broke its answer off: {error!r}. See: {hint}") from error


if __name__ == "__main__":
    sys.exit(main())
