"""The frame: one record of the metrics topic, a columnar batch of one shard.

Layout, little-endian:

    offset  type        what
    0       4 bytes     magic "WKF2": the format and its version
    4       u8          kind (FrameKind)
    5       3 bytes     zero
    8       u32         n: samples
    12      u32         m: label sets
    16      u32         bytes of the head
    20      u32         bytes of the label blob
    24      i64         the gateway's clock, ms
    32      u32         h: native histograms
    36      u32         k: their buckets
    40      JSON        head: gateway, hash of the entity rules, senders; padded to 8 with spaces
            u64[n]      series_id
            i64[n]      time, ms
            f64[n]      value; the bits of stale markers survive
            u64[h]      series_id of a histogram
            i64[h]      its time, ms
            f64[h]      its count; the bits of stale markers survive
            f64[h]      its sum
            f64[k]      lower bound of a bucket
            f64[k]      its upper bound
            f64[k]      its own count
            u32[h]      buckets of a histogram; padded to 8 with zeros
            u64[m]      series_id of a label set
            u32[m, 3]   bytes of its entity key, member and canonical labels
            u8[m]       its MetricKind
            bytes       the label blob: entity key, member, labels, one label set after the other

A label set stands in the log before or with the first sample of its series from this gateway, and
again at least every ten minutes, so a reader that starts anywhere soon knows every series. The kind
of a metric rides with it, so no reader has to join metadata.

A record stays below 1 MB, the most that brokers take by default: half of it label sets, and samples
and histograms of at most SAMPLES_MAX samples or BUCKETS_MAX buckets, or a mixture.
"""

import json
import struct
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import xxhash

from watchkeep.schemas import histograms as codec
from watchkeep.schemas.errors import FrameError
from watchkeep.schemas.histograms import NO_HISTOGRAMS, Histograms

SHARDS = 64
SAMPLES_MAX = 8_192
BUCKETS_MAX = 16_384
LABEL_BYTES_MAX = 512 * 1024

_MAGIC = b"WKF2"
_HEADER = struct.Struct("<4sB3xIIIIqII")
_SAMPLE_BYTES = 24
_LABELS_BYTES = 8 + 12 + 1


class FrameKind(IntEnum):
    """What a frame is for. 1 (metadata) and 3 (control marker) are reserved."""

    DATA = 0
    TICK = 2


class MetricKind(IntEnum):
    """How a series' values are to be read; the numbers are those of remote write's metadata."""

    UNKNOWN = 0
    COUNTER = 1
    GAUGE = 2
    HISTOGRAM = 3
    GAUGE_HISTOGRAM = 4
    SUMMARY = 5
    INFO = 6
    STATE_SET = 7


class SenderTime(NamedTuple):
    """How far a sender has come, as a gateway knows it.

    Attributes:
        newest_ms: the newest sample time, capped a tolerance ahead of the gateway's clock.
        heard_ms: the gateway's clock when the sender was last heard.
    """

    cluster: str
    replica: str
    newest_ms: int
    heard_ms: int


class LabelSet(NamedTuple):
    """What a reader must know of a series before its samples mean anything.

    Attributes:
        entity: the entity's key, as the gateway's rules found it.
        labels: the canonical label set.
    """

    series_id: int
    kind: MetricKind
    entity: str
    member: str
    labels: bytes


def shard_of(entity: str) -> int:
    """Tell an entity's shard; all its signals meet there."""
    return xxhash.xxh3_64_intdigest(entity.encode()) % SHARDS


def by_bytes(label_sets: list[LabelSet]) -> list[list[LabelSet]]:
    """Cut label sets so that each part fits into a frame; there is always one, maybe empty."""
    chunks: list[list[LabelSet]] = [[]]
    size = 0
    for entry in label_sets:
        texts = (entry.labels, entry.entity.encode(), entry.member.encode())
        length = _LABELS_BYTES + sum(map(len, texts))
        if size + length > LABEL_BYTES_MAX and chunks[-1]:
            chunks.append([])
            size = 0
        size += length
        chunks[-1].append(entry)
    return chunks


def _no_ids() -> npt.NDArray[np.uint64]:
    return np.empty(0, np.uint64)


def _no_times() -> npt.NDArray[np.int64]:
    return np.empty(0, np.int64)


def _no_values() -> npt.NDArray[np.float64]:
    return np.empty(0, np.float64)


@dataclass(frozen=True, slots=True)
class Frame:
    """One batch of one shard.

    Attributes:
        gateway: the name of the gateway that wrote it.
        gateway_ms: that gateway's clock.
        rules: the hash of the entity rules in force.
        senders: of a data frame the one sender of its samples; of a tick all that were heard.
        series_id: uint64[n].
        time_ms: int64[n].
        value: float64[n].
        label_sets: of series that this gateway sends for the first time, or refreshes.
        histograms: native histograms.
    """

    kind: FrameKind
    gateway: str
    gateway_ms: int
    rules: str
    senders: tuple[SenderTime, ...]
    series_id: npt.NDArray[np.uint64] = field(default_factory=_no_ids)
    time_ms: npt.NDArray[np.int64] = field(default_factory=_no_times)
    value: npt.NDArray[np.float64] = field(default_factory=_no_values)
    label_sets: tuple[LabelSet, ...] = ()
    histograms: Histograms = NO_HISTOGRAMS


def encode(frame: Frame) -> bytes:
    """Write a frame as the bytes of one record."""
    n, m = len(frame.series_id), len(frame.label_sets)
    assert len(frame.time_ms) == len(frame.value) == n
    head = json.dumps(
        {"gateway": frame.gateway, "rules": frame.rules, "senders": frame.senders},
        separators=(",", ":"),
        ensure_ascii=False,
    ).encode()
    head += b" " * (-len(head) % 8)
    texts = [
        text
        for entry in frame.label_sets
        for text in (entry.entity.encode(), entry.member.encode(), entry.labels)
    ]
    blob = b"".join(texts)
    h, k = len(frame.histograms.series_id), len(frame.histograms.value)
    return b"".join(
        (
            _HEADER.pack(_MAGIC, frame.kind, n, m, len(head), len(blob), frame.gateway_ms, h, k),
            head,
            frame.series_id.astype("<u8", copy=False).tobytes(),
            frame.time_ms.astype("<i8", copy=False).tobytes(),
            frame.value.astype("<f8", copy=False).tobytes(),
            *codec.encode(frame.histograms),
            np.array([entry.series_id for entry in frame.label_sets], "<u8").tobytes(),
            np.array([len(text) for text in texts], "<u4").tobytes(),
            bytes(entry.kind for entry in frame.label_sets),
            blob,
        )
    )


def decode(record: bytes) -> Frame:
    """Read the bytes of one record. The columns are views of them, not copies.

    Raises:
        FrameError: the bytes are no frame of this version.
    """
    if len(record) < _HEADER.size:
        raise FrameError(f"{len(record)} bytes are too few for a frame")
    magic, kind, n, m, head_bytes, blob_bytes, gateway_ms, h, k = _HEADER.unpack_from(record)
    if magic == b"WKF1":
        raise FrameError("a frame of version 1, which is not read any more")
    if magic != _MAGIC:
        raise FrameError(f"no frame of version 2: it begins with {magic!r}")
    histograms_at = _HEADER.size + head_bytes + n * _SAMPLE_BYTES
    labels_at = histograms_at + codec.size(h, k)
    whole = labels_at + m * _LABELS_BYTES + blob_bytes
    if whole != len(record):
        raise FrameError(f"{len(record)} bytes where the header tells of {whole}")
    gateway, rules, senders = _read_head(record[_HEADER.size : _HEADER.size + head_bytes])
    if _frame_kind(kind) is FrameKind.DATA and len(senders) != 1:
        raise FrameError(f"a data frame of {len(senders)} senders where one is needed")
    at = _HEADER.size + head_bytes
    return Frame(
        kind=_frame_kind(kind),
        gateway=gateway,
        gateway_ms=gateway_ms,
        rules=rules,
        senders=senders,
        series_id=np.frombuffer(record, "<u8", n, at),
        time_ms=np.frombuffer(record, "<i8", n, at + 8 * n),
        value=np.frombuffer(record, "<f8", n, at + 16 * n),
        label_sets=_read_label_sets(record, labels_at, m),
        histograms=codec.decode(record, histograms_at, h, k),
    )


def _frame_kind(number: int) -> FrameKind:
    try:
        return FrameKind(number)
    except ValueError as error:
        raise FrameError(f"frames of kind {number} are not known here") from error


def _read_head(text: bytes) -> tuple[str, str, tuple[SenderTime, ...]]:
    try:
        head = json.loads(text)
        senders = tuple(
            SenderTime(str(cluster), str(replica), int(newest_ms), int(heard_ms))
            for cluster, replica, newest_ms, heard_ms in head["senders"]
        )
        return str(head["gateway"]), str(head["rules"]), senders
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise FrameError(f"the head can't be read: {error!r}") from error


def _read_label_sets(record: bytes, at: int, m: int) -> tuple[LabelSet, ...]:
    if not m:
        return ()
    ids = np.frombuffer(record, "<u8", m, at).tolist()
    lengths = np.frombuffer(record, "<u4", 3 * m, at + 8 * m).astype(np.int64)
    kinds = np.frombuffer(record, np.uint8, m, at + 20 * m).tolist()
    begin = at + _LABELS_BYTES * m
    ends = begin + np.cumsum(lengths)
    if ends[-1] != len(record):
        raise FrameError("the lengths of the label sets don't add up to the label blob")
    cuts = [begin, *ends.tolist()]
    try:
        return tuple(
            LabelSet(
                ids[i],
                MetricKind(kinds[i]),
                record[cuts[3 * i] : cuts[3 * i + 1]].decode(),
                record[cuts[3 * i + 1] : cuts[3 * i + 2]].decode(),
                record[cuts[3 * i + 2] : cuts[3 * i + 3]],
            )
            for i in range(m)
        )
    except ValueError as error:
        raise FrameError(f"a label set can't be read: {error}") from error
