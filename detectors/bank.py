"""Bank: all channels of many signals, put on the scale of rarity, and fused per entity.

A signal has two sudden channels, its jumps and how unlike the others one member is, and two slow
ones. Of a slow one only escalation counts alone: what is rarer than anything in the last twentieth
of the signal's life. That lets few through, so they gain a little more than a decade.

Entities are judged by their signals that may page, on the side that matters; the others are
evidence.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from watchkeep.detectors.arrays import Arrays, Field, SlotArray, where
from watchkeep.detectors.channel import Channel, Scores, Span
from watchkeep.detectors.chosen import Chosen
from watchkeep.detectors.envelope import LOOK_MS, Envelope
from watchkeep.detectors.fusion import SUMS, Fusion, Shares
from watchkeep.detectors.rarity import Rarity
from watchkeep.detectors.spike import Spike
from watchkeep.detectors.tails import LogExponential, Pareto, Prior

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

_ESCALATES: Final = 0.05
_ESCALATION_GAINS: Final = 1.2
# The families share the budget; they seldom alarm together.
_FAMILIES: Final = 0.1
# In sums, what lasts counts a decade less, and no more than this: for hours it would outweigh all.
_LASTING_COUNTS: Final = -1.0
_LASTING_MOST: Final = 2.0
# Slow channels are too sure of themselves until they have seen a day and a night.
_SETTLES_MS: Final = 86_400_000
# What goes the way that doesn't matter; no rarity is lower.
_ORDINARY: Final = -4.0
MEMBER: Final = "member"

_SIGNAL_FIELDS: Final = {
    "placed": Field("?", 0),
    "side": Field("i1", 0),
    "first_ms": Field("i8", -1),
    "born_ms": Field("i8", -1),
    "peak": Field("f4", -np.inf),
    "peak_ms": Field("i8", -1),
    "slow": Field("f4", np.nan),
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
# What jumps show on a signal's first day, when no season is known: of servers, services and sensors
# alike.
_FIRST_JUMPS: Final = Prior(blocks=4, median=1.0, high=2.4, known=12)
_SUDDEN: Final = Rarity(
    Pareto(prior=_FIRST_JUMPS), block_cells=30, warm_blocks=2, settled_blocks=24
)
PARTS: Final = (
    Part(Spike(), _SUDDEN, slow=False),
    Part(Envelope(), _NOVEL, slow=True),
    Part(Envelope("hour", looks=12), _NOVEL, slow=True, less=0.7),
)
MEMBERS: Final = _SUDDEN


class Sighting(NamedTuple):
    """What one channel saw in a cell.

    Attributes:
        channel: its name.
        scores: of the signals of the call.
        rarity: float64[n], how rare that is; NaN where nothing was looked at, or too little known.
    """

    channel: str
    scores: Scores
    rarity: Floats


class Decision(NamedTuple):
    """What a cell says of entities.

    Attributes:
        entity: int64[m], ascending.
        rarity: float64[m]; NaN where there is too little past, or no signal that may page.
        alone: float64[n], how rare each signal of the call is by itself; NaN likewise.
        sightings: by channel, in the bank's order.
    """

    entity: SlotArray
    rarity: Floats
    alone: Floats
    sightings: tuple[Sighting, ...]


class Bank:
    """The state of all channels for the signals of one cluster in one shard.

    It is given its parts, the scale of how unlike members are, that of the sums of entities, and a
    channel for chosen signals if there is one; what that sees is sudden.
    """

    def __init__(
        self,
        parts: tuple[Part, ...] = PARTS,
        sums: Rarity = SUMS,
        members: Rarity = MEMBERS,
        chosen: Chosen | None = None,
    ) -> None:
        self._parts, self._unlike, self._chosen = parts, members, chosen
        self._channels = [Arrays(part.channel.fields) for part in parts]
        self._tails = [Arrays(part.rarity.fields) for part in parts]
        self._members = Arrays(members.fields)
        self._signals = Arrays(_SIGNAL_FIELDS)
        self._fusion = Fusion(sums)

    @property
    def nbytes(self) -> int:
        """Tell how much memory the state takes."""
        return sum(state.nbytes for state in self._named().values())

    def _by_signal(self) -> list[Arrays]:
        return [*self._channels, *self._tails, self._members, self._signals]

    def _named(self) -> dict[str, Arrays]:
        names = [part.channel.name for part in self._parts]
        return (
            dict(zip(names, self._channels, strict=True))
            | dict(zip((f"{name}-rarity" for name in names), self._tails, strict=True))
            | {f"{MEMBER}-rarity": self._members, "signals": self._signals}
            | {"shares": self._fusion.signals, "entities": self._fusion.entities}
            | (self._chosen.named() if self._chosen else {})
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

    def place(
        self,
        slots: SlotArray,
        entity: SlotArray,
        stagger: Floats,
        page: Flags | None = None,
        side: npt.NDArray[np.int8] | None = None,
    ) -> None:
        """Take in new signals.

        Args:
            slots: int64[n], theirs.
            entity: int64[n], the slots of whom they are about.
            stagger: float64[n] from 0 to 1, how far into a day each is fitted anew.
            page: bool[n], they may page; None if all of them may.
            side: int8[n], where: 1 above, -1 below, 0 on both sides; None for that.
        """
        for state in self._by_signal():
            state.grow(int(slots.max(initial=-1)) + 1)
        self._signals["placed"][slots] = True
        self._signals["side"][slots] = 0 if side is None else side
        may = np.ones(len(slots), bool) if page is None else page
        self._fusion.place(slots, entity, stagger, may)
        if self._chosen:
            self._chosen.grow(int(slots.max(initial=-1)) + 1)

    def choose(self, slots: SlotArray) -> None:
        """Have the channel of chosen signals look at some that were placed just now."""
        if self._chosen:
            self._chosen.take(slots)

    def seed(self, slots: SlotArray, value: Floats, cells: npt.NDArray[np.int64]) -> None:
        """Learn that signals had one value all along; see the channels' contract."""
        for part, state in zip(self._parts, self._channels, strict=True):
            part.channel.seed(state, slots, value, cells)
        if self._chosen:
            self._chosen.seed(slots, value, cells)

    def free(self, slots: SlotArray) -> None:
        """Forget signals, and entities that have none left; what was never placed is passed over.

        Args:
            slots: int64[n], each once.
        """
        placed = self._signals["placed"]
        slots = slots[slots < len(placed)]
        slots = slots[placed.take(slots)]
        self._fusion.free(slots)
        if self._chosen:
            self._chosen.free(slots)
        for state in self._by_signal():
            state.reset(slots)

    def step(
        self,
        span: Span,
        slots: SlotArray,
        value: Floats,
        members: Scores | None = None,
        *,
        sums: bool = True,
    ) -> Decision:
        """Score a cell of signals, and tell how rare it is for their entities.

        Args:
            span: where the cell lies.
            slots: int64[n], each once.
            value: float64[n]; NaN for those without one.
            members: how unlike the others the farthest member of each is; None if nobody looked.
            sums: the cell is one of those in which an entity's signals are added up.
        """
        new = slots.take(where(self._signals["first_ms"].take(slots) < 0))
        self._signals["first_ms"][new] = span.begin_ms
        side = self._signals["side"].take(slots)
        sightings, sudden, slow = [], np.full(len(slots), np.nan), np.full(len(slots), np.nan)
        for part, sighting in self._sighted(span, slots, value, members):
            sightings.append(sighting)
            matters = (side == 0) | (np.sign(sighting.scores.score) == side)
            family = slow if part is not None and part.slow else sudden
            found = np.where(matters | np.isnan(sighting.rarity), sighting.rarity, _ORDINARY)
            np.fmax(family, found, out=family)
        escalated = self._escalated(span.begin_ms, slots, slow)
        for sighting, part in zip(sightings, self._parts, strict=False):
            if part.slow:
                # The other slow channel, if it saw less, has not escalated.
                sighting.rarity[sighting.rarity == escalated] += _ESCALATION_GAINS
        alone = np.fmax(sudden, escalated + _ESCALATION_GAINS) - _FAMILIES
        known = where(~np.isnan(slow))
        self._signals["slow"][slots.take(known)] = slow.take(known)
        age_ms = span.begin_ms - self._signals["born_ms"].take(slots)
        lasting = np.where(age_ms >= _SETTLES_MS, self._signals["slow"].take(slots), np.nan)
        lasting = np.minimum(lasting + _LASTING_COUNTS, _LASTING_MOST)
        shares = Shares(
            alone,
            sums=np.fmax(sudden, lasting),
            beside=np.where(side != 0, np.fmax(sudden, escalated), np.nan),
        )
        fused = self._fusion.step(span, slots, shares, sums=sums)
        return Decision(*fused, alone, tuple(sightings))

    def _sighted(
        self, span: Span, slots: SlotArray, value: Floats, members: Scores | None
    ) -> Iterator[tuple[Part | None, Sighting]]:
        """Tell what each channel sees, and how rare that is."""
        stagger = self._fusion.signals["stagger"].take(slots).astype(np.float64)
        look = span._replace(step_ms=max(span.step_ms, LOOK_MS))
        for part, state, tails in zip(self._parts, self._channels, self._tails, strict=True):
            scores = part.channel.step(state, slots, span, value)
            found = np.full(len(slots), np.nan)
            # Most cells lie between two looks.
            if not part.slow or span.end_ms // LOOK_MS > span.begin_ms // LOOK_MS:
                apart = look if part.slow else span
                found = part.rarity.step(tails, slots, apart, scores.score, stagger)
                found = np.where(scores.warmup >= 1, found - part.less, np.nan)
            yield part, Sighting(part.channel.name, scores, found)
        if members is not None:
            found = self._unlike.step(self._members, slots, span, members.score, stagger)
            yield None, Sighting(MEMBER, members, found)
        if self._chosen:
            told, found = self._chosen.step(span, slots, value, stagger)
            yield None, Sighting(self._chosen.name, told, found)

    def known_ms(self, slot: int, at_ms: int) -> int:
        """Tell for how long a signal has been known; 0 if it isn't."""
        first_ms = int(self._signals["first_ms"][slot])
        return 0 if first_ms < 0 else at_ms - first_ms

    def warmup(self, slots: SlotArray) -> Floats:
        """Tell how much of the past that the first channel's rarities need is there, up to 1."""
        part, tails = self._parts[0], self._tails[0]
        return part.rarity.warmup(tails, slots)

    def levels(self, channel: str, slots: SlotArray, rarity: float) -> Floats:
        """Find the scores from which on a channel finds signals so rare; NaN where it can't.

        Args:
            channel: its name.
            slots: int64[n].
            rarity: of its sightings.
        """
        if channel == MEMBER:
            return self._unlike.level(self._members, slots, rarity)
        if self._chosen and channel == self._chosen.name:
            return self._chosen.levels(slots, rarity)
        at = [part.channel.name for part in self._parts].index(channel)
        part = self._parts[at]
        gains = _ESCALATION_GAINS if part.slow else 0.0
        return part.rarity.level(self._tails[at], slots, rarity + part.less - gains)

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
        # As it is kept, so that the same again doesn't rise.
        rises = rarity.astype(np.float32) > signals["peak"].take(slots)
        renewed = where(rises | lapsed)
        at = slots.take(renewed)
        signals["peak"][at], signals["peak_ms"][at] = rarity.take(renewed), time_ms
        return np.where(rises, rarity, np.nan)
