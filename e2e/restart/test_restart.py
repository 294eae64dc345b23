"""`tokenfleet restart`, `suspend` and `resume` under load: nothing is deleted, and no stream is cut."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from e2e import access, streams
from e2e.cluster import paths
from e2e.deployed import Deployed
from e2e.kubectl import Kubectl, wait_for

MANIFEST = Path(__file__).with_name("manifest.yaml")


def tokenfleet(kubectl: Kubectl, *words: str) -> str:
    """What it printed."""
    command = [sys.executable, "-c", "from tokenfleet.cli.main import app; app()", *words, "-n", kubectl.namespace]
    where = ["--kubeconfig", str(paths.kubeconfig())]
    done = subprocess.run([*command, *where], capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def names(deployed: Deployed) -> set[str]:
    return {pod["metadata"]["name"] for pod in deployed.engines() if "deletionTimestamp" not in pod["metadata"]}


async def test_a_restart_replaces_every_engine_and_cuts_no_stream(
    kubectl: Kubectl, deploy: Callable[[Path, str], Deployed]
) -> None:
    restart = deploy(MANIFEST, "restart")
    restart.wait_ready(2, timeout=90)
    old = names(restart)
    with access.base_url(kubectl, "restart") as url:
        load = streams.Load(url=url, model="pretended", streams=12, tokens=200, pause=0.2)
        async with streams.running(load) as tally:
            await streams.until(lambda: tally.whole >= 12)
            await streams.in_thread(tokenfleet, kubectl, "restart", "restart")
            assert not names(restart) & old
            whole = tally.whole
            await streams.until(lambda: tally.whole >= whole + 12)
        assert set(tally.outcomes) == {"whole"}, tally.problems


async def test_what_is_suspended_ends_what_it_has_and_comes_back(
    kubectl: Kubectl, deploy: Callable[[Path, str], Deployed]
) -> None:
    restart = deploy(MANIFEST, "restart")
    restart.wait_ready(2, timeout=90)
    with access.base_url(kubectl, "restart") as url:
        load = streams.Load(url=url, model="pretended", streams=6, tokens=200, pause=0.2)
        async with streams.running(load) as tally:
            await streams.until(lambda: tally.whole >= 6)
            await streams.in_thread(tokenfleet, kubectl, "suspend", "restart")
            await streams.in_thread(wait_gone, restart)
            assert kubectl.get("service", "restart") is not None, "all else is kept"
            await streams.in_thread(tokenfleet, kubectl, "resume", "restart")
            await streams.in_thread(restart.wait_ready, 2)
            whole = tally.whole
            await streams.until(lambda: tally.whole >= whole + 6)
        assert set(tally.outcomes) == {"whole"}, "requests that came meanwhile waited"


def wait_gone(deployed: Deployed) -> None:
    wait_for("its engines to go", lambda: not names(deployed), timeout=60)
