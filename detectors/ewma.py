"""EWMA: how many standard deviations a signal is away from its recent mean.

Mean and variance are exponentially weighted (Finch, "Incremental calculation of weighted mean and
variance", 2009, section 9). Until the memory is full the weight is 1/n, so the start isn't biased
towards the first value.

What is far doesn't teach for long, and the spread has a floor: see restraint.py. A signal that
never moved has no spread, and no score.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

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

Counts = npt.NDArray[np.int32]


class _Before(NamedTuple):
    """What is known of signals before a cell."""

    mean: Floats
    variance: Floats
    cells: Counts

    def of(self, at: SlotArray | slice) -> "_Before":
        """Take some of the signals."""
        return _Before(self.mean[at], self.variance[at], self.cells[at])


@dataclass(frozen=True, slots=True)
class Ewma:
    """The channel's settings.

    Attributes:
        memory_cells: the memory; the weight of a new cell is 2 / (memory + 1).
        warmup_cells: cells until a signal is warm.
        far: a score, in deviations, that is not learnt from.
    """

    memory_cells: int
    warmup_cells: int
    far: float

    name: ClassVar[str] = "ewma"
    fields: ClassVar[Mapping[str, Field]] = {
        "mean": Field("f8", 0.0),
        "variance": Field("f8", 0.0),
        "cells": Field("i4", 0),
        FAR_CELLS: FAR_FIELD,
    }

    def seed(
        self,
        state: Arrays,
        slots: SlotArray,
        value: npt.NDArray[np.float64],
        cells: npt.NDArray[np.int64],
    ) -> None:
        """Learn that signals had one value all along; see the contract."""
        known = usable(value)
        slots = slots[known]
        state["mean"][slots] = value[known]
        state["cells"][slots] = np.minimum(cells[known], CELLS_MAX)

    def step(
        self,
        state: Arrays,
        slots: SlotArray,
        span: Span,  # noqa: ARG002 - Part of the contract; seasonal channels need it.
        value: Floats,
    ) -> Scores:
        """Score one cell, then learn from it; see the contract."""
        before = _Before(
            state["mean"].take(slots), state["variance"].take(slots), state["cells"].take(slots)
        )
        if len(slots) and self._settled(before, value):
            return self._step_settled(state, slots, before, value)
        return self._step_any(state, slots, before, value)

    def _settled(self, before: _Before, value: Floats) -> bool:
        """Tell whether all signals have moved and fill the memory, and all values are usable."""
        full = before.cells.min() >= max(self.warmup_cells, self.memory_cells, 2)
        return bool(full and before.variance.min() > SMALLEST * SMALLEST) and all_usable(value)

    def _step_settled(
        self, state: Arrays, slots: SlotArray, before: _Before, value: Floats
    ) -> Scores:
        """Do what `_step_any` does, to the last bit, with fewer passes over the signals."""
        distance = value - before.mean
        spread = np.abs(before.mean)
        spread *= FLOOR
        np.maximum(np.sqrt(before.variance), spread, out=spread)
        with np.errstate(over="ignore"):  # A spread may be next to nothing.
            score = distance / spread
        weight = 2.0 / (self.memory_cells + 1)
        if np.abs(score).max() < min(CLIP, self.far):
            state[FAR_CELLS][slots] = 0
            _learn(state, slots, before, distance, weight)
        else:
            np.minimum(np.maximum(score, -SCORE_MAX, out=score), SCORE_MAX, out=score)
            reach = CLIP * spread
            distance = np.minimum(np.maximum(distance, -reach), reach)
            warm = np.ones(len(slots), bool)
            at = self._teaching(state, slots, score, warm)
            _learn(state, slots[at], before.of(at), distance[at], weight)
        return Scores(score, before.mean, spread, warmup=np.ones(len(slots)))

    def _step_any(self, state: Arrays, slots: SlotArray, before: _Before, value: Floats) -> Scores:
        mean, variance, cells = before
        known = usable(value)
        distance = np.where(known, value, mean) - mean
        spread = np.maximum(np.sqrt(variance), FLOOR * np.abs(mean))
        moved = (variance > 0) & (cells > 1)
        score = scored(distance, spread, moved & known)
        warm = cells >= self.warmup_cells
        reach = np.where(warm & (spread > SMALLEST), CLIP * spread, np.inf)
        distance = np.minimum(np.maximum(distance, -reach), reach)
        weight = np.maximum(1.0 / (cells + 1), 2.0 / (self.memory_cells + 1))
        at = where(known)
        at = at[self._teaching(state, slots[at], score[at], warm[at])]
        _learn(state, slots[at], before.of(at), distance[at], weight[at])
        return Scores(
            score,
            expected=np.where(cells > 0, mean, np.nan),
            spread=np.where(moved, spread, np.nan),
            warmup=np.minimum(cells / self.warmup_cells, 1.0),
        )

    def _teaching(
        self, state: Arrays, slots: SlotArray, score: Floats, warm: Flags
    ) -> SlotArray | slice:
        learns = teaching(state, slots, score, warm, Limits(self.far, self.memory_cells))
        return slice(None) if learns.all() else where(learns)


def _learn(
    state: Arrays, slots: SlotArray, before: _Before, distance: Floats, weight: Floats | float
) -> None:
    change = weight * distance
    state["mean"][slots] = before.mean + change
    change *= distance
    change += before.variance
    change *= 1 - weight
    state["variance"][slots] = change
    state["cells"][slots] = np.minimum(before.cells + 1, CELLS_MAX)
