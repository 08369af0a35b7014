"""Spike: how far a jump goes beyond the jumps at the same time on recent days.

The residual is the distance from a short moving average. What residuals did in the ten minutes
around the same time of day, and in those before and after, on the last four days is the season, and
only what lies beyond it counts; of the four days the most extreme one is left out, so that one bad
day hides nothing. The unit is a mixture of what residuals are now, were at this time of day, and
are on the whole: the last keeps quiet hours from firing on tiny moves.

After FluxEV (Li and others, "FluxEV: A Fast and Effective Unsupervised Framework for Time-Series
Anomaly Detection", WSDM 2021), which takes off the season in the same order.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np
import numpy.typing as npt

from watchkeep.detectors.arrays import Arrays, Field, SlotArray, where
from watchkeep.detectors.channel import Scores, Span
from watchkeep.detectors.restraint import CELLS_MAX, LARGEST, SCORE_MAX

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int16]

_BLOCK_MS: Final = 600_000
_BLOCKS: Final = 144
_DAYS: Final = 4
# Today's row is written while those of the days before are read.
_ROWS: Final = _DAYS + 1
_NEVER: Final = -1
# Magnitudes are kept as logarithms in two bytes, so steep: 1% a step.
_STEPS: Final = 64
_NOTHING: Final = np.int16(-32768)
_AROUND: Final = np.array([-1, 0, 1])
_NORMAL_CELLS: Final = 50
# What fits into four bytes.
_SINGLE_MAX: Final = 3e38


@dataclass(frozen=True, slots=True)
class Spike:
    """The channel's settings.

    Attributes:
        weight: of a new cell in the moving average.
        recent_cells: the memory of what residuals are now.
        usual_cells: the memory of what they are on the whole.
        clip: residuals teach at most so many times the recent one.
    """

    weight: float = 0.2
    recent_cells: int = 240
    usual_cells: int = 40_320
    clip: float = 5.0

    name: ClassVar[str] = "spike"
    fields: ClassVar[Mapping[str, Field]] = {
        "level": Field("f8", 0.0),
        "cells": Field("i4", 0),
        "recent": Field("f8", 0.0),
        "usual": Field("f8", 0.0),
        # Of the block of the day that is under way.
        "block": Field("i4", _NEVER),
        "highest": Field("f8", 0.0),
        "lowest": Field("f8", 0.0),
        "total": Field("f8", 0.0),
        "count": Field("i4", 0),
        # What the season allows in it.
        "high": Field("f8", 0.0),
        "low": Field("f8", 0.0),
        "typical": Field("f8", np.nan),
        # By row of a day, and block.
        "day": Field("i4", _NEVER, (_ROWS,)),
        "highs": Field("i2", float(_NOTHING), (_ROWS, _BLOCKS)),
        "lows": Field("i2", float(_NOTHING), (_ROWS, _BLOCKS)),
        "means": Field("f4", np.nan, (_BLOCKS,)),
    }

    def seed(
        self,
        state: Arrays,
        slots: SlotArray,
        value: Floats,
        cells: npt.NDArray[np.int64],
    ) -> None:
        """Learn that signals had one value all along; see the contract."""
        known = where(np.abs(value) < LARGEST)
        slots = slots.take(known)
        state["level"][slots] = value.take(known)
        state["cells"][slots] = np.minimum(cells.take(known), CELLS_MAX)

    def step(
        self,
        state: Arrays,
        slots: SlotArray,
        span: Span,
        value: Floats,
    ) -> Scores:
        """Score one cell, then learn from it; see the contract."""
        usable = np.abs(value) < LARGEST  # NaN compares as false.
        block = span.begin_ms // _BLOCK_MS
        turned = slots.take(where(state["block"].take(slots) != block))
        if len(turned):
            _put_away(state, turned)
            _look_up(state, turned, block)
        cells, level = state["cells"].take(slots), state["level"].take(slots)
        residual = np.where(usable & (cells > 0), value - level, 0.0)
        recent, usual = state["recent"].take(slots), state["usual"].take(slots)
        typical = state["typical"].take(slots)
        unit = 0.5 * (recent + np.where(np.isnan(typical), recent, typical)) + 2 * usual
        high, low = state["high"].take(slots), state["low"].take(slots)
        beyond = np.maximum(residual - high, 0.0) + np.minimum(residual - low, 0.0)
        score = np.full(len(slots), np.nan)
        with np.errstate(over="ignore"):  # A unit may be next to nothing.
            np.divide(beyond, unit, out=score, where=usable & (unit > 0))
        score = np.minimum(np.maximum(score, -SCORE_MAX), SCORE_MAX)
        at = where(usable)
        taken, residual = slots.take(at), residual.take(at)
        self._learn(state, taken, value.take(at), residual, teaches=span.teaches)
        return Scores(
            score,
            expected=np.where(cells > 0, level, np.nan),
            spread=np.where(unit > 0, unit, np.nan),
            warmup=np.minimum(cells / _NORMAL_CELLS, 1.0),
            low=level + low,
            high=level + high,
        )

    def _learn(
        self,
        state: Arrays,
        slots: SlotArray,
        value: Floats,
        residual: Floats,
        *,
        teaches: bool,
    ) -> None:
        cells = state["cells"].take(slots)
        level = state["level"].take(slots)
        state["level"][slots] = np.where(cells > 0, level + self.weight * residual, value)
        if not teaches:
            state["cells"][slots] = np.maximum(cells, 1)
            return
        recent, usual = state["recent"].take(slots), state["usual"].take(slots)
        size = np.abs(residual)
        limit = np.where((cells >= _NORMAL_CELLS) & (recent + usual > 0), self.clip, np.inf)
        # A series that was constant up to now would stay clipped at nothing.
        with np.errstate(invalid="ignore"):
            size = np.fmin(size, limit * recent + usual)
        share = 1.0 / (cells + 1)
        state["recent"][slots] = recent + np.maximum(share, 1 / self.recent_cells) * (size - recent)
        state["usual"][slots] = usual + np.maximum(share, 1 / self.usual_cells) * (size - usual)
        state["cells"][slots] = np.minimum(cells + 1, CELLS_MAX)
        state["highest"][slots] = np.maximum(state["highest"].take(slots), residual)
        state["lowest"][slots] = np.minimum(state["lowest"].take(slots), residual)
        state["total"][slots] += size
        state["count"][slots] += 1


def _put_away(state: Arrays, slots: SlotArray) -> None:
    """Keep what the block under way showed, and begin anew."""
    block, count = state["block"].take(slots), state["count"].take(slots)
    some = where((block != _NEVER) & (count > 0))
    kept, block = slots.take(some), block.take(some)
    day, place = block // _BLOCKS, block % _BLOCKS
    row = day % _ROWS
    other = where(state["day"][kept, row] != day)
    if len(other):
        state["day"][kept.take(other), row.take(other)] = day.take(other)
        state["highs"][kept.take(other), row.take(other)] = _NOTHING
        state["lows"][kept.take(other), row.take(other)] = _NOTHING
    state["highs"][kept, row, place] = _coded(state["highest"].take(kept))
    state["lows"][kept, row, place] = _coded(-state["lowest"].take(kept))
    mean = np.minimum(state["total"].take(kept) / count.take(some), _SINGLE_MAX)
    before = state["means"][kept, place]
    state["means"][kept, place] = np.where(np.isnan(before), mean, before + (mean - before) / _DAYS)
    for name in ("highest", "lowest", "total", "count"):
        state[name][slots] = 0


def _look_up(state: Arrays, slots: SlotArray, block: int) -> None:
    """Find what the season allows in a block."""
    day, place = divmod(block, _BLOCKS)
    around = (place + _AROUND) % _BLOCKS
    days = day - 1 - np.arange(_DAYS)
    rows = days % _ROWS
    known = state["day"][slots[:, None], rows] == days
    for name, column, sign in (("highs", "high", 1.0), ("lows", "low", -1.0)):
        extremes = state[name]
        # The largest of three, one place after the other: faster than along a short axis.
        codes = extremes[slots[:, None], rows, around[0]]
        for near in around[1:]:
            np.maximum(codes, extremes[slots[:, None], rows, near], out=codes)
        codes[~known] = _NOTHING
        codes.sort(axis=1)
        whole = known.all(axis=1)
        state[column][slots] = sign * _decoded(np.where(whole, codes[:, -2], codes[:, -1]))
    means = state["means"][slots[:, None], around].astype(np.float64)
    there = ~np.isnan(means)
    count = there.sum(axis=1)
    total = np.where(there, means, 0.0).sum(axis=1)
    state["typical"][slots] = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    state["block"][slots] = block


def _coded(size: Floats) -> Codes:
    """Code sizes; they are rounded up, so that what comes again isn't beyond itself."""
    some = size > 0
    codes = np.ceil(np.log2(np.where(some, size, 1.0)) * _STEPS)
    return np.where(some, np.clip(codes, -32767, 32767), _NOTHING).astype(np.int16)


def _decoded(codes: Codes) -> Floats:
    size: Floats = np.where(codes == _NOTHING, 0.0, np.exp2(codes.astype(np.float64) / _STEPS))
    return size
