"""In-memory ports: a log and a clock with the semantics of the real ones.

They serve the tests, and anyone who embeds Watchkeep in a program of their own.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from watchkeep.streams.ports import Record, Span


class Entry(NamedTuple):
    """A record as it was written."""

    key: bytes | None
    value: bytes | None
    headers: Mapping[str, str]


class MemoryLog:
    """Topics of partitions of records; it is a Sink, and makes Sources."""

    def __init__(self) -> None:
        self.partitions: dict[tuple[str, int], list[Entry]] = defaultdict(list)
        self.committed: dict[tuple[str, str, int], int] = {}

    async def send(
        self,
        topic: str,
        value: bytes | None,
        *,
        partition: int = 0,
        key: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Write a record."""
        await asyncio.sleep(0)  # As with a real log, others run meanwhile.
        self.partitions[topic, partition].append(Entry(key, value, dict(headers or {})))

    def values(self, topic: str) -> list[bytes | None]:
        """Read a topic's values, partition after partition."""
        return [
            entry.value
            for (name, _), entries in sorted(self.partitions.items())
            if name == topic
            for entry in entries
        ]

    def source(self, topic: str, group: str) -> "MemorySource":
        """Make a source that ends when the group has read all there is."""
        return MemorySource(self, topic, group)


@dataclass
class MemorySource:
    """What a group has not committed yet of a topic."""

    log: MemoryLog
    topic: str
    group: str
    revoked: list[Callable[[set[int]], Awaitable[None]]] = field(default_factory=list)

    def when_revoked(self, callback: Callable[[set[int]], Awaitable[None]]) -> None:
        """Take note of a callback; here partitions stay."""
        self.revoked.append(callback)

    def assigned(self) -> set[int]:
        """Tell the partitions that hold anything: there is one owner, of them all."""
        return {partition for name, partition in self.log.partitions if name == self.topic}

    async def records(self) -> AsyncIterator[Record]:
        """Deliver from the committed offsets on, one partition after the other, and end."""
        for partition in sorted(self.assigned()):
            entries = self.log.partitions[self.topic, partition]
            offset = self.log.committed.get((self.group, self.topic, partition), 0)
            while offset < len(entries):
                entry, ack = entries[offset], self._acker(partition, offset)
                yield Record(self.topic, partition, offset, entry.value, ack, entry.key)
                offset += 1

    def _acker(self, partition: int, offset: int) -> Callable[[], None]:
        def ack() -> None:
            place = (self.group, self.topic, partition)
            self.log.committed[place] = max(offset + 1, self.log.committed.get(place, 0))

        return ack

    async def spans(self, partitions: Collection[int]) -> dict[int, Span]:
        """Tell what partitions hold."""
        return {
            partition: Span(0, len(self.log.partitions.get((self.topic, partition), [])))
            for partition in partitions
        }

    async def between(self, ranges: Mapping[int, Span]) -> AsyncGenerator[Record, None]:
        """Read the records in ranges of offsets; their acks do nothing."""
        for partition, (begin, end) in ranges.items():
            entries = self.log.partitions.get((self.topic, partition), [])
            for offset in range(max(begin, 0), min(end, len(entries))):
                await asyncio.sleep(0)
                entry = entries[offset]
                yield Record(self.topic, partition, offset, entry.value, lambda: None, entry.key)


class ManualClock:
    """A clock that is set by hand."""

    def __init__(self, now_ms: int = 0) -> None:
        self.time_ms = now_ms

    def now_ms(self) -> int:
        """Tell the time that was set."""
        return self.time_ms
