"""What a signal is like, in numbers that any two signals can be compared by.

Every estimator takes a signal on a regular grid, with NaN for gaps, and says NaN rather than guess.
"""

import math
import warnings
from dataclasses import dataclass, fields
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_DAY_S: Final = 86_400.0
_SIGMAS_PER_MAD: Final = 1.4826  # Of normal noise.
_SAMPLES_MIN: Final = 100
_PAIRS_MIN: Final = 50  # Samples a lag apart that both are there.
_TAIL: Final = 0.02
_TAIL_SAMPLES_MIN: Final = 20
_TAIL_MAX: Final = 0.1  # Further in is no tail, however few the samples are.
_RATIO_SAMPLES_MIN: Final = 500  # q99.9 of fewer is all but their maximum.
_LAG_S: Final = 600.0
_SEASON_DAYS_MIN: Final = 2.0
_BIN_SAMPLES_MIN: Final = 30  # The median of fewer follows the noise, and passes it for a season.
_BLOCK_S, _BLOCK_SAMPLES_MIN = 1_800.0, 12
_BLOCKS_A_SIDE: Final = 4  # Two hours: what lasts for less is no new level.
_SHIFT_SIGMAS: Final = 3.0
_ROUNDING: Final = 1e-12  # Relative, of what was computed from equal numbers.


@dataclass(frozen=True)
class Measures:
    """What one signal is like; NaN where it has too few samples to say, or none that differ.

    Attributes:
        constant: no two samples differ; every measure but the next is NaN.
        equal_share: of the samples, those that equal the one before.
        tail_index: Hill's, of the steps from sample to sample; the smaller, the more wild jumps.
        tail_ratio: how far the wildest steps are beyond the merely large ones; 1.3 if normal.
        autocorrelation_step: of what the daily season leaves, from one sample to the next.
        autocorrelation_10min: the same, after ten minutes.
        season_strength: the share of the variance that the time of day explains.
        residual_cv: the noise around the daily season, over the mean.
        step_cv: the part of that noise which is new with every sample, over the mean.
        shifts_per_day: how often the level moves, and stays.
    """

    constant: bool
    equal_share: float
    tail_index: float = math.nan
    tail_ratio: float = math.nan
    autocorrelation_step: float = math.nan
    autocorrelation_10min: float = math.nan
    season_strength: float = math.nan
    residual_cv: float = math.nan
    step_cv: float = math.nan
    shifts_per_day: float = math.nan


MEASURES: Final = tuple(field.name for field in fields(Measures) if field.name != "constant")


def measures(value: Floats, step_s: float) -> Measures:
    """Measure one signal.

    A counter is a steep ramp here, as it is to anyone who doesn't take its `increase` first.

    Args:
        value: float64[n], NaN where nothing is known.
        step_s: from one sample to the next.
    """
    assert value.ndim == 1
    assert value.dtype == np.float64
    assert step_s > 0
    there = value[np.isfinite(value)]
    # A quantile or mean of equal numbers differs from them by a rounding or two: that is no change.
    step = np.diff(value)
    rounding = 8 * np.spacing(np.maximum(np.abs(value[1:]), np.abs(value[:-1])))
    step = np.where(np.abs(step) <= rounding, 0.0, step)[np.isfinite(step)]
    equal_share = float(np.mean(step == 0.0)) if len(step) else math.nan
    if not len(there) or np.ptp(there) <= 8 * np.spacing(np.abs(there).max()):
        return Measures(constant=True, equal_share=equal_share)
    if min(len(there), len(step)) < _SAMPLES_MIN:
        return Measures(constant=False, equal_share=equal_share)
    residual, season = _season(value, step_s)
    return Measures(
        constant=False,
        equal_share=equal_share,
        tail_index=tail_index(step),
        tail_ratio=tail_ratio(step),
        autocorrelation_step=autocorrelation(residual, 1),
        autocorrelation_10min=autocorrelation(residual, round(_LAG_S / step_s)),
        season_strength=season,
        residual_cv=_relative(_deviation(residual), there),
        # White noise is new in both ends of a step, and so its steps vary twice as much. Source:
        # von Neumann et al., "The Mean Square Successive Difference", 1941, here with the MAD.
        step_cv=_relative(_deviation(step) / math.sqrt(2), there),
        shifts_per_day=shifts_per_day(residual, step_s),
    )


def increase(counter: Floats) -> Floats:
    """What a counter grew by: float64[n] to float64[n], NaN first and where it began anew."""
    step = np.diff(counter, prepend=np.nan)
    return np.where(step < 0.0, np.nan, step)


def tail_index(step: Floats) -> float:
    """Estimate how slowly the probability of large steps falls: P(|step| > x) ~ x ** -index.

    Deviations are from the median step; the estimate is the same in any unit, so no scale is taken.

    Source: Hill, "A Simple General Approach to Inference About the Tail of a Distribution", 1975.

    Args:
        step: float64[n], without NaN.

    Returns:
        the index; t-distributed steps of 3 degrees of freedom have nearly 3, normal ones 7.5.
        NaN if the samples are too few, or the largest of them all alike.
    """
    size = np.sort(np.abs(step - np.median(step)))
    count = max(_TAIL_SAMPLES_MIN, math.ceil(_TAIL * len(size)))
    if count > _TAIL_MAX * len(size) or size[-count - 1] == 0.0:
        return math.nan
    mean = float(np.mean(np.log(size[-count:] / size[-count - 1])))
    return 1 / mean if mean > 0.0 else math.nan


def tail_ratio(step: Floats) -> float:
    """Compare the 99.9% quantile of the steps' sizes with the 99% one: 1.28 for normal steps.

    A kurtosis that no single outlier decides. Source: Hogg, "Adaptive Robust Procedures", 1974,
    who measures tails by ratios of outer to inner quantiles.

    Args:
        step: float64[n], without NaN.
    """
    if len(step) < _RATIO_SAMPLES_MIN:
        return math.nan
    inner, outer = np.quantile(np.abs(step - np.median(step)), [0.99, 0.999])
    return float(outer / inner) if inner > 0.0 else math.nan


def autocorrelation(value: Floats, lag: int) -> float:
    """Estimate the autocorrelation from the pairs of samples that both are there.

    Source: Parzen, "On Spectral Analysis with Missing Observations and Amplitude Modulation", 1963.

    Args:
        value: float64[n], NaN where nothing is known.
        lag: in samples; a lag of none, or of more than half of them, gives NaN.
    """
    if not 1 <= lag <= len(value) // 2:
        return math.nan
    deviation = value - np.nanmean(value)
    product = deviation[lag:] * deviation[:-lag]
    variance = np.nanmean(deviation**2)
    if np.isfinite(product).sum() < _PAIRS_MIN or variance == 0.0:
        return math.nan
    return float(np.nanmean(product) / variance)


def shifts_per_day(residual: Floats, step_s: float) -> float:
    """Count moves of the level, from the two hours before to the two hours after, that stand out.

    To stand out is to exceed three times the noise within half an hour. Half hours of less than 12
    samples are made longer. A signal that wanders moves often. Source: the shifts between sliding
    windows of Hyndman, Wang and Laptev, "Large-Scale Unusual Time Series Detection", 2015, with
    medians and a count in place of the largest mean shift.

    Args:
        residual: float64[n], NaN where nothing is known.
        step_s: from one sample to the next.
    """
    width = max(_BLOCK_SAMPLES_MIN, round(_BLOCK_S / step_s))
    count = len(residual) // width
    block = residual[: count * width].reshape(count, width)
    middle = _median(block)
    if np.isfinite(middle).sum() < 4 * _BLOCKS_A_SIDE:
        return math.nan
    noise = _deviation(block - middle[:, None])
    level = _median(np.lib.stride_tricks.sliding_window_view(middle, _BLOCKS_A_SIDE))
    move = np.abs(level[_BLOCKS_A_SIDE:] - level[:-_BLOCKS_A_SIDE])
    # Of a noiseless signal every move stands out, but not a rounding.
    out = move > max(_SHIFT_SIGMAS * noise, _ROUNDING * float(np.nanmax(np.abs(residual))))
    # A move is seen from several blocks around it.
    shifts = int(out[0]) + int(np.sum(out[1:] & ~out[:-1]))
    watched_s = int(np.isfinite(middle).sum()) * width * step_s
    return shifts / (watched_s / _DAY_S)


def _season(value: Floats, step_s: float) -> tuple[Floats, float]:
    """Take the median of the time of day away, and tell how much of the variance it explained.

    A day's own level is no season: it is taken out before the days are compared, lest a move of the
    level look like a jump at the same time of every day.

    Source: Wang, Smith and Hyndman, "Characteristic-Based Clustering for Time Series Data", 2006.

    Returns:
        float64[n] residual, around 0; the strength, 0 to 1, NaN for less than two days or a step
        that doesn't divide the day, whose residual is that from the median of all.
    """
    days = len(value) * step_s / _DAY_S
    if days < _SEASON_DAYS_MIN or _DAY_S % step_s:
        return value - np.nanmedian(value), math.nan
    samples, rows = int(_DAY_S / step_s), math.ceil(days)
    width = math.ceil(_BIN_SAMPLES_MIN / days)
    bins = math.ceil(samples / width)
    table = np.full(rows * samples, np.nan)
    table[: len(value)] = value
    whole = np.full((rows, bins * width), np.nan)
    by_day = table.reshape(rows, samples)
    whole[:, :samples] = by_day - _median(by_day)[:, None]
    profile = _median(whole.reshape(rows, bins, width).swapaxes(0, 1).reshape(bins, -1))
    known = np.isfinite(profile)
    edges = np.minimum(np.arange(bins + 1) * width, samples)  # The last bin may be a short one.
    middle = (edges[:-1] + edges[1:] - 1) / 2
    usual = np.interp(np.arange(samples), middle[known], profile[known], period=samples)
    residual = value - np.tile(usual, rows)[: len(value)]
    residual -= np.nanmedian(residual)
    return residual, max(0.0, 1 - float(np.nanvar(residual) / np.nanvar(value)))


def _relative(deviation: float, value: Floats) -> float:
    """Divide by the mean's size: NaN if that is 0, and 0 for what is mere rounding."""
    level = abs(float(np.mean(value)))
    ratio = deviation / level if level > 0.0 else math.nan
    return 0.0 if ratio < _ROUNDING else ratio


def _deviation(value: Floats) -> float:
    """Estimate a standard deviation by the median absolute deviation, which few outliers sway.

    Source: Rousseeuw and Croux, "Alternatives to the Median Absolute Deviation", 1993.
    """
    return _SIGMAS_PER_MAD * float(np.nanmedian(np.abs(value - np.nanmedian(value))))


def _median(table: Floats) -> Floats:
    """Take the median of each row, NaN of a row of NaN: a gap, and nothing to warn of."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN slice", RuntimeWarning)
        return np.asarray(np.nanmedian(table, axis=1), np.float64)
