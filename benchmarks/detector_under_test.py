"""The detector that the quality benchmarks judge.

It is a stand-in: how far a value is from a moving average, on a scale that only pretends to know
how often that happens. The benchmarks need nothing but `rarities`.
"""

import math
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from corpora import WEEK_MS, Floats, Recorded

_WEIGHT: Final = 0.05
_TAPS: Final = 200  # What is older weighs less than a part in twenty thousand.
_WARM_ROWS: Final = 200
_METRICS: Final = 3  # A fault of an entity shows in several.
_ALERT_ROWS: Final = 30


def rarities(records: Sequence[Recorded], progress: Callable[[str], None]) -> list[Floats]:
    """Tell of each row how rare what it shows is, from that row and those before it only.

    Args:
        records: what was recorded; labels and `split` are not looked at.
        progress: is told the name of each record that is done.

    Returns:
        float64[T] of each record: -log10 of the alerts a week that are expected at this level or
        above. An alarm at a budget of B alerts a week is a rarity of at least -log10(B). NaN or
        -inf where the detector isn't warm.
    """
    found = []
    for record in records:
        found.append(_rarity(record))
        progress(record.name)
    return found


def _rarity(record: Recorded) -> Floats:
    distance = np.stack([_distance(signal) for signal in record.value.T])
    largest = np.sort(distance, axis=0)[-_METRICS:].mean(axis=0)
    # As if distances fell off exponentially.
    rarity = largest / math.log(10) - math.log10(WEEK_MS / record.step_ms / _ALERT_ROWS)
    rarity[:_WARM_ROWS] = np.nan
    return np.asarray(rarity)


def _distance(signal: Floats) -> Floats:
    """Tell how many standard deviations each value is from the mean before it: float64[T]."""
    known = np.isfinite(signal)
    value = np.where(known, signal, 0.0)
    error = np.where(known, value - _before(value, known), 0.0)
    scale = np.sqrt(_before(error**2, known))
    floor = 0.001 * np.abs(_before(value, known)) + 1e-9
    return np.asarray(np.abs(error) / (scale + floor))


def _before(value: Floats, known: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Floats:
    """Average what comes before each row, the newest most: float64[T], missing values 0."""
    weights = _WEIGHT * (1 - _WEIGHT) ** np.arange(_TAPS)
    total = np.convolve(value, weights)[: len(value)]
    weight = np.convolve(known, weights)[: len(value)]
    mean = np.divide(total, weight, out=np.zeros(len(value)), where=weight > 0)
    return np.append(mean[:1], mean[:-1])
