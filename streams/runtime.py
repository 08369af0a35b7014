"""The runtime of detect: apply, publish, hold, snapshot, ack.

A frame is applied to its shard's state and dropped; its windows are published and awaited at once;
its event is held un-acked until a snapshot of the state that contains it is in the store. After a
crash the log is delivered again from the last snapshot on, meets the same state, and yields the
same windows.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

import xxhash

from watchkeep.schemas.errors import DecodeError, FrameError
from watchkeep.schemas.frame import decode
from watchkeep.schemas.settings import Detect
from watchkeep.schemas.window import Progress, Window
from watchkeep.streams import snapshot
from watchkeep.streams.dead_letters import bury
from watchkeep.streams.pipeline import Outcome, Shard
from watchkeep.streams.ports import DetectStore, Record, Rollups, Sink, Snapshot, Source
from watchkeep.streams.topics import ANOMALIES

log = logging.getLogger(__name__)

HELD_MAX: Final = 50_000
_ROLLUPS_MAX: Final = 2_000
_KEEP_S: Final = 1.0
_SAVED_TOGETHER: Final = 16


@dataclass(slots=True)
class Partition:
    """One partition of the metrics topic in this worker.

    Attributes:
        applied_offset: the last record that the state holds.
        told_ms: the log time up to which every window is published.
        held: applied records that no snapshot covers yet.
        lock: the state changes, and is written, by one task at a time.
    """

    shard: Shard
    applied_offset: int = -1
    record_hash: str = ""
    told_ms: int | None = None
    held: list[Record] = field(default_factory=list)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Worker:
    """The partitions that one detect process owns."""

    def __init__(self, source: Source, sink: Sink, store: DetectStore, settings: Detect) -> None:
        self._source = source
        self._sink = sink
        self._store = store
        self._settings = settings
        self._partitions: dict[int, Partition] = {}
        self._rollups: list[Rollups] = []
        self._progress: dict[int, int] = {}
        self._drops: Counter[str] = Counter()
        self._flushing = asyncio.Lock()
        self._anew = False

    async def take(self, record: Record) -> None:
        """Apply one record, publish what follows, and hold it."""
        partition = self._partitions.get(record.partition)
        if partition is None:
            partition = self._partitions[record.partition] = await self._load(record.partition)
        async with partition.lock:
            if record.offset <= partition.applied_offset:
                record.ack()  # The snapshot covers it.
                return
            record_hash = _hash(record.value or b"")
            outcome = await self._apply(partition.shard, record)
            await self._publish(outcome.windows)
            self._rollups.extend(outcome.rollups)
            partition.applied_offset = record.offset
            partition.record_hash = record_hash
            partition.told_ms = partition.shard.time.now_ms()
            record.value = None
            partition.held.append(record)
        if len(self._rollups) >= _ROLLUPS_MAX:
            await self.flush()
        if sum(len(p.held) for p in self._partitions.values()) >= HELD_MAX:
            await self.save(self._partitions)

    async def _publish(self, windows: Iterable[Window]) -> None:
        for window in windows:
            await self._sink.send(
                ANOMALIES, window.model_dump_json().encode(), key=window.entity.encode()
            )

    async def _apply(self, shard: Shard, record: Record) -> Outcome:
        try:
            return shard.apply(decode(record.value or b""))
        except FrameError as error:
            await bury(self._sink, record, error)
            return Outcome([], [])

    async def _load(self, number: int) -> Partition:
        """Find the state of a partition that was assigned to this worker."""
        saved = await self._store.load_snapshot(number)
        if saved is None:
            return Partition(Shard(self._settings))
        try:
            shard = snapshot.load(saved.state, self._settings)
        except DecodeError as error:
            log.warning("shard %d starts cold: %s", number, error)
            return Partition(Shard(self._settings))
        if saved.settings != self._settings.version:
            log.warning("shard %d starts cold: the detection settings have changed", number)
            await self._publish(shard.end())
            return Partition(Shard(self._settings))
        there = await self._source.read(number, saved.applied_offset)
        if there is None or _hash(there) != saved.record_hash:
            self._tell_anew(number)
            return Partition(shard)
        return Partition(shard, saved.applied_offset, saved.record_hash)

    async def flush(self) -> None:
        """Write the closed cells to the store, and tell how far this worker has come."""
        # One at a time: who returns from here may rely on everything before being written.
        async with self._flushing:
            batches, self._rollups = self._rollups, []
            reached = {n: p.told_ms for n, p in self._partitions.items() if p.told_ms is not None}
            if batches:
                await self._store.write_rollups(batches)
            if reached != self._progress:
                message = Progress(log_time_ms=reached)
                await self._sink.send(ANOMALIES, message.model_dump_json().encode())
                self._progress = reached

    async def save(self, numbers: Iterable[int]) -> None:
        """Write snapshots of partitions, then ack the records that they cover."""
        due = [number for number in numbers if self._partitions[number].held]
        for begin in range(0, len(due), _SAVED_TOGETHER):
            taken = [await self._snapshot(n) for n in due[begin : begin + _SAVED_TOGETHER]]
            # The cells that a snapshot has closed are written before what closed them is acked.
            await self.flush()
            await self._store.save_snapshots([saved for saved, _ in taken])
            for _, covered in taken:
                for record in covered:
                    record.ack()
        self._tell_drops()

    async def _snapshot(self, number: int) -> tuple[Snapshot, list[Record]]:
        """Take a partition's state, and the held records that it covers."""
        partition = self._partitions[number]
        async with partition.lock:
            covered, partition.held = partition.held, []
            return (
                Snapshot(
                    number,
                    partition.applied_offset,
                    partition.record_hash,
                    self._settings.version,
                    snapshot.dump(partition.shard),
                ),
                covered,
            )

    async def give_up(self, numbers: set[int]) -> None:
        """Save partitions that go to another worker, and forget them."""
        await self.save(numbers & self._partitions.keys())
        for number in numbers:
            self._partitions.pop(number, None)

    async def keep(self) -> None:
        """Flush every second and save every `snapshot_s`; runs as long as the worker."""
        loop = asyncio.get_running_loop()
        saved_s = loop.time()
        while True:
            await asyncio.sleep(_KEEP_S)
            await self.flush()
            if loop.time() - saved_s >= self._settings.snapshot_s:
                await self.save(self._partitions)
                saved_s = loop.time()

    async def save_all(self) -> None:
        """Save everything, before a stop."""
        await self.save(self._partitions)

    def _tell_anew(self, number: int) -> None:
        """Say that a log was made anew: all shards share its fate, so the first says it loudly."""
        log.log(
            logging.DEBUG if self._anew else logging.WARNING,
            "shard %d: the log was made anew since the last start; the state is kept, reading "
            "starts at the beginning, and what nobody had read of the old log is missing",
            number,
        )
        self._anew = True

    def _tell_drops(self) -> None:
        clusters = [c for p in self._partitions.values() for c in p.shard.clusters.values()]
        drops = sum((cluster.fold.drops for cluster in clusters), Counter[str]())
        if drops != self._drops:
            told = ", ".join(f"{reason} {count}" for reason, count in sorted(drops.items()))
            log.warning("samples not folded so far: %s", told)
            self._drops = drops


def _hash(value: bytes) -> str:
    return xxhash.xxh3_64_hexdigest(value)


async def run(source: Source, *, sink: Sink, store: DetectStore, settings: Detect) -> None:
    """Run detect until its source ends."""
    worker = Worker(source, sink, store, settings)
    source.when_revoked(worker.give_up)
    async with asyncio.TaskGroup() as tasks:
        keeper = tasks.create_task(worker.keep())
        async for record in source.records():
            await worker.take(record)
        keeper.cancel()
    await worker.save_all()
