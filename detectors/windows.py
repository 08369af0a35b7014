"""Windows: from scores of signals to abnormal stretches of an entity.

Provisional decision: a signal is abnormal after some cells in a row beyond a threshold, on the same
side. The first such signal opens its entity's window, which closes after some cells without any.
Closed windows aren't opened again; a new stretch is a new window.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from watchkeep.detectors.arrays import Arrays, Field
from watchkeep.detectors.channel import Scores
from watchkeep.detectors.fold import Cell
from watchkeep.detectors.signals import Signal
from watchkeep.schemas.settings import Detect
from watchkeep.schemas.window import (
    EVIDENCE_MAX,
    Direction,
    Evidence,
    Window,
    WindowState,
    window_id,
)

_STRONGER = 1.5
_REVISION_MS = 600_000

_FIELDS = {"run": Field("i4", 0), "run_ms": Field("i8", 0)}


@dataclass(slots=True)
class Seen:
    """What one signal showed in a window; values are those of `Evidence`."""

    observed: float
    expected: float
    spread: float
    score: float
    members: int
    since_ms: int
    peak: float
    peak_ms: int
    peak_score: float


@dataclass(slots=True)
class OpenWindow:
    """The window of an entity that is abnormal now.

    Attributes:
        told_strength: the strength in the last revision; `told_ms`: its `at_ms`.
        calm_cells: cells in a row without any abnormal signal.
        abnormal_ms: the end of the last cell with one.
        seen: by signal slot.
    """

    window_id: str
    onset_ms: int
    detected_ms: int
    backlog: bool
    revision: int = 0
    told_strength: float = 0.0
    told_ms: int = 0
    calm_cells: int = 0
    abnormal_ms: int = 0
    seen: dict[int, Seen] = field(default_factory=dict)

    @property
    def strength(self) -> float:
        """The strongest score of any signal so far."""
        return max(abs(seen.peak_score) for seen in self.seen.values())


class Windows:
    """The decision's state for the entities of one cluster in one shard."""

    def __init__(self, settings: Detect, channel: str) -> None:
        self._settings = settings
        self._channel = channel
        self.runs = Arrays(_FIELDS)
        self.open: dict[str, OpenWindow] = {}

    def step(
        self, cell: Cell, scores: Scores, signals: Sequence[Signal], *, backlog: bool
    ) -> list[Window]:
        """Take in a cell's scores, and return the revisions that it calls for.

        Args:
            cell: the closed cell.
            scores: the channel's scores of the same slots.
            signals: by slot.
            backlog: the cell comes too late to page anyone.
        """
        end_ms = cell.begin_ms + self._settings.step_s * 1000
        far, alarm = self._runs(cell, scores)
        begun = self._join(cell, scores, signals, alarm, backlog=backlog)
        abnormal = {signals[slot].entity for slot in cell.slots[far].tolist()}
        revisions = []
        for entity in sorted(self.open):
            window = self.open[entity]
            self._update(window, cell, scores)
            if entity in abnormal:
                window.calm_cells, window.abnormal_ms = 0, end_ms
            else:
                window.calm_cells += 1
            if window.calm_cells >= self._settings.close_cells:
                del self.open[entity]
                revisions.append(self._tell(entity, window, signals, end_ms, WindowState.CLOSED))
            elif (
                entity in begun
                or window.strength >= _STRONGER * window.told_strength
                or end_ms - window.told_ms >= _REVISION_MS
            ):
                revisions.append(self._tell(entity, window, signals, end_ms, WindowState.OPEN))
        return revisions

    def _runs(
        self, cell: Cell, scores: Scores
    ) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """Count abnormal cells in a row; a change of side begins anew."""
        slots = cell.slots
        far = (np.abs(scores.score) >= self._settings.threshold_sigma) & (scores.warmup >= 1)
        side = np.where(far, np.sign(scores.score), 0).astype(np.int32)
        self.runs.grow(int(slots[-1]) + 1)
        run = self.runs["run"][slots]
        goes_on = far & (np.sign(run) == side)
        self.runs["run_ms"][slots] = np.where(goes_on, self.runs["run_ms"][slots], cell.begin_ms)
        run = np.where(goes_on, run + side, side)
        self.runs["run"][slots] = run
        return far, np.abs(run) >= self._settings.open_cells

    def _join(
        self,
        cell: Cell,
        scores: Scores,
        signals: Sequence[Signal],
        alarm: npt.NDArray[np.bool_],
        *,
        backlog: bool,
    ) -> set[str]:
        """Open windows and let signals join them; return the entities where that happened."""
        begun = set()
        by_entity: dict[str, list[int]] = defaultdict(list)
        for row in np.flatnonzero(alarm).tolist():
            by_entity[signals[cell.slots[row]].entity].append(row)
        for entity, rows in by_entity.items():
            slots = cell.slots[rows].tolist()
            since = self.runs["run_ms"][cell.slots[rows]].tolist()
            if entity not in self.open:
                self.open[entity] = self._opened(entity, min(since), cell.begin_ms, backlog=backlog)
            window = self.open[entity]
            for slot, row, since_ms in zip(slots, rows, since, strict=True):
                if slot not in window.seen:
                    window.seen[slot] = _first_seen(cell, scores, row, since_ms)
                    begun.add(entity)
        return begun

    def _opened(self, entity: str, onset_ms: int, begin_ms: int, *, backlog: bool) -> OpenWindow:
        name = window_id(entity, onset_ms, self._settings.version)
        return OpenWindow(name, onset_ms, begin_ms + self._settings.step_s * 1000, backlog)

    def _update(self, window: OpenWindow, cell: Cell, scores: Scores) -> None:
        slots = np.fromiter(window.seen, np.int64, len(window.seen))
        at = np.minimum(np.searchsorted(cell.slots, slots), len(cell.slots) - 1)
        present = (cell.slots[at] == slots) & ~np.isnan(scores.score[at])
        for slot, row in zip(slots[present].tolist(), at[present].tolist(), strict=True):
            seen = window.seen[slot]
            seen.observed = float(cell.value[row])
            seen.expected = float(scores.expected[row])
            seen.spread = float(scores.spread[row])
            seen.score = float(scores.score[row])
            seen.members = int(cell.members[row])
            if abs(seen.score) > abs(seen.peak_score):
                seen.peak, seen.peak_ms, seen.peak_score = (
                    seen.observed,
                    cell.begin_ms,
                    seen.score,
                )

    def _tell(
        self,
        entity: str,
        window: OpenWindow,
        signals: Sequence[Signal],
        end_ms: int,
        state: WindowState,
    ) -> Window:
        window.revision += 1
        window.told_strength = window.strength
        window.told_ms = end_ms
        ordered = sorted(
            window.seen.items(),
            key=lambda item: (-abs(item[1].peak_score), signals[item[0]].title),
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
            settings=self._settings.version,
            backlog=window.backlog,
            strength=window.strength,
            evidence=tuple(
                self._evidence(signals[slot], seen) for slot, seen in ordered[:EVIDENCE_MAX]
            ),
        )

    def _evidence(self, signal: Signal, seen: Seen) -> Evidence:
        band = self._settings.threshold_sigma * seen.spread
        return Evidence(
            signal=signal.title,
            metric=signal.metric,
            labels=dict(signal.labels),
            unit=signal.unit,
            channel=self._channel,
            direction=Direction.ABOVE if seen.peak_score > 0 else Direction.BELOW,
            observed=seen.observed,
            expected=seen.expected,
            low=seen.expected - band,
            high=seen.expected + band,
            score=seen.score,
            threshold=self._settings.threshold_sigma,
            since_ms=seen.since_ms,
            peak=seen.peak,
            peak_ms=seen.peak_ms,
            peak_score=seen.peak_score,
            members=seen.members,
        )

    def dump(self) -> list[dict[str, Any]]:
        """Give the open windows, for a snapshot."""
        return [{"entity": entity} | asdict(window) for entity, window in self.open.items()]

    def restore(self, windows: Iterable[Mapping[str, Any]]) -> None:
        """Take over the open windows of a snapshot."""
        for entry in windows:
            fields = dict(entry)
            entity = fields.pop("entity")
            seen = {int(slot): Seen(**values) for slot, values in fields.pop("seen").items()}
            self.open[entity] = OpenWindow(**fields, seen=seen)


def _first_seen(cell: Cell, scores: Scores, row: int, since_ms: int) -> Seen:
    observed, score = float(cell.value[row]), float(scores.score[row])
    return Seen(
        observed=observed,
        expected=float(scores.expected[row]),
        spread=float(scores.spread[row]),
        score=score,
        members=int(cell.members[row]),
        since_ms=since_ms,
        peak=observed,
        peak_ms=cell.begin_ms,
        peak_score=score,
    )
