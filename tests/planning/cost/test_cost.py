"""What hardware costs, and what that comes to for what it was used for: the parts are the whole, always."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenfleet.planning.accelerators import Accelerator, Price, accelerators
from tokenfleet.planning.cost import Use, cost_of, hourly, weigh

H100 = accelerators()["nvidia-h100-80gb"]
_AMOUNTS = st.floats(min_value=0, max_value=1e9)
_COUNTS = st.integers(min_value=0, max_value=10**12)


@pytest.mark.parametrize(
    ("accelerator", "devices", "replicas", "spot", "expected"),
    [
        pytest.param(H100, 1, 1, False, 6.88, id="one device"),
        pytest.param(H100, 4, 3, False, 82.56, id="each device of each replica"),
        pytest.param(H100, 4, 3, True, 29.52, id="at the price of spot"),
        pytest.param(H100, 4, 0, False, 0.0, id="asleep"),
        pytest.param(accelerators()["nvidia-a10-24gb"], 1, 2, True, 1.5, id="no price of spot is known: that on demand"),
        pytest.param(accelerators()["nvidia"], 1, 1, False, None, id="no price at all"),
        pytest.param(
            Accelerator(name="cpu", summary="A CPU.", price=Price(on_demand=0.2)), 4, 2, False, 0.4, id="paid by the replica"
        ),
    ],
)
def test_an_hour(accelerator: Accelerator, devices: int, replicas: int, spot: bool, expected: float | None) -> None:
    found = hourly(accelerator, devices, replicas, spot=spot)
    assert found == (None if expected is None else pytest.approx(expected))


@given(cost=_AMOUNTS, idle=_AMOUNTS, requests=_COUNTS, prompt=_COUNTS, completion=_COUNTS, weight=st.floats(0.01, 100))
def test_what_tokens_cost_is_the_whole_cost(
    cost: float, idle: float, requests: int, prompt: int, completion: int, weight: float
) -> None:
    use = Use(cost=cost, idle_cost=min(idle, cost), requests=requests, prompt_tokens=prompt, completion_tokens=completion)
    found = cost_of(use, output_weight=weight)
    if prompt + completion:
        assert found.per_million_prompt is not None and found.per_million_completion is not None
        assert found.per_million_tokens is not None
        parts = prompt * found.per_million_prompt + completion * found.per_million_completion
        assert parts / 1e6 == pytest.approx(cost)
        assert found.per_million_tokens * (prompt + completion) / 1e6 == pytest.approx(cost)
        assert found.per_million_completion == pytest.approx(weight * found.per_million_prompt)
    else:
        assert (found.per_million_prompt, found.per_million_completion, found.per_million_tokens) == (None, None, None)
    assert (found.per_request is None) == (not requests)
    assert found.idle_share is None or 0 <= found.idle_share <= 1


@given(st.lists(st.tuples(_COUNTS, _COUNTS), min_size=1, max_size=8), st.floats(0.01, 100))
def test_shares_of_keys_are_the_whole(keys: list[tuple[int, int]], weight: float) -> None:
    whole = weigh(sum(key[0] for key in keys), sum(key[1] for key in keys), output_weight=weight)
    assert sum(weigh(*key, output_weight=weight) for key in keys) == pytest.approx(whole)


def test_a_token_that_counts_for_nothing_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="output_weight is 0"):
        cost_of(Use(cost=1.0, completion_tokens=1), output_weight=0)
