"""Reading the native histograms of remote write: checked, and with bounds for their buckets.

https://prometheus.io/docs/specs/native_histograms/. Bucket i of schema s ends at 2 ** (i / 2 ** s)
and begins where the one before it ends; a schema is twice as fine as the one below it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from watchkeep.schemas.errors import DecodeError
from watchkeep.schemas.histograms import STALE_BITS, Histograms
from watchkeep.schemas.remote_write_pb2 import BucketSpan, Histogram

BUCKETS_MAX: Final = 10_000
GAUGE: Final = "native histogram that is a gauge histogram"

_FINEST: Final = 4
_CUSTOM: Final = -53
_SCHEMAS: Final = range(-4, 9)
# Bounds must have the same bits on every machine, for ever. Decimals are rounded the same
# everywhere, the powers of floats are not.
_SIXTEENTHS: Final = np.array([float(Decimal(2) ** (Decimal(i) / 16)) for i in range(16)])
# The bounds of smaller numbers are too inexact to tell buckets apart.
_LEAST_EXPONENT: Final = -1021
_LARGEST_EXPONENT: Final = 1024
_FLOAT_MAX: Final = float(np.finfo(np.float64).max)
# Sums of fractions are inexact.
_ROUNDING: Final = 1e-9

_Floats = npt.NDArray[np.float64]
_Indexes = npt.NDArray[np.int64]


class _Buckets(NamedTuple):
    lower: _Floats
    upper: _Floats
    value: _Floats


@dataclass(frozen=True, slots=True)
class Reading:
    """A histogram as it goes into columns; see `Histograms`."""

    time_ms: int
    count: float
    sum: float
    buckets: _Buckets


_NO_INDEX: Final = np.empty(0, np.int64)
_NO_BUCKETS: Final = _Buckets(np.empty(0), np.empty(0), np.empty(0))


def columns(series_id: npt.NDArray[np.uint64], readings: Sequence[Reading]) -> Histograms:
    """Put readings, of the series so numbered, into columns."""
    return Histograms(
        series_id,
        np.array([reading.time_ms for reading in readings], np.int64),
        np.array([reading.count for reading in readings], np.float64),
        np.array([reading.sum for reading in readings], np.float64),
        np.array([len(reading.buckets.value) for reading in readings], np.uint32),
        np.concatenate([reading.buckets.lower for reading in readings]),
        np.concatenate([reading.buckets.upper for reading in readings]),
        np.concatenate([reading.buckets.value for reading in readings]),
    )


def read(message: Histogram) -> Reading:
    """Check a histogram and find its bounds. Schemas finer than 4 are merged down to it.

    Raises:
        DecodeError: it is invalid, or of a kind that is not taken; the message is one of few.
    """
    if message.reset_hint == Histogram.GAUGE:
        raise DecodeError(GAUGE)
    if _is_stale(message.sum):
        return Reading(message.timestamp, message.sum, message.sum, _NO_BUCKETS)
    is_float = message.WhichOneof("count") == "count_float"
    count = message.count_float if is_float else float(message.count_int)
    if not 0 <= count < np.inf:
        raise DecodeError("native histogram without a sane count")
    negative = message.negative_counts if is_float else message.negative_deltas
    positive = message.positive_counts if is_float else message.positive_deltas
    if max(len(negative) + len(positive), len(message.custom_values)) > BUCKETS_MAX:
        raise DecodeError(f"native histogram of more than {BUCKETS_MAX} buckets")
    # What overflows is more than any count.
    with np.errstate(over="ignore"):
        below = _side(message.negative_spans, negative, is_float=is_float)
        above = _side(message.positive_spans, positive, is_float=is_float)
        if message.schema == _CUSTOM:
            buckets = _custom(message, below, above)
        elif message.schema in _SCHEMAS:
            buckets = _exponential(message, below, above)
        else:
            raise DecodeError("native histogram of an unknown schema")
        left = count - buckets.value.sum()
        if left < -count * _ROUNDING:
            raise DecodeError("native histogram with more in its buckets than its count")
        # What is not a number is counted, is in no bucket, and makes the sum be none.
        if not is_float and left > count * _ROUNDING and not math.isnan(message.sum):
            raise DecodeError("native histogram with less in its buckets than its count")
    return Reading(message.timestamp, count, message.sum, buckets)


def bounds(index: _Indexes, schema: int) -> _Floats:
    """Tell where buckets end. Bounds of all schemas are of one table, so equal ones are the same.

    Args:
        index: int64 of any shape, within what floats can express.
        schema: at most 4.
    """
    sixteenths = index << (_FINEST - schema)
    with np.errstate(over="ignore"):
        ends: _Floats = np.ldexp(_SIXTEENTHS[sixteenths & 15], sixteenths >> 4)
    # The last bucket of finite numbers ends with the largest of them; Inf is in the next.
    ends[sixteenths == _LARGEST_EXPONENT << 4] = _FLOAT_MAX
    return ends


def _is_stale(value: float) -> bool:
    return int(np.float64(value).view(np.uint64)) == STALE_BITS


def _side(
    spans: Sequence[BucketSpan], given: Sequence[float], *, is_float: bool
) -> tuple[_Indexes, _Floats]:
    """Read the populated buckets of one side: their indexes, ascending, and counts."""
    if not spans and not given:
        return _NO_INDEX, _NO_BUCKETS.value
    offsets = np.fromiter((span.offset for span in spans), np.int64, len(spans))
    lengths = np.fromiter((span.length for span in spans), np.int64, len(spans))
    if lengths.sum() != len(given):
        raise DecodeError("native histogram whose spans and buckets don't match")
    if (offsets[1:] < 0).any():
        raise DecodeError("native histogram with a negative offset")
    if is_float:
        value = np.fromiter(given, np.float64, len(given))
    else:
        value = np.fromiter(given, np.int64, len(given)).cumsum().astype(np.float64)
    # Where one is NaN, so is the smallest.
    if len(value) and not 0 <= value.min() <= value.max() < np.inf:
        raise DecodeError("native histogram with a bucket without a sane count")
    index = offsets.cumsum().repeat(lengths) + np.arange(len(value))
    populated = value.nonzero()[0]
    return index[populated], value[populated]


def _custom(
    message: Histogram, below: tuple[_Indexes, _Floats], above: tuple[_Indexes, _Floats]
) -> _Buckets:
    if message.zero_threshold or message.zero_count_int or message.zero_count_float:
        raise DecodeError("native histogram of custom bounds with a zero bucket")
    if len(below[0]):
        raise DecodeError("native histogram of custom bounds with negative buckets")
    inner = np.fromiter(message.custom_values, np.float64)
    if not (np.all(np.isfinite(inner)) and np.all(inner[1:] > inner[:-1])):
        raise DecodeError("native histogram whose custom bounds don't ascend")
    index, value = above
    if len(index) and not 0 <= index[0] <= index[-1] <= len(inner):
        raise DecodeError("native histogram with buckets beyond its custom bounds")
    edges = np.concatenate([[-np.inf], inner, [np.inf]])
    return _Buckets(edges[index], edges[index + 1], value)


def _exponential(
    message: Histogram, below: tuple[_Indexes, _Floats], above: tuple[_Indexes, _Floats]
) -> _Buckets:
    threshold = message.zero_threshold
    if not 0 <= threshold < np.inf:
        raise DecodeError("native histogram without a sane zero threshold")
    # At most one of them is set.
    zero = message.zero_count_float + message.zero_count_int
    if not 0 <= zero < np.inf:
        raise DecodeError("native histogram without a sane zero count")
    negative, inside = _outside(_merged(*below, message.schema), threshold)
    zero += inside
    positive, inside = _outside(_merged(*above, message.schema), threshold)
    zero += inside
    middle = _NO_BUCKETS
    if zero:
        # Unlike its negation, the difference from nothing is never minus nothing.
        middle = _Buckets(np.array([0.0 - threshold]), np.array([threshold]), np.array([zero]))
    mirrored = _Buckets(-negative.upper[::-1], -negative.lower[::-1], negative.value[::-1])
    parts = zip(mirrored, middle, positive, strict=True)
    return _Buckets._make(np.concatenate(column) for column in parts)


def _merged(index: _Indexes, value: _Floats, schema: int) -> _Buckets:
    """Merge the buckets of one side to the finest schema that is kept, and find their bounds."""
    if not len(index):
        return _NO_BUCKETS
    steps = max(schema - _FINEST, 0)
    schema -= steps
    index = ((index - 1) >> steps) + 1
    scale = 2.0**schema
    least, largest = int(_LEAST_EXPONENT * scale), int(_LARGEST_EXPONENT * scale) + 1
    if steps or index[0] < least or index[-1] > largest:
        index = index.clip(least, largest)
        begins = np.flatnonzero(np.diff(index, prepend=least - 1))
        index, value = index[begins], np.add.reduceat(value, begins)
    lower, upper = bounds(np.stack([index - 1, index]), schema)
    return _Buckets(lower, upper, value)


def _outside(buckets: _Buckets, threshold: float) -> tuple[_Buckets, float]:
    """Part the buckets of one side from what of them lies in the zero bucket.

    What lies in it is a part of it; so no two buckets end at one bound.
    """
    if not len(buckets.upper) or buckets.upper[0] > threshold:
        return buckets, 0.0
    outside = buckets.upper > threshold
    rest = _Buckets(buckets.lower[outside], buckets.upper[outside], buckets.value[outside])
    return rest, float(buckets.value[~outside].sum())
