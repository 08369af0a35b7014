"""Native histograms as a sender would make them."""

from collections.abc import Mapping

import numpy as np

from watchkeep.schemas.remote_write_pb2 import BucketSpan, Histogram

STALE = float(np.array([0x7FF0000000000002], np.uint64).view(np.float64)[0])


def native(
    positive: Mapping[int, float],
    negative: Mapping[int, float] | None = None,
    *,
    schema: int = 0,
    zero: float = 0,
    threshold: float = 2.0**-128,
    is_float: bool = False,
    time_ms: int = 0,
) -> Histogram:
    """Make a histogram of the counts of its buckets by index; its sum is 1.5."""
    negative = negative or {}
    made = Histogram(sum=1.5, schema=schema, zero_threshold=threshold, timestamp=time_ms)
    count = zero + sum(positive.values()) + sum(negative.values())
    if is_float:
        made.count_float, made.zero_count_float = count, zero
        made.positive_counts.extend(positive[i] for i in sorted(positive))
        made.negative_counts.extend(negative[i] for i in sorted(negative))
    else:
        made.count_int, made.zero_count_int = int(count), int(zero)
        made.positive_deltas.extend(deltas(positive))
        made.negative_deltas.extend(deltas(negative))
    made.positive_spans.extend(spans(positive))
    made.negative_spans.extend(spans(negative))
    return made


def deltas(counts: Mapping[int, float]) -> list[int]:
    """Give the differences between buckets that follow one another."""
    values = [int(counts[i]) for i in sorted(counts)]
    return [now - last for last, now in zip([0, *values], values, strict=False)]


def spans(counts: Mapping[int, float]) -> list[BucketSpan]:
    """Give the stretches of indexes without a gap."""
    found: list[BucketSpan] = []
    end = 0
    for i in sorted(counts):
        if found and i == end:
            found[-1].length += 1
        else:
            found.append(BucketSpan(offset=i - end, length=1))
        end = i + 1
    return found
