"""Fold: samples of many series become a few signals on a time grid.

Each sample stands for the time since the sample before it, at most `hold_s`: a counter's as the
rate over that time, a gauge's as its value. These stretches are spread over the cells that they
cover, and added to their strands (see roster) as they come. When a cell closes, a series that has
said nothing up to its end stands for its last rate or value while that is not older than `hold_s`.

Series whose value has never changed take no part: one more or less of them changes nothing. Only
those that begin after their signal has moved do, so that a deploy leaves no signal without a value.

Everything is columns; Python's loops run over new series and over cells, never over samples.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

from watchkeep.detectors.arrays import begins, every, some, unique, where
from watchkeep.detectors.cells import Cell, Grid, Open, Stretches
from watchkeep.detectors.columns import (
    COUNTS,
    FOLDINGS,
    LARGEST,
    META,
    MOVED,
    NEVER,
    NOWHERE,
    STILL,
    UNSURE,
)
from watchkeep.detectors.native import Samples, unfold
from watchkeep.detectors.roster import Roster
from watchkeep.detectors.rows import NO_ROWS, Rows, rising
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
# In these, a series that stays constant tells something too.
_PLAIN: Final = [FOLDINGS.index(folding) for folding in (Folding.RATE, Folding.MEAN)]


class Fold:
    """The series and signals of one cluster in one shard.

    Attributes:
        grids: by the width of their cells, in seconds.
        swept: when slots were last freed, in units of `EVERY_MS`.
        drops: samples that were not folded, by a named reason.
        blamed: by reason, whose sample was dropped last, and when.
    """

    def __init__(self, settings: Detect) -> None:
        self._grace_ms = round(settings.grace_s * 1000)
        self._hold_ms = round(settings.hold_s * 1000)
        self.roster = Roster(settings)
        self.grids: dict[int, Grid] = {}
        self.drops: Counter[str] = Counter()
        self.blamed: dict[str, tuple[str, int]] = {}
        self.swept = NEVER
        self._newest_ms = NEVER

    @property
    def nbytes(self) -> int:
        """Tell how much memory series and strands take, in open cells too."""
        cells = sum(cell.nbytes for cell in self._open_cells())
        return self.roster.nbytes + cells

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
        self._newest_ms = newest_ms
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
        first_ms = int(np.minimum.reduce(rows.time_ms))
        beats = self._beats(rows)
        stretches, stood = self._stretches(rows)
        steps = self.roster.steps
        for step_s in steps:
            grid = self.grids.get(step_s)
            if grid is None:
                grid = self.grids[step_s] = Grid(step_s * 1000)
            grid.begin(first_ms, newest_ms)
            grid.see(beats, self.roster)
            mine = self._of_step(stretches, step_s)
            grid.spread(mine, self.roster)
            if stood is not None:
                grid.spread(self._of_step(stood, step_s), self.roster)
            if first_ms <= grid.closed_ms and (late := grid.late(mine)):
                self.drops["late"] += late
                self.blamed["late"] = (self.roster.owner_of(int(stretches.owner[0])), newest_ms)

    def _of_step(self, stretches: Stretches, step_s: int) -> Stretches:
        """Take those that belong into cells of one width."""
        if len(self.roster.steps) == 1:
            return stretches
        signal = self.roster.strands["signal"].take(stretches.owner)
        return stretches.pick(where(self.roster.signals["step_s"].take(signal) == step_s))

    def close(self, time_ms: int) -> Iterator[Cell]:
        """Close the cells whose end lies a grace or more before `time_ms`, in order of ends."""
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

    def _rows(self, samples: Samples, newest_ms: int) -> Rows:
        """Take out what can be folded, each series' samples in order; count the rest by reason."""
        series_id, time_ms, value = samples
        found = self.roster.table.find(series_id)
        if not len(self.roster.table) or not len(found):
            self._drop("unknown_series", found < 0, None)
            return NO_ROWS
        slot = found.astype(np.int64)
        strand = self.roster.series["strand"].take(slot)
        odd = np.minimum.reduce(found) < 0 or np.minimum.reduce(strand) < 0
        if odd or np.minimum.reduce(time_ms) < 0 or np.maximum.reduce(time_ms) > newest_ms:
            watched = (found >= 0) & (strand >= 0)
            self._drop("unknown_series", found < 0, None)
            self._drop("clock_ahead", watched & (time_ms > newest_ms), strand)
            self._drop("before_1970", watched & (time_ms < 0), strand)
            at = where(watched & (time_ms >= 0) & (time_ms <= newest_ms))
            slot, strand = slot.take(at), strand.take(at)
            time_ms, value = time_ms.take(at), value.take(at)
        rows = Rows(slot, strand, time_ms, value)
        once = unique(slot, len(self.roster.series["last_ms"]))
        return self._once(rows) if once else self._in_order(rows)

    def _once(self, rows: Rows) -> Rows:
        """Find what each series said before, if each has one sample."""
        series = self.roster.series
        before_ms = series["last_ms"].take(rows.slot)
        newer = rows.time_ms > before_ms
        if not every(newer):
            self._drop("not_newer", ~newer, rows.strand)
            at = where(newer)
            rows, before_ms = rows.pick(at), before_ms.take(at)
        slot, strand, time_ms, value, *_ = rows
        before, flags = series["last_value"].take(slot), series["flags"].take(slot)
        return Rows(slot, strand, time_ms, value, before_ms, before, slice(None), flags)

    def _in_order(self, rows: Rows) -> Rows:
        """Sort rows by series, each one's as they came, and find what was said before each."""
        series = self.roster.series
        count = len(rows.slot)
        rows = rows.pick(np.sort(rows.slot * count + np.arange(count)) % count)
        newer = rising(rows) & (rows.time_ms > series["last_ms"].take(rows.slot))
        self._drop("not_newer", ~newer, rows.strand)
        rows = rows.pick(where(newer))
        first = begins(rows.slot)
        before_ms, before = np.roll(rows.time_ms, 1), np.roll(rows.value, 1)
        at = where(first)
        before_ms[at] = series["last_ms"].take(rows.slot.take(at))
        before[at] = series["last_value"].take(rows.slot.take(at))
        last = where(np.append(first[1:], len(first) > 0))
        flags = series["flags"].take(rows.slot)
        return rows._replace(before_ms=before_ms, before=before, last=last, flags=flags)

    def _drop(self, reason: str, flags: Flags, strand: Strands | None) -> None:
        if count := int(np.count_nonzero(flags)):
            self.drops[reason] += count
            whose = "" if strand is None else self.roster.owner_of(int(strand[flags.argmax()]))
            self.blamed[reason] = (whose, self._newest_ms)

    def _beats(self, rows: Rows) -> Stretches:
        """Find from when to when members were seen since they were seen last."""
        member = self.roster.strands["member"].take(rows.strand)
        if np.bitwise_or.reduce(rows.flags) & META or some(np.isnan(rows.value)):
            stale = rows.value.view(np.uint64) == _STALE
            meta = (rows.flags & META) != 0
            self._note_ends(member, rows.time_ms, stale & ~meta)
            member[stale | meta] = NOWHERE
        # A scrape's samples stand together and bear one time.
        at = where((begins(member) | begins(rows.time_ms)) & (member != NOWHERE))
        member, time_ms = member.take(at).astype(np.int64), rows.time_ms.take(at)
        # Buckets, which have no member, stand in between.
        at = where(begins(member) | begins(time_ms))
        member, time_ms = member.take(at), time_ms.take(at)
        members = self.roster.members
        if every(member[1:] > member[:-1]):
            before_ms = members["last_ms"].take(member)
        else:
            order = np.lexsort((time_ms, member))
            member, time_ms = member.take(order), time_ms.take(order)
            before_ms = members["last_ms"].take(member)
            # The one before is of another member where a member begins, and then doesn't count.
            again = where(~begins(member))
            before_ms[again] = np.maximum(before_ms.take(again), time_ms.take(again - 1))
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

    def _stretches(self, rows: Rows) -> tuple[Stretches, Stretches | None]:
        """Pair each sample with the one before it, and remember the last of each series.

        Returns:
            What moves, and what gauges that begin to move were until now.

        """
        slot, strand, time_ms, value, before_ms, before, last, flags = rows
        series = self.roster.series
        counts, awake = (flags & COUNTS) != 0, (flags & MOVED) != 0
        # Floats, as they are multiplied with values; they are exact.
        end_ms, since_ms = time_ms.astype(np.float64), before_ms.astype(np.float64)
        # Where there was no sample before, or one that is no number, the difference is NaN.
        with np.errstate(invalid="ignore", over="ignore"):
            delta = value - before
            increase = np.where(delta >= 0, delta, value)
            rate = increase * (1000 / (end_ms - since_ms))
            x = np.where(counts, rate, value)
            usable = np.isfinite(delta) & (np.abs(x) < LARGEST)
            held = np.where(counts, x, STILL).astype(np.float32)
        negative = value < 0
        if some(negative):
            usable &= ~(counts & negative)
        new = NO_ROWS.slot
        if not every(usable):
            self._tell_odd(rows, counts & negative)
            held[~usable] = np.nan
            new = where(before_ms == NEVER)
            self._note_born(new, rows)
        moved = usable & (delta != 0)
        newly = where(moved & ~awake)
        if len(newly):
            self._note_awake(newly, rows)
        if len(new) and self._join(new, rows):
            awake = (flags & MOVED) != 0
            newly = where(moved & ~awake)
        stood = None
        if len(newly):
            stood = self._stood(newly, rows, counts)
            self._set_moving(newly, rows)
            awake = (flags & MOVED) != 0
        if np.bitwise_or.reduce(flags) & UNSURE:
            unsure = where(moved & ((flags & UNSURE) != 0))
            self._watch_behaviour(unsure, strand, delta, value)

        at = slot[last]
        series["last_ms"][at], series["last_value"][at] = time_ms[last], value[last]
        series["held"][at] = held[last]

        at = where(usable & awake)
        begin_ms = np.maximum(since_ms, end_ms - self._hold_ms)
        owner = strand.take(at).astype(np.int64)
        return Stretches(owner, begin_ms.take(at), end_ms.take(at), x.take(at)), stood

    def _tell_odd(self, rows: Rows, negative: Flags) -> None:
        """Count what can't be used."""
        self._drop("negative_counter", negative, rows.strand)
        too_large = np.isfinite(rows.value) & (np.abs(rows.value) >= LARGEST)
        self._drop("too_large", too_large, rows.strand)

    def _note_born(self, new: Ints, rows: Rows) -> None:
        """Remember when signals were there first."""
        signal = self.roster.strands["signal"].take(rows.strand.take(new))
        np.minimum.at(self.roster.signals["born_ms"], signal, rows.time_ms.take(new))

    def _set_moving(self, newly: Ints, rows: Rows) -> None:
        """Have series take part from the row on that moves them for the first time."""
        slot, strand, before = rows.slot.take(newly), rows.strand.take(newly), rows.before
        self.roster.series["flags"][slot] |= MOVED
        since = np.full(len(self.roster.series["flags"]), len(rows.slot))
        since[slot[::-1]] = newly[::-1]
        rows.flags[np.arange(len(rows.slot)) >= since.take(rows.slot)] |= MOVED
        self._wake(strand, before.take(newly))

    def _stood(self, newly: Ints, rows: Rows, counts: Flags) -> Stretches | None:
        """Give gauges that move for the first time the value they had in cells that are open."""
        at = newly.compress(~counts.take(newly))
        # Of a series with several samples here, the first that moves is the one.
        at = at.compress(begins(rows.slot.take(at)))
        held = self.roster.series["held"].take(rows.slot.take(at))
        again = (at > 0) & (rows.slot.take(at - 1) == rows.slot.take(at))
        again &= rows.before_ms.take(at - 1) != NEVER
        known = np.abs(rows.before.take(at)) < LARGEST
        at = at.compress(known & ((held == STILL) | again))
        if not len(at):
            return None
        end_ms = rows.before_ms.take(at)
        return Stretches(rows.strand.take(at), end_ms - self._hold_ms, end_ms, rows.before.take(at))

    def _note_awake(self, newly: Ints, rows: Rows) -> None:
        """Remember when signals have moved first."""
        signal = self.roster.strands["signal"].take(rows.strand.take(newly))
        np.minimum.at(self.roster.signals["awake_ms"], signal, rows.time_ms.take(newly))

    def _join(self, new: Ints, rows: Rows) -> bool:
        """Have series take part at once that begin after their signal has moved.

        All that a new pod shows may be new and constant; one that never gets ready is told by that.
        """
        signals = self.roster.signals
        signal = self.roster.strands["signal"].take(rows.strand.take(new))
        later = signals["awake_ms"].take(signal) < rows.time_ms.take(new)
        new = new.compress(later & np.isin(signals["folding"].take(signal), _PLAIN))
        if len(new):
            self.roster.series["flags"][rows.slot.take(new)] |= MOVED
            rows.flags[:] = self.roster.series["flags"].take(rows.slot)
        return len(new) > 0

    def _wake(self, strand: Strands, before: Floats) -> None:
        """Have signals take part whose series move for the first time."""
        signals = self.roster.signals
        # What is written last stays, and that shall be the first that was.
        strand, before = strand[::-1], before[::-1]
        signal = self.roster.strands["signal"].take(strand)
        asleep = where(~signals["awake"].take(signal))
        signal = signal.take(asleep)
        mean = signals["folding"].take(signal) == FOLDINGS.index(Folding.MEAN)
        # What a newcomer began with isn't what the others have shown all along.
        member = self.roster.strands["member"].take(strand.take(asleep))
        begun_ms = self.roster.members["begun_ms"].take(member)
        newcomer = begun_ms > signals["born_ms"].take(signal) + self._hold_ms
        quiet = np.where(newcomer, np.nan, before.take(asleep))
        signals["quiet"][signal] = np.where(mean, quiet, signals["quiet"][signal])
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
        if rises.max(initial=0) < _RISES:
            return
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
