"""Up and down: the phases of both, in order.

Every phase has a thing as it should be, whatever it finds: running, dead, killed in the middle of anything, or never
started. So the first start, the second, and the one after a crash are the same list, and there is no repair mode.
"""

import datetime
import shutil
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from e2e.cluster import (
    cgroups,
    checks,
    containerd,
    control_plane,
    controllers,
    daemons,
    dns,
    enclosure,
    external,
    instance,
    locks,
    mounts,
    network,
    node,
    packages,
    paths,
    proxy,
    registry,
    tools,
)
from e2e.cluster.api import Api
from e2e.cluster.control_plane import Layout
from e2e.cluster.errors import ClusterError
from e2e.cluster.processes import wait_until
from e2e.cluster.progress import say, step

KEPT: Final = ("containerd", "logs")
"""What `down` leaves below the cluster's directory: its images, and what happened."""


@dataclass(frozen=True, slots=True)
class Start:
    """What the phases of one `up` share."""

    used: network.Addresses
    layout: Layout
    api: Api
    fresh: bool
    since: datetime.datetime


def up(*, gpus: int | None = None) -> None:
    """Have the cluster running and healthy."""
    if (user := paths.user_kubeconfig()) is not None:
        if gpus is not None:
            raise ClusterError("--gpus changes a node's status, which is done to the local cluster only: unset KUBECONFIG.")
        found = external.look(user)
        say(f"Using your cluster {found.context} at {found.server} ({found.version}); nothing was started.")
        return
    checks.refuse(checks.look())
    packages.ensure()
    tools.ensure(*tools.ALL)
    with locks.held(paths.cache() / "cluster.lock"), step("Starting the local cluster") as whole:
        try:
            _start(gpus)
        except ClusterError as error:
            if paths.state().exists():
                error.add_note("`up` can be run again; `down` and then `up` starts anew and keeps the images.")
            raise
        whole.result = f"(Kubernetes {tools.KUBERNETES_VERSION}, kubeconfig {paths.own_kubeconfig()})"


def _start(gpus: int | None) -> None:
    used, fresh = network.addresses(), instance.fresh()
    _prepare_machine(used, fresh=fresh)
    layout = instance.layout(used)
    control_plane.prepare(layout)
    now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)  # the API's times are whole seconds
    with Api(layout.server, layout.authority) as api:
        start = Start(used, layout, api, fresh, now)
        for title, phase in PHASES:
            with step(title):
                phase(start)
        if gpus is not None:
            node.set_gpus(gpus)
        else:
            node.claim_gpus(api)


def _prepare_machine(used: network.Addresses, *, fresh: bool) -> None:
    with step("Preparing the machine"):
        if chains := network.firewalls():
            say(
                f"warning: a firewall of this machine ({', '.join(chains)}) drops what it does not know. If pods do not "
                f"reach each other or the API, let them through: iptables -I FORWARD -s {used.pods} -j ACCEPT; "
                f"iptables -I FORWARD -d {used.pods} -j ACCEPT; iptables -I INPUT -s {used.pods} -j ACCEPT"
            )
        checks.settle(used, running=_ports_in_use())
        if fresh:
            _clear_logs()
        cgroups.ensure()
        network.ensure(used)
        registry.start()


def _start_foundations(start: Start) -> None:
    """etcd, the API server and containerd, which need nothing but each other."""
    etcd = daemons.own(control_plane.etcd_command(start.layout))
    etcd_url = f"https://127.0.0.1:{start.layout.etcd_port}"
    with Api(etcd_url, start.layout.authority, identity="etcd-client", health="/health") as health:
        daemons.ensure(etcd, health.ready)
        apiserver = daemons.own(control_plane.apiserver_command(start.layout))
        daemons.ensure(apiserver, start.api.ready)
        _start_containerd(start)
        daemons.await_ready(etcd, health.ready, seconds=30)
        daemons.await_ready(apiserver, start.api.ready, seconds=60)


def _start_containerd(start: Start) -> None:
    enter = enclosure.ensure()
    containerd.configure(start.used)
    runtime = containerd.daemon(enter)
    if daemons.ensure(runtime, containerd.answers):
        daemons.await_ready(runtime, containerd.answers, seconds=30)
    if start.fresh and containerd.containers():  # of a cluster that is gone; it must not remember them either
        containerd.remove_containers()
        runtime.stop()
        runtime.start()
        daemons.await_ready(runtime, containerd.answers, seconds=30)
    containerd.prepare_sandbox_image()


def _start_node(start: Start) -> None:
    """The controllers, the node, and with it what makes Services and names work."""
    dns.apply(start.api, start.used)
    enter = enclosure.ensure()
    manager, scheduler = controllers.controller_manager(start.layout), controllers.scheduler(start.layout)
    kubelet = node.kubelet(start.layout, start.used, enter)
    coredns, kube_proxy = dns.daemon(start.layout, start.used), proxy.daemon(start.layout, start.used)
    healthy = {
        daemon.command.name: controllers.healthy(port, scheme=scheme, path=path)
        for daemon, port, scheme, path in (
            (manager, paths.CONTROLLER_MANAGER_PORT, "https", "healthz"),
            (scheduler, paths.SCHEDULER_PORT, "https", "healthz"),
            (kubelet, paths.KUBELET_HEALTH_PORT, "http", "healthz"),
            (coredns, paths.DNS_HEALTH_PORT, "http", "health"),
            (kube_proxy, paths.PROXY_HEALTH_PORT, "http", "healthz"),
        )
    }
    started = {daemon.command.name: daemons.ensure(daemon, healthy[daemon.command.name]) for daemon in (manager, kubelet)}
    for daemon in (scheduler, coredns):
        daemons.ensure(daemon, healthy[daemon.command.name])
    daemons.await_ready(kubelet, lambda: node.registered(start.api), seconds=60)
    network.claim_proxy_tables()
    daemons.ensure(kube_proxy, healthy["kube-proxy"])  # it looks its node up once, and only when it starts
    for daemon in (manager, scheduler, kubelet, coredns, kube_proxy):
        daemons.await_ready(daemon, healthy[daemon.command.name], seconds=60)
    since = start.since if started["kubelet"] else node.LONG_AGO
    daemons.await_ready(kubelet, lambda: node.ready(start.api, since=since), seconds=60)


def _check_health(start: Start) -> None:
    """What a pod needs from its first second: names, the API behind its Service, and an account."""
    account = "/api/v1/namespaces/default/serviceaccounts/default"
    questions: tuple[tuple[str, Callable[[], bool]], ...] = (
        ("CoreDNS does not resolve names through its Service", lambda: dns.resolves(start.used)),
        ("the Service `kubernetes` leads nowhere", lambda: connects(start.used.api_service, 443)),
        ("there is no service account in the namespace default", lambda: start.api.get(account) is not None),
    )
    for problem, question in questions:
        if not wait_until(question, seconds=30):
            raise ClusterError(f"{problem}; the daemons' logs are in {paths.logs()}.")


PHASES: Final[tuple[tuple[str, Callable[[Start], None]], ...]] = (
    ("etcd, kube-apiserver, containerd", _start_foundations),
    ("controllers, kubelet, kube-proxy, CoreDNS", _start_node),
    ("names and Services answer", _check_health),
)


def down() -> None:
    """Leave nothing of it but images, tools and logs in the cache. The cluster's objects are gone with it."""
    if (user := paths.user_kubeconfig()) is not None:
        say(f"KUBECONFIG={user} is a cluster of yours: nothing was started in its place, and it is left as it is.")
        return
    if not _traces():
        others = network.foreign_cache()
        say(f"There is no local cluster{f' of this cache; there is one of {others}' if others else ''}.")
        return
    checks.require_root(checks.look())
    with locks.held(paths.cache() / "cluster.lock"), step("Taking the local cluster down"):
        with step("processes"):
            _stop_processes()
        with step("network, control groups, files"):
            mounts.remove_below(paths.cache())
            network.remove(network.addresses())
            cgroups.remove()
            enclosure.remove_mount_points()
            for entry in paths.cluster().iterdir():
                if entry.name not in KEPT:
                    shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


def _stop_processes() -> None:
    running = {daemon.command.name: daemon for daemon in daemons.recorded()}
    for name, daemon in running.items():
        if name not in ("containerd", "enclosure"):
            daemon.stop(grace=0)
    cgroups.kill(cgroups.PODS)
    if "containerd" in running and running["containerd"].running():
        containerd.remove_containers()  # with it their writable layers
        running["containerd"].stop(grace=5)
    enclosure.stop()
    cgroups.kill()


def clean() -> None:
    """Down, and all that is in the cache: tools, images, the registry. The next `up` builds for minutes."""
    down()
    with step(f"Removing what is ours in {paths.cache()}"):
        mounts.remove_below(paths.cache())
        if busy := mounts.below(paths.cache()):
            raise ClusterError(f"{busy[0]} is in use (images are being built?): try again when that has ended.")
        for name in paths.OWNED:
            place = paths.cache() / name
            if place.is_dir():
                shutil.rmtree(place)
            else:
                place.unlink(missing_ok=True)
        if paths.cache().is_dir() and not any(paths.cache().iterdir()):
            paths.cache().rmdir()


def _traces() -> bool:
    """Whether there may be anything to take down."""
    return paths.state().exists() or bool(cgroups.members()) or network.owner(paths.LINK_NAME) == network.mark()


def _ports_in_use() -> set[int]:
    """Ports of daemons of ours that run."""
    names = {daemon.command.name for daemon in daemons.recorded() if daemon.running()}
    return {port for name in names for port in paths.PORTS_OF.get(name, ())}


def _clear_logs() -> None:
    for entry in paths.logs().iterdir() if paths.logs().is_dir() else ():
        if entry.is_dir():
            shutil.rmtree(entry)
        elif entry.name != "registry.log":  # it may be running already
            entry.unlink()


def connects(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=1.0):
            return True
    except OSError:
        return False
