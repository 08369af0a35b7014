"""Bank: all channels of many signals, put on the scale of rarity, and fused per entity.

Each signal has a sudden channel and two of changed behaviour. Of the latter only escalation counts:
what is rarer than all of the last twentieth of the signal's life. That lets through about one in
ten, so they gain a decade.

An entity of one signal is as rare as that. Of several, agreement tells a fault from noise: what
they show, from a hundred times a week on, is added up, over a few cells as they don't see it at
once; and the sum is put on the scale of rarity from its own past.
"""

from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from watchkeep.detectors.arrays import Arrays, Field, SlotArray, where
from watchkeep.detectors.channel import Channel, Scores
from watchkeep.detectors.envelope import LOOK_MS, Envelope
from watchkeep.detectors.rarity import LogExponential, Pareto, Rarity
from watchkeep.detectors.spike import Spike

Floats = npt.NDArray[np.float64]

_SINGLE_FIELDS: Final = {
    "entity": Field("i4", -1),
    "stagger": Field("f4", 0.0),
    "born_ms": Field("i8", -1),
    "peak": Field("f4", -np.inf),
    "peak_ms": Field("i8", -1),
    "before": Field("f4", 0.0, (2,)),
    "slow": Field("f4", 0.0),
}


class Part(NamedTuple):
    """A channel with the scale that its scores are put on.

    Attributes:
        channel: it.
        rarity: its scale.
        sudden: its scores come with each cell; the others with each look.
        less: by how much it counts less than others of its family.
    """

    channel: Channel
    rarity: Rarity
    sudden: bool
    less: float


PARTS: Final = (
    Part(Spike(), Rarity(Pareto(), 30, 24), sudden=True, less=0.0),
    Part(Envelope(), Rarity(LogExponential(), 12, 17, LOOK_MS), sudden=False, less=0.0),
    Part(
        Envelope("hour", 12), Rarity(LogExponential(), 12, 17, LOOK_MS), sudden=False, less=0.5
    ),
)
_ESCALATION: Final = 0.05
_GAIN: Final = 1.0
_MOST: Final = 8.0
_FROM: Final = 2.0
_SLOW_LESS: Final = 1.0


class Decision(NamedTuple):
    """What a cell says of entities.

    Attributes:
        entity: int64[m], ascending.
        rarity: float64[m]; NaN where there is too little past.
        signal_rarity: float64[n], of each signal of the call.
    """

    entity: SlotArray
    rarity: Floats
    signal_rarity: Floats


@dataclass(slots=True)
class _Held:
    state: Arrays
    tails: Arrays


class Bank:
    """The channels' state for the signals of one cluster in one shard."""

    def __init__(self, parts: tuple[Part, ...] = PARTS) -> None:
        self._parts = parts
        self._held = [_Held(Arrays(p.channel.fields), Arrays(Rarity.fields)) for p in parts]
        self._signals = Arrays(_SINGLE_FIELDS)
        self._fused = Rarity(Pareto(trust=0.0), 30, 24)
        self._entities = Arrays({**Rarity.fields, "signals": Field("i4", 0)})

    @property
    def nbytes(self) -> int:
        """Tell how much memory the state takes."""
        held = sum(one.state.nbytes + one.tails.nbytes for one in self._held)
        return held + self._signals.nbytes + self._entities.nbytes

    def place(self, slots: SlotArray, entity: SlotArray, stagger: Floats) -> None:
        """Take in new signals, and whose they are."""
        size = int(slots.max()) + 1
        for one in self._held:
            one.state.grow(size)
            one.tails.grow(size)
        self._signals.grow(size)
        self._entities.grow(int(entity.max()) + 1)
        self._signals["entity"][slots] = entity
        self._signals["stagger"][slots] = stagger
        np.add.at(self._entities["signals"], entity, 1)

    def step(self, time_ms: int, step_ms: int, slots: SlotArray, value: Floats) -> Decision:
        """Score a cell of signals, and tell how rare it is for their entities.

        Args:
            time_ms: when the cell begins.
            step_ms: how wide it is.
            slots: int64[n], each once.
            value: float64[n].
        """
        signals = self._signals
        stagger = signals["stagger"].take(slots).astype(np.float64)
        sudden = np.full(len(slots), np.nan)
        slow = np.full(len(slots), np.nan)
        look_ms = max(step_ms, LOOK_MS)
        for part, held in zip(self._parts, self._held, strict=True):
            scores: Scores = part.channel.step(held.state, slots, time_ms, step_ms, value)
            apart = step_ms if part.sudden else look_ms
            found = part.rarity.step(held.tails, slots, time_ms, apart, scores.score, stagger)
            found = np.where(scores.warmup >= 1, found - part.less, np.nan)
            if part.sudden:
                sudden = np.fmax(sudden, found)
            else:
                slow = np.fmax(slow, found)
        self.trace = (sudden, slow)
        escalated = self._escalated(slots, time_ms, slow)
        alone = np.fmax(sudden, escalated + _GAIN)
        fresh = where(~np.isnan(slow))
        signals["slow"][slots.take(fresh)] = slow.take(fresh)
        together = self._together(slots, time_ms, step_ms, np.fmax(sudden, signals["slow"].take(slots) - _SLOW_LESS))
        entity = signals["entity"].take(slots).astype(np.int64)
        single = self._entities["signals"].take(entity) == 1
        return self._decided(entity, single, alone, together)

    def _decided(self, entity, single, alone, together) -> Decision:
        ids, first = np.unique(entity, return_index=True)
        fused_ids, fused = together
        rarity = np.where(single[first], alone[first], fused)
        return Decision(ids, rarity, alone)

    def _escalated(self, slots: SlotArray, time_ms: int, rarity: Floats) -> Floats:
        """Keep what is rarer than anything in the last part of a signal's life."""
        signals = self._signals
        born = signals["born_ms"].take(slots)
        signals["born_ms"][slots] = born = np.where(born < 0, time_ms, born)
        peak, peak_ms = signals["peak"].take(slots), signals["peak_ms"].take(slots)
        old = time_ms - peak_ms > _ESCALATION * (time_ms - born)
        rises = rarity > peak
        renewed = where(rises | (old & ~np.isnan(rarity)))
        at = slots.take(renewed)
        signals["peak"][at], signals["peak_ms"][at] = rarity.take(renewed), time_ms
        return np.where(rises, rarity, np.nan)

    def _together(self, slots, time_ms, step_ms, rarity):
        signals = self._signals
        weight = np.maximum(np.minimum(np.nan_to_num(rarity, nan=-9.0), _MOST) + _FROM, 0.0)
        before = signals["before"][slots]
        held = np.maximum(weight, before.max(axis=1))
        signals["before"][slots, 1] = before[:, 0]
        signals["before"][slots, 0] = weight
        entity = signals["entity"].take(slots)
        ids, inverse = np.unique(entity, return_inverse=True)
        total = np.bincount(inverse, held)
        ids = ids.astype(np.int64)
        several = where(self._entities["signals"].take(ids) > 1)
        fused = np.full(len(ids), np.nan)
        if len(several):
            stagger = np.zeros(len(several))
            fused[several] = self._fused.step(
                self._entities, ids.take(several), time_ms, step_ms, total.take(several), stagger
            )
        return ids, fused
