"""Real downloads that break: connections cut, bytes changed, fetchers killed, two at once, no room."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.store.stores import model, needed
from tests.integration.store.fetches import Fetches
from tests.integration.store.programs import S3Gateway
from tests.integration.store.proxy import Proxy
from tokenfleet import contract
from tokenfleet_engine.store.parts import arrived_bytes

SOURCE = "s3://models/breaks/small"
FILES = model(weights=8_000_000)
SIZE = sum(map(len, needed(FILES).values()))


@pytest.fixture(scope="module", autouse=True)
def _model(s3: S3Gateway) -> None:
    s3.put("breaks/small", FILES)


def test_connections_that_are_cut_cost_almost_nothing(s3: S3Gateway, fetches: Fetches) -> None:
    with Proxy(s3.port, cut_after=1_500_000, cuts=8) as proxy:
        said = fetches.run(SOURCE, environment=s3.environment(port=proxy.port)).succeeded()
    assert proxy.cuts == 0
    assert "trying again" in said
    assert fetches.content(SOURCE) == needed(FILES)
    assert proxy.passed < SIZE + 8 * 1_500_000, "what had arrived was not fetched again"


def test_a_byte_that_changes_on_the_way_is_noticed_and_fetched_again(s3: S3Gateway, fetches: Fetches) -> None:
    with Proxy(s3.port, flip_at=1_000_000, flips=1) as proxy:
        said = fetches.run(SOURCE, environment=s3.environment(port=proxy.port)).succeeded()
    assert re.search(r"model-\d\.safetensors arrived wrong: its md5 is .*; fetching it once more", said)
    assert fetches.content(SOURCE) == needed(FILES)


def test_bytes_that_always_change_are_the_stores_fault(s3: S3Gateway, fetches: Fetches) -> None:
    with Proxy(s3.port, flip_at=1_000_000, flips=1000) as proxy:
        outcome = fetches.run(SOURCE, environment=s3.environment(port=proxy.port))
    assert "arrived wrong twice from 127.0.0.1" in outcome.failed(contract.REASON_MODEL_INVALID)
    assert not fetches.destination(SOURCE).exists()


@pytest.mark.parametrize(
    ("number", "code"), [pytest.param(signal.SIGKILL, -9, id="SIGKILL"), pytest.param(signal.SIGTERM, 143, id="SIGTERM")]
)
def test_a_fetch_that_is_ended_goes_on_from_there(number: int, code: int, s3: S3Gateway, fetches: Fetches) -> None:
    with Proxy(s3.port, hold_after=12_000_000) as proxy:
        process = fetches.start(SOURCE, environment=s3.environment(port=proxy.port))
        known = _until_known(fetches.cache, 8_000_000)
        process.send_signal(number)
        assert process.wait(30) == code
        process.communicate()
        assert not fetches.destination(SOURCE).exists()
        proxy.hold_after, before = None, proxy.passed
        fetches.run(SOURCE, environment=s3.environment(port=proxy.port)).succeeded()
    assert fetches.content(SOURCE) == needed(FILES)
    assert proxy.passed - before < SIZE - known + 1_000_000, "what was missing, and what was on its way when it ended"


def test_two_fetchers_are_one_download(s3: S3Gateway, fetches: Fetches) -> None:
    with Proxy(s3.port, hold_after=6_000_000) as proxy:
        first = fetches.start(SOURCE, environment=s3.environment(port=proxy.port))
        _until_known(fetches.cache, 1)
        second = fetches.start(SOURCE, environment=s3.environment(port=s3.port))
        waited = _until_said(second, "another pod fetches it")
        proxy.hold_after = None
        said = [process.communicate(timeout=120)[0] for process in (first, second)]
    assert (first.returncode, second.returncode) == (0, 0)
    assert f"{SOURCE}, {os.uname().nodename}," in waited
    assert contract.PROGRESS.search(waited) is not None
    assert "another pod fetches it" not in said[0]
    assert "is complete at" in said[1].splitlines()[-1]
    assert "verified" not in said[1], "the second one found it complete"
    assert fetches.content(SOURCE) == needed(FILES)


def test_who_waits_takes_over_from_who_is_killed(s3: S3Gateway, fetches: Fetches) -> None:
    with Proxy(s3.port, hold_after=6_000_000) as proxy:
        first = fetches.start(SOURCE, environment=s3.environment(port=proxy.port))
        _until_known(fetches.cache, 1)
        second = fetches.start(SOURCE, environment=s3.environment(port=s3.port))
        _until_said(second, "another pod fetches it")
        first.kill()
        first.communicate()
        assert "verified 4 files" in second.communicate(timeout=120)[0]
    assert second.returncode == 0
    assert fetches.content(SOURCE) == needed(FILES)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 30 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=30m", "tmpfs", place], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("mounting needs root")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


def test_no_room_is_said_before_the_first_byte(s3: S3Gateway, small_disk: Path) -> None:
    fetches = Fetches(small_disk)
    (small_disk / "other").write_bytes(bytes(20_000_000))
    outcome = fetches.run(SOURCE, environment=s3.environment())
    message = outcome.failed(contract.REASON_DISK_FULL)
    assert re.search(r"has 1\d\.\d MB free, and 24\.4 MB are needed", message), message
    assert "there is no older version in it to delete" in message


def test_a_disk_that_somebody_else_fills_ends_the_fetch_and_keeps_its_part(s3: S3Gateway, small_disk: Path) -> None:
    fetches = Fetches(small_disk)
    (small_disk / "note").write_text(" " * 4000)  # as the kubelet's, which is on another disk
    with Proxy(s3.port, hold_after=12_000_000) as proxy:
        process = fetches.start(SOURCE, environment=s3.environment(port=proxy.port))
        known = _until_known(fetches.cache, 8_000_000)
        free = os.statvfs(small_disk)
        other = small_disk / "other"
        other.write_bytes(bytes(free.f_bavail * free.f_frsize))
        proxy.hold_after = None
        _, error = process.communicate(timeout=120)
        assert process.returncode == 2
        assert re.search("DiskFull: .*cache is full .*What has arrived stays for the next start", error), error
        other.unlink()
        before = proxy.passed
        fetches.run(SOURCE, environment=s3.environment(port=proxy.port)).succeeded()
    assert fetches.content(SOURCE) == needed(FILES)
    assert proxy.passed - before < SIZE - known + 1_000_000


def _until_known(cache: Path, count: int) -> int:
    """Wait until the journal has so much."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if (known := sum(arrived_bytes(folder) for folder in (cache / ".parts").glob("*"))) >= count:
            return known
        time.sleep(0.05)
    raise AssertionError("nothing arrives")


def _until_said(process: "subprocess.Popen[str]", words: str) -> str:
    assert process.stdout is not None
    return next(line.rstrip() for line in process.stdout if words in line)
