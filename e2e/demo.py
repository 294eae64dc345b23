"""`make demo`: from nothing to a streamed answer, in the steps that a user of a real cluster takes too.

Each step says how long it took. What fails says what failed, what the pods had to say, and what to do.
"""

import json
import subprocess
import sys
import time

import httpx
from rich.console import Console

from e2e import access, install
from e2e.cluster import cluster, images, paths
from e2e.cluster.errors import ClusterError
from e2e.cluster.progress import step
from e2e.kubectl import Kubectl, KubectlError, TimedOut, condition, wait_for
from e2e.model import model

NAMESPACE = "tokenfleet-demo"
NAME = "demo"
MANIFEST = install.CHART.parent.parent / "examples" / "quickstart.yaml"
QUESTION = "What is a fleet?"
READY_SECONDS = 300

console = Console(highlight=False, soft_wrap=True)


def main() -> int:
    """Run every step; 0 when the answer was streamed."""
    started = time.monotonic()
    kubectl = Kubectl(NAMESPACE)
    try:
        prepare(kubectl)
        wait_until_ready(kubectl)
        with access.base_url(kubectl, NAME) as url:
            show(kubectl, url)
    except (ClusterError, KubectlError, TimedOut, install.HelmError, httpx.HTTPError, RuntimeError) as error:
        console.print(f"\n[bold red]The demo failed:[/] {error}", markup=True)
        explain(kubectl)
        return 1
    console.print(f"\n[bold green]Done[/] in {time.monotonic() - started:.0f} s.")
    return 0


def prepare(kubectl: Kubectl) -> None:
    """Cluster, images, operator, model, LLMDeployment: each is left as it is where it is there already."""
    cluster.up()
    built = images.ensure()
    with step("Installing Tokenfleet with helm"):
        install.install(built)
    kubectl.ensure_namespace()
    model.ensure(kubectl.namespace, images=built)
    with step(f"Applying {MANIFEST.name}"):
        kubectl.apply_file(MANIFEST)


def wait_until_ready(kubectl: Kubectl) -> None:
    """Until Ready is True; each new reason is shown when it comes."""
    seen = ""
    with step(f"Waiting for LLMDeployment {NAME} to be ready") as progress:

        def ready() -> bool:
            nonlocal seen
            state = condition(kubectl.get("llmd", NAME))
            if (reason := f"{state.get('reason', 'Pending')}: {state.get('message', 'not yet seen')}") != seen:
                seen = reason
                progress.note(reason)
            return state.get("status") == "True"

        try:
            wait_for("Ready=True", ready, timeout=READY_SECONDS)
        except TimedOut:
            raise TimedOut(f"LLMDeployment {NAME} was not ready after {READY_SECONDS} s: {seen}") from None


def show(kubectl: Kubectl, url: str) -> None:
    """The answer, what stands in the cluster, and what to try next."""
    console.print(f"\n[bold]{QUESTION}[/]")
    stream_answer(url)
    for arguments in (("get", "llmd"), ("get", "pods")):
        console.print(f"\n[dim]$ kubectl -n {NAMESPACE} {' '.join(arguments)}[/]")
        console.print(kubectl(*arguments).rstrip(), markup=False)
    status = (kubectl.get("llmd", NAME) or {}).get("status", {})
    console.print(f"\nInside the cluster the model answers at [bold]{status.get('url')}[/]")
    if paths.user_kubeconfig() is None:
        console.print(f"From this machine it answers at       [bold]{url}/v1[/]")
    console.print("\n[bold]Try next[/]")
    console.print(next_commands(url), markup=False)


def next_commands(url: str) -> str:
    kubectl = str(paths.tool("kubectl"))
    body = json.dumps({"model": NAME, "messages": [{"role": "user", "content": QUESTION}], "stream": True})
    return "\n".join(
        (
            f"  export KUBECONFIG={paths.kubeconfig()}",
            f"  alias kubectl={kubectl}",
            f"  curl -N {url}/v1/chat/completions -H 'Content-Type: application/json' -d '{body}'",
            f"  kubectl -n {NAMESPACE} scale llmd/{NAME} --replicas=2",
            f"  kubectl -n {NAMESPACE} get llmd -w",
            "  kubectl explain llmd.spec",
            "  make cluster-down",
        )
    )


def stream_answer(url: str) -> None:
    """Ask one question and print each token as it comes."""
    body = {
        "model": NAME,
        "messages": [{"role": "user", "content": QUESTION}],
        "max_tokens": 160,
        "temperature": 0.0,
        "stream": True,
    }
    started, first, pieces = time.monotonic(), 0.0, 0
    timeout = httpx.Timeout(60, connect=5)
    with httpx.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=timeout, trust_env=False) as answer:
        if answer.status_code != 200:
            raise RuntimeError(f"the router answered {answer.status_code}: {answer.read().decode(errors='replace')}")
        for line in answer.iter_lines():
            if not line.startswith("data: ") or line == "data: [DONE]":
                continue
            for choice in json.loads(line.removeprefix("data: ")).get("choices", ()):
                if text := choice["delta"].get("content"):
                    first = first or time.monotonic() - started
                    pieces += 1
                    sys.stdout.write(text)
                    sys.stdout.flush()
    if not pieces:
        raise RuntimeError("the answer was empty")
    console.print(f"\n[dim]first token after {first:.2f} s, {pieces} pieces in {time.monotonic() - started:.2f} s[/]")


def explain(kubectl: Kubectl) -> None:
    """What the cluster has to say about a failure: objects, the pods' last lines, and where to look."""
    commands = (
        ("get", "llmd,pods"),
        ("logs", "-l", f"tokenfleet.dev/deployment={NAME}", "--all-containers", "--tail=15", "--prefix"),
        ("get", "events", "--sort-by=.lastTimestamp"),
    )
    for arguments in commands:
        try:
            text = kubectl(*arguments, timeout=20).rstrip()
        except (KubectlError, OSError, subprocess.TimeoutExpired) as error:
            text = str(error)
        console.print(f"\n[dim]$ kubectl -n {NAMESPACE} {' '.join(arguments)}[/]")
        console.print("\n".join(text.splitlines()[-30:]), markup=False)
    console.print("\nThe operator's own log: kubectl -n tokenfleet-system logs deployment/tokenfleet")
    console.print(
        "The state of the cluster: .venv/bin/python -m e2e.cluster status. Then `make demo` goes on where it stopped."
    )


if __name__ == "__main__":
    sys.exit(main())
