"""Intake: from remote-write requests to frames, shard by shard.

Samples wait as columns, as they came; who takes them out sorts them by shard once, however many
requests they came with.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
from google.protobuf.message import DecodeError as ProtobufError

from watchkeep.schemas.entity import EntityRules
from watchkeep.schemas.errors import DecodeError, RemoteWriteError
from watchkeep.schemas.frame import (
    SHARDS,
    Frame,
    FrameKind,
    LabelSet,
    MetricKind,
    SenderTime,
    by_bytes,
    encode,
)
from watchkeep.schemas.histograms import NO_HISTOGRAMS, Histograms
from watchkeep.schemas.remote_write_pb2 import Histogram, MetricMetadata
from watchkeep.schemas.settings import Gateway
from watchkeep.streams import native_histograms, wire
from watchkeep.streams.clocks import EventClock
from watchkeep.streams.known_series import (
    DROPPED,
    FINE,
    NEVER,
    TOO_LARGE,
    KnownSeries,
    Sender,
)
from watchkeep.streams.metric_kinds import kind_of
from watchkeep.streams.native_histograms import GAUGE, Reading
from watchkeep.streams.ports import Clock
from watchkeep.streams.rows import NO_SAMPLES, Samples, parts

_HEARD_MS: Final = 60_000
_MINUTE_MS: Final = 60_000
_LOOK_MS: Final = 600_000
# Pods that are gone aren't kept much longer than their samples may be late.
_IDLE_MS: Final = 3_600_000
# What waits of a sample: its slot, its time and its value; of a bucket two bounds and its count;
# and of a histogram the objects that hold it.
_SAMPLE_BYTES: Final = 24
_BUCKET_BYTES: Final = 24
_READING_BYTES: Final = 640
# Nobody else is answered while they are read, which takes up to a tenth of a millisecond each, and
# a second a megabyte. The largest of batches have as many.
_HISTOGRAMS_MAX: Final = 20_000
_HISTOGRAM_BYTES_MAX: Final = 8 * 1024 * 1024
# Longer names are no metric's; what is known of metrics is kept for ever.
_FAMILY_MAX: Final = 512

# What a sender does with every request, and no fault of it, doesn't make an answer a 400: that
# would be an error in its log each time, and burn its alerts on failed samples.
QUIET: Final = frozenset({GAUGE, DROPPED})

_CODES: Final = {
    wire.NO_SYMBOL: "reference to a symbol that isn't there",
    wire.HALF_A_LABEL: "label name without a value",
    wire.TOO_LARGE: TOO_LARGE,
}
_BOTH: Final = "samples and native histograms in one"

_Message = TypeVar("_Message", Histogram, MetricMetadata)

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


class Taken(NamedTuple):
    """What was taken in of a request.

    Attributes:
        refused: how many series were not, by reason; of some a part.
        samples, histograms, exemplars: how many its sender needn't send again: they wait to be
            written, or are meant to be left out.
        waits: some of it waits to be written.
    """

    refused: Counter[str]
    samples: int
    histograms: int
    exemplars: int
    waits: bool


class _Waiting(NamedTuple):
    """Samples that wait: int64[n] slots, int64[n] times in ms, float64[n] values."""

    slot: Ints
    time_ms: Ints
    value: npt.NDArray[np.float64]

    def pick(self, which: Ints | slice) -> "_Waiting":
        """Take some of them, in the order asked for."""
        return _Waiting(self.slot[which], self.time_ms[which], self.value[which])


_NOTHING: Final = _Waiting(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))


class Intake:
    """What one gateway has taken in and not yet written.

    Attributes:
        waiting: samples and histograms that wait to be written.
        waiting_bytes: how much memory they take.
    """

    def __init__(self, settings: Gateway, rules: EntityRules, clock: Clock) -> None:
        self._settings = settings
        self._rules = rules
        self._clock = clock
        self._reader = wire.reader()
        self._known = KnownSeries(settings, rules)
        self._senders: dict[Sender, SenderTime] = {}
        self._samples: list[_Waiting] = []
        self._readings: list[tuple[int, Reading]] = []
        self._told: dict[int, set[Sender]] = defaultdict(set)
        self._looked_ms = NEVER
        self._minute, self._new = 0, 0
        self.waiting = 0
        self.waiting_bytes = 0

    @property
    def active_series(self) -> int:
        """Tell how many series are known."""
        return len(self._known)

    def forget(self) -> None:
        """Unlearn what the log may not have, after a failed write.

        Every label set is sent again, and nothing tells how far a sender has come before its data
        is there; of what waits it will be.
        """
        self._known.sent_ms[:] = NEVER
        self._senders.clear()
        self._told.clear()
        for samples in self._samples:
            self._hear(samples, [])
        self._hear(_NOTHING, self._readings)

    def take(self, plain: bytes, version: int) -> Taken:
        """Take in a request.

        Args:
            plain: its body, decompressed; untrusted.
            version: of remote write, 1 or 2.

        Raises:
            RemoteWriteError: it can't be read; nothing of it was taken.
        """
        columns = self._reader.read(plain, version)
        if plain and version == wire.V1 and not (len(columns.slot) or columns.metadata):
            raise RemoteWriteError(400, "the body holds nothing that a write request has")
        _check_histograms([len(body) for _, body in columns.histograms])
        metadata = [
            message
            for entry in columns.metadata
            if len((message := _message(MetricMetadata, entry)).metric_family_name) <= _FAMILY_MAX
        ]
        refused: Counter[str] = Counter()
        slot = self._slots(columns, refused)
        fine = slot >= 0
        readings, gauges = self._readings_of(columns, slot, fine, refused)
        if metadata:
            self._learn_kinds(metadata, slot[fine])
        self._take_kinds(columns.kind, slot, fine)
        samples = self._samples_of(columns, slot, fine)
        for own, _ in readings:
            if self._known.kind[own] == MetricKind.UNKNOWN:
                self._known.know_kind(own, MetricKind.HISTOGRAM)
        self._hear(samples, readings)
        self._wait(samples, readings)
        # Those that are refused are known too, and cost little for as long as they are.
        self._known.seen_ms[columns.slot[columns.slot >= 0]] = self._clock.now_ms()
        left_out = columns.slot >= 0
        left_out &= self._known.dropped(np.maximum(columns.slot, 0))
        return Taken(
            refused,
            len(samples.slot) + int(columns.samples[left_out].sum()),
            sum(1 for row, _ in columns.histograms if left_out[row]) + len(readings) + gauges,
            int(columns.exemplars[fine | left_out].sum()),
            waits=bool(len(samples.slot) or readings),
        )

    def _slots(self, columns: wire.Columns, refused: Counter[str]) -> Ints:
        """Tell the slots of a request's series; -1 for those that are refused."""
        known, slot = self._known, columns.slot
        learned: dict[bytes, int] = {}
        for row, labels in columns.unknown:
            # A series may come several times in a request; it is new once.
            if learned.get(labels, -1) < 0:
                learned[labels] = self._learn(labels, refused)
            slot[row] = learned[labels]
        if len(slot) and slot.min() < 0:
            for code, words in _CODES.items():
                if count := int((slot == code).sum()):
                    refused[words] += count
            slot = np.maximum(slot, -1)
        why = known.refused.take(np.maximum(slot, 0))
        if why.any():
            own = np.where(slot >= 0, why, FINE)
            for reason, count in enumerate(np.bincount(own).tolist()):
                if reason != FINE and count:
                    refused[known.reasons[reason]] += count
            slot = np.where(own == FINE, slot, -1)
        return slot

    def _learn(self, labels: bytes, refused: Counter[str]) -> int:
        """Learn of a new series, within the limits: its slot, or -1."""
        settings, minute = self._settings, self._clock.now_ms() // _MINUTE_MS
        if minute != self._minute:
            self._minute, self._new = minute, 0
        if len(self._known) >= settings.active_series_max:
            refused[f"more than {settings.active_series_max} active series"] += 1
            return -1
        if self._new >= settings.new_series_per_minute:
            refused[f"more than {settings.new_series_per_minute} new series a minute"] += 1
            return -1
        slot = self._reader.learn(labels)
        if slot == len(self._known):
            self._known.learn(slot, labels)
            self._new += 1
        return slot

    def _readings_of(
        self, columns: wire.Columns, slot: Ints, fine: Flags, refused: Counter[str]
    ) -> tuple[list[tuple[int, Reading]], int]:
        """Read native histograms, and count those that are gauges, which are left out.

        A series counts once for each reason to refuse some of them.
        """
        readings, gauges = [], 0
        reasons: set[tuple[int, str]] = set()
        for row, body in columns.histograms:
            message = _message(Histogram, body)
            if slot[row] < 0:
                continue
            if columns.samples[row]:
                reasons.add((row, _BOTH))
                fine[row] = False
                continue
            try:
                readings.append((int(slot[row]), native_histograms.read(message)))
            except DecodeError as error:
                reasons.add((row, str(error)))
                gauges += str(error) == GAUGE
        refused.update(reason for _, reason in reasons)
        return readings, gauges

    def _learn_kinds(self, metadata: list[MetricMetadata], slots: Ints) -> None:
        clusters = {cluster for cluster, _ in self._senders}
        places = np.unique(self._known.place.take(slots))
        clusters |= {self._known.places[place][1][0] for place in places.tolist()}
        self._known.know_kinds(self._known.kinds.learn(metadata, clusters or {"default"}))

    def _take_kinds(self, kind: Ints, slot: Ints, fine: Flags) -> None:
        if not kind.any():
            return
        other = fine & (kind != 0) & (kind != self._known.kind.take(np.maximum(slot, 0)))
        for row in np.flatnonzero(other).tolist():
            self._known.know_kind(int(slot[row]), kind_of(int(kind[row])))

    @staticmethod
    def _samples_of(columns: wire.Columns, slot: Ints, fine: Flags) -> _Waiting:
        counts = columns.samples
        slots = slot if (counts == 1).all() else np.repeat(slot, counts)
        samples = _Waiting(slots, columns.time_ms, columns.value)
        return samples if fine.all() else samples.pick(np.flatnonzero(np.repeat(fine, counts)))

    def _hear(self, samples: _Waiting, readings: list[tuple[int, Reading]]) -> None:
        """Take note of how far senders have come."""
        time_ms = samples.time_ms
        place = self._known.place.take(samples.slot)
        if readings:
            slots = np.array([slot for slot, _ in readings], np.int64)
            time_ms = np.append(time_ms, [reading.time_ms for _, reading in readings])
            place = np.append(place, self._known.place.take(slots))
        if not len(time_ms):
            return
        if isinstance(self._clock, EventClock):
            self._clock.advance(int(time_ms.max()))
        now_ms = self._clock.now_ms()
        latest_ms = now_ms + round(self._settings.future_tolerance_s * 1000)
        if time_ms.max() > latest_ms:
            # A sample from the future is refused later; it must not close the cells of all others.
            time_ms = np.where(time_ms > latest_ms, 0, time_ms)
        newest_ms = np.full(len(self._known.places), np.iinfo(np.int64).min)
        np.maximum.at(newest_ms, place.astype(np.intp), time_ms)
        heard: dict[Sender, int] = {}
        for number in np.flatnonzero(np.bincount(place)).tolist():
            _, sender = self._known.places[number]
            heard[sender] = max(heard.get(sender, 0), int(newest_ms[number]))
        for sender, own_ms in heard.items():
            self._hear_one(sender, own_ms, now_ms, latest_ms)

    def _hear_one(self, sender: Sender, time_ms: int, now_ms: int, latest_ms: int) -> None:
        known = self._senders.get(sender)
        newest_ms = max(time_ms, known.newest_ms) if known else time_ms or latest_ms
        self._senders[sender] = SenderTime(*sender, newest_ms, now_ms)

    def _wait(self, samples: _Waiting, readings: list[tuple[int, Reading]]) -> None:
        if len(samples.slot):
            self._samples.append(samples)
        self._readings += readings
        self.waiting += len(samples.slot) + len(readings)
        buckets = sum(len(reading.buckets.value) for _, reading in readings)
        self.waiting_bytes += _SAMPLE_BYTES * len(samples.slot)
        self.waiting_bytes += _READING_BYTES * len(readings) + _BUCKET_BYTES * buckets

    def drain(self) -> dict[int, list[bytes]]:
        """Take out all that waits, as the frames of each shard, in order."""
        frames: dict[int, list[bytes]] = defaultdict(list)
        samples, readings = self._samples, self._readings
        self._samples, self._readings = [], []
        self.waiting = self.waiting_bytes = 0
        for place, (own, histograms) in self._by_place(samples, readings).items():
            shard, sender = self._known.places[place]
            rows = np.append(own.slot, [slot for slot, _ in histograms]).astype(np.int64)
            label_sets = self._due(rows)
            made = Samples(self._known.series_id.take(own.slot), own.time_ms, own.value)
            frames[shard].extend(
                map(encode, self._frames(sender, made, self._columns(histograms), label_sets))
            )
            self._told[shard].add(sender)
        self._look()
        return frames

    def _by_place(
        self, samples: list[_Waiting], readings: list[tuple[int, Reading]]
    ) -> dict[int, tuple[_Waiting, list[tuple[int, Reading]]]]:
        """Part what waits by shard and sender, in the order in which it came."""
        parted: dict[int, tuple[_Waiting, list[tuple[int, Reading]]]] = {}
        if samples:
            whole = _Waiting._make(map(np.concatenate, zip(*samples, strict=True)))
            where = self._known.place.take(whole.slot)
            # Small numbers are sorted by their digits, which is fast and stable.
            whole = whole.pick(np.argsort(where, kind="stable"))
            begin = 0
            for place, count in enumerate(np.bincount(where).tolist()):
                if count:
                    parted[place] = whole.pick(slice(begin, begin + count)), []
                    begin += count
        for slot, reading in readings:
            place = int(self._known.place[slot])
            parted.setdefault(place, (_NOTHING, []))[1].append((slot, reading))
        return parted

    def _due(self, slots: Ints) -> list[LabelSet]:
        """Find the label sets that the log is to be told, with these rows at the latest."""
        now_ms = self._clock.now_ms()
        refresh_ms = round(self._settings.refresh_s * 1000)
        late = slots[self._known.sent_ms.take(slots) <= now_ms - refresh_ms]
        if not len(late):
            return []
        due, first = np.unique(late, return_index=True)
        due = due[np.argsort(first)]
        self._known.sent_ms[due] = now_ms
        return [labels for slot in due.tolist() if (labels := self._known.labels[slot])]

    def _columns(self, readings: list[tuple[int, Reading]]) -> Histograms:
        if not readings:
            return NO_HISTOGRAMS
        ids = self._known.series_id[[slot for slot, _ in readings]]
        return native_histograms.columns(ids, [reading for _, reading in readings])

    def _look(self) -> None:
        """Forget, now and then, the series that ended; nothing that waits may need them."""
        now_ms = self._clock.now_ms()
        if now_ms - self._looked_ms < _LOOK_MS:
            return
        self._looked_ms = now_ms
        n = len(self._known)
        kept = np.flatnonzero(self._known.seen_ms[:n] > now_ms - _IDLE_MS)
        if n - len(kept) > n // 8 or n >= self._settings.active_series_max:
            self._reader.keep(kept)
            self._known.keep(kept)

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

    def _frames(
        self,
        sender: Sender,
        samples: Samples,
        histograms: Histograms,
        label_sets: list[LabelSet],
    ) -> Iterator[Frame]:
        known = self._senders[sender]
        *label_chunks, last_labels = by_bytes(label_sets)
        for chunk in label_chunks:
            yield self._frame(known._replace(newest_ms=0), NO_SAMPLES, chunk, NO_HISTOGRAMS)
        for part in parts(samples, histograms):
            told = known
            if part.reached_ms is not None:
                told = known._replace(newest_ms=min(known.newest_ms, part.reached_ms))
            yield self._frame(told, part.samples, last_labels, part.histograms)
            last_labels = []

    def _frame(
        self,
        sender: SenderTime,
        samples: Samples,
        label_sets: Iterable[LabelSet],
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


def _check_histograms(sizes: list[int]) -> None:
    """Refuse what would keep everybody else waiting.

    Raises:
        RemoteWriteError: 413.
    """
    if len(sizes) > _HISTOGRAMS_MAX:
        words = f"more than {_HISTOGRAMS_MAX} native histograms are too many for a request"
        raise RemoteWriteError(413, words)
    if sum(sizes) > _HISTOGRAM_BYTES_MAX:
        words = f"native histograms of more than {_HISTOGRAM_BYTES_MAX} bytes are too many"
        raise RemoteWriteError(413, words)


def _message(kind: type[_Message], body: bytes) -> _Message:
    """Read a message that stands in a request.

    Raises:
        RemoteWriteError: it can't be read.
    """
    try:
        return kind.FromString(body)
    except ProtobufError as error:
        raise RemoteWriteError(400, f"the body holds no {kind.__name__}: {error}") from error
