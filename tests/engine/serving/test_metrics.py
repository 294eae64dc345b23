"""The fleet's metrics, as a scrape finds them."""

import re

import pytest
from prometheus_client import CollectorRegistry, Gauge, generate_latest

from tests.engine.serving.stand_ins import Client, Server, begin
from tests.engine.serving.vllm_metrics import VllmMetrics
from tokenfleet import contract

DEMO = {"model": "demo"}


def _families(registry: CollectorRegistry) -> dict[str, tuple[str, str]]:
    """Of our families: type and help."""
    return {metric.name: (metric.type, metric.documentation) for metric in registry.collect() if metric.name.startswith("llm_")}


def test_histograms_are_vllms_under_the_fleets_names(client: Client, registry: CollectorRegistry) -> None:
    vllm = VllmMetrics(registry)
    vllm.first_token[0].observe(0.5)
    for seconds in (0.05, 0.05, 2.0):
        vllm.inter_token[0].observe(seconds)
    value = registry.get_sample_value
    assert [value("llm_time_to_first_token_seconds_bucket", {**DEMO, "le": le}) for le in ("0.1", "1.0", "+Inf")] == [0, 1, 1]
    assert value("llm_time_to_first_token_seconds_sum", DEMO) == 0.5
    assert value("llm_inter_token_latency_seconds_count", DEMO) == 3
    assert value("llm_inter_token_latency_seconds_sum", DEMO) == pytest.approx(2.1)


def test_engines_of_one_server_are_taken_together(client: Client, registry: CollectorRegistry) -> None:
    vllm = VllmMetrics(registry, engines=2)
    for index in range(2):
        vllm.first_token[index].observe(0.5)
        vllm.tokens[index].inc(10 * (index + 1))
        vllm.kv_cache[index].set(0.2 + 0.4 * index)
    value = registry.get_sample_value
    assert value("llm_time_to_first_token_seconds_count", DEMO) == 2
    assert value("llm_tokens_generated_total", DEMO) == 30
    assert value("llm_kv_cache_usage_ratio") == pytest.approx(0.4)


def test_ratios(client: Client, registry: CollectorRegistry) -> None:
    vllm = VllmMetrics(registry, speculative=True)
    vllm.queries[0].inc(200)
    vllm.hits[0].inc(50)
    vllm.drafted[0].inc(10)
    assert registry.get_sample_value("llm_prefix_cache_hit_ratio") == 0.25
    assert registry.get_sample_value("llm_speculative_acceptance_ratio") == 0


@pytest.mark.parametrize("name", ["llm_prefix_cache_hit_ratio", "llm_speculative_acceptance_ratio"])
def test_a_ratio_of_nothing_is_absent(client: Client, registry: CollectorRegistry, name: str) -> None:
    VllmMetrics(registry, speculative=True)
    assert name not in _families(registry)


def test_what_an_engine_has_not_is_absent(client: Client, registry: CollectorRegistry) -> None:
    """vLLM without statistics, without speculation, without a GPU."""
    text = generate_latest(registry).decode()
    assert "speculative" not in text
    assert not re.search(r"^llm_(kv_cache|gpu_memory|time_to_first)", text, re.MULTILINE)


async def test_the_queue_and_the_load(server: Server, client: Client, registry: CollectorRegistry) -> None:
    vllm = VllmMetrics(registry)
    vllm.waiting[0].set(3)
    value = registry.get_sample_value
    assert (value("llm_active_requests"), value("llm_queue_depth")) == (0, 0), "with nothing in flight nothing waits"
    stream = await begin(client("POST", "/v1/completions"))
    assert (value("llm_active_requests"), value("llm_queue_depth"), value("llm_load_ratio")) == (1, 3, 0)
    server.release.set()
    await stream


async def test_names_and_help_are_as_prometheus_wants_them(server: Server, client: Client, registry: CollectorRegistry) -> None:
    VllmMetrics(registry, speculative=True).drafted[0].inc(1)
    server.release.set()
    await client("POST", "/v1/completions")
    families = _families(registry)
    assert len(families) >= 10
    for name, (kind, text) in families.items():
        assert re.fullmatch(r"llm_[a-z_]+", name)
        assert text.endswith("."), name
        assert not name.endswith(("_total", "_count", "_sum", "_bucket", "_info")), "the suffix is the format's"
        assert kind != "histogram" or name.endswith("_seconds")
        assert not re.search(r"_(ms|secs?|bytes_total|percent|perc)$", name), name
        assert kind in {"counter", "gauge", "histogram"}
    assert "_created" not in "".join(re.findall(r"^llm_\S+", generate_latest(registry).decode(), re.MULTILINE))


def test_all_names_are_the_contracts_and_known_before_there_is_an_engine(client: Client, registry: CollectorRegistry) -> None:
    for variable, name in vars(contract).items():
        if variable.startswith("METRIC_ENGINE_"):
            with pytest.raises(ValueError, match="Duplicated timeseries"):
                Gauge(name, "Somebody else's.", registry=registry)


def test_names_can_be_asked_for_alone(client: Client, registry: CollectorRegistry) -> None:
    VllmMetrics(registry).tokens[0].inc()
    [family] = registry.restricted_registry(["llm_tokens_generated_total"]).collect()
    assert [sample.value for sample in family.samples] == [1]
