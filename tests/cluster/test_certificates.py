"""Who is in the cluster, and what their certificates say."""

import ipaddress
import stat
import subprocess
from pathlib import Path

import pytest
import yaml
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from e2e.cluster import certificates, configuration, kubeconfigs
from e2e.cluster.certificates import Authority


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return certificates.ensure(tmp_path_factory.mktemp("pki"), node="one", addresses=("10.0.0.1", "10.9.0.1"))


def _load(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def test_the_api_server_answers_to_all_its_names(authority: Authority) -> None:
    certificate = _load(authority.pair("apiserver").certificate)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "kubernetes.default.svc" in names.get_values_for_type(x509.DNSName)
    addresses = set(names.get_values_for_type(x509.IPAddress))
    assert {ipaddress.ip_address(text) for text in ("127.0.0.1", "10.0.0.1", "10.9.0.1")} == addresses


def test_the_kubelet_is_the_node_that_the_node_authorizer_expects(authority: Authority) -> None:
    subject = _load(authority.pair("kubelet").certificate).subject
    assert subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == "system:node:one"
    assert subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)[0].value == "system:nodes"


def test_a_client_cannot_pass_as_a_server(authority: Authority) -> None:
    purposes = _load(authority.pair("admin").certificate).extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(purposes) == [ExtendedKeyUsageOID.CLIENT_AUTH]


def test_every_certificate_is_of_its_authority(authority: Authority) -> None:
    for identity in certificates.identities(node="one", addresses=()):
        issuer = _load(authority.directory / f"{identity.authority}.crt")
        _load(authority.pair(identity.name).certificate).verify_directly_issued_by(issuer)


def test_no_key_is_readable_by_others(authority: Authority) -> None:
    keys = list(authority.directory.glob("*.key"))
    assert len(keys) == len(certificates.identities(node="one", addresses=())) + 3, "two authorities, and service accounts"
    assert all(stat.S_IMODE(key.stat().st_mode) == 0o600 for key in keys)


def test_openssl_agrees(authority: Authority) -> None:
    command = ["openssl", "verify", "-purpose", "sslserver", "-CAfile", str(authority.certificate)]
    answer = subprocess.run(
        [*command, str(authority.pair("apiserver").certificate)], capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stderr


def test_certificates_are_made_once_and_anew_for_other_addresses(tmp_path: Path) -> None:
    first = certificates.ensure(tmp_path, node="one", addresses=("10.0.0.1",)).certificate.read_bytes()
    assert certificates.ensure(tmp_path, node="one", addresses=("10.0.0.1",)).certificate.read_bytes() == first
    assert certificates.ensure(tmp_path, node="one", addresses=("10.0.0.2",)).certificate.read_bytes() != first


def test_a_directory_that_was_left_half_filled_is_filled(tmp_path: Path) -> None:
    certificates.ensure(tmp_path, node="one", addresses=())
    (tmp_path / "made-for").unlink()
    (tmp_path / "admin.key").unlink()
    assert certificates.ensure(tmp_path, node="one", addresses=()).pair("admin").key.exists()


def test_a_kubeconfig_is_whole_in_itself_and_private(authority: Authority, tmp_path: Path) -> None:
    path = kubeconfigs.write(tmp_path / "k", server="https://127.0.0.1:1", authority=authority, identity="admin")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    config = yaml.safe_load(path.read_text())
    assert config["clusters"][0]["cluster"]["server"] == "https://127.0.0.1:1"
    assert set(config["users"][0]["user"]) == {"client-certificate-data", "client-key-data"}


def test_a_file_that_stays_the_same_is_not_touched(tmp_path: Path) -> None:
    path = configuration.write(tmp_path / "a" / "config", "one")
    first = path.stat().st_ino
    assert configuration.write(path, "one").stat().st_ino == first
    assert configuration.write(path, "two").stat().st_ino != first
    assert path.read_text() == "two"
