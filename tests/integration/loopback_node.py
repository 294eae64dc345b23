"""A kubelet and a Deployment controller in one, as far as engines and routers need them: pods are processes of this machine.

Each pod has an address of its own on the loopback, so all ports are those of a real cluster. Engines are simulators, run with
the arguments that the controller gave them. A rollout makes all new pods first, and takes the old ones once those are ready.
"""

import hashlib
import json
import signal
import sys
import threading
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import httpx

from e2e.cluster.processes import Child, Command, Leash
from tests.integration.operators import Json, Namespace
from tokenfleet import contract

_NUMBERS = count(2)
_LOOK_SECONDS = 0.1
_READY = {
    contract.ROLE_ROUTER: f":{contract.ROUTER_ADMIN_PORT}/readyz",
    contract.ROLE_ENGINE: f":{contract.ENGINE_PORT}{contract.PATH_ENGINE_READY}",
}


@dataclass(slots=True, eq=False)
class Pod:
    name: str
    deployment: str
    template: str
    role: str
    address: str
    child: Child
    going: bool = False
    told: Json = field(default_factory=dict)

    @property
    def ready(self) -> bool:
        conditions = self.told.get("conditions") or ()
        return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


@dataclass(slots=True)
class Node:
    """Runs the Deployments of one namespace until `close`."""

    namespace: Namespace
    directory: Path
    kubeconfig: Path
    leash: Leash = field(default_factory=Leash)
    pods: dict[str, Pod] = field(default_factory=dict)
    error: BaseException | None = None
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self.leash.close()
        if self.error is not None:
            raise self.error

    def running(self, deployment: str) -> set[str]:
        """Names of its pods that are not going."""
        return {pod.name for pod in list(self.pods.values()) if pod.deployment == deployment and not pod.going}

    def address(self, deployment: str) -> str:
        return next(pod.address for pod in list(self.pods.values()) if pod.deployment == deployment)

    def _work(self) -> None:
        try:
            with httpx.Client(trust_env=False, timeout=2) as prober:
                while not self._stop.wait(_LOOK_SECONDS):
                    self._look(prober)
        except BaseException as error:  # noqa: BLE001 - told by close
            self.error = error

    def _look(self, prober: httpx.Client) -> None:
        items = self.namespace.client.get(self.namespace.path("Deployment")).raise_for_status().json()["items"]
        deployments = {item["metadata"]["name"]: item for item in items if "deletionTimestamp" not in item["metadata"]}
        for pod in list(self.pods.values()):
            self._attend(pod, prober)
            if pod.deployment not in deployments:
                self._end(pod)
        for name, body in deployments.items():
            self._run(name, body)

    def _run(self, name: str, body: Json) -> None:
        """One step of a Deployment's rollout, and its status."""
        spec, template = body["spec"], _digest(body["spec"]["template"])
        own = [pod for pod in self.pods.values() if pod.deployment == name and not pod.going]
        new = [pod for pod in own if pod.template == template]
        for _ in range(spec["replicas"] - len(new)):
            self._begin(name, body, template)
        if sum(pod.ready for pod in new) >= spec["replicas"]:
            for pod in (*(pod for pod in own if pod not in new), *new[spec["replicas"] :]):
                self._end(pod)
        own = [pod for pod in self.pods.values() if pod.deployment == name and not pod.going]
        status = {
            "observedGeneration": body["metadata"]["generation"],
            "replicas": len(own),
            "updatedReplicas": sum(pod.template == template for pod in own),
            "readyReplicas": (serving := sum(pod.ready for pod in own)),
            "availableReplicas": serving,
        }
        if any((body.get("status") or {}).get(key, 0) != value for key, value in status.items()):
            self.namespace.patch("Deployment", name, {"status": status}, subresource="status")

    def _begin(self, deployment: str, body: Json, template: str) -> None:
        number = next(_NUMBERS)
        metadata, address, name = (
            body["spec"]["template"]["metadata"],
            f"127.0.9.{number}",
            f"{deployment}-{template[:5]}-{number}",
        )
        (container,) = body["spec"]["template"]["spec"]["containers"]
        role = metadata["labels"][contract.LABEL_ROLE]
        log = self.directory / f"{name}.log"
        if role == contract.ROLE_ROUTER:
            words = {one["name"]: one["value"] for one in container["env"] if "value" in one}
            words |= {
                "TOKENFLEET_ROUTER_HOST": address,
                "KUBECONFIG": str(self.kubeconfig),
                contract.ENV_NAMESPACE: self.namespace.name,
            }
            words |= {"HOSTNAME": name, "TOKENFLEET_POD_NAME": name}
            command = Command(name, (sys.executable, "-m", "tokenfleet.router.main"), words)
        else:
            verb, *arguments = container["args"]
            extra = ("--host", address, "--termination-log", str(self.directory / f"{name}.end"))
            command = Command(name, (sys.executable, "-m", "tokenfleet_engine.main", verb, *extra, *arguments), {})
        spec = {
            "containers": [{"name": container["name"], "image": "none"}],
            "nodeName": "loopback",
            "terminationGracePeriodSeconds": 30,
        }
        spec["readinessGates"] = body["spec"]["template"]["spec"].get("readinessGates") or []
        labels = {**metadata["labels"], "pod-template-hash": template[:10]}
        made = {"name": name, "labels": labels, "annotations": metadata.get("annotations") or {}}
        self.namespace.create("Pod", {"metadata": made, "spec": {**spec, "automountServiceAccountToken": False}})
        self.pods[name] = Pod(name, deployment, template, role, address, self.leash.start(command, log))

    def _attend(self, pod: Pod, prober: httpx.Client) -> None:
        """Tell how its container is; take it away once it has ended on request."""
        if pod.going and not pod.child.running():
            path = self.namespace.path("Pod", pod.name)
            self.namespace.client.request("DELETE", path, json={"gracePeriodSeconds": 0})
            del self.pods[pod.name]
            return
        live = self.namespace.get("Pod", pod.name)
        if live is None:
            return
        if "deletionTimestamp" in live["metadata"]:
            self._end(pod)
        serves = _serves(prober, f"http://{pod.address}{_READY[pod.role]}")
        gates = [gate["conditionType"] for gate in live["spec"].get("readinessGates") or ()]
        conditions = {one["type"]: one["status"] for one in (live.get("status") or {}).get("conditions") or ()}
        through = serves and all(conditions.get(gate) == "True" for gate in gates)
        told = {
            "phase": "Running",
            "podIP": pod.address,
            "conditions": [
                _condition("ContainersReady", serves),
                _condition("Ready", through, "ReadinessGatesNotReady" if serves and not through else "ContainersNotReady"),
            ],
            "containerStatuses": [_container(pod, ready=serves)],
        }
        if told != pod.told:
            self.namespace.patch("Pod", pod.name, {"status": _with_gates(told, live)}, subresource="status")
            pod.told = told

    def _end(self, pod: Pod) -> None:
        if pod.going:
            return
        pod.going = True
        self.namespace.client.request("DELETE", self.namespace.path("Pod", pod.name), json={"gracePeriodSeconds": 30})
        pod.child.process.send_signal(signal.SIGTERM)


def _serves(prober: httpx.Client, url: str) -> bool:
    try:
        return prober.get(url).status_code == 200
    except httpx.HTTPError:
        return False


def _condition(kind: str, true: bool, reason: str = "") -> Json:
    return {"type": kind, "status": "True" if true else "False", **({"reason": reason} if not true else {})}


def _container(pod: Pod, *, ready: bool) -> Json:
    name = contract.CONTAINER_ROUTER if pod.role == contract.ROLE_ROUTER else contract.CONTAINER_ENGINE
    state: Json = {"running": {"startedAt": "2026-03-01T12:00:00Z"}} if pod.child.running() else {"terminated": {"exitCode": 1}}
    return {"name": name, "ready": ready, "restartCount": 0, "image": "none", "imageID": "none", "state": state}


def _with_gates(told: Json, live: Json) -> Json:
    """A merge patch replaces lists, so what the controller set stands in it too."""
    own = {one["type"] for one in told["conditions"]}
    kept = [one for one in (live.get("status") or {}).get("conditions") or () if one["type"] not in own]
    return {**told, "conditions": [*told["conditions"], *kept]}


def _digest(template: Json) -> str:
    return hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest()
