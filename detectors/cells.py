"""Cells of the time grid: what strands add up to while one is open, and signals when it closes."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from watchkeep.detectors.absence import Absence, look
from watchkeep.detectors.arrays import every, grown, where
from watchkeep.detectors.columns import COUNTS, LARGEST, LATEST, MOVED, NEVER
from watchkeep.detectors.foldings import Woven, fold, rewoven
from watchkeep.detectors.roster import Roster
from watchkeep.detectors.siblings import Groups, Siblings, farthest, regrouped

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_MISSED_MS: Final = 7_200_000
_FIRST_SPAN_MS: Final = 3_600_000


class Stretches(NamedTuple):
    """Stretches of time, of strands or of members, and what they stand for in them."""

    owner: npt.NDArray[np.int32] | Ints
    begin_ms: Ints | Floats
    end_ms: Ints | Floats
    value: Floats

    def pick(self, at: Ints) -> "Stretches":
        """Take some."""
        return Stretches(
            self.owner.take(at), self.begin_ms.take(at), self.end_ms.take(at), self.value.take(at)
        )


class Cell(NamedTuple):
    """A closed cell of the grid.

    Attributes:
        begin_ms, step_ms: where it lies.
        slots: int64[n], the signals that have a value, ascending.
        value: float64[n].
        members: int32[n], members that the value is folded over.
        siblings: of each signal, the member farthest from the others.
        absence: whose members are missing; None in cells of a width of their own.
        woken: int64[m], signals that move for the first time, all of them in `slots`.
        quiet: float64[m], their value until then.
        slept: int64[m], for how many cells they had it.
    """

    begin_ms: int
    step_ms: int
    slots: Ints
    value: Floats
    members: npt.NDArray[np.int32]
    siblings: Siblings
    absence: Absence | None
    woken: Ints
    quiet: Floats
    slept: Ints

    @property
    def end_ms(self) -> int:
        """Where it ends."""
        return self.begin_ms + self.step_ms


@dataclass(slots=True)
class Open:
    """A cell that still takes samples.

    Attributes:
        weighted: float64 by strand, value x ms; `covered`: float64 by strand, ms.
        seen, from_ms, to_ms: by member, ms that it was seen, and from when to when.
    """

    weighted: Floats = field(default_factory=lambda: np.empty(0))
    covered: npt.NDArray[np.float32] = field(default_factory=lambda: np.empty(0, np.float32))
    seen: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    from_ms: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    to_ms: Ints = field(default_factory=lambda: np.empty(0, np.int64))

    @property
    def nbytes(self) -> int:
        """Tell how much memory it takes for strands."""
        return self.weighted.nbytes + self.covered.nbytes

    def grow(self, strands: int, members: int) -> None:
        """Make room."""
        if strands <= len(self.weighted) and members <= len(self.seen):
            return
        self.weighted, self.covered = (
            grown(self.weighted, strands, 0),
            grown(self.covered, strands, 0),
        )
        self.seen = grown(self.seen, members, 0)
        self.from_ms, self.to_ms = (
            grown(self.from_ms, members, LATEST),
            grown(self.to_ms, members, 0),
        )

    def add(self, strand: Ints, span_ms: Floats, value: Floats, strands: int) -> None:
        """Add what strands stand for; `strands` is how many slots of theirs are in use."""
        self.weighted[:strands] += np.bincount(strand, value * span_ms, strands)
        self.covered[:strands] += np.bincount(strand, span_ms, strands)

    def see(self, member: Ints, from_ms: Ints, span_ms: Ints) -> None:
        """Note that members were seen for so long from a time on; not at all if that is 0."""
        there = span_ms > 0
        if not every(there):
            at = where(there)
            member, from_ms, span_ms = member.take(at), from_ms.take(at), span_ms.take(at)
        np.add.at(self.seen, member, span_ms)
        np.minimum.at(self.from_ms, member, from_ms)
        np.maximum.at(self.to_ms, member, from_ms + span_ms)

    def forget(self, strands: Ints, members: Ints) -> None:
        """Make slots new again that are freed."""
        for column, slots in (
            (self.weighted, strands),
            (self.covered, strands),
            (self.seen, members),
        ):
            column[slots[slots < len(column)]] = 0
        members = members[members < len(self.from_ms)]
        self.from_ms[members], self.to_ms[members] = LATEST, 0


class Grid:
    """Cells of one width."""

    def __init__(self, step_ms: int) -> None:
        self.step_ms = step_ms
        self.next_cell = NEVER
        self.open: dict[int, Open] = {}
        # What was found for the last cell that closed, and most often serves the next.
        self._woven: Woven | None = None
        self._groups: Groups | None = None

    @property
    def next_end_ms(self) -> int:
        """Where the cell ends that closes next."""
        return (self.next_cell + 1) * self.step_ms

    def begin(self, first_ms: int, newest_ms: int) -> None:
        """Begin with the first sample; one from long ago doesn't open years of cells."""
        if self.next_cell == NEVER:
            self.next_cell = max(first_ms, newest_ms - _FIRST_SPAN_MS) // self.step_ms

    @property
    def closed_ms(self) -> int:
        """Up to where cells are closed."""
        return self.next_cell * self.step_ms

    def late(self, stretches: Stretches) -> int:
        """Count those that come too late for any cell."""
        return int(np.count_nonzero(stretches.end_ms <= self.closed_ms))

    def spread(self, stretches: Stretches, roster: Roster) -> None:
        """Add strands' stretches to the cells they cover."""
        strands = roster.strand_slots.used
        for index, strand, _, span_ms, value in self._cells(stretches):
            self._open(index, roster).add(strand, span_ms, value, strands)

    def see(self, beats: Stretches, roster: Roster) -> None:
        """Note when members were seen."""
        for index, member, from_ms, span_ms, _ in self._cells(beats):
            self._open(index, roster).see(member, from_ms, span_ms)

    def _cells(self, stretches: Stretches) -> Iterator[tuple[int, Any, Any, Any, Floats]]:
        """Cut stretches at the cells' bounds: owner, begin, length, value; newest cell first.

        Stretches that end before a cell begins may be among its own, with a length of 0.
        """
        owner, begin_ms, end_ms, value = stretches
        if not len(owner):
            return
        first_ms = np.minimum.reduce(begin_ms)
        while len(owner):
            index = (int(np.maximum.reduce(end_ms)) - 1) // self.step_ms
            if index < self.next_cell:
                return
            bound_ms = index * self.step_ms
            if first_ms >= bound_ms:
                yield index, owner, begin_ms, end_ms - begin_ms, value
                return
            span_ms = end_ms - (from_ms := np.maximum(begin_ms, bound_ms))
            if np.minimum.reduce(end_ms) < bound_ms:
                span_ms = np.maximum(span_ms, 0)
            yield index, owner, from_ms, span_ms, value
            earlier = begin_ms < bound_ms
            if not every(earlier):
                at = where(earlier)
                owner, begin_ms, value = owner.take(at), begin_ms.take(at), value.take(at)
                end_ms = end_ms.take(at)
            end_ms = np.minimum(end_ms, bound_ms)

    def _open(self, index: int, roster: Roster) -> Open:
        cell = self.open.get(index)
        if cell is None:
            cell = self.open[index] = Open()
        cell.grow(roster.strand_slots.used, roster.member_slots.used)
        return cell

    def close(self, roster: Roster, hold_ms: int, time_ms: int) -> Cell | None:
        """Close the next cell; None if no signal has a value in it.

        Args:
            roster: who is who.
            hold_ms: for how long a series stands for its last value.
            time_ms: how far log time has come: where nobody says anything, cells are skipped.
        """
        index = self.next_cell
        # For some time it is still told who is missing.
        silent = not self.open and not roster.heard_since(self.next_end_ms - hold_ms - _MISSED_MS)
        self.next_cell = max(index + 1, time_ms // self.step_ms - 1) if silent else index + 1
        if silent:
            return None
        cell = self._open(index, roster)
        del self.open[index]
        _hold(roster, cell, (index * self.step_ms, self.step_ms), hold_ms)
        return self._folded(roster, cell, index * self.step_ms, hold_ms)

    def _folded(self, roster: Roster, cell: Open, begin_ms: int, hold_ms: int) -> Cell | None:
        """Fold strands into signals."""
        has = cell.covered[: roster.strand_slots.used] > 0
        woven = self._woven = rewoven(self._woven, roster, has, self.step_ms)
        value, own = fold(roster, woven, cell, self.step_ms)
        comparable = np.isfinite(own)
        groups = self._groups = regrouped(self._groups, woven.signal, comparable, woven.signals)
        siblings = farthest(roster.strands, groups, woven.at, own, woven.once)

        members, absence = woven.members.copy(), None
        if self.step_ms == roster.step_ms:
            presence = look(roster, begin_ms + self.step_ms, hold_ms)
            value[presence.signal], members[presence.signal] = presence.value, presence.value
            absence = presence.absence

        signals = roster.signals
        known = signals["awake"][: len(value)] & (signals["from_ms"][: len(value)] <= begin_ms)
        slots = where(known & ~np.isnan(value))
        if not len(slots):
            return None
        new = slots.compress(signals["seen_ms"].take(slots) == NEVER)
        born_ms = signals["born_ms"].take(new)
        value = value.take(slots)
        signals["seen_ms"][slots], signals["value"][slots] = begin_ms, value
        return Cell(
            begin_ms,
            self.step_ms,
            slots,
            value,
            members.take(slots),
            siblings.of(slots),
            absence,
            new,
            signals["quiet"].take(new),
            np.maximum(begin_ms - born_ms, 0) // self.step_ms,
        )


def _hold(roster: Roster, cell: Open, span: tuple[int, int], hold_ms: int) -> None:
    """Fill the rest of the cell with what was said last."""
    begin_ms, step_ms = span
    end_ms = begin_ms + step_ms
    series = roster.series
    last_ms = series["last_ms"]
    moved = series["flags"] & MOVED != 0
    rows = where(moved & (last_ms < end_ms) & (last_ms >= end_ms - hold_ms))
    counts = series["flags"].take(rows) & COUNTS != 0
    value = np.where(counts, series["held"].take(rows), series["last_value"].take(rows))
    usable = np.abs(value) < LARGEST
    if not every(usable):
        rows, value = rows.compress(usable), value.compress(usable)
    strand = series["strand"].take(rows)
    span_ms = end_ms - np.maximum(last_ms.take(rows), begin_ms)
    strands = roster.strand_slots.used
    cell.add(strand.astype(np.int64), span_ms.astype(np.float64), value, strands)

    seen_ms, ended_ms = roster.members["last_ms"], roster.members["ended_ms"]
    lasts = (seen_ms >= ended_ms) | (ended_ms > end_ms)
    there = where((seen_ms < end_ms) & (seen_ms >= end_ms - hold_ms) & lasts)
    from_ms = np.maximum(seen_ms.take(there), begin_ms)
    cell.seen[there] += end_ms - from_ms
    cell.from_ms[there] = np.minimum(cell.from_ms[there], from_ms)
    cell.to_ms[there] = end_ms
