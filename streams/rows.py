"""Rows that wait in the gateway, samples and histograms, and how they are cut into frames."""

from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from watchkeep.schemas.frame import BUCKETS_MAX, SAMPLES_MAX
from watchkeep.schemas.histograms import Histograms


class Samples(NamedTuple):
    """Samples as columns.

    Attributes:
        series_id: uint64[n].
        time_ms: int64[n].
        value: float64[n].
    """

    series_id: npt.NDArray[np.uint64]
    time_ms: npt.NDArray[np.int64]
    value: npt.NDArray[np.float64]

    def pick(self, which: npt.NDArray[np.int64]) -> "Samples":
        """Take some of them, in the order asked for."""
        return Samples(self.series_id[which], self.time_ms[which], self.value[which])


class Part(NamedTuple):
    """What goes into one frame.

    Attributes:
        reached_ms: all that is older is in this part or in those before it; None in the last.
    """

    samples: Samples
    histograms: Histograms
    reached_ms: int | None


NO_SAMPLES: Final = Samples(np.empty(0, np.uint64), np.empty(0, np.int64), np.empty(0, np.float64))

# What a row takes of a frame. A histogram's own columns take less than two of its buckets do.
_FULL: Final = BUCKETS_MAX
_SAMPLE: Final = BUCKETS_MAX // SAMPLES_MAX
_HISTOGRAM: Final = 2


def parts(samples: Samples, histograms: Histograms) -> Iterator[Part]:
    """Cut rows so that each part fits into a frame; there is always one.

    Frames tell how far their sender has come, so they are cut along time.
    """
    n = len(samples.time_ms)
    weight_of_histograms = _HISTOGRAM + histograms.buckets
    if _SAMPLE * n + weight_of_histograms.sum() <= _FULL:
        yield Part(samples, histograms, None)
        return
    weight = np.concatenate([np.full(n, _SAMPLE), weight_of_histograms])
    time_ms = np.concatenate([samples.time_ms, histograms.time_ms])
    order = np.argsort(time_ms, kind="stable")
    filled = np.cumsum(weight[order])
    begin, spent = 0, 0
    while begin < len(order):
        end = max(begin + 1, int(np.searchsorted(filled, spent + _FULL, "right")))
        own = order[begin:end]
        reached_ms = int(time_ms[own[-1]]) if end < len(order) else None
        own_histograms = histograms.pick(own[own >= n] - n)
        yield Part(samples.pick(own[own < n]), own_histograms, reached_ms)
        begin, spent = end, int(filled[end - 1])
