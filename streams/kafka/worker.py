"""Consuming from Kafka in a group, with Faust.

Faust delivers, and that is all it is used for: one agent a topic, raw bytes, acks given by us and
in order, no tables. An agent that raises ends the worker (`CrashingSupervisor`); every other
supervisor skips the failed record.
"""

import asyncio
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection, Mapping
from typing import Any

import faust

from watchkeep.schemas.settings import Broker
from watchkeep.streams.kafka.reader import LogReader
from watchkeep.streams.ports import Handler, Record, Span


class FaustSource:
    """The partitions that Faust assigned to this worker."""

    def __init__(self, app: faust.App, bootstrap: str, topic: str, stop: asyncio.Event) -> None:
        self._app = app
        self._topic = topic
        self._stop = stop
        self._reader = LogReader(bootstrap, topic)
        # Faust's own types hide noack().
        self.stream: Any = None

    @property
    def topic(self) -> str:
        """The topic's name."""
        return self._topic

    def when_revoked(self, callback: Callable[[set[int]], Awaitable[None]]) -> None:
        """Have a callback told which partitions go to another worker, before they go."""

        async def hand_over(_: Any, gone: Any, **__: Any) -> None:  # noqa: ANN401 - Faust's signals.
            await callback({place.partition for place in gone})

        connect: Any = self._app.on_partitions_revoked.connect
        connect(hand_over, weak=False)

    def assigned(self) -> set[int]:
        """Tell which partitions this process owns now."""
        places = self._app.consumer.assignment() if self._app.consumer else ()
        return {place.partition for place in places if place.topic == self._topic}

    async def records(self) -> AsyncIterator[Record]:
        """Deliver records until the worker is told to stop."""
        events = aiter(self.stream.noack().events())
        stopped = asyncio.ensure_future(self._stop.wait())
        try:
            while True:
                event = asyncio.ensure_future(anext(events))
                await asyncio.wait({event, stopped}, return_when=asyncio.FIRST_COMPLETED)
                if not event.done():
                    event.cancel()
                    return
                yield _record(self._topic, event.result())
        finally:
            stopped.cancel()

    async def spans(self, partitions: Collection[int]) -> dict[int, Span]:
        """Tell what partitions hold; see `LogReader`."""
        return await self._reader.spans(partitions)

    def between(self, ranges: Mapping[int, Span]) -> AsyncGenerator[Record, None]:
        """Read the records that partitions hold in ranges of offsets; see `LogReader`."""
        return self._reader.between(ranges)

    async def close(self) -> None:
        """Close the consumers that read outside the group."""
        await self._reader.close()


def _record(topic: str, event: Any) -> Record:  # noqa: ANN401 - Faust's event has no useful type.
    message = event.message
    value = message.value
    # Faust's message holds the same bytes; the runtime decides how long they are kept.
    message.value = None
    return Record(topic, message.partition, message.offset, value, event.ack, message.key)


async def consume(
    broker: Broker, group: str, topic: str, handler: Handler, stop: asyncio.Event
) -> None:
    """Run a Faust worker that hands its partitions to a handler, until told to stop.

    Args:
        broker: where the topic lives.
        group: the consumer group.
        topic: the topic to read.
        handler: returns after its source ends, with everything it holds acked or given up.
        stop: set to end the source.

    Raises:
        BaseException: whatever ended the handler.
    """
    # Faust makes a folder for tables, which are not used, where the program was started.
    with tempfile.TemporaryDirectory(prefix="watchkeep-faust-") as folder:
        app = _app(broker, group, folder)
        channel = app.topic(topic, key_serializer="raw", value_serializer="raw")
        source = FaustSource(app, broker.bootstrap, topic, stop)
        done = asyncio.Event()

        async def agent(stream: faust.StreamT[bytes]) -> None:
            source.stream = stream
            await handler(source)
            done.set()
            # An agent that returns would be started again.
            await asyncio.Event().wait()

        app.agent(channel, name=f"{group}-{topic}")(agent)
        try:
            await _run(app, done, stop)
        finally:
            await source.close()


def _app(broker: Broker, group: str, folder: str) -> faust.App:
    return faust.App(
        group,
        broker=[f"kafka://{server}" for server in broker.bootstrap.split(",")],
        datadir=folder,
        store="memory://",
        web_enabled=False,
        topic_disable_leader=True,
        consumer_auto_offset_reset="earliest",
        agent_supervisor="mode.CrashingSupervisor",
        # Held acks would keep a revoke or a stop waiting for ever.
        stream_wait_empty=False,
        # The buffer counts messages, and a frame may have hundreds of kilobytes.
        stream_buffer_maxsize=64,
        broker_session_timeout=broker.session_timeout_s,
        broker_heartbeat_interval=broker.session_timeout_s / 3,
        broker_commit_interval=1.0,
        consumer_group_instance_id=broker.instance or None,
    )


async def _run(app: faust.App, done: asyncio.Event, stop: asyncio.Event) -> None:
    started = asyncio.ensure_future(app.start())
    stopped = asyncio.ensure_future(stop.wait())
    finished = asyncio.ensure_future(done.wait())
    try:
        await asyncio.wait({started, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if not started.done():
            # Joining a group takes seconds, and nothing was taken yet that could be lost.
            return
        started.result()
        crashed = asyncio.ensure_future(app.wait_until_stopped())
        await asyncio.wait({finished, crashed}, return_when=asyncio.FIRST_COMPLETED)
        crashed.cancel()
        if app.crash_reason is not None:
            raise app.crash_reason
        await app.stop()
    finally:
        for task in (started, stopped, finished):
            task.cancel()
