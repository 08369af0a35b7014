"""Writing to Kafka."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from watchkeep.schemas.errors import LogError, UnreachableError
from watchkeep.schemas.settings import Broker

# Shorter than the 30 s that Prometheus waits for an answer.
_SEND_TIMEOUT_MS: Final = 15_000
# More than any broker takes by default, as a dead letter is a record with headers around it.
_RECORD_BYTES_MAX: Final = 2_000_000


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
