"""Rarity: scores on a scale that people understand, from their own past.

Rarity is minus log10 of the alerts a week that are expected at that level or above: 0 is once a
week, 1 once in ten weeks. Scores that belong together would be one alert, so the largest of every
block of cells counts, in a histogram with narrow bins on a logarithmic scale. From that a tail is
fitted on what lies below the anomalies, and extrapolated. Two kinds of tails are known:

- `Pareto`: a generalised Pareto of fixed shape over the median of the blocks that show anything, as
  wide as their upper ninth tenth says. What lies above is only counted, so that anomalies can't
  widen it, and what is far above is left out of the count. The rarity is the one that is expected
  when so few blocks are known (the predictive distribution of an exponential tail, a Lomax), so a
  short past claims little.
- `LogExponential`: the logarithm falls off exponentially from the k-th largest block on. Nothing
  is ever forgotten. It is for scores that tell what has never been seen before.

Coles, "An Introduction to Statistical Modeling of Extreme Values", 2001, chapters 3 and 4.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from watchkeep.detectors.arrays import Arrays, Field, SlotArray, where
from watchkeep.detectors.channel import Span

Floats = npt.NDArray[np.float64]
Histograms = npt.NDArray[np.float64]

WEEK_MS: Final = 604_800_000
_DAY_MS: Final = 86_400_000
_BINS: Final = 97
_NEVER: Final = -1
# What fits into four bytes, with room.
_LARGEST: Final = 1e30
# What an exponential takes.
_DECAY_MAX: Final = 80.0
# Weights of what is new grow instead of what is old fading; beyond this all are scaled down.
_WEIGHT_MAX: Final = 1e6


class Bins(NamedTuple):
    """Where the bins of histograms lie: one for what counts as nothing, then on a log scale.

    Attributes:
        first: what is smaller counts as nothing.
        ratio: of each bin's bound to the one before.
    """

    first: float
    ratio: float

    @property
    def low(self) -> Floats:
        """Give the lower bound of each bin: float64[bins]."""
        low: Floats = np.concatenate([[0.0], self.first * self.ratio ** np.arange(_BINS - 1)])
        return low

    @property
    def middle(self) -> Floats:
        """Give the logarithm of each bin's middle: float64[bins]."""
        return np.asarray(np.log(self.first) + np.log(self.ratio) * (np.arange(_BINS) - 0.5))

    def place(self, size: Floats) -> npt.NDArray[np.int64]:
        """Find the bins of sizes: int64[n]."""
        with np.errstate(divide="ignore"):
            place = np.floor(np.log(size / self.first) / np.log(self.ratio)) + 1
        bins: npt.NDArray[np.int64] = np.clip(place, 0, _BINS - 1).astype(np.int64)
        return bins

    def quantile(self, blocks: Histograms, sums: Histograms, rank: Floats) -> Floats:
        """Find the levels below which so many blocks lie, evenly on a log scale in a bin.

        Args:
            blocks: float64[n, bins].
            sums: float64[n, bins], the same, summed up.
            rank: float64[n].
        """
        at = np.minimum((sums < rank[:, None]).sum(axis=1), _BINS - 1)
        row = np.arange(len(at))
        inside = blocks[row, at]
        share = np.divide(
            rank - (sums[row, at] - inside), inside, out=np.zeros(len(at)), where=inside > 0
        )
        share = np.minimum(np.maximum(share, 0.0), 1.0)
        return self.first * self.ratio ** np.where(at == 0, 0.0, at - 1 + share)


class Fitted(NamedTuple):
    """Tails.

    Attributes:
        begin: float64[n], the level where a tail begins.
        scale: float64[n], how wide it is, in the tail's own unit.
        weekly: float64[n], blocks a week that reach the begin.
        known: float64[n], how many blocks the width is known from.
    """

    begin: Floats
    scale: Floats
    weekly: Floats
    known: Floats


class Tail(Protocol):
    """A kind of tail."""

    @property
    def bins(self) -> Bins:
        """Where its histograms' bins lie."""
        ...

    @property
    def memory_weeks(self) -> float:
        """After how long a block counts half; infinite for never."""
        ...

    def fit(self, blocks: Histograms, weekly: Floats) -> Fitted:
        """Fit tails to histograms.

        Args:
            blocks: float64[n, bins], how many blocks had their largest score in each bin.
            weekly: float64[n], blocks a week.
        """
        ...

    def rarity(self, size: Floats, fitted: Fitted) -> Floats:
        """Put scores on the scale: float64[n] from sizes of 0 and more."""
        ...

    def level(self, rarity: float, fitted: Fitted) -> Floats:
        """Find the sizes from which on scores are so rare; at least where tails begin."""
        ...


@dataclass(frozen=True, slots=True)
class Pareto:
    """A generalised Pareto tail of a fixed shape.

    Attributes:
        shape: one for all signals; to fit one of each would cost more than it gives.
        memory_weeks: after how long a block counts half.
        trust: how much a block tells about the width, compared with one of an exponential tail;
            None to take the width for known.
    """

    shape: float = 0.15
    memory_weeks: float = 8.0
    trust: float | None = 0.25

    bins: ClassVar[Bins] = Bins(0.02, 1.12)
    _BEGIN: ClassVar[float] = 0.5
    _WIDTH: ClassVar[float] = 0.9
    _NARROWEST: ClassVar[float] = 0.03
    # Blocks rarer than this many a week are no part of what is usual.
    _ODD: ClassVar[float] = 0.3
    _ROUNDS: ClassVar[int] = 4
    # No past shows that blocks are rarer than this a week; were it believed, to score nothing would
    # itself count as rare where nothing ever happens.
    _SELDOM: ClassVar[float] = 0.15

    def fit(self, blocks: Histograms, weekly: Floats) -> Fitted:
        """Fit tails to histograms; see the contract."""
        full = blocks.sum(axis=1)
        total = full
        sums = blocks.cumsum(axis=1)
        for left in range(self._ROUNDS, -1, -1):
            quiet = np.maximum(0.0, 2 * blocks[:, 0] / total - 1)
            begin = self.bins.quantile(blocks, sums, (quiet + self._BEGIN * (1 - quiet)) * total)
            width = self.bins.quantile(blocks, sums, (quiet + self._WIDTH * (1 - quiet)) * total)
            above = np.maximum((1 - self._BEGIN) * (1 - quiet) * total, 0.5)
            rate = np.maximum(above * weekly / full, self._SELDOM)
            ratio = ((1 - self._WIDTH) / (1 - self._BEGIN)) ** -self.shape - 1
            scale = np.maximum(self._NARROWEST, self.shape * (width - begin) / ratio)
            if left:
                odd = begin + scale / self.shape * ((rate / self._ODD) ** self.shape - 1)
                # What counts as nothing is never odd.
                odd = np.maximum(odd, self.bins.first / 2)
                total = np.where(odd[:, None] > self.bins.low, blocks, 0.0).sum(axis=1)
        above = (1 - self._WIDTH) * (1 - quiet) * total
        known = np.maximum((self.trust or 0.0) * above, 1.0)
        return Fitted(begin, scale, rate, known)

    def rarity(self, size: Floats, fitted: Fitted) -> Floats:
        """Put scores on the scale; see the contract."""
        begin, scale, weekly, known = fitted
        beyond = np.maximum(size - begin, 0.0)
        decay = np.log1p(self.shape * beyond / scale) / self.shape
        if self.trust:
            decay = known * np.log1p(decay / known)
        below = np.minimum(size / np.maximum(begin, 1e-300), 1.0) - 1
        found: Floats = (decay - np.log(weekly)) / np.log(10) + below
        return found

    def level(self, rarity: float, fitted: Fitted) -> Floats:
        """Find the sizes of a rarity; see the contract."""
        begin, scale, weekly, known = fitted
        decay = np.maximum(rarity * np.log(10) + np.log(weekly), 0.0)
        with np.errstate(over="ignore"):
            if self.trust:
                decay = known * np.expm1(np.minimum(decay / known, _DECAY_MAX))
            beyond = scale / self.shape * np.expm1(np.minimum(self.shape * decay, _DECAY_MAX))
        size: Floats = np.minimum(begin + beyond, _LARGEST)
        return size


@dataclass(frozen=True, slots=True)
class LogExponential:
    """A tail whose logarithm falls off exponentially.

    Attributes:
        largest: from which of the largest blocks on, as a share; but not fewer than `least`.
    """

    largest: float = 0.05
    least: int = 4

    bins: ClassVar[Bins] = Bins(0.001, 1.18)
    memory_weeks: ClassVar[float] = np.inf
    # A prior for the width, in the unit of a logarithm.
    _WIDTH: ClassVar[float] = 0.02

    def fit(self, blocks: Histograms, weekly: Floats) -> Fitted:
        """Fit tails to histograms; see the contract."""
        total = blocks.sum(axis=1)
        some = np.minimum(np.maximum(self.largest * total, self.least), total / 2)
        below = total - some
        sums = blocks.cumsum(axis=1)
        begin = self.bins.quantile(blocks, sums, below)
        # Of each bin, how much lies above the begin.
        above = np.minimum(np.maximum(sums - below[:, None], 0.0), blocks)
        logs = np.log(np.maximum(begin, self.bins.first))
        middle = np.maximum(self.bins.middle, logs[:, None])
        excess = (above * (middle - logs[:, None])).sum(axis=1) / np.maximum(some, 1e-9)
        return Fitted(begin, excess + self._WIDTH, some / total * weekly, some)

    def rarity(self, size: Floats, fitted: Fitted) -> Floats:
        """Put scores on the scale; see the contract."""
        begin, scale, weekly, _ = fitted
        first = self.bins.first
        with np.errstate(divide="ignore"):
            beyond = np.log(np.maximum(size, first) / np.maximum(begin, first)) / scale
        found: Floats = (np.where(beyond > 0, beyond, -np.log(10)) - np.log(weekly)) / np.log(10)
        return found

    def level(self, rarity: float, fitted: Fitted) -> Floats:
        """Find the sizes of a rarity; see the contract."""
        begin, scale, weekly, _ = fitted
        beyond = np.maximum(rarity * np.log(10) + np.log(weekly), 0.0) * scale
        size: Floats = np.maximum(begin, self.bins.first) * np.exp(np.minimum(beyond, _DECAY_MAX))
        return np.minimum(size, _LARGEST)


@dataclass(frozen=True, slots=True)
class Rarity:
    """Puts scores of one kind on the scale of rarity.

    Attributes:
        tail: the kind.
        block_cells: how many scores make a block.
        warm_blocks: so many blocks make it warm.
        refit_ms: how often it is fitted anew.
    """

    tail: Tail
    block_cells: int
    warm_blocks: int
    refit_ms: int = _DAY_MS

    fields: ClassVar[Mapping[str, Field]] = {
        "blocks": Field("f4", 0.0, (_BINS,)),
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
        size = np.minimum(np.abs(score), _LARGEST)
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
        first = state["refit_ms"].take(slots) == _NEVER
        wait_ms = np.where(first, self.refit_ms * stagger, self.refit_ms)
        state["refit_ms"][slots] = span.begin_ms + wait_ms.astype(np.int64)


def _fitted(state: Arrays, slots: SlotArray) -> Fitted:
    return Fitted(*(state[name].take(slots).astype(np.float64) for name in Fitted._fields))
