"""The notify stage: people are told of alerts, each once a reason.

The delivery log in the store remembers what was sent, so a restart repeats at most the send that
was under way.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

from watchkeep.notifiers.decide import Reason, decide
from watchkeep.notifiers.message import Receiver, message_of
from watchkeep.schemas.alert import Alert, decode
from watchkeep.schemas.errors import DeliveryError, RecordError
from watchkeep.streams.dead_letters import bury
from watchkeep.streams.ports import Delivery, NotifyStore, Record, Sink, Source

log = logging.getLogger(__name__)

_BACKOFF_S: Final = 0.5
_BACKOFF_MAX_S: Final = 8.0


async def follow(
    source: Source,
    *,
    sink: Sink,
    store: NotifyStore,
    receivers: Sequence[Receiver],
    attempts: int,
) -> None:
    """Follow the alerts until the source ends.

    Args:
        source: the alerts topic.
        sink: where unreadable records go.
        store: the delivery log.
        receivers: who is told.
        attempts: sends to a receiver before a message is given up.
    """
    async for record in source.records():
        alert = await _read(record, sink)
        if alert is not None:
            await _tell(alert, store, receivers, attempts)
        record.ack()


async def _read(record: Record, sink: Sink) -> Alert | None:
    if record.value is None:
        return None  # A tombstone: the alert's retention is over.
    try:
        return decode(record.value)
    except RecordError as error:
        await bury(sink, record, error)
        return None


async def _tell(
    alert: Alert, store: NotifyStore, receivers: Sequence[Receiver], attempts: int
) -> None:
    sent = await store.deliveries(alert.alert_id)
    async with asyncio.TaskGroup() as sends:
        for receiver in receivers:
            told = [d.reason for d in sent if d.channel == receiver.name and d.outcome == "sent"]
            reason = decide(alert, told)
            if reason.sends:
                sends.create_task(_send(alert, reason, receiver, store, attempts))


async def _send(
    alert: Alert, reason: Reason, receiver: Receiver, store: NotifyStore, attempts: int
) -> None:
    message = message_of(alert, reason)
    error = ""
    attempt = 0
    while attempt < attempts:
        attempt += 1
        try:
            await receiver.send(message)
        except DeliveryError as failure:
            error = str(failure)
            log.warning("attempt %d of %d: %s", attempt, attempts, error)
            if attempt < attempts:
                await asyncio.sleep(min(_BACKOFF_S * 2 ** (attempt - 1), _BACKOFF_MAX_S))
        else:
            error = ""
            break
    outcome = "failed" if error else "sent"
    await store.log_delivery(
        Delivery(alert.alert_id, alert.revision, receiver.name, reason, outcome, attempt, error)
    )
