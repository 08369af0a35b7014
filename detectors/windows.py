"""Windows: from how rare entities are to abnormal stretches of them.

An entity's window opens when it is as rare as its budget allows, or somebody is missing. What its
signals show then, and from then on, is the window's evidence. It closes after some time in which
the entity was ordinary and its evidence back in the band that it had left; what stays away for
hours is the new normal. For a while after that only what is stronger, or new, opens another.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from watchkeep.detectors.absence import Gone
from watchkeep.detectors.arrays import Arrays, Field, SlotArray, where
from watchkeep.detectors.bank import Bank, Decision, Sighting
from watchkeep.detectors.cells import Cell
from watchkeep.detectors.roster import Roster
from watchkeep.detectors.seen import RAREST, USUAL, Glance, Seen, first, glances, returns, update
from watchkeep.detectors.spike import Spike
from watchkeep.schemas.settings import Detect
from watchkeep.schemas.signal import unit_of
from watchkeep.schemas.window import (
    EVIDENCE_MAX,
    Direction,
    Evidence,
    Window,
    WindowState,
    window_id,
)

Floats = npt.NDArray[np.float64]

ABSENCE: Final = "absence"
# How much stronger a window must be for a revision, and how much weaker it may be to go on.
_HALF_A_DECADE: Final = 0.5
_REVISION_MS: Final = 600_000
# What stays away for so long is the new normal; the bands of jumps are narrow, and soon outdated.
_NEW_NORMAL_MS: Final = 21_600_000
_JUMP_LASTS_MS: Final = 3_600_000
# From when on what a signal shows is evidence: by role, as there are many that only explain.
_ODD_PAGE: Final = 0.0
_ODD_EVIDENCE: Final = 1.0
# When a window opens, so many of those that may page are told that have left what is usual.
_FIRST: Final = 3
# That nobody is left is no question of how often; this is where it is put among what is.
_RARITY: Final = {Gone.ENTITY: 3.0, Gone.MEMBER: 2.0}

_ENTITIES: Final = {"opens": Field("f8", np.inf), "since_ms": Field("i8", -1)}


@dataclass(slots=True)
class OpenWindow:
    """The window of an entity that is abnormal now.

    Attributes:
        settings: the version of the detection settings at onset.
        strength: the highest rarity so far; `told_strength`: in the last revision.
        told_ms: the last revision's `at_ms`.
        abnormal_ms: the end of the last cell in which it was abnormal.
        seen: by channel and signal slot.
    """

    window_id: str
    settings: str
    onset_ms: int
    detected_ms: int
    backlog: bool
    threshold: float
    strength: float = -math.inf
    revision: int = 0
    told_strength: float = -math.inf
    told_ms: int = 0
    abnormal_ms: int = 0
    seen: dict[tuple[str, int], Seen] = field(default_factory=dict)


@dataclass(slots=True)
class Cooling:
    """A window that has closed lately.

    Attributes:
        signals: the ids of those that paged in it.
    """

    until_ms: int
    strength: float
    signals: list[int]


class _Odd(NamedTuple):
    """A signal that is next to be told."""

    rarity: float
    key: tuple[str, int]
    glance: Glance


class Windows:
    """The decision's state for the entities of one cluster in one shard.

    Attributes:
        entities: columns by entity slot: from which rarity on it opens, and since when it is near.
        open, cooling: by entity.
    """

    def __init__(self, settings: Detect, roster: Roster, bank: Bank) -> None:
        self._settings, self._roster, self._bank = settings, roster, bank
        self.entities = Arrays(_ENTITIES)
        self.open: dict[str, OpenWindow] = {}
        self.cooling: dict[str, Cooling] = {}

    def place(self, entities: Iterable[int]) -> None:
        """Take in entities that are new, or may be."""
        for slot in entities:
            self.entities.grow(slot + 1)
            self.entities["opens"][slot] = self._settings.opens_at(self._roster.keys[slot])

    def step(self, cell: Cell, decision: Decision, *, backlog: bool) -> list[Window]:
        """Take in what a cell says, and return the revisions that it calls for.

        Args:
            cell: the closed cell.
            decision: what the bank makes of it.
            backlog: the cell comes too late to page anyone.
        """
        absent = self._absent(cell)
        near = self._near(cell, decision, absent, backlog=backlog)
        begun = self._follow(cell, decision) | self._miss(cell, absent)
        for entity in [entity for entity, window in self.open.items() if not window.seen]:
            del self.open[entity]  # Nothing can be told of it yet.
        self._look_back(cell)
        for entity, window in self.open.items():
            lasts = any(_lasts(channel, seen, cell) for (channel, _), seen in window.seen.items())
            if entity in near or lasts:
                window.abnormal_ms = cell.end_ms
        return [
            revision
            for entity in sorted(self.open)
            if (revision := self._revise(entity, cell, new=entity in begun)) is not None
        ]

    def _absent(self, cell: Cell) -> dict[str, tuple[int, Gone, int, int]]:
        """Tell by entity who is missing: the signal that counts members, what, present, usual."""
        if cell.absence is None:
            return {}
        signal, present, usual, gone = cell.absence
        rows = zip(signal.tolist(), gone, present.tolist(), usual.tolist(), strict=True)
        return {self._roster.signal(slot).entity: (slot, *rest) for slot, *rest in rows}

    def _near(
        self,
        cell: Cell,
        decision: Decision,
        absent: Mapping[str, tuple[int, Gone, int, int]],
        *,
        backlog: bool,
    ) -> set[str]:
        """Open windows; return the entities that are abnormal in this cell."""
        slots, keys = decision.entity, self._roster.keys
        opens = self.entities["opens"].take(slots)
        with np.errstate(invalid="ignore"):
            near = decision.rarity >= opens - _HALF_A_DECADE
            over = decision.rarity >= opens
        since_ms = self.entities["since_ms"].take(slots)
        since_ms = np.where(near, np.where(since_ms < 0, cell.begin_ms, since_ms), -1)
        self.entities["since_ms"][slots] = since_ms
        for i in where(over).tolist():
            entity, rarity = keys[slots[i]], float(decision.rarity[i])
            if entity not in self.open:
                if self._cools(entity, rarity, cell, decision):
                    continue
                self._open(entity, int(since_ms[i]), cell, backlog=backlog)
            strength = min(rarity, RAREST)
            self.open[entity].strength = max(self.open[entity].strength, strength)
        for entity, (_, gone, *_) in absent.items():
            if entity not in self.open:
                self._open(entity, cell.begin_ms, cell, backlog=backlog)
            self.open[entity].strength = max(self.open[entity].strength, _RARITY[gone])
        return {keys[slot] for slot in slots[near].tolist()} | absent.keys()

    def _open(self, entity: str, onset_ms: int, cell: Cell, *, backlog: bool) -> None:
        version = self._settings.version
        name = window_id(entity, onset_ms, version)
        opens = float(self.entities["opens"][self._roster.entity_slot[entity]])
        self.open[entity] = OpenWindow(name, version, onset_ms, cell.end_ms, backlog, opens)
        self.open[entity].abnormal_ms = cell.end_ms

    def _cools(self, entity: str, rarity: float, cell: Cell, decision: Decision) -> bool:
        """Tell whether an entity is only as abnormal as it was in a window just before."""
        cooling = self.cooling.get(entity)
        if cooling is None or cell.end_ms >= cooling.until_ms:
            self.cooling.pop(entity, None)
            return False
        if rarity >= cooling.strength + _HALF_A_DECADE:
            return False
        rows = self._rows_of(cell, [self._roster.entity_slot[entity]])
        odd = rows[decision.alone.take(rows) >= _ODD_PAGE]
        paging = odd[self._roster.signals["page"].take(cell.slots.take(odd))]
        ids = {self._roster.signal(slot).signal_id for slot in cell.slots.take(paging).tolist()}
        return ids <= set(cooling.signals)

    def _follow(self, cell: Cell, decision: Decision) -> set[str]:
        """Let signals join open windows, and bring those up to date that have."""
        entities = [
            slot for key in self.open if (slot := self._roster.entity_slot.get(key)) is not None
        ]
        rows = self._rows_of(cell, entities)
        begun: set[str] = set()
        next_ones: defaultdict[str, list[_Odd]] = defaultdict(list)
        for sighting in decision.sightings if len(rows) else ():
            told = rows[~np.isnan(sighting.rarity.take(rows))]
            for entity, key, glance in self._glances(cell, sighting, told):
                window = self.open[entity]
                member = self._member(glance)
                odd_from = _ODD_PAGE if glance.pages else _ODD_EVIDENCE
                if key in window.seen:
                    update(window.seen[key], glance, cell, member, odd_from)
                elif glance.rarity >= odd_from:
                    window.seen[key] = first(glance, cell, member)
                    begun.add(entity)
                elif not window.revision and glance.pages and glance.rarity >= USUAL:
                    next_ones[entity].append(_Odd(glance.rarity, key, glance))
        for entity, ones in next_ones.items():
            seen = self.open[entity].seen
            for _, key, glance in sorted(ones, reverse=True)[: max(_FIRST - len(seen), 0)]:
                seen[key] = first(glance, cell, self._member(glance))
                begun.add(entity)
        return begun

    def _rows_of(self, cell: Cell, entities: list[int]) -> SlotArray:
        """Find the rows of a cell that tell of entities."""
        flags = np.zeros(len(self.entities["opens"]), bool)
        flags[entities] = True
        return where(flags.take(self._roster.signals["entity"].take(cell.slots)))

    def _glances(
        self, cell: Cell, sighting: Sighting, rows: SlotArray
    ) -> Iterator[tuple[str, tuple[str, int], Glance]]:
        """Tell what a channel saw, by entity, and by channel and signal."""
        signals, slots = self._roster.signals, cell.slots.take(rows)
        side = signals["side"].take(slots)
        matters = (side == 0) | (np.sign(sighting.scores.score.take(rows)) == side)
        pages = signals["page"].take(slots) & matters
        seen_by = glances(cell, sighting, self._bank, rows, pages)
        entities = signals["entity"].take(slots).tolist()
        for entity, slot, glance in zip(entities, slots.tolist(), seen_by, strict=True):
            yield self._roster.keys[entity], (sighting.channel, slot), glance

    def _member(self, glance: Glance) -> str:
        return "" if glance.strand < 0 else self._roster.member_of(glance.strand)

    def _miss(self, cell: Cell, absent: Mapping[str, tuple[int, Gone, int, int]]) -> set[str]:
        """Note who is missing."""
        begun = set()
        for entity, (slot, gone, present, usual) in absent.items():
            window, rarity = self.open[entity], _RARITY[gone]
            seen = window.seen.get((ABSENCE, slot))
            if seen is None:
                look = Glance(present, usual, usual, usual, rarity, present, -1, pages=True)
                seen = window.seen[ABSENCE, slot] = first(look, cell, "")
                begun.add(entity)
            seen.observed, seen.members, seen.odd_ms = present, present, cell.end_ms
            seen.rarity, seen.reason = rarity, str(gone)
            if present < seen.peak:
                seen.peak, seen.peak_ms, seen.peak_rarity = present, cell.begin_ms, rarity
        return begun

    def _look_back(self, cell: Cell) -> None:
        """Note which signals of open windows are back in their bands."""
        for window in self.open.values():
            for (_, slot), seen in window.seen.items():
                row = int(np.searchsorted(cell.slots, slot))
                if row < len(cell.slots) and cell.slots[row] == slot:
                    returns(seen, float(cell.value[row]))

    def _revise(self, entity: str, cell: Cell, *, new: bool) -> Window | None:
        """Return a window's revision if there is something to tell."""
        window, settings, end_ms = self.open[entity], self._settings, cell.end_ms
        if end_ms - window.abnormal_ms >= settings.close_cells * settings.step_s * 1000:
            del self.open[entity]
            self._cool(entity, window, end_ms)
            return self._tell(entity, window, end_ms, WindowState.CLOSED)
        if (
            new
            or window.strength >= window.told_strength + _HALF_A_DECADE
            or end_ms - window.told_ms >= _REVISION_MS
        ):
            return self._tell(entity, window, end_ms, WindowState.OPEN)
        return None

    def _cool(self, entity: str, window: OpenWindow, end_ms: int) -> None:
        for name in [name for name, old in self.cooling.items() if old.until_ms <= end_ms]:
            del self.cooling[name]
        paged = {slot for (_, slot), seen in window.seen.items() if seen.pages}
        ids = sorted(self._roster.signal(slot).signal_id for slot in paged)
        until_ms = end_ms + round(self._settings.cool_down_s * 1000)
        self.cooling[entity] = Cooling(until_ms, window.strength, ids)

    def forget(self, slots: SlotArray) -> None:
        """Begin anew with slots that mean another signal now."""
        gone = set(slots.tolist())
        for window in self.open.values():
            window.seen = {
                k: seen for k, seen in window.seen.items() if k[1] not in gone
            } or window.seen

    def _tell(self, entity: str, window: OpenWindow, end_ms: int, state: WindowState) -> Window:
        window.revision += 1
        window.told_strength, window.told_ms = window.strength, end_ms
        evidence = sorted(
            (
                self._evidence(channel, slot, seen, window.threshold, end_ms)
                for (channel, slot), seen in window.seen.items()
            ),
            key=lambda entry: (-entry.peak_score, entry.signal, entry.channel),
        )
        return Window(
            window_id=window.window_id,
            revision=window.revision,
            state=state,
            entity=entity,
            onset_ms=window.onset_ms,
            detected_ms=window.detected_ms,
            at_ms=end_ms,
            ended_ms=window.abnormal_ms if state is WindowState.CLOSED else None,
            settings=window.settings,
            backlog=window.backlog,
            strength=window.strength,
            evidence=tuple(evidence[:EVIDENCE_MAX]),
        )

    def _evidence(
        self, channel: str, slot: int, seen: Seen, threshold: float, end_ms: int
    ) -> Evidence:
        signal = self._roster.signal(slot)
        return Evidence(
            signal=signal.title,
            metric=signal.metric,
            labels=dict(signal.labels),
            unit=unit_of(signal),
            channel=channel,
            direction=Direction.ABOVE if seen.above else Direction.BELOW,
            observed=seen.observed,
            expected=seen.expected,
            low=seen.low,
            high=seen.high,
            score=seen.rarity,
            threshold=threshold,
            since_ms=seen.since_ms,
            peak=seen.peak,
            peak_ms=seen.peak_ms,
            peak_score=seen.peak_rarity,
            members=seen.members,
            member=seen.member,
            reason=seen.reason,
            known_ms=self._bank.known_ms(slot, end_ms),
        )

    def dump(self) -> dict[str, Any]:
        """Give the windows, for a snapshot."""
        return {
            "open": [
                {"entity": entity}
                | {name: getattr(window, name) for name in _PLAIN}
                | {"seen": [[*key, asdict(seen)] for key, seen in window.seen.items()]}
                for entity, window in self.open.items()
            ],
            "cooling": {entity: asdict(cooling) for entity, cooling in self.cooling.items()},
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over the windows of a snapshot."""
        for entry in state["open"]:
            window = OpenWindow(**{name: entry[name] for name in _PLAIN})
            for channel, slot, seen in entry["seen"]:
                window.seen[channel, slot] = Seen(**seen)
            self.open[entry["entity"]] = window
        self.cooling = {entity: Cooling(**known) for entity, known in state["cooling"].items()}


_PLAIN: Final = tuple(entry.name for entry in fields(OpenWindow) if entry.name != "seen")


def _lasts(channel: str, seen: Seen, cell: Cell) -> bool:
    """Tell whether what was seen keeps a window open."""
    lasts_ms = _JUMP_LASTS_MS if channel == Spike.name else _NEW_NORMAL_MS
    return seen.pages and seen.away and not seen.reason and cell.end_ms - seen.odd_ms < lasts_ms
