"""The gateway answers 204 only for what the log has, and refuses the rest in words."""

import asyncio
from collections.abc import AsyncIterator, Mapping

import aiohttp
import cramjam
import numpy as np
import pytest
from aiohttp.test_utils import TestClient, TestServer

from native import native
from watchkeep.schemas.errors import LogError
from watchkeep.schemas.frame import SHARDS, Frame, FrameKind, MetricKind, decode, shard_of
from watchkeep.schemas.labels import parse
from watchkeep.schemas.remote_write_pb2 import Histogram, WriteRequest
from watchkeep.schemas.settings import Gateway as GatewaySettings
from watchkeep.schemas.settings import Settings
from watchkeep.streams.gateway import Gateway
from watchkeep.streams.memory import MemoryLog
from watchkeep.streams.native_histograms import GAUGE
from watchkeep.streams.topics import METRICS
from watchkeep.streams.vitals import REFUSED

HEADERS = {"Content-Type": "application/x-protobuf", "Content-Encoding": "snappy"}
NOW_MS = 1_772_409_600_000
STALE_BITS = 0x7FF0000000000002

Client = TestClient[aiohttp.web.Request, aiohttp.web.Application]


class FailingLog(MemoryLog):
    """A log that can be out of reach."""

    down = False

    async def send(
        self,
        topic: str,
        value: bytes | None,
        *,
        partition: int = 0,
        key: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Write a record, or fail."""
        if self.down:
            raise LogError("down")
        await super().send(topic, value, partition=partition, key=key, headers=headers)


@pytest.fixture
def log() -> FailingLog:
    return FailingLog()


@pytest.fixture
async def client(log: FailingLog) -> AsyncIterator[Client]:
    settings = Settings(clock="event", gateway=GatewaySettings(max_body_mb=0.05))
    gateway = Gateway(settings, log)
    writer = asyncio.ensure_future(gateway.write())
    async with TestClient(TestServer(gateway.app())) as opened:
        yield opened
    writer.cancel()


def request(
    labels: Mapping[str, str], samples: list[tuple[int, float]], into: WriteRequest | None = None
) -> WriteRequest:
    into = into or WriteRequest()
    series = into.timeseries.add()
    for name, value in labels.items():
        series.labels.add(name=name, value=value)
    for ms, number in samples:
        series.samples.add(timestamp=NOW_MS + ms, value=number)
    return into


def with_histograms(
    labels: Mapping[str, str], histograms: list[Histogram], into: WriteRequest | None = None
) -> WriteRequest:
    message = request(labels, [], into)
    message.timeseries[-1].histograms.extend(histograms)
    return message


def packed(message: WriteRequest) -> bytes:
    return bytes(cramjam.snappy.compress_raw(message.SerializeToString()))


async def post(client: Client, body: bytes, headers: Mapping[str, str] = HEADERS) -> int:
    answer = await client.post(
        "/api/v1/write", data=body, headers=headers, skip_auto_headers=["Content-Type"]
    )
    await answer.read()
    return answer.status


def frames(log: MemoryLog, kind: FrameKind = FrameKind.DATA) -> list[Frame]:
    decoded = [decode(value) for value in log.values(METRICS) if value is not None]
    return [frame for frame in decoded if frame.kind is kind]


CART = {"__name__": "up", "namespace": "shop", "pod": "cart-0", "cluster": "c"}


async def test_samples_are_in_the_log_when_204_is_answered(client: Client, log: MemoryLog) -> None:
    assert await post(client, packed(request(CART, [(0, 1.0), (30_000, 0.0)]))) == 204
    (frame,) = frames(log)
    assert frame.time_ms.tolist() == [NOW_MS, NOW_MS + 30_000]
    assert frame.value.tolist() == [1.0, 0.0]
    (labels,) = frame.label_sets
    assert parse(labels.labels) == CART
    assert (labels.entity, labels.member) == ("workload/c/shop/cart", "cart-0")
    assert [partition for _, partition in log.partitions] == [shard_of(labels.entity)]
    assert frame.senders[0][:3] == ("c", "", NOW_MS + 30_000)


async def test_label_sets_are_sent_once_and_again_after_ten_minutes(
    client: Client, log: MemoryLog
) -> None:
    for ms in (0, 599_000, 600_000, 601_000):
        assert await post(client, packed(request(CART, [(ms, 1.0)]))) == 204
    assert [len(frame.label_sets) for frame in frames(log)] == [1, 0, 1, 0]


async def test_the_replica_label_is_no_part_of_the_series(client: Client, log: MemoryLog) -> None:
    for replica in ("a", "b"):
        labels = CART | {"prometheus_replica": replica}
        assert await post(client, packed(request(labels, [(0, 1.0)]))) == 204
    a, b = frames(log)
    assert a.series_id.tolist() == b.series_id.tolist()
    assert [frame.senders[0].replica for frame in (a, b)] == ["a", "b"]
    assert "prometheus_replica" not in parse(a.label_sets[0].labels)


async def test_a_kind_that_becomes_known_is_told(client: Client, log: MemoryLog) -> None:
    labels = CART | {"__name__": "http_requests_seconds_count"}
    await post(client, packed(request(labels, [(0, 1.0)])))
    told = WriteRequest()
    told.metadata.add(type="HISTOGRAM", metric_family_name="http_requests_seconds")
    assert await post(client, packed(told)) == 204
    await post(client, packed(request(labels, [(1, 1.0)])))
    kinds = [frame.label_sets[0].kind for frame in frames(log)]
    assert kinds == [MetricKind.UNKNOWN, MetricKind.HISTOGRAM]


async def test_ticks_tell_every_shard_that_had_no_data(client: Client, log: MemoryLog) -> None:
    await post(client, packed(request(CART, [(0, 1.0)])))
    async with asyncio.timeout(10):
        while len(log.partitions) < SHARDS:  # noqa: ASYNC110 - The log has no event to wait for.
            await asyncio.sleep(0.05)
    data_shard = shard_of("workload/c/shop/cart")
    for (_, shard), (first, *_) in log.partitions.items():
        frame = decode(first.value or b"")
        assert frame.kind is (FrameKind.DATA if shard == data_shard else FrameKind.TICK)
        assert frame.senders[0].newest_ms == NOW_MS


async def test_the_bits_of_a_stale_marker_survive(client: Client, log: MemoryLog) -> None:
    stale = float(np.array([STALE_BITS], np.uint64).view(np.float64)[0])
    await post(client, packed(request(CART, [(0, stale)])))
    assert frames(log)[0].value.view(np.uint64).tolist() == [STALE_BITS]


async def test_nothing_is_acknowledged_while_the_log_is_out_of_reach(
    client: Client, log: FailingLog
) -> None:
    log.down = True
    answer = await client.post(
        "/api/v1/write", data=packed(request(CART, [(0, 1.0)])), headers=HEADERS
    )
    assert answer.status == 503
    assert int(answer.headers["Retry-After"]) > 0
    log.down = False
    assert await post(client, packed(request(CART, [(0, 1.0)]))) == 204
    (frame,) = frames(log)
    assert len(frame.label_sets) == 1


async def test_what_cannot_be_placed_is_told_and_the_rest_is_written(
    client: Client, log: MemoryLog
) -> None:
    message = request(CART, [(0, 1.0)])
    request({"pod": "nameless"}, [(0, 1.0)], message)
    request({"__name__": "up", "path": "x" * 20_000}, [(0, 1.0)], message)
    twice = message.timeseries.add()
    for _ in range(2):
        twice.labels.add(name="__name__", value="up")
    answer = await client.post("/api/v1/write", data=packed(message), headers=HEADERS)
    assert answer.status == 400
    text = await answer.text()
    assert "1 series: no metric name" in text
    assert "1 series: duplicate label name" in text
    assert "1 series: labels of more than 16384 bytes" in text
    assert sum(len(frame.value) for frame in frames(log)) == 1


LATENCY = CART | {"__name__": "http_request_duration_seconds"}


def refused_series(reason: str) -> float:
    return float(REFUSED.labels(reason)._value.get())


async def test_gauge_histograms_are_counted_and_all_else_is_taken(
    client: Client, log: MemoryLog
) -> None:
    """An error would be one with every request of this sender, for ever."""
    gauges = [native({1: i}, time_ms=NOW_MS) for i in (1, 2)]
    for gauge in gauges:
        gauge.reset_hint = Histogram.GAUGE
    message = with_histograms(LATENCY | {"__name__": "ages"}, gauges)
    with_histograms(LATENCY, [native({1: 1}, time_ms=NOW_MS)], message)
    before = refused_series(GAUGE)
    assert await post(client, packed(message)) == 204
    assert refused_series(GAUGE) - before == 1
    (frame,) = frames(log)
    assert [parse(labels.labels) for labels in frame.label_sets] == [LATENCY]
    assert frame.histograms.value.tolist() == [1]


async def test_invalid_histograms_are_told_and_the_rest_is_written(
    client: Client, log: MemoryLog
) -> None:
    good, gauge = native({1: 1}, time_ms=NOW_MS), native({1: 1}, time_ms=NOW_MS)
    gauge.reset_hint = Histogram.GAUGE
    odd, short = native({1: 1}, schema=9), native({1: 1})
    short.count_int = 0
    message = with_histograms(LATENCY, [good, odd, short, odd])
    with_histograms(LATENCY | {"pod": "cart-1"}, [gauge], message)
    with_histograms(LATENCY | {"pod": "cart-2"}, [odd], message)
    request(LATENCY | {"pod": "cart-3"}, [(0, 1.0)], message)
    message.timeseries[-1].histograms.append(good)
    answer = await client.post("/api/v1/write", data=packed(message), headers=HEADERS)
    assert answer.status == 400
    text = await answer.text()
    assert "2 series: native histogram of an unknown schema" in text
    assert "1 series: native histogram with more in its buckets than its count" in text
    assert f"1 series: {GAUGE}" in text
    assert "1 series: samples and native histograms in one" in text
    (frame,) = frames(log)
    assert frame.histograms.value.tolist() == [1]
    assert len(frame.value) == 0


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 204),
        ({"Content-Type": "application/x-protobuf;proto=prometheus.WriteRequest"}, 204),
        ({"Content-Type": 'application/x-protobuf; proto="prometheus.WriteRequest"'}, 204),
        ({"Content-Type": "application/x-protobuf;proto=io.prometheus.write.v2.Request"}, 400),
        ({"Content-Type": "application/x-protobuf;proto=io.prometheus.write.v3.Request"}, 415),
        ({"Content-Type": "application/x-protobuf;proto"}, 415),
        ({"Content-Type": "application/json"}, 415),
        ({"Content-Encoding": "gzip"}, 415),
    ],
)
async def test_the_type_and_encoding_decide_first(
    client: Client, headers: Mapping[str, str], status: int
) -> None:
    assert await post(client, packed(request(CART, [(0, 1.0)])), headers) == status


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"no snappy", 400),
        (bytes(cramjam.snappy.compress_raw(b"\xff\xff\xff")), 400),
        (bytes(cramjam.snappy.compress_raw(b"\x22\x01a")), 400),
        (b"\xff\xff\xff\xff\x0f", 413),
        (bytes(cramjam.snappy.compress_raw(b"\x00" * 60_000)), 413),
    ],
    ids=["empty", "no snappy", "no protobuf", "another message", "forged length", "too large"],
)
async def test_bodies_that_cannot_be_read_are_refused(
    client: Client, body: bytes, status: int
) -> None:
    assert await post(client, body) == status


async def test_a_nul_never_reaches_the_log(client: Client, log: MemoryLog) -> None:
    await post(client, packed(request(CART | {"path": "a\0b"}, [(0, 1.0)])))
    assert parse(frames(log)[0].label_sets[0].labels)["path"] == "a\ufffdb"


async def test_only_post_is_allowed(client: Client) -> None:
    assert (await client.get("/api/v1/write")).status == 405


async def test_many_senders_at_once_all_get_their_answer(client: Client, log: MemoryLog) -> None:
    bodies = [packed(request(CART | {"pod": f"w{i}-0"}, [(0, float(i))])) for i in range(100)]
    statuses = await asyncio.gather(*(post(client, body) for body in bodies))
    assert statuses == [204] * 100
    written = np.concatenate([frame.value for frame in frames(log)])
    assert sorted(written.tolist()) == [float(i) for i in range(100)]
