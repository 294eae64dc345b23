"""Fits: what made the points is found again, and an engine that was not made by the formulas is predicted."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from tests.planning.speed.models import CPU, DENSE, H100, on
from tests.planning.speed.virtual import run
from tokenfleet.cli.plan.measuring import Grid, Load, grid_of
from tokenfleet.planning.speed import Calibration, Point, Workload, default_calibration, estimate_speed, fit
from tokenfleet.planning.speed.least_squares import minimise
from tokenfleet.planning.speed.points import Errors, errors_of, predict
from tokenfleet.planning.speed.published import public_model
from tokenfleet_engine.simulation.scheduler import Limits
from tokenfleet_engine.simulation.timing import DEFAULT, read_timing

PAGE = Path(__file__).parents[3] / "docs" / "speed.md"
DEMO = public_model(
    {
        "name": "LlamaForCausalLM", "layers": 3, "hidden": 128, "intermediate": 384, "heads": 4, "kv_heads": 2, "head_dim": 32,
        "vocabulary": 261, "tied": True,
    }
)  # fmt: skip
"""What the simulator's default timing was measured with."""
SERVING = on(CPU, max_num_seqs=64, max_num_batched_tokens=2048)
LIMITS = Limits(max_num_seqs=64, max_num_batched_tokens=2048, block_size=16, blocks=4096)
GRID = grid_of(max_tokens=2048, max_num_seqs=64)


def simulated(**load: float) -> Point:
    return run(read_timing(DEFAULT).seconds, LIMITS, **{"seconds": 24.0, "warmup": 4.0, **load})[0]  # type: ignore[arg-type]


@cache
def measured() -> tuple[list[Point], list[Point]]:
    def points(loads: Sequence[Load]) -> list[Point]:
        return [
            simulated(input_tokens=each.input_tokens, output_tokens=each.output_tokens, concurrency=each.concurrency)
            for each in loads
        ]

    return points(GRID.fitted), points(GRID.held_out)


@cache
def fitted() -> Calibration:
    points, held_out = measured()
    return fit(points, DEMO, SERVING, held_out=held_out, source="the simulator")


def test_what_made_the_points_is_found_again() -> None:
    """Of one model nothing tells a step's overhead from reading the weights: their sum is found."""
    true = replace(default_calibration(H100), compute=0.5, bandwidth=0.7, step_seconds=0.004, sequence_seconds=5e-5)
    points = []
    for tokens, answer, concurrency in ((128, 128, 1), (128, 128, 64), (2048, 128, 1), (2048, 256, 16), (512, 64, 8)):
        load = Workload(input_tokens=tokens, output_tokens=answer, concurrency=concurrency)
        speed = estimate_speed(DENSE, on(H100), load, true)
        point = Point(input_tokens=tokens, output_tokens=answer, concurrency=concurrency, ttft=speed.ttft)
        points.append(replace(point, itl=speed.itl, output_tokens_per_second=speed.output_tokens_per_second))
    found = fit(points, DENSE, on(H100))
    assert found.compute == pytest.approx(true.compute, rel=0.02)
    assert _step(found) == pytest.approx(_step(true), rel=0.02)
    assert found.error < 0.02


def _step(calibration: Calibration) -> float:
    return calibration.step_seconds + DENSE.weight_bytes / 3350e9 / calibration.bandwidth


def test_an_engine_that_schedules_by_itself_is_predicted_where_it_was_not_measured() -> None:
    """Closed loops: lengths and concurrencies between those that were fitted to."""
    found = fitted()
    assert found.flops is not None
    assert found.ttft_error is not None and found.ttft_error < 0.12
    assert found.itl_error is not None and found.itl_error < 0.05
    assert found.throughput_error is not None and found.throughput_error < 0.04


@cache
def opened() -> Errors:
    """Of open loads, predicted from closed ones."""
    pairs = []
    for tokens, answer, share in ((160, 128, 0.3), (160, 128, 0.6), (160, 128, 0.85), (640, 128, 0.3), (640, 128, 0.7)):
        load = Workload(input_tokens=tokens, output_tokens=answer, rate=1.0)
        rate = share * estimate_speed(DEMO, SERVING, load, fitted()).capacity
        point = simulated(input_tokens=tokens, output_tokens=answer, rate=rate)
        pairs.append((point, predict(point, DEMO, SERVING, fitted())))
    return errors_of(pairs)


def test_an_open_load_is_predicted_from_closed_ones() -> None:
    found = opened()
    assert found.ttft is not None and found.ttft < 0.15
    assert found.itl is not None and found.itl < 0.12
    assert found.throughput is not None and found.throughput < 0.06


def test_the_page_tells_both_errors() -> None:
    closed, page = fitted(), " ".join(PAGE.read_text().split())
    assert f"TTFT is off by {closed.ttft_error:.0%}, ITL by {closed.itl_error:.0%} and tokens a second by" in page
    assert f"tokens a second by {closed.throughput_error:.0%} at the lengths" in page
    found = opened()
    assert f"TTFT {found.ttft:.0%}, ITL {found.itl:.0%}, tokens a second {found.throughput:.0%}. So the formulas" in page


def test_the_capacity_is_where_an_engine_stops_keeping_up() -> None:
    load = Workload(input_tokens=160, output_tokens=128, rate=1.0)
    capacity = estimate_speed(DEMO, SERVING, load, fitted()).capacity
    below, above = (simulated(input_tokens=160, output_tokens=128, rate=capacity * each) for each in (0.85, 1.25))
    assert above.ttft is not None and below.ttft is not None
    assert above.ttft > 20 * below.ttft


def test_one_odd_run_does_not_bend_the_rest() -> None:
    points, held_out = measured()
    assert points[1].ttft is not None
    odd = [replace(point, ttft=10 * (point.ttft or 0.0)) if number == 1 else point for number, point in enumerate(points)]
    found = fit(odd, DEMO, SERVING, held_out=held_out)
    assert found.itl_error is not None and found.itl_error < 0.08


def test_a_calibration_needs_a_point_and_a_point_a_measurement() -> None:
    with pytest.raises(ValueError, match="at least one measured point"):
        fit([], DENSE, on(H100))
    with pytest.raises(ValueError, match="at least one of ttft, itl and output_tokens_per_second"):
        Point(input_tokens=1, output_tokens=2, concurrency=1)
    with pytest.raises(ValueError, match=r"itl must be above 0 \(given: 0\)"):
        Point(input_tokens=1, output_tokens=2, concurrency=1, itl=0.0)


def test_errors_are_relative_and_of_what_was_measured() -> None:
    load = Workload(input_tokens=100, output_tokens=100, concurrency=1)
    speed = estimate_speed(DENSE, on(H100), load)
    point = Point(input_tokens=100, output_tokens=100, concurrency=1, itl=speed.itl * 2)
    found = errors_of([(point, speed)])
    assert (found.ttft, found.throughput) == (None, None)
    assert found.itl == pytest.approx(0.5)
    assert found.mean == pytest.approx(0.5)


def test_the_least_squares_of_a_valley() -> None:
    """Rosenbrock's function."""
    found = minimise(lambda x: [10 * (x[1] - x[0] ** 2), 1 - x[0]], [-1.2, 1.0])
    assert found == pytest.approx([1.0, 1.0], abs=1e-3)


@pytest.mark.parametrize("tokens", [16, 512, 40_960])
def test_what_is_held_out_is_not_fitted_to(tokens: int) -> None:
    grid: Grid = grid_of(max_tokens=tokens, max_num_seqs=8)
    assert not set(grid.fitted) & set(grid.held_out)
    assert all(load.input_tokens + load.answers.second <= max(tokens, 10) and load.concurrency <= 8 for load in grid.loads)
