"""Kafka: the one place that imports Faust and aiokafka.

Faust delivers, and that is all it is used for: one agent a topic, raw bytes, acks given by us and
in order, no tables. An agent that raises ends the worker (`CrashingSupervisor`); every other
supervisor skips the failed record.
"""

import asyncio
import logging
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import faust
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError

from watchkeep.schemas.errors import ConfigError, LogError, UnreachableError
from watchkeep.schemas.settings import Broker
from watchkeep.streams.ports import Handler, Record, Span
from watchkeep.streams.topics import TopicSpec

log = logging.getLogger(__name__)

_READ_TIMEOUT_MS = 5_000
_FETCH_MS = 500
_LOOK_S = 0.1
# Shorter than the 30 s that Prometheus waits for an answer.
_SEND_TIMEOUT_MS = 15_000
_RECORD_BYTES_MAX = 1_000_000
_REPLICAS = 3


async def check(bootstrap: str) -> None:
    """Make sure that the broker answers.

    Raises:
        ConfigError: it doesn't.
    """
    async with _admin(bootstrap):
        pass


async def create_topics(bootstrap: str, wanted: tuple[TopicSpec, ...]) -> list[str]:
    """Create the topics that are missing, and return their names.

    Raises:
        ConfigError: the broker doesn't answer, or a topic has another number of partitions.
    """
    async with _admin(bootstrap) as admin:
        # Asking for a topic that is missing makes some brokers create it, so all are listed first.
        names = set(await admin.list_topics())
        known = [spec.name for spec in wanted if spec.name in names]
        present = await admin.describe_topics(known) if known else []
        partitions = {
            topic["topic"]: len(topic["partitions"])
            for topic in present
            if topic["error_code"] == 0
        }
        for spec in wanted:
            if partitions.get(spec.name, spec.partitions) != spec.partitions:
                raise ConfigError(
                    f"topic {spec.name} has {partitions[spec.name]} partitions where "
                    f"{spec.partitions} are needed for good; delete it, or use another broker"
                )
        brokers = len((await admin.describe_cluster())["brokers"])
        replicas = min(_REPLICAS, brokers)
        missing = [spec for spec in wanted if spec.name not in partitions]
        await admin.create_topics(
            [
                NewTopic(spec.name, spec.partitions, replicas, topic_configs=spec.config)
                for spec in missing
            ]
        )
        return [spec.name for spec in missing]


async def delete_topics(bootstrap: str, names: Sequence[str]) -> None:
    """Delete topics, and wait until they are gone.

    Raises:
        UnreachableError: the broker doesn't answer.
    """
    async with _admin(bootstrap) as admin:
        await admin.delete_topics(list(names))
        while set(names) & set(await admin.list_topics()):  # noqa: ASYNC110 - It calls nobody.
            await asyncio.sleep(_LOOK_S)


async def end_of(bootstrap: str, topic: str) -> int:
    """Tell the offset that the next record of a topic of one partition will get.

    Raises:
        UnreachableError: the broker doesn't answer.
    """
    place = TopicPartition(topic, 0)
    async with _reader(bootstrap) as consumer:
        consumer.assign([place])
        return int((await consumer.end_offsets([place]))[place])


@asynccontextmanager
async def _admin(bootstrap: str) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        await admin.start()
    except (KafkaError, OSError) as error:
        await admin.close()
        raise UnreachableError(
            f"broker.bootstrap: no Kafka answers at {bootstrap}; is it running, and is the "
            "address right?"
        ) from error
    try:
        yield admin
    finally:
        await admin.close()


class KafkaSink:
    """Writes records; a send returns when all in-sync replicas have them."""

    def __init__(self, producer: AIOKafkaProducer, *, fenced: bool) -> None:
        self._producer = producer
        self._turn = asyncio.Lock() if fenced else None

    async def send(
        self,
        topic: str,
        value: bytes | None,
        *,
        partition: int = 0,
        key: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Write a record; returns only when the broker has acknowledged it."""
        pairs = [(name, text.encode()) for name, text in (headers or {}).items()]
        record = {"value": value, "partition": partition, "key": key, "headers": pairs}
        try:
            if self._turn is None:
                await self._producer.send_and_wait(topic, **record)
                return
            # A producer has one transaction at a time.
            async with self._turn, self._producer.transaction():
                await self._producer.send_and_wait(topic, **record)
        except KafkaError as error:
            raise LogError(f"{topic}/{partition} did not acknowledge: {error!r}") from error


@asynccontextmanager
async def open_sink(broker: Broker, fenced_as: str = "") -> AsyncIterator[KafkaSink]:
    """Connect a producer, and flush it at the end.

    Args:
        broker: where to.
        fenced_as: on a broker that can do it, a producer that was opened by this name before can't
            write any more, even when its process was only paused.

    Raises:
        ConfigError: the broker doesn't answer.
    """
    fenced = bool(fenced_as) and broker.idempotent
    producer = AIOKafkaProducer(
        bootstrap_servers=broker.bootstrap,
        acks="all",
        enable_idempotence=broker.idempotent,
        transactional_id=f"watchkeep-{fenced_as}" if fenced else None,
        max_request_size=_RECORD_BYTES_MAX,
        request_timeout_ms=_SEND_TIMEOUT_MS,
    )
    try:
        await producer.start()
    except (KafkaError, OSError) as error:
        await producer.stop()
        raise UnreachableError(
            f"broker.bootstrap: no Kafka answers at {broker.bootstrap}: {error}"
        ) from error
    try:
        yield KafkaSink(producer, fenced=fenced)
    finally:
        await producer.stop()


async def tail(bootstrap: str, topic: str, *, follow: bool) -> AsyncIterator[Record]:
    """Read a topic of one partition from its beginning, outside any group.

    Args:
        bootstrap: the broker.
        topic: the topic.
        follow: go on for ever; else end where the topic ends now.
    """
    place = TopicPartition(topic, 0)
    async with _reader(bootstrap) as consumer:
        consumer.assign([place])
        await consumer.seek_to_beginning(place)
        end = (await consumer.end_offsets([place]))[place]
        if not follow:
            async for message in _messages(consumer, {place: end}):
                yield _read_record(topic, message)
        while follow:
            batches = await consumer.getmany(timeout_ms=_FETCH_MS)
            for message in batches.get(place, ()):
                yield _read_record(topic, message)


def _read_record(topic: str, message: Any) -> Record:  # noqa: ANN401 - aiokafka has no types.
    headers = {name: value.decode(errors="replace") for name, value in message.headers}
    place = (topic, message.partition, message.offset)
    return Record(*place, message.value, _no_ack, message.key, headers, message.timestamp)


def _no_ack() -> None:
    """Records that are read outside a group need no ack."""


@asynccontextmanager
async def _reader(bootstrap: str) -> AsyncIterator[AIOKafkaConsumer]:
    # A stop waits for the fetch under way, so fetches are short.
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap, enable_auto_commit=False, fetch_max_wait_ms=50
    )
    try:
        await consumer.start()
    except (KafkaError, OSError) as error:
        await consumer.stop()
        raise UnreachableError(
            f"broker.bootstrap: no Kafka answers at {bootstrap}: {error}"
        ) from error
    try:
        yield consumer
    finally:
        await consumer.stop()


class FaustSource:
    """The partitions that Faust assigned to this worker."""

    def __init__(self, app: faust.App, bootstrap: str, topic: str, stop: asyncio.Event) -> None:
        self._app = app
        self._bootstrap = bootstrap
        self._topic = topic
        self._stop = stop
        # Faust's own types hide noack().
        self.stream: Any = None
        self._idle: list[Any] = []
        self._opened = AsyncExitStack()

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
        """Tell what partitions hold.

        Raises:
            LogError: the broker doesn't answer.
        """
        places = [TopicPartition(self._topic, partition) for partition in partitions]
        if not places:
            return {}
        async with self._borrowed() as consumer:
            consumer.assign(places)
            begins = await consumer.beginning_offsets(places)
            ends = await consumer.end_offsets(places)
        return {place.partition: Span(begins[place], ends[place]) for place in places}

    async def between(self, ranges: Mapping[int, Span]) -> AsyncIterator[Record]:
        """Read the records that partitions hold in ranges of offsets, each in order.

        Raises:
            LogError: the broker doesn't answer.
        """
        held = await self.spans(ranges)
        begins, ends = {}, {}
        for partition, (begin, end) in ranges.items():
            first, last = max(begin, held[partition].begin), min(end, held[partition].end)
            if first < last:
                place = TopicPartition(self._topic, partition)
                begins[place], ends[place] = first, last
        if not ends:
            return
        async with self._borrowed() as consumer:
            consumer.assign(list(ends))
            for place, offset in begins.items():
                consumer.seek(place, offset)
            async for message in _messages(consumer, ends):
                yield _read_record(self._topic, message)

    @asynccontextmanager
    async def _borrowed(self) -> AsyncIterator[Any]:
        """Lend a consumer outside the group; one is opened when all are lent."""
        try:
            if self._idle:
                consumer = self._idle.pop()
            else:
                consumer = await self._opened.enter_async_context(_reader(self._bootstrap))
            try:
                yield consumer
            finally:
                self._idle.append(consumer)
        except (KafkaError, ConfigError) as error:
            raise LogError(f"{self._topic} can't be read: {error!r}") from error

    async def close(self) -> None:
        """Close the consumers that were lent."""
        await self._opened.aclose()


async def _messages(consumer: Any, ends: dict[TopicPartition, int]) -> AsyncIterator[Any]:  # noqa: ANN401 - aiokafka has no types.
    """Read messages up to the ends; the last offsets may be marks that no message stands for."""
    silent_ms = 0
    ends = dict(ends)
    while ends and silent_ms < _READ_TIMEOUT_MS:
        batches = await consumer.getmany(*ends, timeout_ms=_FETCH_MS)
        silent_ms = 0 if batches else silent_ms + _FETCH_MS
        for place, batch in batches.items():
            for message in batch:
                if message.offset < ends[place]:
                    yield message
        for place in list(ends):
            if await consumer.position(place) >= ends[place]:
                del ends[place]
                consumer.pause(place)


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
