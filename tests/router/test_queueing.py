"""The queue of a model: its order, its bound, its deadlines; and that no interleaving loses, doubles or leaks a ticket."""

import logging
from collections.abc import Callable, Hashable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule

from tokenfleet.router.callers.keys import Priority
from tokenfleet.router.queue.recent import Mean, Rate
from tokenfleet.router.queue.waiting import Queue, Ticket
from tokenfleet.router.rejections import LEAVING, QUEUE_FULL, QUEUE_TIMEOUT, Rejected
from tokenfleet.router.wire.deadlines import NEVER, Deadlines

LOW, NORMAL, HIGH = Priority
GOODBYE = Rejected(LEAVING, "bye")


class Waiter:
    """One that remembers what it was told, and does something about it."""

    def __init__(self, name: str = "", react: Callable[[], object] = lambda: None) -> None:
        self.name = name
        self.react = react
        self.evictions: list[Rejected] = []

    def evicted(self, rejected: Rejected) -> None:
        self.evictions.append(rejected)
        self.react()


class Bench:
    """A queue on a clock that the test moves."""

    def __init__(self, *, max_depth: int = 8, seconds: float = 60) -> None:
        self.now = 0.0
        self.queue: Queue[Waiter] = Queue(lambda: self.now, max_depth=max_depth, seconds=seconds)

    def join(
        self, name: str, *, priority: Priority = NORMAL, flow: Hashable = "one", react: Callable[[], object] = lambda: None
    ) -> Ticket[Waiter]:
        return self.queue.join(Waiter(name, react), priority=priority, flow=flow)

    def refused(self, *, priority: Priority = NORMAL, flow: Hashable = "one") -> Rejected:
        with pytest.raises(Rejected) as caught:
            self.join("refused", priority=priority, flow=flow)
        return caught.value

    def rest(self) -> str:
        """The names of all, in the order in which they get a place."""
        return "".join(name(self.queue.take()) for _ in range(self.queue.depth))


def name(ticket: Ticket[Waiter]) -> str:
    return ticket.waiter.name


def evictions(ticket: Ticket[Waiter]) -> list[str]:
    return [rejected.kind.reason for rejected in ticket.waiter.evictions]


# --- Order


@pytest.mark.parametrize(
    ("joins", "order"),
    [
        pytest.param("an bn cn", "abc", id="equals of one flow go by arrival"),
        pytest.param("al bn ch dl en fh", "cfbead", id="higher priority first, whenever it came"),
        pytest.param("an1 bn1 cn1 dn2", "adbc", id="a flow with many does not hold up one with a single one"),
        pytest.param("an1 bn1 cn2 dn2 en3 fn3", "acebdf", id="three flows take turns"),
        pytest.param("al1 bl1 cn1 dl2", "cadb", id="the flows of each priority take turns of their own"),
    ],
)
def test_the_order(joins: str, order: str) -> None:
    bench = Bench()
    for join in joins.split():
        bench.join(join[0], priority={"l": LOW, "n": NORMAL, "h": HIGH}[join[1]], flow=join[2:])
    assert bench.rest() == order


def test_a_flow_that_had_its_turn_waits_for_the_others_also_when_it_comes_again() -> None:
    bench = Bench()
    bench.join("a", flow=1)
    bench.join("b", flow=2)
    bench.join("c", flow=2)
    assert name(bench.queue.take()) == "a"
    bench.join("d", flow=1)
    assert bench.rest() == "bdc"


def test_a_thousand_of_one_flow_do_not_starve_another() -> None:
    bench = Bench(max_depth=2000)
    for _ in range(1000):
        bench.join("a", flow="many")
    bench.join("b", flow="few")
    assert bench.rest().index("b") == 1


def test_first_is_what_take_gives() -> None:
    bench = Bench()
    assert bench.queue.first() is None
    one = bench.join("a")
    assert bench.queue.first() is one
    assert bench.queue.take() is one
    with pytest.raises(LookupError):
        bench.queue.take()


def test_one_that_leaves_is_passed_over_and_its_place_is_free_at_once() -> None:
    bench = Bench(max_depth=2)
    one = bench.join("a")
    bench.join("b")
    bench.refused()
    bench.queue.leave(one)
    bench.queue.leave(one)
    assert bench.queue.depth == 1
    bench.join("c")
    assert bench.rest() == "bc"
    assert evictions(one) == []


# --- The bound


def test_a_full_queue_refuses_and_says_when_to_come_again() -> None:
    bench = Bench(max_depth=2)
    bench.join("a")
    bench.join("b")
    refused = bench.refused()
    assert refused.kind is QUEUE_FULL
    assert (
        refused.message == "No replica of this model has room for this request, and 2 requests wait already. Try again in 10 s."
    )
    assert refused.fields() == b"retry-after: 10\r\n"


def test_without_a_queue_everyone_is_refused_at_once() -> None:
    refused = Bench(max_depth=0).refused(priority=HIGH)
    assert refused.message == "No replica of this model has room for this request, and there is no queue. Try again in 10 s."


@pytest.mark.parametrize(
    ("waiting", "newcomer", "victim"),
    [
        pytest.param("an bl cl", "h", "c", id="a higher priority takes the place of the youngest of the lowest"),
        pytest.param("an bn cn", "h", "c", id="of normal priority where there is no low one"),
        pytest.param("ah bn cl", "l", "", id="the lowest gets none"),
        pytest.param("ah bh ch", "h", "", id="an equal of the same flow gets none"),
        pytest.param("ah bh ch", "n", "", id="a lower priority gets none"),
        pytest.param("an1 bn1 cn1", "n2", "c", id="a flow that has none takes from an equal flow that has many"),
        pytest.param("an1 bn1 cn2", "n3", "b", id="from the one that has most"),
        pytest.param("an1 bn1 cn2", "n2", "", id="but not to have as many itself"),
        pytest.param("an1 bn2 cn3", "n4", "", id="flows that have one each lose none to an equal"),
        pytest.param("al1 bl2 cl1 dn3", "n3", "c", id="the lowest priority comes before the longest flow"),
        pytest.param("al1 bl2 cl3", "n4", "c", id="of equal flows, the youngest loses its place"),
    ],
)
def test_whose_place_a_newcomer_takes_when_the_queue_is_full(waiting: str, newcomer: str, victim: str) -> None:
    priorities = {"l": LOW, "n": NORMAL, "h": HIGH}
    bench = Bench(max_depth=len(waiting.split()))
    tickets = []
    for join in waiting.split():
        bench.now += 1
        tickets.append(bench.join(join[0], priority=priorities[join[1]], flow=join[2:]))
    if victim:
        bench.join("x", priority=priorities[newcomer[0]], flow=newcomer[1:])
        assert "x" in bench.rest()
    else:
        bench.refused(priority=priorities[newcomer[0]], flow=newcomer[1:])
    assert [name(ticket) for ticket in tickets if evictions(ticket)] == list(victim)
    assert all(evictions(ticket) in ([], ["queue_full"]) for ticket in tickets)


def test_a_depth_that_shrinks_costs_nobody_a_place() -> None:
    bench = Bench(max_depth=3)
    for waiter in "abc":
        bench.join(waiter)
    bench.queue.configure(max_depth=1, seconds=60)
    bench.refused()
    assert bench.rest() == "abc"
    bench.join("d")


# --- Deadlines


def test_whoever_has_waited_long_enough_is_evicted_and_the_rest_stays() -> None:
    bench = Bench(seconds=60)
    one = bench.join("a")
    bench.now = 59.0
    two = bench.join("b")
    assert bench.queue.deadline == 60.0
    bench.queue.expire()
    assert evictions(one) == []
    bench.now = 60.0
    bench.queue.expire()
    assert (evictions(one), evictions(two)) == (["queue_timeout"], [])
    assert isinstance(one.waiter, Waiter)
    rejected = one.waiter.evictions[0]
    assert rejected.kind is QUEUE_TIMEOUT
    assert rejected.message.startswith("No replica of this model had room for this request within the 60 s that it may wait.")
    assert rejected.retry_after is not None
    assert bench.queue.deadline == 119.0
    assert bench.rest() == "b"


def test_in_the_wheel_it_is_one_entry_and_an_empty_queue_has_no_deadline() -> None:
    bench = Bench(seconds=60)
    wheel = Deadlines(lambda: bench.now)
    wheel.add(bench.queue)
    assert bench.queue.deadline == NEVER
    one, two = bench.join("a"), bench.join("b")
    bench.queue.leave(one)
    bench.now = 60.0
    wheel.sweep()
    assert (evictions(one), evictions(two)) == ([], ["queue_timeout"])
    assert bench.queue.deadline == NEVER
    assert wheel.waiting == 1


def test_a_new_timeout_holds_for_those_who_wait() -> None:
    bench = Bench(seconds=60)
    one = bench.join("a")
    bench.queue.configure(max_depth=8, seconds=5)
    assert bench.queue.deadline == 5.0
    bench.now = 5.0
    bench.queue.expire()
    assert evictions(one) == ["queue_timeout"]


def test_leaving_evicts_all_for_the_same_reason() -> None:
    bench = Bench()
    tickets = [bench.join("a"), bench.join("b", priority=LOW), bench.join("c", flow=2)]
    bench.queue.evict_all(GOODBYE)
    assert [evictions(ticket) for ticket in tickets] == [["router_leaving"]] * 3
    assert bench.queue.depth == 0


def test_one_waiter_that_fails_does_not_cost_the_others_their_deadline(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise RuntimeError

    bench = Bench(seconds=60)
    bench.join("a", react=fail)
    two = bench.join("b")
    bench.now = 60.0
    bench.queue.expire()
    assert evictions(two) == ["queue_timeout"]
    assert caplog.messages == ["a waiter failed while it was told that it has lost its place"]


# --- What it says of itself


def drained(bench: Bench, *, every: float, times: int) -> None:
    for _ in range(times):
        bench.now += every
        bench.join("x")
        bench.queue.take()


@pytest.mark.parametrize(
    ("every", "least", "most"),
    [
        pytest.param(0.1, 9, 12, id="ten a second: a hundred need ten seconds"),
        pytest.param(1.0, 55, 60, id="one a second"),
        pytest.param(0.001, 1, 1, id="a thousand a second: never less than a second"),
        pytest.param(30.0, 60, 60, id="one in half a minute: never more than a minute"),
    ],
)
def test_retry_after_goes_by_how_fast_the_queue_drained_lately(every: float, least: int, most: int) -> None:
    bench = Bench(max_depth=100, seconds=3600)
    bench.join("a")
    for _ in range(99):
        bench.join("b")
    for _ in range(max(1, round(60 / every))):
        bench.now += every
        bench.queue.take()
        bench.join("b")
    assert least <= bench.queue.retry_after() <= most


def test_a_queue_that_does_not_drain_at_all_says_a_minute_in_the_end() -> None:
    bench = Bench(max_depth=100, seconds=3600)
    for _ in range(100):
        bench.join("a")
    assert bench.queue.retry_after() == 10
    bench.now = 100.0
    assert bench.queue.retry_after() == 60


def test_time_in_which_nobody_waited_does_not_count_as_slow_drain() -> None:
    bench = Bench(max_depth=100, seconds=3600)
    for _ in range(500):
        bench.now += 0.01
        bench.join("a")
        bench.join("b")
        bench.queue.take()
        bench.queue.take()
    bench.now += 15.0
    for _ in range(100):
        bench.join("c")
    assert bench.queue.retry_after() <= 10


def test_recent_waits_are_kept_by_flow_and_forgotten() -> None:
    bench = Bench(seconds=60)
    bench.join("a", flow="slow")
    bench.now = 20.0
    bench.join("b", flow="quick")
    bench.queue.take()
    bench.queue.take()
    assert (bench.queue.recent_wait("slow"), bench.queue.recent_wait("quick")) == (20.0, 0.0)
    bench.now = 30.0
    assert 0 < bench.queue.recent_wait("slow") < 10
    bench.now = 200.0
    assert bench.queue.recent_wait("slow") == 0
    bench.join("c", flow="slow")
    bench.now = 260.0
    bench.queue.expire()
    assert bench.queue.recent_wait("slow") == 60


@pytest.mark.parametrize(
    ("waiting", "newcomer", "share"),
    [
        pytest.param("", "n1", 0, id="nobody waits"),
        pytest.param("an1 bn1 cn1 dn1", "n1", 0.5, id="all of its own flow are before it"),
        pytest.param("an1 bn1 cn1 dn1", "n2", 0.125, id="of another flow, as many as have their turn before it"),
        pytest.param("an1 bn1 cn1 dn2", "n2", 0.375, id="its own, and two of the other"),
        pytest.param("an1 bn1 ch1 dl1", "n1", 0.375, id="a lower priority waits behind it"),
        pytest.param("an1 bn1 ch1 dl1", "l2", 0.5, id="all higher ones are before it"),
    ],
)
def test_the_share_that_is_full_for_a_newcomer(waiting: str, newcomer: str, share: float) -> None:
    priorities = {"l": LOW, "n": NORMAL, "h": HIGH}
    bench = Bench(max_depth=8)
    for join in waiting.split():
        bench.join(join[0], priority=priorities[join[1]], flow=join[2:])
    assert bench.queue.share(priorities[newcomer[0]], newcomer[1:]) == share


def test_a_recent_mean_weighs_by_age_and_falls_to_nothing() -> None:
    mean = Mean()
    assert mean.value(5.0) == 0
    mean.add(1.0, 5.0)
    mean.add(3.0, 5.0)
    assert mean.value(5.0) == 2
    mean.add(3.0, 1e6)
    assert mean.value(1e6) == 3
    assert [mean.value(1e6 + age) for age in (10.0, 100.0)] == [pytest.approx(3 / 2.71828, rel=1e-3), 0]
    assert mean.weight == 0


def test_a_rate_counts_only_the_time_in_which_something_could_happen() -> None:
    rate = Rate()
    assert rate.value(0.0, prior=7) == 7
    rate.begin(100.0)
    for tenth in range(1000):
        rate.event(100.0 + tenth / 10)
    assert rate.value(200.0, prior=0) == pytest.approx(10, rel=0.02)
    rate.end(200.0)
    assert rate.value(205.0, prior=0) == pytest.approx(10, rel=0.02)


# --- Any interleaving


class Reference:
    """The same queue, as slow and simple as can be."""

    def __init__(self) -> None:
        self.waiting: list[Ticket[Waiter]] = []
        self.turns: list[tuple[Priority, Hashable]] = []

    def of(self, priority: Priority, flow: Hashable) -> list[Ticket[Waiter]]:
        return [ticket for ticket in self.waiting if (ticket.priority, ticket.flow) == (priority, flow)]

    def add(self, ticket: Ticket[Waiter]) -> None:
        self.waiting.append(ticket)
        if (ticket.priority, ticket.flow) not in self.turns:
            self.turns.append((ticket.priority, ticket.flow))

    def remove(self, ticket: Ticket[Waiter]) -> None:
        self.waiting.remove(ticket)
        if not self.of(ticket.priority, ticket.flow):
            self.turns.remove((ticket.priority, ticket.flow))

    def next(self) -> Ticket[Waiter] | None:
        if not self.turns:
            return None
        highest = max(priority for priority, _ in self.turns)
        return self.of(*next(turn for turn in self.turns if turn[0] == highest))[0]

    def take(self) -> Ticket[Waiter] | None:
        ticket = self.next()
        if ticket is not None:
            self.remove(ticket)
            turn = ticket.priority, ticket.flow
            if turn in self.turns:
                self.turns.remove(turn)
                self.turns.append(turn)
        return ticket

    def claims(self, priority: Priority, flow: Hashable) -> bool:
        """Whether someone has a weaker claim than a newcomer."""
        lowest = min((ticket.priority for ticket in self.waiting), default=HIGH)
        if lowest == priority:
            longest = max((len(self.of(*turn)) for turn in self.turns if turn[0] == lowest), default=0)
            return longest > len(self.of(priority, flow)) + 1
        return bool(self.waiting) and lowest < priority


PRIORITIES = st.sampled_from(Priority)
FLOWS = st.sampled_from("xyz")


class OrderMachine(RuleBasedStateMachine):
    """The queue does as the reference does."""

    tickets = Bundle("tickets")

    def __init__(self) -> None:
        super().__init__()
        self.bench = Bench(max_depth=5, seconds=10)
        self.queue = self.bench.queue
        self.reference = Reference()

    @rule(target=tickets, priority=PRIORITIES, flow=FLOWS)
    def join(self, priority: Priority, flow: str) -> Ticket[Waiter] | None:
        full = len(self.reference.waiting) >= self.queue.max_depth
        if full and not self.reference.claims(priority, flow):
            self.bench.refused(priority=priority, flow=flow)
            return None
        ticket = self.bench.join("", priority=priority, flow=flow)
        if full:
            (victim,) = [other for other in self.reference.waiting if evictions(other)]
            assert victim.priority == min(other.priority for other in self.reference.waiting)
            assert victim is self.reference.of(victim.priority, victim.flow)[-1]
            self.reference.remove(victim)
        self.reference.add(ticket)
        return ticket

    @rule(ticket=tickets)
    def leave(self, ticket: Ticket[Waiter] | None) -> None:
        if ticket is not None:
            self.queue.leave(ticket)
            if ticket in self.reference.waiting:
                self.reference.remove(ticket)

    @precondition(lambda self: self.reference.waiting)
    @rule()
    def take(self) -> None:
        assert self.queue.take() is self.reference.take()

    @rule(seconds=st.sampled_from((0.5, 4.0, 11.0)))
    def advance(self, seconds: float) -> None:
        self.bench.now += seconds
        due = [ticket for ticket in self.reference.waiting if ticket.since + self.queue.seconds <= self.bench.now]
        assert (self.queue.deadline <= self.bench.now) >= bool(due)
        self.queue.expire()
        for ticket in due:
            assert evictions(ticket) == ["queue_timeout"]
            self.reference.remove(ticket)

    @rule()
    def evict_all(self) -> None:
        self.queue.evict_all(GOODBYE)
        for ticket in list(self.reference.waiting):
            assert evictions(ticket) == ["router_leaving"]
            self.reference.remove(ticket)

    @rule(depth=st.integers(0, 6), seconds=st.sampled_from((5.0, 10.0)))
    def configure(self, depth: int, seconds: float) -> None:
        self.queue.configure(max_depth=depth, seconds=seconds)

    @invariant()
    def same(self) -> None:
        assert self.queue.depth == len(self.reference.waiting)
        assert self.queue.first() is self.reference.next()
        for priority in Priority:
            assert self.queue.waiting(priority) == sum(ticket.priority == priority for ticket in self.reference.waiting)
        for ticket in self.reference.waiting:
            assert evictions(ticket) == []
            assert self.queue.deadline <= ticket.since + self.queue.seconds


class ConservationMachine(RuleBasedStateMachine):
    """Whatever waiters do when they are told to go, each ticket ends once: taken, left or evicted."""

    tickets = Bundle("tickets")

    def __init__(self) -> None:
        super().__init__()
        logging.getLogger("tokenfleet.router.queue.waiting").disabled = True
        self.bench = Bench(max_depth=4, seconds=10)
        self.queue = self.bench.queue
        self.joined: list[Ticket[Waiter]] = []
        self.ended: list[Ticket[Waiter]] = []

    def _join(self, priority: Priority, flow: str, reaction: str) -> Ticket[Waiter] | None:
        waiter = Waiter()
        tickets: list[Ticket[Waiter]] = []

        def react() -> None:
            self.ended += tickets
            if reaction == "join":
                self._join(priority, flow, "nothing")
            elif reaction == "leave" and (ticket := self.queue.first()) is not None:
                self._leave(ticket)
            elif reaction == "take" and self.queue.depth:
                self.ended.append(self.queue.take())
            elif reaction == "evict all":
                self.queue.evict_all(GOODBYE)
            elif reaction == "fail":
                raise RuntimeError

        waiter.react = react
        try:
            ticket = self.queue.join(waiter, priority=priority, flow=flow)
        except Rejected:
            return None
        tickets.append(ticket)
        self.joined.append(ticket)
        if waiter.evictions:  # By the waiter whose place it has taken.
            self.ended.append(ticket)
        return ticket

    def _leave(self, ticket: Ticket[Waiter]) -> None:
        before = self.queue.depth
        self.queue.leave(ticket)
        if self.queue.depth < before:
            self.ended.append(ticket)

    @rule(
        target=tickets,
        priority=PRIORITIES,
        flow=FLOWS,
        reaction=st.sampled_from(("nothing", "join", "leave", "take", "evict all", "fail")),
    )
    def join(self, priority: Priority, flow: str, reaction: str) -> Ticket[Waiter] | None:
        return self._join(priority, flow, reaction)

    @rule(ticket=consumes(tickets))
    def leave(self, ticket: Ticket[Waiter] | None) -> None:
        if ticket is not None:
            self._leave(ticket)

    @precondition(lambda self: self.queue.depth)
    @rule()
    def take(self) -> None:
        self.ended.append(self.queue.take())

    @rule(seconds=st.sampled_from((3.0, 11.0)))
    def advance(self, seconds: float) -> None:
        self.bench.now += seconds
        self.queue.expire()

    @rule()
    def evict_all(self) -> None:
        self.queue.evict_all(GOODBYE)

    @invariant()
    def each_ends_once(self) -> None:
        assert len(set(self.ended)) == len(self.ended)
        assert self.queue.depth == len(self.joined) - len(self.ended)
        assert self.queue.depth <= self.queue.max_depth

    def teardown(self) -> None:
        while self.queue.depth:
            self.ended.append(self.queue.take())
        assert set(self.ended) == set(self.joined)
        assert self.queue.first() is None
        logging.getLogger("tokenfleet.router.queue.waiting").disabled = False


OrderMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
ConservationMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestOrder = OrderMachine.TestCase
TestConservation = ConservationMachine.TestCase
