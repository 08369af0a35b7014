"""The shop's samples as records of the metrics topic, as a gateway would write them.

Days of event time go into a log, or a detector, without HTTP and decoding in between.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from watchkeep.schemas.entity import EntityRules
from watchkeep.schemas.frame import (
    SAMPLES_MAX,
    SHARDS,
    Frame,
    FrameKind,
    LabelSet,
    SenderTime,
    by_bytes,
    encode,
    shard_of,
)
from watchkeep.schemas.labels import canonical, series_id
from watchkeep.shop.batches import Batch
from watchkeep.shop.blueprint import CLUSTER
from watchkeep.shop.model import Shop

GATEWAY: Final = "shop"
REPLICA_LABEL: Final = "prometheus_replica"
_REFRESH_MS: Final = 600_000


class Record(NamedTuple):
    """One record of the metrics topic.

    Attributes:
        samples: how many it holds; 0 for a tick.
        clock_ms: the gateway's clock, which stands at the newest sample.
    """

    shard: int
    value: bytes
    samples: int
    clock_ms: int


def frames(
    shop: Shop, samples_max: int, rules: EntityRules | None = None, *, before: bool = False
) -> Iterator[Record]:
    """Give the records of all samples; samples_max are taken in between two writes.

    Args:
        shop: whose samples.
        samples_max: how many the gateway waits for before it writes.
        rules: how it finds entities.
        before: see `Shop.batches`.
    """
    writer = _Writer(shop, rules or EntityRules())
    for batch in shop.batches(samples_max, before=before):
        yield from writer.write(batch)


class _Columns(NamedTuple):
    series_id: npt.NDArray[np.uint64]
    time_ms: npt.NDArray[np.int64]
    value: npt.NDArray[np.float64]

    def part(self, begin: int, end: int) -> "_Columns":
        return _Columns(self.series_id[begin:end], self.time_ms[begin:end], self.value[begin:end])

    def sorted(self) -> "_Columns":
        order = np.argsort(self.time_ms, kind="stable")
        return _Columns(self.series_id[order], self.time_ms[order], self.value[order])


class _Writer:
    """A gateway that is asked for nothing but to write."""

    def __init__(self, shop: Shop, rules: EntityRules) -> None:
        self._rules = rules
        count = len(shop.series)
        self._ids = np.empty(count, np.uint64)
        place = np.empty(count, np.int64)
        self._sent_ms = np.full(count, -1, np.int64)
        self._label_sets: list[LabelSet] = []
        replicas: dict[str, int] = {}
        for i, (given, kind) in enumerate(shop.series):
            labels = dict(given)
            replica = labels.pop(REPLICA_LABEL)
            form = canonical(labels.items())
            where = rules.place(labels, CLUSTER)
            key = where.entity.key
            self._ids[i] = series_id(form)
            number = replicas.setdefault(replica, len(replicas))
            place[i] = number * SHARDS + shard_of(key)
            own = LabelSet(int(self._ids[i]), kind, key, where.member, form)
            self._label_sets.append(own)
        # Bytes are sorted several times faster than larger numbers.
        assert len(replicas) * SHARDS <= 2**8
        self._place = place.astype(np.uint8)
        self._replicas = list(replicas)
        self._newest_ms = dict.fromkeys(range(len(replicas)), 0)
        self._clock_ms = 0

    def write(self, batch: Batch) -> Iterator[Record]:
        """Write the frames of a batch, and a tick where a sender is not heard otherwise."""
        place = self._place[batch.series]
        self._hear(batch, place)
        order = np.argsort(place, kind="stable")
        series = batch.series[order]
        rows = _Columns(self._ids[series], batch.time_ms[order], batch.value[order])
        new = self._due(batch.series)
        counts = np.bincount(place, minlength=len(self._replicas) * SHARDS)
        told: set[tuple[int, int]] = set()
        begin = 0
        for where in np.flatnonzero(counts).tolist():
            end = begin + int(counts[where])
            sender = self._sender(where // SHARDS)
            told.add((where % SHARDS, where // SHARDS))
            mine = series[begin:end]
            labels = [self._label_sets[i] for i in np.unique(mine[new[mine]]).tolist()]
            for frame in self._frames(sender, rows.part(begin, end), labels):
                yield Record(where % SHARDS, encode(frame), len(frame.series_id), self._clock_ms)
            begin = end
        yield from self._ticks(told)

    def _hear(self, batch: Batch, place: npt.NDArray[np.uint8]) -> None:
        for number in self._newest_ms:
            mine = batch.time_ms[place // SHARDS == number]
            newest_ms = int(mine.max(initial=0))
            self._newest_ms[number] = max(self._newest_ms[number], newest_ms)
        self._clock_ms = max(self._clock_ms, *self._newest_ms.values())

    def _due(self, series: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
        """Find the series whose labels have to be told (again), by number."""
        due = np.zeros(len(self._sent_ms), bool)
        seen = series[
            (self._sent_ms[series] < 0) | (self._clock_ms - self._sent_ms[series] >= _REFRESH_MS)
        ]
        due[seen] = True
        self._sent_ms[seen] = self._clock_ms
        return due

    def _sender(self, number: int) -> SenderTime:
        return SenderTime(CLUSTER, self._replicas[number], self._newest_ms[number], self._clock_ms)

    def _frames(
        self, sender: SenderTime, columns: _Columns, labels: list[LabelSet]
    ) -> Iterator[Frame]:
        *first, last = by_bytes(labels)
        for chunk in first:
            yield self._frame(sender._replace(newest_ms=0), columns.part(0, 0), chunk)
        count = len(columns.time_ms)
        if count > SAMPLES_MAX:
            # Frames tell how far their sender has come, so they are cut along time.
            columns = columns.sorted()
        for begin in range(0, count, SAMPLES_MAX):
            part, told = columns.part(begin, begin + SAMPLES_MAX), sender
            if begin + SAMPLES_MAX < count:
                told = sender._replace(newest_ms=int(part.time_ms[-1]))
            yield self._frame(told, part, last if begin == 0 else [])

    def _frame(self, sender: SenderTime, part: _Columns, labels: list[LabelSet]) -> Frame:
        return Frame(
            FrameKind.DATA,
            GATEWAY,
            self._clock_ms,
            self._rules.hash,
            (sender,),
            *part,
            tuple(labels),
        )

    def _ticks(self, told: set[tuple[int, int]]) -> Iterator[Record]:
        """Tell of all senders where a write did not tell of each."""
        heard = [number for number, newest_ms in self._newest_ms.items() if newest_ms]
        senders = tuple(self._sender(number) for number in heard)
        frame = Frame(FrameKind.TICK, GATEWAY, self._clock_ms, self._rules.hash, senders)
        tick = encode(frame)
        for shard in range(SHARDS):
            if any((shard, number) not in told for number in heard):
                yield Record(shard, tick, 0, self._clock_ms)
