"""What detect keeps: claims, snapshots, rollups."""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from watchkeep.schemas.errors import StoreAnewError
from watchkeep.streams import snapshot
from watchkeep.streams.ports import Place
from watchkeep.streams.store.connection import Connection, Database, Tables, signed
from watchkeep.streams.stores import CHANNELS, Claim, Rollups, SignalRow, Snapshot, Write

_NUMBERS: Final = (
    "value",
    "expected",
    "low",
    "high",
    "rarity",
    "threshold",
    "warmup",
    *CHANNELS,
)
_WRITTEN: Final = ("members", *_NUMBERS)

_ROLLUP: Final = f"""
INSERT INTO rollups (at, signal_id, step_s, {", ".join(_WRITTEN)})
SELECT to_timestamp(at_ms / 1000.0), id, %(step_s)s, {", ".join(_WRITTEN)}
FROM unnest(%(at_ms)s::bigint[], %(id)s::bigint[], %(members)s::int[],
            {", ".join(f"%({name})s::float8[]" for name in _NUMBERS)})
     AS cell (at_ms, id, {", ".join(_WRITTEN)})
ON CONFLICT (signal_id, at) DO UPDATE SET
    step_s = excluded.step_s, {", ".join(f"{name} = excluded.{name}" for name in _WRITTEN)}
"""  # noqa: S608 - The names are constants.

_CLAIM: Final = """
INSERT INTO snapshots AS old (partition, token, unsaved, applied_offset, record_hash, settings)
SELECT partition, 1, 1, -1, '', '' FROM unnest(%s::int[]) AS partition ORDER BY partition
ON CONFLICT (partition) DO UPDATE SET token = old.token + 1, unsaved = old.unsaved + 1
RETURNING partition, token, unsaved, applied_offset, record_hash, settings, manifest
"""

_SAVE: Final = """
UPDATE snapshots SET applied_offset = %s, record_hash = %s, settings = %s, manifest = %s,
                     unsaved = 0, saved_at = now()
WHERE partition = %s AND token = %s AND applied_offset = %s
"""

# Roles and rules change with the settings, but most of the time nothing does.
_SIGNAL: Final = """
INSERT INTO signals AS old (signal_id, entity, metric, labels, unit, folding, role, why, step_s)
SELECT * FROM json_to_recordset(%s::json) AS name (
    signal_id bigint, entity text, metric text, labels jsonb, unit text, folding text, role text,
    why text, step_s integer)
ON CONFLICT (signal_id) DO UPDATE SET
    unit = excluded.unit, folding = excluded.folding, role = excluded.role, why = excluded.why,
    step_s = excluded.step_s
WHERE (old.unit, old.folding, old.role, old.why, old.step_s) IS DISTINCT FROM
      (excluded.unit, excluded.folding, excluded.role, excluded.why, excluded.step_s)
"""

# Of each process that writes there is one row; those of processes that are gone are swept.
_FIRST_WRITE: Final = """
WITH swept AS (DELETE FROM writers WHERE wrote_at < now() - interval '1 day')
INSERT INTO writers (writer, writes) VALUES (%(writer)s, %(number)s) ON CONFLICT DO NOTHING
"""

_NEXT_WRITE: Final = """
UPDATE writers SET writes = %(number)s, wrote_at = now()
WHERE writer = %(writer)s AND writes IN (%(number)s, %(number)s - 1)
"""


class DetectTables(Tables):
    """The tables of detect; see `stores.DetectStore`."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._days: set[date] = set()

    async def claim(self, partitions: Collection[int]) -> dict[int, Claim]:
        """Take the right to write partitions' snapshots from whoever has it."""
        return {
            partition: Claim(token, unsaved, Place(offset, record_hash), settings, manifest)
            for (
                partition,
                token,
                unsaved,
                offset,
                record_hash,
                settings,
                manifest,
            ) in await self._database.rows(_CLAIM, [list(partitions)])
        }

    async def load_blocks(self, partition: int) -> Mapping[int, bytes]:
        """Read the blocks of a partition's last snapshot."""
        return dict(
            await self._database.rows(
                "SELECT block, bytes FROM snapshot_blocks WHERE partition = %s", [partition]
            )
        )

    async def save_snapshots(self, snapshots: Sequence[Snapshot]) -> set[int]:
        """Keep snapshots in one transaction; return the partitions that were refused."""
        async with self._database.transaction() as connection:
            return {saved.partition for saved in snapshots if not await _save(connection, saved)}

    async def write_rollups(self, batches: Sequence[Rollups], write: Write) -> None:
        """Write closed cells; the same cell again overwrites."""
        days = {
            _EPOCH + timedelta(days=day)
            for batch in batches
            for day in np.unique(batch.at_ms // 86_400_000).tolist()
        }
        async with self._database.transaction() as connection, connection.cursor() as cursor:
            await _count(connection, write)
            for day in sorted(days - self._days):
                await cursor.execute("SELECT rollups_partition(%s)", [day])
            names = {s.signal_id: s for batch in batches for s in batch.signals}
            # In one order everywhere, so that two writers never wait for each other.
            if names:
                await cursor.execute(_SIGNAL, [_named(names[name] for name in sorted(names))])
            for group in _alike(batches):
                await cursor.execute(_ROLLUP, _columns(group))
        self._days |= days


async def _count(connection: Connection, write: Write) -> None:
    query = _FIRST_WRITE if write.number == 1 else _NEXT_WRITE
    cursor = await connection.execute(query.encode(), write._asdict())
    if not cursor.rowcount and write.number > 1:
        raise StoreAnewError("the database was restored: it lacks what this process has written")


async def _save(connection: Connection, saved: Snapshot) -> bool:
    cursor = await connection.execute(
        _SAVE.encode(),
        [
            *saved.place,
            saved.settings,
            saved.manifest,
            saved.partition,
            saved.token,
            saved.before,
        ],
    )
    if not cursor.rowcount:
        return False
    await connection.cursor().executemany(
        "INSERT INTO snapshot_blocks (partition, block, bytes) VALUES (%s, %s, %b) "
        "ON CONFLICT (partition, block) DO UPDATE SET bytes = excluded.bytes",
        [(saved.partition, number, block) for number, block in saved.blocks.items()],
    )
    await connection.execute(
        "DELETE FROM snapshot_blocks WHERE partition = %s AND block >= %s",
        [saved.partition, snapshot.count(saved.manifest)],
    )
    return True


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC).date()


def _named(signals: Iterable[SignalRow]) -> str:
    """Write names as JSON, which takes a fraction of the time of arrays of text."""
    return json.dumps(
        [
            {**s._asdict(), "signal_id": signed(s.signal_id), "labels": dict(s.labels)}
            for s in signals
        ]
    )


def _alike(batches: Sequence[Rollups]) -> list[list[Rollups]]:
    """Group batches that share what is said once a statement."""
    groups: dict[int, list[Rollups]] = {}
    for batch in batches:
        groups.setdefault(batch.step_s, []).append(batch)
    return list(groups.values())


def _columns(batches: Sequence[Rollups]) -> dict[str, object]:
    """Join batches into the columns of one statement, the last row of each cell."""

    def joined(name: str) -> npt.NDArray[Any]:
        if name in CHANNELS:
            return np.concatenate([batch.channels[name] for batch in batches])
        return np.concatenate([getattr(batch, name) for batch in batches])

    ids, at_ms = joined("signal_id").view(np.int64), joined("at_ms")
    last = np.unique(np.stack([ids, at_ms])[:, ::-1], axis=1, return_index=True)[1]
    rows = len(ids) - 1 - last

    def listed(name: str) -> list[float | None]:
        values: npt.NDArray[np.float64] = joined(name)[rows]
        return [None if value != value else value for value in values.tolist()]  # noqa: PLR0124 - NaN.

    return {
        "step_s": batches[0].step_s,
        "at_ms": at_ms[rows].tolist(),
        "id": ids[rows].tolist(),
        "members": joined("members")[rows].tolist(),
    } | {name: listed(name) for name in _NUMBERS}
