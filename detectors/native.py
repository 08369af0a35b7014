"""Native histograms become series like those of classic ones: a count, a sum, and their buckets.

A bucket appears when something falls into it for the first time; until then it was empty, so what
it begins with was counted since the histogram's last sample. Its series bear ids made of the
histogram's own, and stand beside all others from then on.
"""

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from watchkeep.detectors.arrays import begins, where
from watchkeep.detectors.roster import COUNTS, NEVER, NOWHERE, Place, Roster
from watchkeep.schemas.histograms import STALE_BITS, Histograms

Ids = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_COUNT, _SUM = np.uint64(0x9E37_79B9_7F4A_7C15), np.uint64(0xC2B2_AE3D_27D4_EB4F)
_MIX: Final = np.uint64(0xFF51_AFD7_ED55_8CCD)
_STALE: Final = np.uint64(STALE_BITS).view(np.float64)


class Samples(NamedTuple):
    """Samples of series."""

    series_id: Ids
    time_ms: Ints
    value: Floats


def unfold(roster: Roster, told: Histograms, newest_ms: int) -> Samples:
    """Write histograms as samples of series, which the roster learns here.

    Args:
        roster: it has learnt the histograms' own label sets; others are left out.
        told: histograms as they came.
        newest_ms: later ones are left out: their clock is ahead.
    """
    slot = roster.table.find(told.series_id).astype(np.int64)
    known = np.array([s in roster.natives for s in slot.tolist()], bool)
    at = where(known & (told.time_ms >= 0) & (told.time_ms <= newest_ms))
    # Each one's in order, as they came.
    at = at.take(np.argsort(slot.take(at), kind="stable"))
    told, slot = told.pick(at), slot.take(at)
    before_ms = _before(roster, slot, told.time_ms)
    at = where(told.time_ms > before_ms)
    told, slot, before_ms = told.pick(at), slot.take(at), before_ms.take(at)
    if not len(at):
        return _none()
    np.maximum.at(roster.series["last_ms"], slot, told.time_ms)

    owner = np.repeat(np.arange(len(slot)), told.buckets)
    bucket_id = _mixed(told.series_id.take(owner) ^ (told.upper.view(np.uint64) * _COUNT))
    ids = (_mixed(told.series_id ^ _COUNT), _mixed(told.series_id ^ _SUM), bucket_id)
    low = np.full(len(slot), np.nan)
    _learn(roster, _Parts(ids[0], slot, low, low, np.full(len(slot), NEVER)), _COUNT_OF)
    _learn(roster, _Parts(ids[1], slot, low, low, np.full(len(slot), NEVER)), _SUM_OF)
    parts = _Parts(bucket_id, slot.take(owner), told.lower, told.upper, before_ms.take(owner))
    _learn(roster, parts, _BUCKET_OF)
    ended = _ended(roster, told, slot, bucket_id)
    return Samples(
        np.concatenate([*ids, ended.series_id]),
        np.concatenate([told.time_ms, told.time_ms, told.time_ms.take(owner), ended.time_ms]),
        np.concatenate([told.count, told.sum, told.value, ended.value]),
    )


_COUNT_OF, _SUM_OF, _BUCKET_OF = range(3)


class _Parts(NamedTuple):
    """Series that histograms consist of, perhaps new ones; `slot` is the histogram's."""

    series_id: Ids
    slot: Ints
    lower: Floats
    upper: Floats
    before_ms: Ints


def _mixed(ids: Ids) -> Ids:
    mixed = ids * _MIX
    mixed ^= mixed >> np.uint64(33)
    return mixed | np.uint64(1)  # It is never 0.


def _before(roster: Roster, slot: Ints, time_ms: Ints) -> Ints:
    """Find when each histogram was told before, of those that stand one after the other."""
    first = begins(slot)
    before_ms = np.roll(time_ms, 1)
    before_ms[first] = roster.series["last_ms"].take(slot[first])
    return before_ms


def _learn(roster: Roster, parts: _Parts, what: int) -> None:
    """Make series of parts that are new."""
    new = where(roster.table.find(parts.series_id) < 0)
    if not len(new):
        return
    ids, first = np.unique(parts.series_id.take(new), return_index=True)
    rows = new.take(first)
    places = [
        _place(roster, int(parts.slot[row]), what, float(parts.lower[row]), float(parts.upper[row]))
        for row in rows.tolist()
    ]
    strands = roster.strands_of(places)
    slots = roster.table.add(ids).astype(np.int64)
    series = roster.series
    series.grow(roster.table.slots.used)
    series.reset(slots)
    series["strand"][slots] = [strands[place] for place in places]
    series["flags"][slots] = COUNTS
    if what == _BUCKET_OF:
        was_there = parts.before_ms.take(rows) != NEVER
        series["last_ms"][slots] = parts.before_ms.take(rows)
        series["last_value"][slots] = np.where(was_there, 0.0, np.nan)
        for row, slot in zip(rows.tolist(), slots.tolist(), strict=True):
            roster.natives[int(parts.slot[row])].buckets.append(slot)


def _place(roster: Roster, slot: int, what: int, lower: float, upper: float) -> Place:
    native = roster.natives[slot]
    if what == _BUCKET_OF:
        return Place(native.p99, NOWHERE, float(np.float32(upper)), float(np.float32(lower)))
    return Place(native.rate if what == _COUNT_OF else native.average, native.member)


def _ended(roster: Roster, told: Histograms, slot: Ints, bucket_id: Ids) -> Samples:
    """End the buckets that a histogram's last sample doesn't have: it ended, or began anew."""
    last = np.append(slot[1:] != slot[:-1], True)
    held = np.array([len(roster.natives[s].buckets) for s in slot.tolist()])
    ids: list[Ids] = []
    times: list[Ints] = []
    ends = np.cumsum(told.buckets.astype(np.int64))
    for row in where(last & (told.buckets < held)).tolist():
        mine = roster.table.ids.take(roster.natives[int(slot[row])].buckets)
        there = bucket_id[ends[row] - int(told.buckets[row]) : ends[row]]
        gone = mine[~np.isin(mine, there)]
        ids.append(gone)
        times.append(np.full(len(gone), told.time_ms[row]))
    if not ids:
        return _none()
    gone = np.concatenate(ids)
    return Samples(gone, np.concatenate(times), np.full(len(gone), _STALE))


def _none() -> Samples:
    return Samples(np.empty(0, np.uint64), np.empty(0, np.int64), np.empty(0))
