"""A containerd of the cluster's own: its images outlive the cluster, all else of it is gone with the enclosure."""

import json
import platform
import subprocess
from pathlib import Path
from typing import Final

from e2e.cluster import configuration, daemons, enclosure, network, packages, paths, registry, sandbox
from e2e.cluster.errors import ClusterError
from e2e.cluster.processes import Command, Daemon

NAMESPACE: Final = "k8s.io"
_PLUGIN_PLACES: Final = ("/usr/lib/cni", "/opt/cni/bin")


def daemon(enter: tuple[str, ...] = ()) -> Daemon:
    argv = (packages.program("containerd"), "--config", str(_config()))
    return daemons.own(Command("containerd", argv, files=(_config(),)), enter=enter)


def configure(used: network.Addresses) -> None:
    plugins = next((place for place in _PLUGIN_PLACES if (Path(place) / "ptp").exists()), _PLUGIN_PLACES[0])
    for directory in (_config().parent, paths.run(), paths.containerd_root(), _networks(), _hosts()):
        directory.mkdir(parents=True, exist_ok=True)
    paths.containerd_root().chmod(0o711)
    configuration.write(_networks() / "10-tokenfleet.conflist", json.dumps(_network_list(used), indent=2))
    configuration.write(
        _hosts() / "hosts.toml",
        f'server = "http://{registry.address()}"\n[host."http://{registry.address()}"]\ncapabilities = ["pull", "resolve"]\n',
    )
    configuration.write(_config(), _settings(plugins))


def answers() -> bool:
    return _ctr("version", timeout=3.0).returncode == 0


def prepare_sandbox_image() -> None:
    """The image that every pod's sandbox runs, made here and imported once."""
    if sandbox.image_name() in images():
        return
    archive = paths.run() / "sandbox.tar"
    sandbox.write(archive)
    answer = _ctr("images", "import", "--platform", f"linux/{sandbox.architecture(platform.machine())}", str(archive))
    archive.unlink()
    if answer.returncode != 0:
        raise ClusterError(f"containerd does not take the sandbox image: {answer.stderr.strip()}")


def images() -> list[str]:
    return _ctr("images", "list", "--quiet").stdout.split()


def containers() -> list[str]:
    return _ctr("containers", "list", "--quiet").stdout.split()


def remove_containers() -> None:
    """Forget all containers, with their writable layers; their processes must have ended."""
    if names := containers():
        _ctr("tasks", "delete", "--force", *names, timeout=10.0)
        _ctr("containers", "delete", *names, timeout=10.0)


def _ctr(*arguments: str, timeout: float = 30.0) -> subprocess.CompletedProcess[str]:
    command = [packages.program("ctr"), "--address", str(paths.containerd_socket()), "--namespace", NAMESPACE]
    try:
        return subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired as error:
        return subprocess.CompletedProcess(error.cmd, 124, "", f"no answer within {timeout:.0f} s")


def _config() -> Path:
    return paths.cluster() / "config" / "containerd.toml"


def _networks() -> Path:
    return paths.cluster() / "cni" / "net.d"


def _hosts() -> Path:
    return paths.cluster() / "config" / "hosts" / registry.address()


def _network_list(used: network.Addresses) -> dict[str, object]:
    """Leases stand in the enclosure: they are gone exactly when the pods that had them are."""
    addresses = {
        "type": "host-local",
        "dataDir": str(enclosure.LEASES),
        "ranges": [[{"subnet": str(used.pods), "gateway": used.node}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    plugins = [{"type": "ptp", "ipMasq": False, "ipam": addresses}]
    return {"cniVersion": "1.0.0", "name": "tokenfleet", "plugins": plugins}


def _settings(plugins: str) -> str:
    runtime = '[plugins."io.containerd.grpc.v1.cri".containerd'
    return f"""\
version = 2
root = "{paths.containerd_root()}"
state = "/run/containerd"
oom_score = 0
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs", "io.containerd.tracing.processor.v1.otlp", "io.containerd.internal.v1.tracing",
]

[grpc]
address = "{paths.containerd_socket()}"

[plugins."io.containerd.internal.v1.opt"]
path = "{paths.containerd_root()}/opt"

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{sandbox.image_name()}"
restrict_oom_score_adj = true  # without CAP_SYS_RESOURCE no sandbox starts
disable_apparmor = true  # its profile would stay in the kernel
tolerate_missing_hugetlb_controller = true
max_concurrent_downloads = 4
stream_server_address = "127.0.0.1"
stream_server_port = "0"

{runtime}]
snapshotter = "overlayfs"
discard_unpacked_layers = true
default_runtime_name = "runc"

{runtime}.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

{runtime}.runtimes.runc.options]
SystemdCgroup = false
BinaryName = "{packages.program("runc")}"

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{plugins}"
conf_dir = "{_networks()}"

[plugins."io.containerd.grpc.v1.cri".registry]
config_path = "{_hosts().parent}"
"""
