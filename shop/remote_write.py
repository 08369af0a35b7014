"""The shop's samples as Prometheus would send them: remote write 1.0."""

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import cramjam
import numpy as np

from watchkeep.schemas.frame import MetricKind
from watchkeep.schemas.remote_write_pb2 import (
    Label,
    MetricMetadata,
    Sample,
    TimeSeries,
    WriteRequest,
)
from watchkeep.shop.model import Batch, Shop

HEADERS = {
    "Content-Type": "application/x-protobuf",
    "Content-Encoding": "snappy",
    "X-Prometheus-Remote-Write-Version": "0.1.0",
}

Series = Sequence[tuple[dict[str, str], MetricKind]]

_REQUESTS_A_METADATA: Final = 10


class Request(NamedTuple):
    """One request.

    Attributes:
        samples: how many it holds.
        last_ms: when the newest sample sent so far was taken.
    """

    body: bytes
    samples: int
    last_ms: int


def requests(shop: Shop, samples_max: int) -> Iterator[Request]:
    """Give all that a shop's Prometheus sends, in order.

    Metadata follows samples, and is repeated: it names no cluster, so a receiver that was just
    started learns only from samples whom it is about.
    """
    kinds = metadata(shop.series)
    for i, batch in enumerate(shop.batches(samples_max)):
        last_ms = int(batch.time_ms[-1])
        yield Request(encode(batch, shop.series), len(batch.value), last_ms)
        if i % _REQUESTS_A_METADATA == 0:
            yield Request(kinds, 0, last_ms)


def metadata(series: Series) -> bytes:
    """Write the request that tells the kinds of all metrics, as Prometheus sends now and then."""
    kinds = {_family(labels["__name__"], kind): kind for labels, kind in series}
    request = WriteRequest(
        metadata=[
            MetricMetadata(type=MetricMetadata.MetricType.Name(kind), metric_family_name=name)
            for name, kind in kinds.items()
        ]
    )
    return _packed(request)


def _family(name: str, kind: MetricKind) -> str:
    if kind is MetricKind.HISTOGRAM:
        return name.removesuffix("_count").removesuffix("_sum")
    return name


def encode(batch: Batch, series: Series) -> bytes:
    """Write a batch as a request: the samples of a series together, in the order of time."""
    order = np.argsort(batch.series, kind="stable")
    index, begins = np.unique(batch.series[order], return_index=True)
    ends = np.append(begins[1:], len(order)).tolist()
    times, values = batch.time_ms[order].tolist(), batch.value[order].tolist()
    request = WriteRequest()
    for i, begin, end in zip(index.tolist(), begins.tolist(), ends, strict=True):
        samples = [
            Sample(value=value, timestamp=time_ms)
            for time_ms, value in zip(times[begin:end], values[begin:end], strict=True)
        ]
        labels = [Label(name=name, value=value) for name, value in sorted(series[i][0].items())]
        request.timeseries.append(TimeSeries(labels=labels, samples=samples))
    return _packed(request)


def _packed(request: WriteRequest) -> bytes:
    return bytes(cramjam.snappy.compress_raw(request.SerializeToString()))
