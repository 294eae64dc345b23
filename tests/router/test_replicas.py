"""Replicas: who gets the next request, what a lease counts, and that nothing leaks in any order of events."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tokenfleet.router.balance import least_connections
from tokenfleet.router.replicas import Lease, Replica, Replicas, Sighting, State


def seen(key: str, state: State = State.ROUTABLE, host: str = "10.0.0.1") -> Sighting:
    return Sighting(key=key, name=f"pod-{key}", host=host, port=8000, state=state)


def loaded(*counts: int) -> list[Replica]:
    made = []
    for number, count in enumerate(counts):
        replica = Replica(seen(str(number)))
        replica.in_flight = count
        made.append(replica)
    return made


@pytest.mark.parametrize(
    ("counts", "turns", "chosen"),
    [
        pytest.param((), 3, [None, None, None], id="nobody"),
        pytest.param((9,), 2, [0, 0], id="one alone, however loaded"),
        pytest.param((2, 1, 2), 3, [1, 1, 1], id="the least loaded"),
        pytest.param((0, 0, 0), 6, [0, 1, 2, 0, 1, 2], id="equals take turns"),
        pytest.param((1, 0, 2, 0), 4, [1, 3, 1, 3], id="equals among others take turns"),
    ],
)
def test_least_connections(counts: tuple[int, ...], turns: int, chosen: list[int | None]) -> None:
    candidates = loaded(*counts)
    picks = [least_connections(candidates, turn) for turn in range(turns)]
    assert [None if pick is None else candidates.index(pick) for pick in picks] == chosen


def test_a_lease_counts_while_it_is_held_and_only_once() -> None:
    replicas = Replicas()
    replicas.observe([seen("a")])
    lease = replicas.lease()
    assert lease is not None
    with lease as replica:
        assert replica.in_flight == 1
    lease.release()
    assert replica.in_flight == 0


@pytest.mark.parametrize("state", [State.DRAINING, State.UNREADY])
def test_only_routable_replicas_are_leased(state: State) -> None:
    replicas = Replicas()
    replicas.observe([seen("a", state)])
    assert replicas.lease() is None
    replicas.observe([seen("a", state), seen("b")])
    lease = replicas.lease()
    assert lease is not None
    assert lease.replica.name == "pod-b"
    assert replicas.lease(exclude=(lease.replica,)) is None


def test_a_replica_keeps_its_count_when_it_disappears_and_comes_back() -> None:
    replicas = Replicas()
    replicas.observe([seen("a")])
    lease = replicas.lease()
    assert lease is not None
    replicas.observe([])
    assert [replica.in_flight for replica in replicas.all()] == [1]
    replicas.observe([seen("a")])
    assert replicas.all() == [lease.replica]
    replicas.observe([])
    lease.release()
    assert replicas.all() == []


def test_a_new_pod_under_an_old_name_begins_at_zero() -> None:
    replicas = Replicas()
    replicas.observe([seen("a")])
    old = replicas.lease()
    assert old is not None
    replicas.observe([Sighting(key="b", name="pod-a", host="10.0.0.1", port=8000, state=State.ROUTABLE)])
    new = replicas.lease()
    assert new is not None
    assert (old.replica is not new.replica, new.replica.in_flight) == (True, 1)


@pytest.mark.parametrize(
    ("host", "authority"),
    [pytest.param("10.0.0.1", b"10.0.0.1:8000", id="IPv4"), pytest.param("fd00::1", b"[fd00::1]:8000", id="IPv6")],
)
def test_an_address_is_written_as_a_host_header_has_it(host: str, authority: bytes) -> None:
    assert Replica(seen("a", host=host)).authority == authority


class Leases(RuleBasedStateMachine):
    """Any order of sightings, leases, releases (also twice), against a count kept by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.replicas = Replicas()
        self.states: dict[str, State] = {}
        self.held: list[Lease] = []
        self.ended: list[Lease] = []

    @rule(states=st.dictionaries(st.sampled_from("abcd"), st.sampled_from(State)))
    def observe(self, states: dict[str, State]) -> None:
        self.states = states
        self.replicas.observe([seen(key, state) for key, state in states.items()])

    @rule(without=st.sets(st.sampled_from("abcd")))
    def lease(self, without: set[str]) -> None:
        exclude = [replica for replica in self.replicas.all() if replica.seen.key in without]
        routable = {key for key, state in self.states.items() if state is State.ROUTABLE} - without
        lease = self.replicas.lease(exclude=exclude)
        assert (lease is not None) == bool(routable)
        if lease is not None:
            assert lease.replica.seen.key in routable
            others = [replica for replica in self.replicas.all() if replica.seen.key in routable]
            assert (
                lease.replica.in_flight - 1 <= min(replica.in_flight for replica in others if replica is not lease.replica)
                if len(others) > 1
                else True
            )
            self.held.append(lease)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        lease = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        lease.release()
        self.ended.append(lease)

    @precondition(lambda self: self.ended)
    @rule()
    def release_again(self) -> None:
        self.ended[-1].release()

    @invariant()
    def every_lease_is_counted_once(self) -> None:
        by_hand: dict[Replica, int] = {}
        for lease in self.held:
            by_hand[lease.replica] = by_hand.get(lease.replica, 0) + 1
        known = self.replicas.all()
        assert {replica: replica.in_flight for replica in known if replica.in_flight} == by_hand
        assert all(lease.replica.in_flight >= 0 for lease in self.ended)


LeasesTest = Leases.TestCase
LeasesTest.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
