"""The one cluster of this cache: how its control plane is laid out, and its API as the administrator sees it."""

from e2e.cluster import certificates, kubeconfigs, network, paths
from e2e.cluster.api import Api
from e2e.cluster.certificates import Authority
from e2e.cluster.control_plane import Layout


def layout(used: network.Addresses) -> Layout:
    """Makes the certificates and the administrator's kubeconfig where they are missing."""
    authority = certificates.ensure(paths.certificates(), node=paths.NODE_NAME, addresses=(used.node, used.api_service))
    made = Layout(
        directory=paths.cluster(),
        authority=authority,
        etcd_port=paths.ETCD_PORT,
        etcd_peer_port=paths.ETCD_PEER_PORT,
        apiserver_port=paths.APISERVER_PORT,
        audit_log=paths.audit_log(),
        bind_address="0.0.0.0",  # 127.0.0.1 for us, the node's address for pods; the network's rules keep others out
        advertise_address=used.node,
        service_cidr=str(used.services),
    )
    kubeconfigs.write(paths.own_kubeconfig(), server=made.server, authority=authority, identity="admin")
    return made


def administrator() -> Api:
    """The running cluster's API; makes nothing."""
    return Api(f"https://127.0.0.1:{paths.APISERVER_PORT}", Authority(paths.certificates()))


def fresh() -> bool:
    """Whether there are no objects yet that anybody could have made."""
    return not (paths.cluster() / "etcd" / "member").exists()
