"""The tests' API server over plain HTTP, as its administrator, with no client library between it and a test."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from e2e.cluster.control_plane import ControlPlane


@contextmanager
def connected(control_plane: ControlPlane) -> Iterator[httpx.Client]:
    authority = control_plane.layout.authority
    context = ssl.create_default_context(cafile=authority.certificate)
    pair = authority.pair("admin")
    context.load_cert_chain(pair.certificate, pair.key)
    with httpx.Client(base_url=control_plane.layout.server, verify=context, trust_env=False, timeout=10.0) as client:
        yield client
