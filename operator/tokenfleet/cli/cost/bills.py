"""What each LLMDeployment costs and what that comes to for a request, a million tokens, a key and a namespace. Pure.

The cost is status.cost's, which the controller measures over the last hour of use; what routers count says how many tokens of
it are prompts', how many answers', and whose. Over a window that the command waits for, tokens and cost are that window's.
Where several LLMDeployments answer for one model, a router does not tell whose tokens were whose: they are shared out by what
each of these costs.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tokenfleet.cli.cost.counts import Counts, Models
from tokenfleet.planning.accelerators import accelerators
from tokenfleet.planning.cost import Rates, Use, cost_of, weigh

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """Of one LLMDeployment."""

    namespace: str
    name: str
    accelerator: str
    replicas: int
    devices: int
    """Of a replica; 0: its class has none."""
    currency: str | None
    hourly: float | None
    """None: its class has no price, or the controller has not said what it costs."""
    priced: bool
    """Whether its class has a price here."""
    rates: Rates
    counts: Counts
    """None of them where no router tells."""

    @property
    def place(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Share:
    """Of one key, or one namespace, in what engines cost in an hour."""

    namespace: str
    key: str
    counts: Counts
    hourly: Mapping[str, float] = field(default_factory=dict)
    """By currency."""
    part: float | None = None
    """Of all that is listed beside it and has the same currency; None: nothing was used, or there are several currencies."""


def models_of(deployment: Json) -> tuple[str, ...]:
    """What requests give as `model` to have it answer: its name, and its adapters'."""
    model = (deployment.get("spec") or {}).get("model") or {}
    served = model.get("servedName") or deployment["metadata"]["name"]
    return (str(served), *(str(adapter["name"]) for adapter in model.get("adapters") or ()))


def bill_of(deployment: Json, counts: Counts, *, seconds: float | None, output_weight: float) -> Bill:
    """counts: what its routers answered. seconds: in that time; None: since they began."""
    spec, status = deployment.get("spec") or {}, deployment.get("status") or {}
    parallelism, cost = spec.get("parallelism") or {}, status.get("cost") or {}
    hourly = float(cost["hourly"]) if "hourly" in cost else None
    accelerator = accelerators().get(str(spec.get("accelerator")))
    devices = int(parallelism.get("tensor") or 1) * int(parallelism.get("pipeline") or 1)
    idle = float(cost["idleShare"]) if "idleShare" in cost else None
    return Bill(
        namespace=str(deployment["metadata"]["namespace"]),
        name=str(deployment["metadata"]["name"]),
        accelerator=str(spec.get("accelerator")),
        replicas=int(status.get("replicas") or 0),
        devices=0 if accelerator is not None and accelerator.resource is None else devices,
        currency=cost.get("currency"),
        hourly=hourly,
        priced=accelerator is None or accelerator.price is not None,
        rates=_rates(cost, counts, hourly, idle, seconds=seconds, output_weight=output_weight),
        counts=counts,
    )


def _rates(
    cost: Json, counts: Counts, hourly: float | None, idle: float | None, *, seconds: float | None, output_weight: float
) -> Rates:
    tokens = counts.tokens
    if seconds is not None:
        spent = (hourly or 0.0) * seconds / 3600
    elif "perMillionTokens" in cost:
        spent = float(cost["perMillionTokens"]) * (tokens.prompt + tokens.completion) / 1e6
    else:
        spent = 0.0
    use = Use(
        cost=spent,
        idle_cost=spent * (idle or 0.0),
        requests=counts.requests if spent else 0.0,
        prompt_tokens=tokens.prompt if spent else 0.0,
        completion_tokens=tokens.completion if spent else 0.0,
    )
    found = cost_of(use, output_weight=output_weight)
    blended = float(cost["perMillionTokens"]) if seconds is None and "perMillionTokens" in cost else found.per_million_tokens
    return Rates(
        per_request=found.per_request,
        per_million_tokens=blended,
        per_million_prompt=found.per_million_prompt,
        per_million_completion=found.per_million_completion,
        idle_share=idle,
    )


def shared_out(deployments: Sequence[Json], models: Models) -> list[Counts]:
    """What each of the LLMDeployments that have the same routers answered."""
    weights = [float(((one.get("status") or {}).get("cost") or {}).get("hourly") or 0.0) for one in deployments]
    served = [models_of(one) for one in deployments]
    found = [Counts() for _ in deployments]
    for model, counts in models.items():
        who = [index for index, names in enumerate(served) if model in names]
        total = sum(weights[index] for index in who)
        for index in who:
            found[index] += counts * (weights[index] / total if total else 1 / len(who))
    return found


def by_key(bills: Iterable[Bill], *, output_weight: float) -> list[Share]:
    """What each key uses of what each LLMDeployment costs, by its tokens; the most expensive first."""
    shares: dict[tuple[str, str], Share] = {}
    for bill in bills:
        whole = weigh(bill.counts.tokens.prompt, bill.counts.tokens.completion, output_weight=output_weight)
        for key, tokens in bill.counts.keys.items():
            part = weigh(tokens.prompt, tokens.completion, output_weight=output_weight) / whole if whole else 0.0
            cost = {bill.currency: bill.hourly * part} if bill.hourly is not None and bill.currency else {}
            share = Share(bill.namespace, key, Counts(0.0, {key: tokens}), cost)
            before = shares.get((bill.namespace, key))
            shares[bill.namespace, key] = share if before is None else _joined(before, share)
    return _with_parts(shares.values())


def by_namespace(bills: Iterable[Bill]) -> list[Share]:
    """What all LLMDeployments of a namespace cost together; the most expensive first."""
    shares: dict[str, Share] = {}
    for bill in bills:
        cost = {bill.currency: bill.hourly} if bill.hourly is not None and bill.currency else {}
        share = Share(bill.namespace, "", bill.counts, cost)
        shares[bill.namespace] = _joined(shares[bill.namespace], share) if bill.namespace in shares else share
    return _with_parts(shares.values())


def totals(costs: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """By currency."""
    found: dict[str, float] = {}
    for cost in costs:
        for currency, amount in cost.items():
            found[currency] = found.get(currency, 0.0) + amount
    return found


def _joined(one: Share, other: Share) -> Share:
    return Share(one.namespace, one.key, one.counts + other.counts, totals((one.hourly, other.hourly)))


def _with_parts(shares: Iterable[Share]) -> list[Share]:
    listed = list(shares)
    whole = totals(share.hourly for share in listed)
    (total,) = whole.values() if len(whole) == 1 else (0.0,)
    found = [
        Share(share.namespace, share.key, share.counts, share.hourly, sum(share.hourly.values()) / total if total else None)
        for share in listed
    ]
    return sorted(found, key=lambda share: (-sum(share.hourly.values()), share.namespace, share.key))
