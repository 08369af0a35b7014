"""The incidents stage: windows become incidents, and incidents are told as alerts.

A window, its incident, the alert to publish and the place in the log are kept in one transaction;
the alert goes out from there, so a crash between the two publishes it again and never loses it.
"""

from collections.abc import AsyncIterator
from typing import Final

from watchkeep.enrichers.incidents import advance
from watchkeep.enrichers.template import alert_of
from watchkeep.schemas.alert import Alert
from watchkeep.schemas.alert import decode as decode_alert
from watchkeep.schemas.entity import Entity
from watchkeep.schemas.errors import RecordError
from watchkeep.schemas.frame import shard_of
from watchkeep.schemas.text import iso_time
from watchkeep.schemas.window import (
    Anomaly,
    ColdStart,
    Progress,
    Window,
    WindowState,
    decode,
)
from watchkeep.streams import following
from watchkeep.streams.dead_letters import bury
from watchkeep.streams.patience import patiently
from watchkeep.streams.ports import Record, Sink, Source, Step
from watchkeep.streams.stores import IncidentStore, Lease
from watchkeep.streams.topics import ALERTS

_REPUBLISHED_S: Final = 3_600.0


async def follow(
    source: Source,
    *,
    sink: Sink,
    store: IncidentStore,
    lease: Lease,
    alerts: AsyncIterator[Record],
) -> None:
    """Follow the anomalies until the source ends.

    Args:
        source: the anomalies topic.
        sink: where alerts and unreadable records go.
        store: has the incidents and the outbox.
        lease: the right to be active.
        alerts: what the alerts topic holds now, from its beginning.
    """
    published = await _in_topic(alerts)
    await patiently(lambda: _mend(published, store, lease))
    await patiently(lambda: _publish(sink, store))

    async def take(record: Record, step: Step) -> None:
        await _take(record, step, sink, store, lease)

    await following.follow(source, sink, store, lease, take)


async def _in_topic(alerts: AsyncIterator[Record]) -> dict[str, tuple[int, int]]:
    """Read, by alert, the highest revision in the topic, and the one written last."""
    revisions: dict[str, tuple[int, int]] = {}
    async for record in alerts:
        if record.value is None:
            continue
        try:
            alert = decode_alert(record.value)
        except RecordError:
            continue  # Notify keeps it as a dead letter.
        highest, _ = revisions.get(alert.alert_id, (0, 0))
        revisions[alert.alert_id] = (max(highest, alert.revision), alert.revision)
    return revisions


async def _mend(published: dict[str, tuple[int, int]], store: IncidentStore, lease: Lease) -> None:
    """Make the topic's last word on each recent alert the newest.

    A predecessor that was paused may have written an old revision last, and compaction keeps what
    was written last. A database restored from a backup has lower revisions than readers have seen,
    so its own are lifted above those.
    """
    told = []
    for incident in await store.changed_since(_REPUBLISHED_S):
        highest, last = published.get(incident.incident_id, (0, 0))
        if highest > incident.revision:
            lifted = incident.model_copy(update={"revision": highest + 1})
            told.append((lifted, alert_of(lifted)))
        elif last != incident.revision:
            told.append((incident, alert_of(incident)))
    if told:
        await store.republish(lease, told)


async def _take(record: Record, step: Step, sink: Sink, store: IncidentStore, lease: Lease) -> None:
    try:
        anomaly = _read(record)
    except RecordError as error:
        await bury(sink, record, str(error))
        await store.advance(lease, step)
        return
    if isinstance(anomaly, Progress):
        await store.save_progress(lease, step, anomaly.log_time_ms)
    elif isinstance(anomaly, ColdStart):
        await _close_all(anomaly, step, store, lease)
        await patiently(lambda: _publish(sink, store))
    elif anomaly.revision <= await store.window_revision(anomaly.window_id):
        await store.advance(lease, step)
    else:
        incident = advance(await store.incident_of(anomaly.entity), anomaly)
        await store.record(lease, step, (anomaly, incident, alert_of(incident)))
        await patiently(lambda: _publish(sink, store))


async def _close_all(cold: ColdStart, step: Step, store: IncidentStore, lease: Lease) -> None:
    """Close the windows of a shard whose state was lost; what goes on will be found anew."""
    for window in await store.open_windows():
        if shard_of(window.entity) == cold.shard:
            closed = window.model_copy(
                update={
                    "revision": window.revision + 1,
                    "state": WindowState.CLOSED,
                    "ended_ms": window.at_ms,
                }
            )
            incident = advance(await store.incident_of(closed.entity), closed)
            # The place stays until all are closed, so that a crash between two closes the rest.
            stay = Step(step.before, step.before)
            await store.record(lease, stay, (closed, incident, alert_of(incident)))
    await store.advance(lease, step)


def _read(record: Record) -> Anomaly:
    anomaly = decode(record.value or b"")
    if isinstance(anomaly, Window):
        # An alert can't be written about what has no entity or shows nothing.
        Entity.from_key(anomaly.entity)
        if not anomaly.evidence:
            raise RecordError("the window has no evidence")
    return anomaly


async def _publish(sink: Sink, store: IncidentStore) -> None:
    for alert in await store.unpublished():
        await sink.send(
            ALERTS,
            alert.model_dump_json().encode(),
            key=alert.alert_id.encode(),
            headers=_cloud_event(alert),
        )
        await store.published([alert])


def _cloud_event(alert: Alert) -> dict[str, str]:
    """Describe the record in CloudEvents' binary content mode for Kafka."""
    return {
        "ce_specversion": "1.0",
        "ce_id": f"{alert.alert_id}/{alert.revision}",
        "ce_type": "watchkeep.alert.v1",
        "ce_source": "/watchkeep/incidents",
        "ce_time": iso_time(alert.at_ms),
        "content-type": "application/json",
    }
