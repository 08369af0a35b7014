"""What keeps an anomaly from teaching, and a score from being nonsense: shared by channels.

A value beyond `far` is not learnt, for at most as many cells as the memory is long, after which it
is the new normal; and what is learnt is clipped at four deviations. The spread has a floor of 2% of
what is expected, so that a nearly constant signal isn't abnormal at its first breath.
"""

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from watchkeep.detectors.arrays import Arrays, Field, SlotArray, where

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

CLIP: Final = 4.0
FLOOR: Final = 0.02
SCORE_MAX: Final = 1e6
# Squares beyond this overflow; no real metric comes near.
LARGEST: Final = 1e150
# Squares of less vanish: a spread that is smaller says nothing of what may be learnt.
SMALLEST: Final = 1e-150
CELLS_MAX: Final = np.iinfo(np.int32).max - 1

FAR_CELLS: Final = "far_cells"
FAR_FIELD: Final = Field("i4", 0)


class Limits(NamedTuple):
    """When a value is not learnt.

    Attributes:
        far: a score, in deviations, that is not learnt from.
        memory_cells: for how many cells on end at most.
    """

    far: float
    memory_cells: int


def usable(value: Floats) -> Flags:
    """Tell which values can be scored and learnt; NaN compares as false."""
    return np.abs(value) < LARGEST


def all_usable(value: Floats) -> bool:
    """Tell at little cost that all values can be scored; False leaves it open.

    A sum of squares that is small enough has no square that is too large, and no NaN.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(value.dot(value) < LARGEST * LARGEST)


def scored(distance: Floats, spread: Floats, known: Flags) -> Floats:
    """Give distances in spreads, NaN where it isn't known; a spread may be next to nothing."""
    score = np.full(len(distance), np.nan)
    with np.errstate(over="ignore"):
        np.divide(distance, spread, out=score, where=known)
    np.minimum(np.maximum(score, -SCORE_MAX, out=score), SCORE_MAX, out=score)
    return score


def teaching(state: Arrays, slots: SlotArray, score: Floats, warm: Flags, limits: Limits) -> Flags:
    """Count how long scores have been far, and tell which values are learnt.

    Args:
        state: has the column FAR_CELLS; changed in place.
        slots: int64[n], of signals with a usable value, each at most once.
        score: float64[n]; NaN is not far.
        warm: bool[n]; what isn't warm learns everything.
        limits: the settings.
    """
    far = np.abs(score) >= limits.far
    cells = state[FAR_CELLS].take(slots)
    changed = where(far | (cells > 0))
    learns = np.ones(len(slots), bool)
    if len(changed):
        counted = np.where(far[changed], np.minimum(cells[changed] + 1, CELLS_MAX), 0)
        state[FAR_CELLS][slots[changed]] = counted
        held = (counted > 0) & (counted <= limits.memory_cells)
        learns[changed] = ~(held & warm[changed])
    return learns
