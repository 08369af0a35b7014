"""Samples in columns."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from watchkeep.shop.times import Floats, Times


class Batch(NamedTuple):
    """Samples in the order in which they arrive.

    Attributes:
        series: int32[n], indexes into `Shop.series`.
        time_ms: int64[n].
        value: float64[n]; a stale marker is a NaN with bits of its own.
    """

    series: npt.NDArray[np.int32]
    time_ms: Times
    value: Floats

    def part(self, begin: int, end: int) -> "Batch":
        """Cut some samples out."""
        return Batch(self.series[begin:end], self.time_ms[begin:end], self.value[begin:end])


def cut(batches: Iterable[Batch], samples_max: int) -> Iterator[Batch]:
    """Cut batches anew, all but the last to the same size."""
    waiting: list[Batch] = []
    held = 0
    for batch in batches:
        waiting.append(batch)
        held += len(batch.value)
        if held < samples_max:
            continue
        whole = _joined(waiting)
        full = held - held % samples_max
        for begin in range(0, full, samples_max):
            yield whole.part(begin, begin + samples_max)
        waiting, held = [whole.part(full, held)], held - full
    if held:
        yield _joined(waiting)


def _joined(batches: Sequence[Batch]) -> Batch:
    if len(batches) == 1:
        return batches[0]
    return Batch(*(np.concatenate(columns) for columns in zip(*batches, strict=True)))
