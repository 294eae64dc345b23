"""The fleet that is disturbed, and the verbs that disturb it: what users, administrators, clouds and misfortune do."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import httpx

from e2e import access, install, kills
from e2e.cluster import daemons
from e2e.deployed import Deployed
from e2e.kubectl import Json, Kubectl, KubectlError, wait_for
from tokenfleet import contract

OPERATOR: Final = Kubectl(install.NAMESPACE)
REPLICAS: Final = 3
_EVICTION_SECONDS: Final = 120


@dataclass(frozen=True, slots=True)
class Fleet:
    """One LLMDeployment with two routers."""

    deployed: Deployed

    @property
    def kubectl(self) -> Kubectl:
        return self.deployed.kubectl

    @property
    def name(self) -> str:
        return self.deployed.name

    def patch(self, **spec: object) -> None:
        self.kubectl("patch", "llmd", self.name, "--type=merge", "-p", json.dumps({"spec": spec}))

    def whole(self, replicas: int = REPLICAS, *, timeout: float = 180) -> None:
        """Until it is as its spec says, and nobody is on the way out."""
        self.deployed.wait_ready(replicas, timeout=timeout)
        wait_for("all goodbyes to be said", lambda: len(self.pods("engine")) == replicas, timeout=timeout)
        routers = (self.kubectl.get("llmd", self.name) or {})["spec"]["router"]["replicas"]
        wait_for("the routers", lambda: len(self.pods("router")) == routers, timeout=timeout)

    def pods(self, role: str) -> list[Json]:
        return self.kubectl.items("pods", f"{self.deployed.selector},{contract.LABEL_ROLE}={role}")

    def engine(self) -> Json:
        """One that has requests in flight: the busiest, as the first router sees it."""
        router = self.pods("router")[0]["metadata"]["name"]
        with access.pod_url(self.kubectl, router, contract.ROUTER_ADMIN_PORT) as url:
            seen = httpx.get(f"{url}/debug/replicas.json", trust_env=False).json()
        rows = [row for model in seen["models"] for row in model["replicas"] if row["state"] == "routable"]
        busiest = max(rows, key=lambda row: row["inFlight"])["name"]
        return next(pod for pod in self.pods("engine") if pod["metadata"]["name"] == busiest)

    # --- What users do

    def scale(self, replicas: int) -> None:
        self.kubectl("scale", f"llmd/{self.name}", f"--replicas={replicas}")

    def change(self) -> None:
        """Something that rolls all engines."""
        self.patch(engine={"env": {"CHANGED": str(time.time_ns())}})

    def restart(self) -> None:
        stamp = f"{contract.ANNOTATION_RESTARTED}={time.time_ns()}"
        self.kubectl("annotate", "llmd", self.name, "--overwrite", stamp)

    def environment(self) -> object:
        return ((self.kubectl.get("llmd", self.name) or {})["spec"].get("engine") or {}).get("env") or {}

    # --- What administrators and clouds do

    def evict_all(self) -> None:
        """As `kubectl drain` does it with a node: each pod by the Eviction API, again and again until the budget allows it."""
        left = [pod["metadata"]["name"] for pod in self.pods("engine")]
        deadline = time.monotonic() + _EVICTION_SECONDS
        while left and time.monotonic() < deadline:
            left = [name for name in left if not self._evicted(name)]
            time.sleep(0.5)
        assert not left, f"the disruption budget kept {left} for {_EVICTION_SECONDS} s"

    def _evicted(self, pod: str) -> bool:
        eviction = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": pod, "namespace": self.kubectl.namespace},
        }
        path = f"/api/v1/namespaces/{self.kubectl.namespace}/pods/{pod}/eviction"
        try:
            self.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(eviction))
        except KubectlError as error:
            if "disruption budget" in str(error) or "TooManyRequests" in str(error):
                return False
            if "NotFound" in str(error) or "not found" in str(error):
                return True
            raise
        return True

    def delete_pod(self, role: str = "engine") -> None:
        pod = self.engine() if role == "engine" else self.pods(role)[0]
        self.kubectl.delete("pod", pod["metadata"]["name"], wait=False)

    def give_notice(self) -> None:
        """Of a spot instance that goes, to the busiest engine."""
        pod = self.engine()["metadata"]["name"]
        self.kubectl("annotate", "pod", pod, f"{contract.ANNOTATION_NOTICE}=now")
        wait_for(f"{pod} to go", lambda: self.kubectl.get("pod", pod) is None, timeout=120)

    def roll_routers(self) -> None:
        before = {pod["metadata"]["name"] for pod in self.pods("router")}
        self.kubectl("rollout", "restart", f"deployment/{self.name}-router")
        wait_for("other routers", lambda: not before & {pod["metadata"]["name"] for pod in self.pods("router")}, timeout=120)

    def upgrade_operator(self) -> None:
        OPERATOR("rollout", "restart", "deployment/tokenfleet")
        OPERATOR("rollout", "status", "deployment/tokenfleet", "--timeout=90s", timeout=100)

    # --- Misfortune

    def kill_operator(self) -> None:
        for pod in OPERATOR.items("pods", "app.kubernetes.io/name=tokenfleet"):
            if pod["status"]["phase"] == "Running":  # a pod of `helm test` may still be there
                kills.kill(OPERATOR, pod)

    def kill_engine(self) -> None:
        kills.kill(self.kubectl, self.engine())

    def starve_engine(self) -> None:
        pod = self.engine()
        kills.starve(pod)
        wait_for("the kernel's verdict", lambda: self._was_starved(pod["metadata"]["name"]), timeout=30)

    def _was_starved(self, pod: str) -> bool:
        statuses = ((self.kubectl.get("pod", pod) or {}).get("status") or {}).get("containerStatuses") or []
        states = [state for status in statuses for state in (status.get("state"), status.get("lastState")) if state]
        return any((state.get("terminated") or {}).get("reason") == "OOMKilled" for state in states)

    @contextmanager
    def without_api(self) -> Iterator[None]:
        """The API server hangs: connections stay, and nothing answers."""
        pid = next(daemon for daemon in daemons.recorded() if daemon.command.name == "kube-apiserver").record().pid  # type: ignore[union-attr]
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    def wait(self, what: str, probe: Callable[[], object]) -> None:
        wait_for(what, probe, timeout=120)
