"""The command lines that users have, built by the cluster's tools: helm, and kubectl on the tests' API server."""

import json
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from e2e.cluster import tools

ROOT = Path(__file__).parent.parent.parent
CHART = ROOT / "charts" / "tokenfleet"
KUBERNETES = tools.KUBERNETES_VERSION

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Done:
    """What a command came to; a command that fails is a result, too, since tests want its message."""

    status: int
    output: str
    error: str

    def ok(self) -> str:
        """What it printed; the test ends where it failed."""
        assert self.status == 0, self.error or self.output
        return self.output


def run(command: Sequence[str | Path], *, stdin: str | None = None) -> Done:
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=120, check=False)
    return Done(done.returncode, done.stdout, done.stderr)


def render(*flags: str | Path, release: str = "tokenfleet", namespace: str = "tokenfleet-system") -> Done:
    """`helm template` of the chart; the tests of helm are skipped as well."""
    tools.ensure("helm")
    return run([tools.path("helm"), "template", release, CHART, "--namespace", namespace, "--kube-version", KUBERNETES, *flags])


def documents(text: str) -> list[Json]:
    return [document for document in yaml.safe_load_all(text) if document]


@dataclass(frozen=True, slots=True)
class Kubectl:
    """kubectl on one API server; `impersonate` asks as somebody else."""

    kubeconfig: Path
    impersonate: str = ""

    def __call__(self, *arguments: str | Path, stdin: str | None = None) -> Done:
        tools.ensure("kubectl")
        who = [f"--as={self.impersonate}"] if self.impersonate else []
        return run([tools.path("kubectl"), "--kubeconfig", self.kubeconfig, *who, *arguments], stdin=stdin)

    def apply(self, *documents: Json, flags: Sequence[str] = ()) -> Done:
        """Server-side, and strict: an unknown field is an error, not a warning."""
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": documents})
        return self("apply", "--server-side", "--validate=strict", *flags, "-f", "-", stdin=text)

    def wait_established(self, crd: str) -> None:
        """Until the API server serves the CRD. kubectl's own wait fails where no condition is there yet, so ask again."""
        deadline = time.monotonic() + 30
        while True:
            done = self("wait", f"crd/{crd}", "--for=condition=Established", "--timeout=30s")
            if done.status == 0 or time.monotonic() > deadline:
                done.ok()
                return
            time.sleep(0.1)

    def ensure_namespace(self, name: str, *, pod_security: str = "restricted") -> None:
        labels = {"pod-security.kubernetes.io/enforce": pod_security}
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}).ok()
