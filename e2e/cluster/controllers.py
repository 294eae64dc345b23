"""kube-controller-manager and kube-scheduler: one of each, so neither waits to be elected."""

from collections.abc import Callable
from pathlib import Path

import httpx

from e2e.cluster import daemons, kubeconfigs, paths
from e2e.cluster.control_plane import Layout
from e2e.cluster.processes import Command, Daemon


def controller_manager(layout: Layout) -> Daemon:
    authority = layout.authority
    kubeconfig = _kubeconfig(layout, "controller-manager")
    argv = (
        str(paths.tool("kube-controller-manager")),
        f"--kubeconfig={kubeconfig}",
        "--bind-address=127.0.0.1",
        f"--secure-port={paths.CONTROLLER_MANAGER_PORT}",
        "--leader-elect=false",
        f"--root-ca-file={authority.certificate}",
        f"--service-account-private-key-file={authority.service_account_key}",
        "--use-service-account-credentials=true",
        "--kube-api-qps=200",  # its default makes its own start take four seconds longer
        "--kube-api-burst=400",
        "--horizontal-pod-autoscaler-sync-period=5s",  # the stories would wait a quarter of a minute for each look
        "--profiling=false",
    )
    return daemons.own(Command("kube-controller-manager", argv, files=(kubeconfig,)))


def scheduler(layout: Layout) -> Daemon:
    kubeconfig = _kubeconfig(layout, "scheduler")
    argv = (
        str(paths.tool("kube-scheduler")),
        f"--kubeconfig={kubeconfig}",
        "--bind-address=127.0.0.1",
        f"--secure-port={paths.SCHEDULER_PORT}",
        "--leader-elect=false",
        "--kube-api-qps=200",
        "--kube-api-burst=400",
        "--profiling=false",
    )
    return daemons.own(Command("kube-scheduler", argv, files=(kubeconfig,)))


def healthy(port: int, *, scheme: str = "https", path: str = "healthz") -> Callable[[], bool]:
    """Asks a component's own health; its certificate is one that it made up, and nothing is sent to it."""
    url = f"{scheme}://127.0.0.1:{port}/{path}"

    def ask() -> bool:
        try:
            return httpx.get(url, verify=False, timeout=2.0, trust_env=False).status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False

    return ask


def _kubeconfig(layout: Layout, identity: str) -> Path:
    path = paths.cluster() / "config" / f"{identity}.kubeconfig"
    return kubeconfigs.write(path, server=layout.server, authority=layout.authority, identity=identity)
