"""Waiting in line: means and tails of queues, as approximations that need no more than means and variations. Seconds."""

from math import log, sqrt


def queue_wait(utilisation: float, service: float, variation: float = 0.0) -> float:
    """Mean, at one server with Poisson arrivals: u/(1-u) · (1+cv²)/2 · service (Pollaczek and Khinchine; as Kingman 1961 has
    it for any arrivals)."""
    return utilisation / (1 - utilisation) * (1 + variation * variation) / 2 * service


def place_wait(utilisation: float, places: float, held: float, variation: float = 0.0) -> float:
    """Mean, for one of many places that are each held so long: u^(√(2(c+1))-1) / (c(1-u)) · (1+cv²)/2 · held
    (Sakasegawa 1977; Hopp and Spearman, Factory Physics, 8.6.5)."""
    waiting = chance_of_waiting(utilisation, places)
    return waiting / (places * (1 - utilisation)) * (1 + variation * variation) / 2 * held


def chance_of_waiting(utilisation: float, places: float) -> float:
    """Of an arrival, in Sakasegawa's approximation."""
    return float(utilisation ** (sqrt(2 * (places + 1)) - 1))


def tail(mean: float, chance: float, percentile: float) -> float:
    """Of a wait that is 0 but for a chance, and exponential then: the tail of M/M/c, and of any queue under heavy load."""
    if chance <= 1 - percentile:
        return 0.0
    return mean / chance * log(chance / (1 - percentile))


def poisson_quantile(mean: float, percentile: float) -> int:
    """Smallest n that as many as `mean` in the mean do not exceed at this percentile."""
    if mean > 50:
        # A normal distribution is within one of it.
        return round(mean + sqrt(mean) * _z(percentile))
    count, chance = 0, 2.718281828459045**-mean
    total = chance
    while total < percentile:
        count += 1
        chance *= mean / count
        total += chance
    return count


def _z(percentile: float) -> float:
    """Of the standard normal distribution, within 0.005: Abramowitz and Stegun 26.2.23, to one term less."""
    t = sqrt(-2 * log(min(percentile, 1 - percentile)))
    z = t - (2.515517 + 0.802853 * t + 0.010328 * t * t) / (1 + 1.432788 * t + 0.189269 * t * t + 0.001308 * t**3)
    return z if percentile > 0.5 else -z
