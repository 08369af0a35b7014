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

from watchkeep.detectors.arrays import Arrays, Field, begins, every, where

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]

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


class Groups(NamedTuple):
    """Members that are compared, by signal: each group's stand together, in order of values.

    Attributes:
        signal: int64[k], of what is to be compared; `comparable`: bool[k], whether it can be.
        rows: int64[n], which of them are compared; `number`: int16[n] or int64[n], their groups.
        slots: int64[g], the signal of each group.
        place: int64 by signal, its group; g where it has none.
        firsts: int64[g], where a group begins; `of`: int64[n], which group stands there.
        low, high: int64[g], where the middle of a group is: between these.
        begin, end: int64[m], of each half of a group, where it begins and ends; the halves of one
            group follow each other, and begin at `halves`: int64[g].
    """

    signal: Ints
    comparable: Flags
    rows: Ints
    number: npt.NDArray[np.int16] | Ints
    slots: Ints
    place: Ints
    firsts: Ints
    of: Ints
    low: Ints
    high: Ints
    begin: Ints
    end: Ints
    halves: Ints


def regrouped(known: Groups | None, signal: Ints, comparable: Flags, signals: int) -> Groups:
    """Group what can be compared by signal, anew if it isn't the same as it was.

    Args:
        known: the groups that were found last; they serve as long as `signal` is the same array.
        signal: int64[k], signals of strands.
        comparable: bool[k], which of the strands show something.
        signals: how many there are.
    """
    if known is not None and known.signal is signal and every(known.comparable == comparable):
        return known
    count = np.bincount(signal.compress(comparable), minlength=signals)
    rows = where(comparable & (count.take(signal) >= _MEMBERS_MIN))
    slots, number = np.unique(signal.take(rows), return_inverse=True)
    sizes = count.take(slots)
    firsts = np.cumsum(sizes) - sizes
    place = np.full(signals, len(slots))
    place[slots] = np.arange(len(slots))
    of = np.repeat(np.arange(len(slots)), sizes)
    # Rousseeuw and Leroy's halves: from each value to the one that is half a group further on.
    end = np.arange(len(rows)) + (sizes // 2).take(of)
    begin = where(end < (firsts + sizes).take(of))
    # Numbers of 16 bits are sorted by radix, several times faster.
    small = len(slots) < np.iinfo(np.int16).max
    return Groups(
        signal,
        comparable,
        rows,
        number.astype(np.int16) if small else number,
        slots,
        place,
        firsts,
        of,
        firsts + (sizes - 1) // 2,
        firsts + sizes // 2,
        begin,
        end.take(begin),
        where(begins(of.take(begin))),
    )


class Farthest(NamedTuple):
    """Of each group the member that is farthest from the others.

    Attributes:
        groups: who was compared.
        strand: int64[g + 1], the last entry being -1.
        shown: float64[4, g + 1], the other columns of `Siblings`, the last entries being NaN.
    """

    groups: Groups
    strand: Ints
    shown: Floats

    def of(self, slots: Ints) -> Siblings:
        """Tell it of some signals."""
        group = self.groups.place.take(slots)
        return Siblings(self.strand.take(group), *self.shown.take(group, axis=1))


def farthest(state: Arrays, groups: Groups, at: Ints, value: Floats, once: Floats) -> Farthest:
    """Compare members, and learn how far each usually is.

    Args:
        state: the strands' columns `FIELDS`; changed in place.
        groups: who is compared with whom.
        at: int64[k], strands.
        value: float64[k], what each shows.
        once: float64[signals], of rates that count events, that of one event in a cell; else 0.
            How many there are differs by chance, as much as the root of their number.
    """
    count = len(groups.slots)
    found = Farthest(groups, np.full(count + 1, -1), np.full((4, count + 1), np.nan))
    if not count:
        return found
    firsts, group = groups.firsts, groups.of
    value = value.take(groups.rows)
    order = np.argsort(value)
    order = order.take(np.argsort(groups.number.take(order), kind="stable"))
    at, value = at.take(groups.rows.take(order)), value.take(order)
    middle = (value.take(groups.low) + value.take(groups.high)) / 2
    spread = np.maximum(_spread(value, groups), _FLOOR * np.abs(middle))
    one = once.take(groups.slots)
    spread = np.maximum(spread, np.sqrt(one * np.maximum(one, middle)))
    away = _away(value - middle.take(group), spread, group)
    distance = _against_usual(state, at, _within(away, _DISTANCE_MAX)).astype(np.float64)

    size = np.abs(distance)
    farthest_is = where(size == np.maximum.reduceat(size, firsts).take(group))
    # Of several that are equally far, the first in the order of values is named.
    best = farthest_is.compress(begins(group.take(farthest_is)))
    found.strand[:count] = at.take(best)
    for row, column in zip(
        found.shown, (value.take(best), middle, spread, distance.take(best)), strict=True
    ):
        row[:count] = column
    return found


def _spread(value: Floats, groups: Groups) -> Floats:
    """Find how wide the narrowest half of each group is, as a standard deviation.

    Rousseeuw and Leroy, "A robust scale estimator based on the shortest half", 1988: as robust as
    the median of the distances from the median, and found in values that are sorted already.
    """
    width = value.take(groups.end) - value.take(groups.begin)
    narrowest: Floats = np.minimum.reduceat(width, groups.halves) / _NORMAL_HALF
    return narrowest


def _away(off: Floats, spread: Floats, group: Ints) -> Singles:
    """Measure distances in spreads; without any spread there is no distance."""
    unit = spread.take(group)
    with np.errstate(over="ignore"):  # A spread may be next to nothing.
        if every(spread > 0):
            return (off / unit).astype(np.float32)
        away = np.zeros(len(off), np.float32)
        np.divide(off, unit, out=away, where=unit > 0, casting="same_kind")
    return away


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
