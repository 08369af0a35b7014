"""Cells of the time grid: what strands add up to while a cell is open, and signals when it closes.

A rate is what was counted over the time in which any member was seen, so a gap in the data is no
dip, and a pod that is replaced takes its share along. A mean is that of the members' means.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from watchkeep.detectors.absence import Absence, look
from watchkeep.detectors.arrays import grown, where
from watchkeep.detectors.columns import COUNTS, FOLDINGS, LARGEST, LATEST, MOVED, NEVER, NOWHERE
from watchkeep.detectors.quantiles import classic_quantiles, native_quantile
from watchkeep.detectors.roster import Roster
from watchkeep.detectors.siblings import Siblings, farthest
from watchkeep.schemas.signal import Folding

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_MISSED_MS: Final = 7_200_000
_FIRST_SPAN_MS: Final = 3_600_000
# A cell that was seen for less than this share tells nothing.
_SEEN_MIN: Final = 0.25
# A member is compared with the others when it was seen for most of the cell.
_WHOLE: Final = 0.9

_RATE, _MEAN, _AVERAGE = (
    FOLDINGS.index(folding) for folding in (Folding.RATE, Folding.MEAN, Folding.AVERAGE)
)


class Stretches(NamedTuple):
    """Stretches of time, of strands or of members, and what they stand for in them."""

    owner: npt.NDArray[np.int32] | Ints
    begin_ms: Ints
    end_ms: Ints
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
        self.weighted, self.covered = (
            grown(self.weighted, strands, 0),
            grown(self.covered, strands, 0),
        )
        self.seen = grown(self.seen, members, 0)
        self.from_ms, self.to_ms = (
            grown(self.from_ms, members, LATEST),
            grown(self.to_ms, members, 0),
        )

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

    @property
    def next_end_ms(self) -> int:
        """Where the cell ends that closes next."""
        return (self.next_cell + 1) * self.step_ms

    def begin(self, first_ms: int, newest_ms: int) -> None:
        """Begin with the first sample; one from long ago doesn't open years of cells."""
        if self.next_cell == NEVER:
            self.next_cell = max(first_ms, newest_ms - _FIRST_SPAN_MS) // self.step_ms

    def spread(self, stretches: Stretches, roster: Roster) -> int:
        """Add strands' stretches to the cells they cover; return how many came too late."""
        strands = roster.strand_slots.used
        for index, strand, _, span_ms, value in self._cells(stretches):
            cell = self._open(index, roster)
            cell.weighted[:strands] += np.bincount(strand, value * span_ms, strands)
            cell.covered[:strands] += np.bincount(strand, span_ms, strands)
        closed_ms = self.next_cell * self.step_ms
        return int(np.count_nonzero(stretches.end_ms <= closed_ms))

    def see(self, beats: Stretches, roster: Roster) -> None:
        """Note when members were seen."""
        for index, *stretch, _ in self._cells(beats):
            cell = self._open(index, roster)
            at = where(stretch[2] > 0)
            member, from_ms, span_ms = (column.take(at) for column in stretch)
            np.add.at(cell.seen, member, span_ms)
            np.minimum.at(cell.from_ms, member, from_ms)
            np.maximum.at(cell.to_ms, member, from_ms + span_ms)

    def _cells(self, stretches: Stretches) -> Iterator[tuple[int, Any, Ints, Ints, Floats]]:
        """Cut stretches at the cells' bounds: owner, begin, length, value; newest cell first.

        Stretches that end before a cell begins may be among its own, with a length of 0.
        """
        owner, begin_ms, end_ms, value = stretches
        while len(owner):
            index = (int(end_ms.max()) - 1) // self.step_ms
            if index < self.next_cell:
                return
            bound_ms = index * self.step_ms
            from_ms = np.maximum(begin_ms, bound_ms)
            yield index, owner, from_ms, np.maximum(end_ms - from_ms, 0), value
            at = (begin_ms < bound_ms).nonzero()[0]
            owner, begin_ms, value = owner.take(at), begin_ms.take(at), value.take(at)
            end_ms = np.minimum(end_ms.take(at), bound_ms)

    def _open(self, index: int, roster: Roster) -> Open:
        cell = self.open.setdefault(index, Open())
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
        return _folded(roster, cell, (index * self.step_ms, self.step_ms), hold_ms)


def _hold(roster: Roster, cell: Open, span: tuple[int, int], hold_ms: int) -> None:
    """Fill the rest of the cell with what was said last."""
    begin_ms, step_ms = span
    end_ms = begin_ms + step_ms
    series = roster.series
    last_ms = series["last_ms"]
    rows = where((last_ms < end_ms) & (last_ms >= end_ms - hold_ms))
    flags = series["flags"].take(rows)
    value = np.where(flags & COUNTS, series["held"].take(rows), series["last_value"].take(rows))
    keep = where((flags & MOVED != 0) & (np.abs(value) < LARGEST))
    rows, value = rows.take(keep), value.take(keep)
    strand = series["strand"].take(rows)
    span_ms = end_ms - np.maximum(last_ms.take(rows), begin_ms)
    strands = roster.strand_slots.used
    cell.weighted[:strands] += np.bincount(strand, value * span_ms, strands)
    cell.covered[:strands] += np.bincount(strand, span_ms, strands)

    seen_ms, ended_ms = roster.members["last_ms"], roster.members["ended_ms"]
    lasts = (seen_ms >= ended_ms) | (ended_ms > end_ms)
    there = where((seen_ms < end_ms) & (seen_ms >= end_ms - hold_ms) & lasts)
    from_ms = np.maximum(seen_ms.take(there), begin_ms)
    cell.seen[there] += end_ms - from_ms
    cell.from_ms[there] = np.minimum(cell.from_ms[there], from_ms)
    cell.to_ms[there] = end_ms


def _folded(roster: Roster, cell: Open, span: tuple[int, int], hold_ms: int) -> Cell | None:
    """Fold strands into signals."""
    begin_ms, step_ms = span
    strands = _there(roster, cell, step_ms)
    signals = roster.signals
    value = np.full(roster.signal_slots.used, np.nan)
    members = np.bincount(strands.signal, minlength=len(value)).astype(np.int32)
    own = np.full(len(strands.signal), np.nan)  # What each strand says by itself.
    _rates(strands, cell, step_ms, value, own)
    _means(strands, value, own)
    _averages(strands, roster, value, own)
    _quantiles(strands, roster, value, members)

    once = np.where(signals["events"][: len(value)], 1000 / step_ms, 0.0)
    siblings = farthest(roster.strands, strands.at, strands.signal, own, once)

    absence = None
    if step_ms == roster.step_ms:
        presence = look(roster, begin_ms + step_ms, hold_ms)
        value[presence.signal], members[presence.signal] = presence.value, presence.value
        absence = presence.absence

    known = ~np.isnan(value) & (signals["from_ms"][: len(value)] <= begin_ms)
    slots = where(known & signals["awake"][: len(value)])
    if not len(slots):
        return None
    new = slots.compress(signals["seen_ms"].take(slots) == NEVER)
    born_ms = signals["born_ms"].take(new)
    signals["seen_ms"][slots], signals["value"][slots] = begin_ms, value.take(slots)
    return Cell(
        begin_ms,
        step_ms,
        slots,
        value.take(slots),
        members.take(slots),
        siblings.of(slots),
        absence,
        new,
        signals["quiet"].take(new),
        np.maximum(begin_ms - born_ms, 0) // step_ms,
    )


class _Strands(NamedTuple):
    """The strands that have something in a cell."""

    at: Ints
    signal: Ints
    member: Ints
    folding: npt.NDArray[np.uint8]
    weighted: Floats
    covered: Floats


def _there(roster: Roster, cell: Open, step_ms: int) -> _Strands:
    used = roster.strand_slots.used
    signal = roster.strands["signal"][:used]
    at = where((signal != NOWHERE) & (cell.covered[:used] > 0))
    of_step = roster.signals["step_s"].take(signal.take(at)) * 1000 == step_ms
    at = at.compress(of_step)
    signal = signal.take(at).astype(np.int64)
    return _Strands(
        at,
        signal,
        roster.strands["member"].take(at).astype(np.int64),
        roster.signals["folding"].take(signal),
        cell.weighted.take(at),
        cell.covered.take(at).astype(np.float64),
    )


def _rates(strands: _Strands, cell: Open, step_ms: int, value: Floats, own: Floats) -> None:
    """Sum rates over members: what was counted over the time in which it could be."""
    at = where(strands.folding == _RATE)
    signal, member = strands.signal.take(at), strands.member.take(at)
    weighted = strands.weighted.take(at)
    seen = cell.seen.take(member)
    count = len(value)
    total = np.bincount(signal, weighted, count)
    from_ms, to_ms = np.full(count, LATEST), np.zeros(count, np.int64)
    np.minimum.at(from_ms, signal, cell.from_ms.take(member))
    np.maximum.at(to_ms, signal, cell.to_ms.take(member))
    over_ms = np.minimum(np.bincount(signal, seen, count), np.maximum(to_ms - from_ms, 0))
    enough = over_ms >= _SEEN_MIN * step_ms
    value[enough] = total[enough] / over_ms[enough]
    whole = where(seen >= _WHOLE * step_ms)
    own[at.take(whole)] = weighted.take(whole) / seen.take(whole)


def _means(strands: _Strands, value: Floats, own: Floats) -> None:
    """Average gauges over members."""
    at = where(strands.folding == _MEAN)
    signal = strands.signal.take(at)
    mean = strands.weighted.take(at) / strands.covered.take(at)
    own[at] = mean
    count = np.bincount(signal, minlength=len(value))
    some = where(count > 0)
    value[some] = np.bincount(signal, mean, len(value))[some] / count[some]


def _averages(strands: _Strands, roster: Roster, value: Floats, own: Floats) -> None:
    """Divide the sums of families by their counts, of all members and of each."""
    at = where(strands.folding == _AVERAGE)
    if not len(at):
        return
    counted = np.zeros(roster.strand_slots.used)
    counted[strands.at] = strands.weighted
    mate = roster.mates().take(strands.at.take(at))
    paired = where(mate != NOWHERE)
    at, mate = at.take(paired), mate.take(paired)
    signal, sums, counts = strands.signal.take(at), strands.weighted.take(at), counted.take(mate)
    total = np.bincount(signal, counts, len(value))
    some = where(total > 0)
    value[some] = np.bincount(signal, sums, len(value))[some] / total[some]
    busy = where(counts > 0)
    own[at.take(busy)] = sums.take(busy) / counts.take(busy)


def _quantiles(
    strands: _Strands, roster: Roster, value: Floats, members: npt.NDArray[np.int32]
) -> None:
    """Find the quantiles of histograms, merged over members."""
    buckets = roster.buckets()
    if not len(buckets.at):
        return
    count = np.zeros(roster.strand_slots.used)
    count[strands.at] = strands.weighted
    count = count.take(buckets.at)
    qs = (0.99, 0.5)
    for q, slots, found in zip(
        qs,
        (buckets.p99, buckets.p50),
        classic_quantiles(qs, buckets.layout, buckets.bound, count),
        strict=True,
    ):
        if buckets.native.any():
            own = native_quantile(q, buckets.layout, buckets.low, buckets.bound, count)
            np.copyto(found, own, where=buckets.native)
        value[slots] = found
        members[slots] = members[buckets.counted]
