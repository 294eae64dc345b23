"""status.cost of every LLMDeployment: the price of its engines at once, and every five minutes at most what they were used for.

What is measured is renewed only while there is traffic, so an LLMDeployment that nobody uses keeps its figures and has no
reconcile for their sake. A controller that begins anew leaves what status shows until it has measured something itself.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tokenfleet import contract
from tokenfleet.controller import pods
from tokenfleet.controller.autoscaling.known_specs import KnownSpecs
from tokenfleet.controller.costs.meter import Meter
from tokenfleet.controller.costs.metrics import CostMetrics
from tokenfleet.controller.observed import Json, Observed
from tokenfleet.controller.signals.figures import Timer
from tokenfleet.controller.signals.sums import Use
from tokenfleet.controller.signals.windows import Counted
from tokenfleet.controller.store import Key, Place
from tokenfleet.planning.accelerators import accelerators
from tokenfleet.planning.cost import hourly

SECONDS: Final = 300.0
"""Measured figures are shown for so long."""
FIRST_SECONDS: Final = 60.0
"""The first ones after a silence come so long after it ends: what a single request would have cost alone is told to nobody."""
_ENGINES: Final = (contract.ROLE_ENGINE, contract.ROLE_PREFILL)
_MEASURED: Final = ("perMillionTokens", "idleShare")


@dataclass(slots=True)
class _Account:
    """Of one LLMDeployment whose accelerator has a price."""

    meter: Meter
    currency: str
    due_at: float
    """When new figures may be shown."""
    measured: Json
    """As shown; {}: nothing yet."""
    news: bool = False
    """Whether something was answered since."""
    timer: Timer | None = None


class Costs:
    """Of all LLMDeployments, while this process leads."""

    def __init__(
        self,
        specs: KnownSpecs,
        metrics: CostMetrics,
        *,
        spot: bool,
        use: Callable[[Key], Use | None],
        due: Callable[[Key], None],
        clock: Callable[[], float],
        call_later: Callable[[float, Callable[[], None]], Timer],
    ) -> None:
        """spot: at which price nodes are paid. due: asks for a reconcile, since there is something new to show."""
        self._specs, self._metrics, self._spot, self._use = specs, metrics, spot, use
        self._due, self._clock, self._call_later = due, clock, call_later
        self._accounts: dict[Key, _Account] = {}

    def of(self, key: Key, observed: Observed) -> Json | None:
        """As status.cost. None: its accelerator has no price."""
        before: Json = (observed.owner.get("status") or {}).get("cost") or {}
        known = self._specs.of(key)
        if known is None or known.spec is None:
            return before or None  # What ran before goes on, and nobody can say on what.
        accelerator = accelerators().get(known.spec.accelerator)
        count = sum(_costs(pod) for pod in observed.pods)
        price = hourly(accelerator, known.spec.parallelism.gpus, count, spot=self._spot) if accelerator else None
        if accelerator is None or accelerator.price is None or price is None:
            self.forget(key)
            return None
        account = self._account(key, accelerator.price.currency)
        self._advance(key, account)
        account.meter.hourly = price
        self._metrics.costs(key, price, currency=account.currency)
        kept: Json = {name: before[name] for name in _MEASURED if name in before and before["currency"] == account.currency}
        return {"currency": account.currency, "hourly": money(price), **(account.measured or kept)}

    def heard(self, key: Key) -> None:
        """Its load may be another now."""
        account = self._accounts.get(key)
        if account is None:
            return
        self._advance(key, account)
        use = self._use(key)
        if use is None:
            account.meter.busy = False
            return
        if use.complete:
            account.meter.busy = use.busy
        new = account.meter.count(use.counted, self._clock())
        self._metrics.used(key, new)
        account.news = account.news or any(new)
        if account.news and account.timer is None:
            wait = max(FIRST_SECONDS, account.due_at - self._clock())
            account.timer = self._call_later(wait, lambda: self._show(key, account))

    def changed(self, place: Place, owner: Key) -> None:
        """The store has news."""
        if place == owner and place in self._accounts and self._specs.of(place) is None:
            self.forget(place)

    def forget(self, key: Key) -> None:
        """It is there no more, or costs nothing that is known."""
        account = self._accounts.pop(key, None)
        if account is not None:
            self._metrics.forget(key, currency=account.currency)
            if account.timer is not None:
                account.timer.cancel()

    def stop(self) -> None:
        for account in self._accounts.values():
            if account.timer is not None:
                account.timer.cancel()

    def _account(self, key: Key, currency: str) -> _Account:
        account = self._accounts.get(key)
        if account is not None and account.currency != currency:
            self.forget(key)
            account = None
        if account is None:
            now = self._clock()
            account = self._accounts[key] = _Account(Meter(now), currency, due_at=now, measured={})
            self._metrics.used(key, Counted())
            if (use := self._use(key)) is not None:
                account.meter.count(use.counted, now)
        return account

    def _advance(self, key: Key, account: _Account) -> None:
        self._metrics.cost(key, account.meter.advance(self._clock()), currency=account.currency)

    def _show(self, key: Key, account: _Account) -> None:
        """Time for new figures."""
        self._advance(key, account)
        account.timer, account.news, account.due_at = None, False, self._clock() + SECONDS
        rates = account.meter.rates()
        measured = {
            "perMillionTokens": None if rates.per_million_tokens is None else figure(rates.per_million_tokens),
            "idleShare": None if rates.idle_share is None else f"{rates.idle_share:.2f}",
        }
        found = {name: value for name, value in measured.items() if value is not None}
        if found and found != account.measured:
            account.measured = found
            self._due(key)


def _costs(pod: Json) -> bool:
    """Whether a device is held for it: an engine's, from the moment that it has a node, until it has ended."""
    placed = bool((pod.get("spec") or {}).get("nodeName"))
    return pods.role(pod) in _ENGINES and placed and pods.phase(pod) not in ("Failed", "Succeeded")


def money(amount: float) -> str:
    """An amount as people write it: 13.76, 0.805."""
    return f"{round(amount, 3):.10g}"


def figure(amount: float) -> str:
    """Three digits of it, and no exponent: what is measured is no more exact."""
    if not amount:
        return "0"
    return f"{float(f'{amount:.3g}'):.12f}".rstrip("0").rstrip(".")
