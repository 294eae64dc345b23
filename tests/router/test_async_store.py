"""What INFO of a Redis says against trusting it with accepted requests."""

import pytest

from tokenfleet.router.durable.store import doubts_of

GOOD = {"redis_version": "7.0.15", "aof_enabled": 1, "maxmemory": 0, "maxmemory_policy": "noeviction"}


@pytest.mark.parametrize(
    ("change", "doubts"),
    [
        pytest.param({}, [], id="nothing"),
        pytest.param({"redis_version": "6.2.14"}, ["7.0 or newer is needed"], id="it is too old"),
        pytest.param({"redis_version": "10.0.0"}, [], id="a version of two digits is a new one"),
        pytest.param({"aof_enabled": 0}, ["set appendonly yes"], id="it writes nothing down"),
        pytest.param({"maxmemory_policy": "allkeys-lru"}, [], id="a policy without a limit does nothing"),
        pytest.param({"maxmemory_policy": "volatile-ttl", "maxmemory": 1}, ["noeviction"], id="it deletes when it is full"),
    ],
)
def test_doubts(change: dict[str, object], doubts: list[str]) -> None:
    found = doubts_of(GOOD | change)
    assert len(found) == len(doubts)
    assert all(part in doubt for part, doubt in zip(doubts, found, strict=True))
