"""How a test or the demo reaches a router from outside of the pods.

On the local cluster a Service's address is reachable from the host, so requests go the way that pods' requests go. On a
cluster of the user's they go through `kubectl port-forward`.
"""

import re
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from e2e.cluster import paths
from e2e.kubectl import Kubectl, KubectlError, wait_for
from tokenfleet import contract

PROXY_SECONDS = 15
"""kube-proxy refuses connections to a Service until it has seen a ready pod, which it looks for once a second."""


@contextmanager
def base_url(kubectl: Kubectl, service: str) -> Iterator[str]:
    """http://ADDRESS:PORT of port 80 of `service`, as long as the context lasts."""
    if paths.user_kubeconfig() is None:
        body = kubectl.get("service", service)
        if body is None:
            raise KubectlError(f"there is no Service {kubectl.namespace}/{service}")
        address, port = body["spec"]["clusterIP"], body["spec"]["ports"][0]["port"]
        wait_for(f"Service {service} to take connections", lambda: _listens(address, port), timeout=PROXY_SECONDS)
        yield f"http://{address}:{port}"
        return
    with _forwarded(kubectl, f"service/{service}", 80) as url:
        yield url


@contextmanager
def pod_url(kubectl: Kubectl, pod: str, port: int = contract.ENGINE_PORT) -> Iterator[str]:
    """http://ADDRESS:PORT of one pod, as long as the context lasts."""
    if paths.user_kubeconfig() is None:
        body = kubectl.get("pod", pod)
        if body is None:
            raise KubectlError(f"there is no pod {kubectl.namespace}/{pod}")
        yield f"http://{body['status']['podIP']}:{port}"
        return
    with _forwarded(kubectl, f"pod/{pod}", port) as url:
        yield url


@contextmanager
def _forwarded(kubectl: Kubectl, target: str, port: int) -> Iterator[str]:
    with subprocess.Popen(
        kubectl.command("port-forward", target, f":{port}"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if (found := re.search(r"127\.0\.0\.1:(\d+)", line)) is None:
                raise KubectlError(f"kubectl port-forward {target}: {line.strip()}")
            yield f"http://127.0.0.1:{found[1]}"
        finally:
            process.terminate()


def _listens(address: str, port: int) -> bool:
    try:
        with socket.create_connection((address, port), timeout=2):
            return True
    except OSError:
        return False
