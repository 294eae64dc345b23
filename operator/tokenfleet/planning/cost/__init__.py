"""What own hardware costs: in an hour, by what it was used for, and against an API's prices. Pure.

Money is a float in the currency of the class's price; nothing here converts one into another.
"""

from tokenfleet.planning.cost.allocation import OUTPUT_WEIGHT, Rates, Use, cost_of, weigh
from tokenfleet.planning.cost.break_even import ApiPrices, BreakEven, OwnReplicas, Point, break_even, curve
from tokenfleet.planning.cost.prices import hourly, price_of

__all__ = [
    "OUTPUT_WEIGHT",
    "ApiPrices",
    "BreakEven",
    "OwnReplicas",
    "Point",
    "Rates",
    "Use",
    "break_even",
    "cost_of",
    "curve",
    "hourly",
    "price_of",
    "weigh",
]
