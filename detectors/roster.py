"""Roster: the series, members, strands and signals of one cluster in one shard, by slot.

A series is one line of what a member shows. A strand is what one member gives to one signal, summed
or averaged over the labels that are folded away; the buckets of a histogram are strands over all
members. Series come and go with pods; signals stay.

Python's loops run over series that are new, never over samples.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from watchkeep.detectors.arrays import Arrays, Slots, where
from watchkeep.detectors.columns import (
    COUNTS,
    ENTITIES,
    FOLDINGS,
    KIND_SHIFT,
    MEMBERS,
    META,
    MOVED,
    NEVER,
    NOWHERE,
    PRESENCE,
    SERIES,
    SIGNALS,
    STRANDS,
    UNSURE,
)
from watchkeep.detectors.families import Buckets, find_buckets, find_mates
from watchkeep.detectors.idtable import IdTable
from watchkeep.detectors.known_names import (
    is_meta,
    is_of_jobs,
    is_pod,
    tells_node,
    tells_wanted,
    totals,
)
from watchkeep.detectors.left_out import LeftOut, shown
from watchkeep.detectors.places import Native, Place
from watchkeep.schemas.entity import EntityKind
from watchkeep.schemas.frame import LabelSet, MetricKind
from watchkeep.schemas.labels import METRIC_NAME, parse
from watchkeep.schemas.settings import Detect
from watchkeep.schemas.signal import (
    Dropped,
    Feed,
    Folding,
    Part,
    Role,
    Side,
    Signal,
    foldings,
    unit_of,
)
from watchkeep.schemas.signal_rules import SignalRules

Ints = npt.NDArray[np.int64]

# All members beyond the limit are folded as one of this name.
OTHERS: Final = "(others)"
_EVENTS: Final = "1/s"
_SIDES: Final = {Side.ABOVE: 1, Side.BELOW: -1, Side.BOTH: 0}


class Watched(NamedTuple):
    """A signal, and what people ask about it.

    Attributes:
        role, why: whether it may page, and the reason.
        step_s: the width of its cells.
        folded: the labels of its first series that are folded away.
        example: the canonical labels of that series.
    """

    signal: Signal
    role: Role
    why: str
    step_s: int
    folded: tuple[str, ...]
    example: bytes


class Roster:
    """Who is who.

    Attributes:
        table: the slots of series by their ids.
        series, strands, members, signals, entities: columns, by slot.
        watched: by signal slot; None where it is free. `names`: of members; `keys`: of entities.
        natives: native histograms, by the slot of their series.
        left_out: what isn't watched and why, and what limits have refused.
        renewed: signals whose slot got a new meaning since this was last emptied.
        version: grows whenever a strand comes or goes, or is folded in another way.
    """

    def __init__(self, settings: Detect) -> None:
        self._settings = settings
        self._rules = SignalRules(settings.rules, settings.step_s)
        self.step_ms = settings.step_s * 1000
        self.table = IdTable()
        self.series, self.strands = Arrays(SERIES), Arrays(STRANDS)
        self.members, self.signals = Arrays(MEMBERS), Arrays(SIGNALS)
        self.entities = Arrays(ENTITIES)
        self.strand_slots, self.member_slots = Slots(), Slots()
        self.signal_slots, self.entity_slots = Slots(), Slots()
        self.watched: list[Watched | None] = []
        self.names: list[str] = []
        self.keys: list[str] = []
        self.signal_slot: dict[Signal, int] = {}
        self.member_slot: dict[tuple[int, str], int] = {}
        self.entity_slot: dict[str, int] = {}
        self.natives: dict[int, Native] = {}
        self.left_out = LeftOut()
        self.renewed: list[int] = []
        self.version = 0
        self.steps: list[int] = []
        self._buckets: tuple[int, Buckets] | None = None
        self._mates: tuple[int, Ints] | None = None
        self.minute = NEVER
        self.new_this_minute = 0

    @property
    def nbytes(self) -> int:
        """Tell how much memory series and strands take."""
        return self.table.nbytes + self.series.nbytes + self.strands.nbytes

    def learn(self, label_sets: Iterable[LabelSet], time_ms: int) -> None:
        """Take in the labels of series that are new, or whose kind has become known.

        Args:
            label_sets: also those of series that are known, as each is told again and again.
            time_ms: the gateway's clock.
        """
        entries = [entry for entry in label_sets if entry.series_id]
        if not entries:
            return
        ids = np.fromiter((entry.series_id for entry in entries), np.uint64, len(entries))
        kinds = np.fromiter((entry.kind for entry in entries), np.uint8, len(entries))
        slots = self.table.find(ids).astype(np.int64)
        known = slots >= 0
        changed = known.copy()
        changed[known] = self.series["flags"][slots[known]] >> KIND_SHIFT != kinds[known]
        new = self._within_rate(where(~known), entries, time_ms)
        todo = {entries[i].series_id: entries[i] for i in (*new, *where(changed).tolist())}
        if not todo:
            return
        fresh = [entries[i].series_id for i in new]
        self.table.add(np.array(list(dict.fromkeys(fresh)), np.uint64))
        self.series.grow(self.table.slots.used)
        self._describe(list(todo.values()))

    def _within_rate(self, new: Ints, entries: list[LabelSet], time_ms: int) -> list[int]:
        """Let so many new series in as a minute may bring."""
        if time_ms // 60_000 > self.minute:
            self.minute, self.new_this_minute = time_ms // 60_000, 0
        room = max(0, self._settings.new_series_per_minute - self.new_this_minute)
        self.new_this_minute += min(len(new), room)
        refused = [entries[i] for i in new[room:].tolist()]
        first = {entry.entity: entry.labels for entry in reversed(refused)}
        for entity, times in Counter(entry.entity for entry in refused).items():
            self.refuse("new_series_per_minute", entity, shown(first[entity]), times)
        allowed: list[int] = new[:room].tolist()
        return allowed

    def _describe(self, entries: list[LabelSet]) -> None:
        """Find the strand of each series, and begin anew where that has changed."""
        slots = self.table.find(np.array([e.series_id for e in entries], np.uint64)).tolist()
        found = [self._placed(entry) for entry in entries]
        strands = self.strands_of([told[0] for told in found if not isinstance(told, int)])
        for slot, entry, told in zip(slots, entries, found, strict=True):
            known = self.natives.pop(slot, None)
            if isinstance(told, int):
                self._assign(slot, entry, told, None)
                continue
            place, part = told
            self._assign(slot, entry, strands[place], part)
            self._note_replicas(slot, entry, int(self.signals["entity"][place.signal]))
            if part is Part.NATIVE:
                family = Signal(*self.signal(place.signal)[:3], Folding.AVERAGE)
                average = self.signal_slot[family]
                rate = int(self.signals["partner"][average])
                buckets = known.buckets if known and known.p99 == place.signal else []
                self.natives[slot] = Native(
                    place.signal, average, rate, place.member, *totals(entry.labels), buckets
                )

    def _note_replicas(self, slot: int, entry: LabelSet, entity: int) -> None:
        """Remember which series tell what Kubernetes wants, and whose members are meant to end."""
        if tells_wanted(entry.labels):
            self.entities["wanted"][entity] = slot
        elif tells_node(entry.labels):
            self.entities["node"][entity] = slot
        elif is_of_jobs(entry.labels):
            self.entities["jobs"][entity] = True

    def _assign(self, slot: int, entry: LabelSet, strand: int, part: Part | None) -> None:
        """Give a series its strand; where that is another one, it begins anew."""
        series = self.series
        if strand != series["strand"][slot]:
            for name, field in SERIES.items():
                series[name][slot] = field.fill
            series["strand"][slot] = strand
        flags = int(entry.kind) << KIND_SHIFT | int(series["flags"][slot]) & MOVED
        if is_meta(entry.labels):
            flags |= META
        if part is not None:
            signal = self.strands["signal"][strand]
            if self.signals["folding"][signal] != FOLDINGS.index(Folding.MEAN):
                flags |= COUNTS
            elif part is Part.UNKNOWN:
                flags |= UNSURE
        series["flags"][slot] = flags

    def _placed(self, entry: LabelSet) -> tuple[Place, Part] | int:
        """Find the signal and member that a series belongs to, or why it is dropped."""
        labels = parse(entry.labels)
        kind = EntityKind(entry.entity.partition("/")[0])
        feed = self._rules.feed(labels, entry.kind, kind)
        if isinstance(feed, Dropped):
            return self.left_out.drop(entry, labels[METRIC_NAME], feed)
        entity = self._entity(entry)
        if entity is None:
            return self._limited(entry, labels[METRIC_NAME], "entities")
        signal = self._signal(entity, feed, entry, kind, labels)
        if signal is None:
            return self._limited(entry, labels[METRIC_NAME], "signals_per_entity")
        if feed.part is Part.BUCKET:
            return Place(signal, NOWHERE, float(np.float32(feed.le))), feed.part
        return Place(signal, self._member(entity, entry, labels)), feed.part

    def _limited(self, entry: LabelSet, metric: str, limit: str) -> int:
        self.refuse(limit, entry.entity, shown(entry.labels))
        why = f"detect.{limit} = {getattr(self._settings, limit)} is reached"
        return self.left_out.drop(entry, metric, Dropped(limit, why))

    def refuse(self, limit: str, entity: str, example: str, times: int = 1) -> None:
        """Count what is beyond a limit."""
        self.left_out.refuse(limit, entity, example, self.minute * 60_000, times)

    def _entity(self, entry: LabelSet) -> int | None:
        slot = self.entity_slot.get(entry.entity)
        if slot is None:
            if len(self.entity_slot) >= self._settings.entities:
                return None
            slot = self.entity_slots.take()
            self.entity_slot[entry.entity] = slot
            self.entities.grow(slot + 1)
            self.entities.reset(np.array([slot]))
            _put(self.keys, slot, entry.entity)
            presence = Signal(entry.entity, PRESENCE, (), Folding.MEAN)
            if presence not in self.signal_slot:
                why = "It counts members; that they are missing pages by itself."
                step_s = self._settings.step_s
                self._new_signal(slot, Watched(presence, Role.EVIDENCE, why, step_s, (), b""))
            self.entities["presence"][slot] = self.signal_slot[presence]
            self.signals["awake"][self.signal_slot[presence]] = True
        return slot

    def _member(self, entity: int, entry: LabelSet, labels: dict[str, str]) -> int:
        slot = self.member_slot.get((entity, entry.member))
        if slot is None:
            name = entry.member
            if self.entities["members"][entity] >= self._settings.members_per_entity:
                self.refuse("members_per_entity", entry.entity, entry.member)
                name = OTHERS
                if (entity, name) in self.member_slot:
                    return self.member_slot[entity, name]
            slot = self.member_slots.take()
            self.members.grow(slot + 1)
            self.members["entity"][slot] = entity
            self.members["named"][slot] = bool(name)
            self.members["pod"][slot] = is_pod(name, labels)
            self.entities["members"][entity] += 1
            self.member_slot[entity, name] = slot
            _put(self.names, slot, name)
        return slot

    def _signal(
        self, entity: int, feed: Feed, entry: LabelSet, kind: EntityKind, labels: dict[str, str]
    ) -> int | None:
        """Find the signal that a series is added to; its family's others are made with it."""
        wanted = [
            Signal(entry.entity, feed.metric, feed.labels, folding)
            for folding in foldings(feed.part)
        ]
        new = [signal for signal in wanted if signal not in self.signal_slot]
        # The one that counts members is there besides.
        if self.entities["signals"][entity] + len(new) > self._settings.signals_per_entity + 1:
            return None
        for signal in new:
            role, why = self._rules.role(feed.metric, feed.labels, signal.folding, kind)
            if signal.folding is Folding.AVERAGE and entry.kind is MetricKind.HISTOGRAM:
                role, why = Role.EVIDENCE, "Its quantiles tell more."
            kept = {name for name, _ in feed.labels} | {METRIC_NAME}
            folded = tuple(sorted(labels.keys() - kept))
            self._new_signal(entity, Watched(signal, role, why, feed.step_s, folded, entry.labels))
            side = self._rules.side(feed.metric, feed.labels, signal.folding, kind)
            self.signals["side"][self.signal_slot[signal]] = _SIDES[side]
        slots = [self.signal_slot[signal] for signal in wanted]
        self.signals["partner"][slots[0::2]] = [*slots[1::2], NOWHERE][: len(slots[0::2])]
        return slots[0]

    def _new_signal(self, entity: int, watched: Watched) -> None:
        slot = self.signal_slots.take()
        self.signals.grow(slot + 1)
        self.signals.reset(np.array([slot]))
        self.signal_slot[watched.signal] = slot
        self.entities["signals"][entity] += 1
        _put(self.watched, slot, watched)
        self.signals["entity"][slot] = entity
        self.signals["folding"][slot] = FOLDINGS.index(watched.signal.folding)
        self.signals["step_s"][slot] = watched.step_s
        self.signals["page"][slot] = watched.role is Role.PAGE
        self.signals["events"][slot] = unit_of(watched.signal) == _EVENTS
        self.signals["awake"][slot] = watched.signal.folding not in {Folding.RATE, Folding.MEAN}
        if watched.signal.folding is Folding.RATE:
            self.signals["quiet"][slot] = 0.0
        if watched.step_s not in self.steps:
            self.steps.append(watched.step_s)
        self.renewed.append(slot)

    def strands_of(self, places: list[Place]) -> dict[Place, int]:
        """Find the strands of places, new ones for new places."""
        columns, used = self.strands, self.strand_slots.used
        wanted = np.zeros(self.signal_slots.used + 1, bool)
        wanted[[place.signal for place in places]] = True
        # The last entry stands for NOWHERE, as -1 reads it.
        near = where(wanted[columns["signal"][:used]])
        keys = (columns[name][near].tolist() for name in Place._fields)
        known = dict(zip(map(Place._make, zip(*keys, strict=True)), near.tolist(), strict=True))
        found = {}
        for place in places:
            strand = known.get(place)
            if strand is None:
                strand = known[place] = self._new_strand(place)
            found[place] = strand
        return found

    def _new_strand(self, place: Place) -> int:
        strand = self.strand_slots.take()
        self.strands.grow(strand + 1)
        for name, value in place._asdict().items():
            self.strands[name][strand] = value
        self.version += 1
        return strand

    def signal(self, slot: int) -> Signal:
        """Give the signal of a slot that is in use."""
        watched = self.watched[slot]
        assert watched is not None
        return watched.signal

    def member_of(self, strand: int) -> str:
        """Name the member that a strand is of; empty for none."""
        member = int(self.strands["member"][strand]) if strand != NOWHERE else NOWHERE
        return self.names[member] if member != NOWHERE else ""

    def owner_of(self, strand: int) -> str:
        """Name the entity and the member that a strand is of."""
        entity = self.signal(int(self.strands["signal"][strand])).entity
        return f"{entity} {self.member_of(strand)}".rstrip()

    def forget_name(self, signal: Signal, slot: int) -> None:
        """Forget a signal, also under the name it had while its kind was unknown."""
        for name in (signal, signal._replace(folding=Folding.MEAN)):
            if self.signal_slot.get(name) == slot:
                del self.signal_slot[name]

    def heard_since(self, time_ms: int) -> bool:
        """Tell whether any series said anything at or after a time."""
        last_ms = self.series["last_ms"]
        return bool(len(last_ms)) and int(last_ms.max()) >= time_ms

    def buckets(self) -> Buckets:
        """Give the buckets of all histograms, in order."""
        if self._buckets is None or self._buckets[0] != self.version:
            self._buckets = (self.version, find_buckets(self))
        return self._buckets[1]

    def mates(self) -> Ints:
        """Give, by strand, of each sum the count of the same member and family; else -1."""
        if self._mates is None or self._mates[0] != self.version:
            self._mates = (self.version, find_mates(self))
        return self._mates[1]

    def have_count(self, signals: Ints) -> Ints:
        """Have signals whose kind nobody told count from now on: they only ever rise.

        Returns:
            Their strands, what of them was added up so far was meant otherwise.

        """
        series = self.series
        for slot in signals.tolist():
            old = self.watched[slot]
            assert old is not None
            self.watched[slot] = old._replace(signal=old.signal._replace(folding=Folding.RATE))
            # The name before stays known, as new series of this kind still come under it.
            self.signal_slot[old.signal._replace(folding=Folding.RATE)] = slot
            self.signals["events"][slot] = unit_of(self.signal(slot)) == _EVENTS
            self.renewed.append(slot)
        self.signals["folding"][signals] = FOLDINGS.index(Folding.RATE)
        self.version += 1
        self.signals["quiet"][signals] = 0.0
        self.signals["from_ms"][signals] = series["last_ms"].max()
        mine = np.zeros(self.signal_slots.used + 1, bool)
        mine[signals] = True
        strand = series["strand"].astype(np.int64)
        rows = where(strand >= 0)
        rows = rows[mine[self.strands["signal"][strand[rows]]]]
        series["flags"][rows] = series["flags"][rows] & (255 - UNSURE) | COUNTS
        return np.unique(strand[rows])


def _put(entries: list[Any], slot: int, entry: object) -> None:
    """Set an entry of a list that grows by one at most."""
    if slot == len(entries):
        entries.append(entry)
    else:
        entries[slot] = entry
