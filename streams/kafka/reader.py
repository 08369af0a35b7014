"""Reading from Kafka outside any consumer group."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from watchkeep.schemas.errors import UnreachableError
from watchkeep.streams.ports import Record

_READ_TIMEOUT_MS: Final = 5_000
_FETCH_MS: Final = 500


async def tail(bootstrap: str, topic: str, *, follow: bool) -> AsyncIterator[Record]:
    """Read a topic of one partition from its beginning, outside any group.

    Args:
        bootstrap: the broker.
        topic: the topic.
        follow: go on for ever; else end where the topic ends now.
    """
    place = TopicPartition(topic, 0)
    async with open_reader(bootstrap) as consumer:
        consumer.assign([place])
        await consumer.seek_to_beginning(place)
        end = (await consumer.end_offsets([place]))[place]
        if not follow:
            async for message in messages(consumer, {place: end}):
                yield read_record(topic, message)
        while follow:
            batches = await consumer.getmany(timeout_ms=_FETCH_MS)
            for message in batches.get(place, ()):
                yield read_record(topic, message)


async def end_of(bootstrap: str, topic: str) -> int:
    """Tell the offset that the next record of a topic of one partition will get.

    Raises:
        UnreachableError: the broker doesn't answer.
    """
    place = TopicPartition(topic, 0)
    async with open_reader(bootstrap) as consumer:
        consumer.assign([place])
        return int((await consumer.end_offsets([place]))[place])


async def messages(consumer: Any, ends: dict[TopicPartition, int]) -> AsyncIterator[Any]:  # noqa: ANN401 - aiokafka has no types.
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


def read_record(topic: str, message: Any) -> Record:  # noqa: ANN401 - aiokafka has no types.
    """Make a record of a message; its ack does nothing."""
    headers = {name: value.decode(errors="replace") for name, value in message.headers}
    place = (topic, message.partition, message.offset)
    return Record(*place, message.value, _no_ack, message.key, headers, message.timestamp)


def _no_ack() -> None:
    """Records that are read outside a group need no ack."""


@asynccontextmanager
async def open_reader(bootstrap: str) -> AsyncIterator[AIOKafkaConsumer]:
    """Open a consumer without a group.

    Raises:
        UnreachableError: the broker doesn't answer.
    """
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
