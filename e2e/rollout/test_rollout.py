"""A rolling update under load: every stream that was begun ends whole."""

from collections.abc import Callable
from pathlib import Path

from e2e import access, streams
from e2e.deployed import Deployed
from e2e.kubectl import Kubectl

MANIFEST = Path(__file__).with_name("manifest.yaml")
PATCH = '{"spec": {"engine": {"maxModelLen": 480}}}'


async def test_a_rolling_update_loses_and_truncates_no_stream(
    kubectl: Kubectl, deploy: Callable[[Path, str], Deployed]
) -> None:
    rollout = deploy(MANIFEST, "rollout")
    rollout.wait_ready(1)
    before = {pod["metadata"]["name"] for pod in rollout.engines()}

    with access.base_url(kubectl, "rollout") as url:
        load = streams.Load(url=url, model="rollout", streams=3, tokens=300, pause=1.0)
        async with streams.running(load) as tally:
            await streams.until(lambda: tally.whole >= 4)
            begun_before = tally.whole
            await streams.in_thread(kubectl, "patch", "llmd", "rollout", "--type=merge", "-p", PATCH)
            await streams.in_thread(rollout.wait_ready, 1)
            await streams.until(lambda: tally.whole >= begun_before + 8)

    after = {pod["metadata"]["name"] for pod in rollout.engines() if "deletionTimestamp" not in pod["metadata"]}
    assert not before & after, "every engine was replaced"
    assert tally.outcomes == {"whole": tally.whole}, tally.problems
