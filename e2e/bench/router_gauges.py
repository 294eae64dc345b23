"""Gauges of a router's /metrics, before and after: what of them a load has left behind. Pure but for `scrape`."""

from collections.abc import Mapping
from typing import Final

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tokenfleet import contract

SPARE: Final = frozenset({contract.METRIC_UPSTREAM_IDLE})
"""Kept on purpose: connections that wait for the next request."""


def scrape(admin_port: int) -> dict[str, float]:
    return gauges(httpx.get(f"http://127.0.0.1:{admin_port}/metrics", trust_env=False, timeout=10).raise_for_status().text)


def gauges(text: str) -> dict[str, float]:
    """Each gauge's samples, by name and labels. Those of the process itself (memory, open files) are no counts of requests."""
    return {
        sample.name + "".join(f" {label}={value}" for label, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        if family.type == "gauge" and family.name not in SPARE and not family.name.startswith("process_")
        for sample in family.samples
    }


def leftovers(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """How far each gauge is from what it was when the router was idle; a gauge that was not there was 0."""
    changes = {name: after.get(name, 0.0) - before.get(name, 0.0) for name in {**before, **after}}
    return {name: change for name, change in changes.items() if change}
