"""Quantiles of histograms, as Prometheus' `histogram_quantile` has them.

https://github.com/prometheus/prometheus/blob/main/promql/quantile.go: linear within a classic bucket,
the lowest bucket begins at 0 if its bound is positive, and what lies in the last bucket is taken for
the bound before it.
"""

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def bucket_quantile(q: float, begins: Ints, bound: Floats, count: Floats) -> Floats:
    """Find a quantile of several classic histograms at once.

    Args:
        q: in (0, 1).
        begins: int64[h], the first bucket of each histogram; each has at least one.
        bound: float64[k], upper bounds, ascending within each histogram.
        count: float64[k], how many observations lie below the bound.

    Returns:
        float64[h]; NaN for histograms without observations, or without a last bucket of +Inf.

    """
    sizes = np.diff(begins, append=len(bound))
    owner = np.repeat(np.arange(len(begins)), sizes)
    # Rounding and missing scrapes must not make a larger bucket hold less.
    count = _running_max(begins, owner, count)
    ends = begins + sizes - 1
    total = count[ends]
    rank = q * total
    reached = count >= rank[owner]
    at = np.minimum.reduceat(np.where(reached, np.arange(len(bound)), len(bound)), begins)
    at = np.minimum(at, ends)
    is_first, is_last = at == begins, at == ends
    at = np.where(is_last & ~is_first, at - 1, at)  # The last one's bound is infinite.
    before = np.maximum(at - 1, 0)
    low = np.where(is_first, 0.0, bound[before])
    below = np.where(is_first, 0.0, count[before])
    high, inside = bound[at], count[at] - below
    with np.errstate(divide="ignore", invalid="ignore"):
        inner = low + (high - low) * (rank - below) / inside
    result = np.where(is_last | (is_first & (high <= 0)), high, inner)
    whole = (total > 0) & np.isposinf(bound[ends]) & (sizes > 1)
    return np.where(whole, result, np.nan)


def _running_max(begins: Ints, owner: Ints, count: Floats) -> Floats:
    if not len(count):
        return count
    # Each histogram is lifted above the one before, so one running maximum serves them all.
    lift = owner * (float(count.max()) + 1.0)
    del begins
    result: Floats = np.maximum.accumulate(count + lift) - lift
    return result
