"""What the cluster's own registry holds of an image, and what of it is worth keeping.

Every change of code makes a tag; its layers are small, but a change of dependencies leaves gigabytes behind. So the newest
few tags stay, and the rest is deleted together with what only they used. Only for the registry that `registry` runs: it
reads the storage beside the API, since the API does not tell how old a tag is.
"""

import subprocess
import tempfile
from pathlib import Path
from typing import Final

import httpx

from e2e.cluster import packages, paths, registry
from e2e.cluster.errors import ClusterError

KEPT: Final = 4
"""Tags of an image: enough for a few checkouts, and for going back and forth between commits."""
FOLDER: Final = "tokenfleet"
_TYPES: Final = "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"


def prefix() -> str:
    return f"{registry.address()}/{FOLDER}"


def has(name: str, tag: str) -> bool:
    return _ask("HEAD", f"{name}/manifests/{tag}").status_code == httpx.codes.OK


def forget_old(name: str) -> None:
    """Nobody may push meanwhile: layers that no image names yet would go too."""
    tags = _storage() / "repositories" / FOLDER / name / "_manifests" / "tags"
    newest_first = sorted(tags.iterdir(), key=lambda path: (path / "current" / "link").stat().st_mtime, reverse=True)
    for old in newest_first[KEPT:]:
        digest = _ask("HEAD", f"{name}/manifests/{old.name}").headers.get("docker-content-digest", "")
        if digest:
            _ask("DELETE", f"{name}/manifests/{digest}")
    if newest_first[KEPT:]:
        _collect_garbage()


def _ask(method: str, path: str) -> httpx.Response:
    address = f"http://{registry.address()}/v2/{FOLDER}/{path}"
    try:
        return httpx.request(method, address, headers={"accept": _TYPES}, trust_env=False, timeout=30)
    except httpx.HTTPError as error:
        raise ClusterError(f"the image registry at {registry.address()} does not answer ({error}).") from error


def _storage() -> Path:
    return paths.registry_storage() / "docker" / "registry" / "v2"


def _collect_garbage() -> None:
    """Delete the layers that no tag uses. What it cannot delete stays on the disk, and harms nobody."""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {paths.registry_storage()}}}}}\n")
        file.flush()
        command = [packages.program("docker-registry"), "garbage-collect", file.name]
        subprocess.run(command, capture_output=True, check=False)
