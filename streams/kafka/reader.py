"""Reading from Kafka outside any consumer group."""

from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from watchkeep.schemas.errors import ConfigError, LogError, UnreachableError
from watchkeep.streams.ports import Record, Span

_READ_TIMEOUT_MS: Final = 5_000
_FETCH_MS: Final = 500
_READ_BYTES: Final = 1024 * 1024
# A fetch brings one batch at least, however small this is.
_LOOK_BYTES: Final = 1


class LogReader:
    """Reads a topic by offsets; consumers are opened as they are needed, and used again."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self._bootstrap = bootstrap
        self._topic = topic
        self._idle: dict[int, list[Any]] = defaultdict(list)
        self._opened = AsyncExitStack()

    async def spans(self, partitions: Collection[int]) -> dict[int, Span]:
        """Tell what partitions hold.

        Raises:
            LogError: the broker doesn't answer.
        """
        places = [TopicPartition(self._topic, partition) for partition in partitions]
        if not places:
            return {}
        async with self._borrowed() as consumer:
            begins = await consumer.beginning_offsets(places)
            ends = await consumer.end_offsets(places)
        return {place.partition: Span(begins[place], ends[place]) for place in places}

    async def between(self, ranges: Mapping[int, Span]) -> AsyncGenerator[Record, None]:
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
        # One record is looked at often, and needn't bring a megabyte of those behind it.
        single = all(ends[place] - begins[place] == 1 for place in ends)
        async with self._borrowed(_LOOK_BYTES if single else _READ_BYTES) as consumer:
            consumer.assign(list(ends))
            for place, offset in begins.items():
                consumer.seek(place, offset)
            async for message in _messages(consumer, ends):
                yield _read_record(self._topic, message)

    @asynccontextmanager
    async def _borrowed(self, fetch_bytes: int = _LOOK_BYTES) -> AsyncIterator[Any]:
        """Lend a consumer outside the group; one is opened when all are lent."""
        idle = self._idle[fetch_bytes]
        try:
            if idle:
                consumer = idle.pop()
            else:
                consumer = await self._opened.enter_async_context(
                    _open_reader(self._bootstrap, fetch_bytes)
                )
            try:
                yield consumer
            finally:
                # Else it would go on to fetch what nobody asks for.
                consumer.unsubscribe()
                idle.append(consumer)
        except (KafkaError, ConfigError) as error:
            raise LogError(f"{self._topic} can't be read: {error!r}") from error

    async def close(self) -> None:
        """Close the consumers."""
        await self._opened.aclose()


async def tail(bootstrap: str, topic: str, *, follow: bool) -> AsyncIterator[Record]:
    """Read a topic of one partition from its beginning, outside any group.

    Args:
        bootstrap: the broker.
        topic: the topic.
        follow: go on for ever; else end where the topic ends now.
    """
    place = TopicPartition(topic, 0)
    async with _open_reader(bootstrap) as consumer:
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


async def _messages(consumer: Any, ends: dict[TopicPartition, int]) -> AsyncIterator[Any]:  # noqa: ANN401 - aiokafka has no types.
    """Read messages up to the ends; the last offsets may be marks that no message stands for.

    Raises:
        LogError: the broker has stopped to answer in the middle.
    """
    silent_ms = 0
    ends = dict(ends)
    while ends:
        if silent_ms >= _READ_TIMEOUT_MS:
            raise LogError(f"the broker brings nothing for {_READ_TIMEOUT_MS / 1000:.0f} s")
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


def _read_record(topic: str, message: Any) -> Record:  # noqa: ANN401 - aiokafka has no types.
    headers = {name: value.decode(errors="replace") for name, value in message.headers}
    place = (topic, message.partition, message.offset)
    return Record(*place, message.value, _no_ack, message.key, headers, message.timestamp)


def _no_ack() -> None:
    """Records that are read outside a group need no ack."""


@asynccontextmanager
async def _open_reader(
    bootstrap: str, fetch_bytes: int = _READ_BYTES
) -> AsyncIterator[AIOKafkaConsumer]:
    """Open a consumer without a group.

    Raises:
        UnreachableError: the broker doesn't answer.
    """
    # A stop waits for the fetch under way, so fetches are short.
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        enable_auto_commit=False,
        fetch_max_wait_ms=50,
        max_partition_fetch_bytes=fetch_bytes,
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
