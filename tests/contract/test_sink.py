"""What writers rely on: whatever a broker was through, a producer doesn't stay broken."""

import asyncio

import pytest
from aiokafka import TopicPartition

from watchkeep.schemas.errors import LogError
from watchkeep.schemas.settings import Broker
from watchkeep.streams import kafka
from watchkeep.streams.topics import ALERTS, METRICS, specs

pytestmark = pytest.mark.broker


async def test_a_lost_number_costs_one_write(kafka_broker: Broker) -> None:
    """A batch that expired before it was sent has taken a number, which the broker waits for."""
    await kafka.create_topics(kafka_broker.bootstrap, specs())
    async with kafka.open_sink(kafka_broker) as sink:
        await sink.send(ALERTS, b"1", key=b"k")
        numbers = sink._producer._txn_manager
        numbers.increment_sequence_number(TopicPartition(ALERTS, 0), 1)
        # Others write at the same time, some to partitions that can be written.
        async with asyncio.timeout(30):
            ended = await asyncio.gather(
                *(sink.send(ALERTS, b"lost", key=b"k") for _ in range(3)),
                *(sink.send(METRICS, b"2", partition=shard) for shard in range(3)),
                return_exceptions=True,
            )
            assert [type(end) for end in ended] == [LogError] * 3 + [type(None)] * 3
            await sink.send(ALERTS, b"3", key=b"k")
    records = kafka.tail(kafka_broker.bootstrap, ALERTS, follow=False)
    assert [record.value async for record in records] == [b"1", b"3"]
