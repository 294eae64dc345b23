"""Token buckets in one router's memory, and what callers are told of them. Time is a number that tests move."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenfleet.router.callers.rate_answers import duration
from tokenfleet.router.callers.rates import SWEEP_SECONDS, UNLIMITED, LocalRates, Reservation, applied
from tokenfleet.router.rejections import REQUESTS_LIMITED, TOKENS_LIMITED, Rejected
from tokenfleet.router.terms import Rate


class Scene:
    """Limits, and a clock."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.rates = LocalRates(lambda: self.now)

    def ask(self, rate: Rate, tokens: int = 0, *, who: str = "alice") -> Reservation | Rejected:
        answers: list[Reservation | Rejected] = []
        self.rates.reserve(who, rate, tokens, answers.append)
        assert len(answers) == 1
        return answers[0]

    def reserve(self, rate: Rate, tokens: int = 0, *, who: str = "alice") -> Reservation:
        answer = self.ask(rate, tokens, who=who)
        assert not isinstance(answer, Rejected), answer.message
        return answer

    def refused(self, rate: Rate, tokens: int = 0, *, who: str = "alice") -> Rejected:
        answer = self.ask(rate, tokens, who=who)
        assert isinstance(answer, Rejected)
        assert answer.kind.status == 429
        return answer

    def left(self, rate: Rate, *, who: str = "alice") -> str:
        """What is left of the tokens."""
        return headers(self.ask(rate, who=who).lines)["x-ratelimit-remaining-tokens"]


@pytest.fixture
def scene() -> Scene:
    return Scene()


def headers(lines: bytes) -> dict[str, str]:
    return dict(line.split(": ", 1) for line in lines.decode().splitlines())


def test_a_minute_s_worth_may_come_at_once_and_then_as_fast_as_it_fills(scene: Scene) -> None:
    rate = Rate(60)
    for _ in range(60):
        scene.reserve(rate)
    rejected = scene.refused(rate)
    assert rejected.kind is REQUESTS_LIMITED
    assert rejected.retry_after == 1
    assert rejected.message == "The limit of 60 requests a minute is used up. Try again in 1 s."
    scene.now += 0.999
    scene.refused(rate)
    scene.now += 0.001
    scene.reserve(rate)
    scene.refused(rate)


def test_tokens_are_taken_by_estimate(scene: Scene) -> None:
    rate = Rate(None, 6_000)
    scene.reserve(rate, 5_000)
    rejected = scene.refused(rate, 1_500)
    assert rejected.kind is TOKENS_LIMITED
    assert rejected.retry_after == 5
    assert "may take 1500 tokens" in rejected.message
    assert "of the limit of 6000 a minute 1000 are left" in rejected.message
    scene.reserve(rate, 1_000)
    scene.now += 15.0
    scene.reserve(rate, 1_500)


def test_who_is_refused_pays_nothing(scene: Scene) -> None:
    rate = Rate(2, 100)
    scene.reserve(rate, 60)
    for _ in range(5):
        scene.refused(rate, 60)
    scene.reserve(rate, 40)


def test_both_limits_tell_the_longer_wait(scene: Scene) -> None:
    rate = Rate(1, 600)
    scene.reserve(rate, 600)
    assert scene.refused(rate, 100).kind is REQUESTS_LIMITED
    assert scene.refused(rate, 100).retry_after == 60
    scene.now += 30.0
    assert scene.refused(rate, 600).retry_after == 30


def test_more_than_the_limit_is_never_worth_a_try(scene: Scene) -> None:
    rejected = scene.refused(Rate(None, 100), 101)
    assert rejected.retry_after is None
    assert b"retry-after" not in rejected.fields()
    assert rejected.param == "max_tokens"
    assert "more than the limit of 100 a minute" in rejected.message


def test_settling_corrects_both_ways_and_once(scene: Scene) -> None:
    rate = Rate(None, 1_000)
    cheap = scene.reserve(rate, 900)
    cheap.settle(100)
    cheap.settle(0)
    cheap.cancel()
    assert scene.left(rate) == "900"
    dear = scene.reserve(rate, 100)
    dear.settle(1_300)
    assert scene.refused(rate, 0).retry_after == 24, "a debt of 400, at 1,000 a minute"
    scene.now += 24.0
    assert scene.left(rate) == "0"


def test_what_is_given_back_never_makes_more_than_the_limit(scene: Scene) -> None:
    rate = Rate(2, 1_000)
    reservation = scene.reserve(rate, 900)
    scene.now += 60.0
    reservation.settle(0)
    assert scene.left(rate) == "1000"


def test_a_cancelled_request_does_not_count(scene: Scene) -> None:
    rate = Rate(1, 100)
    reservation = scene.reserve(rate, 100)
    reservation.cancel()
    reservation.cancel()
    reservation.settle(5_000)
    again = scene.reserve(rate, 100)
    assert headers(again.lines)["x-ratelimit-remaining-requests"] == "0"
    scene.refused(rate)


def test_each_caller_has_buckets_of_its_own(scene: Scene) -> None:
    scene.reserve(Rate(1))
    scene.reserve(Rate(1), who="bob")
    scene.refused(Rate(1))


def test_without_limits_nothing_is_kept_and_nothing_told(scene: Scene) -> None:
    reservation = scene.reserve(Rate(), 10**9)
    assert reservation is UNLIMITED
    assert reservation.lines == b""
    reservation.settle(5)
    reservation.cancel()
    assert len(scene.rates) == 0


def test_what_was_used_stays_used_when_limits_change(scene: Scene) -> None:
    for _ in range(8):
        scene.reserve(Rate(10))
    assert headers(scene.reserve(Rate(20)).lines)["x-ratelimit-remaining-requests"] == "11"
    scene.refused(Rate(5))
    scene.now += 180.0
    scene.reserve(Rate(5, 100), 100)
    assert scene.refused(Rate(5, 100), 100).kind is TOKENS_LIMITED
    assert scene.reserve(Rate(5), 100).lines.count(b"tokens") == 0


def test_callers_are_forgotten_once_their_buckets_are_full(scene: Scene) -> None:
    rate = Rate(60, 1_000)
    open_one = scene.reserve(rate, 10)
    for number in range(100):
        scene.reserve(rate, 10, who=f"caller {number}")
    assert len(scene.rates) == 101
    scene.now += SWEEP_SECONDS
    scene.reserve(rate, 10, who="bob")
    assert len(scene.rates) == 1
    open_one.settle(510)
    assert scene.left(rate) == "500", "settled although it was forgotten"


def test_headers_are_those_of_openai(scene: Scene) -> None:
    assert scene.reserve(Rate(60, 6_000), 600).lines == (
        b"x-ratelimit-limit-requests: 60\r\n"
        b"x-ratelimit-remaining-requests: 59\r\n"
        b"x-ratelimit-reset-requests: 1s\r\n"
        b"x-ratelimit-limit-tokens: 6000\r\n"
        b"x-ratelimit-remaining-tokens: 5400\r\n"
        b"x-ratelimit-reset-tokens: 6s\r\n"
    )
    assert set(headers(scene.reserve(Rate(6_000), who="bob").lines)) == {
        f"x-ratelimit-{what}-requests" for what in ("limit", "remaining", "reset")
    }


def test_a_refusal_has_them_too_and_openai_s_words(scene: Scene) -> None:
    scene.reserve(Rate(1))
    rejected = scene.refused(Rate(1))
    assert b"x-ratelimit-remaining-requests: 0\r\n" in rejected.fields()
    assert b"retry-after: 60\r\n" in rejected.fields()
    assert b'"type":"requests","param":null,"code":"rate_limit_exceeded"' in rejected.body()
    assert b'"type":"tokens"' in scene.refused(Rate(None, 5), 6, who="bob").body()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, b"0ms"),
        (0.0001, b"1ms"),
        (0.02, b"20ms"),
        (0.9999, b"1s"),
        (1.0, b"1s"),
        (8.64, b"9s"),
        (59.5, b"1m0s"),
        (360.0, b"6m0s"),
        (4_000.0, b"66m40s"),
    ],
)
def test_durations(seconds: float, text: bytes) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("own", "default", "expected"),
    [
        pytest.param(Rate(), Rate(60, 1_000), Rate(60, 1_000), id="none of its own"),
        pytest.param(Rate(5), Rate(60, 1_000), Rate(5, 1_000), id="requests of its own"),
        pytest.param(Rate(None, 5), Rate(60, 1_000), Rate(60, 5), id="tokens of its own"),
        pytest.param(Rate(5, 6), Rate(), Rate(5, 6), id="all of its own"),
    ],
)
def test_a_key_s_own_limits_come_first(own: Rate, default: Rate, expected: Rate) -> None:
    assert applied(own, default) == expected


_STEPS = st.lists(
    st.tuples(
        st.sampled_from(("ask", "settle", "cancel")),
        st.integers(0, 400),
        st.floats(0.0, 40.0, allow_nan=False),
        st.integers(0, 9),
    ),
    max_size=60,
)


@given(_STEPS)
def test_no_order_of_events_gives_more_than_limit_and_refill(steps: list[tuple[str, int, float, int]]) -> None:
    """Over any time, at most the limit and what filled meanwhile is used; requests that were cancelled do not count."""
    scene, rate = Scene(), Rate(5, 300)
    began, asked, used = scene.now, 0, 0
    open_ones: list[tuple[Reservation, int]] = []
    for verb, tokens, seconds, which in steps:
        scene.now += seconds
        if verb == "ask":
            answer = scene.ask(rate, tokens)
            if not isinstance(answer, Rejected):
                open_ones.append((answer, tokens))
                asked, used = asked + 1, used + tokens
        elif open_ones:
            reservation, estimated = open_ones.pop(which % len(open_ones))
            if verb == "settle":
                reservation.settle(min(tokens, estimated))
                used += min(tokens, estimated) - estimated
            else:
                reservation.cancel()
                asked, used = asked - 1, used - estimated
        minutes = (scene.now - began) / 60.0
        assert asked <= 5 * (1.0 + minutes) + 1e-6
        assert used <= 300 * (1.0 + minutes) + 1e-6
