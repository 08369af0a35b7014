"""What people look up about why a window opened, or didn't: cells, channel by channel."""

from collections.abc import Collection, Mapping, Sequence
from typing import Final, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from watchkeep.schemas.window import Window
from watchkeep.streams.lookup import CatalogueStore
from watchkeep.streams.stores import CHANNELS, SignalRow

Floats = npt.NDArray[np.float64]

# No look asks for more rows of each than this; of cells the newest are given, of windows too.
CELLS_MAX: Final = 300_000
WINDOWS_MAX: Final = 100
NAMES_MAX: Final = 20_000


class Cells(NamedTuple):
    """Cells of one signal, oldest first; see `stores.Rollups`. NaN where nothing was known.

    Attributes:
        at_ms: float64, the begin of each.
        step_s: float64, how wide each was.
        channels: float64[channels, cells], how rare the signal was to each of `CHANNELS`.
    """

    at_ms: Floats
    step_s: Floats
    value: Floats
    expected: Floats
    low: Floats
    high: Floats
    rarity: Floats
    threshold: Floats
    warmup: Floats
    channels: Floats

    @property
    def end_ms(self) -> Floats:
        """Tell the end of each."""
        ends: Floats = self.at_ms + self.step_s * 1000
        return ends

    def between(self, begin_ms: float, end_ms: float) -> "Cells":
        """Give those that begin in a stretch of time."""
        rows = (self.at_ms >= begin_ms) & (self.at_ms < end_ms)
        return Cells(*(column[..., rows] for column in self))


def cells_of(rows: Sequence[Sequence[float | None]]) -> Cells:
    """Make cells of rows: the columns in the order of `Cells`, then a number a channel."""
    single = len(Cells._fields) - 1
    columns = np.array(rows, np.float64).reshape(-1, single + len(CHANNELS)).T
    return Cells._make([*columns[:single], columns[single:]])


class InspectStore(CatalogueStore, Protocol):
    """What is kept of cells and windows, for people who ask why."""

    async def entities(self) -> Sequence[str]:
        """List the keys of all that has ever had a signal."""
        ...

    async def metrics(self) -> Sequence[str]:
        """List the metrics of all signals there have ever been."""
        ...

    async def named(self, entity: str = "", metric: str = "") -> Sequence[SignalRow]:
        """Read signals' names, those that nothing feeds any more among them.

        Args:
            entity: the key of whose they are; "" for anybody's.
            metric: the one that they are of; "" for any.
        """
        ...

    async def newest_of(self, signals: Collection[int], before_ms: int) -> int | None:
        """Tell the begin of signals' newest cell that begins before a time; None without one."""
        ...

    async def cells(
        self, signals: Collection[int], begin_ms: int, end_ms: int
    ) -> Mapping[int, Cells]:
        """Read the cells of signals that begin in a stretch of time, by signal.

        Of more than `CELLS_MAX`, the newest are read.
        """
        ...

    async def windows_of(self, entity: str, begin_ms: int, end_ms: int) -> Sequence[Window]:
        """Read the last revision of an entity's windows that touch a stretch of time, by onset."""
        ...
