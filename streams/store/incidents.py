"""What incidents keeps: windows, incidents, alerts with their outbox, detect's progress."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

from psycopg.types.json import Jsonb

from watchkeep.schemas.alert import Alert, Incident
from watchkeep.schemas.window import Window
from watchkeep.streams.ports import Step
from watchkeep.streams.store.connection import Connection, Tables
from watchkeep.streams.store.places import hold, move
from watchkeep.streams.stores import Lease

_OPEN_WINDOWS: Final = """
SELECT record FROM (
    SELECT DISTINCT ON (window_id) record, state, taken_at FROM windows
    WHERE entity IN (SELECT entity FROM incidents WHERE state = 'firing')
    ORDER BY window_id, revision DESC
) AS last WHERE state = 'open' ORDER BY taken_at
"""


class IncidentTables(Tables):
    """The tables of incidents; see `stores.IncidentStore`."""

    async def window_revision(self, window_id: str) -> int:
        """Tell the highest revision taken of a window; 0 for none."""
        rows = await self._database.rows(
            "SELECT coalesce(max(revision), 0) FROM windows WHERE window_id = %s", [window_id]
        )
        return int(rows[0][0])

    async def incident_of(self, entity: str) -> Incident | None:
        """Read the entity's open incident."""
        rows = await self._database.rows(
            "SELECT record FROM incidents WHERE entity = %s AND state = 'firing'", [entity]
        )
        return Incident.model_validate(rows[0][0]) if rows else None

    async def open_windows(self) -> Sequence[Window]:
        """Read the last revision of each window that is open, oldest first."""
        rows = await self._database.rows(_OPEN_WINDOWS)
        return [Window.model_validate(row[0]) for row in rows]

    async def record(self, lease: Lease, step: Step, told: tuple[Window, Incident, Alert]) -> None:
        """Keep a window's revision, its incident and the alert to publish.

        A revision that was taken before changes nothing but the place.
        """
        window, incident, alert = told
        async with self._database.transaction() as connection:
            await move(connection, lease, step)
            cursor = await connection.execute(
                "INSERT INTO windows (window_id, revision, entity, state, record) "
                "VALUES (%s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
                [window.window_id, window.revision, window.entity, window.state, _json(window)],
            )
            if cursor.rowcount:
                await _keep(connection, incident, alert)

    async def unpublished(self) -> Sequence[Alert]:
        """Read the outbox: alerts that the topic doesn't have yet, oldest first."""
        rows = await self._database.rows(
            "SELECT record FROM alerts WHERE published_at IS NULL ORDER BY seq"
        )
        return [Alert.model_validate(row[0]) for row in rows]

    async def published(self, alerts: Sequence[Alert]) -> None:
        """Take alerts out of the outbox."""
        async with self._database.transaction() as connection:
            await connection.cursor().executemany(
                "UPDATE alerts SET published_at = now() WHERE alert_id = %s AND revision = %s",
                [(alert.alert_id, alert.revision) for alert in alerts],
            )

    async def changed_since(self, seconds: float) -> Sequence[Incident]:
        """Read the incidents that have changed in so many seconds, or are still open."""
        rows = await self._database.rows(
            "SELECT record FROM incidents WHERE updated_at > now() - %s OR state = 'firing' "
            "ORDER BY updated_at",
            [timedelta(seconds=seconds)],
        )
        return [Incident.model_validate(row[0]) for row in rows]

    async def republish(self, lease: Lease, told: Sequence[tuple[Incident, Alert]]) -> None:
        """Keep incidents with the alerts to publish for them once more."""
        async with self._database.transaction() as connection:
            await hold(connection, lease)
            for incident, alert in told:
                await _keep(connection, incident, alert)

    async def save_progress(self, lease: Lease, step: Step, log_time_ms: Mapping[int, int]) -> None:
        """Keep how far detect has come, by shard.

        It never goes back: a worker that was paused tells late what it knew.
        """
        async with self._database.transaction() as connection:
            await move(connection, lease, step)
            await connection.execute(
                "INSERT INTO progress AS old (shard, log_time_ms) "
                "SELECT * FROM unnest(%s::int[], %s::bigint[]) "
                "ON CONFLICT (shard) DO UPDATE SET "
                "log_time_ms = greatest(old.log_time_ms, excluded.log_time_ms), "
                "updated_at = now()",
                [list(log_time_ms.keys()), list(log_time_ms.values())],
            )

    async def log_times(self) -> dict[int, int]:
        """Read how far detect has come, by shard, in ms."""
        rows: list[tuple[Any, ...]] = await self._database.rows(
            "SELECT shard, log_time_ms FROM progress"
        )
        return {row[0]: row[1] for row in rows}


async def _keep(connection: Connection, incident: Incident, alert: Alert) -> None:
    """Keep an incident, and its alert in the outbox; the same revision again is published again."""
    await connection.execute(
        "INSERT INTO incidents AS old (incident_id, revision, entity, state, record) "
        "VALUES (%s, %s, %s, %s, %s) ON CONFLICT (incident_id) DO UPDATE SET "
        "revision = excluded.revision, state = excluded.state, record = excluded.record, "
        "updated_at = now() WHERE excluded.revision > old.revision",
        [
            incident.incident_id,
            incident.revision,
            incident.entity,
            incident.state,
            _json(incident),
        ],
    )
    await connection.execute(
        "INSERT INTO alerts (alert_id, revision, record) VALUES (%s, %s, %s) "
        "ON CONFLICT (alert_id, revision) DO UPDATE SET published_at = NULL",
        [alert.alert_id, alert.revision, _json(alert)],
    )


def _json(record: Window | Incident | Alert) -> Jsonb:
    return Jsonb(record.model_dump(mode="json"))
