"""Cells and windows in memory, for whoever asks why a window opened, or didn't."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from watchkeep.schemas.window import Window, WindowState
from watchkeep.streams.inspect_lookup import WINDOWS_MAX, Cells, cells_of
from watchkeep.streams.memory_catalogue import MemoryCatalogue
from watchkeep.streams.ports import Clock
from watchkeep.streams.stores import CHANNELS, Rollups, SignalRow


class MemoryCells(MemoryCatalogue):
    """The part of the in-memory store that keeps closed cells whole, and reads them back.

    Attributes:
        windows: by name and revision.
    """

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.windows: dict[tuple[str, int], Window] = {}
        self._batches: list[Rollups] = []

    def _note(self, batch: Rollups) -> None:
        """Take note of names and of cells."""
        super()._note(batch)
        if len(batch.at_ms):
            self._batches.append(batch)

    async def entities(self) -> Sequence[str]:
        """List the keys of all that has ever had a signal."""
        return sorted({row.entity for row in self.signals.values()})

    async def metrics(self) -> Sequence[str]:
        """List the metrics of all signals there have ever been."""
        return sorted({row.metric for row in self.signals.values()})

    async def named(self, entity: str = "", metric: str = "") -> Sequence[SignalRow]:
        """Read signals' names, those that nothing feeds any more among them."""
        return sorted(
            (
                row
                for row in self.signals.values()
                if entity in {"", row.entity} and metric in {"", row.metric}
            ),
            key=lambda row: (row.entity, row.metric, sorted(row.labels.items()), row.folding),
        )

    async def newest_of(self, signals: Collection[int], before_ms: int) -> int | None:
        """Tell the begin of signals' newest cell that begins before a time; None without one."""
        chosen = np.array(list(signals), np.uint64)
        begins = (
            batch.at_ms[np.isin(batch.signal_id, chosen) & (batch.at_ms < before_ms)]
            for batch in self._batches
        )
        return max((int(at_ms.max()) for at_ms in begins if len(at_ms)), default=None)

    async def cells(
        self, signals: Collection[int], begin_ms: int, end_ms: int
    ) -> Mapping[int, Cells]:
        """Read the cells of signals that begin in a stretch of time, by signal."""
        chosen = np.array(list(signals), np.uint64)
        found: defaultdict[int, dict[int, list[float]]] = defaultdict(dict)
        for batch in self._batches:
            within = (batch.at_ms >= begin_ms) & (batch.at_ms < end_ms)
            for row in np.flatnonzero(np.isin(batch.signal_id, chosen) & within).tolist():
                found[int(batch.signal_id[row])][int(batch.at_ms[row])] = _row(batch, row)
        return {
            signal_id: cells_of([rows[at_ms] for at_ms in sorted(rows)])
            for signal_id, rows in found.items()
        }

    async def windows_of(self, entity: str, begin_ms: int, end_ms: int) -> Sequence[Window]:
        """Read the last revision of an entity's windows that touch a stretch of time, by onset."""
        last = {name: window for (name, _), window in sorted(self.windows.items())}
        touching = [
            window
            for window in last.values()
            if window.entity == entity
            and window.onset_ms < end_ms
            and (window.state is WindowState.OPEN or window.at_ms > begin_ms)
        ]
        return sorted(touching, key=lambda window: window.onset_ms)[-WINDOWS_MAX:]


def _row(batch: Rollups, row: int) -> list[float]:
    single = Cells._fields[2:-1]
    return [
        float(batch.at_ms[row]),
        float(batch.step_s),
        *(float(getattr(batch, name)[row]) for name in single),
        *(float(batch.channels[name][row]) for name in CHANNELS),
    ]
