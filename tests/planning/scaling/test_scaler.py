"""The decision, case by case: each reason once with its whole sentence, and what must never happen."""

from dataclasses import replace
from pathlib import Path

import pytest

from tokenfleet.planning.scaling import REASONS, Decision, Policy, Scaler, Schedule, Signal, reasons
from tokenfleet.planning.scaling.policy import LESSON_SECONDS, MISSING_SECONDS, SLO_WINDOW_SECONDS, WARM_UP_SECONDS

DOCS = Path(__file__).parent.parent.parent.parent / "docs" / "scaling.md"
POLICY = Policy(min_replicas=1, max_replicas=8, max_in_flight=20)
"""A replica carries twelve, and five may wait for each."""
ZERO = replace(POLICY, min_replicas=0, scale_to_zero_seconds=600)
DAY = replace(POLICY, schedules=(Schedule(cron="0 8 * * *", timezone="UTC", min_replicas=3, max_replicas=5),))
HOUR = 3600.0


def load(waiting: int = 0, in_flight: int = 0, ready: int = 2, **more: float | None) -> Signal:
    return Signal(waiting=waiting, in_flight=in_flight, ready=ready, **more)  # type: ignore[arg-type]


def decide(policy: Policy, desired: int, signal: Signal | None, *, at: float = 1, budget: int | None = None) -> Decision:
    """The first decision of a controller that has just begun."""
    return Scaler(policy, desired=desired, now=0).decide(signal, now=at, budget=budget)


@pytest.mark.parametrize(
    ("policy", "desired", "signal", "expected"),
    [
        pytest.param(
            POLICY,
            2,
            load(23, 40),
            Decision(3, reasons.QUEUE_DEPTH, "23 requests wait for 2 replicas, more than 5 each: 3 wanted."),
            id="more wait than five each: as many as will have taken enough of them",
        ),
        pytest.param(
            POLICY,
            2,
            load(60, 40),
            Decision(5, reasons.QUEUE_DEPTH, "60 requests wait for 2 replicas, more than 5 each: 5 wanted."),
            id="a long queue asks for several at once",
        ),
        pytest.param(
            POLICY,
            2,
            load(10, 40),
            Decision(2, reasons.STEADY, "The load needs 2 replicas."),
            id="five for each may wait",
        ),
        pytest.param(
            POLICY,
            3,
            load(27, 40, starting=1),
            Decision(3, reasons.WARMING_UP, "3 wanted, and not all of them serve yet."),
            id="what waits is left to the replica that loads",
        ),
        pytest.param(
            POLICY,
            3,
            load(28, 40, starting=1),
            Decision(
                4,
                reasons.QUEUE_DEPTH,
                "28 requests wait for 2 replicas, and 1 more that is starting: 4 wanted.",
            ),
            id="more waits than the one that loads will take",
        ),
        pytest.param(
            POLICY,
            5,
            load(28, 40, pending=3),
            Decision(5, reasons.PODS_PENDING, "5 wanted, and not all of them have a node."),
            id="pods without a node are no capacity, and a queue that stands does not ask for ever more of them",
        ),
        pytest.param(
            POLICY,
            3,
            load(60, 40, pending=1),
            Decision(5, reasons.QUEUE_DEPTH, "60 requests wait for 2 replicas, more than 5 each: 5 wanted."),
            id="a pod without a node keeps nobody from asking for more",
        ),
        pytest.param(
            POLICY,
            2,
            load(90, 0, ready=0),
            Decision(6, reasons.QUEUE_DEPTH, "90 requests wait, and no replica serves or is starting: 6 wanted."),
            id="all replicas are lost",
        ),
        pytest.param(
            replace(POLICY, concurrency=10),
            2,
            load(0, 31),
            Decision(4, reasons.CONCURRENCY, "31 requests run or wait, of which each replica should have 10: 4 wanted."),
            id="more than concurrency each",
        ),
        pytest.param(
            POLICY,
            2,
            load(500, 40),
            Decision(
                8, reasons.MAX_REPLICAS, "500 requests wait for 2 replicas, more than 5 each: 31 wanted, and maxReplicas is 8."
            ),
            id="no more than maxReplicas",
        ),
        pytest.param(
            POLICY,
            8,
            load(500, 160, ready=8),
            Decision(8, reasons.MAX_REPLICAS, "More are wanted than maxReplicas, 8."),
            id="at maxReplicas",
        ),
        pytest.param(
            POLICY,
            9,
            load(0, 100, ready=9),
            Decision(8, reasons.MAX_REPLICAS, "maxReplicas is 8: 8 wanted instead of 9."),
            id="above maxReplicas, which was lowered",
        ),
        pytest.param(
            POLICY,
            0,
            load(ready=0),
            Decision(1, reasons.MIN_REPLICAS, "minReplicas is 1: 1 wanted."),
            id="below minReplicas, which was raised",
        ),
        pytest.param(
            ZERO,
            0,
            load(ready=0),
            Decision(0, reasons.SCALED_TO_ZERO, "None runs. The next request wakes the model."),
            id="asleep",
        ),
        pytest.param(
            ZERO,
            0,
            load(1, ready=0),
            Decision(1, reasons.WAKE_UP, "1 request waits, and none was wanted: 1 wanted."),
            id="a request wakes the model",
        ),
        pytest.param(
            ZERO,
            0,
            load(40, ready=0),
            Decision(3, reasons.QUEUE_DEPTH, "40 requests wait, and no replica serves or is starting: 3 wanted."),
            id="many requests wake more than one",
        ),
        pytest.param(
            ZERO,
            0,
            load(0, ready=0, idle_seconds=1.0),
            Decision(1, reasons.WAKE_UP, "A request came, and none was wanted: 1 wanted."),
            id="a request that could not wait wakes it too",
        ),
    ],
)
def test_at_once(policy: Policy, desired: int, signal: Signal, expected: Decision) -> None:
    assert decide(policy, desired, signal, at=5) == expected


def test_a_request_from_before_the_sleep_wakes_nobody() -> None:
    assert decide(ZERO, 0, load(ready=0, idle_seconds=4.0), at=5).desired == 0


def test_down_after_a_whole_window_to_its_highest_need() -> None:
    scaler = Scaler(POLICY, desired=6, now=0)
    scaler.decide(load(0, 70, ready=6), now=1)
    scaler.decide(load(0, 25, ready=6), now=10)
    scaler.decide(load(0, 3, ready=6), now=100)
    assert scaler.decide(load(0, 3, ready=6), now=309.9).reason == reasons.STEADY
    assert scaler.decide(load(0, 3, ready=6), now=310) == Decision(
        3, reasons.LOAD_FELL, "At most 25 requests at a time in the last 300 s: 3 wanted instead of 6."
    )
    assert scaler.decide(load(0, 3, ready=3), now=609).desired == 3, "the next step is a window later"
    assert scaler.decide(load(0, 3, ready=3), now=610) == Decision(
        1, reasons.LOAD_FELL, "At most 3 requests at a time in the last 300 s: 1 wanted instead of 3."
    )


def test_a_load_that_fell_fast_costs_one_step_and_not_one_for_each_replica() -> None:
    scaler = Scaler(POLICY, desired=6, now=0)
    for at, running in ((1, 70), (5, 58), (9, 40), (13, 20), (17, 5)):
        scaler.decide(load(0, running, ready=6), now=at)
    assert scaler.decide(load(0, 5, ready=6), now=305).desired == 6
    assert scaler.decide(load(0, 5, ready=6), now=317).desired == 1


def test_a_single_peak_within_the_window_keeps_the_replicas() -> None:
    scaler = Scaler(POLICY, desired=4, now=0)
    scaler.decide(load(0, 3, ready=4), now=1)
    scaler.decide(load(0, 48, ready=4), now=200)
    scaler.decide(load(0, 3, ready=4), now=201)
    assert scaler.decide(load(0, 3, ready=4), now=500).desired == 4
    assert scaler.decide(load(0, 3, ready=4), now=501).desired == 1


def test_no_fewer_than_min_replicas() -> None:
    scaler = Scaler(replace(POLICY, min_replicas=2), desired=4, now=0)
    scaler.decide(load(ready=4), now=1)
    assert scaler.decide(load(ready=4), now=301) == Decision(
        2, reasons.LOAD_FELL, "No request in the last 300 s, and minReplicas is 2: 2 wanted instead of 4."
    )
    scaler.decide(load(ready=2), now=302)
    assert scaler.decide(load(ready=2), now=700) == Decision(
        2, reasons.MIN_REPLICAS, "minReplicas is 2, and the load needs fewer."
    )


class TestSlo:
    POLICY = replace(POLICY, ttft_seconds=2.0, itl_seconds=0.05)

    def settled(self, desired: int, signal: Signal) -> Scaler:
        scaler = Scaler(self.POLICY, desired=desired, now=0)
        scaler.decide(replace(signal, ttft_p95=None, itl_p95=None), now=1)
        return scaler

    @pytest.mark.parametrize(
        ("slow", "reason", "message"),
        [
            pytest.param(
                {"ttft_p95": 2.5},
                reasons.TTFT,
                "First tokens take 2500 ms at the 95th percentile, and 2000 ms are promised, with 2 replicas: 3 wanted.",
                id="first tokens",
            ),
            pytest.param(
                {"itl_p95": 0.08},
                reasons.ITL,
                "Tokens take 80 ms at the 95th percentile, and 50 ms are promised, with 2 replicas: 3 wanted.",
                id="tokens",
            ),
        ],
    )
    def test_a_broken_promise_asks_for_one_more(self, slow: dict[str, float], reason: str, message: str) -> None:
        signal = replace(load(0, 20), **slow)  # type: ignore[arg-type]
        scaler = self.settled(2, signal)
        assert scaler.decide(signal, now=SLO_WINDOW_SECONDS).desired == 2, "the percentiles speak of what was before"
        assert scaler.decide(signal, now=SLO_WINDOW_SECONDS + 1) == Decision(3, reason, message)

    def test_only_one_until_that_one_has_served_for_a_while(self) -> None:
        slow = load(0, 20, ttft_p95=9.0)
        scaler = self.settled(2, slow)
        assert scaler.decide(slow, now=100).desired == 3
        for at in range(101, 160):
            assert scaler.decide(replace(slow, starting=1), now=at).desired == 3
        for at in range(160, 160 + int(SLO_WINDOW_SECONDS)):
            assert scaler.decide(replace(slow, ready=3), now=at).desired == 3
        assert scaler.decide(replace(slow, ready=3), now=160 + SLO_WINDOW_SECONDS).desired == 4

    def test_pods_that_load_for_ever_are_not_waited_for_for_ever(self) -> None:
        slow = load(0, 20, ttft_p95=9.0, starting=1)
        scaler = self.settled(3, slow)
        assert scaler.decide(slow, now=WARM_UP_SECONDS).desired == 3
        assert scaler.next_look == 1
        assert scaler.decide(replace(slow, ready=3), now=WARM_UP_SECONDS + 1).desired == 3
        assert scaler.decide(replace(slow, ready=3), now=WARM_UP_SECONDS + 100).desired == 3, "something came of it"
        assert scaler.decide(replace(slow, ready=3), now=2 * WARM_UP_SECONDS + 1).desired == 4

    def test_replicas_without_a_node_are_not_asked_for_again_and_again(self) -> None:
        slow = load(0, 20, ttft_p95=9.0, pending=1)
        scaler = self.settled(2, slow)
        assert [scaler.decide(slow, now=at).desired for at in range(100, 3000, 100)] == [3] * 29

    def test_more_replicas_do_not_help_where_each_has_one_request(self) -> None:
        slow = load(0, 2, ttft_p95=9.0)
        assert self.settled(2, slow).decide(slow, now=100).reason == reasons.STEADY

    def test_what_was_too_much_for_a_replica_is_not_tried_again(self) -> None:
        slow, fast = load(0, 12, ready=1, ttft_p95=3.0), load(0, 12, ready=2, ttft_p95=0.5)
        scaler = self.settled(1, slow)
        assert scaler.decide(slow, now=100).desired == 2
        assert {scaler.decide(fast, now=at).desired for at in range(200, 6000, 10)} == {2}, "twelve would fit on one"
        scaler.decide(fast, now=101 + LESSON_SECONDS)
        assert scaler.decide(fast, now=401 + LESSON_SECONDS).desired == 1, "and is tried again after hours"

    def test_a_promise_that_is_nearly_broken_keeps_the_replicas(self) -> None:
        scaler = self.settled(3, load(0, 5, ready=3))
        near = load(0, 5, ready=3, ttft_p95=1.9)
        assert {scaler.decide(near, now=at).desired for at in range(10, 900, 10)} == {3}
        scaler.decide(replace(near, ttft_p95=1.0), now=900)
        assert scaler.decide(replace(near, ttft_p95=1.0), now=1200).desired == 1


def test_a_step_down_that_is_taken_back_teaches() -> None:
    scaler = Scaler(POLICY, desired=2, now=0)
    on_two, on_one = load(0, 11, ready=2), load(9, 20, ready=1)
    scaler.decide(on_two, now=1)
    assert scaler.decide(on_two, now=301).desired == 1
    assert scaler.decide(on_one, now=350).desired == 2
    assert {scaler.decide(on_two, now=at).desired for at in range(400, 6000, 10)} == {2}


def test_a_new_load_after_a_step_down_teaches_nothing() -> None:
    scaler = Scaler(POLICY, desired=2, now=0)
    scaler.decide(load(0, 1, ready=2), now=1)
    assert scaler.decide(load(0, 1, ready=2), now=301).desired == 1
    assert scaler.decide(load(9, 20, ready=1), now=350).desired == 2
    scaler.decide(load(0, 11, ready=2), now=360)
    assert scaler.decide(load(0, 11, ready=2), now=660).desired == 1


def test_a_replica_that_has_just_become_ready_takes_what_waits_first() -> None:
    scaler = Scaler(POLICY, desired=3, now=0)
    scaler.decide(load(27, 40, starting=1), now=1)
    assert scaler.decide(load(27, 40, ready=3), now=30).desired == 3
    assert scaler.decide(load(27, 60, ready=3), now=34).desired == 4


class TestSleep:
    def test_to_zero_after_the_idle_time(self) -> None:
        scaler = Scaler(ZERO, desired=2, now=0)
        scaler.decide(load(0, 1), now=1)
        assert scaler.decide(load(idle_seconds=599.0), now=600).desired == 1, "one is enough meanwhile"
        assert scaler.decide(load(ready=1, idle_seconds=600.0), now=601) == Decision(
            0, reasons.IDLE, "No request for 600 s: 0 wanted instead of 1."
        )

    def test_not_sooner_after_the_controller_has_begun(self) -> None:
        scaler = Scaler(ZERO, desired=1, now=0)
        assert scaler.decide(load(ready=1, idle_seconds=90_000.0), now=599).desired == 1
        assert scaler.decide(load(ready=1, idle_seconds=90_000.0), now=600).desired == 0

    def test_routers_that_began_without_a_request_know_no_idle_time(self) -> None:
        scaler = Scaler(ZERO, desired=1, now=0)
        scaler.decide(load(0, 1, ready=1), now=100)
        assert scaler.decide(load(ready=1), now=699).desired == 1
        assert scaler.decide(load(ready=1), now=700).desired == 0

    def test_set_by_hand_while_idle_it_runs_for_the_idle_time(self) -> None:
        scaler = Scaler(ZERO, desired=0, now=0)
        scaler.restart(2, now=1000)
        assert scaler.decide(load(ready=2, idle_seconds=5000.0), now=1001).desired == 2
        assert scaler.decide(load(ready=2, idle_seconds=5599.0), now=1600).desired == 0

    def test_without_an_idle_time_it_never_sleeps(self) -> None:
        scaler = Scaler(POLICY, desired=1, now=0)
        assert scaler.decide(load(ready=1, idle_seconds=1e6), now=1e6).desired == 1


class TestMissing:
    def test_the_count_is_held(self) -> None:
        scaler = Scaler(POLICY, desired=4, now=0)
        scaler.decide(load(0, 1, ready=4), now=1)
        held = Decision(4, reasons.SIGNAL_MISSING, "Not every router reports its load: the count is held at 4.")
        assert [scaler.decide(None, now=at) for at in range(2, 4000, 100)] == [held] * 40

    def test_and_the_window_begins_anew_when_it_is_back(self) -> None:
        scaler = Scaler(POLICY, desired=4, now=0)
        scaler.decide(load(0, 1, ready=4), now=1)
        scaler.decide(None, now=290)
        scaler.decide(load(0, 1, ready=4), now=295)
        assert scaler.decide(load(0, 1, ready=4), now=594).desired == 4
        assert scaler.decide(load(0, 1, ready=4), now=595).desired == 1

    def test_what_sleeps_is_woken_after_a_while(self) -> None:
        scaler = Scaler(ZERO, desired=0, now=0)
        assert scaler.decide(None, now=1) == Decision(
            0, reasons.SIGNAL_MISSING, "Not every router reports its load: the count is held at 0."
        )
        assert scaler.next_look == MISSING_SECONDS
        assert scaler.decide(None, now=1 + MISSING_SECONDS) == Decision(
            1, reasons.SIGNAL_MISSING, "No load is known for 120 s, and requests may wait: 1 wanted."
        )

    def test_a_minimum_that_rises_holds_all_the_same(self) -> None:
        scaler = Scaler(DAY, desired=1, now=25 * HOUR)
        assert scaler.decide(None, now=32 * HOUR).desired == 3


class TestBudget:
    def test_no_more_than_it_has_room_for(self) -> None:
        decision = decide(POLICY, 2, load(60, 40), budget=3)
        text = "60 requests wait for 2 replicas, more than 5 each: 5 wanted, and the budget of GPUs has room for 3."
        assert decision == Decision(3, reasons.BUDGET_EXHAUSTED, text)

    @pytest.mark.parametrize(
        "budget", [pytest.param(2, id="unknown, or just enough"), pytest.param(0, id="lowered: what runs stays")]
    )
    def test_no_room_at_all(self, budget: int) -> None:
        decision = decide(POLICY, 2, load(60, 40), budget=budget)
        text = "More are wanted than the 2 replicas that the budget of GPUs has room for."
        assert decision == Decision(2, reasons.BUDGET_EXHAUSTED, text)

    def test_it_is_asked_again_at_the_same_moment(self) -> None:
        scaler = Scaler(POLICY, desired=2, now=0)
        assert scaler.decide(load(60, 40), now=1, budget=2).reason == reasons.BUDGET_EXHAUSTED
        assert scaler.next_look == 15
        assert scaler.decide(load(60, 40), now=1, budget=9).desired == 5

    def test_it_says_nothing_while_no_more_are_wanted(self) -> None:
        assert decide(POLICY, 2, load(0, 20), budget=0).reason == reasons.STEADY

    def test_the_minimum_obeys_it_too(self) -> None:
        assert decide(replace(POLICY, min_replicas=5), 1, load(ready=1), budget=2) == Decision(
            2, reasons.BUDGET_EXHAUSTED, "minReplicas is 5: 5 wanted, and the budget of GPUs has room for 2."
        )


class TestSchedules:
    def test_its_bounds_hold_from_its_time_on(self) -> None:
        night = replace(DAY, schedules=(*DAY.schedules, Schedule(cron="0 20 * * *", timezone="UTC", min_replicas=1)))
        scaler = Scaler(night, desired=1, now=7 * HOUR)
        quiet = load(ready=1)
        assert scaler.decide(quiet, now=8 * HOUR - 1).desired == 1
        assert scaler.next_look == 1
        assert scaler.decide(quiet, now=8 * HOUR) == Decision(
            3, reasons.MIN_REPLICAS, "minReplicas is 3 by the schedule '0 8 * * *' (UTC): 3 wanted."
        )
        assert scaler.decide(load(500, 60, ready=3), now=9 * HOUR).desired == 5, "its maxReplicas"
        for at in (18 * HOUR, 19 * HOUR):
            scaler.decide(quiet, now=at)
        assert scaler.decide(quiet, now=20 * HOUR - 1).desired == 3
        assert scaler.decide(quiet, now=20 * HOUR).desired == 1, "that it was idle is known already"


def test_set_by_hand_is_the_count_and_a_new_window() -> None:
    scaler = Scaler(POLICY, desired=1, now=0)
    scaler.decide(load(ready=1), now=290)
    scaler.restart(4, now=300)
    assert scaler.decide(load(ready=4), now=301) == Decision(4, reasons.REPLICAS_SET, "spec.replicas was set: 4 wanted.")
    assert scaler.decide(load(ready=4), now=599).desired == 4
    assert scaler.decide(load(ready=4), now=601).desired == 1
    scaler.restart(99, now=602)
    assert scaler.desired == 8


def test_a_new_policy_changes_the_bounds_at_once_and_forgets_nothing_else() -> None:
    scaler = Scaler(POLICY, desired=4, now=0)
    scaler.decide(load(0, 1, ready=4), now=1)
    scaler.adopt(replace(POLICY, min_replicas=2, max_replicas=3))
    assert scaler.decide(load(0, 1, ready=4), now=2).desired == 3
    scaler.adopt(replace(POLICY, max_replicas=3, stabilization_seconds=100))
    assert scaler.decide(load(0, 1, ready=3), now=101).desired == 3, "there was a step down at 2"
    assert scaler.decide(load(0, 1, ready=3), now=102).desired == 1


def test_a_clock_that_goes_back_stands_still() -> None:
    scaler = Scaler(POLICY, desired=4, now=1000)
    scaler.decide(load(0, 1, ready=4), now=1001)
    assert scaler.decide(load(0, 1, ready=4), now=500).desired == 4
    assert scaler.decide(load(0, 1, ready=4), now=1301).desired == 1


def test_the_page_of_reasons_is_current() -> None:
    rows = [f"| `{reason}` | {text} |" for reason, text in REASONS.items()]
    table = DOCS.read_text().partition("## Reasons\n")[2].partition("\n## ")[0]
    written = [line for line in table.splitlines() if line.startswith("| `")]
    assert written == rows, "write these rows into docs/scaling.md:\n" + "\n".join(rows)


def test_every_reason_is_a_camel_case_word_with_a_sentence() -> None:
    constants = {value for name, value in vars(reasons).items() if name.isupper() and isinstance(value, str)}
    assert constants == REASONS.keys()
    for reason, text in REASONS.items():
        assert reason.isalnum() and reason[0].isupper()
        assert text.endswith(".")
