"""Robust z: how many deviations a signal is away from the median of its last cells.

The deviation is the median distance from the median, times 1.4826 (Iglewicz and Hoaglin, "How to
detect and handle outliers", 1993); where most values are equal it is the mean distance, times
1.2533. Both are taken anew every few cells: they hardly change from one cell to the next, and
sorting is what costs.

Up to half of the window may be anomalies before they move the median, so nothing that is far need
be kept from it. The spread has a floor as in restraint.py; a signal that never moved has no spread,
and no score.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np
import numpy.typing as npt

from watchkeep.detectors.arrays import Arrays, Field, SlotArray, where
from watchkeep.detectors.channel import Scores, Span
from watchkeep.detectors.restraint import CELLS_MAX, FLOOR, scored, usable

Floats = npt.NDArray[np.float64]

# Of a normal distribution: the standard deviation over the median and the mean distance.
_MEDIAN_DISTANCE: Final = 1.4826
_MEAN_DISTANCE: Final = 1.2533


@dataclass(frozen=True, slots=True)
class RobustZ:
    """The channel's settings.

    Attributes:
        window_cells: how many cells are remembered; 8 bytes of state for each.
        warmup_cells: cells until a signal is warm.
        every_cells: median and spread are taken anew once in so many cells, and at each cell while
            a signal has no more than three times as many.
    """

    window_cells: int = 60
    warmup_cells: int = 30
    every_cells: int = 5

    name: ClassVar[str] = "robust_z"

    @property
    def fields(self) -> Mapping[str, Field]:
        """The columns of its state; places of the ring that are not yet filled hold Inf."""
        return {
            "ring": Field("f8", np.inf, (self.window_cells,)),
            "median": Field("f8", 0.0),
            "deviation": Field("f8", 0.0),
            "cells": Field("i4", 0),
            "moved": Field("?", 0),
        }

    def seed(
        self,
        state: Arrays,
        slots: SlotArray,
        value: Floats,
        cells: npt.NDArray[np.int64],
    ) -> None:
        """Learn that signals had one value all along; see the contract."""
        known = usable(value) & (cells > 0)
        slots, value, cells = slots[known], value[known, None], cells[known]
        filled = np.arange(self.window_cells) < cells[:, None]
        state["ring"][slots] = np.where(filled, value, np.inf)
        state["median"][slots] = value[:, 0]
        state["cells"][slots] = np.minimum(cells, CELLS_MAX)

    def step(
        self,
        state: Arrays,
        slots: SlotArray,
        span: Span,  # noqa: ARG002 - Part of the contract; seasonal channels need it.
        value: Floats,
    ) -> Scores:
        """Score one cell, then learn from it; see the contract."""
        median, moved = state["median"].take(slots), state["moved"].take(slots)
        cells = state["cells"].take(slots)
        spread = np.maximum(state["deviation"].take(slots), FLOOR * np.abs(median))
        known = usable(value)
        distance = np.where(known, value, median) - median
        score = scored(distance, spread, known & moved & (spread > 0))
        at = slice(None) if known.all() else where(known)
        self._learn(state, slots[at], cells[at], value[at])
        return Scores(
            score,
            expected=np.where(cells > 0, median, np.nan),
            spread=np.where(moved, spread, np.nan),
            warmup=np.minimum(cells / self.warmup_cells, 1.0),
        )

    def _learn(
        self, state: Arrays, slots: SlotArray, cells: npt.NDArray[np.int32], value: Floats
    ) -> None:
        ring = state["ring"].reshape(-1)
        ring[slots * self.window_cells + cells % self.window_cells] = value
        cells = np.minimum(cells + 1, CELLS_MAX)
        state["cells"][slots] = cells
        due = (cells % self.every_cells == 0) | (cells <= 3 * self.every_cells)
        at = where(due)
        if len(at):
            slots = slots[at]
            rows = np.sort(state["ring"][slots], axis=1)
            filled = np.minimum(cells[at], self.window_cells)
            median, deviation = _robust(rows, filled)
            state["median"][slots], state["deviation"][slots] = median, deviation
            state["moved"][slots[where(deviation > 0)]] = True


def _robust(rows: Floats, filled: npt.NDArray[np.int32]) -> tuple[Floats, Floats]:
    """Compute median and deviation of sorted rows, whose first `filled` values count.

    The values nearest to the median stand side by side, so the median distance is the reach of the
    tightest run of more than half of them; Inf beyond `filled` rules out runs that go too far.
    """
    number = np.arange(len(rows))
    low, high = rows[number, (filled - 1) // 2], rows[number, filled // 2]
    median = low + (high - low) / 2
    runs = rows.shape[1] - rows.shape[1] // 2
    last = np.arange(runs) + (filled // 2)[:, None]
    ends = np.take_along_axis(rows, last, axis=1) - median[:, None]
    reach = np.maximum(median[:, None] - rows[:, :runs], ends).min(axis=1)
    deviation = _MEDIAN_DISTANCE * reach
    tied = where((reach == 0) & (rows[:, 0] < rows[number, filled - 1]))
    counted = np.arange(rows.shape[1]) < filled[tied, None]
    away = np.where(counted, np.abs(rows[tied] - median[tied, None]), 0.0)
    deviation[tied] = _MEAN_DISTANCE * away.sum(axis=1) / filled[tied]
    return median, deviation
