"""Native histograms as columns, and how they lie in a frame.

Each histogram has buckets of its own, only those that are populated. Its bounds name a bucket: they
are the same to the bit wherever they mean the same number, so readers may match buckets by them.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from watchkeep.schemas.errors import FrameError

STALE_BITS: Final = 0x7FF0_0000_0000_0002

_HISTOGRAM_BYTES = 4 * 8
_BUCKET_BYTES = 3 * 8


class Histograms(NamedTuple):
    """Histograms of one shard, h of them with k buckets in all.

    Attributes:
        series_id: uint64[h].
        time_ms: int64[h].
        count: float64[h], all observations; where the series ends it has the bits of the stale
            marker, and there are no buckets.
        sum: float64[h], of the observations; NaN and Inf where they were observed.
        buckets: uint32[h], how many buckets each has.
        lower: float64[k], below what each bucket begins; -Inf in the first of some.
        upper: float64[k], where it ends, ascending in a histogram; +Inf in the last of some.
        value: float64[k], its own observations, more than 0. The zero bucket is one of them, from
            minus the zero threshold to it; the buckets next to it may reach into it.
    """

    series_id: npt.NDArray[np.uint64]
    time_ms: npt.NDArray[np.int64]
    count: npt.NDArray[np.float64]  # type: ignore[assignment] # It hides a tuple's method.
    sum: npt.NDArray[np.float64]
    buckets: npt.NDArray[np.uint32]
    lower: npt.NDArray[np.float64]
    upper: npt.NDArray[np.float64]
    value: npt.NDArray[np.float64]

    def pick(self, which: npt.NDArray[np.int64]) -> "Histograms":
        """Take some of them, with their buckets, in the order asked for.

        Args:
            which: int64[j], their numbers.
        """
        own = self.buckets.astype(np.int64)
        begins = np.cumsum(own) - own
        own = own[which]
        at = np.repeat(begins[which] - (np.cumsum(own) - own), own) + np.arange(own.sum())
        return Histograms(
            self.series_id[which],
            self.time_ms[which],
            self.count[which],
            self.sum[which],
            self.buckets[which],
            self.lower[at],
            self.upper[at],
            self.value[at],
        )


NO_HISTOGRAMS: Final = Histograms(
    np.empty(0, np.uint64),
    np.empty(0, np.int64),
    np.empty(0, np.float64),
    np.empty(0, np.float64),
    np.empty(0, np.uint32),
    np.empty(0, np.float64),
    np.empty(0, np.float64),
    np.empty(0, np.float64),
)


def concatenate(parts: Sequence[Histograms]) -> Histograms:
    """Put histograms behind one another."""
    if not parts:
        return NO_HISTOGRAMS
    return Histograms._make(np.concatenate(columns) for columns in zip(*parts, strict=True))


def size(h: int, k: int) -> int:
    """Tell the bytes of h histograms with k buckets in all."""
    return h * _HISTOGRAM_BYTES + k * _BUCKET_BYTES + _counters_bytes(h)


def _counters_bytes(h: int) -> int:
    return 4 * (h + h % 2)


def encode(histograms: Histograms) -> list[bytes]:
    """Write histograms as the parts of a frame that hold them."""
    h, k = len(histograms.series_id), len(histograms.value)
    assert int(histograms.buckets.sum(dtype=np.int64)) == k
    parts = [
        histograms.series_id.astype("<u8", copy=False).tobytes(),
        histograms.time_ms.astype("<i8", copy=False).tobytes(),
        histograms.count.astype("<f8", copy=False).tobytes(),
        histograms.sum.astype("<f8", copy=False).tobytes(),
        histograms.lower.astype("<f8", copy=False).tobytes(),
        histograms.upper.astype("<f8", copy=False).tobytes(),
        histograms.value.astype("<f8", copy=False).tobytes(),
        histograms.buckets.astype("<u4", copy=False).tobytes().ljust(_counters_bytes(h), b"\0"),
    ]
    assert sum(map(len, parts)) == size(h, k)
    return parts


def decode(record: bytes, at: int, h: int, k: int) -> Histograms:
    """Read the part of a frame that begins there, which must be long enough; as views.

    Raises:
        FrameError: the columns contradict each other.
    """
    if not h and not k:
        return NO_HISTOGRAMS
    buckets_at = at + h * _HISTOGRAM_BYTES
    found = Histograms(
        np.frombuffer(record, "<u8", h, at),
        np.frombuffer(record, "<i8", h, at + 8 * h),
        np.frombuffer(record, "<f8", h, at + 16 * h),
        np.frombuffer(record, "<f8", h, at + 24 * h),
        np.frombuffer(record, "<u4", h, buckets_at + k * _BUCKET_BYTES),
        np.frombuffer(record, "<f8", k, buckets_at),
        np.frombuffer(record, "<f8", k, buckets_at + 8 * k),
        np.frombuffer(record, "<f8", k, buckets_at + 16 * k),
    )
    _check(found)
    return found


def _check(found: Histograms) -> None:
    own = found.buckets.astype(np.int64)
    if own.sum() != len(found.value):
        raise FrameError("the buckets of the histograms don't add up to those that are there")
    stale = found.count.view(np.uint64) == STALE_BITS
    if not np.all(np.where(stale, own == 0, (found.count >= 0) & (found.count < np.inf))):
        raise FrameError("a histogram's count is none")
    if not np.all((found.value > 0) & (found.value < np.inf)):
        raise FrameError("a bucket's count is none")
    first = np.zeros(len(found.value), bool)
    first[(np.cumsum(own) - own)[own > 0]] = True
    ascending = (found.upper[1:] > found.upper[:-1]) | first[1:]
    sane = (found.lower <= found.upper) & (found.lower < np.inf) & (found.upper > -np.inf)
    if not (np.all(ascending) and np.all(sane)):
        raise FrameError("the bounds of a histogram don't ascend")
