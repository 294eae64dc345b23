"""`tokenfleet bench run`: what is written behind its options. Whole runs are in tests/integration/test_bench_command.py."""

from typing import Any

import pytest

from tokenfleet.bench.arrivals import Closed, Open, Pattern, Ramp, Trace
from tokenfleet.bench.figures import Slo, Trim
from tokenfleet.bench.load import Leaving, Stop
from tokenfleet.bench.prompts import Lengths
from tokenfleet.cli.bench import given
from tokenfleet.cli.bench.asked import Asked, Shape, build_asked, pick_endpoint, pick_model
from tokenfleet.cli.errors import Unusable


def asked(shape: Shape, **changed: Any) -> Asked:
    fields: dict[str, Any] = {
        "times": None,
        "requests": None,
        "duration": None,
        "grace": "60s",
        "warmup": None,
        "cooldown": None,
    }
    fields |= {"slo": None, "abort_share": None, "abort_after": None, "seed": 0}
    return build_asked(shape, **{**fields, **changed})


@pytest.mark.parametrize(
    ("shape", "times", "expected"),
    [
        pytest.param(Shape(), None, Closed(8), id="eight users where nothing is said"),
        pytest.param(Shape(concurrency=3, think="250ms"), None, Closed(3, 0.25), id="users who think"),
        pytest.param(Shape(rate=2.5), None, Open(2.5), id="a rate"),
        pytest.param(Shape(rate=2.5, arrivals="constant"), None, Open(2.5, "constant"), id="a rate, evenly"),
        pytest.param(Shape(ramp="1:50:60s"), None, Ramp(1, 50, 60), id="a ramp"),
        pytest.param(Shape(), (0.0, 1.0), Trace((0.0, 1.0)), id="the moments of a trace"),
        pytest.param(Shape(concurrency=2), (0.0, 1.0), Closed(2), id="a trace's prompts, and not its moments"),
    ],
)
def test_the_load(shape: Shape, times: tuple[float, ...] | None, expected: Pattern) -> None:
    assert shape.pattern(times) == expected


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        pytest.param(Shape(rate=-1), "--rate -1: it must be more than 0.", id="a negative rate"),
        pytest.param(Shape(rate=float("nan")), "--rate nan: it must be more than 0.", id="no rate"),
        pytest.param(Shape(rate=1, concurrency=2), "--concurrency and --rate are two loads", id="two loads"),
        pytest.param(Shape(ramp="1:50"), "--ramp 1:50: write FIRST:LAST:TIME", id="half a ramp"),
        pytest.param(Shape(ramp="5:0:10s"), "--ramp 5:0:10s: the last rate must be more than 0.", id="a ramp to nothing"),
        pytest.param(Shape(ramp="-5:1:10s"), "--ramp -5: it must be 0 or more.", id="a negative ramp"),
        pytest.param(Shape(arrivals="constant"), "--arrivals says how requests come at a --rate", id="arrivals of users"),
        pytest.param(Shape(rate=1, think="1s"), "--think is for the users of a closed loop", id="an open loop that thinks"),
        pytest.param(Shape(max_concurrency=1), "--max-concurrency bounds an open loop", id="a bound of users"),
    ],
)
def test_loads_that_cannot_be_meant(shape: Shape, message: str) -> None:
    with pytest.raises(Unusable) as refused:
        shape.pattern(None)
    assert str(refused.value).startswith(message)


@pytest.mark.parametrize(
    ("shape", "fields", "expected"),
    [
        pytest.param(Shape(), {}, (Stop(requests=108), Trim(requests=8)), id="a hundred, and one a user before"),
        pytest.param(Shape(rate=5), {"requests": 20}, (Stop(requests=20), Trim()), id="an open loop has no warm-up of its own"),
        pytest.param(Shape(), {"duration": "1m"}, (Stop(seconds=60.0), Trim(requests=8)), id="for a minute"),
        pytest.param(Shape(ramp="1:9:30s"), {}, (Stop(seconds=30.0), Trim()), id="as long as the ramp"),
        pytest.param(
            Shape(), {"requests": 10, "warmup": "5s"}, (Stop(requests=10), Trim(seconds=5.0)), id="a warm-up of five seconds"
        ),
        pytest.param(Shape(), {"times": (0.0,)}, (Stop(), Trim()), id="as long as the trace"),
    ],
)
def test_how_long(shape: Shape, fields: dict[str, Any], expected: tuple[Stop, Trim]) -> None:
    made = asked(shape, **fields)
    assert (made.stop, made.warmup) == expected


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        pytest.param({"duration": "60"}, "--duration 60: write a time with its unit", id="no unit"),
        pytest.param({"duration": "0s"}, "--duration 0s: it must be more than 0.", id="no time"),
        pytest.param({"duration": "5s", "warmup": "5s"}, "--warmup 5s: it leaves nothing of 5 s.", id="nothing but a warm-up"),
        pytest.param({"slo": "ttft<1s"}, "--slo ttft<1s: write it as ttft=500ms,itl=50ms", id="another sign"),
        pytest.param({"slo": "p99=1s"}, "--slo p99=1s: write it as", id="another name"),
        pytest.param({"slo": "ttft=1"}, "--slo ttft 1: write a time with its unit", id="a promise without unit"),
        pytest.param({"abort_share": 0.5}, "--abort-share and --abort-after belong together", id="half of a pair"),
        pytest.param(
            {"abort_share": 2.0, "abort_after": "1s"}, "--abort-share 2.0: it must be 0 or more, and 1", id="two of one"
        ),
    ],
)
def test_what_cannot_be_meant(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(Unusable) as refused:
        asked(Shape(), **fields)
    assert str(refused.value).startswith(message)


def test_promises_and_clients_that_leave() -> None:
    made = asked(Shape(), slo="ttft=500ms, itl=50ms,e2e=5s", abort_share=0.25, abort_after="2s")
    assert (made.slo, made.leaving) == (Slo(ttft=0.5, itl=0.05, e2e=5.0), Leaving(0.25, 2.0))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("512", Lengths("fixed", 512), id="one length"),
        pytest.param("512±128", Lengths("normal", 512, 128), id="around a mean"),
        pytest.param("512+-128", Lengths("normal", 512, 128), id="around a mean, by keys that all keyboards have"),
        pytest.param("uniform:64:900", Lengths("uniform", 64, 900), id="between two"),
        pytest.param("lognormal:512:0.8", Lengths("lognormal", 512, 0.8), id="around a median"),
    ],
)
def test_lengths(text: str, expected: Lengths) -> None:
    assert given.lengths(text, "--input") == expected


@pytest.mark.parametrize("text", ["0", "-5", "many", "uniform:9:3", "uniform:1", "gamma:1:2", "512±", "1.5"])
def test_what_is_no_length(text: str) -> None:
    with pytest.raises(Unusable, match="--input"):
        given.lengths(text, "--input")


def test_which_model() -> None:
    adapter = {"id": "demo-sql", "parent": "demo"}
    assert pick_model(None, [{"id": "demo"}, adapter], "URL") == "demo"
    assert pick_model("demo-sql", [{"id": "demo"}, adapter], "URL") == "demo-sql"
    with pytest.raises(Unusable, match="URL has no model gpt; it has: demo, demo-sql"):
        pick_model("gpt", [{"id": "demo"}, adapter], "URL")
    with pytest.raises(Unusable, match="--model is missing; URL has: a, b"):
        pick_model(None, [{"id": "a"}, {"id": "b"}], "URL")


def test_which_endpoint() -> None:
    assert pick_endpoint(None, None, turns=1) == "completions"
    assert pick_endpoint(None, None, turns=2) == "chat"
    with pytest.raises(Unusable, match="--endpoint completions has no conversations"):
        pick_endpoint("completions", None, turns=2)
