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

from watchkeep.detectors.arrays import Arrays, Field, SlotArray, where
from watchkeep.detectors.channel import Scores, Span
from watchkeep.detectors.restraint import (
    CELLS_MAX,
    CLIP,
    FAR_CELLS,
    FAR_FIELD,
    FLOOR,
    SCORE_MAX,
    SMALLEST,
    Flags,
    Floats,
    Limits,
    all_usable,
    scored,
    teaching,
    usable,
)

# A sum of squares that has lost so much of its size has lost nine digits, of sixteen.
_SHRUNK: Final = 1e-9


class _Seen(NamedTuple):
    """What is known of signals before a cell."""

    mean: Floats
    squares: Floats
    cells: npt.NDArray[np.int32]

    def of(self, at: SlotArray | slice) -> "_Seen":
        """Take some of the signals."""
        return _Seen(self.mean[at], self.squares[at], self.cells[at])


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
        seen = _Seen(
            state["mean"].take(slots), state["squares"].take(slots), state["cells"].take(slots)
        )
        moved = state["moved"].take(slots)
        full = len(slots) and seen.cells.min() >= max(self.window_cells, self.warmup_cells)
        if full and moved.all() and all_usable(value):
            return self._step_settled(state, slots, seen, value)
        return self._step_any(state, slots, seen, value, moved)

    def _step_settled(self, state: Arrays, slots: SlotArray, seen: _Seen, value: Floats) -> Scores:
        """Do what `_step_any` does, to the last bit, with fewer passes over the signals."""
        spread = self._spread(seen, max(self.window_cells - 1, 1))
        if not spread.min() > SMALLEST:
            return self._step_any(state, slots, seen, value, np.ones(len(slots), bool))
        with np.errstate(over="ignore"):  # A spread may be next to nothing.
            score = (value - seen.mean) / spread
        if np.abs(score).max() < min(CLIP, self.far):
            state[FAR_CELLS][slots] = 0
            self._slide(state, slots, seen, value, full=None)
        else:
            np.minimum(np.maximum(score, -SCORE_MAX, out=score), SCORE_MAX, out=score)
            reach = CLIP * spread
            learnt = np.minimum(np.maximum(value, seen.mean - reach), seen.mean + reach)
            at = self._teaching(state, slots, score, np.ones(len(slots), bool))
            self._slide(state, slots[at], seen.of(at), learnt[at], full=None)
        return Scores(score, seen.mean, spread, warmup=np.ones(len(slots)))

    def _step_any(
        self, state: Arrays, slots: SlotArray, seen: _Seen, value: Floats, moved: Flags
    ) -> Scores:
        others = np.maximum(np.minimum(seen.cells, self.window_cells) - 1, 1)
        spread = self._spread(seen, others)
        known = usable(value)
        distance = np.where(known, value, seen.mean) - seen.mean
        score = scored(distance, spread, known & moved & (spread > 0))
        warm = seen.cells >= self.warmup_cells
        reach = np.where(warm & (spread > SMALLEST), CLIP * spread, np.inf)
        learnt = np.minimum(np.maximum(value, seen.mean - reach), seen.mean + reach)
        at = where(known)
        at = at[self._teaching(state, slots[at], score[at], warm[at])]
        full = seen.cells[at] >= self.window_cells
        self._slide(state, slots[at], seen.of(at), learnt[at], full)
        return Scores(
            score,
            expected=np.where(seen.cells > 0, seen.mean, np.nan),
            spread=np.where(moved, spread, np.nan),
            warmup=np.minimum(seen.cells / self.warmup_cells, 1.0),
        )

    def _teaching(
        self, state: Arrays, slots: SlotArray, score: Floats, warm: Flags
    ) -> SlotArray | slice:
        learns = teaching(state, slots, score, warm, Limits(self.far, self.window_cells))
        return slice(None) if learns.all() else where(learns)

    def _spread(self, seen: _Seen, others: npt.NDArray[np.int32] | int) -> Floats:
        return np.maximum(np.sqrt(seen.squares / others), FLOOR * np.abs(seen.mean))

    def _slide(
        self,
        state: Arrays,
        slots: SlotArray,
        seen: _Seen,
        value: Floats,
        full: Flags | None,
    ) -> None:
        """Let a value into the window, and the oldest out of it if it is full; None: all are."""
        ring = state["ring"].reshape(-1)
        at = seen.cells % self.window_cells
        place = slots * self.window_cells + at
        cells = np.minimum(seen.cells + 1, CELLS_MAX)
        old = ring.take(place)
        ring[place] = value
        if full is None:
            change = value - old
            mean = seen.mean + change / self.window_cells
        else:
            # While the window fills, nothing leaves it; what leaves is as if it were the mean.
            old = np.where(full, old, seen.mean)
            change = value - old
            mean = seen.mean + change / np.minimum(cells, self.window_cells)
        squares = seen.squares + change * ((value - mean) + (old - seen.mean))
        largest = np.maximum(state["squares_max"].take(slots), squares)
        around = at == 0 if full is None else full & (at == 0)
        anew = where((squares < _SHRUNK * largest) | around)
        if len(anew):
            rows = state["ring"][slots[anew]]
            filled = np.minimum(cells[anew], self.window_cells)
            mean[anew], squares[anew] = _summed(rows, filled)
            largest[anew] = squares[anew]
        state["mean"][slots], state["squares"][slots] = mean, squares
        state["squares_max"][slots], state["cells"][slots] = largest, cells
        if full is not None:
            state["moved"][slots[squares > 0]] = True


def _summed(rows: Floats, filled: npt.NDArray[np.int32]) -> tuple[Floats, Floats]:
    """Compute mean and sum of squares of the first `filled` values of each row.

    Distances are taken from the row's first value, so that equal values have no spread at all.
    """
    first = rows[:, :1]
    away = np.where(np.arange(rows.shape[1]) < filled[:, None], rows - first, 0.0)
    shift = away.sum(axis=1) / filled
    off = np.where(np.arange(rows.shape[1]) < filled[:, None], away - shift[:, None], 0.0)
    return first[:, 0] + shift, np.einsum("ij,ij->i", off, off)
