"""kubectl as the stories and the demo use it: the binary that users have, so that what they do is what is tested."""

import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from e2e.cluster import paths

Json = dict[str, Any]
T = TypeVar("T")


class KubectlError(Exception):
    """kubectl ended with an error; the message is what it printed."""


class TimedOut(Exception):
    """A state was not reached in time; the message says what was waited for and what was there instead."""


@dataclass(frozen=True, slots=True)
class Kubectl:
    """kubectl in one namespace of the cluster at hand."""

    namespace: str

    def __call__(self, *arguments: str, stdin: str | None = None, timeout: float = 120) -> str:
        """Run `kubectl ARGUMENTS` and return what it printed; raises KubectlError."""
        done = subprocess.run(
            self.command(*arguments), input=stdin, capture_output=True, text=True, timeout=timeout, check=False
        )
        if done.returncode:
            raise KubectlError(f"kubectl {' '.join(arguments)}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def command(self, *arguments: str) -> list[str]:
        return [str(paths.tool("kubectl")), "--kubeconfig", str(paths.kubeconfig()), "-n", self.namespace, *arguments]

    def ensure_namespace(self) -> None:
        """Create the namespace with Pod Security `restricted` enforced, as a careful administrator would."""
        document = {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": self.namespace, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
        }
        self("apply", "-f", "-", stdin=json.dumps(document))

    def apply(self, document: Json) -> None:
        self("apply", "--server-side", "-f", "-", stdin=json.dumps(document))

    def apply_file(self, path: Path) -> None:
        self("apply", "--server-side", "-f", str(path))

    def get(self, kind: str, name: str) -> Json | None:
        """The object, or None where there is none."""
        try:
            return dict(json.loads(self("get", kind, name, "-o", "json")))
        except KubectlError as error:
            if "NotFound" in str(error):
                return None
            raise

    def items(self, kind: str, selector: str = "") -> list[Json]:
        return list(json.loads(self("get", kind, "-l", selector, "-o", "json"))["items"])

    def delete(self, kind: str, name: str, *, wait: bool = True, timeout: float = 120) -> None:
        self("delete", kind, name, "--ignore-not-found", f"--wait={str(wait).lower()}", timeout=timeout)


def wait_for(what: str, probe: Callable[[], T | None], *, timeout: float, interval: float = 0.5) -> T:
    """Call `probe` until it gives something true, and return that; raises TimedOut with the last thing that it gave."""
    deadline = time.monotonic() + timeout
    while True:
        found = probe()
        if found:
            return found
        if time.monotonic() > deadline:
            raise TimedOut(f"waited {timeout:.0f} s for {what}; last seen: {found!r}")
        time.sleep(interval)


def condition(deployment: Json | None, kind: str = "Ready") -> Json:
    """A condition of an LLMDeployment; {} where it has none yet."""
    conditions = ((deployment or {}).get("status") or {}).get("conditions") or []
    return next((dict(entry) for entry in conditions if entry["type"] == kind), {})
