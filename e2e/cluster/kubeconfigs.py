"""Kubeconfig files: who one is, and where the API server answers. Whole in themselves, so that they can be copied."""

import base64
import os
from pathlib import Path

import yaml

from e2e.cluster.certificates import Authority


def write(path: Path, *, server: str, authority: Authority, identity: str) -> Path:
    """Write the kubeconfig of one identity, readable by its owner alone; in place at once, never half."""
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
    content = yaml.safe_dump(config, sort_keys=False)
    if path.is_file() and path.read_text() == content:
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.new")
    scratch.unlink(missing_ok=True)
    with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(content)
    scratch.rename(path)
    return path


def _data(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
