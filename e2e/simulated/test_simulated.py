"""Simulated engines stand in for real ones in a drill: the same pods, router, streams and goodbyes, in seconds."""

import json
import time
from collections.abc import Callable
from pathlib import Path

from e2e import access, streams
from e2e.deployed import Deployed
from e2e.kubectl import Kubectl

MANIFEST = Path(__file__).with_name("manifest.yaml")


async def test_replicas_come_and_go_under_streams(kubectl: Kubectl, deploy: Callable[[Path, str], Deployed]) -> None:
    simulated = deploy(MANIFEST, "simulated")
    simulated.wait_ready(3, timeout=90)
    assert kubectl("get", "pods", "-l", simulated.selector, "-o", "jsonpath={..persistentVolumeClaim}") == ""
    with access.base_url(kubectl, "simulated") as url:
        load = streams.Load(url=url, model="pretended", streams=12, tokens=200, pause=0.2)
        async with streams.running(load) as tally:
            await streams.until(lambda: tally.whole >= 12)
            await streams.in_thread(kubectl, "scale", "llmd", "simulated", "--replicas=1")
            await streams.in_thread(simulated.wait_ready, 1)
            await streams.in_thread(kubectl, "scale", "llmd", "simulated", "--replicas=4")
            await streams.in_thread(simulated.wait_ready, 4)
            whole = tally.whole
            await streams.until(lambda: tally.whole >= whole + 24)
        assert set(tally.outcomes) == {"whole"}, tally.problems


def test_a_drill_of_crashes_is_told_as_what_it_is(kubectl: Kubectl, deploy: Callable[[Path, str], Deployed]) -> None:
    simulated = deploy(MANIFEST, "simulated")
    change = {"spec": {"replicas": 1, "engine": {"extraArgs": ["--crash-after=2"]}}}
    kubectl("patch", "llmd", "simulated", "--type=merge", "-p", json.dumps(change))
    deadline = time.monotonic() + 90
    while not (failure := ((kubectl.get("llmd", "simulated") or {}).get("status") or {}).get("lastFailure")):
        assert time.monotonic() < deadline, "a crash was never told"
        time.sleep(0.5)
    assert failure["reason"] == "EngineCrashed"
    assert simulated.name in failure["pod"]
