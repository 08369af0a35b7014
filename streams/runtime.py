"""The runtime of detect: apply, publish, ack; snapshots beside it.

A frame is applied to its shard's state, its windows are published and awaited at once, and it is
acked. Every few minutes, each shard at its own time, the state and the place in the log that it
covers are written in one transaction, on condition that nobody else has claimed the shard. After a
crash the log is read again from that place on; it meets the same state, and yields the same
windows. Closed cells are written beside that, as overwrites that may repeat.
"""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Final

from watchkeep.schemas.errors import FrameError, LogAnewError, LogError, StoreAnewError, StoreError
from watchkeep.schemas.frame import SHARDS, decode
from watchkeep.schemas.settings import Detect
from watchkeep.schemas.window import Anomaly, Progress, Window
from watchkeep.streams import snapshot
from watchkeep.streams.census import census
from watchkeep.streams.closed_cells import ClosedCells
from watchkeep.streams.dead_letters import bury, bury_deadly, is_deadly
from watchkeep.streams.partitions import Partition, adopt, check
from watchkeep.streams.patience import patiently
from watchkeep.streams.pipeline import Outcome
from watchkeep.streams.places import Standing, guard, record_hash, standings
from watchkeep.streams.ports import Place, Record, Sink, Source, Span
from watchkeep.streams.stores import DetectStore, Snapshot
from watchkeep.streams.topics import ANOMALIES
from watchkeep.streams.vitals import APPLIED, DROPPED, LIMITED, SNAPSHOT_BYTES, VITALS

log = logging.getLogger(__name__)

_KEEP_S: Final = 1.0
# Snapshots written in one transaction: as many as come to so many bytes.
_SAVED_BYTES: Final = 16 * 1024 * 1024
# A rebalance waits for the last snapshots so long at most.
_HAND_OVER_S: Final = 2.0
_KEPT_S: Final = 60.0
# People who look up what is watched see what was so long ago at most.
_COUNTED_S: Final = 60.0
_STANDBY: Final = "standby_replica"
# So many records are tried with care, one round trip to the store each, until a snapshot makes
# sure that they are behind.
_TRIED_MAX: Final = 1_000


class Worker:
    """The partitions that one detect process owns."""

    def __init__(self, source: Source, sink: Sink, store: DetectStore, settings: Detect) -> None:
        self._source = source
        self._sink = sink
        self._store = store
        self._settings = settings
        self._partitions: dict[int, Partition] = {}
        self._closed = ClosedCells(store)
        self._progress: dict[int, int] = {}
        self._drops: Counter[str] = Counter()
        self._adopting = asyncio.Lock()
        self._saving = asyncio.Lock()

    async def take(self, record: Record) -> None:
        """Apply one record, publish what follows, and ack it."""
        number = record.partition
        with VITALS.taking():
            partition = await self._owned(number)
            if partition is None:
                return  # It was taken away meanwhile; whoever has it reads the record.
            if record.offset > partition.place.offset + 1:
                await self._catch_up({number: partition}, {number: record.offset})
            await self._apply(number, partition, record)
            record.ack()
            await self._relieve()

    async def _owned(self, number: int) -> Partition | None:
        """Give a partition, ready to go on; the first time it is claimed and caught up."""
        while not self._has(number):
            if number not in self._source.assigned():
                return None
            await self.adopt_assigned()
        return self._partitions[number]

    def _has(self, number: int) -> bool:
        return number in self._partitions and self._partitions[number].owned

    async def adopt_assigned(self) -> None:
        """Claim every partition that is assigned, and catch up with the log."""
        async with self._adopting:
            # Together, as a rebalance brings many; asked for now, as the next may take them away.
            new = [n for n in sorted(self._source.assigned()) if not self._has(n)]
            if not new:
                return
            kept = {number: self._partitions.get(number) for number in new}
            partitions, left_open = await adopt(kept, self._store, self._settings)
            await self._publish(left_open)
            if await check(partitions, self._source):
                self._tell_anew()
            now_s = asyncio.get_running_loop().time()
            for number, partition in partitions.items():
                # Shards are saved one after the other, not all at once.
                partition.saved_s = now_s - self._settings.snapshot_s * number / SHARDS
                partition.counted_s = now_s - _COUNTED_S * number / SHARDS
            self._partitions |= partitions
            spans = await self._source.spans(partitions)
            await self._catch_up(partitions, {n: span.end for n, span in spans.items()})
            await self._calm({n: p for n, p in partitions.items() if p.careful})
            # Those that a rebalance took while they were adopted, it found nothing of.
            await self.give_up(partitions.keys() - self._source.assigned())

    async def _catch_up(self, partitions: Mapping[int, Partition], ends: Mapping[int, int]) -> None:
        """Apply what the log has beyond the states."""
        ranges = {n: Span(p.place.offset + 1, ends[n]) for n, p in partitions.items()}
        async for record in self._source.between(
            {n: span for n, span in ranges.items() if span.begin < span.end}
        ):
            partition = partitions[record.partition]
            await self._apply(record.partition, partition, record)
            await self._relieve()
            if partition.careful and partition.tried >= _TRIED_MAX:
                await self._calm({record.partition: partition})

    async def _calm(self, partitions: Mapping[int, Partition]) -> None:
        """End the suspicion: what was suspicious is behind, and is so for good."""
        if partitions:
            await patiently(lambda: self.save(partitions))
        for number, partition in partitions.items():
            await patiently(partial(self._store.calm, "detect", number))
            partition.careful, partition.tried = False, 0

    async def _apply(self, number: int, partition: Partition, record: Record) -> None:
        async with partition.lock:
            if record.offset <= partition.place.offset:
                return
            place = Place(record.offset, record_hash(record.value))
            try:
                outcome = await self._outcome(number, partition, record, place)
                await self._publish(outcome.windows)
            except LogError:
                # It is not the record's fault.
                await self._call_calm(number, partition)
                raise
            self._closed.add(outcome.rollups)
            partition.place, partition.whole = place, True
            partition.tried += partition.careful
            partition.told_ms = partition.shard.time.now_ms()
        APPLIED.labels(record.topic).inc()

    async def _outcome(
        self, number: int, partition: Partition, record: Record, place: Place
    ) -> Outcome:
        if is_deadly(record, partition.attempts):
            await self._call_calm(number, partition)
            await patiently(lambda: bury_deadly(self._sink, self._store, record, "detect"))
            return Outcome([], [])
        if partition.careful:
            await patiently(lambda: self._store.note_attempt("detect", number, place))
        try:
            frame = decode(record.value or b"")
            # Until what follows from it is published, the state has half a record.
            partition.whole = False
            return partition.shard.apply(frame)
        except FrameError as error:
            await bury(self._sink, record, str(error))
            return Outcome([], [])
        except Exception:
            if not partition.careful:
                with contextlib.suppress(StoreError):
                    await self._store.note_attempt("detect", number, place)
            raise

    async def _call_calm(self, number: int, partition: Partition) -> None:
        if partition.careful:
            with contextlib.suppress(StoreError):
                await self._store.calm("detect", number)

    async def _publish(self, anomalies: Iterable[Anomaly]) -> None:
        for anomaly in anomalies:
            key = anomaly.entity.encode() if isinstance(anomaly, Window) else None
            await self._sink.send(ANOMALIES, anomaly.model_dump_json().encode(), key=key)

    async def _relieve(self) -> None:
        """Wait with reading while too many closed cells wait for the store."""
        if self._closed.full:
            await patiently(self._closed.write)

    async def flush(self) -> None:
        """Write the closed cells to the store, and tell how far this worker has come."""
        reached = {
            number: partition.told_ms
            for number, partition in self._partitions.items()
            if partition.told_ms is not None and partition.owned
        }
        await self._closed.write()
        if reached != self._progress:
            message = Progress(log_time_ms=reached)
            await self._sink.send(ANOMALIES, message.model_dump_json().encode())
            self._progress = reached

    async def save(self, numbers: Iterable[int]) -> None:
        """Write snapshots of partitions, in transactions of a bounded size."""
        async with self._saving:
            waiting: list[Snapshot] = []
            for number in numbers:
                partition = self._partitions.get(number)
                if partition is None or partition.place == partition.saved:
                    continue
                taken = await self._snapshot(number, partition)
                if taken is None:
                    continue
                waiting.append(taken)
                if sum(_size(snapshot) for snapshot in waiting) >= _SAVED_BYTES:
                    await self._write(waiting)
                    waiting = []
            if waiting:
                await self._write(waiting)
        self._tell_drops()

    async def _snapshot(self, number: int, partition: Partition) -> Snapshot | None:
        async with partition.lock:
            if not partition.whole:
                return None  # It was ended in the middle of a record, which will come again.
            copy, place = snapshot.capture(partition.shard), partition.place
        manifest, blocks = await asyncio.to_thread(snapshot.cut, copy, partition.manifest)
        return Snapshot(
            number,
            partition.token,
            partition.saved.offset,
            place,
            self._settings.state_version,
            manifest,
            blocks,
        )

    async def _write(self, snapshots: list[Snapshot]) -> None:
        # The cells that a snapshot has closed are written before what closed them is behind us.
        await self._closed.write()
        await self._check_unmixed(snapshots)
        SNAPSHOT_BYTES.inc(sum(map(_size, snapshots)))
        refused = await self._store.save_snapshots(snapshots)
        now_s = asyncio.get_running_loop().time()
        for saved_one in snapshots:
            partition = self._partitions[saved_one.partition]
            if saved_one.partition in refused:
                log.warning(
                    "shard %d: another worker has claimed it, or the database was restored; its "
                    "state here is dropped",
                    saved_one.partition,
                )
                del self._partitions[saved_one.partition]
                continue
            partition.saved = partition.witness = saved_one.place
            partition.manifest = saved_one.manifest
            partition.saved_s = now_s

    async def tell(self) -> None:
        """Write what partitions watch, and drop, for people to look up: each once in a while."""
        now_s = asyncio.get_running_loop().time()
        for number, partition in list(self._partitions.items()):
            if partition.owned and now_s - partition.counted_s >= _COUNTED_S:
                partition.counted_s = now_s
                async with partition.lock:
                    counted = census(number, partition.shard)
                await self._store.write_catalogue([counted])

    async def _check_unmixed(self, snapshots: list[Snapshot]) -> None:
        """Make sure that no state holds records of two logs: it may have missed some of the new.

        A state whose own last record is gone as well is whole: all of it is of the old log.
        """
        witnesses = {s.partition: self._partitions[s.partition].witness for s in snapshots}
        seen = {number: witness for number, witness in witnesses.items() if witness.offset >= 0}
        try:
            found = await standings(self._source, seen)
            gone = {n for n, standing in found.items() if standing is Standing.ANEW}
            last = {s.partition: s.place for s in snapshots if s.partition in gone}
            now = await standings(self._source, last)
        except LogError:
            return  # What can't be read now was not read anew either.
        if Standing.SAME in now.values():
            raise LogAnewError(f"{self._source.topic} was made anew while it was read")

    async def give_up(self, numbers: set[int]) -> None:
        """Save partitions that go to another worker; their states are kept for a while."""
        try:
            async with asyncio.timeout(_HAND_OVER_S):
                await self.save(numbers & self._partitions.keys())
        except (StoreError, StoreAnewError, TimeoutError) as error:
            log.warning("partitions go without a last snapshot, the log has it all: %r", error)
        for number in numbers & self._partitions.keys():
            self._partitions[number].owned = False
            self._partitions[number].saved_s = asyncio.get_running_loop().time()

    async def keep(self) -> None:
        """Flush every second, and save what is due; runs as long as the worker."""
        while True:
            await asyncio.sleep(_KEEP_S)
            try:
                await self.flush()
                await self.save(self._due())
                await self.tell()
            except StoreError as error:
                log.warning("the database is out of reach, detection goes on: %s", error)
                await self._pause("the database can't be reached")
            except LogError as error:
                log.warning("the log is out of reach: %s", error)
                await self._pause("the log can't be reached")

    async def _pause(self, why: str) -> None:
        with VITALS.waiting(why):
            await asyncio.sleep(_KEEP_S)

    def _due(self) -> list[int]:
        now_s = asyncio.get_running_loop().time()
        for number in [
            number
            for number, partition in self._partitions.items()
            if not partition.owned and now_s - partition.saved_s > _KEPT_S
        ]:
            del self._partitions[number]
        return [
            number
            for number, partition in self._partitions.items()
            if partition.owned and now_s - partition.saved_s >= self._settings.snapshot_s
        ]

    async def look(self) -> None:
        """Catch up with partitions that are assigned but silent; runs as long as the worker."""
        while True:
            await asyncio.sleep(_KEEP_S)
            await self.adopt_assigned()

    def offsets(self) -> dict[int, int]:
        """Tell the last offset applied of each partition that is owned."""
        return {n: p.place.offset for n, p in self._partitions.items() if p.owned}

    async def save_all(self) -> None:
        """Save everything, before a stop."""
        try:
            await self.save(list(self._partitions))
            await self.flush()
        except StoreError as error:
            log.warning("stops without a last snapshot, the log has it all: %s", error)

    def _tell_anew(self) -> None:
        log.warning(
            "%s was made anew since the last start: the states are kept, reading starts at its "
            "beginning, and what nobody had read of the old log is missing",
            self._source.topic,
        )

    def drops(self) -> Counter[str]:
        """Count the samples that were not folded since the states were loaded, by reason."""
        return sum((p.shard.drops() for p in self._partitions.values()), Counter[str]())

    def _tell_drops(self) -> None:
        drops = self.drops()
        for reason, count in drops.items():
            DROPPED.labels(reason).set(count)
        shards = [partition.shard for partition in self._partitions.values()]
        for limit, count in sum((s.refusals() for s in shards), Counter[str]()).items():
            LIMITED.labels(limit).set(count)
        # Of a pair one is always left out.
        del drops[_STANDBY]
        if drops != self._drops:
            told = ", ".join(f"{reason} {count}" for reason, count in sorted(drops.items()))
            log.warning("samples not folded so far: %s; `watchkeep doctor` says why", told)
            self._drops = drops


def _size(saved: Snapshot) -> int:
    return sum(map(len, saved.blocks.values()))


async def run(source: Source, *, sink: Sink, store: DetectStore, settings: Detect) -> None:
    """Run detect until its source ends."""
    worker = Worker(source, sink, store, settings)
    source.when_revoked(worker.give_up)
    await worker.adopt_assigned()
    async with asyncio.TaskGroup() as tasks:
        beside = [
            tasks.create_task(task)
            for task in (
                worker.keep(),
                worker.look(),
                guard(source, worker.offsets, worker.save_all),
            )
        ]
        async for record in source.records():
            await worker.take(record)
        for task in beside:
            task.cancel()
    await worker.save_all()
