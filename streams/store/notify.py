"""What notify keeps: the delivery log, and which troubles were told."""

from collections.abc import Sequence

from watchkeep.streams.store.connection import Tables
from watchkeep.streams.store.places import hold
from watchkeep.streams.stores import Delivery, Lease, Trouble


class NotifyTables(Tables):
    """The tables of notify; see `stores.NotifyStore`."""

    async def deliveries(self, lease: Lease, alert_id: str) -> Sequence[Delivery]:
        """Read what was sent about an alert, oldest first."""
        async with self._database.transaction() as connection:
            await hold(connection, lease)
            cursor = await connection.execute(
                "SELECT alert_id, revision, channel, reason, outcome, attempts, error "
                "FROM deliveries WHERE alert_id = %s ORDER BY seq",
                [alert_id],
            )
            return [Delivery(*row) for row in await cursor.fetchall()]

    async def log_delivery(self, delivery: Delivery) -> None:
        """Keep the outcome of a send."""
        await self._database.rows(
            "INSERT INTO deliveries "
            "(alert_id, revision, channel, reason, outcome, attempts, error) "
            "VALUES (%s, %s, %s, %s, %s, %s, %s)",
            delivery,
        )

    async def troubles(self) -> Sequence[Trouble]:
        """Read what the operators are still to be told, oldest first."""
        rows = await self._database.rows(
            "SELECT name, title, text FROM troubles WHERE told_at IS NULL ORDER BY at"
        )
        return [Trouble(*row) for row in rows]

    async def told(self, troubles: Sequence[Trouble]) -> None:
        """Take note that the operators were told."""
        await self._database.rows(
            "UPDATE troubles SET told_at = now() WHERE name = ANY(%s)",
            [[trouble.name for trouble in troubles]],
        )
