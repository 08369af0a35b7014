"""Fold: samples of many series become a few signals on a time grid.

Each sample stands for the time since the sample before it, at most `hold_s`: a counter's as the rate
over that time, a gauge's as its value. These stretches are spread over the cells that they cover, and
added to their strands (see roster) as they come. When a cell closes, a series that has said nothing
up to its end stands for its last rate or value while that is not older than `hold_s`.

Series whose value has never changed take no part: one more or less of them changes nothing.

Everything is columns; Python's loops run over new series and over cells, never over samples.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from watchkeep.detectors.arrays import begins, where
from watchkeep.detectors.cells import Cell, Grid, Open, Stretches
from watchkeep.detectors.native import Samples, unfold
from watchkeep.detectors.roster import (
    COUNTS,
    FOLDINGS,
    LARGEST,
    META,
    MOVED,
    NEVER,
    NOWHERE,
    UNSURE,
    Roster,
)
from watchkeep.detectors.sweep import EVERY_MS, sweep
from watchkeep.schemas.frame import Frame, LabelSet
from watchkeep.schemas.settings import Detect
from watchkeep.schemas.signal import Folding

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Strands = npt.NDArray[np.int32]

_STALE: Final = np.uint64(0x7FF0_0000_0000_0002)
# A signal of unknown kind counts if it has risen so often, and fallen only to begin anew.
_RISES: Final = 60
_RISES_A_RESET: Final = 20


class Fold:
    """The series and signals of one cluster in one shard.

    Attributes:
        grids: by the width of their cells, in seconds.
        swept: when slots were last freed, in units of `EVERY_MS`.
        drops: samples that were not folded, by a named reason.
    """

    def __init__(self, settings: Detect) -> None:
        self._grace_ms = round(settings.grace_s * 1000)
        self._hold_ms = round(settings.hold_s * 1000)
        self.roster = Roster(settings)
        self.grids: dict[int, Grid] = {}
        self.drops: Counter[str] = Counter()
        self.swept = NEVER
        self._mark = np.empty(0, np.int32)

    @property
    def nbytes(self) -> int:
        """Tell how much memory series, strands and members take, in open cells too."""
        cells = sum(cell.nbytes for cell in self._open_cells())
        return self.roster.nbytes + cells + self._mark.nbytes

    def _open_cells(self) -> list[Open]:
        return [cell for grid in self.grids.values() for cell in grid.open.values()]

    def learn(self, label_sets: Iterable[LabelSet], time_ms: int) -> None:
        """Take in the labels of series that are new, or whose kind has become known."""
        self.roster.learn(label_sets, time_ms)

    def add(self, frame: Frame, newest_ms: int) -> None:
        """Fold the samples of a frame into the open cells.

        Args:
            frame: a data frame of this cluster.
            newest_ms: samples later than this are refused: their clock is ahead.
        """
        samples = Samples(frame.series_id, frame.time_ms, frame.value)
        if len(frame.histograms.series_id):
            unfolded = unfold(self.roster, frame, newest_ms, self.drops)
            samples = Samples(
                np.concatenate([samples.series_id, unfolded.series_id]),
                np.concatenate([samples.time_ms, unfolded.time_ms]),
                np.concatenate([samples.value, unfolded.value]),
            )
        rows = self._rows(samples, newest_ms)
        if not len(rows.slot):
            return
        first_ms = int(rows.time_ms.min())
        beats = self._beats(rows)
        stretches = self._stretches(rows)
        steps = self.roster.steps
        for step_s in steps:
            grid = self.grids.setdefault(step_s, Grid(step_s * 1000))
            grid.begin(first_ms, newest_ms)
            grid.see(beats, self.roster)
            mine = stretches
            if len(steps) > 1:
                signal = self.roster.strands["signal"].take(stretches.owner)
                mine = mine.pick(where(self.roster.signals["step_s"].take(signal) == step_s))
            late = grid.spread(mine, self.roster)
            if late:
                self.drops["late"] += late

    def close(self, time_ms: int) -> Iterator[Cell]:
        """Close the cells whose end lies a grace or more before `time_ms`, in order of their ends."""
        while due := [
            (grid.next_end_ms, step_s)
            for step_s, grid in self.grids.items()
            if grid.next_cell != NEVER and grid.next_end_ms + self._grace_ms <= time_ms
        ]:
            end_ms, step_s = min(due)
            self._tell_apart()
            cell = self.grids[step_s].close(self.roster, self._hold_ms, time_ms)
            if end_ms // EVERY_MS > self.swept:
                self.swept = end_ms // EVERY_MS
                sweep(self.roster, self._open_cells(), end_ms)
            if cell is not None:
                yield cell

    def _rows(self, samples: Samples, newest_ms: int) -> "_Rows":
        """Take out what can be folded, each series' samples in order; count the rest by reason."""
        series_id, time_ms, value = samples
        found = self.roster.table.find(series_id)
        if not len(self.roster.table) or not len(found):
            self._drop("unknown_series", found < 0)
            return _NO_ROWS
        slot = found.astype(np.int64)
        strand = self.roster.series["strand"].take(slot)
        if found.min() < 0 or strand.min() < 0 or time_ms.min() < 0 or time_ms.max() > newest_ms:
            watched = (found >= 0) & (strand >= 0)
            self._drop("unknown_series", found < 0)
            self._drop("clock_ahead", watched & (time_ms > newest_ms))
            self._drop("before_1970", watched & (time_ms < 0))
            at = where(watched & (time_ms >= 0) & (time_ms <= newest_ms))
            slot, strand = slot.take(at), strand.take(at)
            time_ms, value = time_ms.take(at), value.take(at)
        rows = _Rows(slot, strand, time_ms, value)
        rows = self._once(rows) if self._unique(slot) else self._in_order(rows)
        return rows._replace(flags=self.roster.series["flags"].take(rows.slot))

    def _once(self, rows: "_Rows") -> "_Rows":
        """Find what each series said before, if each has one sample."""
        series = self.roster.series
        before_ms = series["last_ms"].take(rows.slot)
        newer = rows.time_ms > before_ms
        if not newer.all():
            self._drop("not_newer", ~newer)
            at = where(newer)
            rows, before_ms = rows.pick(at), before_ms.take(at)
        return rows._replace(
            before_ms=before_ms, before=series["last_value"].take(rows.slot), last=slice(None)
        )

    def _in_order(self, rows: "_Rows") -> "_Rows":
        """Sort rows by series, each one's as they came, and find what was said before each."""
        series = self.roster.series
        count = len(rows.slot)
        rows = rows.pick(np.sort(rows.slot * count + np.arange(count)) % count)
        newer = _rising(rows) & (rows.time_ms > series["last_ms"].take(rows.slot))
        self._drop("not_newer", ~newer)
        rows = rows.pick(where(newer))
        first = begins(rows.slot)
        before_ms, before = np.roll(rows.time_ms, 1), np.roll(rows.value, 1)
        at = where(first)
        before_ms[at] = series["last_ms"].take(rows.slot.take(at))
        before[at] = series["last_value"].take(rows.slot.take(at))
        last = where(np.append(first[1:], len(first) > 0))
        return rows._replace(before_ms=before_ms, before=before, last=last)

    def _unique(self, slot: Ints) -> bool:
        """Tell whether no series has two samples."""
        if len(self._mark) < len(self.roster.series["last_ms"]):
            self.swept = NEVER
        self._mark = np.empty(len(self.roster.series["last_ms"]), np.int32)
        number = np.arange(len(slot), dtype=np.int32)
        self._mark[slot] = number
        return bool((self._mark.take(slot) == number).all())

    def _drop(self, reason: str, flags: Flags) -> None:
        if count := int(np.count_nonzero(flags)):
            self.drops[reason] += count

    def _beats(self, rows: "_Rows") -> Stretches:
        """Find from when to when members were seen since they were seen last."""
        member = self.roster.strands["member"].take(rows.strand)
        stale = rows.value.view(np.uint64) == _STALE
        silent = stale | (rows.flags & META != 0)
        if silent.any():
            self._note_ends(member, rows.time_ms, stale & (rows.flags & META == 0))
            member[silent] = NOWHERE
        # A scrape's samples stand together and bear one time.
        changes = (begins(member)) | (begins(rows.time_ms))
        at = where(changes & (member != NOWHERE))
        member, time_ms = member.take(at).astype(np.int64), rows.time_ms.take(at)
        order = np.lexsort((time_ms, member))
        member, time_ms = member.take(order), time_ms.take(order)
        members = self.roster.members
        first = begins(member)
        last_ms = members["last_ms"].take(member)
        before_ms = np.where(first, last_ms, np.roll(time_ms, 1))
        before_ms = np.maximum(before_ms, last_ms)
        newer = where(time_ms > before_ms)
        np.maximum.at(members["last_ms"], member, time_ms)
        member, time_ms, before_ms = member.take(newer), time_ms.take(newer), before_ms.take(newer)
        begun = members["begun_ms"]
        new = where(before_ms == NEVER)
        begun[member.take(new)] = time_ms.take(new)
        begin_ms = np.where(
            before_ms == NEVER, time_ms, np.maximum(before_ms, time_ms - self._hold_ms)
        )
        return Stretches(member, begin_ms, time_ms, np.ones(len(member)))

    def _note_ends(self, member: Strands, time_ms: Ints, stale: Flags) -> None:
        at = where(stale & (member != NOWHERE))
        np.maximum.at(self.roster.members["ended_ms"], member.take(at), time_ms.take(at))

    def _stretches(self, rows: "_Rows") -> Stretches:
        """Pair each sample with the one before it, and remember the last of each series."""
        slot, strand, time_ms, value, before_ms, before, last, flags = rows
        series = self.roster.series
        counts = (flags & COUNTS) != 0
        # Stale markers and other values that are no number end a stretch.
        known = (before_ms != NEVER) & np.isfinite(before)
        with np.errstate(invalid="ignore", over="ignore"):
            delta = value - before
            increase = np.where(delta >= 0, delta, value)
            rate = increase / (time_ms - before_ms) * 1000
            x = np.where(counts, rate, value)
            usable = known & (np.abs(x) < LARGEST)  # NaN compares as false.
            negative = value < 0  # Their minimum would be NaN next to a stale marker.
        if negative.any() and (odd := counts & negative).any():
            self._drop("negative_counter", odd)
            usable &= ~odd
        self._drop("too_large", np.abs(value) >= LARGEST)
        self._note_born(where(before_ms == NEVER), strand, time_ms)
        moved = usable & (delta != 0)
        if (unsure := moved & ((flags & UNSURE) != 0)).any():
            self._watch_behaviour(where(unsure), strand, delta, value)
        newly = where(moved & ((flags & MOVED) == 0))
        if len(newly):
            series["flags"][slot.take(newly)] |= MOVED
            # What comes after the first move takes part, also if it is the same.
            since = np.full(len(series["flags"]), len(slot))
            since[slot.take(newly)[::-1]] = newly[::-1]
            flags[np.arange(len(slot)) >= since.take(slot)] |= MOVED
            self._wake(strand.take(newly), before.take(newly))

        held = np.where(usable & counts, x, np.nan).astype(np.float32)
        at = slot[last]
        series["last_ms"][at], series["last_value"][at] = time_ms[last], value[last]
        series["held"][at] = held[last]

        at = where(usable & ((flags & MOVED) != 0))
        begin_ms = np.maximum(before_ms, time_ms - self._hold_ms)
        return Stretches(strand.take(at), begin_ms.take(at), time_ms.take(at), x.take(at))

    def _note_born(self, new: Ints, strand: Strands, time_ms: Ints) -> None:
        """Remember when signals were there first."""
        if len(new):
            signal = self.roster.strands["signal"].take(strand.take(new))
            np.minimum.at(self.roster.signals["born_ms"], signal, time_ms.take(new))

    def _wake(self, strand: Strands, before: Floats) -> None:
        """Have signals take part whose series move for the first time."""
        signals = self.roster.signals
        # What is written last stays, and that shall be the first that was.
        strand, before = strand[::-1], before[::-1]
        signal = self.roster.strands["signal"].take(strand)
        asleep = where(~signals["awake"].take(signal))
        signal = signal.take(asleep)
        mean = signals["folding"].take(signal) == FOLDINGS.index(Folding.MEAN)
        signals["quiet"][signal] = np.where(mean, before.take(asleep), signals["quiet"][signal])
        signals["awake"][signal] = True

    def _watch_behaviour(self, at: Ints, strand: Strands, delta: Floats, value: Floats) -> None:
        """Count how signals of unknown kind move."""
        signals = self.roster.signals
        signal = self.roster.strands["signal"].take(strand.take(at))
        delta, value = delta.take(at), value.take(at)
        resets = (delta < 0) & (value < -delta)  # It lost more than half.
        for name, which in (
            ("rises", delta > 0),
            ("falls", (delta < 0) & ~resets),
            ("resets", resets),
        ):
            np.add.at(signals[name], signal.compress(which), 1)

    def _tell_apart(self) -> None:
        """Find signals of unknown kind that have shown theirs."""
        signals = self.roster.signals
        rises = signals["rises"]
        grown = where(
            (rises >= _RISES)
            & (signals["falls"] == 0)
            & (rises >= _RISES_A_RESET * signals["resets"])
            & (signals["folding"] == FOLDINGS.index(Folding.MEAN))
        )
        if len(grown):
            strands = self.roster.have_count(grown)
            for cell in self._open_cells():
                cell.forget(strands, np.empty(0, np.int64))


class _Rows(NamedTuple):
    """Samples that can be folded, and what their series said before.

    Attributes:
        last: the rows that are the last of their series.
    """

    slot: Ints
    strand: Strands
    time_ms: Ints
    value: Floats
    before_ms: Ints = np.empty(0, np.int64)
    before: Floats = np.empty(0)
    last: Ints | slice = slice(None)
    flags: npt.NDArray[np.uint8] = np.empty(0, np.uint8)

    def pick(self, at: Ints) -> "_Rows":
        """Take some rows; what was said before them has to be found anew."""
        return _Rows(
            self.slot.take(at), self.strand.take(at), self.time_ms.take(at), self.value.take(at)
        )


_NO_ROWS = _Rows(np.empty(0, np.int64), np.empty(0, np.int32), np.empty(0, np.int64), np.empty(0))


def _rising(rows: _Rows) -> Flags:
    """Tell which samples are newer than all before them of their series; rows are in order."""
    if not len(rows.slot):
        return np.zeros(0, bool)
    first = begins(rows.slot)
    span = int(rows.time_ms.max()) - int(rows.time_ms.min()) + 1
    # Each series gets a range of its own, so one running maximum serves them all.
    rank = (np.cumsum(first) - 1) * span + (rows.time_ms - rows.time_ms.min())
    before = np.concatenate(([-1], np.maximum.accumulate(rank)[:-1]))
    rising: Flags = rank > before
    return rising
