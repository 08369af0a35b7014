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
       array_agg(spread ORDER BY at), array_agg(score ORDER BY at)
FROM rollups JOIN signals USING (signal_id)
WHERE entity = %s AND at >= %s AND at < %s
GROUP BY signal_id, metric, labels, unit
"""

Floats = npt.NDArray[np.float64]


class Curve(NamedTuple):
    """One signal over some time; arrays float64[cells], NaN where nothing was known.

    Attributes:
        at_ms: the begin of each cell, ms since 1970.
        expected, spread: the baseline before the cell, in the signal's unit.
        score: how far the value was from what was expected, in spreads.
    """

    metric: str
    labels: Mapping[str, str]
    unit: str
    at_ms: Floats
    value: Floats
    expected: Floats
    spread: Floats
    score: Floats


class CurveTables(Tables):
    """The tables of rollups, for readers."""

    async def curves(self, entity: str, begin_ms: int, end_ms: int) -> list[Curve]:
        """Read all signals of an entity in a stretch of time."""
        span = [datetime.fromtimestamp(ms / 1000, UTC) for ms in (begin_ms, end_ms)]
        return [
            Curve(*row[:3], *(np.array(column, np.float64) for column in row[3:]))
            for row in await self._database.rows(_CURVES, [entity, *span])
        ]
