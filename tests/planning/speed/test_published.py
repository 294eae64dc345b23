"""The default calibration is what the published measurements come to, and the page shows what is predicted of them."""

from pathlib import Path

import pytest

from tokenfleet.planning.accelerators import find_accelerator
from tokenfleet.planning.speed import default_calibration
from tokenfleet.planning.speed.defaults import COMPUTE, PUBLISHED
from tokenfleet.planning.speed.fitting import predictions
from tokenfleet.planning.speed.points import errors_of
from tokenfleet.planning.speed.published import Published, fit_published, published

PAGE = Path(__file__).parents[3] / "docs" / "speed.md"
POINTS = published()


def row(each: Published) -> str:
    point, serving = each.point, each.measured.serving
    ((_, found),) = predictions([each.measured], default_calibration(serving.accelerator))
    cells = [
        each.model_name,
        f"{serving.devices} × {serving.accelerator.name.removeprefix('nvidia-')}",
        f"{point.input_tokens} + {point.output_tokens}",
        f"{point.concurrency:g}",
        _pair(found.ttft, point.ttft, 1000),
        _pair(found.itl, point.itl, 1000),
        _pair(found.output_tokens_per_second, point.output_tokens_per_second, 1),
        "fitted" if each.fitted else "held out",
        f"[{_numbers()[each.url]}]",
    ]
    return f"| {' | '.join(cells)} |"


def _pair(predicted: float, measured: float | None, scale: int) -> str:
    if measured is None:
        return ""
    return f"{_short(predicted * scale)} / {_short(measured * scale)} ({predicted / measured - 1:+.0%})"


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _numbers() -> dict[str, int]:
    return {url: number for number, url in enumerate(dict.fromkeys(each.url for each in POINTS), 1)}


def test_the_page_shows_what_is_predicted_of_every_measurement() -> None:
    rows = [row(each) for each in POINTS]
    lines = PAGE.read_text().splitlines()
    missing = [each for each in rows if each not in lines]
    written = [line for line in lines if line.endswith("] |") and ("| fitted |" in line or "| held out |" in line)]
    assert written == rows, "write these rows into docs/speed.md:\n" + "\n".join(missing or rows)


def test_the_page_names_every_source() -> None:
    titles = {each.url: each.title for each in POINTS}
    sources = [f"{number}. [{titles[url]}]({url})" for url, number in _numbers().items()]
    written = [line for line in PAGE.read_text().splitlines() if line[:1].isdigit() and "](http" in line]
    assert written == sources, "write these into docs/speed.md:\n" + "\n".join(sources)


def test_the_default_calibration_is_fitted_to_them() -> None:
    whole, shares = fit_published(POINTS)
    assert shares == pytest.approx(COMPUTE, rel=0.02)
    for name in ("compute", "bandwidth", "experts", "step_seconds", "sequence_seconds", "request_seconds"):
        assert getattr(PUBLISHED, name) == pytest.approx(getattr(whole, name), rel=0.02), name
    assert PUBLISHED.error == pytest.approx(whole.error, rel=0.05)
    assert PUBLISHED.ttft_error == pytest.approx(whole.ttft_error, rel=0.05)
    assert PUBLISHED.itl_error == pytest.approx(whole.itl_error, rel=0.05)
    assert PUBLISHED.throughput_error == pytest.approx(whole.throughput_error, rel=0.05)


def test_the_page_tells_the_errors_of_those_held_out() -> None:
    pairs = [
        pair
        for each in POINTS
        if not each.fitted
        for pair in predictions([each.measured], default_calibration(each.measured.serving.accelerator))
    ]
    found = errors_of(pairs)
    assert f"TTFT {found.ttft:.0%}, ITL {found.itl:.0%}, tokens a second {found.throughput:.0%}" in PAGE.read_text()


def test_a_model_is_held_out_as_a_whole() -> None:
    fitted = {each.model_name for each in POINTS if each.fitted}
    assert len(POINTS) >= 8
    assert {each.model_name for each in POINTS} - fitted == {"Qwen3-32B", "Qwen2.5-7B"}


@pytest.mark.parametrize(
    ("name", "share"),
    [
        pytest.param("nvidia-a100-40gb", COMPUTE["Ampere"], id="of its generation"),
        pytest.param("nvidia-h200-141gb", COMPUTE["Hopper"], id="of the newer one"),
        pytest.param("nvidia-l4-24gb", PUBLISHED.compute, id="of all, where a generation was not measured"),
    ],
)
def test_a_class_has_the_share(name: str, share: float) -> None:
    assert default_calibration(find_accelerator(name)).compute == share
