"""Tails: what is fitted to the largest scores of blocks, and extrapolated.

What is fitted to is a histogram with narrow bins on a logarithmic scale. Two kinds are known:

- `Pareto`: a generalised Pareto of fixed shape over the median of the blocks that show anything, as
  wide as their upper ninth tenth says. What lies above is only counted, so that anomalies can't
  widen it, and what is far above is left out of the count. The rarity is the one that is expected
  when so few blocks are known (the predictive distribution of an exponential tail, a Lomax), so a
  short past claims little. A `Prior` stands in for what a past that is shorter still can't tell.
- `LogExponential`: the logarithm falls off exponentially from the k-th largest block on. Nothing
  is ever forgotten. It is for scores that tell what has never been seen before.

Coles, "An Introduction to Statistical Modeling of Extreme Values", 2001, chapters 3 and 4.
"""

from dataclasses import dataclass
from functools import cache
from typing import ClassVar, Final, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Histograms = npt.NDArray[np.float64]

BINS: Final = 97
# What fits into four bytes, with room.
SIZE_MAX: Final = 1e30
# What an exponential takes.
_DECAY_MAX: Final = 80.0


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
        low: Floats = np.concatenate([[0.0], self.first * self.ratio ** np.arange(BINS - 1)])
        return low

    @property
    def middle(self) -> Floats:
        """Give the logarithm of each bin's middle: float64[bins]."""
        return np.asarray(np.log(self.first) + np.log(self.ratio) * (np.arange(BINS) - 0.5))

    def place(self, size: Floats) -> npt.NDArray[np.int64]:
        """Find the bins of sizes: int64[n]."""
        with np.errstate(divide="ignore"):
            place = np.floor(np.log(size / self.first) / np.log(self.ratio)) + 1
        bins: npt.NDArray[np.int64] = np.clip(place, 0, BINS - 1).astype(np.int64)
        return bins

    def quantile(self, blocks: Histograms, sums: Histograms, rank: Floats) -> Floats:
        """Find the levels below which so many blocks lie, evenly on a log scale in a bin.

        Args:
            blocks: float64[n, bins].
            sums: float64[n, bins], the same, summed up.
            rank: float64[n].
        """
        at = np.minimum((sums < rank[:, None]).sum(axis=1), BINS - 1)
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
class Prior:
    """What is usual of signals whose own past is short.

    It stands in for blocks of the past. Largest values of blocks follow the distribution that
    belongs to a tail's shape (a generalised extreme value distribution, Coles, chapter 3), so two
    of its quantiles tell all of it.

    Attributes:
        blocks: for so many blocks of the signal's own it counts.
        median: half of the blocks stay below this score.
        high: nine tenths stay below it.
        known: from at least so many blocks the width counts as known, in `Pareto.trust`'s unit, on
            the first day; from then on less, and on the fourth day not at all.
    """

    blocks: float
    median: float
    high: float
    known: float = 1.0


@cache
def _pseudo_blocks(prior: Prior, bins: Bins, shape: float) -> Floats:
    """Tell how many of a prior's blocks lie in each bin: float64[bins]."""
    half, nine_tenths = ((-np.log(share)) ** -shape / shape for share in (0.5, 0.9))
    scale = (prior.high - prior.median) / (nine_tenths - half)
    from_end = shape * np.maximum((bins.low - prior.median) / scale + half, 0.0)
    with np.errstate(divide="ignore"):
        below = np.exp(-(from_end ** (-1 / shape)))
    below[0] = 0.0  # Scores are 0 and more.
    return np.asarray(prior.blocks * np.diff(below, append=1.0))


@dataclass(frozen=True, slots=True)
class Pareto:
    """A generalised Pareto tail of a fixed shape.

    Attributes:
        shape: one for all signals; to fit one of each would cost more than it gives.
        width: the share of blocks below the level that tells how wide a tail is; what is rarer may
            be anomalies.
        memory_weeks: after how long a block counts half.
        trust: how much a block tells about the width, compared with one of an exponential tail;
            None to take the width for known.
        prior: what is usual where the past is short; None to go by the past alone.
    """

    shape: float = 0.15
    width: float = 0.9
    memory_weeks: float = 8.0
    trust: float | None = 0.25
    prior: Prior | None = None

    bins: ClassVar[Bins] = Bins(0.02, 1.12)
    _BEGIN: ClassVar[float] = 0.5
    _NARROWEST: ClassVar[float] = 0.03
    # Blocks rarer than this many a week are no part of what is usual.
    _ODD: ClassVar[float] = 0.3
    _ROUNDS: ClassVar[int] = 4
    # No past shows that blocks are rarer than this a week; were it believed, to score nothing would
    # itself count as rare where nothing ever happens.
    _SELDOM: ClassVar[float] = 0.15

    def with_prior(self, blocks: Histograms) -> Histograms:
        """Put what is usual into histograms."""
        if not self.prior:
            return blocks
        return blocks + _pseudo_blocks(self.prior, self.bins, self.shape)

    def fit(self, blocks: Histograms, weekly: Floats) -> Fitted:
        """Fit tails to histograms; see the contract."""
        own = blocks.sum(axis=1)
        blocks = self.with_prior(blocks)
        full = blocks.sum(axis=1)
        total = full
        sums = blocks.cumsum(axis=1)
        for left in range(self._ROUNDS, -1, -1):
            quiet = np.maximum(0.0, 2 * blocks[:, 0] / total - 1)
            begin = self.bins.quantile(blocks, sums, (quiet + self._BEGIN * (1 - quiet)) * total)
            wide = self.bins.quantile(blocks, sums, (quiet + self.width * (1 - quiet)) * total)
            above = np.maximum((1 - self._BEGIN) * (1 - quiet) * total, 0.5)
            rate = np.maximum(above * weekly / full, self._SELDOM)
            ratio = ((1 - self.width) / (1 - self._BEGIN)) ** -self.shape - 1
            scale = np.maximum(self._NARROWEST, self.shape * (wide - begin) / ratio)
            if left:
                odd = begin + scale / self.shape * ((rate / self._ODD) ** self.shape - 1)
                # What counts as nothing is never odd.
                odd = np.maximum(odd, self.bins.first / 2)
                total = np.where(odd[:, None] > self.bins.low, blocks, 0.0).sum(axis=1)
        above = (1 - self.width) * (1 - quiet) * total
        known = np.maximum((self.trust or 0.0) * above, 1.0)
        if self.prior:
            days = 7 * own / weekly
            known = np.maximum(known, self.prior.known * np.clip((3 - days) / 2, 0, 1))
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
        size: Floats = np.minimum(begin + beyond, SIZE_MAX)
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
        return np.minimum(size, SIZE_MAX)
