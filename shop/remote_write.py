"""The shop's samples as Prometheus would send them: remote write 1.0.

Bodies are put together from prepared parts: the label bytes of a series never change, and the
bytes of a sample have a fixed length as long as its time has.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import cramjam
import numpy as np
import numpy.typing as npt

from watchkeep.schemas.frame import MetricKind
from watchkeep.schemas.remote_write_pb2 import (
    Label,
    MetricMetadata,
    Sample,
    TimeSeries,
    WriteRequest,
)
from watchkeep.shop.batches import Batch
from watchkeep.shop.model import Shop
from watchkeep.shop.times import Times

HEADERS = {
    "Content-Type": "application/x-protobuf",
    "Content-Encoding": "snappy",
    "X-Prometheus-Remote-Write-Version": "0.1.0",
}

Series = Sequence[tuple[Mapping[str, str], MetricKind]]

_REQUESTS_A_METADATA: Final = 10
# A sample in its series: tag and length, tag and the value, tag and the time in six bytes.
_SAMPLE: Final = np.dtype(
    [("head", "S2"), ("value_tag", "u1"), ("value", "<f8"), ("time_tag", "u1"), ("time", "u1", 6)]
)
_HEAD: Final = b"\x12\x10"
_VALUE_TAG: Final = 0x09
_TIME_TAG: Final = 0x10
# Times whose varint has six bytes: all from 1971 to 2109.
_TIMES_MS: Final = (1 << 35, 1 << 42)
_SEVEN_BITS: Final = 7 * np.arange(6)


class Request(NamedTuple):
    """One request.

    Attributes:
        samples: how many it holds.
        last_ms: when the newest sample sent so far was taken.
    """

    body: bytes
    samples: int
    last_ms: int


def requests(shop: Shop, samples_max: int, *, grouped: bool = False) -> Iterator[Request]:
    """Give all that a shop's Prometheus sends, in order.

    Prometheus writes an entry for each sample. Senders that gather several scrapes put the samples
    of a series into one, which `grouped` does; a receiver then has far fewer labels to read.

    Metadata follows samples, and is repeated: it names no cluster, so a receiver that was just
    started learns only from samples whom it is about.
    """
    kinds = metadata(shop)
    encoder = Encoder(shop.series)
    last_ms = 0
    for i, batch in enumerate(shop.batches(samples_max)):
        last_ms = max(last_ms, int(batch.time_ms.max()))
        body = encoder.grouped(batch) if grouped else encoder.encode(batch)
        yield Request(body, len(batch.value), last_ms)
        if i % _REQUESTS_A_METADATA == 0:
            yield Request(kinds, 0, last_ms)


def metadata(shop: Shop) -> bytes:
    """Write the request that tells TYPE and HELP, as Prometheus sends it now and then."""
    request = WriteRequest(
        metadata=[
            MetricMetadata(
                type=MetricMetadata.MetricType.Name(kind), metric_family_name=name, help=text
            )
            for name, (kind, text) in shop.families.items()
        ]
    )
    return _packed(request.SerializeToString())


class Encoder:
    """Writes batches as requests."""

    def __init__(self, series: Series) -> None:
        self._series = series
        self._heads: list[bytes | None] = [None] * len(series)
        self._own: list[bytes | None] = [None] * len(series)

    def encode(self, batch: Batch) -> bytes:
        """Write a batch as a request: an entry for each sample, in their order."""
        if not _six_bytes(batch.time_ms):
            return self._plainly(batch)
        heads = self._heads
        which = batch.series.tolist()
        parts: list[bytes | None] = [None] * (2 * len(which))
        parts[::2] = map(heads.__getitem__, which)
        if None in parts[::2]:
            for i in set(which):
                heads[i] = heads[i] or _head(self._series[i][0])
            parts[::2] = map(heads.__getitem__, which)
        parts[1::2] = _tails(batch)
        return _packed(b"".join(parts))  # type: ignore[arg-type]  # All are written by now.

    def grouped(self, batch: Batch) -> bytes:
        """Write a batch as a request: an entry for each series, its samples in their order."""
        if not _six_bytes(batch.time_ms):
            return self._plainly(batch)
        order = np.argsort(batch.series, kind="stable")
        which, begins = np.unique(batch.series[order], return_index=True)
        ends = [*begins[1:].tolist(), len(order)]
        series, time_ms, value = batch
        rows = _rows(Batch(series[order], time_ms[order], value[order])).tobytes()
        size = _SAMPLE.itemsize
        parts: list[bytes] = []
        for i, begin, end in zip(which.tolist(), begins.tolist(), ends, strict=True):
            own = self._own[i] = self._own[i] or _own(self._series[i][0])
            length = len(own) + size * (end - begin)
            parts += (b"\x0a", _varint(length), own, rows[size * begin : size * end])
        return _packed(b"".join(parts))

    def _plainly(self, batch: Batch) -> bytes:
        request = WriteRequest()
        rows = zip(batch.series.tolist(), batch.time_ms.tolist(), batch.value.tolist(), strict=True)
        for i, time_ms, value in rows:
            sample = Sample(value=value, timestamp=time_ms)
            request.timeseries.append(
                TimeSeries(labels=_labels(self._series[i][0]), samples=[sample])
            )
        return _packed(request.SerializeToString())


def encode(batch: Batch, series: Series) -> bytes:
    """Write one batch as a request."""
    return Encoder(series).encode(batch)


def _six_bytes(time_ms: Times) -> bool:
    return not len(time_ms) or bool(time_ms.min() >= _TIMES_MS[0] and time_ms.max() < _TIMES_MS[1])


def _head(labels: Mapping[str, str]) -> bytes:
    """Write all of an entry that stands before its sample."""
    own = _own(labels)
    return b"\x0a" + _varint(len(own) + _SAMPLE.itemsize) + own


def _own(labels: Mapping[str, str]) -> bytes:
    return TimeSeries(labels=_labels(labels)).SerializeToString()


def _labels(labels: Mapping[str, str]) -> list[Label]:
    return [Label(name=name, value=value) for name, value in sorted(labels.items())]


def _tails(batch: Batch) -> list[bytes]:
    """Write the samples of a batch, each as bytes that end its entry."""
    cells: list[bytes] = _rows(batch).view(f"V{_SAMPLE.itemsize}").tolist()
    return cells


def _rows(batch: Batch) -> npt.NDArray[np.void]:
    """Write the samples of a batch: structured as `_SAMPLE`, [n]."""
    rows = np.empty(len(batch.value), _SAMPLE)
    rows["head"] = _HEAD
    rows["value_tag"] = _VALUE_TAG
    rows["value"] = batch.value
    rows["time_tag"] = _TIME_TAG
    digits = (batch.time_ms[:, None] >> _SEVEN_BITS) & 0x7F
    digits[:, :-1] |= 0x80
    rows["time"] = digits
    return rows


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _packed(body: bytes) -> bytes:
    return bytes(cramjam.snappy.compress_raw(body))
