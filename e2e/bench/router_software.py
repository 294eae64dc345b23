"""The programs that the benchmark of routers compares: which versions, and how each gets onto this machine.

Those from PyPI, and the libraries of our own router, each live in an environment of their own in the cache, since no two of
them agree on what they need. Versions of others' dependencies are as pip finds them on the day, as a user's would be; ours are
those of constraints.txt. All run on the same interpreter. A program that cannot be had is told with its reason, and left out.
"""

import hashlib
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Final

from e2e.cluster import packages, paths
from e2e.cluster.errors import ClusterError
from e2e.cluster.progress import step

OURS: Final = "tokenfleet"
ROOT: Final = Path(__file__).parents[2]
_EXTRAS: Final = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
REQUIREMENTS: Final[Mapping[str, tuple[str, ...]]] = {
    OURS: (*_EXTRAS["router"], "-c", str(ROOT / "constraints.txt")),
    "vllm-router": ("vllm-router==0.1.17",),
    "sglang-router": ("sglang-router==0.3.2",),
    "fastapi-httpx": ("fastapi==0.165.0", "httpx==0.28.1", "uvicorn==0.54.0", "uvloop==0.23.0", "httptools==0.9.0"),
    "litellm": ("litellm[proxy]==1.106.2",),
    "guidellm": ("guidellm==0.8.1",),
}


class Unavailable(Exception):
    """This peer cannot be had here; the text says why, and what would help."""


def install(peer: str) -> None:
    """Make sure that a peer's program is there."""
    if peer == "haproxy":
        _install_haproxy()
    elif peer in REQUIREMENTS and not _ready(peer).is_file():
        _install_environment(peer)


def binary(peer: str, name: str) -> str:
    """A program of a peer's environment."""
    return str(_home(peer) / "bin" / name)


def version(peer: str) -> str:
    if peer == "haproxy":
        answer = subprocess.run([packages.program("haproxy"), "-v"], capture_output=True, text=True, check=True)
        return answer.stdout.split()[2]
    if peer in REQUIREMENTS and peer != OURS:
        return " ".join(requirement.partition("==")[2] for requirement in REQUIREMENTS[peer][:1])
    return metadata.version("tokenfleet")


@cache
def interpreter() -> str:
    """The system's Python, where it will do: distributions build theirs with all optimisations. Else the one of this run."""
    check = "import ensurepip, sys; sys.exit(sys.version_info < (3, 11))"
    fits = (
        Path("/usr/bin/python3").exists()
        and not subprocess.run(["/usr/bin/python3", "-c", check], capture_output=True, check=False).returncode
    )
    return "/usr/bin/python3" if fits else sys.executable


def _install_haproxy() -> None:
    try:
        packages.ensure("haproxy")
    except ClusterError as error:
        raise Unavailable(str(error)) from error


def _install_environment(peer: str) -> None:
    home, requirements = _home(peer), REQUIREMENTS[peer]
    with step(f"Installing {' '.join(requirements)}"):
        shutil.rmtree(home, ignore_errors=True)
        subprocess.run([interpreter(), "-m", "venv", home], check=True, capture_output=True)
        argv: list[str | Path] = [home / "bin" / "python", "-m", "pip", "install", "--quiet", *requirements]
        answer = subprocess.run(argv, capture_output=True, text=True, check=False)
        if answer.returncode != 0:
            shutil.rmtree(home)
            reason = (answer.stderr.strip().splitlines() or ["pip says nothing"])[-1]
            raise Unavailable(f"`pip install {' '.join(requirements)}` failed: {reason}")
    _ready(peer).touch()


def _home(peer: str) -> Path:
    inputs = " ".join((interpreter(), *REQUIREMENTS[peer]))
    if peer == OURS:
        inputs += (ROOT / "constraints.txt").read_text()
    return paths.bench() / f"{peer}-{hashlib.sha256(inputs.encode()).hexdigest()[:8]}"


def _ready(peer: str) -> Path:
    return _home(peer) / ".ready"
