"""The end of a pod without a goodbye: SIGKILL, and the kernel's own when memory runs out. On the local cluster alone.

Its processes are found by their control groups, which carry the pod's uid.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from e2e.cluster import paths
from e2e.kubectl import Json, Kubectl

_MEMORY = Path("/sys/fs/cgroup/memory")
_EATER = """
import pathlib, sys
pathlib.Path(sys.argv[1]).write_text("0")
held = []
while True:
    held.append(bytearray(4 << 20))
"""


def processes(pod: Json) -> Iterator[Path]:
    """/proc/PID of all that runs in a pod's containers."""
    uid = pod["metadata"]["uid"]
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            groups = (directory / "cgroup").read_text().replace("_", "-")
            words = (directory / "cmdline").read_bytes()
        except OSError:
            continue
        if uid in groups and words and b"/pause" not in words:
            yield directory


def kill(kubectl: Kubectl, pod: Json) -> None:
    """SIGKILL to all of a pod's processes; on a cluster whose processes are not here, the nearest thing to it."""
    name = pod["metadata"]["name"]
    if paths.user_kubeconfig() is not None:
        kubectl("delete", "pod", name, "--grace-period=0", "--force")
        return
    found = list(processes(pod))
    assert found, f"no process of {name} was found"
    for directory in found:
        with suppress(ProcessLookupError):  # A process whose parent has just been killed may be gone with it.
            os.kill(int(directory.name), signal.SIGKILL)


def starve(pod: Json) -> None:
    """Have the kernel kill a pod's processes for memory: one of ours in their control group takes all that there is.

    A container's processes have a higher score than ours, so the kernel begins with them; ours ends right after.
    """
    first = next(processes(pod))
    group = next(line.split(":", 2)[2] for line in (first / "cgroup").read_text().splitlines() if ":memory:" in line)
    eater = [sys.executable, "-c", _EATER, str(_MEMORY / group.lstrip("/") / "cgroup.procs")]
    with subprocess.Popen(eater, stderr=subprocess.DEVNULL) as process:
        try:
            while first.exists() and process.poll() is None:
                time.sleep(0.05)
        finally:
            process.kill()
