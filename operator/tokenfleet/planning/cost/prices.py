"""The price of hardware, by the hour."""

from tokenfleet.planning.accelerators import Accelerator


def price_of(accelerator: Accelerator, *, spot: bool = False) -> float | None:
    """Of one device for an hour (of one replica, where the class has no device); None: the class has no price.

    spot: at the price of spot, or at that on demand where the class has no other.
    """
    price = accelerator.price
    if price is None:
        return None
    return price.spot if spot and price.spot is not None else price.on_demand


def hourly(accelerator: Accelerator, devices: int, replicas: float, *, spot: bool = False) -> float | None:
    """Of so many replicas for an hour, in the class's currency; None: the class has no price.

    devices: of one replica. A class without devices is paid by the replica.
    """
    price = price_of(accelerator, spot=spot)
    return None if price is None else price * (devices if accelerator.resource else 1) * replicas
