"""What the environment and the engine make of the bounds."""

import math
import re

import pytest

from tokenfleet import contract
from tokenfleet_engine.serving.bounds import Bounds, read_bounds


@pytest.mark.parametrize(
    ("environment", "max_sequences", "bounds"),
    [
        pytest.param({}, 8, Bounds(in_flight=32), id="without a word it takes four times what it runs at once"),
        pytest.param({}, None, Bounds(), id="an engine that does not say how many it runs has no bound"),
        pytest.param({contract.ENV_ENGINE_MAX_IN_FLIGHT: "5"}, 8, Bounds(in_flight=5), id="what is set wins"),
        pytest.param({contract.ENV_ENGINE_MAX_IN_FLIGHT: "0"}, 8, Bounds(), id="0 takes the bound away"),
        pytest.param({contract.ENV_ENGINE_MAX_IN_FLIGHT: ""}, 8, Bounds(in_flight=32), id="empty is not set"),
        pytest.param({contract.ENV_ENGINE_MAX_WAITING: "7"}, None, Bounds(waiting=7), id="how many may wait"),
        pytest.param({contract.ENV_ENGINE_MAX_QUEUE_SECONDS: "2.5"}, None, Bounds(queue_seconds=2.5), id="and for how long"),
    ],
)
def test_bounds(environment: dict[str, str], max_sequences: int | None, bounds: Bounds) -> None:
    assert read_bounds(environment, max_sequences=max_sequences) == bounds


@pytest.mark.parametrize("text", ["many", "-1", "1.5", "inf", "nan"])
def test_what_is_no_bound_is_named(text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"{contract.ENV_ENGINE_MAX_WAITING} is {text!r}: give a number from 0")):
        read_bounds({contract.ENV_ENGINE_MAX_WAITING: text}, max_sequences=None)


def test_no_bound_is_never_reached() -> None:
    assert Bounds().in_flight == math.inf
