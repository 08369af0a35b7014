"""What a series is to its signals, by its kind, its name, and the labels that its shape needs.

A sender may tell the kind of a metric late or never; then the name must do, and where the name
doesn't tell either, the series is unknown until its behaviour shows whether it counts.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from math import inf, isnan, nan
from typing import Final, NamedTuple

from watchkeep.schemas.frame import MetricKind
from watchkeep.schemas.signal import Dropped, Feed, Part

_TEXT_MAX: Final = 128
_SUFFIXES: Final = ("_bucket", "_count", "_sum")
_PARTS: Final = {"_bucket": Part.BUCKET, "_count": Part.COUNT, "_sum": Part.SUM}
_FAMILIES: Final = frozenset({MetricKind.HISTOGRAM, MetricKind.SUMMARY})
# What a series is that stands for itself. Information is a gauge where a rule has it watched.
_OWN: Final = {
    MetricKind.COUNTER: Part.COUNTER,
    MetricKind.GAUGE: Part.GAUGE,
    MetricKind.HISTOGRAM: Part.NATIVE,
    MetricKind.INFO: Part.GAUGE,
    MetricKind.STATE_SET: Part.GAUGE,
}

# What is measured in these is observed many times, so its count is that of a histogram or summary;
# other names in _count are gauges as often as counters (`pg_stat_activity_count`).
_OBSERVED: Final = re.compile(
    r".*_(seconds|milliseconds|microseconds|nanoseconds|ms|us|bytes|sizes?|duration|latency|time)"
)
_TIMESTAMP: Final = re.compile(
    r".*_timestamp(_(seconds|milliseconds|ms|us))?"
    r"|.*_(start|boot|creation|completion|renew|expiry|expiration)_time(_(seconds|ms))?"
    r"|.*_(last|next)_\w*time(_(seconds|ms))?"
    r"|.*_(last_seen|mtime_seconds|state_started|cert_expiry)"
    r"|push(_failure)?_time_seconds"
)

# A histogram's median and tail are watched, and so are a summary's; more quantiles of the same
# requests would say the same again.
_QUANTILES: Final = {0.5: "0.5", 0.99: "0.99"}

_STATUS: Final = re.compile(r"code|status|.*[._](code|status)")
_HTTP: Final = re.compile(r"[1-5]([0-9][0-9]|xx|XX)")
_WORD: Final = re.compile(r"[A-Za-z][A-Za-z_ -]{0,31}|[0-9]{1,2}")


class Shape(NamedTuple):
    """What a name and a kind tell of a series.

    Attributes:
        part: what it is, unless a quantile makes it a gauge.
        metric: the signals' metric.
        dropped: why it isn't watched; None if it is.
        pardonable: a rule may have it watched nevertheless.
    """

    part: Part
    metric: str
    dropped: Dropped | None = None
    pardonable: bool = False


_NAMELESS: Final = Dropped("nameless", "It has no metric name.")
_INFO: Final = Dropped("info", "It describes, and doesn't measure.")
_CREATED: Final = Dropped("created", "It is the time when something began, which doesn't move.")
_TIME: Final = Dropped("timestamp", "It holds a point in time, not a measurement.")
_GAUGE_HISTOGRAM: Final = Dropped("gauge_histogram", "Histograms of gauges are not watched.")
_BUCKET: Final = Dropped("bucket", "The upper bound of this bucket can't be read.")
_QUANTILE: Final = Dropped("quantile", "Of a summary only the quantiles 0.5 and 0.99 are watched.")


def shorten(name: str) -> str:
    """Cut a name, but for the suffix that says what it is.

    >>> shorten("x" * 200 + "_bucket")[-10:]
    'xxx_bucket'
    """
    if len(name) <= _TEXT_MAX:
        return name
    end = next((suffix for suffix in _SUFFIXES if name.endswith(suffix)), "")
    return name[: _TEXT_MAX - len(end)] + end


def families(name: str) -> tuple[str, ...]:
    """Give the names that a rule may call a series' metric: its own and its family's."""
    end = next((suffix for suffix in _SUFFIXES if name.endswith(suffix)), "")
    return (name, name.removesuffix(end)) if end and name != end else (name,)


def shape_of(name: str, kind: MetricKind) -> Shape:
    """Tell what a series is, by name and kind."""
    if not name:
        return Shape(Part.UNKNOWN, "", _NAMELESS)
    if kind is MetricKind.GAUGE_HISTOGRAM:
        return Shape(Part.GAUGE, name, _GAUGE_HISTOGRAM)
    suffix = next((suffix for suffix in _SUFFIXES if name.endswith(suffix)), "")
    stem = name.removesuffix(suffix)
    if suffix and stem and _is_part(stem, suffix, kind):
        return Shape(_PARTS[suffix], stem)
    if (unmoved := _unmoved(name, kind)) is not None:
        return Shape(Part.GAUGE, name, unmoved, pardonable=True)
    if kind is MetricKind.UNKNOWN and name.endswith("_total"):
        return Shape(Part.COUNTER, name)
    return Shape(_OWN.get(kind, Part.UNKNOWN), name)


def _unmoved(name: str, kind: MetricKind) -> Dropped | None:
    """Tell why what isn't a measurement isn't watched; None for what is one."""
    if kind in {MetricKind.INFO, MetricKind.STATE_SET}:
        return _INFO
    if name.endswith("_created") and kind is not MetricKind.COUNTER:
        return _CREATED
    if kind not in {MetricKind.GAUGE, MetricKind.UNKNOWN}:
        return None
    if name.endswith("_info"):
        return _INFO
    return _TIME if _TIMESTAMP.fullmatch(name) else None


def _is_part(stem: str, suffix: str, kind: MetricKind) -> bool:
    if suffix == "_bucket":  # Without `le` it is something else, whatever its name says.
        return kind in {MetricKind.HISTOGRAM, MetricKind.UNKNOWN, MetricKind.COUNTER}
    if kind is MetricKind.UNKNOWN:
        return _OBSERVED.fullmatch(stem) is not None
    return kind in _FAMILIES


def feed_of(
    shape: Shape, labels: Mapping[str, str], keep: tuple[str, ...], step_s: int
) -> Feed | Dropped:
    """Say how a series that is watched feeds its signals."""
    part, metric, le = shape.part, shape.metric, nan
    if part is Part.BUCKET:
        bound = bound_of(labels.get("le", "")[: _TEXT_MAX + 1])
        if bound is None:
            return _BUCKET
        le = bound
    pairs = [
        (name, class_of(value[:_TEXT_MAX]) if _is_status(name) else value[:_TEXT_MAX])
        for name in keep
        if (value := labels.get(name))
    ]
    if (text := labels.get("quantile")) is not None and part in {Part.GAUGE, Part.UNKNOWN}:
        quantile = _QUANTILES.get(bound_of(text[: _TEXT_MAX + 1]) or nan)
        if quantile is None:
            return _QUANTILE
        part = Part.GAUGE
        pairs.append(("quantile", quantile))
    if len(pairs) > 1:
        pairs.sort()
    return Feed(part, metric, tuple(pairs), le, step_s)


@lru_cache(maxsize=4096)
def bound_of(text: str) -> float | None:
    """Read a bucket's upper bound, or a quantile; None where it is none.

    >>> bound_of("+Inf"), bound_of("0.25"), bound_of("1_0")
    (inf, 0.25, None)
    """
    if len(text) > _TEXT_MAX or "_" in text or not text.isascii():
        return None
    try:
        bound = float(text)
    except ValueError:
        return None
    return None if isnan(bound) or bound == -inf else bound


@lru_cache(maxsize=4096)
def _is_status(label: str) -> bool:
    return _STATUS.fullmatch(label) is not None


@lru_cache(maxsize=4096)
def class_of(status: str) -> str:
    """Fold a status into its class; what looks like no status at all is `other`.

    >>> class_of("503"), class_of("Unavailable"), class_of("user 4711 is unknown")
    ('5xx', 'Unavailable', 'other')
    """
    if _HTTP.fullmatch(status):
        return f"{status[0]}xx"
    return status if _WORD.fullmatch(status) else "other"
