"""EWMA: how many standard deviations a signal is away from its recent mean.

Mean and variance are exponentially weighted (Finch, "Incremental calculation of weighted mean and
variance", 2009, section 9). Until the memory is full the weight is 1/n, so the start isn't biased
towards the first value.

Two rules keep an anomaly from teaching: a value beyond `far` is not learnt, for at most as many
cells as the memory is long, after which it is the new normal; and what is learnt is clipped at
four deviations. The spread has a floor of 2% of the mean, so that a nearly constant signal isn't
abnormal at its first breath; a signal that never moved has no spread, and no score.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from watchkeep.detectors.arrays import Arrays, Field, SlotArray
from watchkeep.detectors.channel import Scores

_CLIP = 4.0
_FLOOR = 0.02
_SCORE_MAX = 1e6
# Squares beyond this overflow; no real metric comes near.
_LARGEST = 1e150


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
        "far_cells": Field("i4", 0),
    }

    def seed(
        self,
        state: Arrays,
        slots: SlotArray,
        value: npt.NDArray[np.float64],
        cells: npt.NDArray[np.int64],
    ) -> None:
        """Learn that signals had one value all along; see the contract."""
        known = np.abs(value) < _LARGEST
        slots = slots[known]
        state["mean"][slots] = value[known]
        state["cells"][slots] = np.minimum(cells[known], np.iinfo(np.int32).max - 1)

    def step(
        self,
        state: Arrays,
        slots: SlotArray,
        time_ms: int,  # noqa: ARG002 - Part of the contract; seasonal channels need it.
        value: npt.NDArray[np.float64],
    ) -> Scores:
        """Score one cell, then learn from it; see the contract."""
        mean, variance = state["mean"][slots], state["variance"][slots]
        cells = state["cells"][slots]
        usable = np.abs(value) < _LARGEST  # NaN compares as false.
        distance = np.where(usable, value, mean) - mean
        spread = np.maximum(np.sqrt(variance), _FLOOR * np.abs(mean))
        moved = (variance > 0) & (cells > 1)
        score = np.full(len(slots), np.nan)
        with np.errstate(over="ignore"):  # A spread may be next to nothing.
            np.divide(distance, spread, out=score, where=moved & usable)
        score = np.clip(score, -_SCORE_MAX, _SCORE_MAX)

        far_cells = np.where(np.abs(score) >= self.far, state["far_cells"][slots] + 1, 0)
        warm = cells >= self.warmup_cells
        learns = usable & ~(warm & (far_cells > 0) & (far_cells <= self.memory_cells))
        self._learn(state, slots[learns], distance[learns], (spread * _CLIP)[learns])
        state["far_cells"][slots] = np.where(usable, far_cells, state["far_cells"][slots])
        return Scores(
            score,
            expected=np.where(cells > 0, mean, np.nan),
            spread=np.where(moved, spread, np.nan),
            warmup=np.minimum(cells / self.warmup_cells, 1.0),
        )

    def _learn(
        self,
        state: Arrays,
        slots: SlotArray,
        distance: npt.NDArray[np.float64],
        clip: npt.NDArray[np.float64],
    ) -> None:
        cells = state["cells"][slots]
        warm = (cells >= self.warmup_cells) & (clip > 0)
        distance = np.where(warm, np.clip(distance, -clip, clip), distance)
        weight = np.maximum(1.0 / (cells + 1), 2.0 / (self.memory_cells + 1))
        state["mean"][slots] += weight * distance
        state["variance"][slots] = (1 - weight) * (
            state["variance"][slots] + weight * distance * distance
        )
        state["cells"][slots] = np.minimum(cells + 1, np.iinfo(np.int32).max - 1)
