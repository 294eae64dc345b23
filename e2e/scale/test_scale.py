"""`kubectl scale llmd` on real engines, up and down, and the death of one: every stream goes on to its end, token for token."""

from collections.abc import Callable
from pathlib import Path

import httpx

from e2e import access, kills, streams
from e2e.deployed import Deployed
from e2e.kubectl import Kubectl, wait_for

MANIFEST = Path(__file__).with_name("manifest.yaml")


async def test_scaling_by_kubectl_and_a_kill_keep_every_stream(
    kubectl: Kubectl, deploy: Callable[[Path, str], Deployed]
) -> None:
    scale = deploy(MANIFEST, "scale")
    scale.wait_ready(1)

    with access.base_url(kubectl, "scale") as url:
        load = await streams.learn(streams.Load(url=url, model="tiny", streams=3, tokens=300, pause=1.0))
        async with streams.running(load) as tally:
            await streams.until(lambda: tally.whole >= 4)
            await streams.in_thread(kubectl, "scale", "llmd/scale", "--replicas=2")
            await streams.in_thread(scale.wait_ready, 2)
            up = tally.whole
            await streams.until(lambda: tally.whole >= up + 8)
            await streams.until(lambda: tally.running == 3)  # of which each engine has one or two
            await streams.in_thread(kills.kill, kubectl, scale.engines()[0])
            await streams.in_thread(lambda: wait_for("its end to be noticed", lambda: _ready(scale) < 2, timeout=30))
            await streams.in_thread(scale.wait_ready, 2)
            await streams.in_thread(kubectl, "scale", "llmd/scale", "--replicas=1")
            await streams.in_thread(scale.wait_ready, 1)
            down = tally.whole
            await streams.until(lambda: tally.whole >= down + 4)
    assert tally.outcomes == {"whole": tally.whole}, tally.problems

    await streams.in_thread(_scaled_to_zero, kubectl, scale)


def _ready(scale: Deployed) -> int:
    return int((scale.kubectl.get("llmd", scale.name) or {})["status"]["readyReplicas"])


def _scaled_to_zero(kubectl: Kubectl, scale: Deployed) -> None:
    """It is said, and the model stays listed."""
    kubectl("scale", "llmd/scale", "--replicas=0")
    scale.wait_reason("EngineReady", "ScaledToZero")
    scale.wait_reason("RouterReady", "AsExpected")
    with access.base_url(kubectl, "scale") as url, httpx.Client(base_url=url, timeout=30, trust_env=False) as client:
        assert [entry["id"] for entry in client.get("/v1/models").json()["data"]] == ["tiny"]
        refused = client.post("/v1/completions", json={"model": "tiny", "prompt": "x"})
        assert refused.status_code == 503
        assert int(refused.headers["retry-after"]) > 0
