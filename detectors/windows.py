"""Windows: from scores of signals to abnormal stretches of an entity.

Provisional decision: in the view of a channel a signal is abnormal after some cells in a row beyond
a threshold, on the same side. The first such signal that may page opens its entity's window; others
join it. It closes after some time without any. Closed windows aren't opened again; a new stretch is
a new window.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from watchkeep.detectors.arrays import Arrays, Field, SlotArray, where
from watchkeep.detectors.cells import Cell
from watchkeep.detectors.channel import Scores
from watchkeep.detectors.roster import Roster
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

_STRONGER = 1.5
_REVISION_MS = 600_000

_FIELDS = {"run": Field("i4", 0), "run_ms": Field("i8", 0)}


@dataclass(slots=True)
class Seen:
    """What a channel saw of a signal in a window; values are those of `Evidence`."""

    observed: float
    expected: float
    spread: float
    score: float
    members: int
    since_ms: int
    peak: float
    peak_ms: int
    peak_score: float
    member: str
    reason: str


@dataclass(slots=True)
class OpenWindow:
    """The window of an entity that is abnormal now.

    Attributes:
        told_strength: the strength in the last revision; `told_ms`: its `at_ms`.
        abnormal_ms: the end of the last cell with an abnormal signal.
        seen: by channel and signal slot.
    """

    window_id: str
    onset_ms: int
    detected_ms: int
    backlog: bool
    revision: int = 0
    told_strength: float = 0.0
    told_ms: int = 0
    abnormal_ms: int = 0
    seen: dict[tuple[str, int], Seen] = field(default_factory=dict)

    @property
    def strength(self) -> float:
        """The strongest score of any signal so far."""
        return max(abs(seen.peak_score) for seen in self.seen.values())


def new_runs() -> Arrays:
    """Make columns for a channel's runs."""
    return Arrays(_FIELDS)


class View(NamedTuple):
    """What a channel makes of a cell.

    Attributes:
        channel: its name.
        scores: of the cell's slots.
        observed: float64, what it looked at, of each slot.
        strand: int64, whose that was; None if it is the whole signal's.
        open_cells: cells in a row that make an alarm.
        reasons: by signal slot, what is wrong, where a number doesn't tell; such alarms page,
            whatever their signal's role.
    """

    channel: str
    scores: Scores
    observed: npt.NDArray[np.float64]
    strand: npt.NDArray[np.int64] | None
    open_cells: int
    reasons: Mapping[int, str] = MappingProxyType({})


class Windows:
    """The decision's state for the entities of one cluster in one shard.

    Attributes:
        runs: by channel, abnormal cells in a row by signal slot.
        open: by entity.
    """

    def __init__(self, settings: Detect, roster: Roster) -> None:
        self._settings = settings
        self._roster = roster
        self.runs: dict[str, Arrays] = {}
        self.open: dict[str, OpenWindow] = {}

    def step(self, cell: Cell, views: Sequence[View], *, backlog: bool) -> list[Window]:
        """Take in a cell's scores, and return the revisions that it calls for.

        Args:
            cell: the closed cell.
            views: what each channel makes of it.
            backlog: the cell comes too late to page anyone.
        """
        begun: set[str] = set()
        abnormal: set[str] = set()
        for view in views:
            far, alarm = self._runs(cell, view)
            begun |= self._join(cell, view, alarm, backlog=backlog)
            abnormal |= {self._entity(slot) for slot in cell.slots[far].tolist()}
        for entity in abnormal & self.open.keys():
            self.open[entity].abnormal_ms = cell.end_ms
        seen = {view.channel: (cell, view) for view in views}
        return [
            revision
            for entity in sorted(self.open)
            if (revision := self._revise(entity, seen, cell, begun)) is not None
        ]

    def _entity(self, slot: int) -> str:
        return self._roster.signal(slot).entity

    def _revise(
        self,
        entity: str,
        seen: Mapping[str, tuple[Cell, View]],
        cell: Cell,
        begun: set[str],
    ) -> Window | None:
        """Bring a window up to date; return it if there is something to tell."""
        window, settings = self.open[entity], self._settings
        end_ms = cell.end_ms
        self._update(window, seen)
        if end_ms - window.abnormal_ms >= settings.close_cells * settings.step_s * 1000:
            del self.open[entity]
            return self._tell(entity, window, end_ms, WindowState.CLOSED)
        if (
            entity in begun
            or window.strength >= _STRONGER * window.told_strength
            or end_ms - window.told_ms >= _REVISION_MS
        ):
            return self._tell(entity, window, end_ms, WindowState.OPEN)
        return None

    def _runs(self, cell: Cell, view: View) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """Count abnormal cells in a row; a change of side begins anew."""
        slots, scores = cell.slots, view.scores
        far = (np.abs(scores.score) >= self._settings.threshold_sigma) & (scores.warmup >= 1)
        side = np.where(far, np.sign(scores.score), 0).astype(np.int32)
        runs = self.runs.setdefault(view.channel, new_runs())
        runs.grow(int(slots[-1]) + 1)
        run = runs["run"][slots]
        goes_on = far & (np.sign(run) == side)
        runs["run_ms"][slots] = np.where(goes_on, runs["run_ms"][slots], cell.begin_ms)
        run = np.where(goes_on, run + side, side)
        runs["run"][slots] = run
        return far, np.abs(run) >= view.open_cells

    def _join(
        self, cell: Cell, view: View, alarm: npt.NDArray[np.bool_], *, backlog: bool
    ) -> set[str]:
        """Open windows and let signals join them; return the entities where that happened."""
        begun = set()
        rows = where(alarm)
        page = self._roster.signals["page"].take(cell.slots[rows])
        side = self._roster.signals["side"].take(cell.slots[rows])
        page &= (side == 0) | (np.sign(view.scores.score[rows]) == side)
        page |= np.isin(cell.slots[rows], list(view.reasons))
        since_ms = self.runs[view.channel]["run_ms"].take(cell.slots[rows])
        # Those that may page come first, so that the others find a window to join.
        for i in np.lexsort((since_ms, ~page)).tolist():
            row, slot = int(rows[i]), int(cell.slots[rows[i]])
            entity = self._entity(slot)
            if entity not in self.open:
                if not page[i]:
                    continue
                self.open[entity] = self._opened(entity, int(since_ms[i]), cell, backlog=backlog)
            window = self.open[entity]
            if (view.channel, slot) not in window.seen:
                window.seen[view.channel, slot] = self._first_seen(
                    cell, view, row, int(since_ms[i])
                )
                begun.add(entity)
        return begun

    def _opened(self, entity: str, onset_ms: int, cell: Cell, *, backlog: bool) -> OpenWindow:
        name = window_id(entity, onset_ms, self._settings.version)
        return OpenWindow(name, onset_ms, cell.end_ms, backlog, abnormal_ms=cell.end_ms)

    def _first_seen(self, cell: Cell, view: View, row: int, since_ms: int) -> Seen:
        observed, score = float(view.observed[row]), float(view.scores.score[row])
        return Seen(
            observed=observed,
            expected=float(view.scores.expected[row]),
            spread=float(view.scores.spread[row]),
            score=score,
            members=int(cell.members[row]),
            since_ms=since_ms,
            peak=observed,
            peak_ms=cell.begin_ms,
            peak_score=score,
            member=self._member(view, row),
            reason=view.reasons.get(int(cell.slots[row]), ""),
        )

    def _member(self, view: View, row: int) -> str:
        return "" if view.strand is None else self._roster.member_of(int(view.strand[row]))

    def _update(self, window: OpenWindow, views: Mapping[str, tuple[Cell, View]]) -> None:
        for (channel, slot), seen in window.seen.items():
            if channel not in views:
                continue
            cell, view = views[channel]
            row = int(np.searchsorted(cell.slots, slot))
            if row == len(cell.slots) or cell.slots[row] != slot:
                continue
            score = float(view.scores.score[row])
            if math.isnan(score):
                continue
            stronger = abs(score) > abs(seen.peak_score)
            if not stronger and self._member(view, row) != seen.member:
                continue  # It is another member that is farthest now, and an ordinary one.
            seen.observed, seen.score = float(view.observed[row]), score
            seen.expected = float(view.scores.expected[row])
            seen.spread = float(view.scores.spread[row])
            seen.members = int(cell.members[row])
            if stronger:
                seen.peak, seen.peak_ms, seen.peak_score = seen.observed, cell.begin_ms, score
                seen.member = self._member(view, row)
                seen.reason = view.reasons.get(slot, seen.reason)

    def forget(self, slots: SlotArray) -> None:
        """Begin anew with slots that mean another signal now."""
        for runs in self.runs.values():
            runs.reset(slots[slots < len(runs["run"])])
        gone = set(slots.tolist())
        for window in self.open.values():
            window.seen = {
                k: seen for k, seen in window.seen.items() if k[1] not in gone
            } or window.seen

    def _tell(self, entity: str, window: OpenWindow, end_ms: int, state: WindowState) -> Window:
        window.revision += 1
        window.told_strength = window.strength
        window.told_ms = end_ms
        evidence = sorted(
            (self._evidence(channel, slot, seen) for (channel, slot), seen in window.seen.items()),
            key=lambda entry: (-abs(entry.peak_score), entry.signal, entry.channel),
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
            evidence=tuple(evidence[:EVIDENCE_MAX]),
        )

    def _evidence(self, channel: str, slot: int, seen: Seen) -> Evidence:
        signal = self._roster.signal(slot)
        band = self._settings.threshold_sigma * seen.spread
        return Evidence(
            signal=signal.title,
            metric=signal.metric,
            labels=dict(signal.labels),
            unit=unit_of(signal),
            channel=channel,
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
            member=seen.member,
            reason=seen.reason,
        )

    def dump(self) -> list[dict[str, Any]]:
        """Give the open windows, for a snapshot."""
        return [
            {"entity": entity}
            | {name: getattr(window, name) for name in _PLAIN}
            | {"seen": [[*key, asdict(seen)] for key, seen in window.seen.items()]}
            for entity, window in self.open.items()
        ]

    def restore(self, windows: Iterable[Mapping[str, Any]]) -> None:
        """Take over the open windows of a snapshot."""
        for entry in windows:
            window = OpenWindow(**{name: entry[name] for name in _PLAIN})
            for channel, slot, seen in entry["seen"]:
                window.seen[channel, slot] = Seen(**seen)
            self.open[entry["entity"]] = window


_PLAIN = tuple(entry.name for entry in fields(OpenWindow) if entry.name != "seen")
