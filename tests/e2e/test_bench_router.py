"""The benchmark of routers: what it makes of its samples."""

from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console

from e2e.bench import router_table
from e2e.bench.machine import Core, CoreTime
from e2e.bench.router_figures import Figure, Results, Verdict, as_json, carried_rate, carried_streams, verdicts
from e2e.bench.router_gauges import gauges, leftovers
from e2e.bench.router_peers import NAMES
from e2e.bench.router_turns import Plan
from e2e.bench.traffic import Count
from e2e.cluster.errors import ClusterError

UNARY = Count(requests=50_000, errors=0, seconds=2.5, cpu_s=2.4)
CHUNKS = Count(requests=128, errors=0, seconds=2.5, cpu_s=0.128, events=12_800, reads=12_800, open=128)
LATENCY = Count(requests=4000, errors=0, seconds=4, cpu_s=0.2, p50_ms=0.3, p99_ms=1.5)
QUIET = {"foreign_share_of_router_core": 0.01, "own_network": True}


def results(
    *, unary_us: float, chunk_us: float = 10.0, p99_ms: float = 1.0, rss_mb: float = 60.0, streams: int = 2000
) -> Results:
    return Results(
        unary_us=Figure([unary_us]),
        chunk_us=Figure([chunk_us]),
        added_p99_ms=Figure([p99_ms]),
        rss_mb=rss_mb,
        rss_streams=streams,
    )


def test_cpu_is_per_request_and_per_chunk() -> None:
    each = Results()
    each.add_unary(UNARY)
    each.add_chunks(CHUNKS)
    assert each.unary_us.median == pytest.approx(48.0)
    assert each.rps.median == 20_000
    assert each.chunk_us.median == pytest.approx(10.0)


def test_latency_is_what_the_router_adds() -> None:
    each = Results()
    each.add_latency(LATENCY, replace(LATENCY, p50_ms=0.1, p99_ms=0.4))
    assert each.added_p50_ms.median == pytest.approx(0.2)
    assert each.added_p99_ms.median == pytest.approx(1.1)


def test_a_figure_is_the_median_of_all_rounds_with_its_range() -> None:
    figure = Figure([30.0, 10.0, 11.0])
    assert (figure.median, figure.spread) == (11.0, (10.0, 30.0))


def test_a_measurement_with_errors_gives_no_figure_and_says_so() -> None:
    each = Results()
    each.add_unary(replace(UNARY, errors=51, first_error="status 500"))
    assert each.unary_us.median is None
    assert (each.errors, each.first_error) == (51, "status 500")
    assert each.notes == ["requests: 51 errors beside 50000 good answers, so it has no figure"]


def test_a_single_error_shows_but_spoils_no_figure() -> None:
    each = Results()
    each.add_unary(replace(UNARY, errors=1, first_error="status 502"))
    assert each.unary_us.median is not None
    assert each.errors == 1


@pytest.mark.parametrize(
    ("count", "carried"),
    [
        pytest.param(CHUNKS, True, id="each chunk came by itself"),
        pytest.param(replace(CHUNKS, reads=10_000), False, id="chunks came together, so the router was late"),
        pytest.param(replace(CHUNKS, open=127), False, id="a stream never began"),
        pytest.param(replace(CHUNKS, events=0, reads=0), False, id="nothing came"),
    ],
)
def test_streams_are_carried(count: Count, *, carried: bool) -> None:
    assert carried_streams(count, 128) is carried


@pytest.mark.parametrize(
    ("count", "carried"),
    [
        pytest.param(LATENCY, True, id="all answers came"),
        pytest.param(replace(LATENCY, requests=3500), False, id="a tenth of the answers are missing"),
        pytest.param(replace(LATENCY, open=101), False, id="a queue was left"),
        pytest.param(replace(LATENCY, cpu_s=3.9), False, id="the core was full, so answers wait longer and longer"),
    ],
)
def test_a_rate_is_carried(count: Count, *, carried: bool) -> None:
    assert carried_rate(count, 1000) is carried


def test_targets_are_held_against_the_better_rust_router_and_haproxy() -> None:
    found = {
        "tokenfleet": results(unary_us=24.0, chunk_us=10.0),
        "haproxy": results(unary_us=16.0),
        "vllm-router": results(unary_us=40.0, chunk_us=11.0),
        "sglang-router": results(unary_us=50.0, chunk_us=9.0),
    }
    reached = [(one.reached, one.ok) for one in verdicts(found, imbalance=1.1, leftovers={})]
    assert reached == [
        ("0.60 ×", True),
        ("1.50 ×", True),
        ("1.11 ×", False),
        ("1.0 ms", True),
        ("60.0 MB", True),
        ("1.100 max/mean", True),
        ("all at 0", True),
    ]


def test_a_target_without_figures_is_neither_reached_nor_missed() -> None:
    assert {(one.reached, one.ok) for one in verdicts({}, imbalance=None, leftovers=None)} == {("not measured", None)}


def test_memory_at_fewer_streams_is_not_held_against_the_target() -> None:
    found = {"tokenfleet": results(unary_us=24.0, streams=1000)}
    memory = next(one for one in verdicts(found, imbalance=None, leftovers=None) if "memory" in one.what)
    assert memory.ok is None
    result = as_json(found, imbalance=None, aborts=None, conditions={}, targets=[])
    assert result["rss_mb_2000_streams"] == {"tokenfleet": None}
    assert result["rss_mb_fewer_streams"] == {"tokenfleet": {"streams": 1000, "mb": 60.0}}


def test_a_gauge_that_is_left_fails_its_target() -> None:
    gauge = verdicts({}, imbalance=None, leftovers={"llm_router_in_flight replica=a": 2.0})[-1]
    assert (gauge.reached, gauge.ok) == ("llm_router_in_flight replica=a 2", False)


def test_the_file_has_a_figure_of_each_peer() -> None:
    found = {"tokenfleet": results(unary_us=24.123), "haproxy": Results()}
    targets = [Verdict("added p99", "≤ 2 ms", "1.0 ms", True)]
    result = as_json(found, imbalance=1.0994, aborts={"left": {}}, conditions={"rounds": 1}, targets=targets)
    assert result["unary_us"] == {"tokenfleet": 24.12, "haproxy": None}
    assert result["rss_mb_2000_streams"] == {"tokenfleet": 60.0, "haproxy": None}
    assert result["added_p99_ms"] == {"tokenfleet": 1.0, "haproxy": None}
    assert result["spread"]["unary_us"] == {"tokenfleet": [24.12, 24.12], "haproxy": None}
    assert result["imbalance"] == 1.099
    assert result["targets"] == [{"what": "added p99", "wanted": "≤ 2 ms", "reached": "1.0 ms", "ok": True}]


SCRAPE = """\
# HELP llm_router_requests_total Requests that ended
# TYPE llm_router_requests_total counter
llm_router_requests_total{code="200"} 7.0
# TYPE llm_router_in_flight gauge
llm_router_in_flight{replica="a"} 2.0
llm_router_in_flight{replica="b"} 0.0
# TYPE llm_router_upstream_idle_connections gauge
llm_router_upstream_idle_connections 12.0
# TYPE process_resident_memory_bytes gauge
process_resident_memory_bytes 5e+07
# TYPE llm_router_replicas gauge
llm_router_replicas{state="routable"} 8.0
"""


def test_gauges_are_those_that_count_requests() -> None:
    assert gauges(SCRAPE) == {
        "llm_router_in_flight replica=a": 2.0,
        "llm_router_in_flight replica=b": 0.0,
        "llm_router_replicas state=routable": 8.0,
    }


@pytest.mark.parametrize(
    ("before", "after", "left"),
    [
        pytest.param({"replicas": 8.0, "in_flight": 0.0}, {"replicas": 8.0, "in_flight": 0.0}, {}, id="nothing"),
        pytest.param({"in_flight": 0.0}, {"in_flight": 1.0}, {"in_flight": 1.0}, id="a request that has ended long ago"),
        pytest.param({}, {"waiting": 3.0}, {"waiting": 3.0}, id="a gauge that was not there before"),
        pytest.param({"replicas": 8.0}, {"replicas": 7.0}, {"replicas": -1.0}, id="a replica less"),
        pytest.param({"replicas": 8.0}, {}, {"replicas": -8.0}, id="a gauge that is gone"),
    ],
)
def test_what_is_left(before: dict[str, float], after: dict[str, float], left: dict[str, float]) -> None:
    assert leftovers(before, after) == left


def test_the_time_of_a_core() -> None:
    text = "cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 100 0 50 1000 7 3 2 40 0 0\ncpu1 1 1 1 1 1 1 1 1 0 0\n"
    core = CoreTime.parse(text, Core(0), at=5.0)
    assert (core.busy, core.stolen, core.at) == (1.55, 0.4, 5.0)
    with pytest.raises(ClusterError, match="no core 7"):
        CoreTime.parse(text, Core(7), at=5.0)


def test_only_a_run_with_everything_in_it_is_complete() -> None:
    assert Plan.whole().complete
    assert not Plan.quick().complete
    assert not Plan.quick(peers=NAMES).complete
    assert not Plan.whole(peers=("tokenfleet",)).complete


def show(found: dict[str, Results], **conditions: object) -> str:
    written = StringIO()
    console = Console(width=130, file=written)
    router_table.show(
        found, verdicts(found, imbalance=None, leftovers=None), conditions={**QUIET, **conditions}, left_out={}, console=console
    )
    return written.getvalue()


def test_the_table_has_medians_ranges_and_what_was_reached() -> None:
    found = {"tokenfleet": results(unary_us=24.0), "haproxy": results(unary_us=16.0)}
    found["haproxy"].unary_us.add(20.0)
    text = show(found)
    assert "18.0" in text and "16.0–20.0" in text
    assert "1.33 ×" in text
    assert "Others took" not in text


def test_a_busy_machine_is_told() -> None:
    assert "Others took 40% of the router's core" in show({}, foreign_share_of_router_core=0.4)


def test_the_clients_limit_is_told() -> None:
    fast = results(unary_us=10.0)
    fast.rps.add(40_000)
    fast.core_share.add(0.7)
    text = show({"haproxy": fast})
    assert "≥ 40,000" in text and "the router could do more" in text
