"""Dead letters: records that no stage can read are kept with their place and the error."""

import logging

from watchkeep.schemas.errors import DecodeError
from watchkeep.streams.ports import Record, Sink
from watchkeep.streams.topics import DEAD_LETTERS

log = logging.getLogger(__name__)


async def bury(sink: Sink, record: Record, error: DecodeError) -> None:
    """Write a record's original bytes to the dead-letter topic, and say so."""
    log.error(
        "%s/%d offset %d can't be read, it goes to %s: %s",
        record.topic,
        record.partition,
        record.offset,
        DEAD_LETTERS,
        error,
    )
    headers = {
        "topic": record.topic,
        "partition": str(record.partition),
        "offset": str(record.offset),
        "error": str(error),
    }
    await sink.send(DEAD_LETTERS, record.value, headers=headers)
