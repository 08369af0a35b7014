"""Rolling z: how many standard deviations a signal is away from the mean of its last cells.

Mean and sum of squares follow the window as it slides (Welford 1962; the update of West 1979, with
the value that leaves in place of a weight). Rounding errors are as large as the largest sum of
squares since the window was last summed, so it is summed anew when the sum has shrunk to next to
nothing of that, and each time the ring has gone around.

What is far doesn't teach for long, and the spread has a floor: see restraint.py. A signal that
never moved has no spread, and no score.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from watchkeep.detectors import compiled
from watchkeep.detectors.arrays import Arrays, Field, SlotArray, at_once, every, least, where
from watchkeep.detectors.channel import Scores, Span
from watchkeep.detectors.restraint import (
    CELLS_MAX,
    CLIP,
    FAR_CELLS,
    FAR_FIELD,
    FLOOR,
    SMALLEST,
    Counts,
    Flags,
    Floats,
    Learns,
    Limits,
    all_usable,
    restrained,
    scored,
    teaching,
    usable,
)

# A sum of squares that has lost so much of its size has lost nine digits, of sixteen.
_SHRUNK: Final = 1e-9


class _Now(NamedTuple):
    """The state of the signals of a call, but for their windows."""

    mean: Floats
    squares: Floats
    squares_max: Floats
    cells: Counts
    moved: Flags
    far_cells: Counts


class _Rings(NamedTuple):
    """The windows of all signals, and the slots of those of a call."""

    column: Floats
    slots: SlotArray


@dataclass(frozen=True, slots=True)
class RollingZ:
    """The channel's settings.

    Attributes:
        window_cells: how many cells are remembered; 8 bytes of state for each.
        warmup_cells: cells until a signal is warm.
        far: a score, in deviations, that is not learnt from.
    """

    window_cells: int = 60
    warmup_cells: int = 30
    far: float = 6.0

    name: ClassVar[str] = "rolling_z"

    @property
    def fields(self) -> Mapping[str, Field]:
        """The columns of its state; `squares` is the sum of squared distances from the mean."""
        return {
            "ring": Field("f8", 0.0, (self.window_cells,)),
            "mean": Field("f8", 0.0),
            "squares": Field("f8", 0.0),
            "squares_max": Field("f8", 0.0),
            "cells": Field("i4", 0),
            "moved": Field("?", 0),
            FAR_CELLS: FAR_FIELD,
        }

    def seed(
        self,
        state: Arrays,
        slots: SlotArray,
        value: Floats,
        cells: npt.NDArray[np.int64],
    ) -> None:
        """Learn that signals had one value all along; see the contract."""
        known = usable(value)
        slots, value = slots[known], value[known]
        state["ring"][slots] = value[:, None]
        state["mean"][slots] = value
        state["cells"][slots] = np.minimum(cells[known], CELLS_MAX)

    def step(
        self,
        state: Arrays,
        slots: SlotArray,
        span: Span,  # noqa: ARG002 - Part of the contract; seasonal channels need it.
        value: Floats,
    ) -> Scores:
        """Score one cell, then learn from it; see the contract."""
        if compiled.AVAILABLE:
            return self._step_compiled(state, slots, value)
        at = at_once(slots)
        now = _Now(*(state[name][at] for name in _Now._fields))
        rings = _Rings(state["ring"], slots)
        full = len(slots) and least(now.cells) >= max(self.window_cells, self.warmup_cells)
        settled = full and every(now.moved) and all_usable(value)
        step = self._step_settled if settled else self._step_any
        scores = step(rings, now, value)
        if at is slots:
            for name, column in zip(_Now._fields, now, strict=True):
                state[name][slots] = column
        return scores

    def _step_compiled(self, state: Arrays, slots: SlotArray, value: Floats) -> Scores:
        columns = tuple(state[name] for name in self.fields)
        score, expected, spread, warmup = (np.empty(len(slots)) for _ in range(4))
        scores = Scores(score, expected, spread, warmup)
        anew = np.zeros(len(slots), bool)
        limits = (self.warmup_cells, self.far, _SHRUNK)
        compiled.rolling_z(slots, value, columns, limits, (score, expected, spread, warmup), anew)
        if anew.any():
            again = slots[anew]
            filled = np.minimum(state["cells"][again], self.window_cells)
            mean, squares = _summed(state["ring"][again], filled)
            state["mean"][again], state["squares"][again] = mean, squares
            state["squares_max"][again] = squares
            state["moved"][again[squares > 0]] = True
        return scores

    def _step_settled(self, rings: _Rings, now: _Now, value: Floats) -> Scores:
        """Do what `_step_any` does, to the last bit, with fewer passes over the signals."""
        spread = self._spread(now, max(self.window_cells - 1, 1))
        if not least(spread) > SMALLEST:
            return self._step_any(rings, now, value)
        expected = now.mean.copy()
        score = value - expected
        score /= spread
        beyond, learns = restrained(now.far_cells, score, Limits(self.far, self.window_cells))
        learnt = value
        if len(beyond):
            mean, reach = expected[beyond], CLIP * spread[beyond]
            learnt = value.copy()
            learnt[beyond] = np.minimum(np.maximum(value[beyond], mean - reach), mean + reach)
        self._slide(rings, now, learnt, learns, full=None)
        return Scores(score, expected, spread, warmup=np.ones(len(value)))

    def _step_any(self, rings: _Rings, now: _Now, value: Floats) -> Scores:
        mean, cells, moved = now.mean, now.cells, now.moved
        spread = self._spread(now, np.maximum(np.minimum(cells, self.window_cells) - 1, 1))
        known = usable(value)
        distance = np.where(known, value, mean) - mean
        warm = cells >= self.warmup_cells
        scores = Scores(
            scored(distance, spread, known & moved & (spread > 0)),
            expected=np.where(cells > 0, mean, np.nan),
            spread=np.where(moved, spread, np.nan),
            warmup=np.minimum(cells / self.warmup_cells, 1.0),
        )
        reach = np.where(warm & (spread > SMALLEST), CLIP * spread, np.inf)
        learnt = np.minimum(np.maximum(value, mean - reach), mean + reach)
        limits = Limits(self.far, self.window_cells)
        learns = teaching(now.far_cells, scores.score, known, warm, limits)
        self._slide(rings, now, learnt, learns, full=cells >= self.window_cells)
        return scores

    def _spread(self, now: _Now, others: Counts | int) -> Floats:
        spread = np.abs(now.mean)
        spread *= FLOOR
        deviation = now.squares / others
        return np.maximum(np.sqrt(deviation, out=deviation), spread, out=spread)

    def _slide(
        self, rings: _Rings, now: _Now, value: Floats, learns: Learns, full: Flags | None
    ) -> None:
        """Let a value into the window, and the oldest out of it if it is full; None: all are."""
        at = now.cells % self.window_cells
        place = rings.slots * self.window_cells
        place += at.astype(np.int64)  # Adding what is narrower takes several times as long.
        ring = rings.column.reshape(-1)
        old = ring.take(place)
        if learns is not True:
            value = np.where(learns, value, old)
        ring[place] = value
        cells = np.minimum(now.cells + 1, CELLS_MAX)
        around = at == 0
        if full is not None:
            # While the window fills, nothing leaves it; what leaves is as if it were the mean.
            old = np.where(full, old, now.mean)
            around &= full
        change = value - old
        filled = self.window_cells if full is None else np.minimum(cells, self.window_cells)
        mean = change / filled
        mean += now.mean
        squares = value - mean
        old -= now.mean
        squares += old
        squares *= change
        squares += now.squares
        largest = np.maximum(now.squares_max, squares)
        around |= squares < _SHRUNK * largest
        anew = where(around if learns is True else around & learns)
        if len(anew):
            rows = rings.column[rings.slots[anew]]
            filled = np.minimum(cells[anew], self.window_cells)
            mean[anew], squares[anew] = _summed(rows, filled)
            largest[anew] = squares[anew]
        np.copyto(now.mean, mean, where=learns)
        np.copyto(now.squares, squares, where=learns)
        np.copyto(now.squares_max, largest, where=learns)
        np.copyto(now.cells, cells, where=learns)
        if full is not None:
            now.moved[where((squares > 0) & learns)] = True


def _summed(rows: Floats, filled: Counts) -> tuple[Floats, Floats]:
    """Compute mean and sum of squares of the first `filled` values of each row.

    Distances are taken from the row's first value, so that equal values have no spread at all.

    Args:
        rows: float64[n, window]; what it holds is lost.
        filled: int32[n].
    """
    first = rows[:, 0].copy()
    empty = np.arange(rows.shape[1]) >= filled[:, None]
    # It is in place, as memory for all windows at once comes from the system anew each time.
    rows -= first[:, None]
    rows[empty] = 0.0
    shift = rows.sum(axis=1) / filled
    rows -= shift[:, None]
    rows[empty] = 0.0
    return first + shift, np.einsum("ij,ij->i", rows, rows)
