"""What is watched and what isn't: written by detect, shard by shard, and looked up by people."""

import json
from collections.abc import Collection, Iterable, Sequence
from typing import Any, Final

from watchkeep.streams.catalogue import Catalogue, DroppedRow, FeedRow, RefusalRow
from watchkeep.streams.lookup import Count, Heard, LastCell, Watched, by_name
from watchkeep.streams.store.connection import Connection, Tables, signed, unsigned
from watchkeep.streams.stores import SignalRow

# By table, the columns after the shard, in the order of the records' fields.
_COLUMNS: Final = {
    "feeds": "signal_id, series, members, asleep, value, at_ms, folded, example",
    "dropped_series": "entity, metric, reason, why, series, example",
    "refusals": "entity, reached, count, what, at_ms",
    "senders": "cluster, replica, newest_ms, heard_ms, elected",
}

# A worker that lost a shard may still write it while its successor does: they take turns.
_TAKE_TURNS: Final = """
SELECT pg_advisory_xact_lock(hashtext('write_catalogue'), shard)
FROM unnest(%s::int[]) AS shard ORDER BY shard
"""

_COUNTS: Final = """
SELECT entity, coalesce(signals, 0), coalesce(page, 0), coalesce(fed.series, 0),
       coalesce(members, 0), coalesce(gone.series, 0)
FROM (SELECT entity, count(*) AS signals, count(*) FILTER (WHERE role = 'page') AS page,
             sum(series) FILTER (WHERE folding <> 'p99') AS series, max(members) AS members
      FROM feeds JOIN signals USING (signal_id) GROUP BY entity) AS fed
FULL JOIN (SELECT entity, sum(series) AS series FROM dropped_series WHERE entity <> ''
           GROUP BY entity) AS gone
     USING (entity)
"""

_WATCHED: Final = """
SELECT feeds.signal_id, entity, metric, labels, unit, folding, role, why, signals.step_s,
       series, feeds.members, asleep, feeds.value, at_ms, folded, example,
       (extract(epoch FROM last.at) * 1000)::bigint, last.value, expected, low, high,
       greatest(spike, envelope, hour, member), rarity, threshold, warmup
FROM feeds JOIN signals USING (signal_id)
LEFT JOIN LATERAL (
    SELECT * FROM rollups WHERE rollups.signal_id = feeds.signal_id ORDER BY at DESC LIMIT 1
) AS last ON true
WHERE entity = ANY(%s)
"""

_SENDERS: Final = """
SELECT cluster, replica, max(newest_ms), max(heard_ms), count(*) FILTER (WHERE elected), count(*),
       (extract(epoch FROM max(told_at)) * 1000)::bigint
FROM senders GROUP BY cluster, replica
"""


class CatalogueTables(Tables):
    """The tables of what is watched and what isn't."""

    async def write_catalogue(self, catalogues: Sequence[Catalogue]) -> None:
        """Replace what is known of shards, in one transaction."""
        shards = {catalogue.shard: catalogue for catalogue in catalogues}
        feeds = {
            feed.signal_id: (
                n,
                signed(feed.signal_id),
                *feed[1:6],
                json.dumps(feed.folded),
                feed.example,
            )
            for n, catalogue in shards.items()
            for feed in catalogue.feeds
        }
        rows: dict[str, list[tuple[Any, ...]]] = {
            "feeds": list(feeds.values()),
            "dropped_series": [(n, *row) for n, c in shards.items() for row in c.dropped],
            "refusals": [(n, *row) for n, c in shards.items() for row in c.refusals],
            "senders": [(n, *row) for n, c in shards.items() for row in c.senders],
        }
        async with self._database.transaction() as connection:
            await connection.execute(_TAKE_TURNS.encode(), [list(shards)])
            for table, lines in rows.items():
                await _replace(connection, table, list(shards), lines)

    async def counts(self) -> Sequence[Count]:
        """Count what is watched and what isn't, by entity, in the order of their keys."""
        return sorted(Count(*row) for row in await self._database.rows(_COUNTS))

    async def watched(self, entities: Collection[str]) -> Sequence[Watched]:
        """Read the signals of entities, in the order of entity, metric, labels and folding."""
        rows = await self._database.rows(_WATCHED, [list(entities)])
        return sorted(map(_read, rows), key=by_name)

    async def dropped(self, entity: str) -> Sequence[DroppedRow]:
        """Read what isn't watched of an entity, most series first."""
        query = f"SELECT {_COLUMNS['dropped_series']} FROM dropped_series WHERE entity = %s"  # noqa: S608 - Names of ours.
        rows = await self._database.rows(query, [entity])
        return sorted((DroppedRow(*row) for row in rows), key=lambda row: (-row.series, row))

    async def refusals(self) -> Sequence[RefusalRow]:
        """Read what was refused, most first."""
        query = "SELECT entity, reached, count, what, at_ms FROM refusals"
        rows = await self._database.rows(query)
        return sorted((RefusalRow(*row) for row in rows), key=lambda row: (-row.count, row))

    async def senders(self) -> Sequence[Heard]:
        """Read who sends, in the order of cluster and replica."""
        return sorted(Heard(*row) for row in await self._database.rows(_SENDERS))

    async def newest_cell_ms(self) -> int | None:
        """Tell the begin of the newest cell that was stored; None before the first."""
        query = (
            "SELECT (extract(epoch FROM at) * 1000)::bigint FROM rollups ORDER BY at DESC LIMIT 1"
        )
        rows = await self._database.rows(query)
        return int(rows[0][0]) if rows else None


async def _replace(
    connection: Connection, table: str, shards: list[int], rows: Iterable[tuple[Any, ...]]
) -> None:
    """Put rows in the place of all that a table has of shards; the first column is the shard."""
    delete = f"DELETE FROM {table} WHERE shard = ANY(%s)"  # noqa: S608 - Names of ours.
    await connection.execute(delete.encode(), [shards])
    columns = f"COPY {table} (shard, {_COLUMNS[table]}) FROM STDIN"
    # Arrays would be escaped element by element in Python, which takes ten times as long.
    async with connection.cursor() as cursor, cursor.copy(columns.encode()) as copy:
        for row in rows:
            await copy.write_row(row)


def _read(row: tuple[Any, ...]) -> Watched:
    number, last = unsigned(row[0]), row[16:]
    feed = FeedRow(number, *row[9:16])
    return Watched(
        SignalRow(number, *row[1:9]),
        feed._replace(folded=tuple(feed.folded)),
        None if last[0] is None else LastCell(*last),
    )
