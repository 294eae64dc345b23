"""What a person sees of a step, where there is no terminal."""

import pytest

from e2e.cluster.progress import seconds, step


def test_a_step_ends_with_its_time_and_its_result(capsys: pytest.CaptureFixture[str]) -> None:
    with step("Baking") as outer:
        with step("Kneading"):
            pass
        outer.result = "(one loaf)"
    inner, last = capsys.readouterr().err.splitlines()
    assert inner.startswith("  ✓ Kneading 0.")
    assert last.startswith("✓ Baking 0.")
    assert last.endswith("(one loaf)")


def test_a_step_that_fails_is_marked(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="burnt"), step("Baking"):
        raise ValueError("burnt")
    assert capsys.readouterr().err.startswith("✗ Baking")


@pytest.mark.parametrize(
    ("value", "text"), [(0.04, "0.0 s"), (12.34, "12.3 s"), (99.9, "99.9 s"), (100.0, "1 min 40 s"), (3661.0, "61 min 1 s")]
)
def test_times(value: float, text: str) -> None:
    assert seconds(value) == text
