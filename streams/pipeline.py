"""The pipeline of one shard: frames in, windows and rollups out. Pure composition.

fold -> channel -> decision, for each cluster of the shard on its own, as each has its own senders
and so its own time.
"""

from typing import NamedTuple

import numpy as np

from watchkeep.detectors.arrays import Arrays
from watchkeep.detectors.channel import Channel, Scores
from watchkeep.detectors.ewma import Ewma
from watchkeep.detectors.fold import Cell, Fold
from watchkeep.detectors.logtime import LogTime
from watchkeep.detectors.windows import Windows
from watchkeep.schemas.frame import Frame, FrameKind
from watchkeep.schemas.settings import Detect
from watchkeep.schemas.window import Window
from watchkeep.streams.stores import Rollups, SignalRow


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
        self.windows = Windows(settings, self.channel.name)
        self._ids = np.empty(0, np.uint64)

    def close(self, time_ms: int, outcome: Outcome, *, backlog: bool) -> None:
        """Close the cells that `time_ms` has passed, and score them."""
        for cell in self.fold.close(time_ms):
            self.state.grow(len(self.fold.signals))
            scores = self.channel.step(self.state, cell.slots, cell.begin_ms, cell.value)
            outcome.windows.extend(
                self.windows.step(cell, scores, self.fold.signals, backlog=backlog)
            )
            outcome.rollups.append(self._rollups(cell, scores))

    def _rollups(self, cell: Cell, scores: Scores) -> Rollups:
        new = self.fold.signals[len(self._ids) :]
        if new:
            self._ids = np.append(self._ids, np.array([s.signal_id for s in new], np.uint64))
        ids = self._ids[cell.slots]
        return Rollups(
            step_s=self.settings.step_s,
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
            signals=tuple(
                SignalRow(s.signal_id, s.entity, s.metric, dict(s.labels), s.unit) for s in new
            ),
        )


class Shard:
    """The state of one partition of the metrics topic."""

    def __init__(self, settings: Detect) -> None:
        self.settings = settings
        self.time = LogTime()
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
        return outcome

    def _fold(self, frame: Frame) -> None:
        (sender,) = frame.senders
        cluster = self.clusters.setdefault(sender.cluster, Cluster(self.settings))
        cluster.fold.learn(frame.label_sets)
        cluster.fold.add(frame, sender.newest_ms)
