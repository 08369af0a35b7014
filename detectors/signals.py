"""What is watched: signals, and how a series becomes part of one.

A signal is entity x metric x kept labels. Which series feed it, and how, follows from the series'
labels and kind alone.
"""

from collections.abc import Collection, Mapping
from typing import NamedTuple

import xxhash

from watchkeep.schemas.frame import MetricKind
from watchkeep.schemas.labels import METRIC_NAME, text

_DROPPED_KINDS = frozenset({MetricKind.INFO, MetricKind.STATE_SET})
_COUNTER_KINDS = frozenset({MetricKind.COUNTER, MetricKind.HISTOGRAM, MetricKind.SUMMARY})
_COUNTER_SUFFIXES = ("_total", "_count", "_sum")
_STATUS_LABELS = frozenset({"code", "status", "status_code", "response_code"})


# Names end up in evidence; longer ones are cut.
_NAME_MAX = 128


class Signal(NamedTuple):
    """A signal's name, and how it is folded.

    Attributes:
        entity: the entity's key.
        labels: the kept labels, as sorted pairs.
        counter: folded as the sum of its members' rates, else as their mean.
    """

    entity: str
    metric: str
    labels: tuple[tuple[str, str], ...]
    counter: bool

    @property
    def signal_id(self) -> int:
        """Name it for the store: xxh3-64 of entity, metric and labels."""
        return xxhash.xxh3_64_intdigest(f"{self.entity}\n{self.title}".encode())

    @property
    def title(self) -> str:
        """How PromQL would write it."""
        return self.metric + text(dict(self.labels))

    @property
    def unit(self) -> str:
        """The unit of its values, from the metric's name; empty when that doesn't tell."""
        stem = self.metric.removesuffix("_total").removesuffix("_sum")
        unit = next((u for name, u in _UNITS.items() if stem.endswith(name)), "")
        if self.counter:
            return f"{unit}/s" if unit else "1/s"
        return unit


_UNITS = {"_seconds": "s", "_bytes": "B", "_ratio": "", "_celsius": "C", "_volts": "V"}


def signal_of(
    entity: str, labels: Mapping[str, str], kind: MetricKind, kept: Collection[str]
) -> Signal | None:
    """Find the signal that a series feeds; None for series that are not watched.

    Not watched are the buckets of histograms, and info and state-set series.
    """
    metric = labels.get(METRIC_NAME, "")[:_NAME_MAX]
    if not metric or kind in _DROPPED_KINDS or metric.endswith(("_bucket", "_info", "_created")):
        return None
    pairs = tuple(
        (name, _class_of(name, value)) for name, value in sorted(labels.items()) if name in kept
    )
    quantile = labels.get("quantile")
    if quantile is not None:
        pairs = tuple(sorted((*pairs, ("quantile", quantile[:_NAME_MAX]))))
    return Signal(entity, metric, pairs, is_counter(metric, kind, quantile is not None))


def is_counter(metric: str, kind: MetricKind, has_quantile: bool) -> bool:  # noqa: FBT001 - It is a fact, not a switch.
    """Tell whether a series counts up: by its kind, else by its name."""
    if has_quantile or kind in {MetricKind.GAUGE, MetricKind.GAUGE_HISTOGRAM}:
        return False
    return kind in _COUNTER_KINDS or metric.endswith(_COUNTER_SUFFIXES)


def _class_of(name: str, value: str) -> str:
    """Fold a status into its class: ``503`` becomes ``5xx``."""
    if name in _STATUS_LABELS and len(value) == 3 and value.isascii() and value.isdigit():
        return f"{value[0]}xx"
    return value[:_NAME_MAX]
