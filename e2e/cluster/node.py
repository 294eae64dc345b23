"""The one node: its kubelet, and the resources that it claims to have.

    node.set_gpus(8)   # from now on pods that ask for nvidia.com/gpu are scheduled for real

The kubelet knows nothing of such GPUs and leaves them alone; they are remembered, and claimed again after a restart.
"""

import datetime
import shutil
from pathlib import Path
from typing import Any, Final

import yaml

from e2e.cluster import cgroups, configuration, daemons, instance, kubeconfigs, network, paths
from e2e.cluster.api import Api
from e2e.cluster.control_plane import Layout
from e2e.cluster.errors import ClusterError
from e2e.cluster.processes import Command, Daemon

GPU: Final = "nvidia.com/gpu"
MAX_PODS: Final = 110
LONG_AGO: Final = datetime.datetime.min.replace(tzinfo=datetime.UTC)
_PATH: Final = f"/api/v1/nodes/{paths.NODE_NAME}"


def kubelet(layout: Layout, used: network.Addresses, enter: tuple[str, ...] = ()) -> Daemon:
    kubeconfig = kubeconfigs.write(
        paths.cluster() / "config" / "kubelet.kubeconfig",
        server=layout.server,
        authority=layout.authority,
        identity="kubelet",
    )
    config, resolver = _write_config(layout, used)
    argv = (
        str(paths.tool("kubelet")),
        f"--config={config}",
        f"--kubeconfig={kubeconfig}",
        f"--root-dir={paths.kubelet_root()}",
        f"--hostname-override={paths.NODE_NAME}",
        f"--node-ip={used.node}",
    )
    return daemons.own(Command("kubelet", argv, files=(config, kubeconfig, resolver)), enter=enter)


def ready(api: Api, *, since: datetime.datetime = LONG_AGO) -> bool:
    """Whether the node says that it is ready, and has said so since then: what a dead kubelet said last does not count."""
    found = api.get(_PATH)
    conditions = (found or {}).get("status", {}).get("conditions", [])
    return any(
        each["type"] == "Ready"
        and each["status"] == "True"
        and datetime.datetime.fromisoformat(each["lastHeartbeatTime"]) >= since
        for each in conditions
    )


def registered(api: Api) -> bool:
    return api.get(_PATH) is not None


def describe(api: Api) -> dict[str, Any]:
    found = api.get(_PATH)
    if found is None:
        raise ClusterError("the node has not registered yet.")
    status = found["status"]
    info = status["nodeInfo"]
    return {
        "name": paths.NODE_NAME,
        "ready": ready(api),
        "version": info["kubeletVersion"],
        "runtime": info["containerRuntimeVersion"],
        "allocatable": status["allocatable"],
        "gpus": int(status["allocatable"].get(GPU, "0")),
    }


def set_gpus(count: int) -> None:
    """Make the node claim this many GPUs; none takes the resource away."""
    if count < 0:
        raise ClusterError(f"a node cannot have {count} GPUs.")
    _gpus_path().write_text(str(count))
    with instance.administrator() as api:
        claim_gpus(api)


def claim_gpus(api: Api) -> None:
    """Write the remembered number to the node, where it is not what the node says already."""
    file = _gpus_path()
    if not file.is_file():
        return
    wanted = file.read_text().strip()
    found = api.get(_PATH) or {}
    if found.get("status", {}).get("allocatable", {}).get(GPU, "0") != wanted:
        value = None if wanted == "0" else wanted
        api.merge(f"{_PATH}/status", {"status": {"capacity": {GPU: value}, "allocatable": {GPU: value}}})


def forget() -> None:
    """The kubelet's directory, when nothing is mounted in it any more."""
    shutil.rmtree(paths.kubelet_root(), ignore_errors=True)


def _gpus_path() -> Path:
    return paths.state() / "gpus"


def _write_config(layout: Layout, used: network.Addresses) -> tuple[Path, Path]:
    directory = paths.cluster() / "config"
    resolver = directory / "resolv.conf"
    lines = Path("/etc/resolv.conf").read_text().splitlines() if Path("/etc/resolv.conf").is_file() else []
    servers = [line for line in lines if line.startswith("nameserver") and not line.split()[1].startswith("127.")]
    configuration.write(resolver, "\n".join(servers or [f"nameserver {used.dns_service}"]) + "\n")
    config = directory / "kubelet.yaml"
    configuration.write(config, yaml.safe_dump(_config(layout, used, resolver), sort_keys=False))
    (paths.logs() / "pods").mkdir(parents=True, exist_ok=True)
    return config, resolver


def _config(layout: Layout, used: network.Addresses, resolver: Path) -> dict[str, Any]:
    authority = layout.authority
    server = authority.pair("kubelet-server")
    root = paths.kubelet_root()
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": used.node,
        "port": paths.KUBELET_PORT,
        "healthzBindAddress": "127.0.0.1",
        "healthzPort": paths.KUBELET_HEALTH_PORT,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(authority.certificate)},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(server.certificate),
        "tlsPrivateKeyFile": str(server.key),
        "containerRuntimeEndpoint": f"unix://{paths.containerd_socket()}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{cgroups.name()}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "enforceNodeAllocatable": [],
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "imageGCHighThresholdPercent": 100,  # never: images are made here, and nobody could pull them again
        "imageGCLowThresholdPercent": 99,
        "maxPods": MAX_PODS,
        "clusterDomain": "cluster.local",
        "clusterDNS": [used.dns_service],
        "resolvConf": str(resolver),
        "podLogsDir": str(paths.logs() / "pods"),
        "volumePluginDir": str(root / "volume-plugins"),
        "makeIPTablesUtilChains": False,
        "oomScoreAdj": 0,
        "serializeImagePulls": False,
        "registryPullQPS": 0,
        "eventRecordQPS": 0,
        "kubeAPIQPS": 100,
        "kubeAPIBurst": 200,
        "shutdownGracePeriod": "0s",
        "logging": {"verbosity": 1},
    }
