"""Quantiles of histograms, as Prometheus' `histogram_quantile` has them.

https://github.com/prometheus/prometheus/blob/main/promql/quantile.go. In classic histograms counts
are of all that lies below a bound, and values are taken to lie evenly within a bucket; the lowest
begins at 0 if its bound is positive, and what lies in the last is taken for the bound before it.
Native histograms have narrow buckets that grow with the value, so values are taken to lie evenly
on a logarithmic scale, except around 0 and between custom bounds.

Histograms are kept apart in all sums: next to one of 1e30 one of 1 is as exact as alone.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from watchkeep.detectors.arrays import run_sizes, some

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

# Bounds are known as 32-bit floats.
_EXACT: Final = 1e-5
# Sums that are equal but for rounding must fall into one bucket, in whatever order they came.
_TIE: Final = 1 - 1e-9


class Layout(NamedTuple):
    """Which buckets belong to which histogram; they stand one histogram after the other.

    Attributes:
        firsts, lasts: int64[h], the first and the last bucket of each; each has at least one.
        owner: int64[k], the histogram of each bucket.
    """

    firsts: Ints
    lasts: Ints
    owner: Ints


def layout(firsts: Ints, count: int) -> Layout:
    """Lay out so many buckets, by the first one of each histogram."""
    sizes = run_sizes(firsts, count)
    return Layout(firsts, firsts + sizes - 1, np.repeat(np.arange(len(firsts)), sizes))


def classic_quantiles(
    qs: Sequence[float], where: Layout, bound: Floats, count: Floats
) -> list[Floats]:
    """Find quantiles of several classic histograms at once.

    Args:
        qs: each in (0, 1).
        where: which bucket is whose.
        bound: float64[k], upper bounds, ascending within each histogram.
        count: float64[k], how many observations lie below the bound.

    Returns:
        float64[h] for each; NaN for histograms without observations, or without a last bucket of
        +Inf.

    """
    firsts, lasts, owner = where
    # Rounding and missing scrapes must not make a larger bucket hold less.
    count = _running_max(owner, count)
    total = count.take(lasts)
    whole = (total > 0) & (bound.take(lasts) == np.inf) & (lasts > firsts)
    # All quantiles at once: a row of each matrix is one's.
    rank = np.multiply.outer(qs, total)
    at = _reached(count >= (rank * _TIE).take(owner, axis=1), where)
    is_first, is_last = at == firsts, at == lasts
    at = np.where(is_last & ~is_first, at - 1, at)  # The last one's bound is infinite.
    low = np.where(is_first, 0.0, bound.take(at - 1))
    below = np.where(is_first, 0.0, count.take(at - 1))
    high = bound.take(at)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        inner = low + (high - low) * (rank - below) / (count.take(at) - below)
    result = np.where(is_last | (is_first & (high <= 0)), high, inner)
    return list(np.where(whole, result, np.nan))


def native_quantile(q: float, where: Layout, low: Floats, high: Floats, own: Floats) -> Floats:
    """Find a quantile of several native histograms at once.

    Args:
        q: in (0, 1).
        where: which bucket is whose.
        low: float64[k], where a bucket begins.
        high: float64[k], where it ends, ascending within each histogram.
        own: float64[k], its own observations.

    Returns:
        float64[h]; NaN for histograms without observations, or without any bound.

    """
    firsts, _, owner = where
    total = np.add.reduceat(own, firsts)
    share = own / np.where(total > 0, total, 1.0)[owner]
    count = np.cumsum(share)
    count -= (count[firsts] - share[firsts])[owner]
    at = _reached(count >= q * _TIE, where)
    low, high = low[at], high[at]
    # The zero bucket holds nothing below 0 where no other bucket does, and likewise above.
    number = np.arange(len(own))
    below = np.minimum.reduceat(np.where(own > 0, number, len(own)), firsts) < at
    above = np.maximum.reduceat(np.where(own > 0, number, -1), firsts) > at
    zero = low == -high
    low = np.where(zero & above & ~below, 0.0, low)
    high = np.where(zero & below & ~above, 0.0, high)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        inside = np.clip((q - (count[at] - share[at])) / share[at], 0, 1)
        growing = low * (high / low) ** inside
        even = low + (high - low) * inside
        # A first bucket without a lower end begins at 0 if it can, like a classic one's.
        open_below = np.where(high > 0, high * inside, high)
    result = np.where(_is_exponential(low, high), growing, even)
    result = np.where(np.isneginf(low), open_below, result)
    result = np.where(np.isposinf(high), low, result)
    return np.where((total > 0) & np.isfinite(result), result, np.nan)


def _is_exponential(low: Floats, high: Floats) -> npt.NDArray[np.bool_]:
    """Tell which buckets have bounds like those of some schema, not custom ones.

    Both are powers of 2 ** 2 ** -schema that follow one another.
    """
    fits: npt.NDArray[np.bool_] = ((low > 0) | (high < 0)) & np.isfinite(low) & np.isfinite(high)
    low, high = np.where(fits, np.abs(low), 1.0), np.where(fits, np.abs(high), 3.0)
    schema = -np.log2(np.abs(np.log2(high / low)))
    number = np.log2(high) * 2 ** np.rint(schema)
    for exponent in (schema, number):
        fits &= np.abs(exponent - np.rint(exponent)) < _EXACT * 10
    return fits


def _reached(there: npt.NDArray[np.bool_], where: Layout) -> Ints:
    """Find the first bucket of each histogram that is `there`, or its last; in each row."""
    size = there.shape[-1]
    numbers = np.where(there, np.arange(size), size)
    return np.minimum(np.minimum.reduceat(numbers, where.firsts, axis=-1), where.lasts)


def _running_max(owner: Ints, count: Floats) -> Floats:
    falls = (count[1:] < count[:-1]) & (owner[1:] == owner[:-1])
    if not some(falls):
        return count
    # Ranks are exact. Each histogram's are lifted above the one before, so one maximum serves all.
    order = np.argsort(count)
    rank = np.empty(len(count), np.int64)
    rank[order] = np.arange(len(count))
    lift = owner * len(count)
    result: Floats = count[order[np.maximum.accumulate(rank + lift) - lift]]
    return result
