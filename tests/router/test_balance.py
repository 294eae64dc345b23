"""Policies as pure functions: who is chosen, how evenly, and how little moves when replicas come and go."""

import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenfleet.router.balancing.policies import (
    BOUND,
    FULL,
    POLICIES,
    Policy,
    least_connections,
    prefix_affinity,
    session_affinity,
)


@dataclass
class Fake:
    load: float
    salt: int


def loaded(*loads: float, seed: int = 1) -> list[Fake]:
    salts = random.Random(seed)
    return [Fake(load, salts.getrandbits(64)) for load in loads]


def keys(count: int) -> list[int]:
    source = random.Random(2)
    return [source.getrandbits(64) for _ in range(count)]


def homes(policy: Policy, replicas: Sequence[Fake], count: int = 4000) -> dict[int, Fake | None]:
    return {key: policy(replicas, 0, key) for key in keys(count)}


@pytest.mark.parametrize(
    ("loads", "turns", "chosen"),
    [
        pytest.param((), 3, [None, None, None], id="nobody"),
        pytest.param((9,), 2, [0, 0], id="one alone, however loaded"),
        pytest.param((2, 1, 2), 3, [1, 1, 1], id="the least loaded"),
        pytest.param((0, 0, 0), 6, [0, 1, 2, 0, 1, 2], id="equals take turns"),
        pytest.param((1, 0, 2, 0), 4, [1, 3, 1, 3], id="equals among others take turns"),
        pytest.param((FULL, 7, FULL), 2, [1, 1], id="one that is full is out"),
        pytest.param((FULL, FULL), 1, [None], id="all full"),
        pytest.param((1.5, 1.25), 1, [1], id="parts count"),
    ],
)
@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES.keys())
def test_without_an_affinity_the_least_loaded(
    policy: Policy, loads: tuple[float, ...], turns: int, chosen: list[int | None]
) -> None:
    candidates = loaded(*loads)
    picks = [policy(candidates, turn, None) for turn in range(turns)]
    assert [None if pick is None else candidates.index(pick) for pick in picks] == chosen


def test_least_connections_does_not_mind_an_affinity() -> None:
    candidates = loaded(1, 0)
    assert [least_connections(candidates, 0, key) for key in keys(20)] == [candidates[1]] * 20


@pytest.mark.parametrize("policy", [prefix_affinity, session_affinity])
def test_a_key_has_one_home_in_whatever_order_the_replicas_are_listed(policy: Policy) -> None:
    replicas = loaded(*[0] * 8)
    mixed = replicas.copy()
    random.Random(3).shuffle(mixed)
    assert homes(policy, replicas) == homes(policy, mixed)


@pytest.mark.parametrize("policy", [prefix_affinity, session_affinity])
@pytest.mark.parametrize("seed", range(5))
def test_homes_are_spread_evenly(policy: Policy, seed: int) -> None:
    found = Counter(home.salt for home in homes(policy, loaded(*[0] * 8, seed=seed)).values() if home is not None)
    assert max(found.values()) < 1.2 * 4000 / 8
    assert min(found.values()) > 0.8 * 4000 / 8


@pytest.mark.parametrize("policy", [prefix_affinity, session_affinity])
@given(count=st.integers(2, 16), seed=st.integers(0, 1000))
def test_a_replica_that_goes_moves_its_own_keys_and_no_others(policy: Policy, count: int, seed: int) -> None:
    replicas = loaded(*[0] * count, seed=seed)
    gone, *rest = replicas
    before, after = homes(policy, replicas, 800), homes(policy, rest, 800)
    moved = [key for key in before if before[key] is not after[key]]
    assert moved == [key for key in before if before[key] is gone]
    assert len(moved) / 800 == pytest.approx(1 / count, abs=0.1)


def test_a_hot_key_goes_on_to_the_next_beyond_the_bound_and_stays_below_it() -> None:
    replicas = loaded(*[0] * 8)
    key = keys(1)[0]
    for total in range(400):
        chosen = prefix_affinity(replicas, total, key)
        assert chosen is not None
        chosen.load += 1
        assert max(replica.load for replica in replicas) <= math.ceil(BOUND * (total + 1) / 8)
    first = session_affinity(replicas, 0, key)
    assert first is not None
    assert first.load == max(replica.load for replica in replicas)


@given(st.lists(st.floats(0, 500) | st.just(FULL), min_size=1, max_size=20), st.integers(0, 2**64 - 1))
def test_a_replica_with_room_is_always_found(loads: list[float], key: int) -> None:
    replicas = loaded(*loads)
    for policy in POLICIES.values():
        chosen = policy(replicas, 0, key)
        assert (chosen is None) == all(load == FULL for load in loads)
        assert chosen is None or chosen.load < FULL


def test_a_session_sticks_however_loaded_its_replica_is_until_that_is_full() -> None:
    replicas = loaded(*[0] * 4)
    key = keys(1)[0]
    home = session_affinity(replicas, 0, key)
    assert home is not None
    home.load = 500
    assert session_affinity(replicas, 1, key) is home
    assert prefix_affinity(replicas, 1, key) is not home
    home.load = FULL
    second = session_affinity(replicas, 2, key)
    assert second not in (None, home)
    home.load = 500
    assert session_affinity(replicas, 3, key) is home
