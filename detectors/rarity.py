"""Rarity: scores on a scale that people understand, from their own past.

Rarity is minus log10 of the alerts a week that are expected at that level or above: 0 is once a
week, 1 once in ten weeks. Scores that belong together would be one alert, so the largest of every
block of cells counts, in a histogram. From that a tail is fitted on what lies below the anomalies,
and extrapolated; see `tails.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np
import numpy.typing as npt

from watchkeep.detectors.arrays import Arrays, Field, SlotArray, where
from watchkeep.detectors.channel import Span
from watchkeep.detectors.tails import BINS, SIZE_MAX, Fitted, Tail

Floats = npt.NDArray[np.float64]

WEEK_MS: Final = 604_800_000
_DAY_MS: Final = 86_400_000
_NEVER: Final = -1
# Weights of what is new grow instead of what is old fading; beyond this all are scaled down.
_WEIGHT_MAX: Final = 1e6


@dataclass(frozen=True, slots=True)
class Rarity:
    """Puts scores of one kind on the scale of rarity.

    Attributes:
        tail: the kind.
        block_cells: how many scores make a block.
        warm_blocks: so many blocks make it warm.
        refit_ms: how often it is fitted anew.
        settled_blocks: until there are so many, it is fitted anew after each; with a prior, when a
            few blocks of a signal's own tell much.
    """

    tail: Tail
    block_cells: int
    warm_blocks: int
    refit_ms: int = _DAY_MS
    settled_blocks: int = 0

    fields: ClassVar[Mapping[str, Field]] = {
        "blocks": Field("f4", 0.0, (BINS,)),
        "weight": Field("f4", 1.0),
        "count": Field("i4", 0),
        "largest": Field("f4", 0.0),
        "cells": Field("u1", 0),
        "refit_ms": Field("i8", _NEVER),
        "begin": Field("f4", 0.0),
        "scale": Field("f4", 1.0),
        "weekly": Field("f4", 0.0),
        "known": Field("f4", 1.0),
    }

    def step(
        self,
        state: Arrays,
        slots: SlotArray,
        span: Span,
        score: Floats,
        stagger: Floats,
    ) -> Floats:
        """Tell how rare scores are, then learn from them.

        Args:
            state: its columns; changed in place.
            slots: int64[n], each at most once.
            span: when the cell begins, and how far scores are apart.
            score: float64[n], of either sign; NaN is neither told nor learnt.
            stagger: float64[n] from 0 to 1, how far into a day a slot is fitted anew.

        Returns:
            float64[n]; NaN where there is no score, or too little past.

        """
        size = np.minimum(np.abs(score), SIZE_MAX)
        fitted = _fitted(state, slots)
        warm = where((fitted.weekly > 0) & ~np.isnan(size))
        rarity = np.full(len(slots), np.nan)
        rarity[warm] = self.tail.rarity(
            size.take(warm), Fitted(*(column.take(warm) for column in fitted))
        )
        if span.teaches:
            self._learn(state, slots, span, size, stagger)
        return rarity

    def warmup(self, state: Arrays, slots: SlotArray) -> Floats:
        """Tell how much of the past that is needed there is: float64[n] up to 1."""
        share: Floats = np.minimum(state["count"].take(slots) / self.warm_blocks, 1.0)
        return share

    def level(self, state: Arrays, slots: SlotArray, rarity: float) -> Floats:
        """Find the scores from which on they are so rare: float64[n]; NaN where it isn't known."""
        fitted = _fitted(state, slots)
        warm = fitted.weekly > 0
        safe = fitted._replace(weekly=np.where(warm, fitted.weekly, 1.0))
        return np.where(warm, self.tail.level(rarity, safe), np.nan)

    def _learn(
        self, state: Arrays, slots: SlotArray, span: Span, size: Floats, stagger: Floats
    ) -> None:
        at = where(~np.isnan(size))
        slots, size, stagger = slots.take(at), size.take(at), stagger.take(at)
        largest = np.maximum(state["largest"].take(slots), size)
        cells = state["cells"].take(slots) + 1
        state["largest"][slots], state["cells"][slots] = largest, cells
        full = where(cells >= self.block_cells)
        if not len(full):
            return
        slots, largest, stagger = slots.take(full), largest.take(full), stagger.take(full)
        self._count(state, slots, span.step_ms, largest)
        count, refit_ms = state["count"].take(slots), state["refit_ms"].take(slots)
        due = where((count >= self.warm_blocks) & (span.begin_ms >= refit_ms))
        if len(due):
            self._fit(state, slots.take(due), span, stagger.take(due))

    def _count(self, state: Arrays, slots: SlotArray, step_ms: int, largest: Floats) -> None:
        """Put blocks that are full into the histograms."""
        state["largest"][slots], state["cells"][slots] = 0.0, 0
        place = self.tail.bins.place(largest)
        weight = state["weight"].take(slots)
        state["blocks"][slots, place] += weight
        grown = weight * 0.5 ** (-step_ms * self.block_cells / (self.tail.memory_weeks * WEEK_MS))
        state["weight"][slots] = grown
        state["count"][slots] += 1
        large = slots.take(where(grown > _WEIGHT_MAX))
        if len(large):
            state["blocks"][large] /= state["weight"][large, None]
            state["weight"][large] = 1.0

    def _fit(self, state: Arrays, slots: SlotArray, span: Span, stagger: Floats) -> None:
        blocks = state["blocks"][slots].astype(np.float64)
        blocks /= state["weight"].take(slots).astype(np.float64)[:, None]
        weekly = np.full(len(slots), WEEK_MS / (span.step_ms * self.block_cells))
        for name, column in self.tail.fit(blocks, weekly)._asdict().items():
            state[name][slots] = column
        settled = where(state["count"].take(slots) >= self.settled_blocks)
        slots, stagger = slots.take(settled), stagger.take(settled)
        first = state["refit_ms"].take(slots) == _NEVER
        wait_ms = np.where(first, self.refit_ms * stagger, self.refit_ms)
        state["refit_ms"][slots] = span.begin_ms + wait_ms.astype(np.int64)


def _fitted(state: Arrays, slots: SlotArray) -> Fitted:
    return Fitted(*(state[name].take(slots).astype(np.float64) for name in Fitted._fields))
