"""What is watched: how a series feeds signals, and which of them may page.

A signal is entity x metric x kept labels, folded in one way. A classic histogram's buckets, count
and sum are one family, and feed several signals: its rate and its quantiles.
"""

from enum import StrEnum
from typing import NamedTuple

import xxhash

from watchkeep.schemas.labels import text


class Role(StrEnum):
    """Whether a signal may wake a person, or only helps to explain."""

    PAGE = "page"
    EVIDENCE = "evidence"


class Side(StrEnum):
    """Which way a signal must leave what is expected to page."""

    ABOVE = "above"
    BELOW = "below"
    BOTH = "both"


class Folding(StrEnum):
    """How a signal's value comes from its series."""

    RATE = "rate"  # the sum of counters' rates
    MEAN = "mean"  # the mean of gauges over members
    P50 = "p50"  # quantiles of a histogram, merged over members
    P99 = "p99"
    AVERAGE = "average"  # sum / count of a family without buckets


class Part(StrEnum):
    """What a series is to its signals."""

    COUNTER = "counter"
    GAUGE = "gauge"
    UNKNOWN = "unknown"  # A gauge until its behaviour tells that it counts.
    BUCKET = "bucket"  # Of a classic histogram.
    COUNT = "count"  # Of a histogram or a summary.
    SUM = "sum"
    NATIVE = "native"  # A native histogram.


def foldings(part: Part) -> tuple[Folding, ...]:
    """List the signals that a series feeds; the first is what it is added to."""
    return _FOLDINGS[part]


_FOLDINGS = {
    Part.COUNTER: (Folding.RATE,),
    Part.GAUGE: (Folding.MEAN,),
    Part.UNKNOWN: (Folding.MEAN,),
    Part.BUCKET: (Folding.P99, Folding.P50),
    Part.COUNT: (Folding.RATE,),
    Part.SUM: (Folding.AVERAGE, Folding.RATE),
    Part.NATIVE: (Folding.P99, Folding.P50, Folding.AVERAGE, Folding.RATE),
}


class Feed(NamedTuple):
    """How a series feeds signals.

    Attributes:
        part: what it is to them.
        metric: the signals' metric: the series' own, or its family's without _bucket, _count, _sum.
        labels: the kept labels, as sorted pairs, status codes as their class.
        le: a bucket's upper bound, else NaN.
        step_s: the width of the signals' cells.
    """

    part: Part
    metric: str
    labels: tuple[tuple[str, str], ...]
    le: float
    step_s: int


class Dropped(NamedTuple):
    """A series that isn't watched.

    Attributes:
        reason: one of a few fixed words, for metrics: `info`, `created`, `rule`, ...
        why: for people, in a sentence.
    """

    reason: str
    why: str


class Signal(NamedTuple):
    """A signal's name, and how it is folded.

    Attributes:
        entity: the entity's key.
        labels: the kept labels, as sorted pairs.
    """

    entity: str
    metric: str
    labels: tuple[tuple[str, str], ...]
    folding: Folding

    @property
    def signal_id(self) -> int:
        """Name it for the store: xxh3-64 of entity and title."""
        return xxhash.xxh3_64_intdigest(f"{self.entity}\n{self.title}".encode())

    @property
    def title(self) -> str:
        """How people write it: ``http_requests_total{code="5xx"}``, ``p99(request_seconds)``."""
        name = self.metric + text(dict(self.labels))
        if self.folding in {Folding.RATE, Folding.MEAN}:
            return name
        return f"{self.folding}({name})"


_UNITS = {"_seconds": "s", "_bytes": "B", "_ratio": "", "_celsius": "C", "_volts": "V"}


def unit_of(signal: Signal) -> str:
    """Tell the unit of a signal's values from its name; empty when that doesn't tell."""
    stem = signal.metric.removesuffix("_total").removesuffix("_sum")
    unit = next((unit for name, unit in _UNITS.items() if stem.endswith(name)), "")
    if signal.folding is not Folding.RATE:
        return unit
    # The rate of a family of durations counts its observations, not its seconds.
    return f"{unit}/s" if unit and signal.metric != stem else "1/s"
