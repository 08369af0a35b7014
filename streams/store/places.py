"""How far a stage has come, whose turn it is, and what has gone wrong."""

from collections.abc import Collection
from datetime import timedelta
from typing import Final

from watchkeep.schemas.errors import LeaseLostError
from watchkeep.streams.ports import Place, Step
from watchkeep.streams.store.connection import Connection, Tables
from watchkeep.streams.stores import Attempts, Lease, Trouble

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

_MOVE: Final = """
INSERT INTO places AS old (stage, applied_offset, record_hash) VALUES (%s, %s, %s)
ON CONFLICT (stage) DO UPDATE SET
    applied_offset = excluded.applied_offset, record_hash = excluded.record_hash, moved_at = now()
WHERE (old.applied_offset, old.record_hash) = (%s, %s)
"""

# Who noted a record and did not call it calm has died of it.
_DIED: Final = """
UPDATE attempts SET
    count = CASE WHEN (record_offset, record_hash) = (trying_offset, trying_hash)
            THEN count + 1 ELSE 1 END,
    record_offset = trying_offset, record_hash = trying_hash, trying_offset = NULL
WHERE stage = %s AND partition = ANY(%s) AND trying_offset IS NOT NULL
"""

_TRY: Final = """
INSERT INTO attempts (stage, partition, trying_offset, trying_hash) VALUES (%s, %s, %s, %s)
ON CONFLICT (stage, partition) DO UPDATE SET
    trying_offset = excluded.trying_offset, trying_hash = excluded.trying_hash
"""


async def hold(connection: Connection, lease: Lease) -> None:
    """Make sure, until the transaction's end, that a lease is still this process's.

    Raises:
        LeaseLostError: it isn't.
    """
    cursor = await connection.execute(
        "SELECT 1 FROM leases WHERE name = %s AND holder = %s AND token = %s FOR SHARE", lease
    )
    if await cursor.fetchone() is None:
        raise LeaseLostError(f"the lease {lease.name} is another process's now")


async def move(connection: Connection, lease: Lease, step: Step) -> None:
    """Move the place of a lease's stage, within a transaction.

    Raises:
        LeaseLostError: the lease is lost, or the place isn't where this process left it.
    """
    await hold(connection, lease)
    cursor = await connection.execute(_MOVE.encode(), [lease.name, *step.here, *step.before])
    if not cursor.rowcount:
        raise LeaseLostError(
            f"the place of {lease.name} is not where it was left: the database was restored, or "
            "another process was active"
        )


class PlaceTables(Tables):
    """The tables of places, attempts and troubles; see `stores.PlaceStore`."""

    async def place(self, stage: str) -> Place:
        """Read how far the stage has come."""
        rows = await self._database.rows(
            "SELECT applied_offset, record_hash FROM places WHERE stage = %s", [stage]
        )
        return Place(*rows[0]) if rows else Place()

    async def advance(self, lease: Lease, step: Step) -> None:
        """Move the place of the lease's stage."""
        async with self._database.transaction() as connection:
            await move(connection, lease, step)

    async def attempts(self, stage: str, partitions: Collection[int]) -> dict[int, Attempts]:
        """Read, at a start, which record the stage has died of in each partition, and how often."""
        async with self._database.transaction() as connection:
            await connection.execute(_DIED.encode(), [stage, list(partitions)])
            cursor = await connection.execute(
                "SELECT partition, record_offset, record_hash, count FROM attempts "
                "WHERE stage = %s AND partition = ANY(%s) AND count > 0",
                [stage, list(partitions)],
            )
            return {
                row[0]: Attempts(Place(row[1], row[2]), row[3]) for row in await cursor.fetchall()
            }

    async def note_attempt(self, stage: str, partition: int, place: Place) -> None:
        """Note that the stage is about to try a record, or is about to die of it."""
        await self._database.rows(_TRY, [stage, partition, *place])

    async def calm(self, stage: str, partition: int) -> None:
        """Note that no record is being tried that the stage may die of."""
        await self._database.rows(
            "UPDATE attempts SET trying_offset = NULL WHERE stage = %s AND partition = %s",
            [stage, partition],
        )

    async def report(self, trouble: Trouble) -> None:
        """Have the operators told; the same name again changes nothing."""
        await self._database.rows(
            "INSERT INTO troubles (name, title, text) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
            trouble,
        )


class LeaseTables(Tables):
    """The table of leases; see `stores.LeaseStore`."""

    async def acquire_lease(self, name: str, holder: str, ttl_s: float) -> Lease | None:
        """Take a lease that is free or has run out, or take one's own again; None otherwise."""
        rows = await self._database.rows(
            _ACQUIRE, {"name": name, "holder": holder, "ttl": timedelta(seconds=ttl_s)}
        )
        return Lease(name, holder, rows[0][0]) if rows else None

    async def renew_lease(self, lease: Lease, ttl_s: float) -> bool:
        """Hold it longer; False when another process has it."""
        rows = await self._database.rows(
            "UPDATE leases SET expires_at = now() + %s "
            "WHERE name = %s AND holder = %s AND token = %s RETURNING 1",
            [timedelta(seconds=ttl_s), *lease],
        )
        return bool(rows)

    async def release_lease(self, lease: Lease) -> None:
        """Give it back, so that the standby needn't wait."""
        await self._database.rows(
            "UPDATE leases SET expires_at = now() WHERE name = %s AND holder = %s AND token = %s",
            lease,
        )
