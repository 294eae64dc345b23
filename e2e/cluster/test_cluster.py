"""The cluster's own story: up twice, killed in every way, and gone without a trace. Needs root.

Run it alone: `python -m pytest e2e/cluster/test_cluster.py`. It has a network namespace and a cache of its own, so a cluster
that runs on this machine is not disturbed. The tests stand in the order in which they tell the story. Whatever a snapshot of
the machine shows before the first `up` and after the last `down` must be the same.
"""

import contextlib
import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.cluster import cgroups, containerd, daemons, dns, instance, network, node, packages, paths, sandbox, status, tools
from e2e.cluster import cluster as local
from e2e.cluster.errors import ClusterError
from e2e.cluster.processes import boot, wait_until
from e2e.cluster.traces import Traces

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(os.geteuid() != 0, reason="the local cluster needs root"),
    pytest.mark.skipif(bool(os.environ.get("KUBECONFIG")), reason="KUBECONFIG names a cluster that is not ours to end"),
]

REPLICAS = 3
CLONE_NEWNET = 0x40000000  # os.unshare and os.setns came with Python 3.12
DAEMONS = (
    "containerd",
    "coredns",
    "enclosure",
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-proxy",
    "kube-scheduler",
    "kubelet",
    "registry",
)


@pytest.fixture(scope="module")
def network_and_cache_of_its_own() -> Iterator[None]:
    """For this process and all that it starts; built tools are shared."""
    packages.ensure()
    tools.ensure(*tools.ALL)
    cache, outside = paths.cache(), os.open("/proc/self/ns/net", os.O_RDONLY)
    own = cache / "story"
    own.mkdir(exist_ok=True)
    for name in ("go", "tools"):
        if not (own / name).exists():
            (own / name).symlink_to(cache / name)
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.unshare(CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TOKENFLEET_CACHE", str(own))
        try:
            subprocess.run([packages.program("ip"), "link", "set", "lo", "up"], check=True)
            yield
            local.down()
            shutil.rmtree(own)  # after a failure it stays, with its logs
        finally:
            assert libc.setns(outside, CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
            os.close(outside)


@pytest.fixture(scope="module")
def neighbour(network_and_cache_of_its_own: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator["Neighbour"]:
    """Somebody else's containerd, with a container, at the usual places as far as they cannot be chosen."""
    with Neighbour(tmp_path_factory.mktemp("neighbour")) as running:
        yield running


@pytest.fixture(scope="module")
def before(neighbour: "Neighbour") -> Traces:
    """The machine as it was without a cluster."""
    local.down()
    return Traces.look()


@pytest.fixture(scope="module")
def workload(before: Traces) -> str:
    """A Deployment of web servers behind a Service, on a running cluster."""
    local.up()
    _kubectl("apply", "--filename=-", text=json.dumps({"apiVersion": "v1", "kind": "List", "items": _workload()}))
    assert wait_until(_serving, seconds=60), _kubectl("describe", "pods")
    return "web"


class Neighbour:
    """A containerd that is not the cluster's."""

    GROUP = "neighbour-of-tokenfleet"

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.socket = directory / "c.sock"
        self.shared = Path("/run/containerd")
        self.made = not self.shared.exists()

    def __enter__(self) -> "Neighbour":
        config = self.directory / "config.toml"
        config.write_text(
            f'version = 2\nroot = "{self.directory}/root"\nstate = "{self.directory}/state"\n'
            f'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n[grpc]\naddress = "{self.socket}"\n'
            f'[plugins."io.containerd.internal.v1.opt"]\npath = "{self.directory}/opt"\n'
        )
        log = (self.directory / "log").open("wb")
        command = [packages.program("containerd"), "--config", str(config)]
        self.process = subprocess.Popen(command, stdout=log, stderr=log)
        assert wait_until(lambda: self.ctr("version").returncode == 0, seconds=20)
        archive = self.directory / "sandbox.tar"
        sandbox.write(archive)
        self.ctr("images", "import", str(archive))
        answer = self.ctr("run", "--detach", "--cgroup", f"/{self.GROUP}", sandbox.image_name(), "neighbour")
        assert answer.returncode == 0, answer.stderr
        return self

    def __exit__(self, *_: object) -> None:
        self.ctr("tasks", "kill", "--signal", "SIGKILL", "neighbour")
        wait_until(lambda: "STOPPED" in self.tasks(), seconds=10)
        self.ctr("tasks", "delete", "neighbour")
        self.ctr("containers", "delete", "neighbour")
        self.process.terminate()
        self.process.wait(timeout=20)
        first, second = cgroups.hierarchies()
        groups = [place / self.GROUP for place in (*first, *([second] if second else []))]
        for group in groups:
            if group.exists():
                group.rmdir()
        if self.made:
            shutil.rmtree(self.shared)

    def ctr(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [packages.program("ctr"), "--address", str(self.socket), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def tasks(self) -> str:
        return self.ctr("tasks", "list").stdout

    def lives(self) -> bool:
        return self.process.poll() is None and "RUNNING" in self.tasks()


def test_the_second_up_changes_nothing(workload: str) -> None:
    pids = _pids()
    local.up()
    assert _pids() == pids
    assert status.look().healthy


def test_pods_resolve_names_and_reach_each_other_through_services(workload: str) -> None:
    pod = _pods()[0]["metadata"]["name"]
    address = _service_address()
    answer = _kubectl("exec", pod, "--", "nslookup", "web.default.svc.cluster.local")
    assert address in answer
    assert dns.resolve("web.default.svc.cluster.local", server=network.addresses().dns_service) == address
    inside = ("nsenter", f"--net=/proc/{_process_of(pod)}/ns/net", "--")
    program = "import sys, urllib.request as r; print(r.urlopen(sys.argv[1], timeout=5).read().decode())"
    reached = {
        subprocess.run(
            [*inside, sys.executable, "-c", program, f"http://{address}"], capture_output=True, text=True, check=True
        ).stdout.strip()
        for _ in range(30)
    }
    assert reached == {each["metadata"]["name"] for each in _pods()}, "a Service spreads, and leads back to its caller too"


def test_pods_run_with_many_open_files(workload: str) -> None:
    limit = int(_kubectl("exec", _pods()[0]["metadata"]["name"], "--", "sh", "-c", "ulimit -n"))
    assert limit > 1024


def test_claimed_gpus_are_scheduled_and_taken_back(workload: str) -> None:
    node.set_gpus(2)
    with instance.administrator() as api:
        assert node.describe(api)["gpus"] == 2
        node.set_gpus(0)
        assert node.GPU not in node.describe(api)["allocatable"]


@pytest.mark.parametrize("name", DAEMONS)
def test_a_killed_daemon_comes_back_and_no_pod_notices(workload: str, name: str) -> None:
    containers = _containers()
    _kill(name)
    assert not status.look().healthy or name == "registry"
    local.up()
    assert status.look().healthy
    assert wait_until(_serving, seconds=30)
    assert _containers() == containers, "the pods' containers went on running"


def test_killed_shims_and_containers_are_replaced(workload: str) -> None:
    _kill_all(cgroups.members(cgroups.PODS) | _shims())
    local.up()
    assert wait_until(_serving, seconds=90), _kubectl("describe", "pods")


def test_everything_killed_at_once_comes_back_with_its_pods(workload: str) -> None:
    uids = {each["metadata"]["uid"] for each in _pods()}
    _kill_all(cgroups.members())
    local.up()
    assert wait_until(_serving, seconds=90), _kubectl("describe", "pods")
    assert {each["metadata"]["uid"] for each in _pods()} == uids, "objects outlive their cluster's processes"


def test_daemons_killed_while_containers_run_on(workload: str) -> None:
    """Everything but the pods' own processes: nobody is left who knows them."""
    _kill_all(cgroups.members() - cgroups.members(cgroups.PODS))
    local.up()
    assert wait_until(_serving, seconds=90), _kubectl("describe", "pods")


def test_a_reboot_keeps_the_objects(workload: str) -> None:
    """Processes, mounts, links, rules and control groups are gone, and process numbers mean nothing any more."""
    uids = {each["metadata"]["uid"] for each in _pods()}
    cgroups.kill()
    network.remove(network.addresses())
    cgroups.remove()
    for file in paths.state().glob("*.json"):
        file.write_text(file.read_text().replace(boot(), "an-earlier-boot"))
    local.up()
    assert wait_until(_serving, seconds=90), _kubectl("describe", "pods")
    assert {each["metadata"]["uid"] for each in _pods()} == uids


@pytest.mark.parametrize("seconds", [0.3, 1.0, 2.5, 4.0])
def test_an_up_that_was_killed_is_finished_by_the_next(workload: str, seconds: float) -> None:
    cgroups.kill()
    with subprocess.Popen([sys.executable, "-m", "e2e.cluster", "up"], stderr=subprocess.DEVNULL) as first:
        time.sleep(seconds)
        first.kill()
    local.up()
    assert status.look().healthy
    assert wait_until(_serving, seconds=90), _kubectl("describe", "pods")


def test_a_daemon_that_hangs_is_replaced(workload: str) -> None:
    pid = _pids()["kube-apiserver"]
    os.kill(pid, signal.SIGSTOP)
    local.up()
    assert _pids()["kube-apiserver"] != pid
    assert status.look().healthy


def test_a_number_used_again_is_not_killed(workload: str) -> None:
    """The record of a dead daemon, with the number of a process that is somebody else's."""
    daemon = next(each for each in daemons.recorded() if each.command.name == "kube-scheduler")
    record = json.loads(daemon.record_path.read_text())
    with subprocess.Popen(["sleep", "60"]) as innocent:
        _kill("kube-scheduler")
        daemon.record_path.write_text(json.dumps(record | {"pid": innocent.pid}))
        local.up()
        assert innocent.poll() is None
        innocent.kill()
    assert status.look().healthy


def test_a_port_that_is_taken_is_named_with_its_holder(workload: str) -> None:
    _kill("kube-scheduler")
    program = f"import socket, time; s = socket.create_server(('127.0.0.1', {paths.SCHEDULER_PORT})); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", program]) as thief:
        assert wait_until(lambda: local.connects("127.0.0.1", paths.SCHEDULER_PORT), seconds=10)
        with pytest.raises(ClusterError, match=rf"{paths.SCHEDULER_PORT} \(kube-scheduler\) by .*process {thief.pid}"):
            local.up()
        thief.kill()
    local.up()
    assert status.look().healthy


def test_a_cluster_of_the_users_is_neither_started_nor_ended(workload: str, tmp_path: Path) -> None:
    theirs = tmp_path / "kubeconfig"
    shutil.copy(paths.own_kubeconfig(), theirs)
    pids = _pids()
    for command, said in (("up", "Using your cluster tokenfleet at https://127.0.0.1"), ("down", "left as it is")):
        answer = subprocess.run(
            [sys.executable, "-m", "e2e.cluster", command],
            env={**os.environ, "KUBECONFIG": str(theirs)}, capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert said in answer.stderr
    assert _pids() == pids


def test_down_leaves_nothing(workload: str, before: Traces, neighbour: Neighbour) -> None:
    assert cgroups.members(cgroups.PODS), "there are pods to take down"
    began = time.monotonic()
    local.down()
    took = time.monotonic() - began
    assert Traces.look().new_since(before) == []
    assert neighbour.lives()
    print(f"down with {REPLICAS} pods running: {took:.1f} s")


def test_images_outlive_the_cluster(before: Traces, neighbour: Neighbour) -> None:
    local.up()
    assert sandbox.image_name() in containerd.images()
    assert containerd.containers() == [], "no container of the cluster that is gone"
    with instance.administrator() as api:
        assert api.get("/apis/apps/v1/namespaces/default/deployments/web") is None, "a new cluster has no old objects"
    local.down()
    local.down()
    assert Traces.look().new_since(before) == []
    assert neighbour.lives()


def _workload() -> list[dict[str, Any]]:
    labels = {"app": "web"}
    container = {
        "name": "web",
        "image": sandbox.image_name(),
        "imagePullPolicy": "Never",
        "command": ["sh", "-c", "echo $HOSTNAME >/www/index.html && exec httpd -f -p 8080 -h /www"],
        "readinessProbe": {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1},
        "volumeMounts": [{"name": "www", "mountPath": "/www"}, {"name": "shm", "mountPath": "/dev/shm"}],
    }
    volumes = [{"name": "www", "emptyDir": {}}, {"name": "shm", "emptyDir": {"medium": "Memory"}}]
    pod = {"terminationGracePeriodSeconds": 1, "containers": [container], "volumes": volumes}
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {
            "replicas": REPLICAS,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"selector": labels, "ports": [{"port": 80, "targetPort": 8080}]},
    }
    return [deployment, service]


def _serving() -> bool:
    """All pods are ready, their containers are really there, and the Service answers from this machine."""
    ready = [
        each
        for each in _pods()
        if any(entry["type"] == "Ready" and entry["status"] == "True" for entry in each["status"].get("conditions", []))
    ]
    return len(ready) == REPLICAS and len(_containers()) == REPLICAS and local.connects(_service_address(), 80)


def _containers() -> set[int]:
    """The processes that serve, as the kernel sees them; not those that they fork for one request."""
    found: dict[int, int] = {}
    for pid in cgroups.members(cgroups.PODS):
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"httpd\0"):
                found[pid] = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return {pid for pid, parent in found.items() if parent not in found}


def _process_of(pod: str) -> int:
    """The server's process in that pod: its host name is the pod's."""
    for pid in _containers():
        if f"HOSTNAME={pod}".encode() in Path(f"/proc/{pid}/environ").read_bytes():
            return pid
    raise AssertionError(f"no process of {pod}")


def _shims() -> set[int]:
    pids = cgroups.members() - cgroups.members(cgroups.PODS)
    return {pid for pid in pids if b"containerd-shim" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0]}


def _kill(name: str) -> None:
    daemon = next(each for each in daemons.recorded() if each.command.name == name)
    record = daemon.record()
    assert record is not None
    os.kill(record.pid, signal.SIGKILL)
    assert wait_until(lambda: not daemon.running(), seconds=5)


def _kill_all(pids: set[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):  # some end with others
            os.kill(pid, signal.SIGKILL)


def _pids() -> dict[str, int]:
    return {each.command.name: record.pid for each in daemons.recorded() if (record := each.record()) is not None}


def _pods() -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = json.loads(_kubectl("get", "pods", "--selector=app=web", "--output=json"))["items"]
    return items


def _service_address() -> str:
    return _kubectl("get", "service", "web", "--output=jsonpath={.spec.clusterIP}")


def _kubectl(*arguments: str, text: str | None = None) -> str:
    command = [str(tools.path("kubectl")), f"--kubeconfig={paths.own_kubeconfig()}", *arguments]
    answer = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout
