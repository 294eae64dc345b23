"""The certificates of a cluster: one authority, and a key pair for each part that speaks for itself.

They are made once per directory and made anew when the names or addresses they are for have changed. Everything is
elliptic-curve, so that making all of them takes milliseconds. No key is readable by others, and none leaves the directory.
"""

import datetime
import hashlib
import ipaddress
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

VALIDITY: Final = datetime.timedelta(days=3650)
_SKEW: Final = datetime.timedelta(days=1)
_CLIENT: Final = (ExtendedKeyUsageOID.CLIENT_AUTH,)
_SERVER: Final = (ExtendedKeyUsageOID.SERVER_AUTH,)


@dataclass(frozen=True, slots=True)
class Pair:
    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom a certificate is for. With hosts it is a server's, without a client's."""

    name: str
    common_name: str
    groups: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    authority: str = "ca"


@dataclass(frozen=True, slots=True)
class Authority:
    """The directory of certificates, filled."""

    directory: Path

    @property
    def certificate(self) -> Path:
        return self.directory / "ca.crt"

    @property
    def front_proxy_certificate(self) -> Path:
        return self.directory / "front-proxy-ca.crt"

    @property
    def service_account_key(self) -> Path:
        return self.directory / "service-account.key"

    @property
    def service_account_public_key(self) -> Path:
        return self.directory / "service-account.pub"

    def pair(self, name: str) -> Pair:
        return Pair(self.directory / f"{name}.crt", self.directory / f"{name}.key")


def identities(*, node: str, addresses: Sequence[str]) -> tuple[Identity, ...]:
    """Everyone in the cluster; the servers answer to these addresses."""
    services = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local")
    local = ("localhost", "127.0.0.1")
    masters = ("system:masters",)
    return (
        Identity("etcd", "etcd", hosts=local),
        Identity("etcd-client", "kube-apiserver-etcd-client"),
        Identity("apiserver", "kube-apiserver", hosts=(*local, *services, *addresses)),
        Identity("apiserver-kubelet-client", "kube-apiserver-kubelet-client", groups=masters),
        Identity("front-proxy-client", "front-proxy-client", authority="front-proxy-ca"),
        Identity("admin", "admin", groups=masters),
        Identity("controller-manager", "system:kube-controller-manager"),
        Identity("scheduler", "system:kube-scheduler"),
        Identity("kube-proxy", "system:kube-proxy"),
        Identity("coredns", "system:coredns"),
        Identity("kubelet", f"system:node:{node}", groups=("system:nodes",)),
        Identity("kubelet-server", f"system:node:{node}", hosts=(node, *local, *addresses)),
    )


def ensure(directory: Path, *, node: str, addresses: Sequence[str]) -> Authority:
    """The certificates of this directory, made where they are missing or were made for other names."""
    wanted = identities(node=node, addresses=addresses)
    authority, stamp = Authority(directory), directory / "made-for"
    fingerprint = hashlib.sha256(json.dumps([repr(identity) for identity in wanted]).encode()).hexdigest()
    if stamp.is_file() and stamp.read_text() == fingerprint:
        return authority
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    signers = {name: _make_authority(directory, name) for name in ("ca", "front-proxy-ca")}
    for identity in wanted:
        _issue(directory, identity, signer=signers[identity.authority])
    key = ec.generate_private_key(ec.SECP256R1())
    _write_key(authority.service_account_key, key)
    public = key.public_key()
    authority.service_account_public_key.write_bytes(
        public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    stamp.write_text(fingerprint)  # last: a directory half filled is filled again
    return authority


_Signer = tuple[x509.Name, ec.EllipticCurvePrivateKey]


def _make_authority(directory: Path, name: str) -> _Signer:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"tokenfleet-{name}")])
    usage = x509.KeyUsage(
        digital_signature=True, key_cert_sign=True, crl_sign=True, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    builder = (
        _builder(subject, subject, key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    _write(directory, name, builder.sign(key, hashes.SHA256()), key)
    return subject, key


def _issue(directory: Path, identity: Identity, *, signer: _Signer) -> None:
    issuer, issuer_key = signer
    key = ec.generate_private_key(ec.SECP256R1())
    names = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in identity.groups]
    subject = x509.Name([*names, x509.NameAttribute(NameOID.COMMON_NAME, identity.common_name)])
    # etcd serves its gateway by calling itself with its server certificate, so a server may also be a client.
    purposes = (*_SERVER, *_CLIENT) if identity.hosts else _CLIENT
    builder = (
        _builder(subject, issuer, key)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
    if identity.hosts:
        names_and_addresses = [_general_name(host) for host in dict.fromkeys(identity.hosts)]
        builder = builder.add_extension(x509.SubjectAlternativeName(names_and_addresses), critical=False)
    _write(directory, identity.name, builder.sign(issuer_key, hashes.SHA256()), key)


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + VALIDITY)
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _write(directory: Path, name: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
    (directory / f"{name}.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    _write_key(directory / f"{name}.key", key)


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(
            key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )
