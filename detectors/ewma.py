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

from watchkeep.detectors import compiled
from watchkeep.detectors.arrays import Arrays, Field, SlotArray, at_once, least
from watchkeep.detectors.channel import Scores, Span
from watchkeep.detectors.restraint import (
    CELLS_MAX,
    CLIP,
    FAR_CELLS,
    FAR_FIELD,
    FLOOR,
    SMALLEST,
    Counts,
    Floats,
    Learns,
    Limits,
    all_usable,
    restrained,
    scored,
    teaching,
    usable,
)


class _Now(NamedTuple):
    """The state of the signals of a call."""

    mean: Floats
    variance: Floats
    cells: Counts
    far_cells: Counts


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
        if compiled.AVAILABLE:
            return self._step_compiled(state, slots, value)
        at = at_once(slots)
        now = _Now(*(state[name][at] for name in _Now._fields))
        settled = len(slots) and self._settled(now, value)
        scores = self._step_settled(now, value) if settled else self._step_any(now, value)
        if at is slots:
            for name, column in zip(_Now._fields, now, strict=True):
                state[name][slots] = column
        return scores

    def _step_compiled(self, state: Arrays, slots: SlotArray, value: Floats) -> Scores:
        columns = tuple(state[name] for name in self.fields)
        score, expected, spread, warmup = (np.empty(len(slots)) for _ in range(4))
        scores = Scores(score, expected, spread, warmup)
        limits = (self.memory_cells, self.warmup_cells, self.far)
        compiled.ewma(slots, value, columns, limits, (score, expected, spread, warmup))
        return scores

    def _settled(self, now: _Now, value: Floats) -> bool:
        """Tell whether all signals have moved and fill the memory, and all values are usable."""
        full = least(now.cells) >= max(self.warmup_cells, self.memory_cells, 2)
        return bool(full and least(now.variance) > SMALLEST * SMALLEST) and all_usable(value)

    def _step_settled(self, now: _Now, value: Floats) -> Scores:
        """Do what `_step_any` does, to the last bit, with fewer passes over the signals."""
        expected = now.mean.copy()
        spread = np.abs(expected)
        spread *= FLOOR
        np.maximum(np.sqrt(now.variance), spread, out=spread)
        distance = value - expected
        score = distance / spread
        limits = Limits(self.far, self.memory_cells)
        beyond, learns = restrained(now.far_cells, score, limits)
        if len(beyond):
            reach = CLIP * spread[beyond]
            distance[beyond] = np.minimum(np.maximum(distance[beyond], -reach), reach)
        _learn(now, distance, 2.0 / (self.memory_cells + 1), learns)
        return Scores(score, expected, spread, warmup=np.ones(len(value)))

    def _step_any(self, now: _Now, value: Floats) -> Scores:
        mean, variance, cells, far_cells = now
        known = usable(value)
        distance = np.where(known, value, mean) - mean
        spread = np.maximum(np.sqrt(variance), FLOOR * np.abs(mean))
        moved = (variance > 0) & (cells > 1)
        warm = cells >= self.warmup_cells
        scores = Scores(
            scored(distance, spread, moved & known),
            expected=np.where(cells > 0, mean, np.nan),
            spread=np.where(moved, spread, np.nan),
            warmup=np.minimum(cells / self.warmup_cells, 1.0),
        )
        reach = np.where(warm & (spread > SMALLEST), CLIP * spread, np.inf)
        distance = np.minimum(np.maximum(distance, -reach), reach)
        weight = np.maximum(1.0 / (cells + 1), 2.0 / (self.memory_cells + 1))
        limits = Limits(self.far, self.memory_cells)
        learns = teaching(far_cells, scores.score, known, warm, limits)
        _learn(now, distance, weight, learns)
        return scores


def _learn(now: _Now, distance: Floats, weight: Floats | float, learns: Learns) -> None:
    change = weight * distance
    np.add(now.mean, change, out=now.mean, where=learns)
    change *= distance
    change += now.variance
    np.multiply(change, 1 - weight, out=now.variance, where=learns)
    np.add(now.cells, 1, out=now.cells, where=learns)
    np.minimum(now.cells, CELLS_MAX, out=now.cells)
