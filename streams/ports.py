"""What the stages need from outside: a log and a clock; `stores.py` has what is kept.

Live the log is Kafka (`kafka/`); in memory (`memory.py`) it serves tests and anyone who embeds
Watchkeep. The stages know only these.
"""

from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Mapping,
)
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol


@dataclass(slots=True)
class Record:
    """One record of a log.

    Attributes:
        value: its bytes; None is a tombstone.
        ack: tell the log that this record and all before it need not be delivered again. Acks are
            given in the order of the offsets.
        key: as it was written; on a compacted topic every record has one.
        headers, time_ms: as they were written, where the reader has use for them.
    """

    topic: str
    partition: int
    offset: int
    value: bytes | None
    ack: Callable[[], None]
    key: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    time_ms: int = 0


class Span(NamedTuple):
    """What a partition of the log holds now: offsets from `begin` up to, without, `end`."""

    begin: int
    end: int


class Source(Protocol):
    """The partitions of one topic that this process owns."""

    @property
    def topic(self) -> str:
        """The topic's name."""
        ...

    def records(self) -> AsyncIterator[Record]:
        """Deliver records, each partition in the order of its offsets, at least once."""
        ...

    def assigned(self) -> set[int]:
        """Tell which partitions this process owns now."""
        ...

    async def spans(self, partitions: Collection[int]) -> dict[int, Span]:
        """Tell what partitions hold."""
        ...

    def between(self, ranges: Mapping[int, Span]) -> AsyncGenerator[Record, None]:
        """Read the records that partitions hold in ranges of offsets, each in order.

        They are read outside the consumer group; their acks do nothing.
        """
        ...

    def when_revoked(self, callback: Callable[[set[int]], Awaitable[None]]) -> None:
        """Have a callback told which partitions go to another worker, before they go."""
        ...


class Sink(Protocol):
    """Where records are written to."""

    async def send(
        self,
        topic: str,
        value: bytes | None,
        *,
        partition: int = 0,
        key: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Write a record; returns only when the log has acknowledged it.

        Raises:
            LogError: it has not.
        """
        ...


class Clock(Protocol):
    """The time of day, in milliseconds since 1970."""

    def now_ms(self) -> int:
        """Tell the time."""
        ...


class Place(NamedTuple):
    """How far a topic's partition was taken in.

    Attributes:
        offset: of the last record taken; -1 for none.
        record_hash: xxh3-64 of that record, in hex: a log made anew has another there.
    """

    offset: int = -1
    record_hash: str = ""


NOWHERE: Final = Place()


class Step(NamedTuple):
    """A stage's way from the place in the store to the next: over one record."""

    before: Place
    here: Place


Handler = Callable[[Source], Awaitable[None]]
