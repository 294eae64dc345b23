"""etcd and kube-apiserver: how both are run, and the pair alone as integration tests need it.

    with ControlPlane.start(directory) as plane:
        ...  # plane.kubeconfig, plane.audit_log, plane.stop_apiserver(), plane.start_apiserver()

The pair alone has no controllers: nothing collects garbage, finishes the deletion of a namespace or makes service
accounts. It listens on free ports of 127.0.0.1, so any number may run beside each other and beside the cluster, needs no
root, and ends with the process that started it. The cluster runs the same commands as daemons.
"""

import shutil
import socket
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from e2e.cluster import certificates, configuration, kubeconfigs, paths, tools
from e2e.cluster.api import Api
from e2e.cluster.certificates import Authority
from e2e.cluster.errors import ClusterError
from e2e.cluster.processes import Child, Command, Leash, last_lines, wait_until

SERVICE_ISSUER: Final = "https://kubernetes.default.svc.cluster.local"
READY_SECONDS: Final = 60.0
_AUDIT_POLICY: Final = """\
# Who did what to which object, reads and writes alike; bodies are left out, and each request stands there once.
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules: [{level: Metadata}]
"""


@dataclass(frozen=True, slots=True)
class Layout:
    """Where one control plane keeps its files, and where it listens."""

    directory: Path
    authority: Authority
    etcd_port: int
    etcd_peer_port: int
    apiserver_port: int
    audit_log: Path | None
    bind_address: str = "127.0.0.1"
    advertise_address: str | None = None
    service_cidr: str = "10.0.0.0/16"

    @property
    def server(self) -> str:
        return f"https://127.0.0.1:{self.apiserver_port}"

    @property
    def audit_policy(self) -> Path:
        return self.directory / "audit-policy.yaml"


def etcd_command(layout: Layout) -> Command:
    pair, ca = layout.authority.pair("etcd"), layout.authority.certificate
    client = f"https://127.0.0.1:{layout.etcd_port}"
    peer = f"http://127.0.0.1:{layout.etcd_peer_port}"
    argv = (
        str(paths.tool("etcd")),
        "--name=tokenfleet",
        f"--data-dir={layout.directory / 'etcd'}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=tokenfleet={peer}",
        f"--cert-file={pair.certificate}",
        f"--key-file={pair.key}",
        f"--trusted-ca-file={ca}",
        "--client-cert-auth",
        "--unsafe-no-fsync",  # a killed process loses nothing by it, and a machine that lost power gets a new cluster
        "--auto-compaction-retention=10m",
        "--quota-backend-bytes=4294967296",
        "--log-level=warn",
    )
    return Command("etcd", argv)


def apiserver_command(layout: Layout) -> Command:
    """The API server; without an advertised address it runs alone, without the pods' service accounts and endpoints."""
    authority = layout.authority
    etcd, own, kubelet, proxy = (
        authority.pair(name) for name in ("etcd-client", "apiserver", "apiserver-kubelet-client", "front-proxy-client")
    )
    argv = [
        str(paths.tool("kube-apiserver")),
        f"--bind-address={layout.bind_address}",
        f"--secure-port={layout.apiserver_port}",
        f"--etcd-servers=https://127.0.0.1:{layout.etcd_port}",
        f"--etcd-cafile={authority.certificate}",
        f"--etcd-certfile={etcd.certificate}",
        f"--etcd-keyfile={etcd.key}",
        f"--client-ca-file={authority.certificate}",
        f"--tls-cert-file={own.certificate}",
        f"--tls-private-key-file={own.key}",
        f"--kubelet-certificate-authority={authority.certificate}",
        f"--kubelet-client-certificate={kubelet.certificate}",
        f"--kubelet-client-key={kubelet.key}",
        "--kubelet-preferred-address-types=InternalIP",  # the node's name stands in no DNS
        f"--proxy-client-cert-file={proxy.certificate}",
        f"--proxy-client-key-file={proxy.key}",
        f"--requestheader-client-ca-file={authority.front_proxy_certificate}",
        "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-username-headers=X-Remote-User",
        f"--service-account-issuer={SERVICE_ISSUER}",
        f"--service-account-key-file={authority.service_account_public_key}",
        f"--service-account-signing-key-file={authority.service_account_key}",
        f"--service-cluster-ip-range={layout.service_cidr}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
        "--profiling=false",
    ]
    if layout.advertise_address is None:
        argv += ["--endpoint-reconciler-type=none", "--disable-admission-plugins=ServiceAccount"]
    else:
        argv += [f"--advertise-address={layout.advertise_address}"]
    if layout.audit_log is not None:
        argv += [
            f"--audit-policy-file={layout.audit_policy}",
            f"--audit-log-path={layout.audit_log}",
            "--audit-log-maxsize=100",
            "--audit-log-maxbackup=2",
        ]
    return Command("kube-apiserver", tuple(argv), files=(layout.audit_policy,))


def prepare(layout: Layout) -> None:
    """The files that both commands read, but for the certificates."""
    layout.directory.mkdir(parents=True, exist_ok=True)
    (layout.directory / "etcd").mkdir(mode=0o700, exist_ok=True)
    if layout.audit_log is not None:
        layout.audit_log.parent.mkdir(parents=True, exist_ok=True)
        configuration.write(layout.audit_policy, _AUDIT_POLICY)


@dataclass(slots=True)
class ControlPlane:
    """A running etcd and kube-apiserver; `stop`, or the end of the `with`, leaves neither processes nor files."""

    layout: Layout
    kubeconfig: Path
    audit_log: Path
    """Empty, or missing, without `audit`."""
    leash: Leash
    _etcd: Child | None = None
    _apiserver: Child | None = None
    _made: tuple[Path, ...] = field(default=())

    @classmethod
    def start(cls, directory: Path, *, audit: bool = True) -> Self:
        """Build what is missing, start both, and return when the API answers. The directory is made where it is missing."""
        tools.ensure(*tools.CONTROL_PLANE)
        directory = directory.absolute()
        attempts = 3
        for attempt in range(attempts):
            plane = cls._prepared(directory, audit=audit)
            try:
                plane._start()
            except _PortTaken:
                plane.stop()
                if attempt == attempts - 1:
                    raise
            except BaseException:
                plane.leash.close()  # the logs stay where they are: the message names them
                raise
            else:
                return plane
        raise AssertionError("the last attempt either returns or raises")

    @classmethod
    def _prepared(cls, directory: Path, *, audit: bool) -> Self:
        made = () if directory.exists() else (directory,)
        authority = certificates.ensure(directory / "certificates", node=paths.NODE_NAME, addresses=())
        etcd_port, etcd_peer_port, apiserver_port = free_ports(3)
        audit_log = directory / "audit.log"
        layout = Layout(directory, authority, etcd_port, etcd_peer_port, apiserver_port, audit_log=audit_log if audit else None)
        prepare(layout)
        kubeconfig = kubeconfigs.write(directory / "kubeconfig", server=layout.server, authority=authority, identity="admin")
        return cls(layout, kubeconfig, audit_log, Leash(), _made=made)

    def _start(self) -> None:
        self._etcd = self.leash.start(etcd_command(self.layout), self.layout.directory / "etcd.log")
        self.start_apiserver()

    def start_apiserver(self) -> None:
        """Start the API server, on the port it had before, and return when it is ready."""
        assert self._etcd is not None
        if self._apiserver is not None and self._apiserver.running():
            return
        log = self.layout.directory / "kube-apiserver.log"
        self._apiserver = self.leash.start(apiserver_command(self.layout), log)
        _await_ready(self.layout, self._etcd, self._apiserver)

    def stop_apiserver(self) -> None:
        """Take the API away at once, as a crash does: open watches break, new connections are refused."""
        if self._apiserver is not None and self._apiserver.running():
            self._apiserver.kill()

    def stop(self) -> None:
        for child in (self._apiserver, self._etcd):
            if child is not None and child.running():
                child.kill()
        self.leash.close()
        for name in ("etcd", "certificates"):
            shutil.rmtree(self.layout.directory / name, ignore_errors=True)
        for directory in self._made:
            shutil.rmtree(directory, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()


class _PortTaken(ClusterError):
    """Another program took a port between our choosing it and listening on it."""


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 on which nobody listens now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def _await_ready(layout: Layout, *children: Child) -> None:
    with Api(layout.server, layout.authority) as api:
        wait_until(lambda: api.ready() or not all(child.running() for child in children), seconds=READY_SECONDS)
        for child in children:
            if not child.running():
                raise _failure(child)
        if not api.ready():
            raise ClusterError(
                f"the API server was not ready after {READY_SECONDS:.0f} s; its last lines ({children[-1].log}):\n"
                f"{last_lines(children[-1].log)}"
            )


def _failure(child: Child) -> ClusterError:
    lines = last_lines(child.log)
    kind = _PortTaken if "address already in use" in lines else ClusterError
    return kind(f"{child.command.name} ended with {child.process.returncode}; its last lines ({child.log}):\n{lines}")
