"""Envelope: how far a signal leaves what it was around this time of day in recent weeks.

The envelope is the smallest and the largest value within four hours of the time of day, of this
week so far and the three before it. It is looked at every five minutes, as the mean of that time,
or of so many five minutes: short changes of behaviour and lasting ones. Only what lies outside
counts, in units of what the signal usually is away from its mean.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np
import numpy.typing as npt

from watchkeep.detectors.arrays import Arrays, Field, SlotArray, where
from watchkeep.detectors.channel import Scores, Span
from watchkeep.detectors.restraint import CELLS_MAX, SCORE_MAX

Floats = npt.NDArray[np.float64]

LOOK_MS: Final = 300_000
_BLOCK_MS: Final = 1_800_000
_BLOCKS: Final = 48
_NEAR: Final = np.arange(-8, 9)
_WEEK_BLOCKS: Final = 7 * _BLOCKS
_WEEKS: Final = 4
_NEVER: Final = -1
_LARGEST: Final = 1e30
_CLIP: Final = 5.0
_FLOOR: Final = 1e-3
_MEMORY: Final = 8_064
# So many looks make a signal warm: most of a day.
_WARM: Final = 200
# In the first hour there is no envelope to speak of.
_UNSCORED: Final = 12


@dataclass(frozen=True, slots=True)
class Envelope:
    """The channel's settings.

    Attributes:
        name: the channel's.
        looks: over how many looks of five minutes the mean is taken; at most 12.
    """

    name: str = "envelope"
    looks: int = 1

    fields: ClassVar[Mapping[str, Field]] = {
        # Of the look that is under way, and those before it.
        "look": Field("i4", _NEVER),
        "total": Field("f8", 0.0),
        "count": Field("i4", 0),
        "ring": Field("f4", np.nan, (12,)),
        "looks": Field("u1", 0),
        # The mean and what is usually away from it, in looks.
        "mean": Field("f8", 0.0),
        "away": Field("f8", 0.0),
        "cells": Field("i4", 0),
        # Of the block of the day that is under way.
        "block": Field("i4", _NEVER),
        "low": Field("f4", np.inf),
        "high": Field("f4", -np.inf),
        # By row of a week, and block.
        "week": Field("i4", _NEVER, (_WEEKS,)),
        "lows": Field("f4", np.inf, (_WEEKS, _BLOCKS)),
        "highs": Field("f4", -np.inf, (_WEEKS, _BLOCKS)),
    }

    def seed(
        self,
        state: Arrays,
        slots: SlotArray,
        value: Floats,
        cells: npt.NDArray[np.int64],
    ) -> None:
        """Learn nothing: a past that has no times tells nothing of a time of day."""

    def step(
        self,
        state: Arrays,
        slots: SlotArray,
        span: Span,
        value: Floats,
    ) -> Scores:
        """Score the cell that ends a look, then learn from it; see the contract."""
        scores = _nothing(len(slots))
        scores.warmup[:] = np.minimum(state["cells"].take(slots) / _WARM, 1.0)
        usable = where(np.abs(value) < _LARGEST)  # NaN compares as false.
        taken = slots.take(usable)
        look = span.begin_ms // LOOK_MS
        stale = taken.take(where(state["look"].take(taken) != look))
        state["total"][stale], state["count"][stale], state["look"][stale] = 0.0, 0, look
        state["total"][taken] += value.take(usable)
        state["count"][taken] += 1
        if span.end_ms // LOOK_MS == look or not len(taken):
            return scores
        seen = (state["total"].take(taken) / state["count"].take(taken)).astype(np.float32)
        if self.looks > 1:
            seen, full = self._averaged(state, taken, seen)
            taken, seen, usable = taken.take(full), seen.take(full), usable.take(full)
        block = span.begin_ms // _BLOCK_MS
        turned = taken.take(where(state["block"].take(taken) != block))
        if len(turned):
            _look_up(state, turned, block)
        self._score(state, taken, seen, scores, usable)
        if span.teaches:
            _learn(state, taken, block, seen)
        return scores

    def _averaged(
        self, state: Arrays, slots: SlotArray, seen: npt.NDArray[np.float32]
    ) -> tuple[npt.NDArray[np.float32], SlotArray]:
        """Take in a look; return the mean of the last ones, and where all of them are known."""
        place = state["looks"].take(slots)
        state["ring"][slots, place] = seen
        state["looks"][slots] = (place + 1) % self.looks
        ring = state["ring"][slots, : self.looks]
        mean = ring.mean(axis=1, dtype=np.float64).astype(np.float32)
        return mean, where(~np.isnan(mean))

    def _score(
        self,
        state: Arrays,
        slots: SlotArray,
        seen: npt.NDArray[np.float32],
        scores: Scores,
        at: SlotArray,
    ) -> None:
        low, high = state["low"].take(slots), state["high"].take(slots)
        mean, cells = state["mean"].take(slots), state["cells"].take(slots)
        unit = np.maximum(state["away"].take(slots), _FLOOR * np.abs(mean))
        known = (high >= low) & (cells >= _UNSCORED)
        with np.errstate(invalid="ignore", over="ignore"):
            outside = np.maximum(seen - high, 0) + np.minimum(seen - low, 0)
        score = np.full(len(slots), np.nan)
        with np.errstate(over="ignore"):
            np.divide(outside, unit, out=score, where=known & (unit > 0))
        scores.score[at] = np.minimum(np.maximum(score, -SCORE_MAX), SCORE_MAX)
        scores.expected[at] = np.where(cells > 0, mean, np.nan)
        scores.spread[at] = np.where(unit > 0, unit, np.nan)
        assert scores.low is not None
        assert scores.high is not None
        assert scores.observed is not None
        scores.observed[at] = seen
        scores.low[at], scores.high[at] = np.where(known, (low, high), np.nan)


def _nothing(count: int) -> Scores:
    return Scores(*(np.full(count, np.nan) for _ in Scores._fields))


def _look_up(state: Arrays, slots: SlotArray, block: int) -> None:
    """Find the envelope of a block, from all weeks that are kept."""
    week = block // _WEEK_BLOCKS
    around = (block % _BLOCKS + _NEAR) % _BLOCKS
    old = state["week"][slots]
    gone = (old != _NEVER) & (old <= week - _WEEKS)
    if np.count_nonzero(gone):
        at, row = gone.nonzero()
        state["week"][slots[at], row] = _NEVER
        state["lows"][slots[at], row] = np.inf
        state["highs"][slots[at], row] = -np.inf
    rows = np.arange(_WEEKS)[:, None]
    state["low"][slots] = state["lows"][slots[:, None, None], rows, around].min(axis=(1, 2))
    state["high"][slots] = state["highs"][slots[:, None, None], rows, around].max(axis=(1, 2))
    state["block"][slots] = block


def _learn(state: Arrays, slots: SlotArray, block: int, seen: npt.NDArray[np.float32]) -> None:
    week, place = block // _WEEK_BLOCKS, block % _BLOCKS
    row = week % _WEEKS
    state["week"][slots, row] = week
    state["lows"][slots, row, place] = np.minimum(state["lows"][slots, row, place], seen)
    state["highs"][slots, row, place] = np.maximum(state["highs"][slots, row, place], seen)
    state["low"][slots] = np.minimum(state["low"].take(slots), seen)
    state["high"][slots] = np.maximum(state["high"].take(slots), seen)
    cells, mean, away = (state[name].take(slots) for name in ("cells", "mean", "away"))
    share = np.maximum(1.0 / (cells + 1), 1 / _MEMORY)
    off = seen - mean
    size = np.abs(off)
    limit = np.where((cells >= _WARM) & (away > 0), _CLIP * away, np.inf)
    state["mean"][slots] = mean + share * np.clip(off, -limit, limit)
    state["away"][slots] = away + share * (np.minimum(size, limit) - away)
    state["cells"][slots] = np.minimum(cells + 1, CELLS_MAX)
