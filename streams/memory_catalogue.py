"""What is watched and what isn't, in dictionaries."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence

import numpy as np

from watchkeep.streams.catalogue import Catalogue, DroppedRow, RefusalRow, SenderRow
from watchkeep.streams.lookup import Count, Heard, LastCell, Warmth, Watched, by_name
from watchkeep.streams.ports import Clock
from watchkeep.streams.stores import Rollups, SignalRow


def known(value: float) -> float | None:
    """Tell a value that was computed from NaN."""
    return value if value == value else None  # noqa: PLR0124 - NaN.


class MemoryCatalogue:
    """The part of the in-memory store that tells what is watched.

    Attributes:
        signals: by id.
        catalogues: by shard.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.signals: dict[int, SignalRow] = {}
        self.catalogues: dict[int, Catalogue] = {}
        self._last: dict[int, LastCell] = {}
        self._told_ms: dict[int, int] = {}
        self._cells: dict[int, set[int]] = defaultdict(set)

    def _note(self, batch: Rollups) -> None:
        """Take note of names and of the last cells."""
        self.signals.update({signal.signal_id: signal for signal in batch.signals})
        alone = np.fmax.reduce(list(batch.channels.values()))
        columns = np.stack(
            [batch.expected, batch.low, batch.high, alone, batch.rarity, batch.threshold], axis=1
        )
        for n, signal_id in enumerate(batch.signal_id.tolist()):
            at_ms = int(batch.at_ms[n])
            self._cells[signal_id].add(at_ms)
            if signal_id not in self._last or self._last[signal_id].at_ms <= at_ms:
                expected, low, high, alone, rarity, threshold = map(known, columns[n].tolist())
                self._last[signal_id] = LastCell(
                    at_ms,
                    float(batch.value[n]),
                    expected,
                    low,
                    high,
                    alone,
                    rarity,
                    threshold,
                    float(batch.warmup[n]),
                )

    async def write_catalogue(self, catalogues: Sequence[Catalogue]) -> None:
        """Replace what is known of shards."""
        for catalogue in catalogues:
            self.catalogues[catalogue.shard] = catalogue
            self._told_ms[catalogue.shard] = self._clock.now_ms()

    def _watched(self) -> Iterator[Watched]:
        for catalogue in self.catalogues.values():
            for feed in catalogue.feeds:
                if signal := self.signals.get(feed.signal_id):
                    yield Watched(signal, feed, self._last.get(feed.signal_id))

    def _dropped(self) -> Iterator[DroppedRow]:
        for catalogue in self.catalogues.values():
            yield from catalogue.dropped

    async def counts(self) -> Sequence[Count]:
        """Count what is watched and what isn't, by entity, in the order of their keys."""
        found: defaultdict[str, list[Watched]] = defaultdict(list)
        dropped: defaultdict[str, int] = defaultdict(int)
        for watched in self._watched():
            found[watched.signal.entity].append(watched)
        for row in self._dropped():
            dropped[row.entity] += row.series
        return [
            Count(
                entity,
                signals=len(found[entity]),
                page=sum(w.signal.role == "page" for w in found[entity]),
                series=sum(w.feed.series for w in found[entity] if w.signal.folding != "p99"),
                members=max((w.feed.members for w in found[entity]), default=0),
                dropped=dropped[entity],
            )
            for entity in sorted({*found, *dropped} - {""})
        ]

    async def watched(self, entities: Collection[str]) -> Sequence[Watched]:
        """Read the signals of entities, in the order of entity, metric, labels and folding."""
        return sorted((w for w in self._watched() if w.signal.entity in entities), key=by_name)

    async def dropped(self, entity: str) -> Sequence[DroppedRow]:
        """Read what isn't watched of an entity, most series first."""
        rows = (row for row in self._dropped() if row.entity == entity)
        return sorted(rows, key=lambda row: (-row.series, row))

    async def refusals(self) -> Sequence[RefusalRow]:
        """Read what was refused, most first."""
        rows = (row for catalogue in self.catalogues.values() for row in catalogue.refusals)
        return sorted(rows, key=lambda row: (-row.count, row))

    async def senders(self) -> Sequence[Heard]:
        """Read who sends, in the order of cluster and replica."""
        found: defaultdict[tuple[str, str], list[SenderRow]] = defaultdict(list)
        told_ms: defaultdict[tuple[str, str], int] = defaultdict(int)
        for shard, catalogue in self.catalogues.items():
            for row in catalogue.senders:
                name = row.cluster, row.replica
                found[name].append(row)
                told_ms[name] = max(told_ms[name], self._told_ms[shard])
        return [
            Heard(
                *name,
                newest_ms=max(row.newest_ms for row in rows),
                heard_ms=max(row.heard_ms for row in rows),
                elected=sum(row.elected for row in rows),
                shards=len(rows),
                told_ms=told_ms[name],
            )
            for name, rows in sorted(found.items())
        ]

    async def newest_cell_ms(self) -> int | None:
        """Tell the begin of the newest cell that was stored; None before the first."""
        return max((cell.at_ms for cell in self._last.values()), default=None)

    async def warmth(self, cells: int) -> Warmth:
        """Count the signals that may page by how far they are."""
        paging = [one for one in self._watched() if one.signal.role == "page"]
        awake = [one for one in paging if not one.feed.asleep]
        learning = [one for one in awake if one.last is not None and one.last.warmup < 1]
        left_s = [
            (cells - len(self._cells[one.signal.signal_id])) * one.signal.step_s for one in learning
        ]
        return Warmth(
            len(paging),
            len(paging) - len(awake),
            sum(one.last is not None and one.last.warmup >= 1 for one in awake),
            min((seconds for seconds in left_s if seconds > 0), default=None),
        )
