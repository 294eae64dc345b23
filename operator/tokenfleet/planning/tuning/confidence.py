"""Whether a percentile lies below a limit, told while the samples come in. Pure.

A percentile p is at most a limit exactly where at least the share p of all values is within it. So the question is about one
share, whatever the distribution (order statistics: H. A. David, H. N. Nagaraja, Order Statistics, 3rd ed., 7.1; as a test, W.
J. Conover, Practical Nonparametric Statistics, 3rd ed., 3.2).

A binomial interval holds for a number of samples that was chosen before. Here somebody looks again and again and stops as
soon as it is clear, and with such an interval would be wrong much more often than it says. So the test is a sequential one,
Robbins' mixture (H. Robbins, Statistical Methods Related to the Law of the Iterated Logarithm, Ann. Math. Statist. 41, 1970;
for quantiles, S. R. Howard, A. Ramdas, Sequential estimation of quantiles, Bernoulli 28, 2022): if the share of values within
the limit were p, the ratio

    mean over q of q^k (1-q)^m,  to  p^k (1-p)^m          k samples within, m not

would ever come above 1/α with probability α at most (Ville's inequality), however often one looks. q is uniform over the shares
that the other answer allows: those above p to show that the limit is met, those below p to show that it is not.
"""

from math import inf, log, log1p

from tokenfleet.planning.tuning.beta import log_beta, share_below


def met(within: float, total: float, *, share: float, alpha: float) -> bool:
    """Whether it is shown that more than `share` of all is within the limit."""
    return _ratio(within, total - within, share) >= -log(alpha)


def missed(within: float, total: float, *, share: float, alpha: float) -> bool:
    """Whether it is shown that less than `share` of all is within the limit."""
    return _ratio(total - within, within, 1 - share) >= -log(alpha)


def least_within(total: float, *, share: float, alpha: float) -> float:
    """The fewest of `total` that must be within a limit for it to be shown as met; inf: all would be too few."""
    return _least(total, share, alpha)


def most_within(total: float, *, share: float, alpha: float) -> float:
    """The most of `total` that may be within a limit for it to be shown as missed; -inf: none would be too many."""
    return total - _least(total, 1 - share, alpha)


def fewest_samples(*, share: float, alpha: float) -> int:
    """Which, with all of them within the limit, show that it is met."""
    count = 1
    while not met(count, count, share=share, alpha=alpha):
        count += 1
    return count


def _ratio(more: float, less: float, share: float) -> float:
    """Logarithm of the ratio above, for the shares over `share`."""
    a, b = more + 1, less + 1
    there = 1 - share_below(share, a, b)
    if there <= 0:
        return -inf
    return log_beta(a, b) + log(there) - log1p(-share) - more * log(share) - less * log1p(-share)


def _least(total: float, share: float, alpha: float) -> float:
    if _ratio(total, 0, share) < -log(alpha):
        return inf
    low, high = 0.0, total
    for _ in range(40):
        middle = (low + high) / 2
        if _ratio(middle, total - middle, share) >= -log(alpha):
            high = middle
        else:
            low = middle
    return high
