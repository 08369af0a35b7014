"""Following one partition from the place that the store has, each record once.

For the stages of which one is active: what a record leads to is written together with its place,
on condition that the lease is held and the place is where it was left. The consumer group only
brings new records early; whatever it doesn't bring is read here.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from watchkeep.schemas.errors import LogError, StoreError, WatchkeepError
from watchkeep.streams.dead_letters import bury_deadly, is_deadly
from watchkeep.streams.patience import patiently
from watchkeep.streams.places import Standing, guard, record_hash, standings
from watchkeep.streams.ports import NOWHERE, Place, Record, Sink, Source, Span, Step
from watchkeep.streams.stores import Attempts, Lease, PlaceStore
from watchkeep.streams.vitals import APPLIED, VITALS

log = logging.getLogger(__name__)

_PARTITION = 0

Take = Callable[[Record, Step], Awaitable[None]]
"""Take a record, and take the step over it in the store."""


@dataclass(slots=True)
class _Follower:
    """One stage on its way through the log.

    Attributes:
        place: what the store has; `offset`: of the last record taken, of this log.
        suspected: the next record is the one that an earlier process may have died of.
    """

    source: Source
    sink: Sink
    store: PlaceStore
    lease: Lease
    take: Take
    place: Place = NOWHERE
    offset: int = -1
    attempts: Attempts | None = None
    suspected: bool = True

    async def start(self) -> None:
        """Find where the stage was, and take what came since."""
        self.place = await patiently(lambda: self.store.place(self.lease.name))
        died = await patiently(lambda: self.store.attempts(self.lease.name, [_PARTITION]))
        self.attempts = died.get(_PARTITION)
        self.offset = self.place.offset
        if self.offset >= 0:
            await self._check()
        span = (await self.source.spans([_PARTITION]))[_PARTITION]
        await self.catch_up(span.end)

    async def _check(self) -> None:
        found = await standings(self.source, {_PARTITION: self.place})
        if found[_PARTITION] is Standing.ANEW:
            self.offset = -1
            log.warning(
                "%s was made anew: reading starts at its beginning, and what %s had not read of "
                "the old one is missing",
                self.source.topic,
                self.lease.name,
            )

    async def catch_up(self, end: int) -> None:
        """Take what the log has after the last record taken."""
        async for record in self.source.between({_PARTITION: Span(self.offset + 1, end)}):
            await self.step(record)

    async def step(self, record: Record) -> None:
        """Take one record, once."""
        if record.offset > self.offset:
            here = Place(record.offset, record_hash(record.value))
            with VITALS.taking():
                await self._try(record, here)
            self.place, self.offset = here, record.offset
            APPLIED.labels(record.topic).inc()
        record.ack()

    async def _try(self, record: Record, here: Place) -> None:
        stage = self.lease.name
        if is_deadly(record, self.attempts):
            await patiently(lambda: bury_deadly(self.sink, self.store, record, stage))
            await patiently(lambda: self.store.advance(self.lease, Step(self.place, here)))
            return
        if self.suspected:
            await patiently(lambda: self.store.note_attempt(stage, _PARTITION, here))
        try:
            await patiently(lambda: self.take(record, Step(self.place, here)))
        except LogError:
            # It is not the record's fault.
            if self.suspected:
                with contextlib.suppress(StoreError):
                    await self.store.calm(stage, _PARTITION)
            raise
        except WatchkeepError:
            raise
        except Exception:
            with contextlib.suppress(StoreError):
                await self.store.note_attempt(stage, _PARTITION, here)
            raise
        if self.suspected:
            await patiently(lambda: self.store.calm(stage, _PARTITION))
            self.suspected = False


async def follow(source: Source, sink: Sink, store: PlaceStore, lease: Lease, take: Take) -> None:
    """Take each record of the source's one partition once, until the source ends.

    Args:
        source: a topic of one partition.
        sink: where records go that end the stage again and again.
        store: has the place.
        lease: its name is the stage's.
        take: called with each record, in order.

    Raises:
        LeaseLostError: another process is active by now, or the database was restored.
        LogAnewError: the log was made anew while it was read.
    """
    follower = _Follower(source, sink, store, lease, take)
    await follower.start()
    async with asyncio.TaskGroup() as tasks:
        watch = tasks.create_task(guard(source, lambda: {_PARTITION: follower.offset}))
        async for record in source.records():
            if record.offset > follower.offset + 1:
                await follower.catch_up(record.offset)
            await follower.step(record)
        watch.cancel()
