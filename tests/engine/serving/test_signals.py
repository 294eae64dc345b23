"""Figures out of a registry that holds vLLM's metrics."""

from prometheus_client import CollectorRegistry, Gauge, Histogram

from tokenfleet_engine.serving.load import Figures
from tokenfleet_engine.serving.signals import SAMPLE_SECONDS, Signals

LABELS = ["model_name", "engine"]


def _gauge(registry: CollectorRegistry) -> Gauge:
    gauge = Gauge("vllm:num_requests_waiting", "Waiting.", LABELS, registry=registry)
    gauge.labels("demo", "0").set(3)
    return gauge


def test_those_of_all_engines_in_the_server_count(registry: CollectorRegistry) -> None:
    _gauge(registry).labels("demo", "1").set(4)
    assert Signals(registry, clock=lambda: 0.0).figures(9) == Figures(9, 7)


def test_an_engine_that_tells_nothing_has_no_queue(registry: CollectorRegistry) -> None:
    assert Signals(registry, clock=lambda: 0.0).figures(9) == Figures(9)


def test_with_nothing_in_flight_nothing_waits_whatever_vllm_said_last(registry: CollectorRegistry) -> None:
    _gauge(registry)
    signals = Signals(registry, clock=lambda: 0.0)
    assert (signals.figures(0), signals.peek(0)) == (Figures(0), Figures(0))


def test_the_registry_is_looked_at_once_in_a_while(registry: CollectorRegistry, now: list[float]) -> None:
    gauge, signals = _gauge(registry), Signals(registry, clock=lambda: now[0])
    signals.figures(1)
    gauge.labels("demo", "0").set(8)
    now[0] += SAMPLE_SECONDS / 2
    assert signals.figures(1).waiting == 3
    assert signals.peek(1).waiting == 8
    now[0] += SAMPLE_SECONDS / 2
    assert signals.figures(1).waiting == 8


def test_the_wait_comes_from_the_first_tokens(registry: CollectorRegistry, now: list[float]) -> None:
    _gauge(registry)
    first = Histogram("vllm:time_to_first_token_seconds", "First.", LABELS, registry=registry).labels("demo", "0")
    signals = Signals(registry, clock=lambda: now[0])
    for _ in range(50):
        now[0] += 0.5
        first.observe(1.0)
        figures = signals.figures(9)
    assert 1.2 < figures.queue_seconds < 1.8, "three wait, two are begun each second"
