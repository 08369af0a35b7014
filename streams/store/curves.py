"""Reading rollups back, as curves to draw."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from watchkeep.streams.store.connection import Tables

_CURVES: Final = """
SELECT metric, labels, unit,
       array_agg((extract(epoch FROM at) * 1000)::float8 ORDER BY at),
       array_agg(value ORDER BY at), array_agg(expected ORDER BY at),
       array_agg(low ORDER BY at), array_agg(high ORDER BY at),
       array_agg(greatest(spike, envelope, hour, member) ORDER BY at),
       array_agg(rarity ORDER BY at), array_agg(threshold ORDER BY at)
FROM rollups JOIN signals USING (signal_id)
WHERE entity = %s AND at >= %s AND at < %s
GROUP BY signal_id, metric, labels, unit
"""

Floats = npt.NDArray[np.float64]


class Curve(NamedTuple):
    """One signal over some time; arrays float64[cells], NaN where nothing was known.

    Attributes:
        at_ms: the begin of each cell, ms since 1970.
        expected, low, high: what was expected, and the band of what is usual around it.
        alone: how rare the signal was to the channel that found it rarest.
        rarity: how rare the cell was for the entity; `threshold`: from where its window opens.
    """

    metric: str
    labels: Mapping[str, str]
    unit: str
    at_ms: Floats
    value: Floats
    expected: Floats
    low: Floats
    high: Floats
    alone: Floats
    rarity: Floats
    threshold: Floats


class CurveTables(Tables):
    """The tables of rollups, for readers."""

    async def curves(self, entity: str, begin_ms: int, end_ms: int) -> list[Curve]:
        """Read all signals of an entity in a stretch of time."""
        span = [datetime.fromtimestamp(ms / 1000, UTC) for ms in (begin_ms, end_ms)]
        return [
            Curve(*row[:3], *(np.array(column, np.float64) for column in row[3:]))
            for row in await self._database.rows(_CURVES, [entity, *span])
        ]
