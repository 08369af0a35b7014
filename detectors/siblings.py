"""Siblings: how far each member of a signal is from the others.

Members do the same work, so what one shows is expected of all: the median over members, with a
spread that is robust against a few bad ones. A member that is always different (a leader, a larger
node) is known for it: the running mean of its distance is taken off, and a restless one counts
less.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from watchkeep.detectors.arrays import Arrays, Field, begins, run_sizes, where

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]

# Of two that differ, nobody knows which one is bad.
_MEMBERS_MIN: Final = 3
_MEMORY_CELLS: Final = 240
# Differences below this share of the median are nothing to tell.
_FLOOR: Final = 0.05
# The narrowest half of a normal distribution is so many standard deviations wide.
_NORMAL_HALF: Final = 1.349
_CLIP: Final = np.float32(4)
_DISTANCE_MAX: Final = np.float32(1e6)
_ONE: Final = np.float32(1)

# By strand.
FIELDS: Final[Mapping[str, Field]] = {
    "usual": Field("f4", 0.0),
    "restless": Field("f4", 0.0),
    "cells": Field("u1", 0),
}


class Siblings(NamedTuple):
    """Of each signal the member that is farthest from the others.

    Attributes:
        strand: int64[n], its strand; -1 where there are too few to compare.
        value: float64[n], what it shows.
        middle: float64[n], the median of all; `spread`: float64[n], one unit of distance.
        distance: float64[n], in spreads, signed; NaN where there are too few to compare.
    """

    strand: Ints
    value: Floats
    middle: Floats
    spread: Floats
    distance: Floats

    def of(self, slots: Ints) -> "Siblings":
        """Take those of some signals."""
        return Siblings(
            self.strand.take(slots),
            self.value.take(slots),
            self.middle.take(slots),
            self.spread.take(slots),
            self.distance.take(slots),
        )


def farthest(state: Arrays, at: Ints, signal: Ints, value: Floats, once: Floats) -> Siblings:
    """Compare members, and learn how far each usually is.

    Args:
        state: the strands' columns `FIELDS`; changed in place.
        at: int64[k], strands.
        signal: int64[k], their signals.
        value: float64[k], what each shows; NaN for those that can't be compared.
        once: float64[signals], of rates that count events, that of one event in a cell; else 0.
            How many there are differs by chance, as much as the root of their number.

    Returns:
        Of each signal, by its slot.

    """
    signals = len(once)
    none = np.full(signals, np.nan)
    result = Siblings(np.full(signals, -1), none, none.copy(), none.copy(), none.copy())
    comparable = np.isfinite(value)
    count = np.bincount(signal.compress(comparable), minlength=signals)
    rows = where(comparable & (count.take(signal) >= _MEMBERS_MIN))
    if not len(rows):
        return result
    rows = rows.take(np.argsort(value.take(rows)))
    rows = rows.take(_in_groups(signal.take(rows)))
    at, signal, value = at.take(rows), signal.take(rows), value.take(rows)
    firsts = where(begins(signal))
    sizes = run_sizes(firsts, len(signal))
    group = np.repeat(np.arange(len(firsts)), sizes)
    middle = (value.take(firsts + (sizes - 1) // 2) + value.take(firsts + sizes // 2)) / 2
    spread = np.maximum(_spread(value, firsts, sizes, group), _FLOOR * np.abs(middle))
    one = once.take(signal.take(firsts))
    spread = np.maximum(spread, np.sqrt(one * np.maximum(one, middle)))
    off = value - middle.take(group)
    unit = spread.take(group)
    away = np.zeros(len(off), np.float32)
    np.divide(off, unit, out=away, where=unit > 0, casting="same_kind")
    distance = _against_usual(state, at, _within(away, _DISTANCE_MAX)).astype(np.float64)

    size = np.abs(distance)
    farthest_is = size == np.maximum.reduceat(size, firsts).take(group)
    # Of several that are equally far, the first in the order of values is named.
    best = np.minimum.reduceat(np.where(farthest_is, np.arange(len(size)), len(size)), firsts)
    slots = signal.take(firsts)
    for column, found in zip(
        result, (at[best], value[best], middle, spread, distance[best]), strict=True
    ):
        column[slots] = found
    return result


def _in_groups(signal: Ints) -> Ints:
    """Sort by signal, and leave the order within each as it is."""
    # Numbers of 16 bits are sorted by radix, several times faster.
    small = int(signal.max()) < np.iinfo(np.int16).max
    return np.argsort(signal.astype(np.int16) if small else signal, kind="stable")


def _spread(value: Floats, firsts: Ints, sizes: Ints, group: Ints) -> Floats:
    """Find how wide the narrowest half of each group is, as a standard deviation.

    Rousseeuw and Leroy, "A robust scale estimator based on the shortest half", 1988: as robust as
    the median of the distances from the median, and found in values that are sorted already.
    """
    half = (sizes // 2).take(group)
    end = np.arange(len(value)) + half
    inside = end < (firsts + sizes).take(group)
    width = value.take(end, mode="clip") - value
    return np.minimum.reduceat(np.where(inside, width, np.inf), firsts) / _NORMAL_HALF


def _within(value: Singles, limit: Singles | np.float32) -> Singles:
    """Clip to both sides; `clip` itself takes several times as long."""
    clipped: Singles = np.minimum(np.maximum(value, -limit), limit)
    return clipped


def _against_usual(state: Arrays, at: Ints, away: Singles) -> Singles:
    """Take off how far each member usually is, then learn; what is far off teaches little."""
    usual, restless = state["usual"].take(at), state["restless"].take(at)
    cells = np.minimum(state["cells"].take(at), _MEMORY_CELLS - 1) + _ONE
    off = away - usual
    unit = restless + _ONE
    learnt = _within(off, _CLIP * unit)
    state["usual"][at] = usual + learnt / cells
    state["restless"][at] = restless + (np.abs(learnt) - restless) / cells
    state["cells"][at] = cells
    distance: Singles = off / unit
    return distance
