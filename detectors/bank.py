"""Bank: all channels of many signals, put on the scale of rarity, and fused per entity.

A signal has a sudden channel and two slow ones. Of a slow one only escalation counts alone: what is
rarer than anything in the last twentieth of the signal's life. That lets few through, so they
gain a little more than a decade.

An entity of one signal is as abnormal as that. Of several, agreement tells a fault from noise: what
they show, from a hundred times a week on, is added up, over three cells as they don't see it at
once; and the sum is put on the scale of rarity from its own past.
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from watchkeep.detectors.arrays import Arrays, Field, SlotArray, begins, where
from watchkeep.detectors.channel import Channel, Span
from watchkeep.detectors.envelope import LOOK_MS, Envelope
from watchkeep.detectors.rarity import LogExponential, Pareto, Rarity
from watchkeep.detectors.spike import Spike

Floats = npt.NDArray[np.float64]

_ESCALATES: Final = 0.05
_ESCALATION_GAINS: Final = 1.2
# The families share the budget; they seldom alarm together.
_FAMILIES: Final = 0.1
# In sums, what lasts counts a decade less, and no signal counts more than this.
_LASTING_COUNTS: Final = -1.0
_MOST: Final = 8.0
_FROM: Final = 2.0

_SIGNAL_FIELDS: Final = {
    "entity": Field("i4", -1),
    "stagger": Field("f4", 0.0),
    "born_ms": Field("i8", -1),
    "peak": Field("f4", -np.inf),
    "peak_ms": Field("i8", -1),
    "slow": Field("f4", np.nan),
    "shown": Field("f4", 0.0, (2,)),
}


class Part(NamedTuple):
    """A channel with the scale that its scores are put on.

    Attributes:
        channel: it.
        rarity: its scale.
        slow: its scores come with each look, not with each cell.
        less: by how much its rarity counts less.
    """

    channel: Channel
    rarity: Rarity
    slow: bool
    less: float = 0.0


_NOVEL: Final = Rarity(LogExponential(), block_cells=12, warm_blocks=17, refit_ms=LOOK_MS)
PARTS: Final = (
    Part(Spike(), Rarity(Pareto(), block_cells=30, warm_blocks=24), slow=False),
    Part(Envelope(), _NOVEL, slow=True),
    Part(Envelope("hour", looks=12), _NOVEL, slow=True, less=0.7),
)
FUSED: Final = Rarity(Pareto(trust=None), block_cells=30, warm_blocks=24)


class Decision(NamedTuple):
    """What a cell says of entities.

    Attributes:
        entity: int64[m], ascending.
        rarity: float64[m]; NaN where there is too little past.
        alone: float64[n], how rare each signal of the call is by itself; NaN likewise.
    """

    entity: SlotArray
    rarity: Floats
    alone: Floats


class Bank:
    """The state of all channels for the signals of one cluster in one shard.

    It is given its parts, and the scale that the sums of entities are put on.
    """

    def __init__(self, parts: tuple[Part, ...] = PARTS, fused: Rarity = FUSED) -> None:
        self._parts, self._fused_rarity = parts, fused
        self._channels = [Arrays(part.channel.fields) for part in parts]
        self._tails = [Arrays(part.rarity.fields) for part in parts]
        self._signals = Arrays(_SIGNAL_FIELDS)
        self._entities = Arrays({**fused.fields, "signals": Field("i4", 0)})

    @property
    def nbytes(self) -> int:
        """Tell how much memory the state takes."""
        return sum(one.nbytes for one in (*self._by_signal(), self._entities))

    def _by_signal(self) -> list[Arrays]:
        return [*self._channels, *self._tails, self._signals]

    def _named(self) -> dict[str, Arrays]:
        names = [part.channel.name for part in self._parts]
        return (
            dict(zip(names, self._channels, strict=True))
            | dict(zip((f"{name}-rarity" for name in names), self._tails, strict=True))
            | {"signals": self._signals, "entities": self._entities}
        )

    def dump(self) -> dict[str, npt.NDArray[Any]]:
        """Give a copy of all columns, for a snapshot; a name is its part's, and the column's."""
        return {
            f"{part}/{name}": column
            for part, state in self._named().items()
            for name, column in state.dump().items()
        }

    def restore(self, columns: Mapping[str, npt.NDArray[Any]]) -> None:
        """Take over the columns of a snapshot."""
        for part, state in self._named().items():
            start = f"{part}/"
            state.restore(
                {
                    name.removeprefix(start): column
                    for name, column in columns.items()
                    if name.startswith(start)
                }
            )

    def place(self, slots: SlotArray, entity: SlotArray, stagger: Floats) -> None:
        """Take in new signals.

        Args:
            slots: int64[n], theirs.
            entity: int64[n], the slots of whom they are about.
            stagger: float64[n] from 0 to 1, how far into a day each is fitted anew.
        """
        for state in self._by_signal():
            state.grow(int(slots.max(initial=-1)) + 1)
        self._entities.grow(int(entity.max(initial=-1)) + 1)
        self._signals["entity"][slots] = entity
        self._signals["stagger"][slots] = stagger
        np.add.at(self._entities["signals"], entity, 1)

    def free(self, slots: SlotArray) -> None:
        """Forget signals, and entities that have none left; what was never placed is passed over.

        Args:
            slots: int64[n], each once.
        """
        entity = self._signals["entity"]
        slots = slots[slots < len(entity)]
        slots = slots[entity.take(slots) >= 0]
        left = entity.take(slots)
        np.subtract.at(self._entities["signals"], left, 1)
        self._entities.reset(left[self._entities["signals"].take(left) == 0])
        for state in self._by_signal():
            state.reset(slots)

    def step(self, span: Span, slots: SlotArray, value: Floats) -> Decision:
        """Score a cell of signals, and tell how rare it is for their entities.

        Args:
            span: where the cell lies.
            slots: int64[n], each once.
            value: float64[n]; NaN for those without one.
        """
        sudden, slow = self._rarities(span, slots, value)
        escalated = self._escalated(span.begin_ms, slots, slow)
        alone = np.fmax(sudden, escalated + _ESCALATION_GAINS)
        alone -= _FAMILIES
        known = where(~np.isnan(slow))
        self._signals["slow"][slots.take(known)] = slow.take(known)
        lasting = self._signals["slow"].take(slots) + _LASTING_COUNTS
        shown = self._shown(slots, np.fmax(sudden, lasting))
        return self._fused(span, slots, alone, shown)

    def _rarities(self, span: Span, slots: SlotArray, value: Floats) -> tuple[Floats, Floats]:
        """Tell how rare the signals are to the sudden channels and to the slow ones."""
        stagger = self._signals["stagger"].take(slots).astype(np.float64)
        look = span._replace(step_ms=max(span.step_ms, LOOK_MS))
        sudden, slow = np.full(len(slots), np.nan), np.full(len(slots), np.nan)
        for part, state, tails in zip(self._parts, self._channels, self._tails, strict=True):
            scores = part.channel.step(state, slots, span, value)
            apart = look if part.slow else span
            found = part.rarity.step(tails, slots, apart, scores.score, stagger)
            found = np.where(scores.warmup >= 1, found - part.less, np.nan)
            family = slow if part.slow else sudden
            np.fmax(family, found, out=family)
        return sudden, slow

    def _escalated(self, time_ms: int, slots: SlotArray, rarity: Floats) -> Floats:
        """Keep what is rarer than anything in the last part of a signal's life; the rest is NaN."""
        told = where(~np.isnan(rarity))
        if not len(told):
            return rarity
        escalated = np.full(len(slots), np.nan)
        escalated[told] = self._rising(time_ms, slots.take(told), rarity.take(told))
        return escalated

    def _rising(self, time_ms: int, slots: SlotArray, rarity: Floats) -> Floats:
        signals = self._signals
        born_ms = signals["born_ms"].take(slots)
        born_ms = np.where(born_ms < 0, time_ms, born_ms)
        signals["born_ms"][slots] = born_ms
        lapsed = time_ms - signals["peak_ms"].take(slots) > _ESCALATES * (time_ms - born_ms)
        rises = rarity > signals["peak"].take(slots)
        renewed = where(rises | lapsed)
        at = slots.take(renewed)
        signals["peak"][at], signals["peak_ms"][at] = rarity.take(renewed), time_ms
        return np.where(rises, rarity, np.nan)

    def _shown(self, slots: SlotArray, rarity: Floats) -> Floats:
        """Tell what signals add to their entities: the most of this cell and the two before."""
        shown = np.fmax(np.minimum(rarity, _MOST) + _FROM, 0.0)
        before = self._signals["shown"][slots]
        self._signals["shown"][slots, 0] = shown
        self._signals["shown"][slots, 1] = before[:, 0]
        most: Floats = np.maximum(shown, np.maximum(before[:, 0], before[:, 1]))
        return most

    def _fused(self, span: Span, slots: SlotArray, alone: Floats, shown: Floats) -> Decision:
        entity = self._signals["entity"].take(slots)
        # Sums depend on the order of what is added, so it is that of the slots.
        order = np.lexsort((slots, entity))
        entity = entity.take(order)
        firsts = where(begins(entity))
        ids = entity.take(firsts).astype(np.int64)
        rarity = np.fmax.reduceat(alone.take(order), firsts)
        several = where(self._entities["signals"].take(ids) > 1)
        if len(several):
            total = np.add.reduceat(shown.take(order), firsts).take(several)
            stagger = self._signals["stagger"].take(slots.take(order).take(firsts)).take(several)
            rarity[several] = self._fused_rarity.step(
                self._entities, ids.take(several), span, total, stagger.astype(np.float64)
            )
        return Decision(ids, rarity, alone)
