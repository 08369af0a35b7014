"""Native histograms become series like those of classic ones: a count, a sum, and their buckets.

A sample has only the buckets that are populated. One that the sample before didn't have was empty
then, and begins at 0; one that it had and this hasn't is empty again, as after a restart. But
where more appears at once than was counted since, the bounds were drawn anew, and the new buckets
begin with what they have.

The count and the sum are the series of the classic form, so a family that is sent in both is
counted once. Buckets bear ids made of the histogram's own and their bounds.
"""

from collections import Counter
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from watchkeep.detectors.arrays import begins, where
from watchkeep.detectors.columns import COUNTS, KIND_SHIFT, NEVER, NOWHERE
from watchkeep.detectors.places import Place
from watchkeep.detectors.roster import Roster
from watchkeep.schemas.frame import Frame
from watchkeep.schemas.histograms import STALE_BITS, Histograms

Ids = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

# Senders keep to some 160 buckets at a time; others appear as values wander.
BUCKETS_MAX: Final = 400
LIMIT: Final = "buckets_per_histogram"

_UPPER, _LOWER = np.uint64(0x9E37_79B9_7F4A_7C15), np.uint64(0xC2B2_AE3D_27D4_EB4F)
_MIX: Final = np.uint64(0xFF51_AFD7_ED55_8CCD)
_STALE: Final = np.uint64(STALE_BITS).view(np.float64)
# Sums of fractions are inexact.
_ROUNDING: Final = 1e-9


class Samples(NamedTuple):
    """Samples of series."""

    series_id: Ids
    time_ms: Ints
    value: Floats


class _Told(NamedTuple):
    """Histograms that are folded, each series' in order, and what it said before.

    Attributes:
        slot: of the histogram's own series.
        first, last: whether it is the first or the last of its series here.
        before: the count.
    """

    all: Histograms
    slot: Ints
    first: Flags
    last: Flags
    before_ms: Ints
    before: Floats


class _Buckets(NamedTuple):
    """Buckets with their slots, and the number of the histogram that each is of."""

    slot: Ints
    row: Ints
    series_id: Ids
    value: Floats


def unfold(roster: Roster, frame: Frame, newest_ms: int, drops: Counter[str]) -> Samples:
    """Write a frame's histograms as samples of series, which the roster learns here.

    Args:
        roster: it has learnt the histograms' own label sets; others are left out.
        frame: a data frame.
        newest_ms: later histograms are left out: their clock is ahead.
        drops: counts those that are left out, by reason.

    Returns:
        Each series' samples in order of time.

    """
    if not len(roster.table):
        drops["unknown_series"] += len(frame.histograms.series_id)
        return _NONE
    told = _told(roster, frame.histograms, newest_ms, drops)
    if not len(told.slot):
        return _NONE
    buckets = _learn_buckets(roster, told)
    parts = [
        *_totals(roster, told, frame),
        Samples(buckets.series_id, told.all.time_ms.take(buckets.row), buckets.value),
        *_changes(roster, told, buckets),
    ]
    series, at = roster.series, where(told.last)
    series["last_ms"][told.slot.take(at)] = told.all.time_ms.take(at)
    series["last_value"][told.slot.take(at)] = told.all.count.take(at)
    samples = Samples._make(map(np.concatenate, zip(*parts, strict=True)))
    order = np.argsort(samples.time_ms, kind="stable")
    return Samples._make(column.take(order) for column in samples)


def _told(roster: Roster, told: Histograms, newest_ms: int, drops: Counter[str]) -> _Told:
    """Take out what can be folded, and count the rest by reason."""
    slot = roster.table.find(told.series_id).astype(np.int64)
    native = np.array([s in roster.natives for s in slot.tolist()], bool)
    watched = (slot >= 0) & (roster.series["strand"].take(slot, mode="clip") >= 0)
    ahead, early = told.time_ms > newest_ms, told.time_ms < 0
    at = where(native & ~ahead & ~early)
    at = at.take(np.argsort(slot.take(at), kind="stable"))
    time_ms = told.time_ms.take(at)
    newer = time_ms > roster.series["last_ms"].take(slot.take(at))
    newer &= _rising(slot.take(at), time_ms)
    for reason, flags in (
        ("unknown_series", slot < 0),
        ("no_histogram", watched & ~native),
        ("clock_ahead", native & ahead),
        ("before_1970", native & early),
        ("not_newer", ~newer),
    ):
        if count := int(np.count_nonzero(flags)):
            drops[reason] += count
    at = at.compress(newer)
    told, slot = told.pick(at), slot.take(at)
    first = begins(slot)
    last = np.append(first[1:], True)[: len(first)]
    before_ms, before = np.roll(told.time_ms, 1), np.roll(told.count, 1)
    before_ms[first] = roster.series["last_ms"].take(slot.compress(first))
    before[first] = roster.series["last_value"].take(slot.compress(first))
    return _Told(told, slot, first, last, before_ms, before)


def _rising(slot: Ints, time_ms: Ints) -> Flags:
    """Tell which are newer than all before them of their series; none is before 1970."""
    if not len(slot):
        return np.zeros(0, bool)
    # Each series gets a range of its own, so one running maximum serves them all.
    rank = (np.cumsum(begins(slot)) - 1) * (int(time_ms.max()) + 1) + time_ms
    rising: Flags = rank > np.concatenate(([-1], np.maximum.accumulate(rank)[:-1]))
    return rising


def _totals(roster: Roster, told: _Told, frame: Frame) -> list[Samples]:
    """Give counts and sums, but those that the classic form tells."""
    natives = [roster.natives[slot] for slot in told.slot.tolist()]
    parts = []
    for ids, signals, value in (
        ([n.count_id for n in natives], [n.rate for n in natives], told.all.count),
        ([n.sum_id for n in natives], [n.average for n in natives], told.all.sum),
    ):
        series_id = np.array(ids, np.uint64)
        new = where(roster.table.find(series_id) < 0)
        new = new.take(np.unique(series_id.take(new), return_index=True)[1])
        places = [Place(signals[row], natives[row].member) for row in new.tolist()]
        _learn(roster, series_id.take(new), places)
        slot = roster.table.find(series_id).astype(np.int64)
        own = told.all.time_ms > roster.series["last_ms"].take(slot)
        # What was learnt here is of no kind, until the classic form tells its own.
        if (roster.series["flags"].take(slot) >> KIND_SHIFT != 0).any():
            own &= ~np.isin(series_id, frame.series_id)
        at = where(own)
        parts.append(Samples(series_id.take(at), told.all.time_ms.take(at), value.take(at)))
    return parts


def _learn(roster: Roster, ids: Ids, places: list[Place]) -> list[int]:
    """Make series that are new, each once, and give their slots."""
    if not places:
        return []
    strands = roster.strands_of(places)
    slots = roster.table.add(ids).astype(np.int64)
    series = roster.series
    series.grow(roster.table.slots.used)
    series.reset(slots)
    series["strand"][slots] = [strands[place] for place in places]
    series["flags"][slots] = COUNTS
    made: list[int] = slots.tolist()
    return made


def _learn_buckets(roster: Roster, told: _Told) -> _Buckets:
    """Make series of buckets that are new, while a histogram hasn't too many."""
    every = told.all
    row = np.repeat(np.arange(len(told.slot)), every.buckets)
    ids = _mixed(every.series_id.take(row) ^ (every.upper.view(np.uint64) * _UPPER))
    ids = _mixed(ids ^ (every.lower.view(np.uint64) * _LOWER))
    new = where(roster.table.find(ids) < 0)
    if len(new):
        new = np.sort(new.take(np.unique(ids.take(new), return_index=True)[1]))
        new = _within_limit(roster, told.slot.take(row.take(new)), new)
        owners = told.slot.take(row.take(new)).tolist()
        ends = (_float32(every.lower.take(new)), _float32(every.upper.take(new)))
        places = [
            Place(roster.natives[owner].p99, NOWHERE, upper, lower)
            for owner, lower, upper in zip(owners, *ends, strict=True)
        ]
        for owner, made in zip(owners, _learn(roster, ids.take(new), places), strict=True):
            roster.natives[owner].buckets.append(made)
    slot = roster.table.find(ids).astype(np.int64)
    at = where(slot >= 0)
    return _Buckets(slot.take(at), row.take(at), ids.take(at), every.value.take(at))


def _mixed(ids: Ids) -> Ids:
    mixed = ids * _MIX
    mixed ^= mixed >> np.uint64(33)
    return mixed | np.uint64(1)  # It is never 0.


def _float32(bounds: Floats) -> list[float]:
    with np.errstate(over="ignore", under="ignore"):
        rounded: list[float] = bounds.astype(np.float32).astype(np.float64).tolist()
    return rounded


def _within_limit(roster: Roster, owner: Ints, new: Ints) -> Ints:
    """Let so many new buckets in as their histograms may have; they stand by histogram."""
    first = where(begins(owner))
    sizes = np.diff(first, append=len(owner))
    natives = [roster.natives[slot] for slot in owner.take(first).tolist()]
    room = np.array([BUCKETS_MAX - len(native.buckets) for native in natives])
    for native, over in zip(natives, (sizes - room).tolist(), strict=True):
        if over > 0:
            signal = roster.signal(native.p99)
            roster.refuse(LIMIT, signal.entity, signal.title, over)
    number = np.arange(len(owner)) - np.repeat(first, sizes)
    return new.compress(number < np.repeat(room, sizes))


def _changes(roster: Roster, told: _Told, buckets: _Buckets) -> list[Samples]:
    """Have buckets begin that were empty before, and those end that are gone."""
    series = roster.series
    # A bucket's code in the histogram after is one more.
    codes_of = len(told.slot) + 1
    code = buckets.slot * codes_of + buckets.row
    there = np.sort(code)
    last_ms = series["last_ms"].take(buckets.slot)
    first = told.first.take(buckets.row)
    before_ms = told.before_ms.take(buckets.row)
    in_step = first & (last_ms == before_ms)
    had = np.where(
        first, in_step & (series["last_value"].take(buckets.slot) > 0), _among(code - 1, there)
    )

    next_code = code.compress(~told.last.take(buckets.row)) + 1
    left = next_code.compress(~_among(next_code, there))
    emptied = _emptied(
        roster, told, np.bincount(buckets.row.compress(had), minlength=len(told.slot))
    )
    gone = np.concatenate([left, *(mine * codes_of + row for row, mine in emptied)])
    gone = np.unique(gone.compress(~_among(gone, there)))

    stale = told.before.view(np.uint64) == STALE_BITS
    appeared = np.bincount(buckets.row, np.where(had, 0, buckets.value), len(told.slot))
    with np.errstate(invalid="ignore"):
        counted = told.all.count - told.before
        counted = np.where(counted < 0, told.all.count, counted)
        redrawn = appeared > counted + told.all.count * _ROUNDING
    begin = np.where(stale | redrawn, _STALE, 0.0).take(buckets.row)
    new = ~had & ~in_step & (before_ms != NEVER) & ~_among(code - 1, gone)
    # One that was there long ago begins anew; that is no sample, as nothing was told of it.
    again = where(new & first & (last_ms != NEVER))
    series["last_ms"][buckets.slot.take(again)] = before_ms.take(again)
    series["last_value"][buckets.slot.take(again)] = begin.take(again)
    at = where(new & ~(first & (last_ms != NEVER)))

    row = gone % codes_of
    ended = told.all.count.view(np.uint64).take(row) == STALE_BITS
    return [
        Samples(buckets.series_id.take(at), before_ms.take(at), begin.take(at)),
        Samples(
            roster.table.ids.take(gone // codes_of),
            told.all.time_ms.take(row),
            np.where(ended, _STALE, 0.0),
        ),
    ]


def _among(codes: Ints, ordered: Ints) -> Flags:
    """Tell which codes are among those in order."""
    if not len(ordered):
        return np.zeros(len(codes), bool)
    found: Flags = ordered.take(np.searchsorted(ordered, codes), mode="clip") == codes
    return found


def _emptied(roster: Roster, told: _Told, had: Ints) -> list[tuple[int, Ints]]:
    """Give the buckets that histograms had before this frame, where they may have fewer now."""
    rows = where(told.first)
    held = np.array([len(roster.natives[slot].buckets) for slot in told.slot[rows].tolist()])
    series, found = roster.series, []
    for row in rows.compress(had.take(rows) < held).tolist():
        mine = np.array(roster.natives[int(told.slot[row])].buckets)
        then = series["last_ms"].take(mine) == told.before_ms[row]
        found.append((row, mine.compress(then & (series["last_value"].take(mine) > 0))))
    return found


_NONE: Final = Samples(np.empty(0, np.uint64), np.empty(0, np.int64), np.empty(0))
