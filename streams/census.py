"""Census: what a shard watches now, from which series, and what it drops and why."""

from collections.abc import Iterator

import numpy as np

from watchkeep.detectors.columns import NOWHERE
from watchkeep.detectors.fold import Fold
from watchkeep.detectors.left_out import shown
from watchkeep.detectors.logtime import LogTime
from watchkeep.detectors.roster import Roster
from watchkeep.streams.catalogue import Catalogue, DroppedRow, FeedRow, RefusalRow, SenderRow
from watchkeep.streams.pipeline import Shard


def census(number: int, shard: Shard) -> Catalogue:
    """Count what a shard watches and drops."""
    folds = [shard.clusters[name].fold for name in sorted(shard.clusters)]
    return Catalogue(
        number,
        tuple(row for fold in folds for row in _feeds(fold.roster)),
        tuple(row for fold in folds for row in _dropped(fold.roster)),
        tuple(row for fold in folds for row in _refusals(fold)),
        tuple(_senders(shard.time)),
    )


def _feeds(roster: Roster) -> Iterator[FeedRow]:
    used = roster.signal_slots.used
    if not used:
        return
    strand = roster.series["strand"]
    fed = np.bincount(strand[strand >= 0], minlength=roster.strand_slots.used)
    signal = roster.strands["signal"][: roster.strand_slots.used]
    woven = signal != NOWHERE
    series = np.bincount(signal[woven], fed[: len(signal)][woven], used).astype(np.int64)
    members = np.bincount(signal[woven], minlength=used)
    # A family's quantiles are of the same buckets, and its members are those that count.
    buckets = roster.buckets()
    series[buckets.p50] = series[buckets.p99]
    for slots in (buckets.p50, buckets.p99):
        members[slots] = members[buckets.counted]
    signals = roster.signals
    for slot, watched in enumerate(roster.watched):
        if watched is None:
            continue
        value = float(signals["value"][slot])
        yield FeedRow(
            watched.signal.signal_id,
            int(series[slot]),
            int(members[slot]),
            not bool(signals["awake"][slot]),
            None if np.isnan(value) else value,
            max(0, int(signals["seen_ms"][slot])),
            watched.folded,
            shown(watched.example),
        )


def _dropped(roster: Roster) -> Iterator[DroppedRow]:
    strand = roster.series["strand"]
    count = np.bincount(-2 - strand[strand <= -2], minlength=len(roster.left_out.unwatched))
    for entry, series in zip(roster.left_out.unwatched, count.tolist(), strict=True):
        if series:
            example = shown(entry.example)
            yield DroppedRow(entry.entity, entry.metric, entry.reason, entry.why, series, example)


def _refusals(fold: Fold) -> Iterator[RefusalRow]:
    for (limit, entity), refused in fold.roster.left_out.refused.items():
        yield RefusalRow(entity, limit, refused.times, refused.example, refused.at_ms)
    for reason, count in fold.drops.items():
        whose, at_ms = fold.blamed.get(reason, ("", 0))
        yield RefusalRow("", reason, count, whose, at_ms)


def _senders(time: LogTime) -> Iterator[SenderRow]:
    for sender in time.senders.values():
        yield SenderRow(*sender, elected=time.counts(sender))
