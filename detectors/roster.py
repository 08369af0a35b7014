"""Roster: the series, members, strands and signals of one cluster in one shard, by slot.

A series is one line of what a member shows. A strand is what one member gives to one signal, summed
or averaged over the labels that are folded away; the buckets of a histogram are strands over all
members. Series come and go with pods; signals stay.

Python's loops run over series that are new, never over samples.
"""

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from watchkeep.detectors import siblings
from watchkeep.detectors.arrays import Arrays, Field, Slots, begins, where
from watchkeep.detectors.idtable import IdTable
from watchkeep.schemas.entity import EntityKind
from watchkeep.schemas.frame import LabelSet, MetricKind
from watchkeep.schemas.labels import METRIC_NAME, SEPARATOR, canonical, parse, series_id, text
from watchkeep.schemas.settings import Detect
from watchkeep.schemas.signal import (
    Dropped,
    Feed,
    Folding,
    Part,
    Role,
    Signal,
    foldings,
    unit_of,
)
from watchkeep.schemas.signal_rules import SignalRules

Ints = npt.NDArray[np.int64]

NEVER: Final = -1
NOWHERE: Final = -1
LATEST: Final = np.iinfo(np.int64).max
# No real metric comes near, and sums of larger values could overflow.
LARGEST: Final = 1e30
STILL: Final = 0.0
# The buckets of classic histograms begin where the one below ends; this stands for that.
CLASSIC: Final = float(np.finfo(np.float32).max)

# Of a series: what is known of it, in one byte.
COUNTS: Final = 1
MOVED: Final = 2
UNSURE: Final = 4  # Its kind is not told; its behaviour may tell.
META: Final = 8  # Prometheus tells it of a scrape, also of one that failed.
SWEPT: Final = 128  # A sweep has seen it without any sample.
KIND_SHIFT: Final = 4

SERIES: Final = {
    "strand": Field("i4", NOWHERE),
    "flags": Field("u1", 0),
    "last_ms": Field("i8", NEVER),
    "last_value": Field("f8", np.nan),
    # What a counter stands for while it says nothing: its last rate. A gauge that has been seen
    # twice has STILL here.
    "held": Field("f4", np.nan),
}
STRANDS: Final = {
    "signal": Field("i4", NOWHERE),
    "member": Field("i4", NOWHERE),
    "le": Field("f4", 0.0),  # A bucket's upper bound.
    "low": Field("f4", CLASSIC),  # Where a native histogram's bucket begins.
    **siblings.FIELDS,
}
MEMBERS: Final = {
    "entity": Field("i4", NOWHERE),
    "named": Field("?", 0),
    "pod": Field("?", 0),  # Not an exporter that tells something of the entity.
    "begun_ms": Field("i8", NEVER),
    "last_ms": Field("i8", NEVER),
    "ended_ms": Field("i8", NEVER),  # When the last of its series did.
}
SIGNALS: Final = {
    "entity": Field("i4", NOWHERE),
    "folding": Field("u1", 0),
    "step_s": Field("i4", 0),
    # Of P99 its P50, of AVERAGE the RATE of the same family.
    "partner": Field("i4", NOWHERE),
    "page": Field("?", 0),
    "events": Field("?", 0),  # Its rate counts things that happen, one by one.
    # It takes part once any of its series has moved; until then it was `quiet`.
    "awake": Field("?", 0),
    "awake_ms": Field("i8", LATEST),
    "quiet": Field("f8", np.nan),
    "born_ms": Field("i8", LATEST),
    "seen_ms": Field("i8", NEVER),
    "value": Field("f8", np.nan),
    "fed_ms": Field("i8", LATEST),
    "from_ms": Field("i8", NEVER),  # Cells before it tell nothing.
    "rises": Field("i4", 0),
    "falls": Field("i4", 0),
    "resets": Field("i4", 0),
}
ENTITIES: Final = {
    "signals": Field("i4", 0),
    "members": Field("i4", 0),
    "presence": Field("i4", NOWHERE),  # The signal that counts its members.
    "wanted": Field("i4", NOWHERE),  # The series that tells how many are wanted.
    "jobs": Field("?", 0),  # Its members are meant to end.
    # What absence keeps: how many were there at a time lately, and for how many cells what lasts.
    "most": Field("i4", 0),
    "fewer_cells": Field("i4", 0),
    "steady_cells": Field("i4", 0),
    "missing_cells": Field("i4", 0),
}
PRESENCE: Final = "watchkeep_members"

FOLDINGS: Final = tuple(Folding)
# All members beyond the limit are folded as one of this name.
OTHERS: Final = "(others)"
# So many kinds of dropped and refused series are told apart.
_NAME_FORM: Final = METRIC_NAME.encode() + SEPARATOR
_META_FORMS: Final = tuple(
    _NAME_FORM + name + SEPARATOR
    for name in (
        b"up",
        b"scrape_duration_seconds",
        b"scrape_samples_scraped",
        b"scrape_samples_post_metric_relabeling",
        b"scrape_series_added",
    )
)
_WANTED_FORMS: Final = tuple(
    _NAME_FORM + name + SEPARATOR
    for name in (
        b"kube_deployment_spec_replicas",
        b"kube_statefulset_replicas",
        b"kube_daemonset_status_desired_number_scheduled",
    )
)
_POD_LABELS: Final = (
    "pod",
    "exported_pod",
    "pod_name",
    "kubernetes_pod_name",
    "k8s_pod_name",
    "k8s.pod.name",
)
_JOB_FORMS: Final = (_NAME_FORM + b"kube_job_", _NAME_FORM + b"kube_cronjob_")
_EVENTS: Final = "1/s"
_NAMED_MAX: Final = 2_000
_SHOWN_MAX: Final = 300


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


class Unwatched(NamedTuple):
    """Series of one metric of an entity that are dropped for one reason."""

    entity: str
    metric: str
    reason: str
    why: str
    example: bytes


class Refused(NamedTuple):
    """How much a limit has refused for an entity, when last; `example` names one of it."""

    times: int
    example: str
    at_ms: int


class Place(NamedTuple):
    """What a strand is found by.

    Attributes:
        le: a bucket's upper bound; `low`: where a native histogram's begins.
    """

    signal: int
    member: int
    le: float = 0.0
    low: float = CLASSIC


class Native(NamedTuple):
    """A native histogram: the signals and the member it feeds, and its buckets' slots so far.

    Attributes:
        count_id, sum_id: the series that its classic form has.
    """

    p99: int
    average: int
    rate: int
    member: int
    count_id: int
    sum_id: int
    buckets: list[int]


class Roster:
    """Who is who.

    Attributes:
        table: the slots of series by their ids.
        series, strands, members, signals, entities: columns, by slot.
        watched: by signal slot; None where it is free. `names`: of members; `keys`: of entities.
        unwatched: what is dropped; a series of entry i has the strand -2 - i.
        natives: native histograms, by the slot of their series.
        refused: by limit and entity.
        renewed: signals whose slot got a new meaning since this was last emptied.
        version: grows whenever a strand comes or goes.
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
        self.unwatched: list[Unwatched] = []
        self._unwatched_at: dict[tuple[str, str, str], int] = {}
        self.refused: dict[tuple[str, str], Refused] = {}
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
        for i in new[room:].tolist():
            self._refuse("new_series_per_minute", entries[i].entity, entries[i])
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
                    place.signal, average, rate, place.member, *_totals(entry.labels), buckets
                )

    def _note_replicas(self, slot: int, entry: LabelSet, entity: int) -> None:
        """Remember which series tells how many members are wanted, and whose are meant to end."""
        if entry.labels.startswith(_WANTED_FORMS):
            self.entities["wanted"][entity] = slot
        elif entry.labels.startswith(_JOB_FORMS):
            self.entities["jobs"][entity] = True

    def _assign(self, slot: int, entry: LabelSet, strand: int, part: Part | None) -> None:
        """Give a series its strand; where that is another one, it begins anew."""
        series = self.series
        if strand != series["strand"][slot]:
            for name, field in SERIES.items():
                series[name][slot] = field.fill
            series["strand"][slot] = strand
        flags = int(entry.kind) << KIND_SHIFT | int(series["flags"][slot]) & MOVED
        if entry.labels.startswith(_META_FORMS):
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
            return self._unwatch(entry, labels[METRIC_NAME], feed)
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
        self._refuse(limit, entry.entity, entry)
        why = f"detect.{limit} = {getattr(self._settings, limit)} is reached"
        return self._unwatch(entry, metric, Dropped(limit, why))

    def _refuse(self, limit: str, entity: str, entry: LabelSet) -> None:
        count, example, _ = self.refused.get((limit, entity), Refused(0, "", 0))
        if not example:
            example = entry.member if limit == "members_per_entity" else _shown(entry.labels)
            if len(self.refused) >= _NAMED_MAX:
                entity = ""
                count, example, _ = self.refused.get((limit, entity), Refused(0, example, 0))
        self.refused[limit, entity] = Refused(count + 1, example, self.minute * 60_000)

    def refuse_buckets(self, limit: str, native: Native, times: int) -> None:
        """Count the buckets of a native histogram that are beyond the limit."""
        watched = self.watched[native.p99]
        assert watched is not None
        entity = watched.signal.entity
        count, example, _ = self.refused.get((limit, entity), Refused(0, "", 0))
        example = example or _shown(watched.example)
        self.refused[limit, entity] = Refused(count + times, example, self.minute * 60_000)

    def _unwatch(self, entry: LabelSet, metric: str, dropped: Dropped) -> int:
        key = (entry.entity, metric, dropped.reason)
        if key not in self._unwatched_at and len(self.unwatched) >= _NAMED_MAX:
            key = ("", "", dropped.reason)
        at = self._unwatched_at.setdefault(key, len(self.unwatched))
        if at == len(self.unwatched):
            self.unwatched.append(Unwatched(*key, dropped.why, entry.labels))
        return -2 - at

    def recall_unwatched(self, entries: Iterable[Unwatched]) -> None:
        """Take over what a snapshot says is dropped."""
        self.unwatched = list(entries)
        self._unwatched_at = {entry[:3]: i for i, entry in enumerate(self.unwatched)}

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
                self._refuse("members_per_entity", entry.entity, entry)
                name = OTHERS
                if (entity, name) in self.member_slot:
                    return self.member_slot[entity, name]
            slot = self.member_slots.take()
            self.members.grow(slot + 1)
            self.members["entity"][slot] = entity
            self.members["named"][slot] = bool(name)
            self.members["pod"][slot] = any(labels.get(label) == name for label in _POD_LABELS)
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

    def buckets(self) -> "Buckets":
        """Give the buckets of all histograms, in order."""
        if self._buckets is None or self._buckets[0] != self.version:
            self._buckets = (self.version, self._find_buckets())
        return self._buckets[1]

    def _find_buckets(self) -> "Buckets":
        columns = self.strands
        signal = columns["signal"][: self.strand_slots.used].astype(np.int64)
        p99 = FOLDINGS.index(Folding.P99)
        at = where((signal != NOWHERE) & (self.signals["folding"].take(signal) == p99))
        own = columns["low"].take(at) != np.float32(CLASSIC)
        # A family that is sent both ways would be counted twice.
        both = np.zeros(self.signal_slots.used, bool)
        both[signal.take(at[own])] = True
        at = at[own | ~both[signal.take(at)]]
        at = at.take(np.lexsort((columns["low"].take(at), columns["le"].take(at), signal.take(at))))
        firsts = where(begins(signal.take(at)))
        slots = signal.take(at.take(firsts))
        watched = [self.watched[slot] for slot in slots.tolist()]
        counted = [
            self.signal_slot.get(known.signal._replace(folding=Folding.RATE), slot)
            for slot, known in zip(slots.tolist(), watched, strict=True)
            if known is not None
        ]
        return Buckets(
            at,
            columns["le"].take(at).astype(np.float64),
            columns["low"].take(at).astype(np.float64),
            both[slots],
            firsts,
            slots,
            self.signals["partner"].take(slots).astype(np.int64),
            np.array(counted, np.int64),
        )

    def mates(self) -> Ints:
        """Give, by strand, of each sum the count of the same member and family; else -1."""
        if self._mates is None or self._mates[0] != self.version:
            self._mates = (self.version, self._find_mates())
        return self._mates[1]

    def _find_mates(self) -> Ints:
        used = self.strand_slots.used
        signal = self.strands["signal"][:used].astype(np.int64)
        member = self.strands["member"][:used].astype(np.int64)
        partner = self.signals["partner"].take(signal).astype(np.int64)
        average = FOLDINGS.index(Folding.AVERAGE)
        sums = where(
            (signal != NOWHERE)
            & (self.signals["folding"].take(signal) == average)
            & (partner != NOWHERE)
        )
        key = signal << 32 | member & 0xFFFF_FFFF
        order = np.argsort(key)
        wanted = partner.take(sums) << 32 | member.take(sums)
        at = order.take(np.searchsorted(key, wanted, sorter=order), mode="clip")
        mates = np.full(used, NOWHERE, np.int64)
        mates[sums] = np.where(key.take(at) == wanted, at, NOWHERE)
        return mates

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
        self.signals["quiet"][signals] = 0.0
        self.signals["from_ms"][signals] = series["last_ms"].max()
        mine = np.zeros(self.signal_slots.used + 1, bool)
        mine[signals] = True
        strand = series["strand"].astype(np.int64)
        rows = where(strand >= 0)
        rows = rows[mine[self.strands["signal"][strand[rows]]]]
        series["flags"][rows] = series["flags"][rows] & (255 - UNSURE) | COUNTS
        return np.unique(strand[rows])


class Buckets(NamedTuple):
    """The buckets of all histograms, by signal and bound.

    Attributes:
        at: int64[k], their strands; `bound`, `low`: float64[k].
        native: bool[h], whether their counts are their own, not of all below the bound.
        firsts: int64[h], the first bucket of each histogram.
        p99, p50, counted: int64[h], the signals of each: its quantiles, and its rate.
    """

    at: Ints
    bound: npt.NDArray[np.float64]
    low: npt.NDArray[np.float64]
    native: npt.NDArray[np.bool_]
    firsts: Ints
    p99: Ints
    p50: Ints
    counted: Ints


def _put(entries: list[Any], slot: int, entry: object) -> None:
    """Set an entry of a list that grows by one at most."""
    if slot == len(entries):
        entries.append(entry)
    else:
        entries[slot] = entry


def _totals(form: bytes) -> tuple[int, int]:
    """Name the count and the sum that a native histogram has in its classic form."""
    labels = parse(form)
    names = (labels[METRIC_NAME] + "_count", labels[METRIC_NAME] + "_sum")
    one, other = (series_id(canonical((labels | {METRIC_NAME: n}).items())) for n in names)
    return one, other


def _shown(form: bytes) -> str:
    labels = parse(form)
    name = labels.pop(METRIC_NAME, "")
    return (name + text(labels))[:_SHOWN_MAX]
