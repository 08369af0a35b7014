"""Dead letters: records that no stage can take are kept with their place and the error."""

import logging
from typing import Final

from watchkeep.streams import vitals
from watchkeep.streams.places import record_hash
from watchkeep.streams.ports import Place, Record, Sink
from watchkeep.streams.stores import Attempts, Trouble, TroubleStore
from watchkeep.streams.topics import DEAD_LETTERS

log = logging.getLogger(__name__)

# A record that has ended a stage so often is not tried again.
ATTEMPTS_MAX: Final = 3


async def bury(sink: Sink, record: Record, error: str) -> None:
    """Write a record's original bytes to the dead-letter topic, and say so."""
    log.error("%s can't be taken, it goes to %s: %s", _where(record), DEAD_LETTERS, error)
    headers = {
        "topic": record.topic,
        "partition": str(record.partition),
        "offset": str(record.offset),
        "error": error,
    }
    await sink.send(DEAD_LETTERS, record.value, key=record.key, headers=headers)
    vitals.DEAD_LETTERS.labels(record.topic).inc()


def is_deadly(record: Record, attempts: Attempts | None) -> bool:
    """Tell whether a record has ended its stage so often that it is not to be tried again."""
    return (
        attempts is not None
        and attempts.deaths >= ATTEMPTS_MAX
        and attempts.place == Place(record.offset, record_hash(record.value))
    )


async def bury_deadly(sink: Sink, store: TroubleStore, record: Record, stage: str) -> None:
    """Put a deadly record aside, and have the operators told."""
    where = _where(record)
    await bury(sink, record, f"it has ended {stage} {ATTEMPTS_MAX} times")
    await store.report(
        Trouble(
            f"deadly/{record.topic}/{record.partition}/{record.offset}",
            f"Watchkeep's {stage} died {ATTEMPTS_MAX} times of one record",
            f"{where} is put aside, and {stage} goes on without it. `watchkeep dlq list` shows it, "
            f"and the log of {stage} what happened.",
        )
    )


def _where(record: Record) -> str:
    return f"{record.topic}/{record.partition} offset {record.offset}"
