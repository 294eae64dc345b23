"""The line that people and the controller read."""

import pytest

from tokenfleet import contract
from tokenfleet_engine.store.progress import Progress, duration, readable


def test_the_line_tells_how_far_how_fast_and_how_long() -> None:
    now = 0.0
    progress = Progress(total=1_000_000_000, done=100_000_000, clock=lambda: now)
    assert "left" not in progress.line("fetching it"), "nothing is known yet"
    now = 10.0
    progress.add(300_000_000)
    line = progress.line("fetching it")
    assert line.startswith("fetching it: 400.0 MB of 1.0 GB (40%), 30.0 MB/s, 0:10 elapsed, 0:20 left [")
    found = contract.PROGRESS.search(line)
    assert found is not None
    assert found.groupdict() == {"done": "400000000", "total": "1000000000", "left": "20"}
    assert progress.summary() == "300.0 MB fetched in 0:10 (30.0 MB/s)"


def test_the_rate_is_that_of_the_last_seconds() -> None:
    now = 0.0
    progress = Progress(total=10_000, done=0, clock=lambda: now)
    for step in range(1, 61):
        now = step * 2.0
        progress.add(100 if step <= 30 else 10)
        line = progress.line("x")
    assert "5 B/s" in line


@pytest.mark.parametrize(
    ("count", "text"),
    [
        pytest.param(0, "0 B", id="nothing"),
        pytest.param(999, "999 B", id="bytes"),
        pytest.param(999_960, "1.0 MB", id="never 1000.0 kB"),
        pytest.param(141_200_000_000, "141.2 GB", id="a model of 70 billion parameters"),
        pytest.param(2.5e12, "2.5 TB", id="more"),
    ],
)
def test_sizes_are_readable(count: float, text: str) -> None:
    assert readable(count) == text


def test_durations_are_readable() -> None:
    assert [duration(seconds) for seconds in (0, 59.6, 61, 3661)] == ["0:00", "1:00", "1:01", "1:01:01"]
