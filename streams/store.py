"""The store on PostgreSQL: the one place that imports psycopg."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from importlib.resources import files
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.types.json import Jsonb
from psycopg_pool import AsyncConnectionPool

from watchkeep.schemas.alert import Alert, Incident
from watchkeep.schemas.errors import ConfigError, LeaseLostError
from watchkeep.schemas.window import Window
from watchkeep.streams.ports import Delivery, Lease, Rollups, Snapshot

_CONNECT_S: Final = 5
_MIGRATION_LOCK: Final = 7_220_418  # Any number that nobody else locks.

_ROLLUP: Final = """
INSERT INTO rollups (at, signal_id, step_s, value, members, expected, spread, score, threshold,
                     warmup, channel)
SELECT to_timestamp(at_ms / 1000.0), id, %(step_s)s, value, members, expected, spread, score,
       threshold, warmup, %(channel)s
FROM unnest(%(at_ms)s::bigint[], %(id)s::bigint[], %(value)s::float8[], %(members)s::int[],
            %(expected)s::float8[], %(spread)s::float8[], %(score)s::float8[],
            %(threshold)s::float8[], %(warmup)s::real[])
     AS cell (at_ms, id, value, members, expected, spread, score, threshold, warmup)
ON CONFLICT (signal_id, at) DO UPDATE SET
    step_s = excluded.step_s, value = excluded.value, members = excluded.members,
    expected = excluded.expected, spread = excluded.spread, score = excluded.score,
    threshold = excluded.threshold, warmup = excluded.warmup, channel = excluded.channel
"""

_ACQUIRE: Final = """
INSERT INTO leases AS held (name, holder, token, expires_at)
VALUES (%(name)s, %(holder)s, 1, now() + %(ttl)s)
ON CONFLICT (name) DO UPDATE SET
    holder = excluded.holder,
    expires_at = excluded.expires_at,
    token = held.token + (held.holder <> excluded.holder OR held.expires_at <= now())::int
WHERE held.holder = excluded.holder OR held.expires_at <= now()
RETURNING token
"""


async def check(url: str) -> None:
    """Make sure that the database can be reached.

    Raises:
        ConfigError: it can't, in one line without the password.
    """
    async with await _connect(url):
        pass


async def _connect(url: str) -> psycopg.AsyncConnection[Any]:
    try:
        return await psycopg.AsyncConnection.connect(
            url, autocommit=True, connect_timeout=_CONNECT_S
        )
    except psycopg.Error as error:
        # The cause may quote the URL, and with it the password.
        raise ConfigError(_unreachable(url, error)) from None


def place(url: str) -> str:
    """Tell where a database is, without user and password: ``db:5432/watchkeep``.

    Raises:
        ConfigError: this is no URL of a PostgreSQL.
    """
    try:
        parts = conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        raise ConfigError(
            "database.url: this is no PostgreSQL URL; "
            "postgresql://user:password@host:5432/name is expected"
        ) from None
    host, port = parts.get("host", "localhost"), parts.get("port", 5432)
    return f"{host}:{port}/{parts.get('dbname', '')}"


def _unreachable(url: str, error: psycopg.Error) -> str:
    where = place(url)
    if "@" in where:
        # Cut at the wrong place: what passes for host or name may be the password's rest.
        return (
            "database.url: an @ or / in the user or password parts the URL at the wrong place; "
            "write %40 for @ and %2F for /"
        )
    reason = " ".join(str(error).split())
    if password := conninfo_to_dict(url).get("password"):
        reason = reason.replace(str(password), "********")
    return (
        f"database.url: can't connect to {where} ({reason}); is it running, and are host, user, "
        "password and database name right?"
    )


async def migrate(url: str) -> list[str]:
    """Bring the database's schema up to date, and return the names of the steps taken.

    Raises:
        ConfigError: it can't be reached, or a newer Watchkeep has used it.
    """
    steps = sorted(
        (int(file.name.split("_")[0]), file.name, file.read_text())
        for file in files("watchkeep.schemas").joinpath("sql").iterdir()
        if file.name.endswith(".sql")
    )
    async with await _connect(url) as connection:
        # Two processes that start together take turns.
        await connection.execute("SELECT pg_advisory_lock(%s)", [_MIGRATION_LOCK])
        await connection.execute(
            "CREATE TABLE IF NOT EXISTS schema_migrations (version integer PRIMARY KEY, "
            "name text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
        )
        cursor = await connection.execute("SELECT max(version) FROM schema_migrations")
        row = await cursor.fetchone()
        version = (row[0] if row else None) or 0
        if version > steps[-1][0]:
            raise ConfigError(
                f"database.url: its schema is version {version}, this Watchkeep knows "
                f"{steps[-1][0]}; install the newer Watchkeep that has used it before"
            )
        taken = [step for step in steps if step[0] > version]
        for number, name, text in taken:
            async with connection.transaction():
                await connection.execute(text.encode())
                await connection.execute(
                    "INSERT INTO schema_migrations (version, name) VALUES (%s, %s)", [number, name]
                )
        return [name for _, name, _ in taken]


class PgStore:
    """All that the stages keep, in one database."""

    def __init__(self, pool: AsyncConnectionPool[psycopg.AsyncConnection[Any]]) -> None:
        self._pool = pool
        self._days: set[date] = set()

    async def _rows(
        self, query: str, values: Sequence[object] | Mapping[str, object] = ()
    ) -> list[tuple[Any, ...]]:
        async with self._pool.connection() as connection:
            cursor = await connection.execute(query.encode(), values)
            return await cursor.fetchall() if cursor.description else []

    async def load_snapshot(self, partition: int) -> Snapshot | None:
        """Read a partition's last snapshot."""
        rows = await self._rows(
            "SELECT partition, applied_offset, record_hash, settings, state FROM snapshots "
            "WHERE partition = %s",
            [partition],
        )
        return Snapshot(*rows[0]) if rows else None

    async def save_snapshots(self, snapshots: Sequence[Snapshot]) -> None:
        """Keep snapshots, all or none."""
        async with self._pool.connection() as connection, connection.cursor() as cursor:
            await cursor.executemany(
                "INSERT INTO snapshots (partition, applied_offset, record_hash, settings, state) "
                "VALUES (%s, %s, %s, %s, %b) ON CONFLICT (partition) DO UPDATE SET "
                "applied_offset = excluded.applied_offset, record_hash = excluded.record_hash, "
                "settings = excluded.settings, state = excluded.state, saved_at = now()",
                snapshots,
            )

    async def write_rollups(self, batches: Sequence[Rollups]) -> None:
        """Write closed cells; the same cell again overwrites."""
        days = {
            _EPOCH + timedelta(days=day)
            for batch in batches
            for day in np.unique(batch.at_ms // 86_400_000).tolist()
        }
        async with self._pool.connection() as connection, connection.cursor() as cursor:
            for day in sorted(days - self._days):
                await cursor.execute("SELECT rollups_partition(%s)", [day])
            names = [
                (_signed(s.signal_id), s.entity, s.metric, Jsonb(dict(s.labels)), s.unit)
                for batch in batches
                for s in batch.signals
            ]
            await cursor.executemany(
                "INSERT INTO signals (signal_id, entity, metric, labels, unit) "
                "VALUES (%s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
                names,
            )
            for group in _alike(batches):
                await cursor.execute(_ROLLUP, _columns(group))
        self._days |= days

    async def window_revision(self, window_id: str) -> int:
        """Tell the highest revision taken of a window; 0 for none."""
        rows = await self._rows(
            "SELECT coalesce(max(revision), 0) FROM windows WHERE window_id = %s", [window_id]
        )
        return int(rows[0][0])

    async def incident_of(self, entity: str) -> Incident | None:
        """Read the entity's open incident."""
        rows = await self._rows(
            "SELECT record FROM incidents WHERE entity = %s AND state = 'firing'", [entity]
        )
        return Incident.model_validate(rows[0][0]) if rows else None

    async def record(self, lease: Lease, window: Window, incident: Incident, alert: Alert) -> None:
        """Keep a window's revision, its incident and the alert to publish, in one transaction.

        A revision that was taken before changes nothing.

        Raises:
            LeaseLostError: the lease is another process's by now; nothing was kept.
        """
        async with self._pool.connection() as connection:
            cursor = await connection.execute(
                "SELECT 1 FROM leases WHERE name = %s AND token = %s FOR SHARE",
                [lease.name, lease.token],
            )
            if await cursor.fetchone() is None:
                raise LeaseLostError(f"the lease {lease.name} is another process's now")
            cursor = await connection.execute(
                "INSERT INTO windows (window_id, revision, entity, state, record) "
                "VALUES (%s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
                [window.window_id, window.revision, window.entity, window.state, _json(window)],
            )
            if not cursor.rowcount:
                return
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
                "INSERT INTO alerts (alert_id, revision, record) VALUES (%s, %s, %s)",
                [alert.alert_id, alert.revision, _json(alert)],
            )

    async def unpublished(self) -> Sequence[Alert]:
        """Read the outbox: alerts that the topic doesn't have yet, oldest first."""
        rows = await self._rows("SELECT record FROM alerts WHERE published_at IS NULL ORDER BY seq")
        return [Alert.model_validate(row[0]) for row in rows]

    async def published(self, alerts: Sequence[Alert]) -> None:
        """Take alerts out of the outbox."""
        async with self._pool.connection() as connection, connection.cursor() as cursor:
            await cursor.executemany(
                "UPDATE alerts SET published_at = now() WHERE alert_id = %s AND revision = %s",
                [(alert.alert_id, alert.revision) for alert in alerts],
            )

    async def save_progress(self, log_time_ms: Mapping[int, int]) -> None:
        """Keep how far detect has come, by shard."""
        await self._rows(
            "INSERT INTO progress (shard, log_time_ms) "
            "SELECT * FROM unnest(%s::int[], %s::bigint[]) "
            "ON CONFLICT (shard) DO UPDATE SET log_time_ms = excluded.log_time_ms, "
            "updated_at = now()",
            [list(log_time_ms.keys()), list(log_time_ms.values())],
        )

    async def log_times(self) -> dict[int, int]:
        """Read how far detect has come, by shard, in ms."""
        return {
            row[0]: row[1] for row in await self._rows("SELECT shard, log_time_ms FROM progress")
        }

    async def deliveries(self, alert_id: str) -> Sequence[Delivery]:
        """Read what was sent about an alert, oldest first."""
        rows = await self._rows(
            "SELECT alert_id, revision, channel, reason, outcome, attempts, error "
            "FROM deliveries WHERE alert_id = %s ORDER BY seq",
            [alert_id],
        )
        return [Delivery(*row) for row in rows]

    async def log_delivery(self, delivery: Delivery) -> None:
        """Keep the outcome of a send."""
        await self._rows(
            "INSERT INTO deliveries "
            "(alert_id, revision, channel, reason, outcome, attempts, error) "
            "VALUES (%s, %s, %s, %s, %s, %s, %s)",
            delivery,
        )

    async def acquire_lease(self, name: str, holder: str, ttl_s: float) -> Lease | None:
        """Take a lease that is free or has run out, or take one's own again; None otherwise."""
        rows = await self._rows(
            _ACQUIRE, {"name": name, "holder": holder, "ttl": timedelta(seconds=ttl_s)}
        )
        return Lease(name, holder, rows[0][0]) if rows else None

    async def renew_lease(self, lease: Lease, ttl_s: float) -> bool:
        """Hold it longer; False when another process has it."""
        rows = await self._rows(
            "UPDATE leases SET expires_at = now() + %s "
            "WHERE name = %s AND holder = %s AND token = %s RETURNING 1",
            [timedelta(seconds=ttl_s), lease.name, lease.holder, lease.token],
        )
        return bool(rows)

    async def release_lease(self, lease: Lease) -> None:
        """Give it back, so that the standby needn't wait."""
        await self._rows(
            "UPDATE leases SET expires_at = now() WHERE name = %s AND holder = %s AND token = %s",
            lease,
        )


@asynccontextmanager
async def open_store(url: str) -> AsyncIterator[PgStore]:
    """Connect to a migrated database.

    Raises:
        ConfigError: it can't be reached.
    """
    await check(url)
    pool: AsyncConnectionPool[psycopg.AsyncConnection[Any]] = AsyncConnectionPool(
        url, min_size=1, max_size=4, open=False
    )
    async with pool:
        yield PgStore(pool)


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC).date()


def _json(record: Window | Incident | Alert) -> Jsonb:
    return Jsonb(record.model_dump(mode="json"))


def _signed(number: int) -> int:
    return number - 2**64 if number >= 2**63 else number


def _alike(batches: Sequence[Rollups]) -> list[list[Rollups]]:
    """Group batches that share what is said once a statement."""
    groups: dict[tuple[int, str], list[Rollups]] = {}
    for batch in batches:
        groups.setdefault((batch.step_s, batch.channel), []).append(batch)
    return list(groups.values())


def _columns(batches: Sequence[Rollups]) -> dict[str, object]:
    """Join batches into the columns of one statement, the last row of each cell."""

    def joined(name: str) -> npt.NDArray[Any]:
        return np.concatenate([getattr(batch, name) for batch in batches])

    ids, at_ms = joined("signal_id").view(np.int64), joined("at_ms")
    last = np.unique(np.stack([ids, at_ms])[:, ::-1], axis=1, return_index=True)[1]
    rows = len(ids) - 1 - last

    def listed(name: str) -> list[float | None]:
        values: npt.NDArray[np.float64] = joined(name)[rows]
        return [None if value != value else value for value in values.tolist()]  # noqa: PLR0124 - NaN.

    return {
        "step_s": batches[0].step_s,
        "channel": batches[0].channel,
        "at_ms": at_ms[rows].tolist(),
        "id": ids[rows].tolist(),
        "members": joined("members")[rows].tolist(),
    } | {
        name: listed(name)
        for name in ("value", "expected", "spread", "score", "threshold", "warmup")
    }
