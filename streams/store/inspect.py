"""Reading cells and windows back, for people who ask why a window opened, or didn't."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from watchkeep.schemas.window import Window
from watchkeep.streams.inspect_lookup import CELLS_MAX, NAMES_MAX, WINDOWS_MAX, Cells, cells_of
from watchkeep.streams.store.connection import Tables, signed, unsigned
from watchkeep.streams.stores import CHANNELS, SignalRow

_NAMED: Final = """
SELECT signal_id, entity, metric, labels, unit, folding, role, why, step_s FROM signals
WHERE (%(entity)s = '' OR entity = %(entity)s) AND (%(metric)s = '' OR metric = %(metric)s)
ORDER BY entity, metric, labels::text, folding LIMIT %(most)s
"""

# One look at the key for each signal, and not one at all cells before a time.
_NEWEST: Final = """
SELECT (extract(epoch FROM max(last.at)) * 1000)::bigint
FROM unnest(%s::bigint[]) AS chosen (id), LATERAL (
    SELECT at FROM rollups WHERE signal_id = chosen.id AND at < %s ORDER BY at DESC LIMIT 1
) AS last
"""

_CELLS: Final = f"""
SELECT signal_id, (extract(epoch FROM at) * 1000)::float8, step_s, value, expected, low, high,
       rarity, threshold, warmup, {", ".join(CHANNELS)}
FROM rollups WHERE signal_id = ANY(%s) AND at >= %s AND at < %s
ORDER BY at DESC LIMIT %s
"""  # noqa: S608 - The names are constants.

_WINDOWS: Final = """
SELECT record FROM (
    SELECT DISTINCT ON (window_id) record FROM windows
    WHERE entity = %(entity)s AND (record ->> 'onset_ms')::bigint < %(end_ms)s
    ORDER BY window_id, revision DESC
) AS last
WHERE record ->> 'state' = 'open' OR (record ->> 'at_ms')::bigint > %(begin_ms)s
ORDER BY (record ->> 'onset_ms')::bigint DESC LIMIT %(most)s
"""


class InspectTables(Tables):
    """The tables of cells and windows, for readers; see `inspect_lookup.InspectStore`."""

    async def entities(self) -> Sequence[str]:
        """List the keys of all that has ever had a signal."""
        rows = await self._database.rows("SELECT DISTINCT entity FROM signals ORDER BY entity")
        return [row[0] for row in rows]

    async def metrics(self) -> Sequence[str]:
        """List the metrics of all signals there have ever been."""
        query = "SELECT DISTINCT metric FROM signals ORDER BY metric LIMIT %s"
        return [row[0] for row in await self._database.rows(query, [NAMES_MAX])]

    async def named(self, entity: str = "", metric: str = "") -> Sequence[SignalRow]:
        """Read signals' names, those that nothing feeds any more among them."""
        asked = {"entity": entity, "metric": metric, "most": NAMES_MAX}
        rows = await self._database.rows(_NAMED, asked)
        return [SignalRow(unsigned(row[0]), *row[1:]) for row in rows]

    async def newest_of(self, signals: Collection[int], before_ms: int) -> int | None:
        """Tell the begin of signals' newest cell that begins before a time; None without one."""
        rows = await self._database.rows(_NEWEST, [list(map(signed, signals)), _time(before_ms)])
        return None if rows[0][0] is None else int(rows[0][0])

    async def cells(
        self, signals: Collection[int], begin_ms: int, end_ms: int
    ) -> Mapping[int, Cells]:
        """Read the cells of signals that begin in a stretch of time, by signal."""
        span = [_time(begin_ms), _time(end_ms)]
        asked = [list(map(signed, signals)), *span, CELLS_MAX]
        found: defaultdict[int, list[tuple[Any, ...]]] = defaultdict(list)
        for signal_id, *cell in reversed(await self._database.rows(_CELLS, asked)):
            found[unsigned(signal_id)].append(tuple(cell))
        return {signal_id: cells_of(rows) for signal_id, rows in found.items()}

    async def windows_of(self, entity: str, begin_ms: int, end_ms: int) -> Sequence[Window]:
        """Read the last revision of an entity's windows that touch a stretch of time, by onset."""
        span = {"begin_ms": begin_ms, "end_ms": end_ms}
        rows = await self._database.rows(_WINDOWS, {"entity": entity, "most": WINDOWS_MAX} | span)
        return [Window.model_validate(row[0]) for row in reversed(rows)]


def _time(time_ms: int) -> datetime:
    return datetime.fromtimestamp(time_ms / 1000, UTC)
