"""`kubectl scale llmd`, up and down, under load: the new replica gets its share, the one that goes ends its streams."""

from collections.abc import Callable
from pathlib import Path

import httpx

from e2e import access, streams
from e2e.deployed import Deployed
from e2e.kubectl import Kubectl

MANIFEST = Path(__file__).with_name("manifest.yaml")


async def test_scaling_by_kubectl_keeps_every_stream(kubectl: Kubectl, deploy: Callable[[Path, str], Deployed]) -> None:
    scale = deploy(MANIFEST, "scale")
    scale.wait_ready(1)

    with access.base_url(kubectl, "scale") as url:
        load = streams.Load(url=url, model="tiny", streams=3, tokens=300, pause=1.0)
        async with streams.running(load) as tally:
            await streams.until(lambda: tally.whole >= 4)
            await streams.in_thread(kubectl, "scale", "llmd/scale", "--replicas=2")
            await streams.in_thread(scale.wait_ready, 2)
            up = tally.whole
            await streams.until(lambda: tally.whole >= up + 8)
            await streams.in_thread(kubectl, "scale", "llmd/scale", "--replicas=1")
            await streams.in_thread(scale.wait_ready, 1)
            down = tally.whole
            await streams.until(lambda: tally.whole >= down + 4)
    assert tally.outcomes == {"whole": tally.whole}, tally.problems


async def test_scaled_to_zero_is_said_and_the_model_stays_listed(
    kubectl: Kubectl, deploy: Callable[[Path, str], Deployed]
) -> None:
    scale = deploy(MANIFEST, "scale")
    kubectl("scale", "llmd/scale", "--replicas=0")
    scale.wait_reason("EngineReady", "ScaledToZero")
    scale.wait_reason("RouterReady", "AsExpected")

    with access.base_url(kubectl, "scale") as url, httpx.Client(base_url=url, timeout=30, trust_env=False) as client:
        assert [entry["id"] for entry in client.get("/v1/models").json()["data"]] == ["tiny"]
        refused = client.post("/v1/completions", json={"model": "tiny", "prompt": "x"})
        assert refused.status_code == 503
        assert int(refused.headers["retry-after"]) > 0
