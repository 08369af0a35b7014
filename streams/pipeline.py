"""The pipeline of one shard: frames in, windows and rollups out. Pure composition.

fold -> channels -> decision, for each cluster of the shard on its own, as each has its own senders
and so its own time.
"""

from collections import Counter
from typing import NamedTuple

import numpy as np

from watchkeep.detectors.absence import Gone
from watchkeep.detectors.arrays import Arrays, Field
from watchkeep.detectors.cells import Cell
from watchkeep.detectors.channel import Channel, Scores, Span
from watchkeep.detectors.ewma import Ewma
from watchkeep.detectors.fold import Fold
from watchkeep.detectors.logtime import LogTime
from watchkeep.detectors.senders import Senders
from watchkeep.detectors.windows import View, Windows
from watchkeep.schemas.frame import Frame, FrameKind
from watchkeep.schemas.settings import Detect
from watchkeep.schemas.signal import unit_of
from watchkeep.schemas.window import Window
from watchkeep.streams.stores import Rollups, SignalRow

_MEMBER, _ABSENCE = "member", "absence"
# How strong an absence is, in thresholds of the other channels.
_WEIGHT = {Gone.ENTITY: 2.0, Gone.MEMBER: 1.0}


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
        self.channel: Channel = Ewma(
            settings.memory_cells, settings.warmup_cells, settings.threshold_sigma
        )
        self.fold = Fold(settings)
        self.state = Arrays(self.channel.fields)
        self.windows = Windows(settings, self.fold.roster)
        self.ids = Arrays({"id": Field("u8", 0)})

    def close(self, time_ms: int, outcome: Outcome, *, backlog: bool) -> None:
        """Close the cells that `time_ms` has passed, and score them."""
        for cell in self.fold.close(time_ms):
            named = self._renew()
            self.channel.seed(self.state, cell.woken, cell.quiet, cell.slept)
            span = Span(cell.begin_ms, cell.step_ms)
            scores = self.channel.step(self.state, cell.slots, span, cell.value)
            views = (
                View(self.channel.name, scores, cell.value, None, self.settings.open_cells),
                self._members(cell),
                self._absence(cell),
            )
            outcome.windows.extend(self.windows.step(cell, views, backlog=backlog))
            outcome.rollups.append(self._rollups(cell, scores, named))
        if self.fold.roster.renewed:
            outcome.rollups.append(_names_only(self.channel.name, self._renew()))

    def _renew(self) -> tuple[SignalRow, ...]:
        """Begin anew with slots that mean another signal now, and give the names of those."""
        roster = self.fold.roster
        slots = np.unique(np.array(roster.renewed, np.int64))
        roster.renewed.clear()
        size = roster.signal_slots.used
        self.state.grow(size)
        self.ids.grow(size)
        if not len(slots):
            return ()
        self.state.reset(slots)
        self.windows.forget(slots)
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

    def _members(self, cell: Cell) -> View:
        """Look at each signal's members beside each other."""
        siblings = cell.siblings
        warmup = np.where(siblings.strand >= 0, 1.0, 0.0)
        scores = Scores(siblings.distance, siblings.middle, siblings.spread, warmup)
        return View(_MEMBER, scores, siblings.value, siblings.strand, self.settings.open_cells)

    def _absence(self, cell: Cell) -> View:
        """Look at whose members are missing."""
        none = np.full(len(cell.slots), np.nan)
        scores = Scores(none, none.copy(), np.zeros(len(none)), np.ones(len(none)))
        absence = cell.absence
        if absence is None:
            return View(_ABSENCE, scores, cell.value, None, 1)
        at = np.searchsorted(cell.slots, absence.signal)
        scores.score[at] = [-_WEIGHT[gone] * self.settings.threshold_sigma for gone in absence.gone]
        scores.expected[at] = absence.usual
        reasons = dict(zip(absence.signal.tolist(), map(str, absence.gone), strict=True))
        return View(_ABSENCE, scores, cell.value, None, 1, reasons)

    def _rollups(self, cell: Cell, scores: Scores, named: tuple[SignalRow, ...]) -> Rollups:
        ids = self.ids["id"].take(cell.slots)
        return Rollups(
            step_s=cell.step_ms // 1000,
            channel=self.channel.name,
            at_ms=np.full(len(ids), cell.begin_ms, np.int64),
            signal_id=ids,
            value=cell.value,
            members=cell.members,
            expected=scores.expected,
            spread=scores.spread,
            score=scores.score,
            threshold=np.full(len(ids), self.settings.threshold_sigma),
            warmup=scores.warmup,
            signals=named,
        )


def _names_only(channel: str, named: tuple[SignalRow, ...]) -> Rollups:
    """Tell of signals that have no value yet."""
    none = np.empty(0)
    return Rollups(
        step_s=0,
        channel=channel,
        at_ms=np.empty(0, np.int64),
        signal_id=np.empty(0, np.uint64),
        value=none,
        members=np.empty(0, np.int32),
        expected=none,
        spread=none,
        score=none,
        threshold=none,
        warmup=none,
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
        cluster = self.clusters.setdefault(sender.cluster, Cluster(self.settings))
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
