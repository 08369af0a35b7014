"""What the doctor asks of the store, all at a glance: it must cost little, whatever is wrong."""

from collections.abc import Sequence
from typing import Final

from watchkeep.streams.lookup import Alerting, Channel, Warmth
from watchkeep.streams.store.connection import Tables

# Of so many that still learn it is counted how far they are: the first will be among them.
_LEARNING_MAX: Final = 2_000

_WARMTH: Final = """
WITH paging AS MATERIALIZED (
    SELECT feeds.signal_id, signals.step_s, asleep,
           (SELECT warmup FROM rollups WHERE rollups.signal_id = feeds.signal_id
            ORDER BY at DESC LIMIT 1) AS warmup
    FROM feeds JOIN signals USING (signal_id) WHERE role = 'page'
), learning AS (
    SELECT (%(cells)s - (SELECT count(*) FROM (
                SELECT 1 FROM rollups WHERE rollups.signal_id = few.signal_id LIMIT %(cells)s
           ) AS seen)) * step_s AS left_s
    FROM (SELECT * FROM paging WHERE warmup < 1 AND NOT asleep LIMIT %(most)s) AS few
)
SELECT count(*), count(*) FILTER (WHERE asleep),
       count(*) FILTER (WHERE warmup >= 1 AND NOT asleep),
       (SELECT min(left_s) FROM learning WHERE left_s > 0)
FROM paging
"""

_ALERTING: Final = """
SELECT (SELECT count(*) FROM incidents), (SELECT count(*) FROM incidents WHERE state = 'firing'),
       count(*), count(*) FILTER (WHERE published_at IS NULL),
       (extract(epoch FROM max(written_at)) * 1000)::bigint
FROM alerts
"""

_CHANNELS: Final = """
SELECT DISTINCT ON (channel) channel,
       count(*) FILTER (WHERE outcome = 'sent') OVER whole,
       count(*) FILTER (WHERE outcome = 'failed') OVER whole,
       outcome = 'sent', error, (extract(epoch FROM at) * 1000)::bigint
FROM deliveries WINDOW whole AS (PARTITION BY channel) ORDER BY channel, seq DESC
"""


class DoctorTables(Tables):
    """The doctor's view of the tables; see `lookup.DoctorStore`."""

    async def warmth(self, cells: int) -> Warmth:
        """Count the signals that may page by how far they are."""
        wanted = {"cells": cells, "most": _LEARNING_MAX}
        rows = await self._database.rows(_WARMTH, wanted)
        return Warmth(*rows[0])

    async def active(self) -> dict[str, str]:
        """Tell who holds which lease."""
        rows = await self._database.rows("SELECT name, holder FROM leases WHERE expires_at > now()")
        return {str(name): str(holder) for name, holder in rows}

    async def alerting(self) -> Alerting:
        """Count incidents and alerts."""
        rows = await self._database.rows(_ALERTING)
        return Alerting(*rows[0])

    async def channels(self) -> Sequence[Channel]:
        """Read how deliveries went, by receiver, in the order of their names."""
        return [Channel(*row) for row in await self._database.rows(_CHANNELS)]
