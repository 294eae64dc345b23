"""CoreDNS, as a process of this machine behind the Service kube-dns.

It needs no image and no scheduling, so names resolve from the first second, and they go on resolving while pods come and
go. It listens on the node's address alone.
"""

import secrets
import socket
import struct
from pathlib import Path
from typing import Any, Final

from e2e.cluster import configuration, daemons, kubeconfigs, network, paths
from e2e.cluster.api import Api
from e2e.cluster.control_plane import Layout
from e2e.cluster.processes import Command, Daemon

_LABELS: Final = {"k8s-app": "kube-dns", "app.kubernetes.io/managed-by": "tokenfleet"}


def daemon(layout: Layout, used: network.Addresses) -> Daemon:
    directory = paths.cluster() / "config"
    kubeconfig = kubeconfigs.write(
        directory / "coredns.kubeconfig", server=layout.server, authority=layout.authority, identity="coredns"
    )
    resolver = Path("/etc/resolv.conf")
    outside = resolver.is_file() and "nameserver" in resolver.read_text()
    config = directory / "Corefile"
    configuration.write(config, corefile(used, kubeconfig=kubeconfig, outside=resolver if outside else None))
    argv = (str(paths.tool("coredns")), f"-conf={config}")
    return daemons.own(Command("coredns", argv, files=(config, kubeconfig)))


def corefile(used: network.Addresses, *, kubeconfig: Path, outside: Path | None) -> str:
    forward = f"  forward . {outside}\n" if outside else ""
    return f"""\
.:{paths.DNS_PORT} {{
  bind {used.node}
  errors
  health 127.0.0.1:{paths.DNS_HEALTH_PORT}
  kubernetes cluster.local in-addr.arpa ip6.arpa {{
    kubeconfig {kubeconfig}
    fallthrough in-addr.arpa ip6.arpa
  }}
{forward}  cache {{
    success 4096 5
    denial 1024 5
  }}
}}
"""


def manifests(used: network.Addresses) -> dict[str, dict[str, Any]]:
    """What has to be in the API for it, by path: the right to read, the Service, and where the Service leads."""
    name, namespace = "kube-dns", "kube-system"
    rules = [
        {"apiGroups": [""], "resources": ["services", "pods", "namespaces"], "verbs": ["list", "watch"]},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
    ]
    ports = (("dns", "UDP"), ("dns-tcp", "TCP"))
    services, slices = f"/api/v1/namespaces/{namespace}/services", f"/apis/discovery.k8s.io/v1/namespaces/{namespace}"
    rbac, role = "rbac.authorization.k8s.io", "system:coredns"
    service_ports = [{"name": port, "port": 53, "protocol": protocol, "targetPort": paths.DNS_PORT} for port, protocol in ports]
    return {
        f"/apis/{rbac}/v1/clusterroles/{role}": {
            "apiVersion": f"{rbac}/v1",
            "kind": "ClusterRole",
            "metadata": {"name": role, "labels": _LABELS},
            "rules": rules,
        },
        f"/apis/{rbac}/v1/clusterrolebindings/{role}": {
            "apiVersion": f"{rbac}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": role, "labels": _LABELS},
            "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": role},
            "subjects": [{"apiGroup": rbac, "kind": "User", "name": "system:coredns"}],
        },
        f"{services}/{name}": {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "namespace": namespace, "labels": _LABELS},
            "spec": {"clusterIP": used.dns_service, "ports": service_ports},
        },
        f"{slices}/endpointslices/{name}-node": {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": f"{name}-node",
                "namespace": namespace,
                "labels": {
                    **_LABELS,
                    "kubernetes.io/service-name": name,
                    "endpointslice.kubernetes.io/managed-by": "tokenfleet",
                },
            },
            "addressType": "IPv4",
            "endpoints": [{"addresses": [used.node], "conditions": {"ready": True}}],
            "ports": [{"name": port, "protocol": protocol, "port": paths.DNS_PORT} for port, protocol in ports],
        },
    }


def apply(api: Api, used: network.Addresses) -> None:
    for path, manifest in manifests(used).items():
        api.apply(path, manifest)


def resolves(used: network.Addresses) -> bool:
    """Ask the Service for the API server's own name: true when CoreDNS answers rightly, through kube-proxy's rules."""
    answer = resolve("kubernetes.default.svc.cluster.local", server=used.dns_service)
    return answer == used.api_service


def resolve(name: str, *, server: str, port: int = 53, timeout: float = 1.0) -> str | None:
    """The first IPv4 address that the server gives for the name, or None."""
    number = secrets.randbits(16)
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    query = struct.pack(">6H", number, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">2H", 1, 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as wire:
        wire.settimeout(timeout)
        try:
            wire.connect((server, port))
            wire.send(query)
            answer = wire.recv(4096)
        except OSError:
            return None
    answered, _, _, count = struct.unpack_from(">4H", answer)
    if answered != number or count == 0:
        return None
    return socket.inet_ntoa(answer[-4:]) if count == 1 else None
