"""A measurement of an engine whose steps take what we say."""

import pytest

from tests.engine.profiling.engines import SteppedEngine
from tokenfleet_engine.profiling.measure import Measured, Measurement
from tokenfleet_engine.profiling.plan import DecodePoint, Plan

PLAN = Plan(prompts=(100, 600), decode=(DecodePoint(4, 100),), repeat=3, decode_steps=10)


def measure(engine: SteppedEngine, *, plan: Plan = PLAN, all_seconds: float = 1e6, point_seconds: float = 1e6) -> Measured:
    said: list[str] = []
    measurement = Measurement(
        engine=engine, plan=plan, clock=engine.clock, say=said.append, all_seconds=all_seconds, point_seconds=point_seconds
    )
    measured = measurement.run()
    assert len(said) == len(plan.prompts) + len(plan.decode)
    return measured


def test_prefill_is_the_time_to_the_first_token_whatever_the_chunks() -> None:
    short, long = measure(SteppedEngine()).prefill
    assert short.seconds == pytest.approx([0.11] * 3)
    assert long.seconds == pytest.approx([0.63] * 3)
    assert (short.steps, long.steps) == (1, 3)
    assert (short.blocks, long.blocks) == (7, 38)


def test_decode_counts_the_steps_of_the_whole_batch_alone() -> None:
    (result,) = measure(SteppedEngine()).decode
    assert result.seconds == pytest.approx([0.01] * 10)
    assert result.output_tokens == 40
    assert 100 < result.mean_context_tokens < 115


def test_all_steps_but_the_warm_up_are_kept_as_samples() -> None:
    measured = measure(SteppedEngine())
    kinds = [step.scheduled.kind for step in measured.steps]
    assert kinds.count("decode") == 10
    assert kinds.count("prefill") == 3 * 1 + 3 * 3 + 2, "three repeats of one and of three chunks, and the batch's filling"


def test_an_engine_that_guesses_several_tokens_is_counted_by_its_tokens() -> None:
    plan = Plan(prompts=(), decode=(DecodePoint(2, 100),), repeat=1, decode_steps=10)
    (result,) = measure(SteppedEngine(said_per_step=2), plan=plan).decode
    assert result.output_tokens == 4 * len(result.seconds)
    assert len(result.seconds) < 10, "its answers are at their end before all steps were taken"


def test_a_point_that_takes_too_long_keeps_what_it_has() -> None:
    short, long = measure(SteppedEngine(), point_seconds=1.3).prefill
    assert len(short.seconds) == 3
    assert len(long.seconds) == 2


def test_a_point_that_was_not_measured_even_once_is_left_out_with_the_limit() -> None:
    measured = measure(SteppedEngine(), point_seconds=0.3)
    assert [(skipped.point, skipped.reason) for skipped in measured.skipped] == [
        ("prefill of 600 tokens", "the point's time was over (--point-seconds 0.3)"),
        ("decode of 4 × 100 tokens", "the point's time was over (--point-seconds 0.3)"),
    ]


def test_after_the_runs_time_every_point_is_left_out() -> None:
    measured = measure(SteppedEngine(), all_seconds=0.2)
    assert {skipped.reason for skipped in measured.skipped} == {"the run's time was over (--max-seconds 0.2)"}
    assert len(measured.prefill) == 1


def test_a_point_leaves_nothing_in_the_engine() -> None:
    engine = SteppedEngine()
    measure(engine)
    assert engine.sequences == []
    assert engine.resets == 3
