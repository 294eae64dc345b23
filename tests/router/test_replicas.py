"""Replicas: who gets the next request, what counts, what a replica weighs, and that nothing leaks in any order of events."""

from collections.abc import Callable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from msgspec import structs

from tokenfleet.router.balancing.foreign import FADE_SECONDS, FORGET_SECONDS
from tokenfleet.router.balancing.outliers import BASE_SECONDS, CONSECUTIVE
from tokenfleet.router.balancing.policies import FULL, POLICIES, PolicyName
from tokenfleet.router.balancing.replica import FIRST_SHARE, SLOW_START_SECONDS
from tokenfleet.router.balancing.replicas import Lease, Replica, Replicas, Sighting, State
from tokenfleet.router.rejections import ALL_DRAINING, NO_REPLICAS, NONE_READY, QUEUE_FULL, Kind
from tokenfleet.router.wire.deadlines import NEVER


class Clock:
    """Time that tests move."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def seen(key: str, state: State = State.ROUTABLE, host: str = "10.0.0.1") -> Sighting:
    return Sighting(key=key, name=f"pod-{key}", host=host, port=8000, state=state)


def fleet(*keys: str, clock: Clock | None = None, limit: int = 256) -> tuple[Replicas, list[Replica]]:
    replicas = Replicas(clock=clock or Clock())
    replicas.configure("LeastConnections", max_in_flight=limit)
    replicas.observe([seen(key) for key in keys])
    return replicas, replicas.all()


def take(replicas: Replicas, count: int = 1) -> list[Lease]:
    """So many leases, each of which there is."""
    leases = [replicas.lease() for _ in range(count)]
    held = [lease for lease in leases if lease is not None]
    assert len(held) == count
    return held


def names(replicas: Replicas, count: int) -> set[str]:
    """Who gets so many requests, one after the other all in flight; they end then."""
    leases = take(replicas, count)
    for lease in leases:
        lease.release()
    return {lease.replica.name for lease in leases}


def let_pass(replicas: Replicas, clock: Clock, seconds: float) -> None:
    """As the wheel of deadlines does."""
    end = clock.now + seconds
    while replicas.deadline <= end:
        clock.now = replicas.deadline
        replicas.expire()
    clock.now = end


def hear(clock: Clock, others: dict[Replica, int], seconds: float = 20.0) -> None:
    """Each of these says, again and again, that others have so many there."""
    end = clock.now + seconds
    while clock.now < end:
        clock.now += 0.2
        for replica, count in others.items():
            replica.reported(replica.in_flight + count)


# --- Leases


def test_a_lease_counts_while_it_is_held_and_only_once() -> None:
    replicas, _ = fleet("a")
    (lease,) = take(replicas)
    with lease as replica:
        assert (replica.in_flight, replicas.in_flight) == (1, 1)
    lease.release()
    assert (replica.in_flight, replicas.in_flight) == (0, 0)


def test_equals_take_turns() -> None:
    replicas, _ = fleet("a", "b", "c")
    order = []
    for _ in range(6):
        with take(replicas)[0] as replica:
            order.append(replica.name)
    assert order[:3] == order[3:]
    assert len(set(order)) == 3


@pytest.mark.parametrize("state", [State.DRAINING, State.UNREADY])
def test_only_routable_replicas_are_leased(state: State) -> None:
    replicas = Replicas()
    replicas.observe([seen("a", state)])
    assert replicas.lease() is None
    replicas.observe([seen("a", state), seen("b")])
    (lease,) = take(replicas)
    assert lease.replica.name == "pod-b"
    assert replicas.lease(exclude=(lease.replica,)) is None


def test_a_replica_keeps_its_count_when_it_disappears_and_comes_back() -> None:
    replicas, _ = fleet("a")
    (lease,) = take(replicas)
    replicas.observe([])
    assert [replica.in_flight for replica in replicas.all()] == [1]
    replicas.observe([seen("a")])
    assert replicas.all() == [lease.replica]
    replicas.observe([])
    lease.release()
    assert replicas.all() == []


def test_a_new_pod_under_an_old_name_begins_at_zero() -> None:
    replicas, _ = fleet("a")
    (old,) = take(replicas)
    replicas.observe([Sighting(key="b", name="pod-a", host="10.0.0.1", port=8000, state=State.ROUTABLE)])
    (new,) = take(replicas)
    assert (old.replica is not new.replica, new.replica.in_flight) == (True, 1)


@pytest.mark.parametrize(
    ("host", "authority"),
    [pytest.param("10.0.0.1", b"10.0.0.1:8000", id="IPv4"), pytest.param("fd00::1", b"[fd00::1]:8000", id="IPv6")],
)
def test_an_address_is_written_as_a_host_header_has_it(host: str, authority: bytes) -> None:
    replicas = Replicas()
    replicas.observe([seen("a", host=host)])
    assert replicas.all()[0].authority == authority


def test_the_policy_decides() -> None:
    replicas, _ = fleet(*"abcdefgh")
    replicas.configure("SessionAffinity", max_in_flight=256)
    assert len({lease.replica for _ in range(20) if (lease := replicas.lease(affinity=7)) is not None}) == 1


# --- Limits


def test_a_replica_at_its_limit_gets_nothing() -> None:
    replicas, (a, b) = fleet("a", "b", limit=3)
    leases = take(replicas, 6)
    assert (a.in_flight, b.in_flight, replicas.full) == (3, 3, True)
    assert replicas.lease() is None
    assert replicas.refusal().kind is QUEUE_FULL
    leases[0].release()
    assert not replicas.full
    assert take(replicas)[0].replica is leases[0].replica


def test_a_release_tells_who_waits() -> None:
    replicas, _ = fleet("a", limit=1)
    granted: list[Lease | None] = []
    (lease,) = take(replicas)
    replicas.freed = lambda: granted.append(replicas.lease())
    lease.release()
    lease.release()
    assert [place is not None for place in granted] == [True]


@pytest.mark.parametrize(
    "make_room",
    [
        pytest.param(lambda replicas: replicas.configure("LeastConnections", max_in_flight=2), id="a higher limit"),
        pytest.param(lambda replicas: replicas.observe([seen("a"), seen("b")]), id="another replica"),
    ],
)
def test_room_tells_who_waits(make_room: Callable[[Replicas], None]) -> None:
    replicas, _ = fleet("a", limit=1)
    take(replicas)
    granted: list[Lease | None] = []
    replicas.freed = lambda: granted.append(replicas.lease())
    make_room(replicas)
    assert [place is not None for place in granted] == [True]


def test_a_lower_limit_lets_go_on_what_is_in_flight() -> None:
    replicas, (a,) = fleet("a", limit=4)
    leases = take(replicas, 4)
    replicas.configure("LeastConnections", max_in_flight=2)
    for left in (3, 2):
        leases.pop().release()
        assert (a.in_flight, replicas.lease()) == (left, None)
    leases.pop().release()
    take(replicas)


@pytest.mark.parametrize(
    ("sightings", "kind"),
    [
        pytest.param([], NO_REPLICAS, id="none"),
        pytest.param([seen("a", State.DRAINING)], ALL_DRAINING, id="all draining"),
        pytest.param([seen("a", State.DRAINING), seen("b", State.UNREADY)], NONE_READY, id="none ready"),
    ],
)
def test_why_there_is_no_place(sightings: list[Sighting], kind: Kind) -> None:
    replicas = Replicas()
    replicas.observe(sightings)
    assert (replicas.lease(), replicas.full, replicas.refusal().kind) == (None, False, kind)


# --- Slow start


def test_a_fresh_replica_gets_its_share_by_and_by(clock: Clock) -> None:
    replicas, _ = fleet("a", clock=clock)
    take(replicas, 40)
    replicas.observe([seen("a"), seen("b")])
    a, b = replicas.all()
    shares = []
    for _ in range(5):
        held = take(replicas, 20)
        shares.append(b.in_flight / a.in_flight)
        for lease in held:
            lease.release()
        clock.now += SLOW_START_SECONDS / 4
    assert shares[0] == pytest.approx(FIRST_SHARE, abs=0.02)
    assert shares == sorted(shares)
    assert shares[2] == pytest.approx(0.5, abs=0.05)
    take(replicas, 40)
    assert a.in_flight == b.in_flight


def test_a_fresh_replica_is_not_starved(clock: Clock) -> None:
    replicas, _ = fleet("a", clock=clock)
    take(replicas, 2)
    replicas.observe([seen("a"), seen("b")])
    assert take(replicas)[0].replica.name == "pod-b"


def test_a_fresh_replica_is_not_flooded_when_the_others_are_full(clock: Clock) -> None:
    replicas, _ = fleet("a", clock=clock, limit=100)
    take(replicas, 100)
    replicas.observe([seen("a"), seen("b")])
    waiting = 100

    def pump() -> None:
        nonlocal waiting
        while waiting and replicas.lease() is not None:
            waiting -= 1

    replicas.freed = pump
    pump()
    b = replicas.all()[1]
    assert b.in_flight == 10
    let_pass(replicas, clock, SLOW_START_SECONDS / 2)
    assert b.in_flight == pytest.approx(50, abs=5)
    let_pass(replicas, clock, SLOW_START_SECONDS / 2 + 0.3)
    assert (b.in_flight, waiting, replicas.deadline) == (100, 0, NEVER)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param([], ["a"], id="alone"),
        pytest.param([], ["a", "b"], id="together with others"),
        pytest.param(["old"], ["a"], id="when the last old one goes"),
    ],
)
def test_without_anyone_who_could_carry_the_rest_there_is_no_slow_start(
    clock: Clock, before: list[str], after: list[str]
) -> None:
    replicas, _ = fleet(*before, clock=clock, limit=20)
    replicas.observe([seen(key) for key in before + after])
    replicas.observe([seen(key) for key in after])
    take(replicas, 20 * len(after))
    assert replicas.full


# --- Load that other routers put there


def test_a_replica_that_others_load_gets_less(clock: Clock) -> None:
    replicas, (a, b) = fleet("a", "b", clock=clock)
    hear(clock, {a: 10, b: 0})
    take(replicas, 30)
    assert (a.in_flight, b.in_flight) == (10, 20)


def test_one_report_alone_moves_little(clock: Clock) -> None:
    replicas, (a, b) = fleet("a", "b", clock=clock)
    a.reported(10)
    take(replicas, 20)
    assert (a.in_flight, b.in_flight) == (9, 11)


def test_a_hundred_reports_at_once_move_no_more_than_one(clock: Clock) -> None:
    _, (a, b) = fleet("a", "b", clock=clock)
    a.reported(10)
    for _ in range(100):
        b.reported(10)
    assert (a.load, b.load) == (2, 2)


def test_own_requests_are_not_foreign(clock: Clock) -> None:
    replicas, (a,) = fleet("a", clock=clock)
    take(replicas, 5)
    a.reported(5)
    a.reported(3)
    assert (a.load, replicas.deadline) == (5, NEVER)


def test_an_engine_that_has_yet_to_see_our_requests_does_not_make_them_fewer(clock: Clock) -> None:
    replicas, (a,) = fleet("a", clock=clock)
    hear(clock, {a: 3})
    take(replicas, 5)
    hear(clock, {a: -5})
    assert a.load == 5


def test_what_is_not_heard_of_again_is_forgotten(clock: Clock) -> None:
    replicas, every = fleet("a", "b", clock=clock)
    for replica in every:
        replica.reported(40)
    assert [replica.load for replica in every] == [8, 8]
    let_pass(replicas, clock, FORGET_SECONDS + 10 * FADE_SECONDS)
    assert ([replica.load for replica in every], replicas.deadline) == ([0, 0], NEVER)


def test_one_that_is_not_heard_of_tends_to_the_mean_of_the_others_and_not_below(clock: Clock) -> None:
    replicas, (a, b, c) = fleet("a", "b", "c", clock=clock)
    hear(clock, {a: 30, b: 10, c: 10})
    loads = []
    for _ in range(100):
        hear(clock, {b: 10, c: 10}, seconds=0.2)
        replicas.expire()
        loads.append(a.load)
    assert loads == sorted(loads, reverse=True)
    assert loads[0] == pytest.approx(30, abs=2)
    assert loads[-1] == pytest.approx(10, abs=0.2)


def test_the_limit_is_on_what_the_engine_has_whoever_sent_it(clock: Clock) -> None:
    replicas, (a,) = fleet("a", clock=clock, limit=20)
    hear(clock, {a: 12})
    take(replicas, 8)
    assert replicas.full


def test_a_quarter_of_the_limit_is_open_to_each_router_however_many_requests_others_have(clock: Clock) -> None:
    replicas, (a,) = fleet("a", clock=clock, limit=20)
    hear(clock, {a: 200})
    take(replicas, 5)
    assert (replicas.full, a.load) == (True, FULL)


def test_a_report_where_there_was_room_tells_nobody(clock: Clock) -> None:
    replicas, (a,) = fleet("a", clock=clock)
    told: list[int] = []
    replicas.freed = lambda: told.append(a.in_flight)
    hear(clock, {a: 15})
    assert told == []


def test_a_report_of_less_tells_who_waits(clock: Clock) -> None:
    replicas, (a,) = fleet("a", clock=clock, limit=20)
    hear(clock, {a: 15})
    take(replicas, 5)
    granted: list[Lease | None] = []
    replicas.freed = lambda: granted.append(replicas.lease())
    clock.now += 1
    a.reported(5)
    assert [place is not None for place in granted] == [True]


# --- In any order


class Leases(RuleBasedStateMachine):
    """Any order of sightings, limits, leases, releases (also twice), reports, failures and time, against a count by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.replicas = Replicas(clock=self.clock)
        self.states: dict[str, State] = {}
        self.limit = 256
        self.policy: PolicyName = "LeastConnections"
        self.held: list[Lease] = []
        self.ended: list[Lease] = []
        self.told = 0
        self.replicas.freed = self._freed

    def _freed(self) -> None:
        self.told += 1

    @rule(states=st.dictionaries(st.sampled_from("abcd"), st.sampled_from(State)))
    def observe(self, states: dict[str, State]) -> None:
        self.states = states
        self.replicas.observe([seen(key, state) for key, state in states.items()])

    @rule(policy=st.sampled_from(list(POLICIES)), limit=st.sampled_from([1, 2, 5, 256]))
    def configure(self, policy: PolicyName, limit: int) -> None:
        self.limit, self.policy = limit, policy
        self.replicas.configure(policy, max_in_flight=limit)

    @rule(without=st.sets(st.sampled_from("abcd")), affinity=st.none() | st.integers(0, 2**64 - 1))
    def lease(self, without: set[str], affinity: int | None) -> None:
        exclude = [replica for replica in self.replicas.all() if replica.seen.key in without]
        routable = {key for key, state in self.states.items() if state is State.ROUTABLE} - without
        able = [replica for replica in self.replicas.all() if replica.seen.key in routable]
        idle = [replica for replica in able if not replica.in_flight]
        sound = [replica for replica in able if not replica.ejected]
        loads = {replica: replica.load for replica in sound or able}
        lease = self.replicas.lease(exclude=exclude, affinity=affinity)
        if lease is None:
            assert not [replica for replica in idle if replica in sound], "one that has nothing was refused"
            assert not routable or any(replica.load == FULL for replica in able)
            return
        assert lease.replica.seen.key in routable
        assert not (lease.replica.ejected and sound), "an ejected one was chosen though others were there"
        assert lease.replica.in_flight <= self.limit
        if self.policy == "LeastConnections":
            assert loads[lease.replica] == min(loads.values())
        self.held.append(lease)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        before = self.told
        lease = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        lease.release()
        self.ended.append(lease)
        assert self.told == before + 1

    @precondition(lambda self: self.ended)
    @rule()
    def release_again(self) -> None:
        before = self.told
        self.ended[-1].release()
        assert self.told == before

    @precondition(lambda self: self.held)
    @rule(data=st.data(), outcome=st.sampled_from(["connect", "lost", "status", "stall", ""]))
    def end(self, data: st.DataObject, outcome: str) -> None:
        replica = self.held[data.draw(st.integers(0, len(self.held) - 1))].replica
        if outcome:
            replica.failed(outcome)
        else:
            replica.succeeded()

    @precondition(lambda self: self.held)
    @rule(data=st.data(), count=st.integers(0, 300))
    def report(self, data: st.DataObject, count: int) -> None:
        self.held[data.draw(st.integers(0, len(self.held) - 1))].replica.reported(count)

    @rule(seconds=st.sampled_from([0.01, 0.3, 2.0, 6.0, 400.0]))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds
        if self.clock.now >= self.replicas.deadline:
            self.replicas.expire()

    @invariant()
    def every_lease_is_counted_once(self) -> None:
        by_hand: dict[Replica, int] = {}
        for lease in self.held:
            by_hand[lease.replica] = by_hand.get(lease.replica, 0) + 1
        known = self.replicas.all()
        assert {replica: replica.in_flight for replica in known if replica.in_flight} == by_hand
        assert self.replicas.in_flight == len(self.held)
        assert all(lease.replica.in_flight >= 0 for lease in self.ended)

    @invariant()
    def half_of_the_routable_ones_stay(self) -> None:
        routable = [replica for replica in self.replicas.all() if self.states.get(replica.seen.key) is State.ROUTABLE]
        assert sum(replica.ejected for replica in routable) <= len(routable) // 2

    def teardown(self) -> None:
        """Nothing is lost: when all have ended and time has passed, every replica has room, and all of it."""
        for lease in self.held:
            lease.release()
        for _ in range(8):
            self.clock.now += 400.0
            self.replicas.expire()
        routable = {key for key, state in self.states.items() if state is State.ROUTABLE}
        assert self.replicas.in_flight == 0
        leases = [self.replicas.lease() for _ in range(self.limit * len(routable))]
        assert None not in leases
        assert self.replicas.full == bool(routable)


LeasesTest = Leases.TestCase
LeasesTest.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)


# --- adapters


def with_adapter(*keys: str, without: tuple[str, ...] = (), limit: int = 256) -> Replicas:
    """Of these the first ones have the adapter sql."""
    replicas = Replicas(clock=Clock())
    replicas.configure("LeastConnections", max_in_flight=limit)
    having = [structs.replace(seen(key), adapters=frozenset({"sql"})) for key in keys]
    replicas.observe([*having, *(seen(key) for key in without)])
    return replicas


def test_an_adapters_requests_go_to_those_that_have_it_and_count_with_all_others() -> None:
    replicas = with_adapter("a", without=("b",), limit=2)
    plain = replicas.lease()
    assert plain is not None
    leases = [replicas.lease((), None, "sql") for _ in range(3)]
    room = 2 - (plain.replica.name == "pod-a")
    assert [lease.replica.name for lease in leases if lease] == ["pod-a"] * room
    assert replicas.lease((), None, "other") is None
    rest = [replicas.lease() for _ in range(3)]
    assert sum(lease is not None for lease in rest) == 4 - 1 - room


def test_an_ejected_one_is_used_where_no_other_has_the_adapter() -> None:
    replicas = with_adapter("a", without=("b",))
    a = replicas.all()[0]
    for _ in range(CONSECUTIVE):
        a.failed("lost")
    assert a.ejected
    assert names(replicas, 2) == {"pod-b"}
    lease = replicas.lease((), None, "sql")
    assert lease is not None and lease.replica is a
    assert replicas.lease((a,), None, "sql") is None


# --- those that requests can do without


def test_optional_ones_may_all_be_ejected_and_come_back_in_time() -> None:
    clock = Clock()
    replicas = Replicas(clock=clock, optional=True)
    replicas.observe([seen("a"), seen("b")])
    for replica in replicas.all():
        for _ in range(CONSECUTIVE):
            replica.failed("stall")
    assert [replica.ejected for replica in replicas.all()] == [True, True]
    assert replicas.lease() is None
    assert replicas.lease((replicas.all()[0],)) is None
    clock.now += BASE_SECONDS
    assert names(replicas, 2) == {"pod-a", "pod-b"}
