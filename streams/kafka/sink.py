"""Writing to Kafka."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    KafkaError,
    OutOfOrderSequenceNumber,
    ProducerClosed,
    UnknownProducerId,
)

from watchkeep.schemas.errors import LogError, UnreachableError
from watchkeep.schemas.settings import Broker

# Shorter than the 30 s that Prometheus waits for an answer.
_SEND_TIMEOUT_MS: Final = 15_000
# More than any broker takes by default, as a dead letter is a record with headers around it.
_RECORD_BYTES_MAX: Final = 2_000_000
# What a producer doesn't recover from; the last is what an attempt to replace one may leave.
_BROKEN: Final = (OutOfOrderSequenceNumber, UnknownProducerId, ProducerClosed)


class KafkaSink:
    """Writes records; a send returns when all in-sync replicas have them."""

    def __init__(self, producer: AIOKafkaProducer, broker: Broker, *, fenced: bool) -> None:
        self._producer = producer
        self._broker = broker
        self._turn = asyncio.Lock() if fenced else None
        self._replacing = asyncio.Lock()

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
        producer = self._producer
        try:
            if self._turn is None:
                await producer.send_and_wait(topic, **record)
                return
            # A producer has one transaction at a time.
            async with self._turn, producer.transaction():
                await producer.send_and_wait(topic, **record)
        except KafkaError as error:
            # A fenced one goes with its process: to open it anew would end a successor's right.
            if self._turn is None and isinstance(error, _BROKEN):
                await self._replace(producer)
            raise LogError(f"{topic}/{partition} did not acknowledge: {error!r}") from error

    async def _replace(self, broken: AIOKafkaProducer) -> None:
        """Open another producer in place of one whose numbers the broker doesn't take any more.

        A batch that finds no leader until it expires, as at the end of an outage, has a number and
        is never sent. The broker waits for that number, and aiokafka counts on for as long as the
        producer lives: https://github.com/aio-libs/aiokafka/issues/1017.
        """
        async with self._replacing:
            if self._producer is not broken:
                return
            # What others have under way there comes before what the next one writes.
            await broken.stop()
            with suppress(UnreachableError):  # The next send tries again.
                self._producer = await _start(self._broker)

    async def close(self) -> None:
        """Write what is under way, and disconnect."""
        await self._producer.stop()


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
    producer = await _start(broker, f"watchkeep-{fenced_as}" if fenced else None)
    sink = KafkaSink(producer, broker, fenced=fenced)
    try:
        yield sink
    finally:
        await sink.close()


async def _start(broker: Broker, transactional_id: str | None = None) -> AIOKafkaProducer:
    """Connect a producer.

    Raises:
        UnreachableError: the broker doesn't answer.
    """
    producer = AIOKafkaProducer(
        bootstrap_servers=broker.bootstrap,
        acks="all",
        enable_idempotence=broker.idempotent,
        transactional_id=transactional_id,
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
    return producer
