"""The fit: it finds the coefficients that made the measurements, and says truly how far it is off."""

from collections.abc import Sequence
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenfleet_engine.simulation.fitting import least_squares
from tokenfleet_engine.simulation.fitting.design import Batch, Lone, mixed_load, trials
from tokenfleet_engine.simulation.fitting.run import compare, predict, solve
from tokenfleet_engine.simulation.replay import Load, Outcome, replay
from tokenfleet_engine.simulation.scheduler import Limits
from tokenfleet_engine.simulation.timing import Coefficients

LIMITS = Limits(max_num_seqs=32, max_num_batched_tokens=512, block_size=16, blocks=8192)
TRUE = Coefficients(request=0.006, step=0.004, decode=0.0002, context_token=4e-7, prompt_token=2e-5, attended_token=3e-9)
CONTEXT = 2048


def _measured(loads: Sequence[Load], *, noise: float = 0.0, random: Random | None = None) -> list[Outcome]:
    """What an engine would show that is as the model says, but for noise."""
    outcomes = replay(loads, LIMITS, TRUE)
    for outcome in outcomes:
        factor = 1 + noise * (random.random() - 0.5) if random else 1.0
        outcome.tokens = [at * factor for at in outcome.tokens]
    return outcomes


def test_the_trials_of_an_engine_give_its_coefficients() -> None:
    equations = [trial.equation(_measured(trial.loads())) for trial in trials(LIMITS, context=CONTEXT)]
    found = solve([each for each in equations if each is not None])
    assert found.request == pytest.approx(TRUE.request, rel=0.05)
    assert found.step == pytest.approx(TRUE.step, rel=0.05)
    assert found.decode == pytest.approx(TRUE.decode, rel=0.05)
    assert found.context_token == pytest.approx(TRUE.context_token, rel=0.1)
    assert found.prompt_token == pytest.approx(TRUE.prompt_token, rel=0.05)


def test_a_load_that_the_fit_has_not_seen_is_predicted() -> None:
    random = Random(1)
    equations = [
        trial.equation(_measured(trial.loads(), noise=0.1, random=random)) for trial in trials(LIMITS, context=CONTEXT)
    ]
    found = solve([each for each in equations if each is not None])
    loads = mixed_load(60, per_second=20, context=CONTEXT, random=random)
    errors = compare(_measured(loads), replay(loads, LIMITS, found), per_second=20)
    assert max(figure["error_percent"] for figure in errors.figures.values()) < 10


def test_an_error_is_the_mean_of_what_each_request_is_off() -> None:
    real = [Outcome(0.0, [0.1 + 0.1 * token for token in range(10)]), Outcome(0.0, [0.2 + 0.1 * token for token in range(10)])]
    ours = [Outcome(0.0, [0.15 + 0.1 * token for token in range(10)]), Outcome(0.0, [0.2 + 0.1 * token for token in range(10)])]
    errors = compare(real, ours, per_second=1)
    assert errors.figures["first"] == {"measured_ms": 150.0, "predicted_ms": 175.0, "error_percent": 25.0}
    assert errors.figures["between"]["error_percent"] == 0.0


def test_streams_that_come_in_lumps_are_left_out() -> None:
    outcomes = _measured(Batch(4, 100).loads())
    whole = Batch(4, 100).equation(outcomes)
    outcomes[0].tokens = [outcomes[0].tokens[-1]] * len(outcomes[0].tokens)
    without = Batch(4, 100).equation(outcomes)
    assert whole is not None
    assert without is not None
    assert without.seconds == pytest.approx(whole.seconds, rel=0.02)
    for outcome in outcomes:
        outcome.tokens = [outcome.tokens[-1]] * len(outcome.tokens)
    assert Batch(4, 100).equation(outcomes) is None


def test_a_lone_prompt_takes_as_many_steps_as_its_chunks() -> None:
    equation = Lone(1100, 512).equation(_measured(Lone(1100, 512).loads()))
    assert equation is not None
    assert equation.work["step"] == 3
    assert predict(equation, TRUE) == pytest.approx(equation.seconds, rel=0.01)


def test_a_mixed_load_is_of_all_lengths_and_fits_the_context() -> None:
    loads = mixed_load(500, per_second=10, context=CONTEXT, random=Random(0))
    assert all(load.prompt_tokens + load.answer_tokens <= CONTEXT for load in loads)
    assert min(load.prompt_tokens for load in loads) < 12
    assert 40 < loads[-1].at < 60
    assert max(load.prompt_tokens for load in loads) > 900


@given(
    st.lists(st.floats(0.01, 10), min_size=3, max_size=3),
    st.lists(st.lists(st.floats(0.1, 10), min_size=3, max_size=3), min_size=6, max_size=12),
)
def test_least_squares_is_as_good_as_what_made_the_rows(factors: list[float], rows: list[list[float]]) -> None:
    measured = [sum(value * factor for value, factor in zip(row, factors, strict=True)) for row in rows]
    found = least_squares.fit(rows, measured)
    assert all(factor >= 0 for factor in found)
    for row, seconds in zip(rows, measured, strict=True):
        assert sum(value * factor for value, factor in zip(row, found, strict=True)) == pytest.approx(seconds, rel=0.01)


def test_no_coefficient_is_below_zero() -> None:
    rows = [[1.0, 1.0], [1.0, 2.0], [1.0, 3.0]]
    assert least_squares.fit(rows, [3.0, 2.0, 1.0])[1] == 0.0


def test_what_no_row_tells_of_is_zero() -> None:
    assert least_squares.fit([[2.0, 0.0], [4.0, 0.0]], [1.0, 2.0]) == [pytest.approx(0.5), 0.0]


def test_a_replay_is_in_the_order_of_its_requests() -> None:
    loads = [Load(1.0, 10, 3), Load(0.0, 20, 2)]
    late, early = replay(loads, LIMITS, TRUE)
    assert (len(late.tokens), len(early.tokens)) == (3, 2)
    assert early.first == pytest.approx(late.first, rel=0.1)
