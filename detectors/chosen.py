"""Chosen: a channel for a few signals that people choose, as it is too slow for all of them.

Its state has slots of its own, so what wasn't chosen costs no more than a number that says so.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from watchkeep.detectors.arrays import Arrays, Field, SlotArray, where
from watchkeep.detectors.channel import Channel, Scores, Span
from watchkeep.detectors.rarity import Rarity
from watchkeep.detectors.tails import Pareto

Floats = npt.NDArray[np.float64]

_NOWHERE: Final = -1
# That of jumps, but for their prior: nobody knows what is usual in the unit of any model's score.
RARITY: Final = Rarity(Pareto(), block_cells=30, warm_blocks=2, settled_blocks=24)


class Chosen:
    """The channel, the scale that its scores are put on, and the state of the chosen signals."""

    def __init__(self, channel: Channel, rarity: Rarity = RARITY) -> None:
        self.channel, self._rarity = channel, rarity
        self._own = Arrays({"slot": Field("i4", _NOWHERE)})
        self._state, self._tails = Arrays(channel.fields), Arrays(rarity.fields)

    @property
    def name(self) -> str:
        """The channel's."""
        return self.channel.name

    def named(self) -> dict[str, Arrays]:
        """Give its columns by part, for a snapshot."""
        parts = {"": self._state, "-rarity": self._tails, "-slots": self._own}
        return {f"{self.name}{part}": state for part, state in parts.items()}

    def grow(self, size: int) -> None:
        """Make room for signals whose slots are below `size`; nobody has chosen new ones."""
        self._own.grow(size)

    def take(self, slots: SlotArray) -> None:
        """Take in signals that are chosen, each once, and give them the lowest slots of its own."""
        taken = self._own["slot"][self._own["slot"] >= 0]
        free = np.setdiff1d(np.arange(len(taken) + len(slots)), taken)[: len(slots)]
        self._own["slot"][slots] = free
        for state in (self._state, self._tails):
            state.grow(int(free.max(initial=-1)) + 1)

    def free(self, slots: SlotArray) -> None:
        """Forget signals that were placed."""
        rows, own = self._of(slots)
        for state in (self._state, self._tails):
            state.reset(own)
        self._own.reset(slots.take(rows))

    def seed(self, slots: SlotArray, value: Floats, cells: npt.NDArray[np.int64]) -> None:
        """Learn that signals had one value all along; see the channels' contract."""
        rows, own = self._of(slots)
        self.channel.seed(self._state, own, value.take(rows), cells.take(rows))

    def step(
        self, span: Span, slots: SlotArray, value: Floats, stagger: Floats
    ) -> tuple[Scores, Floats]:
        """Score a cell of those that are chosen, and tell how rare it is; the rest is NaN."""
        rows, own = self._of(slots)
        scores = self.channel.step(self._state, own, span, value.take(rows))
        found = self._rarity.step(self._tails, own, span, scores.score, stagger.take(rows))
        found = np.where(scores.warmup >= 1, found, np.nan)

        def among_all(column: Floats) -> Floats:
            full = np.full(len(slots), np.nan)
            full[rows] = column
            return full

        told = {name: c for name, c in scores._asdict().items() if c is not None}
        return Scores(**{name: among_all(c) for name, c in told.items()}), among_all(found)

    def levels(self, slots: SlotArray, rarity: float) -> Floats:
        """Find the scores from which on signals are so rare; NaN where it can't."""
        rows, own = self._of(slots)
        level = np.full(len(slots), np.nan)
        level[rows] = self._rarity.level(self._tails, own, rarity)
        return level

    def _of(self, slots: SlotArray) -> tuple[SlotArray, SlotArray]:
        """Find which signals are chosen: their places in the call, and their own slots."""
        own = self._own["slot"].take(slots)
        rows = where(own >= 0)
        return rows, own.take(rows).astype(np.int64)
