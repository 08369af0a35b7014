"""Fusion: from how rare an entity's signals are to how rare the entity is.

An entity of one signal is as abnormal as that. Of several, agreement tells a fault from noise: what
they show, from a hundred times a week on, is added up, over three cells as they don't see it at
once; and the sum is put on the scale of rarity from its own past. What so many calm signals add is
taken off, in units of how much that varies, so that a few signals more hardly move the scale.

While a sum's past is too short, an entity is as abnormal as its farthest signal, which counts less
the more signals could have been it.
"""

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from watchkeep.detectors.arrays import Arrays, Field, SlotArray, begins, where
from watchkeep.detectors.channel import Span
from watchkeep.detectors.rarity import Rarity
from watchkeep.detectors.tails import Pareto, Prior

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

# No signal counts more than this in a sum.
_MOST: Final = 8.0
_FROM: Final = 2.0
# One signal that shows much tells more than several that show a little.
_MATTERS: Final = 1.25
# What a signal adds on average, and how much that varies, squared: measured on calm servers.
_ADDS: Final = 0.01
_VARIES: Final = 0.025

# What sums of 6 to 38 signals show on their first day.
_FIRST_SUMS: Final = Prior(blocks=10, median=1.5, high=6.0)
# A past of an entity is more often full of faults than that of one signal.
SUMS: Final = Rarity(
    Pareto(shape=0.25, width=0.8, trust=None, prior=_FIRST_SUMS),
    block_cells=30,
    warm_blocks=2,
    settled_blocks=24,
)

_SIGNALS: Final = {
    "entity": Field("i4", -1),
    "stagger": Field("f4", 0.0),
    "page": Field("?", 0),
    "shown": Field("f4", 0.0, (2,)),
}


class Shares(NamedTuple):
    """How rare signals are for their entities: each float64[n]; NaN where that isn't known.

    Attributes:
        alone: by themselves, while a sum's past is too short.
        sums: in sums.
        beside: by themselves, beside a sum.
    """

    alone: Floats
    sums: Floats
    beside: Floats


class Fused(NamedTuple):
    """How rare entities are.

    Attributes:
        entity: int64[m], ascending.
        rarity: float64[m]; NaN where there is too little past, or no signal that may page.
    """

    entity: SlotArray
    rarity: Floats


class Fusion:
    """What is known of signals' shares in their entities, and of the entities' sums.

    Attributes:
        signals, entities: its columns.
    """

    def __init__(self, sums: Rarity = SUMS) -> None:
        self._sums = sums
        self.signals = Arrays(_SIGNALS)
        self.entities = Arrays({**sums.fields, "signals": Field("i4", 0)})

    def place(self, slots: SlotArray, entity: SlotArray, stagger: Floats, page: Flags) -> None:
        """Take in new signals; see `Bank.place`."""
        self.signals.grow(int(slots.max(initial=-1)) + 1)
        self.entities.grow(int(entity.max(initial=-1)) + 1)
        self.signals["entity"][slots] = entity
        self.signals["stagger"][slots] = stagger
        self.signals["page"][slots] = page
        np.add.at(self.entities["signals"], entity[page], 1)

    def free(self, slots: SlotArray) -> None:
        """Forget signals that were placed, and the sums of entities that may not page any more."""
        left = self.signals["entity"].take(slots[self.signals["page"].take(slots)])
        np.subtract.at(self.entities["signals"], left, 1)
        self.entities.reset(left[self.entities["signals"].take(left) == 0])
        self.signals.reset(slots)

    def step(self, span: Span, slots: SlotArray, shares: Shares, *, sums: bool) -> Fused:
        """Tell how rare a cell is for entities.

        Args:
            span: where the cell lies.
            slots: int64[n], each once.
            shares: what the signals show.
            sums: the cell is one of those in which signals are added up.
        """
        signals = self.signals
        entity, page = signals["entity"].take(slots), signals["page"].take(slots)
        shown = self._shown(slots, shares.sums)
        # Sums depend on the order of what is added, so it is that of the slots.
        order = np.lexsort((slots, entity))
        firsts = where(begins(entity.take(order)))
        ids = entity.take(order.take(firsts)).astype(np.int64)
        may = np.where(page, (shares.alone, shares.beside), np.nan).take(order, axis=1)
        rarity, beside = np.fmax.reduceat(may, firsts, axis=1)
        count = self.entities["signals"].take(ids)
        several = where(count > 1)
        if len(several):
            could = np.log10(count.take(several))
            rarity[several] -= could
        if sums and len(several):
            known = page & ~np.isnan(shares.sums)
            adds = np.where(known, (shown, known), 0.0).take(order, axis=1)
            total, signals_known = np.add.reduceat(adds, firsts, axis=1)[:, several]
            signals_known[signals_known == 0] = np.nan
            beyond = np.maximum(total - _ADDS * signals_known, 0.0)
            stagger = signals["stagger"].take(slots.take(order.take(firsts))).take(several)
            told = self._sums.step(
                self.entities,
                ids.take(several),
                span,
                beyond / np.sqrt(_VARIES * signals_known),
                stagger.astype(np.float64),
            )
            both = np.fmax(told, beside.take(several) - could)
            rarity[several] = np.where(np.isnan(told), rarity.take(several), both)
        return Fused(ids, rarity)

    def _shown(self, slots: SlotArray, rarity: Floats) -> Floats:
        """Tell what signals add to their entities: the most of this cell and the two before."""
        shown = np.fmax(np.minimum(rarity, _MOST) + _FROM, 0.0)
        before = self.signals["shown"][slots]
        self.signals["shown"][slots, 0] = shown
        self.signals["shown"][slots, 1] = before[:, 0]
        most: Floats = np.maximum(shown, np.maximum(before[:, 0], before[:, 1]))
        return most**_MATTERS
