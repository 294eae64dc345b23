"""What engines cost and were used for, for Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Gauge

from tokenfleet import contract
from tokenfleet.controller.signals.windows import Counted
from tokenfleet.controller.store import Key


class CostMetrics:
    """In the controller's registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        whose = ["namespace", "deployment"]
        self._hourly = Gauge(
            contract.METRIC_COST_HOURLY,
            "What engines cost in an hour, as they are.",
            [*whose, "currency"],
            registry=registry,
        )
        self._cost = Counter(
            contract.METRIC_COST, "What engines have cost since this process leads.", [*whose, "currency"], registry=registry
        )
        self._tokens = Counter(
            contract.METRIC_COST_TOKENS, "What they were used for meanwhile: prompt, completion.", [*whose, "kind"],
            registry=registry,
        )  # fmt: skip

    def costs(self, key: Key, hourly: float, *, currency: str) -> None:
        self._hourly.labels(key[1], key[2], currency).set(hourly)

    def cost(self, key: Key, amount: float, *, currency: str) -> None:
        self._cost.labels(key[1], key[2], currency).inc(amount)

    def used(self, key: Key, counted: Counted) -> None:
        self._tokens.labels(key[1], key[2], "prompt").inc(counted.prompt_tokens)
        self._tokens.labels(key[1], key[2], "completion").inc(counted.completion_tokens)

    def forget(self, key: Key, *, currency: str) -> None:
        """It is there no more, or its accelerator has no price any more."""
        self._hourly.remove(key[1], key[2], currency)
        self._cost.remove(key[1], key[2], currency)
        for kind in ("prompt", "completion"):
            self._tokens.remove(key[1], key[2], kind)
