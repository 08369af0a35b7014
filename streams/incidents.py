"""The incidents stage: windows become incidents, and incidents are told as alerts.

A window, its incident and the alert to publish are kept in one transaction; the alert goes out from
there, so a crash between the two publishes it again and never loses it.
"""

from watchkeep.enrichers.incidents import advance
from watchkeep.enrichers.template import alert_of
from watchkeep.schemas.alert import Alert
from watchkeep.schemas.entity import Entity
from watchkeep.schemas.errors import RecordError
from watchkeep.schemas.text import iso_time
from watchkeep.schemas.window import Progress, Window, decode
from watchkeep.streams.dead_letters import bury
from watchkeep.streams.ports import IncidentStore, Lease, Record, Sink, Source
from watchkeep.streams.topics import ALERTS


async def follow(source: Source, *, sink: Sink, store: IncidentStore, lease: Lease) -> None:
    """Follow the anomalies until the source ends."""
    await _publish(sink, store)
    async for record in source.records():
        await _take(record, sink, store, lease)
        record.ack()


async def _take(record: Record, sink: Sink, store: IncidentStore, lease: Lease) -> None:
    try:
        anomaly = _read(record)
    except RecordError as error:
        await bury(sink, record, error)
        return
    if isinstance(anomaly, Progress):
        await store.save_progress(anomaly.log_time_ms)
    elif anomaly.revision > await store.window_revision(anomaly.window_id):
        await _tell(anomaly, sink, store, lease)


def _read(record: Record) -> Window | Progress:
    anomaly = decode(record.value or b"")
    if isinstance(anomaly, Window):
        # An alert can't be written about what has no entity or shows nothing.
        Entity.from_key(anomaly.entity)
        if not anomaly.evidence:
            raise RecordError("the window has no evidence")
    return anomaly


async def _tell(window: Window, sink: Sink, store: IncidentStore, lease: Lease) -> None:
    incident = advance(await store.incident_of(window.entity), window)
    await store.record(lease, window, incident, alert_of(incident))
    await _publish(sink, store)


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
