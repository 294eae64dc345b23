"""A try as a line of the state file: what is read is what was written, and anything else is refused."""

from typing import Any

import pytest

from tokenfleet.planning.tuning import Measured, Probe

PROBE = Probe(
    concurrency=8, verdict="met", tokens_per_second=99.5, requests=40, failed=1, seconds=2.5, running=7,
    measured=(Measured(metric="itl", verdict="met", value=0.01, lower=None, upper=0.02, samples=400, effective=50.0),),
)  # fmt: skip


def test_what_is_read_is_what_was_written() -> None:
    assert Probe.from_json(PROBE.as_json()) == PROBE


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"verdict": "good"}, id="no verdict of ours"),
        pytest.param({"concurrency": 0}, id="none at once"),
        pytest.param({"concurrency": "8"}, id="text"),
        pytest.param({"measured": [{"metric": "speed"}]}, id="no metric of ours"),
        pytest.param({"measured": None}, id="nothing measured"),
    ],
)
def test_what_is_no_try_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        Probe.from_json(PROBE.as_json() | change)
