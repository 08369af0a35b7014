"""The notify stage: people are told of alerts, each once a reason.

The delivery log in the store remembers what was sent, so a restart repeats at most the send that
was under way. Beside the alerts, operators are told of what is wrong with Watchkeep itself; when
the store is gone, from what this process has in memory alone.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from watchkeep.notifiers.decide import Reason, decide
from watchkeep.notifiers.message import Message, Receiver, blind, message_of, sees_again
from watchkeep.schemas.alert import Alert, decode
from watchkeep.schemas.errors import DeliveryError, RecordError, StoreError
from watchkeep.streams import following
from watchkeep.streams.dead_letters import bury
from watchkeep.streams.patience import patiently
from watchkeep.streams.ports import Record, Sink, Source, Step
from watchkeep.streams.stores import Delivery, Lease, NotifyStore
from watchkeep.streams.vitals import DELIVERIES

log = logging.getLogger(__name__)

_BACKOFF_S: Final = 0.5
_BACKOFF_MAX_S: Final = 8.0
_LOOK_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Teller:
    """Who is told, and how hard it is tried.

    Attributes:
        attempts: sends to a receiver before a message is given up.
        blind_after_s: the database may be gone for so long before people are told.
    """

    receivers: Sequence[Receiver]
    attempts: int
    blind_after_s: float


async def follow(
    source: Source, *, sink: Sink, store: NotifyStore, lease: Lease, teller: Teller
) -> None:
    """Follow the alerts until the source ends.

    Args:
        source: the alerts topic.
        sink: where unreadable records go.
        store: the delivery log.
        lease: the right to be active.
        teller: who is told.
    """

    async def take(record: Record, step: Step) -> None:
        alert = await _read(record, sink)
        if alert is not None:
            await _tell(alert, store, lease, teller)
        await store.advance(lease, step)

    async with asyncio.TaskGroup() as tasks:
        beside = tasks.create_task(_look_after(store, teller))
        await following.follow(source, sink, store, lease, take)
        beside.cancel()


async def _read(record: Record, sink: Sink) -> Alert | None:
    if record.value is None:
        return None  # A tombstone: the alert's retention is over.
    try:
        return decode(record.value)
    except RecordError as error:
        await bury(sink, record, str(error))
        return None


async def _tell(alert: Alert, store: NotifyStore, lease: Lease, teller: Teller) -> None:
    # A process that was paused while another took over learns it here, before it sends.
    sent = await store.deliveries(lease, alert.alert_id)
    async with asyncio.TaskGroup() as sends:
        for receiver in teller.receivers:
            told = [d.reason for d in sent if d.channel == receiver.name and d.outcome == "sent"]
            reason = decide(alert, told)
            if reason.sends:
                sends.create_task(_deliver(alert, reason, receiver, store, teller.attempts))


async def _deliver(
    alert: Alert, reason: Reason, receiver: Receiver, store: NotifyStore, attempts: int
) -> None:
    attempt, error = await _send(message_of(alert, reason), receiver, attempts)
    outcome = "failed" if error else "sent"
    line = Delivery(alert.alert_id, alert.revision, receiver.name, reason, outcome, attempt, error)
    DELIVERIES.labels(receiver.name, outcome).inc()
    await patiently(lambda: store.log_delivery(line))


async def _send(message: Message, receiver: Receiver, attempts: int) -> tuple[int, str]:
    """Send a message; return how many attempts it took, and what the last one said."""
    error = ""
    for attempt in range(1, attempts + 1):
        try:
            await receiver.send(message)
        except DeliveryError as failure:
            error = str(failure)
            log.warning("attempt %d of %d: %s", attempt, attempts, error)
            if attempt < attempts:
                await asyncio.sleep(min(_BACKOFF_S * 2 ** (attempt - 1), _BACKOFF_MAX_S))
        else:
            return attempt, ""
    return attempts, error


async def _look_after(store: NotifyStore, teller: Teller) -> None:
    """Tell the operators of troubles, and that the store is gone; runs as long as notify."""
    loop = asyncio.get_running_loop()
    seen_s, is_blind = loop.time(), False
    while True:
        try:
            await _tell_troubles(store, teller)
        except StoreError as error:
            gone_s = loop.time() - seen_s
            if not is_blind and gone_s >= teller.blind_after_s:
                log.warning("the database is gone for %.0f s: people are told", gone_s)
                is_blind = await _send_all(blind(gone_s, str(error)), teller)
        else:
            if is_blind:
                await _send_all(sees_again(loop.time() - seen_s), teller)
            seen_s, is_blind = loop.time(), False
        await asyncio.sleep(min(_LOOK_S, teller.blind_after_s))


async def _tell_troubles(store: NotifyStore, teller: Teller) -> None:
    for trouble in await store.troubles():
        if await _send_all(Message(trouble.title, trouble.text, resolved=False), teller):
            await store.told([trouble])


async def _send_all(message: Message, teller: Teller) -> bool:
    """Send a message to everyone; return whether anyone has it, or nobody is to be told."""
    sends = [_send(message, receiver, teller.attempts) for receiver in teller.receivers]
    errors = [error for _, error in await asyncio.gather(*sends)]
    return not all(errors) or not errors
