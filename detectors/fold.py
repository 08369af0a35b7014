"""Fold: samples of many series become a few signals on a time grid.

Each sample stands for the time since the sample before it, at most `hold_s`: a counter's as the
rate over that time, a gauge's as its value. These stretches are spread over the cells that they
cover. When a cell closes, each series has its mean over the part it covered; a series that says
nothing in a cell stands for its last value while that is not older than `hold_s`. A signal is the
sum of its series' rates, or the mean of its series' values.

Everything is columns; Python loops run over new series and over cells, never over samples.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from watchkeep.detectors.arrays import Arrays, Field, Slots, grown
from watchkeep.detectors.signals import Signal, signal_of
from watchkeep.schemas.frame import Frame, LabelSet
from watchkeep.schemas.labels import parse
from watchkeep.schemas.settings import Detect

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

_FIRST_SPAN_MS = 3_600_000
# Sums of larger values overflow; no real metric comes near.
_LARGEST = 1e150
_NEVER = -1
_UNWATCHED = -1

_FIELDS = {
    "signal": Field("i4", _UNWATCHED),
    "member": Field("i4", 0),
    "counter": Field("?", 0),
    "last_ms": Field("i8", _NEVER),
    "last_value": Field("f8", 0.0),
    # What the series stands for while it says nothing: its last rate or value.
    "held": Field("f8", np.nan),
}


class Cell(NamedTuple):
    """A closed cell of the grid.

    Attributes:
        begin_ms: its begin.
        slots: int64[n], the signals that have a value, ascending.
        value: float64[n].
        members: int32[n], members that the value is folded over.
    """

    begin_ms: int
    slots: Ints
    value: Floats
    members: npt.NDArray[np.int32]


@dataclass(slots=True)
class OpenCell:
    """A cell that still takes samples: by series, value x time and time covered, in ms."""

    weighted: Floats
    covered: Floats


class Fold:
    """The series and signals of one cluster in one shard.

    Attributes:
        signals: by signal slot.
        drops: samples that were not folded, by a named reason.
    """

    def __init__(self, settings: Detect) -> None:
        self._step_ms = settings.step_s * 1000
        self._grace_ms = round(settings.grace_s * 1000)
        self._hold_ms = round(settings.hold_s * 1000)
        self._kept = frozenset(settings.kept_labels)
        self.series = Arrays(_FIELDS)
        self.slots = Slots()
        self.slot_of: dict[int, int] = {}
        self._sorted_ids: npt.NDArray[np.uint64] | None = None
        self._sorted_slots: Ints = np.empty(0, np.int64)
        self.signals: list[Signal] = []
        self._signal_slot: dict[Signal, int] = {}
        self.members: dict[str, int] = {}
        self.open: dict[int, OpenCell] = {}
        self.next_cell = _NEVER
        self.drops: Counter[str] = Counter()

    def learn(self, label_sets: Iterable[LabelSet]) -> None:
        """Take in the labels of series that are new, or whose kind has become known."""
        for entry in label_sets:
            slot = self.slot_of.get(entry.series_id)
            if slot is None:
                slot = self.slots.take()
                self.slot_of[entry.series_id] = slot
                self._sorted_ids = None
                self.series.grow(slot + 1)
            self._describe(slot, entry)

    def _describe(self, slot: int, entry: LabelSet) -> None:
        signal = signal_of(entry.entity, parse(entry.labels), entry.kind, self._kept)
        if signal is None:
            self.series["signal"][slot] = _UNWATCHED
            return
        self.series["signal"][slot] = self.signal_slot(signal)
        self.series["counter"][slot] = signal.counter
        member = f"{entry.entity}\n{entry.member}"
        self.series["member"][slot] = self.members.setdefault(member, len(self.members))

    def signal_slot(self, signal: Signal) -> int:
        """Find a signal's slot, a new one for a new signal."""
        slot = self._signal_slot.setdefault(signal, len(self.signals))
        if slot == len(self.signals):
            self.signals.append(signal)
        return slot

    def add(self, frame: Frame, newest_ms: int) -> None:
        """Fold the samples of a frame into the open cells.

        Args:
            frame: a data frame of this cluster.
            newest_ms: samples later than this are refused: their clock is ahead.
        """
        rows = self._rows(frame, newest_ms)
        if not len(rows.slot):
            return
        if self.next_cell == _NEVER:
            # One sample from long ago must not open years of cells.
            begin_ms = max(int(rows.time_ms.min()), newest_ms - _FIRST_SPAN_MS)
            self.next_cell = begin_ms // self._step_ms
        self._spread(self._stretches(rows))

    def close(self, time_ms: int) -> Iterator[Cell]:
        """Close the cells whose end lies a grace or more before `time_ms`, in order."""
        while self.next_cell != _NEVER and (
            (self.next_cell + 1) * self._step_ms + self._grace_ms <= time_ms
        ):
            index = self.next_cell
            self.next_cell = self._after(index, time_ms)
            cell = self._close_one(index)
            if len(cell.slots):
                yield cell

    def _after(self, index: int, time_ms: int) -> int:
        """Find the cell to close next: where nobody says anything for long, cells are skipped."""
        last_ms = self.series["last_ms"]
        heard_ms = int(last_ms.max()) if len(last_ms) else _NEVER
        silent = (index + 1) * self._step_ms > heard_ms + self._hold_ms and not self.open
        return max(index + 1, time_ms // self._step_ms - 1) if silent else index + 1

    def _close_one(self, index: int) -> Cell:
        series = self.series
        begin_ms, end_ms = index * self._step_ms, (index + 1) * self._step_ms
        size = len(series["last_ms"])
        held_ms = series["last_ms"]
        value = np.where(
            (held_ms != _NEVER) & (held_ms < end_ms) & (end_ms - held_ms <= self._hold_ms),
            series["held"],
            np.nan,
        )
        if (cell := self.open.pop(index, None)) is not None:
            weighted, covered = grown(cell.weighted, size, 0), grown(cell.covered, size, 0)
            np.divide(weighted[:size], covered[:size], out=value, where=covered[:size] > 0)
        rows = np.flatnonzero(~np.isnan(value) & (series["signal"] != _UNWATCHED))
        return self._by_signal(begin_ms, rows, value[rows])

    def _by_signal(self, begin_ms: int, rows: Ints, value: Floats) -> Cell:
        signal = self.series["signal"][rows].astype(np.int64)
        count = np.bincount(signal, minlength=len(self.signals))
        total = np.bincount(signal, weights=value, minlength=len(self.signals))
        slots = np.flatnonzero(count)
        counter = np.zeros(len(self.signals), bool)
        counter[signal] = self.series["counter"][rows]
        folded = np.where(counter[slots], total[slots], total[slots] / count[slots])
        pairs = np.unique((signal << 32) | self.series["member"][rows])
        members = np.bincount(pairs >> 32, minlength=len(self.signals))
        return Cell(begin_ms, slots, folded, members[slots].astype(np.int32))

    def _rows(self, frame: Frame, newest_ms: int) -> "_Rows":
        """Sort a frame's samples by series, and drop what can't be folded, with its reason."""
        slot = self._slots_of(frame.series_id)
        watched = slot >= 0
        watched[watched] = self.series["signal"][slot[watched]] != _UNWATCHED
        in_time = (frame.time_ms >= 0) & (frame.time_ms <= newest_ms)
        self._drop("unknown_series", slot < 0)
        self._drop("clock_ahead", watched & (frame.time_ms > newest_ms))
        keep = np.flatnonzero(watched & in_time)
        keep = keep[np.argsort(slot[keep], kind="stable")]
        rows = _Rows(slot[keep], frame.time_ms[keep], frame.value[keep])
        newer = self._newer(rows)
        self._drop("not_newer", ~newer)
        return _Rows(rows.slot[newer], rows.time_ms[newer], rows.value[newer])

    def _slots_of(self, series_id: npt.NDArray[np.uint64]) -> Ints:
        if self._sorted_ids is None:
            ids = np.fromiter(self.slot_of, np.uint64, len(self.slot_of))
            order = np.argsort(ids)
            self._sorted_ids = ids[order]
            self._sorted_slots = np.fromiter(self.slot_of.values(), np.int64, len(ids))[order]
        if not len(self._sorted_ids):
            return np.full(len(series_id), -1, np.int64)
        at = np.searchsorted(self._sorted_ids, series_id)
        at[at == len(self._sorted_ids)] = 0
        return np.where(self._sorted_ids[at] == series_id, self._sorted_slots[at], -1)

    def _newer(self, rows: "_Rows") -> Flags:
        """Tell which samples are newer than all before them of their series, as they arrived."""
        if not len(rows.slot):
            return np.zeros(0, bool)
        first = np.diff(rows.slot, prepend=-1) != 0
        span = int(rows.time_ms.max()) - int(rows.time_ms.min()) + 1
        # Each series gets a range of its own, so one running maximum serves them all.
        rank = (np.cumsum(first) - 1) * span + (rows.time_ms - rows.time_ms.min())
        before = np.concatenate(([-1], np.maximum.accumulate(rank)[:-1]))
        newer: Flags = (rank > before) & (rows.time_ms > self.series["last_ms"][rows.slot])
        return newer

    def _drop(self, reason: str, flags: Flags) -> None:
        if count := int(np.count_nonzero(flags)):
            self.drops[reason] += count

    def _stretches(self, rows: "_Rows") -> "_Stretches":
        """Pair each sample with the one before it, and remember the last of each series."""
        series = self.series
        slot, time_ms, value = rows
        first = np.diff(slot, prepend=-1) != 0
        last = np.append(first[1:], True)
        before_ms = np.where(first, series["last_ms"][slot], np.roll(time_ms, 1))
        before = np.where(first, series["last_value"][slot], np.roll(value, 1))
        counter = series["counter"][slot]

        # Stale markers and other values that are no number end a stretch.
        known = (before_ms != _NEVER) & np.isfinite(before)
        seconds = np.where(known, time_ms - before_ms, 1) / 1000
        with np.errstate(invalid="ignore", over="ignore"):
            increase = np.where(value >= before, value - before, value)
            rate = np.where(counter, increase / seconds, value)
        begin_ms = np.where(known, np.maximum(before_ms, time_ms - self._hold_ms), time_ms)
        end_ms = np.where(known, time_ms, time_ms + 1)
        usable = (np.abs(rate) < _LARGEST) & (known | ~counter)  # NaN compares as false.

        series["last_ms"][slot[last]] = time_ms[last]
        series["last_value"][slot[last]] = value[last]
        series["held"][slot[last]] = np.where(usable[last], rate[last], np.nan)
        return _Stretches(slot[usable], begin_ms[usable], end_ms[usable], rate[usable])

    def _spread(self, stretches: "_Stretches") -> None:
        """Add each stretch to the open cells it covers."""
        slot, begin_ms, end_ms, value = stretches
        first = np.maximum(begin_ms // self._step_ms, self.next_cell)
        count = np.maximum((end_ms - 1) // self._step_ms - first + 1, 0)
        self._drop("late", count == 0)
        row = np.repeat(np.arange(len(slot)), count)
        cell = first[row] + np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
        from_ms = np.maximum(begin_ms[row], cell * self._step_ms)
        to_ms = np.minimum(end_ms[row], (cell + 1) * self._step_ms)
        covered = (to_ms - from_ms).astype(np.float64)
        for index in np.unique(cell).tolist():
            at = cell == index
            into = self._open_cell(index)
            np.add.at(into.weighted, slot[row[at]], value[row[at]] * covered[at])
            np.add.at(into.covered, slot[row[at]], covered[at])

    def _open_cell(self, index: int) -> OpenCell:
        size = len(self.series["last_ms"])
        cell = self.open.setdefault(index, OpenCell(np.zeros(size), np.zeros(size)))
        cell.weighted = grown(cell.weighted, size, 0)
        cell.covered = grown(cell.covered, size, 0)
        return cell


class _Rows(NamedTuple):
    slot: Ints
    time_ms: Ints
    value: Floats


class _Stretches(NamedTuple):
    slot: Ints
    begin_ms: Ints
    end_ms: Ints
    value: Floats
