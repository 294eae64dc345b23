"""From which traffic on own replicas win: the closed form, against both costs at many rates."""

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tokenfleet.planning.cost import ApiPrices, OwnReplicas, break_even, curve
from tokenfleet.planning.cost.break_even import HOUR

API = ApiPrices(input=0.5, output=1.5)
_PRICES = st.floats(0.01, 100)


@st.composite
def _own(draw: st.DrawFn) -> OwnReplicas:
    return OwnReplicas(hourly=draw(st.floats(0.1, 200)), capacity=draw(st.floats(0.01, 100)), at_least=draw(st.integers(1, 5)))


def _wins(own: OwnReplicas, rate: float, request: float) -> bool:
    return own.hourly_at(rate) <= HOUR * request * rate * (1 + 1e-6)


@given(_own(), _PRICES, _PRICES, st.integers(1, 100_000), st.integers(0, 10_000))
def test_it_is_where_the_costs_cross(
    own: OwnReplicas, price_in: float, price_out: float, tokens_in: int, tokens_out: int
) -> None:
    api = ApiPrices(input=price_in, output=price_out)
    request = api.of_request(input_tokens=tokens_in, output_tokens=tokens_out)
    found = break_even(own, api, input_tokens=tokens_in, output_tokens=tokens_out)
    assume(abs(found.used - 1) > 1e-3)
    # Own replicas can win only where they are all fully used, or as many as run anyway are enough.
    rates = [own.capacity * count for count in range(1, 60)] + [own.capacity * count / 13 for count in range(1, 60 * 13)]
    if found.first is None:
        assert found.used > 1
        assert not any(_wins(own, rate, request) for rate in rates)
        return
    assert _wins(own, found.first, request)
    assert not any(_wins(own, rate, request) for rate in rates if rate < found.first * (1 - 1e-3))
    assert found.always is not None and found.always >= found.first * (1 - 1e-9)
    assert all(_wins(own, rate, request) for rate in rates if rate >= found.always * (1 + 1e-9))


@given(_own(), st.floats(1.01, 10))
def test_more_of_what_own_replicas_take_is_never_worse(own: OwnReplicas, factor: float) -> None:
    better = OwnReplicas(hourly=own.hourly, capacity=own.capacity * factor, at_least=own.at_least)
    before = break_even(own, API, input_tokens=1000, output_tokens=300)
    after = break_even(better, API, input_tokens=1000, output_tokens=300)
    if before.first is not None:
        assert after.first is not None and after.first <= before.first * (1 + 1e-9)
    if before.always is not None:
        assert after.always is not None and after.always <= before.always * (1 + 1e-9)


def test_just_above_a_whole_replica_the_api_may_be_cheaper_again() -> None:
    own = OwnReplicas(hourly=6.88, capacity=2.5)
    found = break_even(own, API, input_tokens=1000, output_tokens=300)
    assert found.first == pytest.approx(2.012, abs=1e-3)
    request = API.of_request(input_tokens=1000, output_tokens=300)
    assert own.hourly_at(2.51) > HOUR * request * 2.51
    assert found.always == pytest.approx(5 * found.used * own.capacity)


def test_replicas_that_are_exactly_as_dear_as_the_api_win_only_when_full() -> None:
    request = API.of_request(input_tokens=1000, output_tokens=300)
    own = OwnReplicas(hourly=HOUR * request * 2, capacity=2.0)
    found = break_even(own, API, input_tokens=1000, output_tokens=300)
    assert found.used == pytest.approx(1)
    assert found.first == pytest.approx(2.0)
    assert found.always is None


def test_a_free_token_does_not_make_a_free_request() -> None:
    free_output = ApiPrices(input=1.0, output=0.0)
    assert break_even(OwnReplicas(hourly=1, capacity=1), free_output, input_tokens=0, output_tokens=10).first is None


@pytest.mark.parametrize(
    ("own", "api", "tokens", "message"),
    [
        pytest.param(OwnReplicas(hourly=1, capacity=0), API, (1, 1), "takes no requests", id="nothing is taken"),
        pytest.param(OwnReplicas(hourly=1, capacity=-2), API, (1, 1), "above 0", id="less than nothing is taken"),
        pytest.param(OwnReplicas(hourly=0, capacity=1), API, (1, 1), "a price above 0", id="free hardware"),
        pytest.param(OwnReplicas(hourly=1, capacity=1), ApiPrices(input=0, output=0), (1, 1), "one of them", id="a free API"),
        pytest.param(OwnReplicas(hourly=1, capacity=1), ApiPrices(input=-1, output=2), (1, 1), "0 or more", id="it pays"),
        pytest.param(OwnReplicas(hourly=1, capacity=1), API, (0, 0), "not 0 of both", id="requests of nothing"),
        pytest.param(OwnReplicas(hourly=1, capacity=1), API, (-5, 9), "0 or more in", id="tokens below nought"),
    ],
)
def test_what_cannot_be_is_refused_in_words(own: OwnReplicas, api: ApiPrices, tokens: tuple[int, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        break_even(own, api, input_tokens=tokens[0], output_tokens=tokens[1])


def test_the_curve_shows_every_step() -> None:
    own = OwnReplicas(hourly=2.0, capacity=1.5)
    points = curve(own, API, input_tokens=1000, output_tokens=300, until=4.0, steps=8)
    assert [point.rate for point in points] == sorted(point.rate for point in points)
    at = {round(point.rate, 6): point for point in points}
    assert (at[1.5].replicas, at[round(1.5 * (1 + 1e-6), 6)].replicas, at[4.0].replicas) == (1, 2, 3)
    assert at[4.0].api == pytest.approx(4.0 * HOUR * 0.00095)
    assert all(math.isclose(point.own, 2.0 * point.replicas) for point in points)
