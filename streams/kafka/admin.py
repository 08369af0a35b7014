"""The broker itself: does it answer, and has it the topics."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from watchkeep.schemas.errors import ConfigError, UnreachableError
from watchkeep.streams.topics import TopicSpec

_LOOK_S: Final = 0.1
_REPLICAS: Final = 3


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
        missing = await _missing(admin, wanted)
        brokers = len((await admin.describe_cluster())["brokers"])
        replicas = min(_REPLICAS, brokers)
        answer = await admin.create_topics(
            [
                NewTopic(spec.name, spec.partitions, replicas, topic_configs=spec.config)
                for spec in missing
            ]
        )
        for name, code, *why in answer.topic_errors:
            if code not in {0, TopicAlreadyExistsError.errno}:
                raise ConfigError(f"topic {name} can't be created: {for_code(code).__name__} {why}")
        while not {spec.name for spec in missing} <= set(await admin.list_topics()):  # noqa: ASYNC110 - It calls nobody.
            await asyncio.sleep(_LOOK_S)
        return [spec.name for spec in missing]


async def missing_topics(bootstrap: str, wanted: tuple[TopicSpec, ...]) -> list[str]:
    """Name the topics that `create_topics` would create.

    Raises:
        ConfigError: the broker doesn't answer, or a topic has another number of partitions.
    """
    async with _admin(bootstrap) as admin:
        return [spec.name for spec in await _missing(admin, wanted)]


async def _missing(
    admin: AIOKafkaAdminClient, wanted: tuple[TopicSpec, ...]
) -> tuple[TopicSpec, ...]:
    # Asking for a topic that is missing makes some brokers create it, so all are listed first.
    names = set(await admin.list_topics())
    known = [spec.name for spec in wanted if spec.name in names]
    present = await admin.describe_topics(known) if known else []
    partitions = {
        topic["topic"]: len(topic["partitions"]) for topic in present if topic["error_code"] == 0
    }
    for spec in wanted:
        if partitions.get(spec.name, spec.partitions) != spec.partitions:
            raise ConfigError(
                f"topic {spec.name} has {partitions[spec.name]} partitions where "
                f"{spec.partitions} are needed for good; delete it, or use another broker"
            )
    return tuple(spec for spec in wanted if spec.name not in partitions)


@asynccontextmanager
async def _admin(bootstrap: str) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        try:
            await admin.start()
        except (KafkaError, OSError) as error:
            raise UnreachableError(
                f"broker.bootstrap: no Kafka answers at {bootstrap}; is it running, and is the "
                "address right?"
            ) from error
        yield admin
    finally:
        await admin.close()
