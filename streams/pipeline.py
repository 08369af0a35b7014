"""The pipeline of one shard: frames in, windows and rollups out. Pure composition.

fold -> bank -> windows, for each cluster of the shard on its own, as each has its own senders and
so its own time.
"""

from collections import Counter
from datetime import UTC, datetime
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import xxhash

from watchkeep.detectors.arrays import Arrays, Field, SlotArray
from watchkeep.detectors.bank import Bank, Decision
from watchkeep.detectors.cells import Cell
from watchkeep.detectors.channel import Scores, Span
from watchkeep.detectors.fold import Fold
from watchkeep.detectors.logtime import LogTime
from watchkeep.detectors.seen import USUAL
from watchkeep.detectors.senders import Senders
from watchkeep.detectors.windows import Windows
from watchkeep.schemas.frame import Frame, FrameKind
from watchkeep.schemas.settings import Detect
from watchkeep.schemas.signal import unit_of
from watchkeep.schemas.window import Window
from watchkeep.streams.river_adapter import chosen_by
from watchkeep.streams.stores import CHANNELS, Rollups, SignalRow

# Refits are spread over the day in so many parts, by entity.
_STAGGERS: Final = 64


class Outcome(NamedTuple):
    """What a frame led to.

    Attributes:
        windows: revisions to publish, in order.
        rollups: closed cells to store, in order.
    """

    windows: list[Window]
    rollups: list[Rollups]


class Cluster:
    """The entities of one cluster in one shard."""

    def __init__(self, settings: Detect) -> None:
        self.settings = settings
        self.fold = Fold(settings)
        self.bank = Bank(chosen=chosen_by(settings.river))
        self.windows = Windows(settings, self.fold.roster, self.bank)
        self.ids = Arrays({"id": Field("u8", 0)})
        self._zone = ZoneInfo(settings.time_zone)

    def close(self, time_ms: int, outcome: Outcome, *, backlog: bool) -> None:
        """Close the cells that `time_ms` has passed, and score them."""
        for cell in self.fold.close(time_ms):
            named = self._renew()
            self.bank.seed(cell.woken, cell.quiet, cell.slept)
            decision = self._decide(cell)
            outcome.windows.extend(self.windows.step(cell, decision, backlog=backlog))
            outcome.rollups.append(self._rollups(cell, decision, named))
        if self.fold.roster.renewed:
            outcome.rollups.append(_names_only(self._renew()))

    def _decide(self, cell: Cell) -> Decision:
        siblings = cell.siblings
        unlike = Scores(
            siblings.distance,
            siblings.middle,
            siblings.spread,
            np.ones(len(cell.slots)),
            observed=siblings.value,
        )
        span = Span(cell.begin_ms, cell.step_ms, teaches=self._teaches(cell.begin_ms))
        sums = cell.step_ms == self.settings.step_s * 1000
        return self.bank.step(span, cell.slots, cell.value, unlike, sums=sums)

    def _teaches(self, time_ms: int) -> bool:
        """Tell whether a time isn't on a day that is excluded."""
        if not self.settings.excluded_days:
            return True
        day = datetime.fromtimestamp(time_ms / 1000, UTC).astimezone(self._zone).date()
        return day not in self.settings.excluded_days

    def _renew(self) -> tuple[SignalRow, ...]:
        """Begin anew with slots that mean another signal now, and give the names of those."""
        roster = self.fold.roster
        slots = np.unique(np.array(roster.renewed, np.int64))
        roster.renewed.clear()
        self.ids.grow(roster.signal_slots.used)
        if not len(slots):
            return ()
        self.bank.free(slots)
        self.windows.forget(slots)
        self._place(slots[[roster.watched[slot] is not None for slot in slots.tolist()]])
        rows = []
        for slot in slots.tolist():
            if (watched := roster.watched[slot]) is None:
                continue
            signal = watched.signal
            self.ids["id"][slot] = signal.signal_id
            rows.append(
                SignalRow(
                    signal.signal_id,
                    signal.entity,
                    signal.metric,
                    dict(signal.labels),
                    unit_of(signal),
                    watched.signal.folding,
                    watched.role,
                    watched.why,
                    watched.step_s,
                )
            )
        return tuple(rows)

    def _place(self, slots: SlotArray) -> None:
        """Give signals that are new their places among the detectors."""
        roster = self.fold.roster
        entity = roster.signals["entity"].take(slots).astype(np.int64)
        keys = [roster.keys[slot] for slot in entity.tolist()]
        part = [xxhash.xxh3_64_intdigest(key.encode()) % _STAGGERS / _STAGGERS for key in keys]
        page, side = (roster.signals[name].take(slots) for name in ("page", "side"))
        self.bank.place(slots, entity, np.array(part, np.float64), page, side)
        self.bank.choose(slots[self._chosen(slots)])
        self.windows.place(set(entity.tolist()))

    def _chosen(self, slots: SlotArray) -> npt.NDArray[np.bool_]:
        """Tell which signals the slow path is for."""
        if not self.settings.river.model:
            return np.zeros(len(slots), bool)
        signals = map(self.fold.roster.signal, slots.tolist())
        return np.array([self.settings.river.chooses(s.title, s.metric) for s in signals], bool)

    def _rollups(self, cell: Cell, decision: Decision, named: tuple[SignalRow, ...]) -> Rollups:
        slots, every = cell.slots, np.arange(len(cell.slots))
        sighted = {sighting.channel: sighting for sighting in decision.sightings}
        first = decision.sightings[0]
        low, high = first.scores.band(every, self.bank.levels(first.channel, slots, USUAL))
        none = np.full(len(slots), np.nan)
        entity = self.fold.roster.signals["entity"].take(slots)
        at = np.searchsorted(decision.entity, entity)
        return Rollups(
            step_s=cell.step_ms // 1000,
            at_ms=np.full(len(slots), cell.begin_ms, np.int64),
            signal_id=self.ids["id"].take(slots),
            value=cell.value,
            members=cell.members,
            expected=first.scores.expected,
            low=low,
            high=high,
            rarity=decision.rarity.take(at),
            threshold=self.windows.entities["opens"].take(entity),
            warmup=np.minimum(first.scores.warmup, self.bank.warmup(slots)),
            channels={name: sighted[name].rarity if name in sighted else none for name in CHANNELS},
            signals=named,
        )


def _names_only(named: tuple[SignalRow, ...]) -> Rollups:
    """Tell of signals that have no value yet."""
    none = np.empty(0)
    return Rollups(
        step_s=0,
        at_ms=np.empty(0, np.int64),
        signal_id=np.empty(0, np.uint64),
        value=none,
        members=np.empty(0, np.int32),
        expected=none,
        low=none,
        high=none,
        rarity=none,
        threshold=none,
        warmup=none,
        channels=dict.fromkeys(CHANNELS, none),
        signals=named,
    )


class Shard:
    """The state of one partition of the metrics topic."""

    def __init__(self, settings: Detect, number: int = 0) -> None:
        self.settings = settings
        self.time = LogTime()
        self.senders = Senders(settings, number)
        self.clusters: dict[str, Cluster] = {}

    def apply(self, frame: Frame) -> Outcome:
        """Take in one frame; what follows depends on the frames so far and nothing else."""
        outcome = Outcome([], [])
        self.time.hear(frame.gateway_ms, frame.senders)
        if frame.kind is FrameKind.DATA:
            self._fold(frame)
        for name in sorted(self.clusters):
            time_ms = self.time.cluster_ms(name)
            if time_ms is not None:
                backlog = self.time.in_backlog(time_ms)
                self.clusters[name].close(time_ms, outcome, backlog=backlog)
        outcome.windows.extend(self.senders.look(self.time))
        return outcome

    def _fold(self, frame: Frame) -> None:
        (sender,) = frame.senders
        cluster = self.clusters.get(sender.cluster)
        if cluster is None:
            cluster = self.clusters[sender.cluster] = Cluster(self.settings)
        cluster.fold.learn(frame.label_sets, frame.gateway_ms)
        if self.time.elects(sender):
            cluster.fold.add(frame, sender.newest_ms)
        else:
            cluster.fold.drops["standby_replica"] += len(frame.series_id)
            cluster.fold.blamed["standby_replica"] = (sender.replica, sender.newest_ms)

    def drops(self) -> Counter[str]:
        """Count the samples that were not folded, by reason."""
        return sum((cluster.fold.drops for cluster in self.clusters.values()), Counter[str]())

    def refusals(self) -> Counter[str]:
        """Count what limits have refused."""
        refused: Counter[str] = Counter()
        for cluster in self.clusters.values():
            for (limit, _), told in cluster.fold.roster.left_out.refused.items():
                refused[limit] += told.times
        return refused
