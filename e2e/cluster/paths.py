"""Where everything of the local cluster stands, and on which ports it listens.

All of it is below one cache directory, `${TOKENFLEET_CACHE:-${XDG_CACHE_HOME:-~/.cache}/tokenfleet}`: what takes long to
make (tools, images) outlives the cluster, what is the cluster's own state is below `cluster/`. This module only names
places; it makes none. Ports are a block of their own, so that another Kubernetes on the machine keeps its usual ones.
"""

import os
from pathlib import Path
from typing import Final

from e2e.cluster.errors import ClusterError

NODE_NAME: Final = "tokenfleet"
LINK_NAME: Final = "tokenfleet0"

ETCD_PORT: Final = 28379
ETCD_PEER_PORT: Final = 28380
APISERVER_PORT: Final = 28443
CONTROLLER_MANAGER_PORT: Final = 28257
SCHEDULER_PORT: Final = 28259
KUBELET_PORT: Final = 28250
KUBELET_HEALTH_PORT: Final = 28248
PROXY_HEALTH_PORT: Final = 28256
PROXY_METRICS_PORT: Final = 28249
DNS_PORT: Final = 28053
DNS_HEALTH_PORT: Final = 28080
REGISTRY_PORT: Final = 28500

PORTS_OF: Final = {
    "etcd": (ETCD_PORT, ETCD_PEER_PORT),
    "kube-apiserver": (APISERVER_PORT,),
    "kube-controller-manager": (CONTROLLER_MANAGER_PORT,),
    "kube-scheduler": (SCHEDULER_PORT,),
    "kubelet": (KUBELET_PORT, KUBELET_HEALTH_PORT),
    "kube-proxy": (PROXY_HEALTH_PORT, PROXY_METRICS_PORT),
    "coredns": (DNS_PORT, DNS_HEALTH_PORT),
    "registry": (REGISTRY_PORT,),
}
OWNED: Final = (
    "bench",
    "cluster",
    "cluster.lock",
    "go",
    "images",
    "images.lock",
    "models",
    "registry",
    "registry.lock",
    "story",
    "tools",
)
"""What is ours in the cache, and goes with `clean`; the directory may be one that holds other things too."""


def cache() -> Path:
    if own := os.environ.get("TOKENFLEET_CACHE"):
        return Path(own).expanduser().absolute()
    if xdg := os.environ.get("XDG_CACHE_HOME"):
        return Path(xdg).absolute() / "tokenfleet"
    return Path.home() / ".cache" / "tokenfleet"


def tools() -> Path:
    return cache() / "tools"


def tool(name: str) -> Path:
    """The binary of that name, built or not; `tools.ensure(name)` builds it."""
    from e2e.cluster import tools as built  # tools stands above paths: it finds Go, whose fallback lives in the cache

    return built.path(name)


def bench() -> Path:
    """What benchmarks compare with, each in an environment of its own, and the programs that measure."""
    return cache() / "bench"


def cluster() -> Path:
    """State of the running cluster: `down` empties it, but for the images that containerd holds."""
    return cache() / "cluster"


def state() -> Path:
    return cluster() / "state"


def certificates() -> Path:
    return cluster() / "certificates"


def logs() -> Path:
    return cluster() / "logs"


def run() -> Path:
    return cluster() / "run"


def containerd_root() -> Path:
    """Images and snapshots: survives `down`."""
    return cluster() / "containerd"


def containerd_socket() -> Path:
    return run() / "containerd.sock"


def kubelet_root() -> Path:
    return cluster() / "kubelet"


def audit_log() -> Path:
    """One JSON object a line. At 100 MB it becomes audit-<time>.log, of which the last two are kept."""
    return logs() / "audit.log"


def registry_storage() -> Path:
    """Pushed images: survives `down`."""
    return cache() / "registry"


def own_kubeconfig() -> Path:
    return cluster() / "kubeconfig"


def user_kubeconfig() -> Path | None:
    """The kubeconfig of a cluster that the user brought, or None where we run our own."""
    value = os.environ.get("KUBECONFIG", "")
    if not value:
        return None
    if os.pathsep in value:
        raise ClusterError(
            f"KUBECONFIG names several files ({value}): merge them into one with "
            "`kubectl config view --flatten > one.yaml` and set KUBECONFIG to it, or unset it to use a local cluster."
        )
    path = Path(value).expanduser().absolute()
    return None if path == own_kubeconfig() else path


def kubeconfig() -> Path:
    """The cluster that everything runs against: the user's where KUBECONFIG is set, else our own."""
    return user_kubeconfig() or own_kubeconfig()
