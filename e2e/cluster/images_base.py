"""The base that local images stand on: a minimal Debian with Python, made from packages instead of pulled.

Where no container registry can be reached, the shipped Dockerfiles still build: their BASE argument takes this. The recipe
is all that decides what is in it; how this machine reaches Debian (proxy, certificates, checks) is used while it is made
and taken out again.
"""

import hashlib
import shlex
import subprocess
from pathlib import Path
from typing import Final

from e2e.cluster.errors import ClusterError
from e2e.cluster.images_run import run
from e2e.cluster.progress import Step

SUITE: Final = "bookworm"
"""Its Python is the one that engine/constraints-cpu.txt was made with."""
PACKAGES: Final = ("ca-certificates", "libnuma1", "python3", "python3-pip", "python3-venv")
_PASSED_ON: Final = ("Acquire::http", "Acquire::https", "Acquire::Check-", "Acquire::Retries")
_HOOKS: Final = (
    'rm -f "$1"/etc/apt/apt.conf.d/99mmdebstrap "$1"/etc/hostname',
    ': > "$1"/etc/resolv.conf',
    'rm -f "$1"/etc/apt/sources.list.d/* && : > "$1"/etc/apt/sources.list',
)
"""Nothing of this machine stays in the image."""


def key(packages: tuple[str, ...] = PACKAGES) -> str:
    return hashlib.sha256(repr((SUITE, packages, _HOOKS)).encode()).hexdigest()[:12]


def make(archive: Path, *, mmdebstrap: str, current: Step, packages: tuple[str, ...] = PACKAGES) -> None:
    """Write the base's file system, or that of a Debian with other packages, as a tar archive."""
    command = [mmdebstrap, "--mode=root", "--variant=minbase", f"--include={','.join(packages)}"]
    command += [f"--aptopt={option}" for option in _apt_options()]
    command += [f"--customize-hook={hook}" for hook in _HOOKS]
    run([*command, SUITE, str(archive), *_mirror()], what="making the Debian base (mmdebstrap)", current=current)


def _apt_options() -> list[str]:
    """How this machine's apt reaches its mirrors, as options for the one that mmdebstrap runs."""
    lines = _ask_apt("apt-config", "dump", "Acquire").splitlines()
    return ['Acquire::Languages "none";', *(line for line in lines if line.startswith(_PASSED_ON) and '""' not in line)]


def _mirror() -> list[str]:
    """The machine's own Debian mirror where it has one for this suite: it is known to be reachable. Else mmdebstrap's."""
    for line in _ask_apt("apt-get", "indextargets", "--format", "$(REPO_URI) $(CODENAME)").splitlines():
        address, _, codename = line.partition(" ")
        if codename == SUITE:
            return [address]
    return []


def _ask_apt(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        command_line = shlex.join(command)
        raise ClusterError(
            f"{command_line} failed ({error}): images stand on a Debian base, made on Debian or Ubuntu."
        ) from error
