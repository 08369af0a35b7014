"""Intake: from remote-write requests to frames, shard by shard.

Series are looked up in a cache that can be forgotten at any time: it only saves work and label
sets in the log. Samples wait in buffers until the gateway takes the frames out.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from watchkeep.schemas.entity import EntityRules
from watchkeep.schemas.errors import DecodeError
from watchkeep.schemas.frame import (
    SHARDS,
    Frame,
    FrameKind,
    LabelSet,
    MetricKind,
    SenderTime,
    by_bytes,
    encode,
    shard_of,
)
from watchkeep.schemas.histograms import NO_HISTOGRAMS, Histograms
from watchkeep.schemas.labels import METRIC_NAME, canonical, series_id
from watchkeep.schemas.remote_write_pb2 import Histogram, MetricMetadata, WriteRequest
from watchkeep.schemas.settings import Gateway
from watchkeep.streams import native_histograms
from watchkeep.streams.native_histograms import Reading
from watchkeep.streams.ports import Clock
from watchkeep.streams.rows import NO_SAMPLES, Rows, Samples

_FAMILY_SUFFIXES = ("_bucket", "_count", "_sum", "_total")
_HEARD_MS: Final = 60_000
# A label set has to fit into a record of the log together with others.
_LABEL_SET_BYTES_MAX: Final = 16 * 1024
_REPLICA_MAX: Final = 256
_SERIES_MAX: Final = 1_000_000

Sender = tuple[str, str]


@dataclass(slots=True)
class _Series:
    labels: LabelSet
    shard: int
    sender: Sender
    sent_ms: int


@dataclass(slots=True)
class _Buffer:
    sender: SenderTime
    rows: Rows = field(default_factory=Rows)
    label_sets: list[LabelSet] = field(default_factory=list)


class EventClock:
    """A clock that stands at the newest sample time seen, for replays and the demo."""

    def __init__(self) -> None:
        self._now_ms = 0

    def now_ms(self) -> int:
        """Tell the newest sample time."""
        return self._now_ms

    def advance(self, time_ms: int) -> None:
        """Take note of a sample's time."""
        self._now_ms = max(self._now_ms, time_ms)


class Intake:
    """What one gateway has taken in and not yet written.

    Attributes:
        waiting: samples and histograms that wait to be written.
    """

    def __init__(self, settings: Gateway, rules: EntityRules, clock: Clock) -> None:
        self._settings = settings
        self._rules = rules
        self._clock = clock
        self._series: dict[tuple[tuple[str, str], ...], _Series] = {}
        self._kinds: dict[tuple[str, str], MetricKind] = {}
        self._senders: dict[Sender, SenderTime] = {}
        self._buffers: dict[tuple[int, Sender], _Buffer] = {}
        self._told: dict[int, set[Sender]] = defaultdict(set)
        self.waiting = 0

    def forget(self) -> None:
        """Unlearn what the log may not have, after a failed write.

        Every label set is sent again, and no tick tells of a sender before its data is there.
        """
        self._series.clear()
        self._senders.clear()
        self._told.clear()

    def take(self, request: WriteRequest) -> Counter[str]:
        """Take in a request; return how many series were refused, by reason."""
        refused: Counter[str] = Counter()
        found: list[_Series] = []
        counts: list[int] = []
        times: list[int] = []
        values: list[float] = []
        readings: list[tuple[_Series, Reading]] = []
        for entry in request.timeseries:
            if entry.samples and entry.histograms:
                refused["samples and native histograms in one"] += 1
                continue
            key = tuple((label.name, label.value) for label in entry.labels)
            series = self._series.get(key) or self._new_series(key, refused)
            if series is not None and entry.samples:
                found.append(series)
                counts.append(len(entry.samples))
                times.extend(sample.timestamp for sample in entry.samples)
                values.extend(sample.value for sample in entry.samples)
            elif series is not None and entry.histograms:
                readings.extend((series, own) for own in _readings(entry.histograms, refused))
        owners = [series for series, _ in readings]
        self._learn_kinds(request.metadata, found + owners)
        if found or owners:
            own_times = [own.time_ms for _, own in readings]
            self._hear(found + owners, counts + [1] * len(owners), times + own_times)
        if found:
            ids = np.repeat(_ids(found), counts)
            samples = Samples(ids, np.array(times, np.int64), np.array(values, np.float64))
            self._buffer(found, counts, samples)
        if owners:
            for series in owners:
                _know_histogram(series)
            histograms = native_histograms.columns(_ids(owners), [own for _, own in readings])
            self._buffer(owners, [1] * len(owners), histograms)
        return refused

    def _new_series(
        self, key: tuple[tuple[str, str], ...], refused: Counter[str]
    ) -> _Series | None:
        # PostgreSQL's texts have no NUL, and no honest label has one.
        labels = {name: value.replace("\0", "\ufffd") for name, value in key}
        if len(labels) != len(key):
            refused["duplicate label name"] += 1
            return None
        if not labels.get(METRIC_NAME):
            refused["no metric name"] += 1
            return None
        cluster = labels.get(self._settings.cluster_label) or "default"
        replicas = [labels.pop(name, "") for name in self._settings.replica_labels]
        replica = next(filter(None, replicas), "").replace("/", "_")[:_REPLICA_MAX]
        if replica:
            # One is elected among those that differ in the last part.
            pair = [labels[name] for name in self._settings.pair_labels if labels.get(name)]
            replica = "/".join([*(name[:_REPLICA_MAX] for name in pair), replica])
        form = canonical(labels.items())
        if len(form) > _LABEL_SET_BYTES_MAX:
            refused[f"labels of more than {_LABEL_SET_BYTES_MAX} bytes"] += 1
            return None
        place = self._rules.place(labels, cluster)
        kind = self._kind_of(cluster, labels[METRIC_NAME])
        series = _Series(
            LabelSet(series_id(form), kind, place.entity.key, place.member, form),
            shard_of(place.entity.key),
            (cluster, replica),
            sent_ms=-1,
        )
        if len(self._series) >= _SERIES_MAX:
            self._series.clear()
        self._series[key] = series
        return series

    def _kind_of(self, cluster: str, metric: str) -> MetricKind:
        for suffix in ("", *_FAMILY_SUFFIXES):
            if metric.endswith(suffix):
                kind = self._kinds.get((cluster, metric.removesuffix(suffix)))
                if kind is not None:
                    return kind
        return MetricKind.UNKNOWN

    def _learn_kinds(self, metadata: Iterable[MetricMetadata], found: list[_Series]) -> None:
        """Take in metadata; series whose kind becomes known so are looked up anew.

        Metadata comes in requests of its own, without labels: it holds for every cluster that
        this gateway hears.
        """
        clusters = {sender[0] for sender in self._senders} | {s.sender[0] for s in found}
        changed = False
        for entry in metadata:
            for cluster in clusters or {"default"}:
                key, kind = (cluster, entry.metric_family_name), _kind(entry.type)
                changed |= self._kinds.get(key) is not kind
                self._kinds[key] = kind
        if changed:
            self._series.clear()

    def _hear(self, found: list[_Series], counts: list[int], times: list[int]) -> None:
        begins = np.cumsum([0, *counts[:-1]], dtype=np.int64)
        at_ms = np.array(times, np.int64)
        if isinstance(self._clock, EventClock):
            self._clock.advance(int(at_ms.max()))
        now_ms = self._clock.now_ms()
        latest_ms = now_ms + round(self._settings.future_tolerance_s * 1000)
        # A sample from the future is refused later; it must not close the cells of all others.
        largest = np.maximum.reduceat(np.where(at_ms > latest_ms, 0, at_ms), begins)
        newest: dict[Sender, int] = {}
        for series, time_ms in zip(found, largest.tolist(), strict=True):
            newest[series.sender] = max(newest.get(series.sender, 0), time_ms)
        for (cluster, replica), time_ms in newest.items():
            known = self._senders.get((cluster, replica))
            newest_ms = max(time_ms, known.newest_ms) if known else time_ms or latest_ms
            self._senders[cluster, replica] = SenderTime(cluster, replica, newest_ms, now_ms)

    def _buffer(self, found: list[_Series], counts: list[int], rows: Samples | Histograms) -> None:
        """Put rows where they go; each series has so many of them, one behind the other."""
        self.waiting += sum(counts)
        now_ms = self._clock.now_ms()
        refresh_ms = round(self._settings.refresh_s * 1000)
        places: dict[tuple[int, Sender], int] = {}
        place_of = np.empty(len(found), np.int64)
        for i, series in enumerate(found):
            place = (series.shard, series.sender)
            if place not in places:
                self._open_buffer(place)
            place_of[i] = places.setdefault(place, len(places))
            if series.sent_ms < 0 or now_ms - series.sent_ms >= refresh_ms:
                self._buffers[place].label_sets.append(series.labels)
                series.sent_ms = now_ms
        where = np.repeat(place_of, counts)
        order = np.argsort(where, kind="stable")
        begin = 0
        for place, end in zip(places, np.cumsum(np.bincount(where)).tolist(), strict=True):
            self._buffers[place].rows.add(rows.pick(order[begin:end]))
            begin = end

    def _open_buffer(self, place: tuple[int, Sender]) -> None:
        sender = self._senders[place[1]]
        self._buffers.setdefault(place, _Buffer(sender)).sender = sender

    def drain(self) -> dict[int, list[bytes]]:
        """Take out all that waits, as the frames of each shard, in order."""
        buffers, self._buffers = self._buffers, {}
        self.waiting = 0
        frames: dict[int, list[bytes]] = defaultdict(list)
        for (shard, sender), buffer in buffers.items():
            frames[shard].extend(map(encode, self._frames(buffer)))
            self._told[shard].add(sender)
        return frames

    def ticks(self) -> dict[int, bytes]:
        """Make a tick for each shard that has not heard of every sender since the last ticks."""
        now_ms = self._clock.now_ms()
        senders = tuple(s for s in self._senders.values() if now_ms - s.heard_ms <= _HEARD_MS)
        names = {(sender.cluster, sender.replica) for sender in senders}
        told, self._told = self._told, defaultdict(set)
        if not now_ms:
            return {}
        tick = encode(Frame(FrameKind.TICK, self._settings.name, now_ms, self._rules.hash, senders))
        return {shard: tick for shard in range(SHARDS) if not names or names - told[shard]}

    def _frames(self, buffer: _Buffer) -> Iterator[Frame]:
        known = buffer.sender
        *label_chunks, last_labels = by_bytes(buffer.label_sets)
        for chunk in label_chunks:
            yield self._frame(known._replace(newest_ms=0), NO_SAMPLES, chunk, NO_HISTOGRAMS)
        for part in buffer.rows.parts():
            told = known
            if part.reached_ms is not None:
                told = known._replace(newest_ms=min(known.newest_ms, part.reached_ms))
            yield self._frame(told, part.samples, last_labels, part.histograms)
            last_labels = []

    def _frame(
        self,
        sender: SenderTime,
        samples: Samples,
        label_sets: list[LabelSet],
        histograms: Histograms,
    ) -> Frame:
        return Frame(
            FrameKind.DATA,
            self._settings.name,
            self._clock.now_ms(),
            self._rules.hash,
            (sender,),
            *samples,
            tuple(label_sets),
            histograms,
        )


def _readings(histograms: Iterable[Histogram], refused: Counter[str]) -> list[Reading]:
    """Read a series' histograms; it counts once for each reason to refuse some of them."""
    readings = []
    reasons = set()
    for histogram in histograms:
        try:
            readings.append(native_histograms.read(histogram))
        except DecodeError as error:
            reasons.add(str(error))
    refused.update(reasons)
    return readings


def _know_histogram(series: _Series) -> None:
    """Tell readers that it is a histogram, unless metadata knows of its kind."""
    if series.labels.kind is MetricKind.UNKNOWN:
        series.labels = series.labels._replace(kind=MetricKind.HISTOGRAM)
        series.sent_ms = -1


def _ids(found: list[_Series]) -> npt.NDArray[np.uint64]:
    return np.array([series.labels.series_id for series in found], np.uint64)


def _kind(number: int) -> MetricKind:
    """Read a metric type; one that is newer than this program is as good as unknown."""
    return MetricKind(number) if number in set(MetricKind) else MetricKind.UNKNOWN
