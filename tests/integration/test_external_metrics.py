"""external.metrics.k8s.io behind a real API server: its front proxy, its RBAC, and its discovery.

A Service of the kind ExternalName leads the API server to this process, so that no proxy and no pod are needed.
"""

import asyncio
import base64
import contextlib
import datetime
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.config import load_kube_config

from e2e.cluster.control_plane import ControlPlane, free_ports
from tests.integration.operators import eventually
from tests.integration.raw_api import connected
from tokenfleet import contract
from tokenfleet.controller.actuators.gauges import LoadGauges
from tokenfleet.controller.actuators.metrics_server import MetricsServer
from tokenfleet.controller.cluster import Cluster
from tokenfleet.controller.observed import Json, Load
from tokenfleet.controller.reachability import Reachability
from tokenfleet.controller.store import Key

NAMESPACE, HOST = "metrics", "external.metrics.svc"
PATH = f"/apis/external.metrics.k8s.io/v1beta1/namespaces/{NAMESPACE}/tokenfleet_queue_depth"
LOADS: dict[Key, Load] = {(contract.KIND, NAMESPACE, "llama"): Load(complete=True, waiting=7)}
READER = {"Impersonate-User": "system:serviceaccount:kube-system:horizontal-pod-autoscaler"}


def certificate(directory: Path) -> bytes:
    """Signed by itself, in the files that a mounted Secret has; returns it."""
    begin = datetime.datetime(2025, 1, 1, tzinfo=datetime.UTC)
    key, who = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOST)])
    made = (
        x509.CertificateBuilder(who, who, key.public_key(), x509.random_serial_number(), begin, begin.replace(year=2125))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    chain = made.public_bytes(serialization.Encoding.PEM)
    directory.mkdir()
    (directory / "tls.crt").write_bytes(chain)
    plain = serialization.NoEncryption()
    (directory / "tls.key").write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain))
    return chain


def objects(port: int, authority: bytes) -> list[tuple[str, Json]]:
    service = {"name": "external", "namespace": NAMESPACE, "port": port}
    group = {"group": "external.metrics.k8s.io", "version": "v1beta1", "groupPriorityMinimum": 100, "versionPriority": 100}
    caller = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": READER["Impersonate-User"]}
    rule = {"apiGroups": ["external.metrics.k8s.io"], "resources": ["*"], "verbs": ["get", "list"]}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "read-metrics"}
    return [
        ("/api/v1/namespaces", {"metadata": {"name": NAMESPACE}}),
        (
            f"/api/v1/namespaces/{NAMESPACE}/services",
            {
                "metadata": {"name": "external"},
                "spec": {"type": "ExternalName", "externalName": "localhost", "ports": [{"port": port}]},
            },
        ),
        ("/apis/rbac.authorization.k8s.io/v1/clusterroles", {"metadata": {"name": "read-metrics"}, "rules": [rule]}),
        (
            "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
            {"metadata": {"name": "read-metrics"}, "roleRef": role, "subjects": [caller]},
        ),
        (
            "/apis/apiregistration.k8s.io/v1/apiservices",
            {
                "metadata": {"name": "v1beta1.external.metrics.k8s.io"},
                "spec": {**group, "service": service, "caBundle": base64.b64encode(authority).decode()},
            },
        ),
    ]


@contextlib.asynccontextmanager
async def serving(plane: ControlPlane, port: int, directory: Path) -> AsyncIterator[None]:
    configuration = Configuration()
    configuration.client_session_kwargs = {"trust_env": False}
    load: Any = load_kube_config
    await load(str(plane.kubeconfig), client_configuration=configuration)
    client: Any = ApiClient(configuration)
    api = Cluster(client, Reachability())
    server = asyncio.create_task(MetricsServer(LoadGauges(LOADS.get), api, directory=directory, port=port).keep())
    try:
        yield
    finally:
        server.cancel()
        await asyncio.gather(server, return_exceptions=True)
        await client.close()


async def test_a_horizontal_pod_autoscaler_reads_through_the_api_server(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    authority = certificate(tmp_path / "mounted")
    with ControlPlane.start(tmp_path / "plane", audit=False) as plane, connected(plane) as client:
        for path, body in objects(port, authority):
            client.post(path, json=body).raise_for_status()
        async with serving(plane, port, tmp_path / "mounted"):
            await asyncio.to_thread(_read, client)
            await asyncio.to_thread(_read_past_the_api_server, plane, port, tmp_path / "mounted" / "tls.crt")


def _read(client: httpx.Client) -> None:
    def ask(name: str, **headers: str) -> httpx.Response:
        return client.get(PATH, params={"labelSelector": f"deployment={name}"}, headers=headers)

    eventually("the API service to be available", lambda: ask("llama", **READER).status_code == 200)
    (item,) = ask("llama", **READER).json()["items"]
    assert (item["metricName"], item["value"]) == ("tokenfleet_queue_depth", "7")

    unknown = ask("nobody", **READER)
    assert (unknown.status_code, unknown.json()["reason"]) == (503, "ServiceUnavailable")

    assert ask("llama", **{"Impersonate-User": "eve"}).status_code == 403, "the API server itself does not pass it on"

    listed = client.get("/apis/external.metrics.k8s.io/v1beta1", headers={"Impersonate-User": "eve"}).json()["resources"]
    assert [each["name"] for each in listed] == ["tokenfleet_queue_depth", "tokenfleet_in_flight"]


def _read_past_the_api_server(plane: ControlPlane, port: int, authority: Path) -> None:
    """With the front proxy's certificate, but for a user who may not."""
    pair = plane.layout.authority.pair("front-proxy-client")
    context = ssl.create_default_context(cafile=authority)
    context.check_hostname = False
    context.load_cert_chain(pair.certificate, pair.key)
    with httpx.Client(base_url=f"https://localhost:{port}", verify=context, trust_env=False) as client:
        for user, status in (("eve", 403), (READER["Impersonate-User"], 200)):
            answer = client.get(PATH, params={"labelSelector": "deployment=llama"}, headers={"X-Remote-User": user})
            assert answer.status_code == status, answer.text
