"""How the cluster is, for people and for scripts. Looks only; starts and changes nothing."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from e2e.cluster import daemons, external, instance, network, node, paths, registry, tools
from e2e.cluster.errors import ClusterError


@dataclass(frozen=True, slots=True)
class Process:
    name: str
    running: bool
    pid: int | None
    log: str


@dataclass(frozen=True, slots=True)
class Status:
    """`healthy` is what matters; `problem` says why not, and what to do."""

    kind: str
    healthy: bool
    problem: str
    kubeconfig: str
    server: str
    version: str
    registry: str | None = None
    audit_log: str | None = None
    node: dict[str, Any] | None = None
    pod_cidr: str | None = None
    service_cidr: str | None = None
    processes: list[Process] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def look() -> Status:
    user = paths.user_kubeconfig()
    return _own() if user is None else _users(user)


def lines(status: Status) -> list[str]:
    """The same for a person."""
    if status.kind == "user":
        return [f"healthy: your cluster at {status.server} ({status.version})" if status.healthy else status.problem]
    rows = [
        f"  {process.name:<26} {f'runs as process {process.pid}' if process.running else f'is down: see {process.log}'}"
        for process in status.processes
    ]
    if not status.healthy:
        return [status.problem, *rows]
    facts = [("kubeconfig", status.kubeconfig), ("registry", status.registry or ""), ("audit log", status.audit_log or "")]
    if status.node is not None:
        gpus = f", {status.node['gpus']} GPUs claimed" if status.node["gpus"] else ""
        facts.append(("node", f"{status.node['name']}, {status.node['runtime']}{gpus}"))
    head = f"healthy: Kubernetes {status.version} at {status.server}"
    return [head, *(f"  {name:<26} {value}" for name, value in facts), *rows]


def _users(kubeconfig: Path) -> Status:
    try:
        found = external.look(kubeconfig)
    except ClusterError as error:
        return Status("user", False, str(error), str(kubeconfig), "", "")
    return Status("user", True, "", str(kubeconfig), found.server, found.version)


def _own() -> Status:
    used = network.addresses()
    processes = [
        Process(daemon.command.name, daemon.running(), record.pid, str(daemon.log))
        for daemon in daemons.recorded()
        if (record := daemon.record()) is not None
    ]
    described, problem = None, _problem(processes)
    if not problem:
        try:
            with instance.administrator() as api:
                described = node.describe(api)
        except ClusterError as error:
            problem = f"not healthy: {error}"
        else:
            problem = "" if described["ready"] else "not healthy: the node is not ready; `up` puts it right."
    return Status(
        kind="local",
        healthy=not problem,
        problem=problem,
        kubeconfig=str(paths.own_kubeconfig()),
        server=f"https://127.0.0.1:{paths.APISERVER_PORT}",
        version=tools.KUBERNETES_VERSION,
        registry=registry.address(),
        audit_log=str(paths.audit_log()),
        node=described,
        pod_cidr=str(used.pods),
        service_cidr=str(used.services),
        processes=processes,
    )


def _problem(processes: list[Process]) -> str:
    known = {process.name for process in processes if process.running}
    if not known - {"registry"}:
        return "there is no local cluster; `up` starts one."
    missing = {*paths.PORTS_OF, "containerd", "enclosure"} - known
    return f"not healthy: {', '.join(sorted(missing))} not running; `up` starts what is missing." if missing else ""
