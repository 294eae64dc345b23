"""How long the controller takes to make a thousand LLMDeployments so, beside a bare client that sends the same applies.

Each run meets a fresh API server (an etcd and kube-apiserver of its own, one after the other) on which the LLMDeployments
already stand. The operator's time begins with the start of its process and ends with its last write, as the audit log has it.
The bare client is what the API server lets one reach: aiohttp, the same number of requests in flight, bodies that are encoded
beforehand, answers that are read and dropped. It runs before and after the operator, and the mean counts, since machines have
moods. The operator is also watched while nothing changes.
"""

import argparse
import asyncio
import json
import os
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import aiohttp
import httpx

from e2e.cluster.control_plane import ControlPlane, free_ports
from tokenfleet import contract
from tokenfleet.api.crd import custom_resource_definitions
from tokenfleet.api.v1alpha1 import parse_spec
from tokenfleet.controller import kinds
from tokenfleet.controller.drift import stamped
from tokenfleet.controller.observed import Json, Observed, Outcome
from tokenfleet.controller.reconcile import utc_now
from tokenfleet.controller.resources import build_children
from tokenfleet.controller.status import build_status
from tokenfleet.settings import ControllerSettings

RESULT: Final = Path("build/bench/reconcile.json")
NAMESPACE: Final = "bench"
SETTLE_SECONDS: Final = 5.0
GIVE_UP_SECONDS: Final = 600.0
_APPLY: Final = f"?fieldManager={contract.FIELD_MANAGER}&force=true"
_SPEC: Final = {"model": {"source": "pvc://models/llama"}, "accelerator": "nvidia", "replicas": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What one run of the operator came to."""

    seconds: float
    applies: int
    peak_rss_mb: float
    idle_writes: int
    idle_lease_writes: int
    idle_seconds: float


def main() -> None:
    arguments = _arguments()
    with tempfile.TemporaryDirectory(prefix="tokenfleet-bench-") as scratch:
        environment = _environment(workers=arguments.workers)
        print(f"{arguments.objects} LLMDeployments, {arguments.workers} at a time")
        applies, before = _measure_bare_client(Path(scratch) / "before", arguments.objects, environment)
        print(f"  the bare client took {before:.1f} s; the operator's turn", flush=True)
        measured = _measure_operator(Path(scratch) / "operator", arguments.objects, environment, idle=arguments.idle)
        print(f"  the operator took {measured.seconds:.1f} s; the bare client once more", flush=True)
        _, after = _measure_bare_client(Path(scratch) / "after", arguments.objects, environment)
        print(f"  the bare client took {after:.1f} s")
        bare_seconds = (before + after) / 2
    _print(measured, applies=applies, bare_seconds=bare_seconds)
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    result = {
        "objects": arguments.objects,
        "applies": measured.applies,
        "operator_s": round(measured.seconds, 2),
        "bare_client_s": round(bare_seconds, 2),
        "peak_rss_mb": round(measured.peak_rss_mb, 1),
        "idle_writes": measured.idle_writes,
    }
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    print(f"wrote {RESULT}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--objects", type=int, default=1000, help="LLMDeployments (1000)")
    parser.add_argument("--workers", type=int, default=8, help="reconciles, and the bare client's requests, at a time (8)")
    parser.add_argument("--idle", type=float, default=30.0, help="seconds for which the idle operator is watched (30)")
    return parser.parse_args()


def _print(measured: Measured, *, applies: int, bare_seconds: float) -> None:
    rows = [
        ("", "operator", "bare client"),
        ("seconds", f"{measured.seconds:.1f}", f"{bare_seconds:.1f}"),
        ("server-side applies", str(measured.applies), str(applies)),
        ("applies per second", f"{measured.applies / measured.seconds:.0f}", f"{applies / bare_seconds:.0f}"),
        ("times the bare client", f"{measured.seconds / bare_seconds:.2f}", "1"),
        ("peak memory, MB", f"{measured.peak_rss_mb:.0f}", ""),
        (f"writes in {measured.idle_seconds:.0f} s idle", str(measured.idle_writes), ""),
        ("  and renewals of its Lease", str(measured.idle_lease_writes), ""),
    ]
    for name, *values in rows:
        print(f"{name:28}" + "".join(f"{value:>14}" for value in values))


# --- The operator --------------------------------------------------------------------------------------------------------


def _measure_operator(directory: Path, objects: int, environment: dict[str, str], *, idle: float) -> Measured:
    with _plane(directory, objects) as plane:
        log = (directory / "operator.log").open("wb")
        began = time.time()
        process = subprocess.Popen(
            [sys.executable, "-m", "tokenfleet.controller.main"],
            env={**os.environ, **environment, "KUBECONFIG": str(plane.kubeconfig)},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            audit = Audit(plane.audit_log)
            _await_statuses(audit, objects, process, directory / "operator.log")
            time.sleep(SETTLE_SECONDS)
            audit.read()
            writes, leases, ended = audit.writes, audit.lease_writes, audit.last_write
            idle_began = time.monotonic()
            time.sleep(idle)
            audit.read()
            return Measured(
                seconds=ended - began,
                applies=audit.applies,
                peak_rss_mb=_peak_rss_mb(process.pid),
                idle_writes=audit.writes - writes,
                idle_lease_writes=audit.lease_writes - leases,
                idle_seconds=time.monotonic() - idle_began,
            )
        finally:
            process.terminate()
            process.wait(20)
            log.close()


def _await_statuses(audit: "Audit", objects: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + GIVE_UP_SECONDS
    while len(audit.reported) < objects:
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(
                f"{len(audit.reported)} of {objects} LLMDeployments have a status; the operator "
                f"{'ended with ' + str(process.returncode) if process.poll() is not None else 'takes too long'}. "
                f"Its last lines:\n{log.read_text()[-3000:]}"
            )
        time.sleep(0.25)
        audit.read()


class Audit:
    """The audit log, read as it grows: what the operator wrote."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self._rest = b""
        self.writes = self.lease_writes = self.applies = 0
        self.last_write = 0.0
        self.reported: set[str] = set()

    def read(self) -> None:
        *lines, self._rest = (self._rest + self._file.read()).split(b"\n")
        for line in lines:
            self._take(json.loads(line))

    def _take(self, event: Json) -> None:
        if event["verb"] in ("get", "list", "watch") or contract.FIELD_MANAGER not in event.get("userAgent", ""):
            return
        target = event["objectRef"]
        if target["resource"] == kinds.LEASE.plural:
            self.lease_writes += 1
            return
        self.writes += 1
        self.last_write = datetime.fromisoformat(event["stageTimestamp"]).timestamp()
        if event["verb"] == "patch" and event["responseStatus"]["code"] < 300:
            self.applies += 1
            if target.get("subresource") == "status":
                self.reported.add(target["name"])


def _peak_rss_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def _environment(*, workers: int) -> dict[str, str]:
    health_port, metrics_port = free_ports(2)
    return {
        "TOKENFLEET_OPERATOR_IMAGE": "tokenfleet/operator:bench",
        "TOKENFLEET_ENGINE_IMAGE": "tokenfleet/engine:bench",
        "TOKENFLEET_ENGINE_CPU_IMAGE": "tokenfleet/engine-cpu:bench",
        "TOKENFLEET_NAMESPACE": "default",
        "TOKENFLEET_IDENTITY": "bench",
        "TOKENFLEET_WORKERS": str(workers),
        "TOKENFLEET_HEALTH_PORT": str(health_port),
        "TOKENFLEET_METRICS_PORT": str(metrics_port),
    }


# --- The bare client -----------------------------------------------------------------------------------------------------


def _measure_bare_client(directory: Path, objects: int, environment: dict[str, str]) -> tuple[int, float]:
    """How many applies, and the seconds that they took."""
    settings = ControllerSettings.from_environment(environment)
    with _plane(directory, objects) as plane, _client(plane) as client:
        deployments = client.get(kinds.LLM_DEPLOYMENT.path(NAMESPACE)).raise_for_status().json()["items"]
        jobs = [_requests(deployment, settings) for deployment in deployments]
        seconds = asyncio.run(_send_all(plane, jobs, at_once=settings.workers))
        return sum(len(job) for job in jobs), seconds


def _requests(deployment: Json, settings: ControllerSettings) -> list[tuple[str, bytes]]:
    """Path and body of every apply for one LLMDeployment, in the operator's order."""
    name = deployment["metadata"]["name"]
    spec = parse_spec(name, deployment["spec"])
    requests = []
    for child in build_children(deployment, spec, settings):
        path = kinds.of(child["kind"]).path(NAMESPACE, child["metadata"]["name"])
        requests.append((path + _APPLY, json.dumps(stamped(child)).encode()))
    status = build_status(Observed(owner=deployment), spec, Outcome(), now=utc_now())
    body = {"apiVersion": contract.API_VERSION, "kind": contract.KIND, "metadata": {"name": name}, "status": status}
    requests.append((kinds.LLM_DEPLOYMENT.path(NAMESPACE, name, subresource="status") + _APPLY, json.dumps(body).encode()))
    return requests


async def _send_all(plane: ControlPlane, jobs: list[list[tuple[str, bytes]]], *, at_once: int) -> float:
    line = iter(jobs)
    headers = {"Content-Type": "application/apply-patch+yaml", "Accept": "application/json"}
    connector = aiohttp.TCPConnector(ssl=_tls(plane), limit=at_once)

    async def work(session: aiohttp.ClientSession) -> None:
        for job in line:
            for path, body in job:
                async with session.patch(plane.layout.server + path, data=body) as answer:
                    data = await answer.read()
                    if answer.status >= 300:
                        raise SystemExit(f"{path}: {answer.status} {data.decode()}")

    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:
        began = time.monotonic()
        await asyncio.gather(*(work(session) for _ in range(at_once)))
        return time.monotonic() - began


# --- The API server ------------------------------------------------------------------------------------------------------


@contextmanager
def _plane(directory: Path, objects: int) -> Iterator[ControlPlane]:
    """An API server with the CRD and so many LLMDeployments."""
    with ControlPlane.start(directory) as plane, _client(plane) as client:
        client.post("/api/v1/namespaces", json={"metadata": {"name": NAMESPACE}}).raise_for_status()
        crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        for definition in custom_resource_definitions():
            client.post(crds, json=definition).raise_for_status()
        for kind in kinds.OWNERS:
            while client.get(kind.path(NAMESPACE)).status_code != httpx.codes.OK:
                time.sleep(0.05)
        for number in range(objects):
            deployment = {
                "apiVersion": contract.API_VERSION,
                "kind": contract.KIND,
                "metadata": {"name": f"llm-{number}"},
                "spec": _SPEC,
            }
            client.post(kinds.LLM_DEPLOYMENT.path(NAMESPACE), json=deployment).raise_for_status()
        time.sleep(2)  # what the API server does after its start should disturb neither
        yield plane


def _client(plane: ControlPlane) -> httpx.Client:
    return httpx.Client(base_url=plane.layout.server, verify=_tls(plane), trust_env=False, timeout=30)


def _tls(plane: ControlPlane) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=plane.layout.authority.certificate)
    pair: Any = plane.layout.authority.pair("admin")
    context.load_cert_chain(pair.certificate, pair.key)
    return context


if __name__ == "__main__":
    main()
