"""Secrets that a router needs may come after it and change under it: until then it says what it waits for, and lets nobody in.

The kubelet brings a Secret's change into a running pod about once a minute.
"""

import base64
import datetime
import hashlib
import json
import ssl
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from e2e import access
from e2e.kubectl import Json, Kubectl, condition, wait_for

MANIFEST = Path(__file__).with_name("manifest.yaml")
KUBELET_SECONDS = 180
KEY, OTHER = "sk-e2e-alice-0123456789abcdef", "sk-e2e-bob-0123456789abcdef"


@pytest.fixture(scope="module")
def router(kubectl: Kubectl) -> Iterator[Kubectl]:
    kubectl.apply_file(MANIFEST)
    yield kubectl
    kubectl("delete", "llmr/locked", "secret/locked-keys", "secret/locked-tls", "--ignore-not-found", "--wait=true")
    wait_for("its pods to go", lambda: not pods(kubectl), timeout=90)


def pods(kubectl: Kubectl) -> list[Json]:
    return kubectl.items("pods", "tokenfleet.dev/router=locked")


def ready(kubectl: Kubectl) -> Json:
    return condition(kubectl.get("llmr", "locked"), "RouterReady")


def secret(kubectl: Kubectl, name: str, **entries: str) -> None:
    data = {key: base64.b64encode(value.encode()).decode() for key, value in entries.items()}
    document = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "type": "Opaque", "data": data}
    kubectl("apply", "-f", "-", stdin=json.dumps(document))


def entry(key: str) -> str:
    return json.dumps({"sha256": hashlib.sha256(key.encode()).hexdigest(), "lastFour": key[-4:]})


def status(client: httpx.Client, key: str = "") -> int:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return client.get("/v1/models", headers=headers).status_code


def test_a_missing_secret_is_a_reason_and_not_a_pod_that_hangs(router: Kubectl) -> None:
    def started() -> list[Json]:
        return [pod for pod in pods(router) if pod["status"].get("phase") == "Running"]

    (pod,) = wait_for("the router to run", started, timeout=90)
    found = wait_for(
        "the reason", lambda: ready(router) if ready(router).get("reason") == "RouterStarting" else None, timeout=60
    )
    assert found["status"] == "False"
    assert "locked-keys (spec.auth.keysSecret)" in found["message"]
    log = wait_for("its own word", lambda: router("logs", pod["metadata"]["name"]), timeout=30)
    assert "there is no API key that can be used" in log


def test_it_is_taken_when_it_comes_and_when_it_changes_without_a_restart(router: Kubectl) -> None:
    uids = [pod["metadata"]["uid"] for pod in pods(router)]
    secret(router, "locked-keys", alice=entry(KEY))
    wait_for("the router to be ready", lambda: ready(router).get("status") == "True", timeout=KUBELET_SECONDS)
    with access.base_url(router, "locked") as url, httpx.Client(base_url=url, timeout=30, trust_env=False) as client:
        assert (status(client), status(client, "sk-wrong"), status(client, KEY)) == (401, 401, 200)
        secret(router, "locked-keys", bob=entry(OTHER))
        wait_for("the other key", lambda: status(client, OTHER) == 200, timeout=KUBELET_SECONDS)
        assert status(client, KEY) == 401
    found = pods(router)
    assert [pod["metadata"]["uid"] for pod in found] == uids
    assert [each["restartCount"] for pod in found for each in pod["status"]["containerStatuses"]] == [0]


def test_with_tls_it_speaks_nothing_else(router: Kubectl) -> None:
    certificate, key = self_signed("locked")
    secret(router, "locked-tls", **{"tls.crt": certificate, "tls.key": key})
    router("patch", "llmr/locked", "--type=merge", "-p", json.dumps({"spec": {"tls": {"secretName": "locked-tls"}}}))
    body = wait_for("port 443", lambda: _service(router, 443), timeout=60)
    assert [port["name"] for port in body["spec"]["ports"]] == ["https"]
    assert (router.get("llmr", "locked") or {})["status"]["url"] == "https://locked.tokenfleet-e2e.svc/v1"
    router("rollout", "status", "deployment/locked-router", "--timeout=120s")
    wait_for("the pod before to go", lambda: len(pods(router)) == 1, timeout=60)
    context = ssl.create_default_context(cadata=certificate)
    context.check_hostname = False
    with access.base_url(router, "locked") as url:
        address = url.removeprefix("http://")
        with httpx.Client(base_url=f"https://{address}", verify=context, timeout=30, trust_env=False) as client:
            wait_for("kube-proxy to forget that pod", lambda: _answers(client), timeout=60)
            assert (status(client), status(client, OTHER)) == (401, 200)
        with httpx.Client(base_url=url, timeout=30, trust_env=False) as client:
            assert status(client, OTHER) == 400, "whoever speaks plain HTTP is told so"


def _answers(client: httpx.Client) -> bool:
    try:
        return bool(status(client))
    except httpx.HTTPError:
        return False


def _service(kubectl: Kubectl, port: int) -> Json | None:
    body = kubectl.get("service", "locked") or {}
    return body if port in [each["port"] for each in (body.get("spec") or {}).get("ports") or ()] else None


def self_signed(host: str) -> tuple[str, str]:
    """Certificate and key, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - datetime.timedelta(hours=1)).not_valid_after(now + datetime.timedelta(days=1))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
    made = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True).sign(key, hashes.SHA256())
    plain = serialization.NoEncryption()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    return made.public_bytes(serialization.Encoding.PEM).decode(), pem.decode()
