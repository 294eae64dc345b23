"""A good change is promoted, a bad one is rolled back: under load, and at nobody's cost but that of the canary's share."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from e2e import access, streams
from e2e.cluster import paths
from e2e.deployed import Deployed
from e2e.kubectl import Kubectl, wait_for

MANIFEST = Path(__file__).with_name("manifest.yaml")
SHARE = 0.2
"""Of the first step."""


class Canary:
    """The story's LLMDeployment, and what becomes of a change of it."""

    def __init__(self, kubectl: Kubectl, deployed: Deployed) -> None:
        self.kubectl, self.deployed, self.name = kubectl, deployed, deployed.name

    def change(self, **engine: Any) -> None:
        self.kubectl("patch", "llmd", self.name, "--type=merge", "-p", json.dumps({"spec": {"engine": engine}}))

    def rollout(self) -> dict[str, Any]:
        """status.rollout; {} for none."""
        return dict(((self.kubectl.get("llmd", self.name) or {}).get("status") or {}).get("rollout") or {})

    def wait(self, what: str, holds: Callable[[dict[str, Any]], bool], *, timeout: float = 90) -> dict[str, Any]:
        return wait_for(what, lambda: {"rollout": found} if holds(found := self.rollout()) else None, timeout=timeout)[
            "rollout"
        ]

    def pods(self, *, canary: bool = False) -> dict[str, list[str]]:
        """The engine pods that are not going, with their arguments."""
        found = {}
        for pod in self.deployed.engines():
            metadata = pod["metadata"]
            if "deletionTimestamp" not in metadata and (metadata["labels"].get("tokenfleet.dev/track") == "canary") == canary:
                found[metadata["name"]] = pod["spec"]["containers"][0]["args"]
        return found

    def events(self) -> list[str]:
        """Reasons, the oldest first; of this very LLMDeployment, as the cluster remembers those of former runs."""
        uid = (self.kubectl.get("llmd", self.name) or {})["metadata"]["uid"]
        body = json.loads(self.kubectl("get", "events", "--field-selector", f"involvedObject.uid={uid}", "-o", "json"))
        found = sorted(body["items"], key=lambda event: int(event["metadata"]["resourceVersion"]))
        return [event["reason"] for event in found if event["reason"].startswith("Canary")]

    def status(self) -> dict[str, Any]:
        """As the command line tells it."""
        command = [sys.executable, "-c", "from tokenfleet.cli.main import app; app()", "rollout", "status", self.name, "--json"]
        where = ["-n", self.kubectl.namespace, "--kubeconfig", str(paths.kubeconfig())]
        told: dict[str, Any] = json.loads(
            subprocess.run([*command, *where], capture_output=True, check=True, timeout=60).stdout
        )
        return told


async def test_a_good_change_is_promoted_and_a_bad_one_rolled_back(
    kubectl: Kubectl, deploy: Callable[[Path, str], Deployed]
) -> None:
    canary = Canary(kubectl, deploy(MANIFEST, "canary"))
    canary.deployed.wait_ready(2, timeout=90)
    with access.base_url(kubectl, "canary") as url:
        load = streams.Load(url=url, model="pretended", streams=12, tokens=40, pause=0.1)
        async with streams.running(load) as tally:
            await streams.until(lambda: tally.whole >= 24)
            await streams.in_thread(promoted, canary)
            assert set(tally.outcomes) == {"whole"}, tally.problems
            before = sum(tally.outcomes.values())
            await streams.in_thread(rolled_back, canary)
            ended, failed = sum(tally.outcomes.values()) - before, tally.outcomes["announced"]
            await streams.until(lambda: sum(tally.outcomes.values()) >= before + ended + 60)
        assert set(tally.outcomes) == {"whole", "announced"}, tally.problems
        assert 0 < failed <= SHARE * 1.5 * ended, "at the cost of its share alone, as far as chance allows"
        assert tally.outcomes["announced"] <= failed + load.streams, "and of nobody once it was rolled back"
    print(f"canary: {failed} of {ended} requests failed from the bad change to its rollback")


def promoted(canary: Canary) -> None:
    """A change for the better goes through its steps to all engines, and has one pod of its own until then."""
    old = canary.pods()
    canary.change(maxModelLen=4000)
    canary.wait("the first step", lambda rollout: rollout.get("step") == 1)
    assert canary.pods().keys() == old.keys(), "the engines stay as they are, and nobody takes the canary's pod for one of them"
    (arguments,) = canary.pods(canary=True).values()
    assert "4000" in arguments
    canary.wait("the second step", lambda rollout: rollout.get("step") == 2)
    canary.wait("its end", lambda rollout: not rollout)
    canary.deployed.wait_ready(2, timeout=90)
    assert not canary.pods().keys() & old.keys()
    assert all("4000" in arguments for arguments in canary.pods().values())
    wait_for("the canary's pod to go", lambda: not canary.pods(canary=True), timeout=30)
    assert canary.events() == ["CanaryStarted", "CanaryStep", "CanaryStep", "CanaryPromoting", "CanaryPromoted"]


def rolled_back(canary: Canary) -> None:
    """A change for the worse is found out at its first step, and never reaches another pod."""
    old = canary.pods()
    canary.change(extraArgs=["--fail-rate=0.5"])
    canary.wait("the first step", lambda rollout: rollout.get("step") == 1)
    began = time.monotonic()
    rollout = canary.wait("the rollback", lambda rollout: rollout.get("phase") == "RolledBack")
    print(f"canary: rolled back {time.monotonic() - began:.1f} s after its first request: {rollout['message']}")
    assert (rollout["weight"], rollout["step"]) == (0, 1)
    ready = canary.deployed.wait_reason("Ready", "CanaryRolledBack")
    assert ready["status"] == "True"
    wait_for("the canary's pod to go", lambda: not canary.pods(canary=True), timeout=30)
    assert canary.pods() == old
    told = canary.status()
    assert (told["phase"], told["errorRate"] > 0.02) == ("RolledBack", True)
    assert canary.events()[-1] == "CanaryRolledBack"
