"""Golden files: what a builder or a chart made when somebody last looked at it.

`pytest --update-golden` writes them anew; the difference is then read in review. Without the flag a test only compares.
hypothesis does not time its examples: a busy machine is not a bug. The garbage collector does not look through thousands of
tests again and again: that took a fifth of the time.
"""

import difflib
import gc
from collections.abc import Callable
from pathlib import Path

import hypothesis
import pytest

hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

gc.disable()

GOLDEN = Path(__file__).parent / "golden"

Golden = Callable[[str, str], None]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write tests/golden anew instead of comparing with it")


def pytest_collection_finish() -> None:
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    """`golden("chart/default.yaml", text)`: `text` is what tests/golden/chart/default.yaml holds."""

    def compare(name: str, text: str) -> None:
        path = GOLDEN / name
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            return
        before = path.read_text() if path.exists() else ""
        difference = difflib.unified_diff(before.splitlines(), text.splitlines(), f"golden/{name}", "made now", lineterm="")
        assert before == text, "\n".join([*difference, "If that is wanted: pytest --update-golden, and commit the file."])

    return compare
