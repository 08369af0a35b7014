"""Quantiles are those of Prometheus, of many histograms at once as of each alone.

The references are written after promql/quantile.go, a histogram at a time. Where a quantile lies at
the very end of a bucket, rounding may find the next one; values there are left out.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from watchkeep.detectors.quantiles import Layout, classic_quantiles, layout, native_quantile

Classic = list[tuple[float, float]]  # bound, count of all below it
Bucket = tuple[float, float, float]  # lower, upper, own count
Native = list[Bucket]

_QUANTILES = st.sampled_from([0.01, 0.25, 0.5, 0.9, 0.99])


def classic_reference(q: float, buckets: Classic) -> float:
    """Find a quantile as `BucketQuantile` does."""
    if not math.isinf(buckets[-1][0]):
        return math.nan
    counts: list[float] = []
    for _, count in buckets:
        counts.append(max(count, counts[-1]) if counts else count)
    if len(buckets) < 2 or not counts[-1]:
        return math.nan
    rank = q * counts[-1]
    b = next((i for i, count in enumerate(counts[:-1]) if count >= rank), len(buckets) - 1)
    if b == len(buckets) - 1:
        return buckets[-2][0]
    end = buckets[b][0]
    if not b:
        return end if end <= 0 else end * rank / counts[0]
    start = buckets[b - 1][0]
    return start + (end - start) * (rank - counts[b - 1]) / (counts[b] - counts[b - 1])


def native_reference(q: float, buckets: Native, *, custom: bool) -> float:
    """Find a quantile as `HistogramQuantile` does."""
    total = sum(count for _, _, count in buckets)
    if not total:
        return math.nan
    rank = q * total
    populated = [bucket for bucket in buckets if bucket[2]]
    at = next(i for i in range(len(populated)) if sum(b[2] for b in populated[: i + 1]) >= rank)
    lower, upper, count = populated[at]
    share = (rank - sum(b[2] for b in populated[:at])) / count
    if custom:
        return custom_reference(lower, upper, share)
    if lower < 0 < upper:
        if not at and len(populated) > 1:
            lower = 0.0
        if at and at == len(populated) - 1:
            upper = 0.0
    if lower <= 0 <= upper:
        return lower + (upper - lower) * share
    start, end = math.log2(abs(lower)), math.log2(abs(upper))
    return math.copysign(2 ** (start + (end - start) * share), lower)


def custom_reference(lower: float, upper: float, share: float) -> float:
    if math.isinf(upper):
        return math.nan if math.isinf(lower) else lower  # Of two infinities it makes Inf.
    if math.isinf(lower):
        return upper * share if upper > 0 else upper
    return lower + (upper - lower) * share


def at_an_end(q: float, own: Sequence[float]) -> bool:
    """Tell whether a quantile lies where one bucket ends and another begins."""
    below = np.cumsum(own)
    return bool(below[-1]) and bool((np.abs(below - q * below[-1]) <= 1e-6 * below[-1]).any())


def classic_at_once(q: float, histograms: Sequence[Classic]) -> list[float]:
    bound, count = np.array([bucket for buckets in histograms for bucket in buckets]).T
    found: list[float] = classic_quantiles([q], laid_out(histograms), bound, count)[0].tolist()
    return found


def native_at_once(q: float, histograms: Sequence[Native]) -> list[float]:
    low, high, own = np.array([bucket for buckets in histograms for bucket in buckets]).T
    found: list[float] = native_quantile(q, laid_out(histograms), low, high, own).tolist()
    return found


def laid_out(histograms: Sequence[Classic] | Sequence[Native]) -> Layout:
    sizes = [len(buckets) for buckets in histograms]
    return layout(np.array([sum(sizes[:number]) for number in range(len(sizes))]), sum(sizes))


@st.composite
def classics(draw: st.DrawFn) -> Classic:
    """Counts may fall, the last bucket may be missing, and there may be but one."""
    bounds = sorted(draw(st.sets(st.integers(-20, 20), max_size=6)))
    ends = [bound / 4 for bound in bounds] + draw(st.sampled_from([[], [math.inf], [math.inf]]))
    counts = st.one_of(
        st.integers(0, 9).map(float), st.floats(0, 1e3, allow_subnormal=False), st.just(1e30)
    )
    return [(end, draw(counts)) for end in ends or [1.0]]


@st.composite
def exponentials(draw: st.DrawFn) -> Native:
    """Buckets of one schema, with a zero bucket that may be wide."""
    width = 2.0 ** -draw(st.integers(-2, 4))
    counts = st.one_of(st.integers(0, 9).map(float), st.just(1e30), st.just(0.25))
    zero = draw(st.sampled_from([0.0, 2.0**-128, 2.0**-10]))
    sides = [sorted(draw(st.sets(st.integers(0, 30), max_size=5))) for _ in range(2)]
    negative, positive = (
        [(2 ** ((i - 1) * width), 2 ** (i * width), draw(counts)) for i in side if i * width > -9]
        for side in sides
    )
    middle = [(-zero, zero, draw(counts))] if draw(st.booleans()) else []
    buckets = [(-upper, -lower, own) for lower, upper, own in negative[::-1]] + middle + positive
    return buckets or [(1.0, 2.0, 0.0)]


@st.composite
def customs(draw: st.DrawFn) -> Native:
    """Buckets between bounds that somebody chose, some of them not populated."""
    inner = [i * 0.3 for i in sorted(draw(st.sets(st.integers(-20, 20), max_size=6)))]
    edges = [-math.inf, *inner, math.inf]
    counts = st.one_of(st.integers(0, 9).map(float), st.just(1e30))
    buckets = [(low, high, draw(counts)) for low, high in pairwise(edges)]
    # One like the zero bucket's can't be told from it.
    return [bucket for bucket in buckets if bucket[0] != -bucket[1]] or [(-math.inf, 0.3, 0.0)]


@given(_QUANTILES, st.lists(classics(), min_size=1, max_size=8))
def test_quantiles_of_classic_histograms_are_those_of_prometheus(
    q: float, histograms: list[Classic]
) -> None:
    found = classic_at_once(q, histograms)
    for buckets, value in zip(histograms, found, strict=True):
        assert value == pytest.approx(classic_reference(q, buckets), rel=1e-9, nan_ok=True), buckets


@settings(max_examples=200)
@given(_QUANTILES, st.lists(exponentials(), min_size=1, max_size=8))
def test_quantiles_of_exponential_histograms_are_those_of_prometheus(
    q: float, histograms: list[Native]
) -> None:
    found = native_at_once(q, histograms)
    for buckets, value in zip(histograms, found, strict=True):
        if not at_an_end(q, [own for _, _, own in buckets]):
            expected = native_reference(q, buckets, custom=False)
            assert value == pytest.approx(expected, rel=1e-6, abs=1e-12, nan_ok=True), buckets


@settings(max_examples=200)
@given(_QUANTILES, st.lists(customs(), min_size=1, max_size=8))
def test_quantiles_of_custom_histograms_are_those_of_prometheus(
    q: float, histograms: list[Native]
) -> None:
    """But bounds may happen to be those of a schema, so they are taken for it."""
    found = native_at_once(q, histograms)
    for buckets, value in zip(histograms, found, strict=True):
        if not at_an_end(q, [own for _, _, own in buckets]):
            expected = native_reference(q, buckets, custom=True)
            assert value == pytest.approx(expected, rel=1e-6, abs=1e-9, nan_ok=True), buckets


@pytest.mark.parametrize(
    ("buckets", "expected"),
    [
        ([(1, 2, 10)], math.sqrt(2)),
        ([(-2, -1, 10)], -math.sqrt(2)),
        ([(-1, 1, 10)], 0),
        ([(-1, 1, 10), (1, 2, 1)], 0.55),
        ([(-2, -1, 1), (-1, 1, 10)], -0.55),
        ([(-2, -1, 1), (-1, 1, 10), (1, 2, 1)], 0),
        ([(0, 0, 10)], 0),
        ([(0.1, 0.25, 10)], 0.175),
        ([(0.3, 0.6, 10)], 0.45),
        ([(-math.inf, 2, 10)], 1),
        ([(-math.inf, -2, 10)], -2),
        ([(2, math.inf, 10)], 2),
        ([(-math.inf, math.inf, 10)], math.nan),
        ([(1, 2, 0)], math.nan),
    ],
)  # fmt: skip
def test_medians_of_native_histograms(buckets: Native, expected: float) -> None:
    assert native_at_once(0.5, [buckets]) == pytest.approx([expected], nan_ok=True)


def test_bounds_that_were_rounded_are_those_of_a_schema() -> None:
    """The roster has them as 32-bit floats."""
    ends = (2.0 ** (np.arange(-1600, 1600) / 16)).astype(np.float32).astype(np.float64)
    low, high = ends[:-1], ends[1:]
    found = native_quantile(
        0.5, layout(np.arange(len(low)), len(low)), low, high, np.ones(len(low))
    )
    assert found == pytest.approx(np.sqrt(low * high), rel=1e-12)


def test_a_huge_histogram_takes_nothing_from_the_others() -> None:
    small: Classic = [(1, 2), (2, 1), (math.inf, 4)]
    huge: Classic = [(1, 1e35), (2, 3e35), (math.inf, 2e35)]
    assert classic_at_once(0.5, [small, huge, small])[::2] == [1.0, 1.0]
    few: Native = [(1, 2, 3), (4, 8, 1)]
    assert native_at_once(0.5, [[(1, 2, 1e35)], few])[1] == pytest.approx(2 ** (2 / 3))
