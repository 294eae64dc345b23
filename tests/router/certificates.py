"""Certificates for tests, made on the spot: pairs signed by themselves, in the files that a mounted Secret has."""

import datetime
import ipaddress
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_BEGIN = datetime.datetime(2025, 1, 1, tzinfo=datetime.UTC)
_END = datetime.datetime(2125, 1, 1, tzinfo=datetime.UTC)


class Pair:
    """A certificate and its key, as PEM."""

    def __init__(self, name: str) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        who = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        made = (
            x509.CertificateBuilder(who, who, key.public_key(), x509.random_serial_number(), _BEGIN, _END)
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
        )
        self.chain = made.public_bytes(serialization.Encoding.PEM)
        self.key = self._pem(key, serialization.NoEncryption())
        self.locked = self._pem(key, serialization.BestAvailableEncryption(b"passphrase"))

    @staticmethod
    def _pem(key: ec.EllipticCurvePrivateKey, encryption: serialization.KeySerializationEncryption) -> bytes:
        return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)

    def mount(self, directory: Path) -> None:
        """Put it where a router looks."""
        write(directory, chain=self.chain, key=self.key)

    def client(self) -> ssl.SSLContext:
        """Of a client that trusts this certificate alone."""
        return ssl.create_default_context(cadata=self.chain.decode())


def write(directory: Path, *, chain: bytes, key: bytes) -> None:
    """As the kubelet does it: a new directory, and a link that changes over to it."""
    fresh = directory / f"..{len(list(directory.iterdir()))}"
    fresh.mkdir()
    (fresh / "tls.crt").write_bytes(chain)
    (fresh / "tls.key").write_bytes(key)
    link = directory / "..new"
    link.symlink_to(fresh.name)
    link.rename(directory / "..data")
    for name in ("tls.crt", "tls.key"):
        if not (directory / name).is_symlink():
            (directory / name).symlink_to(f"..data/{name}")
