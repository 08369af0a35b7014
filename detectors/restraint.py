"""What keeps an anomaly from teaching, and a score from being nonsense: shared by channels.

A value beyond `far` is not learnt, for at most as many cells as the memory is long, after which it
is the new normal; and what is learnt is clipped at four deviations. The spread has a floor of 2% of
what is expected, so that a nearly constant signal isn't abnormal at its first breath.
"""

from typing import Final, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from watchkeep.detectors.arrays import Field, SlotArray, most, where

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Counts = npt.NDArray[np.int32]
# Which values are learnt; True for all.
Learns = Flags | Literal[True]

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

_NONE: Final = np.empty(0, np.int64)


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
    """Tell whether all of some values, at least one, can be scored and learnt."""
    return bool(most(np.abs(value)) < LARGEST)


def scored(distance: Floats, spread: Floats, known: Flags) -> Floats:
    """Give distances in spreads, NaN where it isn't known; a spread may be next to nothing."""
    score = np.full(len(distance), np.nan)
    with np.errstate(over="ignore"):
        np.divide(distance, spread, out=score, where=known)
    np.minimum(np.maximum(score, -SCORE_MAX, out=score), SCORE_MAX, out=score)
    return score


def teaching(far_cells: Counts, score: Floats, known: Flags, warm: Flags, limits: Limits) -> Flags:
    """Count how long scores have been far, and tell which values are learnt.

    Args:
        far_cells: int32[n], for how many cells on end each was far; changed in place.
        score: float64[n]; NaN is not far.
        known: bool[n], which have a usable value.
        warm: bool[n]; what isn't warm learns everything.
        limits: the settings.
    """
    far = np.abs(score) >= limits.far
    changed = where(known & (far | (far_cells > 0)))
    learns = known.copy()
    if len(changed):
        counted = np.where(far[changed], np.minimum(far_cells[changed] + 1, CELLS_MAX), 0)
        far_cells[changed] = counted
        held = (counted > 0) & (counted <= limits.memory_cells)
        learns[changed] = ~(held & warm[changed])
    return learns


def restrained(far_cells: Counts, score: Floats, limits: Limits) -> tuple[SlotArray, Learns]:
    """Do what `scored` and `teaching` do, where all is known and warm and little is far.

    Args:
        far_cells: int32[n], as for `teaching`; changed in place.
        score: float64[n], none of them NaN; made to be no more than SCORE_MAX in place.
        limits: the settings.

    Returns:
        int64[m], the entries of which what is learnt may have to be clipped.
        Which values are learnt.
    """
    size = np.abs(score)
    largest, clipped = most(size), min(CLIP, limits.far)
    beyond = where(size >= clipped) if largest >= clipped else _NONE
    if largest < limits.far:
        far_cells.fill(0)
        return beyond, True
    score[beyond] = np.minimum(np.maximum(score[beyond], -SCORE_MAX), SCORE_MAX)
    counted, true = far_cells[beyond], np.ones(len(beyond), bool)
    learns = np.ones(len(score), bool)
    learns[beyond] = teaching(counted, size[beyond], true, true, limits)
    far_cells.fill(0)
    far_cells[beyond] = counted
    return beyond, learns
