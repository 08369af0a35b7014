"""What a person on call gets from alarms: alerts, true and false, and faults found in time.

An alert is a run of alarms that are at most 10 rows apart; a long run fires again every 30 rows, so
that an alarm that is always on is many alerts. An alert is true if it overlaps a labelled segment.
Only rows from `split` on are scored; what was alarmed before is not counted at all.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from corpora import Bools, Floats, Longs, Recorded

MERGED_ROWS: Final = 10
REFIRED_ROWS: Final = 30
SOON_ROWS: Final = 8  # A fault found later than this is missed, where faults are short.


class Tally(NamedTuple):
    """Counts of one record, or their sums over several.

    Attributes:
        alerts: fired in the scored part.
        true_alerts: those that overlap a labelled segment.
        segments: labelled ones in the scored part.
        found: segments that were alarmed (in time, where that is asked).
        weeks: of the scored part.
        true_rows: rows of segments that were alarmed within their first 8 rows.
        missed_rows: rows of the other segments.
        false_rows: alarms outside segments.
    """

    alerts: float
    true_alerts: float
    segments: float
    found: float
    weeks: float
    true_rows: float
    missed_rows: float
    false_rows: float


def level(budget: float) -> float:
    """Tell the rarity from which on a row is an alarm, at a budget of alerts a week."""
    return float(-np.log10(budget))


def alerts(alarm: Bools) -> Longs:
    """Make alerts of alarms: bool[T] -> int64[n, 2], rows [begin, end)."""
    rows = np.flatnonzero(alarm)
    if not len(rows):
        return np.empty((0, 2), np.int64)
    apart = np.flatnonzero(np.diff(rows) > MERGED_ROWS)
    first, last = rows[np.append(0, apart + 1)], rows[np.append(apart, len(rows) - 1)]
    fired = (last - first) // REFIRED_ROWS + 1
    again = np.arange(fired.sum()) - np.repeat(fired.cumsum() - fired, fired)
    begin = np.repeat(first, fired) + REFIRED_ROWS * again
    end = np.minimum(begin + REFIRED_ROWS, np.repeat(last, fired) + 1)
    return np.stack([begin, end], axis=1)


def overlapping(spans: Longs, segments: Longs) -> Bools:
    """Tell of each span if it overlaps a segment.

    Args:
        spans: int64[n, 2], rows [begin, end).
        segments: int64[m, 2], likewise, ascending and disjoint.

    Returns:
        bool[n].
    """
    if not len(segments):
        return np.zeros(len(spans), bool)
    following = np.searchsorted(segments[:, 1], spans[:, 0], side="right")
    begin = np.append(segments[:, 0], np.iinfo(np.int64).max)[following]
    return np.asarray(begin < spans[:, 1])


def tally(
    record: Recorded, rarity: Floats, threshold: float, soon_rows: int | None = None
) -> Tally:
    """Count one record's alerts at a threshold.

    Args:
        record: what was recorded.
        rarity: float64[T]; NaN and -inf are never alarms.
        threshold: alarms are rarities from here on; see `level`.
        soon_rows: a segment is found if an alarm is among so many of its first rows; None: anywhere
            in it.
    """
    assert rarity.shape == record.time_ms.shape, record.name
    alarm = rarity[record.split :] >= threshold
    segments = record.scored_segments
    fired = alerts(alarm)
    begin, end = segments.T
    counted = np.append(0, alarm.cumsum())
    soon = counted[np.minimum(begin + SOON_ROWS, end)] > counted[begin]
    limit = end if soon_rows is None else np.minimum(begin + soon_rows, end)
    return Tally(
        alerts=len(fired),
        true_alerts=int(overlapping(fired, segments).sum()),
        segments=len(segments),
        found=int((counted[limit] > counted[begin]).sum()),
        weeks=record.scored_weeks,
        true_rows=int((end - begin)[soon].sum()),
        missed_rows=int((end - begin)[~soon].sum()),
        false_rows=int(counted[-1] - (counted[end] - counted[begin]).sum()),
    )


def table(tallies: Sequence[Tally]) -> Floats:
    """Lay tallies out for sums: float64[records, fields]."""
    return np.array(tallies, np.float64).reshape(-1, len(Tally._fields))


def event_f1(sums: Floats) -> Floats:
    """Find the F1 of alerts' precision and segments' recall; 0 where nothing is right.

    Args:
        sums: float64[..., fields] as `table` lays them out, summed over records.

    Returns:
        float64[...].
    """
    of = Tally(*np.moveaxis(sums, -1, 0))
    precision, found = _share(of.true_alerts, of.alerts), _share(of.found, of.segments)
    return _share(2 * precision * found, precision + found)


def delay7_f1(total: Tally) -> float:
    """Find the F1 of rows as papers on the KPI corpus adjust it.

    A segment alarmed within its first 8 rows counts as if all its rows were; any other as if none
    were. It rewards thresholds that nobody could live with, and is only for comparing with papers.
    """
    wrong = total.missed_rows + total.false_rows
    return float(_share(2 * total.true_rows, 2 * total.true_rows + wrong))


def recall(total: Tally) -> float:
    """Tell the share of segments that were found."""
    return float(_share(total.found, total.segments))


def precision(total: Tally) -> float:
    """Tell the share of alerts that were true."""
    return float(_share(total.true_alerts, total.alerts))


def false_a_week(total: Tally) -> float:
    """Tell how many false alerts an entity had a week."""
    return float(_share(total.alerts - total.true_alerts, total.weeks))


def within_factor(tallies: Sequence[Tally], budget: float, factor: float = 3.0) -> float:
    """Tell the share of records that got about the false alerts that were asked.

    A record of so many weeks should get budget x weeks. It is within the factor if its count is
    from that number divided by the factor to that number multiplied by it, both limits rounded
    outwards to whole alerts: one alert more or less is chance. So where less than `factor` alerts
    were due, having none is within; where more were due, having none is not.
    """
    of = table(tallies)
    count, due = of[:, 0] - of[:, 1], budget * of[:, 4]
    within = (count >= np.floor(due / factor)) & (count <= np.ceil(due * factor))
    return float(within.mean())


def total(tallies: Sequence[Tally]) -> Tally:
    """Add tallies up."""
    return Tally(*table(tallies).sum(axis=0).tolist())


def _share(part: Floats | float, whole: Floats | float) -> Floats:
    """Divide, 0 where there is nothing to divide by."""
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    return np.divide(part, whole, out=np.zeros(np.broadcast(part, whole).shape), where=whole > 0)
