"""Quantiles of histograms, as Prometheus' `histogram_quantile` has them.

https://github.com/prometheus/prometheus/blob/main/promql/quantile.go. In classic histograms counts
are of all that lies below a bound, and values are taken to lie evenly within a bucket; the lowest
one begins at 0 if its bound is positive, and what lies in the last is taken for the bound before
it. Native histograms have narrow buckets that grow with the value, so values are taken to lie
evenly on a logarithmic scale, except around 0.
"""

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def classic_quantile(q: float, firsts: Ints, bound: Floats, count: Floats) -> Floats:
    """Find a quantile of several classic histograms at once.

    Args:
        q: in (0, 1).
        firsts: int64[h], the first bucket of each histogram; each has at least one.
        bound: float64[k], upper bounds, ascending within each histogram.
        count: float64[k], how many observations lie below the bound.

    Returns:
        float64[h]; NaN for histograms without observations, or without a last bucket of +Inf.

    """
    owner, lasts = _owners(firsts, len(bound))
    # Rounding and missing scrapes must not make a larger bucket hold less.
    count = _running_max(owner, count)
    total = count[lasts]
    rank = q * total
    at = _reached(count >= rank[owner], firsts, lasts)
    is_first, is_last = at == firsts, at == lasts
    at = np.where(is_last & ~is_first, at - 1, at)  # The last one's bound is infinite.
    low = np.where(is_first, 0.0, bound[at - 1])
    below = np.where(is_first, 0.0, count[at - 1])
    high = bound[at]
    with np.errstate(divide="ignore", invalid="ignore"):
        inner = low + (high - low) * (rank - below) / (count[at] - below)
    result = np.where(is_last | (is_first & (high <= 0)), high, inner)
    return np.where((total > 0) & np.isposinf(bound[lasts]) & (lasts > firsts), result, np.nan)


def native_quantile(q: float, firsts: Ints, low: Floats, high: Floats, own: Floats) -> Floats:
    """Find a quantile of several native histograms at once.

    Args:
        q: in (0, 1).
        firsts: int64[h], the first bucket of each histogram; each has at least one.
        low, high: float64[k], between which a bucket lies; `high` ascends within each histogram.
        own: float64[k], its own observations.

    Returns:
        float64[h]; NaN for histograms without observations.

    """
    owner, lasts = _owners(firsts, len(own))
    count = np.cumsum(own)
    before = count[firsts] - own[firsts]
    count -= before[owner]
    total = count[lasts]
    rank = q * total
    at = _reached(count >= rank[owner], firsts, lasts)
    low, high = low[at], high[at]
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        share = np.clip((rank - (count[at] - own[at])) / own[at], 0, 1)
        growing = low * (high / low) ** share
        even = low + (high - low) * share
    # A first bucket without a lower end begins at 0 if it can, like a classic one's.
    even = np.where(np.isneginf(low), np.where(high > 0, high * share, high), even)
    result = np.where((low > 0) | (high < 0), growing, even)
    result = np.where(np.isneginf(low) & (high < 0), high, result)
    result = np.where(np.isposinf(high), low, result)
    return np.where(total > 0, result, np.nan)


def _owners(firsts: Ints, count: int) -> tuple[Ints, Ints]:
    """Tell the histogram of each bucket, and the last bucket of each histogram."""
    sizes = np.diff(firsts, append=count)
    return np.repeat(np.arange(len(firsts)), sizes), firsts + sizes - 1


def _reached(there: npt.NDArray[np.bool_], firsts: Ints, lasts: Ints) -> Ints:
    """Find the first bucket of each histogram that is `there`, or its last."""
    numbers = np.where(there, np.arange(len(there)), len(there))
    return np.minimum(np.minimum.reduceat(numbers, firsts), lasts)


def _running_max(owner: Ints, count: Floats) -> Floats:
    # Each histogram is lifted above the one before, so one running maximum serves them all.
    lift = owner * (float(count.max()) + 1.0)
    result: Floats = np.maximum.accumulate(count + lift) - lift
    return result
