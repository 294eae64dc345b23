"""Kubeconfig files: who one is, and where the API server answers. Whole in themselves, so that they can be copied."""

import base64
from pathlib import Path

import yaml

from e2e.cluster import configuration
from e2e.cluster.certificates import Authority


def write(path: Path, *, server: str, authority: Authority, identity: str) -> Path:
    """Write the kubeconfig of one identity, readable by its owner alone."""
    pair = authority.pair(identity)
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "tokenfleet",
        "contexts": [{"name": "tokenfleet", "context": {"cluster": "tokenfleet", "user": identity}}],
        "clusters": [
            {
                "name": "tokenfleet",
                "cluster": {"server": server, "certificate-authority-data": _data(authority.certificate)},
            }
        ],
        "users": [
            {
                "name": identity,
                "user": {"client-certificate-data": _data(pair.certificate), "client-key-data": _data(pair.key)},
            }
        ],
    }
    return configuration.write(path, yaml.safe_dump(config, sort_keys=False), mode=0o600)


def _data(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
