"""Closed cells on their way to the store: they wait while it is gone, and go in portions."""

import asyncio
import uuid
from collections.abc import Iterable, Sequence
from itertools import accumulate, takewhile
from typing import Final

from watchkeep.streams.stores import DetectStore, Rollups, Write

# When the store is gone for long, reading pauses at so much.
_BYTES_MAX: Final = 64 * 1024 * 1024
_ROWS_A_WRITE: Final = 10_000


class ClosedCells:
    """What one detect process has closed and the store doesn't have yet."""

    def __init__(self, store: DetectStore) -> None:
        self._store = store
        self._before = Write(uuid.uuid4().hex, 0)
        self._waiting: list[Rollups] = []
        self._bytes = 0
        self._writing = asyncio.Lock()

    def add(self, batches: Iterable[Rollups]) -> None:
        """Have batches wait."""
        for batch in batches:
            self._waiting.append(batch)
            self._bytes += batch.nbytes

    @property
    def full(self) -> bool:
        """Tell whether so much waits that no more should come."""
        return self._bytes >= _BYTES_MAX

    async def write(self) -> None:
        """Write all that waits by now; who returns from here may rely on everything being written.

        Raises:
            StoreError: the database is out of reach.
            StoreAnewError: it was restored.
        """
        async with self._writing:
            left = len(self._waiting)
            while True:
                portion = _portion(self._waiting[:left])
                write = self._before._replace(number=self._before.number + 1)
                # Even when it is empty: that is how a restored database is noticed.
                await self._store.write_rollups(portion, write)
                self._before = write
                del self._waiting[: len(portion)]
                self._bytes -= sum(batch.nbytes for batch in portion)
                left -= len(portion)
                if not left:
                    return


def _portion(batches: Sequence[Rollups]) -> Sequence[Rollups]:
    """Take batches from the begin, as many as one write should have; at least one."""
    rows = accumulate(len(batch.at_ms) for batch in batches)
    return batches[: 1 + sum(1 for _ in takewhile(lambda n: n < _ROWS_A_WRITE, rows))]
