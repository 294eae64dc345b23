"""What a canary has to show, stage by stage: tables of evidence, with a clock of their own."""

from dataclasses import replace
from math import sqrt

import pytest

from tokenfleet.api.pods import Canary
from tokenfleet.controller.observed import TrackLoad
from tokenfleet.controller.rollouts.canary import Facts, Stage, advance, seconds_left
from tokenfleet.controller.rollouts.evidence import MIN_REQUESTS, Figures, wilson_lower

CANARY = Canary(weights=[10, 50], pause_seconds=60, max_error_rate="0.02", max_ttft_milliseconds=500)
BEGAN = "2026-03-01T12:00:00Z"


def at(seconds: float) -> str:
    return f"2026-03-01T12:{int(seconds) // 60:02}:{int(seconds) % 60:02}Z"


def facts(requests: int = 0, failed: int = 0, ttft: float | None = None, **more: object) -> Facts:
    load = TrackLoad(requests=1000 + requests, failed=10 + failed, ttft_p95=ttft)
    return replace(Facts(pod_ready=True, load=load, promote="PROMOTE"), **more)  # type: ignore[arg-type]


FIRST = Stage.first("2-ab", now=BEGAN)
ENTERED = advance(CANARY, FIRST, facts(), now=BEGAN)
"""At step 1 since BEGAN; what the routers counted before is no evidence."""


def seen(*looks: tuple[float, Facts], stage: Stage = ENTERED, canary: Canary = CANARY) -> Stage:
    """The stage after these looks at the clock and at the facts."""
    for seconds, known in looks:
        stage = advance(canary, stage, known, now=at(seconds))
    return stage


def test_it_gets_requests_once_its_pod_is_ready() -> None:
    waiting = advance(CANARY, FIRST, facts(pod_ready=False, trouble="The image cannot be pulled."), now=at(900))
    assert (waiting.phase, waiting.step, waiting.weight, waiting.since) == ("Progressing", 0, 0, BEGAN)
    assert waiting.message == "Its pod is not ready: The image cannot be pulled. It gets no requests until then."
    entered = advance(CANARY, waiting, facts(), now=at(901))
    assert (entered.step, entered.weight, entered.since, entered.began) == (1, 10, at(901), BEGAN)
    assert entered.message == "Step 1 of 2: it gets 10 % of the requests, for 60 s."


def test_a_change_that_does_well_goes_through_all_steps() -> None:
    second = seen((30, facts(100, 1)), (60, facts(200, 2)))
    assert (second.phase, second.step, second.weight, second.since) == ("Progressing", 2, 50, at(60))
    done = seen((90, facts(300, 2)), (120, facts(400, 3)), stage=second)
    assert (done.phase, done.step, done.weight, done.since) == ("Promoting", 2, 50, at(120))
    assert done.message.startswith("All steps are over: 3 of 400 requests failed (0.8%).")


@pytest.mark.parametrize(
    ("look", "words"),
    [
        pytest.param((5, facts(20, 20)), "20 of 20 requests failed (100.0%), which no chance explains", id="all fail"),
        pytest.param((5, facts(20, 3)), "3 of 20 requests failed (15.0%), which no chance explains", id="three of twenty"),
        pytest.param((5, facts(400, 20)), "20 of 400 requests failed (5.0%)", id="few, of very many"),
        pytest.param((60, facts(5, 1)), "1 of 5 requests failed (20.0%) by the end of the pause", id="one of five, at the end"),
        pytest.param((60, facts(100, 3)), "3 of 100 requests failed (3.0%) by the end of the pause", id="a little too many"),
        pytest.param((3, facts(crash="It ran out.")), "Its engine ended by itself. It ran out.", id="its engine ends"),
    ],
)
def test_a_change_that_does_badly_is_rolled_back(look: tuple[float, Facts], words: str) -> None:
    stage = seen(look)
    assert (stage.phase, stage.step, stage.weight, stage.since) == ("RolledBack", 1, 0, at(look[0]))
    assert stage.message.startswith(f"Step 1, 10 % of the requests: {words}")
    assert stage.message.endswith("Change the spec, or roll it out nevertheless: PROMOTE")


@pytest.mark.parametrize(
    "look",
    [
        pytest.param((5, facts(1, 1)), id="a single request, which failed"),
        pytest.param((5, facts(19, 19)), id="less than the least number, all failed"),
        pytest.param((5, facts(20, 2)), id="two of twenty, which may be chance"),
        pytest.param((59, facts(100, 3)), id="a little too many, and time to make up for it"),
        pytest.param((5, facts(100, 0, 9.0)), id="one slow look"),
        pytest.param((60, facts(50, 0, 0.5)), id="exactly as slow as it may be"),
    ],
)
def test_what_does_not_decide_yet(look: tuple[float, Facts]) -> None:
    assert seen(look).phase == "Progressing"


def test_a_failure_before_it_had_requests_of_its_own_is_none_of_its() -> None:
    """The routers' counters stand at 1000 and 10 already."""
    assert seen((60, facts())).figures == replace(ENTERED.figures or Figures(since="", time=""), time=at(60))


def test_first_tokens_that_stay_late_roll_it_back_and_a_late_one_does_not() -> None:
    late = facts(50, 0, 0.9)
    held = seen((40, late), (60, late), (69, late))
    assert (held.phase, held.step) == ("Progressing", 1), "the pause is over, and it holds"
    assert held.message.endswith("It holds at this step while the first token takes more than 500 ms.")
    assert seen((70, late), stage=held).message.startswith(
        "Step 1, 10 % of the requests: For 30 s, the first token took 900 ms at the 95th percentile"
    )
    recovered = seen((69, facts(60, 0, 0.2)), stage=held)
    assert (recovered.step, recovered.weight) == (2, 50)
    assert seen((30, late), (50, facts(60, 0, 0.2)), (55, late), (80, late)).phase == "Progressing", "not on end"


def test_without_a_bound_slowness_is_not_looked_at() -> None:
    bare = replace_canary(max_ttft_milliseconds=None)
    assert seen((10, facts(50, 0, 60.0)), (60, facts(60, 0, 60.0)), canary=bare).step == 2


def test_without_requests_it_goes_on_and_says_so() -> None:
    second = seen((60, facts()))
    assert (second.step, second.weight) == (2, 50)
    assert "No request has reached it yet." in second.message
    assert "No request reached it, so nothing spoke against it." in seen((120, facts()), stage=second).message


@pytest.mark.parametrize(
    ("known", "words"),
    [
        pytest.param(facts(load=None), "while not all routers tell", id="the routers do not tell"),
        pytest.param(facts(pod_ready=False, trouble="Gone."), "while its pod is not ready. Gone.", id="its pod is away"),
    ],
)
def test_what_is_not_known_never_promotes(known: Facts, words: str) -> None:
    held = seen((30, facts(100)), (600, known), (1200, known))
    assert (held.phase, held.step, held.weight) == ("Progressing", 1, 10)
    assert words in held.message
    assert seen((1201, facts(100)), stage=held).step == 2


def test_figures_survive_a_controller_that_begins_to_count_anew() -> None:
    stage = seen((30, facts(100, 1)))
    anew = Facts(pod_ready=True, load=TrackLoad(requests=7, failed=0))
    stage = seen((40, anew), (50, replace(anew, load=TrackLoad(requests=17, failed=1))), stage=stage)
    assert stage.figures is not None
    assert (stage.figures.requests, stage.figures.failed) == (110, 2)


def test_new_figures_alone_are_written_every_ten_seconds_at_most() -> None:
    stage = seen((10, facts(10)))
    assert seen((19, facts(20)), stage=stage) == stage
    assert seen((20, facts(20)), stage=stage) != stage
    assert seen((50, facts(10)), stage=stage) == stage, "nothing new"


@pytest.mark.parametrize(
    ("order", "phase", "words"),
    [
        pytest.param("promote", "Promoting", "It was promoted by hand.", id="promote"),
        pytest.param("abort", "RolledBack", "It was aborted by hand.", id="abort"),
    ],
)
@pytest.mark.parametrize("stage", [pytest.param(FIRST, id="before its pod is ready"), pytest.param(ENTERED, id="at step 1")])
def test_an_order_by_hand_is_followed_at_once(stage: Stage, order: str, phase: str, words: str) -> None:
    done = seen((1, facts(load=None, pod_ready=False, order=order)), stage=stage)
    assert (done.phase, done.since) == (phase, at(1))
    assert words in done.message


def replace_canary(**fields: object) -> Canary:
    return Canary.model_validate({**CANARY.model_dump(), **fields})


def test_weights_that_change_meanwhile_count_at_once() -> None:
    changed = seen((10, facts(10)), canary=replace_canary(weights=[20, 40]))
    assert (changed.step, changed.weight) == (1, 20)
    second = seen((60, facts(100)))
    fewer = seen((70, facts(110)), stage=second, canary=replace_canary(weights=[30]))
    assert (fewer.step, fewer.weight) == (1, 30)
    assert seen((120, facts(120)), stage=fewer, canary=replace_canary(weights=[30])).phase == "Promoting"


@pytest.mark.parametrize(
    ("stage", "now", "left"),
    [
        pytest.param(FIRST, 10, None, id="its pod is waited for"),
        pytest.param(ENTERED, 10, 50, id="the pause"),
        pytest.param(seen((15, facts(9, 0, 0.9))), 20, 25, id="slow for a while"),
        pytest.param(seen((60, facts(load=None))), 70, None, id="the routers are waited for"),
        pytest.param(seen((9, facts(crash="Oh."))), 10, None, id="it is over"),
    ],
)
def test_when_time_alone_makes_a_difference(stage: Stage, now: float, left: float | None) -> None:
    assert seconds_left(CANARY, stage, now=at(now)) == left


@pytest.mark.parametrize("stage", [FIRST, ENTERED, seen((15, facts(9, 1, 0.9))), seen((9, facts(crash="Oh.")))])
def test_a_stage_survives_in_the_status(stage: Stage) -> None:
    assert Stage.from_status(stage.as_status()) == stage


@pytest.mark.parametrize(("failed", "requests"), [(1, 1), (5, 10), (3, 20), (50, 100), (99, 100)])
def test_wilsons_interval_ends_where_so_many_failures_are_just_plausible(failed: int, requests: int) -> None:
    """By its definition: there, what was seen is 2.576 standard deviations of the true rate above it."""
    low = wilson_lower(failed, requests)
    assert 0 < low < failed / requests
    assert failed / requests - low == pytest.approx(2.576 * sqrt(low * (1 - low) / requests))


def test_no_failure_is_no_evidence() -> None:
    assert wilson_lower(0, 0) == 0.0
    assert wilson_lower(0, 100) == pytest.approx(0.0)


def test_a_good_change_is_seldom_condemned() -> None:
    """Above the rate that is allowed, but not by more than chance explains."""
    assert not Figures(since=BEGAN, time=BEGAN, requests=MIN_REQUESTS, failed=2).fail(0.02)
    assert Figures(since=BEGAN, time=BEGAN, requests=MIN_REQUESTS, failed=3).fail(0.02)
    assert not Figures(since=BEGAN, time=BEGAN, requests=200, failed=8).fail(0.02)
