"""Real controllers as processes of their own, and what the API server's audit log says that they wrote."""

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx

from e2e.cluster.control_plane import ControlPlane, free_ports
from e2e.cluster.processes import Child, Command, Leash
from tokenfleet import contract
from tokenfleet.controller import kinds

Json = dict[str, Any]
Write = tuple[str, str, str]
"""(verb, resource with its subresource, name)."""
T = TypeVar("T")

OPERATOR_IMAGE, ENGINE_IMAGE, ENGINE_CPU_IMAGE = "example.org/operator:1", "example.org/engine:1", "example.org/engine-cpu:1"


def eventually(what: str, probe: Callable[[], T | None], *, seconds: float = 30) -> T:
    """The probe's first answer that is true."""
    deadline = time.monotonic() + seconds
    while not (found := probe()):
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.05)
    return found


@dataclass(slots=True)
class Operator:
    """One running controller."""

    child: Child
    health_port: int
    metrics_port: int

    @property
    def log(self) -> str:
        return self.child.log.read_text()

    @property
    def pid(self) -> int:
        return self.child.process.pid

    def running(self) -> bool:
        return self.child.running()

    def probe(self, path: str) -> int | None:
        """The status of /healthz or /readyz; None where nobody answers."""
        try:
            return httpx.get(f"http://127.0.0.1:{self.health_port}{path}", trust_env=False, timeout=5).status_code
        except httpx.HTTPError:
            return None

    def metric(self, name: str) -> float:
        text = httpx.get(f"http://127.0.0.1:{self.metrics_port}/metrics", trust_env=False, timeout=5).text
        return next(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(f"{name} "))

    def ready(self) -> bool:
        assert self.running(), self.log
        return self.probe("/readyz") == 200

    def leads(self) -> bool:
        return self.ready() and self.metric(contract.METRIC_LEADER) == 1

    def kill(self) -> None:
        self.child.kill()

    def terminate(self) -> int:
        """SIGTERM; the exit code."""
        self.child.process.send_signal(signal.SIGTERM)
        code = self.child.process.wait(20)
        self.child.leash.release(self.pid)
        return code


@dataclass(slots=True)
class Operators:
    """Starts controllers that serve one namespace, and ends those that a test leaves behind."""

    directory: Path
    leash: Leash = field(default_factory=Leash)
    started: list[Operator] = field(default_factory=list)

    def start(self, kubeconfig: Path, namespace: str, *, identity: str = "operator", **variables: str) -> Operator:
        """`variables` without their TOKENFLEET_."""
        health_port, metrics_port = free_ports(2)
        settings = {
            "IDENTITY": identity,
            "NAMESPACE": namespace,
            "WATCH_NAMESPACES": namespace,
            "OPERATOR_IMAGE": OPERATOR_IMAGE,
            "ENGINE_IMAGE": ENGINE_IMAGE,
            "ENGINE_CPU_IMAGE": ENGINE_CPU_IMAGE,
            "HEALTH_PORT": str(health_port),
            "METRICS_PORT": str(metrics_port),
            "LEASE_SECONDS": "3",
            **variables,
        }
        environment = {f"TOKENFLEET_{name}": value for name, value in settings.items()} | {"KUBECONFIG": str(kubeconfig)}
        environment |= {"PYTHONPATH": os.environ.get("PYTHONPATH", "")}
        command = Command("tokenfleet-controller", (sys.executable, "-m", "tokenfleet.controller.main"), environment)
        log = self.directory / f"{namespace}-{identity}-{len(self.started)}.log"
        operator = Operator(self.leash.start(command, log), health_port, metrics_port)
        self.started.append(operator)
        return operator

    def close(self) -> None:
        for operator in self.started:
            if operator.running():
                operator.kill()
        self.leash.close()


class Audit:
    """What controllers wrote in one namespace since the last `restart`, their Leases left out."""

    def __init__(self, plane: ControlPlane, namespace: str) -> None:
        self._path, self._namespace = plane.audit_log, namespace
        self._offset = 0
        self.restart()

    def restart(self) -> None:
        self._offset = self._path.stat().st_size if self._path.exists() else 0

    def writes(self) -> list[Write]:
        with self._path.open("rb") as file:
            file.seek(self._offset)
            lines = file.read().split(b"\n")[:-1]
        return [write for line in lines if (write := self._write(json.loads(line))) is not None]

    def _write(self, event: Json) -> Write | None:
        target = event.get("objectRef") or {}
        if (
            event["verb"] in ("get", "list", "watch")
            or contract.FIELD_MANAGER not in event.get("userAgent", "")
            or target.get("namespace") != self._namespace
            or target["resource"] == kinds.LEASE.plural
        ):
            return None
        resource = "/".join(filter(None, (target["resource"], target.get("subresource"))))
        return event["verb"], resource, target.get("name", "")


class Namespace:
    """One namespace of the API server, as somebody with a kubectl uses it."""

    def __init__(self, client: httpx.Client, name: str) -> None:
        self.client, self.name = client, name
        client.post("/api/v1/namespaces", json={"metadata": {"name": name}})

    def path(self, kind: str, name: str | None = None) -> str:
        return kinds.of(kind).path(self.name, name)

    def get(self, kind: str, name: str) -> Json | None:
        answer = self.client.get(self.path(kind, name))
        return answer.json() if answer.status_code == httpx.codes.OK else None

    def one(self, kind: str, name: str) -> Json:
        found: Json = self.client.get(self.path(kind, name)).raise_for_status().json()
        return found

    def create(self, kind: str, body: Json) -> Json:
        of = kinds.of(kind)
        full = {"apiVersion": of.api_version, "kind": kind, **body}
        made: Json = self.client.post(self.path(kind), json=full).raise_for_status().json()
        return made

    def patch(self, kind: str, name: str, change: Json, *, subresource: str | None = None) -> Json:
        path = kinds.of(kind).path(self.name, name, subresource=subresource)
        headers = {"Content-Type": "application/merge-patch+json"}
        answer = self.client.patch(path, content=json.dumps(change), headers=headers)
        patched: Json = answer.raise_for_status().json()
        return patched

    def delete(self, kind: str, name: str) -> None:
        self.client.request("DELETE", self.path(kind, name), json={"propagationPolicy": "Background"}).raise_for_status()

    def deploy(self, name: str, **spec: Any) -> Json:
        """An LLMDeployment."""
        fields = {"model": {"source": "pvc://models/llama"}, "accelerator": "cpu", **spec}
        return self.create(contract.KIND, {"metadata": {"name": name}, "spec": fields})

    def condition(self, name: str, kind: str) -> Json:
        """{} where there is none yet."""
        conditions = (self.one(contract.KIND, name).get("status") or {}).get("conditions") or ()
        return next((dict(each) for each in conditions if each["type"] == kind), {})

    def children(self, name: str) -> dict[tuple[str, str], Json]:
        found = {}
        for kind in kinds.CHILDREN:
            items = self.client.get(kind.path(self.name), params={"labelSelector": f"{contract.LABEL_DEPLOYMENT}={name}"})
            for item in items.raise_for_status().json()["items"]:
                found[kind.name, item["metadata"]["name"]] = item
        return found
