"""Foldings: how what strands have in a cell becomes the values of signals.

A rate is what was counted over the time in which any member was seen, so a gap in the data is no
dip, and a pod that is replaced takes its share along. A mean is that of the members' means.

Mostly the same strands have something in cell after cell. So what they are is found once, and again
only when others do (see `rewoven`).
"""

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from watchkeep.detectors.arrays import every, some, where
from watchkeep.detectors.columns import FOLDINGS, LATEST, NOWHERE
from watchkeep.detectors.quantiles import classic_quantiles, native_quantile
from watchkeep.detectors.roster import Roster
from watchkeep.schemas.signal import Folding

if TYPE_CHECKING:
    from watchkeep.detectors.cells import Open

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

# A cell that was seen for less than this share tells nothing.
_SEEN_MIN: Final = 0.25
# A member is compared with the others when it was seen for most of the cell.
_WHOLE: Final = 0.9


class Kin(NamedTuple):
    """Strands that are folded alike.

    Attributes:
        rows: int64[k], which ones of all that have something; `at`: int64[k], their slots.
        member: int64[k].
        slots: int64[s], their signals; `group`: int64[k], which of these each is of.
    """

    rows: Ints
    at: Ints
    member: Ints
    slots: Ints
    group: Ints


class Woven(NamedTuple):
    """Strands that have something in a cell, and what they are.

    Attributes:
        version, signals: of the roster, how many signals there were.
        has: bool by strand, whether it has something.
        at: int64[n], those that have; `signal`: int64[n], their signals.
        members: int32 by signal, how many members it is folded over.
        once: float64 by signal, of rates that count events, that of one event in a cell; else 0.
        rates, means: strands of these foldings.
        averages: sums that have a count; `mate`: int64, the strand of each one's count.
    """

    version: int
    signals: int
    has: Flags
    at: Ints
    signal: Ints
    members: npt.NDArray[np.int32]
    once: Floats
    rates: Kin
    means: Kin
    averages: Kin
    mate: Ints


class Told(NamedTuple):
    """What strands tell in a cell; NaN where there is nothing to tell.

    Attributes:
        value: float64 by signal.
        own: float64[n], what each strand shows by itself.
    """

    value: Floats
    own: Floats


def rewoven(known: Woven | None, roster: Roster, has: Flags, step_ms: int) -> Woven:
    """Tell what those strands are that have something, anew if it isn't as it was.

    Args:
        known: of the cell before.
        roster: who is who.
        has: bool by strand, whether it has something.
        step_ms: how wide the cell is; strands of other widths are left out.
    """
    if (
        known is not None
        and known.version == roster.version
        and known.signals == roster.signal_slots.used
        and every(known.has == has)
    ):
        return known
    return _woven(roster, has, step_ms)


def _woven(roster: Roster, has: Flags, step_ms: int) -> Woven:
    signals, count = roster.signals, roster.signal_slots.used
    signal_of = roster.strands["signal"]
    at = where((signal_of[: len(has)] != NOWHERE) & has)
    at = at.compress(signals["step_s"].take(signal_of.take(at)) * 1000 == step_ms)
    signal = signal_of.take(at).astype(np.int64)
    folding = signals["folding"].take(signal)
    members = np.bincount(signal, minlength=count).astype(np.int32)
    buckets = roster.buckets()
    for slots in (buckets.p99, buckets.p50):
        members[slots] = members[buckets.counted]

    rates, means, averages = (
        where(folding == FOLDINGS.index(kind))
        for kind in (Folding.RATE, Folding.MEAN, Folding.AVERAGE)
    )
    mates = roster.mates()
    averages = averages.compress(mates.take(at.take(averages)) != NOWHERE)
    return Woven(
        roster.version,
        count,
        has,
        at,
        signal,
        members,
        np.where(signals["events"][:count], 1000 / step_ms, 0.0),
        _kin(roster, at, rates),
        _kin(roster, at, means),
        _kin(roster, at, averages),
        mates.take(at.take(averages)),
    )


def _kin(roster: Roster, at: Ints, rows: Ints) -> Kin:
    at = at.take(rows)
    member = roster.strands["member"].take(at).astype(np.int64)
    slots, group = np.unique(roster.strands["signal"].take(at), return_inverse=True)
    return Kin(rows, at, member, slots.astype(np.int64), group)


def fold(roster: Roster, woven: Woven, cell: "Open", step_ms: int) -> Told:
    """Fold what strands have in a cell."""
    told = Told(np.full(woven.signals, np.nan), np.full(len(woven.at), np.nan))
    weighted = np.zeros(len(woven.has))
    weighted[woven.at] = cell.weighted.take(woven.at)
    _rates(woven.rates, weighted, cell, step_ms, told)
    _means(woven.means, weighted, cell, told)
    _averages(woven, weighted, told)
    _quantiles(roster, weighted, told)
    return told


def _rates(kin: Kin, weighted: Floats, cell: "Open", step_ms: int, told: Told) -> None:
    """Sum rates over members: what was counted over the time in which it could be."""
    rows, at, member, slots, group = kin
    counted, seen, count = weighted.take(at), cell.seen.take(member), len(slots)
    from_ms, to_ms = np.full(count, LATEST), np.zeros(count, np.int64)
    np.minimum.at(from_ms, group, cell.from_ms.take(member))
    np.maximum.at(to_ms, group, cell.to_ms.take(member))
    over_ms = np.minimum(np.bincount(group, seen, count), np.maximum(to_ms - from_ms, 0))
    enough = where(over_ms >= _SEEN_MIN * step_ms)
    total = np.bincount(group, counted, count)
    told.value[slots.take(enough)] = total.take(enough) / over_ms.take(enough)
    whole = where(seen >= _WHOLE * step_ms)
    told.own[rows.take(whole)] = counted.take(whole) / seen.take(whole)


def _means(kin: Kin, weighted: Floats, cell: "Open", told: Told) -> None:
    """Average gauges over members."""
    rows, at, _, slots, group = kin
    mean = weighted.take(at) / cell.covered.take(at)
    told.own[rows] = mean
    told.value[slots] = np.bincount(group, mean, len(slots)) / np.bincount(
        group, minlength=len(slots)
    )


def _averages(woven: Woven, weighted: Floats, told: Told) -> None:
    """Divide the sums of families by their counts, of all members and of each."""
    rows, at, _, slots, group = woven.averages
    if not len(rows):
        return
    sums, counts = weighted.take(at), weighted.take(woven.mate)
    total = np.bincount(group, counts, len(slots))
    some = where(total > 0)
    told.value[slots.take(some)] = np.bincount(group, sums, len(slots)).take(some) / total.take(
        some
    )
    busy = where(counts > 0)
    told.own[rows.take(busy)] = sums.take(busy) / counts.take(busy)


def _quantiles(roster: Roster, weighted: Floats, told: Told) -> None:
    """Find the quantiles of histograms, merged over members."""
    buckets = roster.buckets()
    if not len(buckets.at):
        return
    count = weighted.take(buckets.at)
    native = some(buckets.native)
    qs = (0.99, 0.5)
    for q, slots, found in zip(
        qs,
        (buckets.p99, buckets.p50),
        classic_quantiles(qs, buckets.layout, buckets.bound, count),
        strict=True,
    ):
        if native:
            own = native_quantile(q, buckets.layout, buckets.low, buckets.bound, count)
            np.copyto(found, own, where=buckets.native)
        told.value[slots] = found
