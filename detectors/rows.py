"""Rows: the samples of a frame that can be folded."""

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from watchkeep.detectors.arrays import begins

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Strands = npt.NDArray[np.int32]


class Rows(NamedTuple):
    """Samples that can be folded, and what their series said before.

    Attributes:
        last: the rows that are the last of their series.
    """

    slot: Ints
    strand: Strands
    time_ms: Ints
    value: Floats
    before_ms: Ints = np.empty(0, np.int64)
    before: Floats = np.empty(0)
    last: Ints | slice = slice(None)
    flags: npt.NDArray[np.uint8] = np.empty(0, np.uint8)

    def pick(self, at: Ints) -> "Rows":
        """Take some rows; what was said before them has to be found anew."""
        return Rows(
            self.slot.take(at), self.strand.take(at), self.time_ms.take(at), self.value.take(at)
        )


NO_ROWS: Final = Rows(
    np.empty(0, np.int64), np.empty(0, np.int32), np.empty(0, np.int64), np.empty(0)
)


def rising(rows: Rows) -> Flags:
    """Tell which samples are newer than all before them of their series; rows are in order."""
    if not len(rows.slot):
        return np.zeros(0, bool)
    first = begins(rows.slot)
    span = int(rows.time_ms.max()) - int(rows.time_ms.min()) + 1
    # Each series gets a range of its own, so one running maximum serves them all.
    rank = (np.cumsum(first) - 1) * span + (rows.time_ms - rows.time_ms.min())
    before = np.concatenate(([-1], np.maximum.accumulate(rank)[:-1]))
    newer: Flags = rank > before
    return newer
