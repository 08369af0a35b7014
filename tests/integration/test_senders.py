"""Real senders of remote write and a real gateway: what they have sent is what the log holds."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from conftest import absent
from real_servers import NodeExporter, Prometheus
from sender_servers import (
    VERSION_1,
    VERSION_2,
    GatewayProcess,
    OtelExporter,
    Prometheus3,
    Told,
    otel_missing,
    prometheus3_missing,
    sending,
)
from watchkeep.schemas.frame import SHARDS, Frame, FrameKind, MetricKind, decode
from watchkeep.schemas.histograms import STALE_BITS
from watchkeep.schemas.labels import parse
from watchkeep.schemas.settings import Broker
from watchkeep.streams import kafka
from watchkeep.streams.topics import METRICS, specs

pytestmark = [pytest.mark.broker, pytest.mark.prometheus]

SAMPLES_MIN = 5_000
# Scrapes are a second apart, and what they bring is sent half a second later.
SCRAPES_S = 2.5
WITHIN_S = 30
ROUNDS = 5
BOUNDS = (0.1, 1.0)


class Held(NamedTuple):
    """What the topic of metrics holds."""

    frames: list[Frame]

    @property
    def samples(self) -> int:
        """How many samples of floats there are."""
        return sum(len(frame.series_id) for frame in self.frames)

    @property
    def histograms(self) -> int:
        """How many native histograms there are."""
        return sum(len(frame.histograms.series_id) for frame in self.frames)

    @property
    def ends(self) -> int:
        """How many samples say that their series ends."""
        bits = [frame.value.view(np.uint64) for frame in self.frames]
        return sum(int(np.count_nonzero(one == STALE_BITS)) for one in bits)

    def kinds(self) -> dict[str, MetricKind]:
        """Tell of which kind each metric is."""
        return {
            parse(entry.labels)["__name__"]: entry.kind
            for frame in self.frames
            for entry in frame.label_sets
        }

    def names(self) -> Counter[str]:
        """Count samples and histograms by their metric."""
        of = {
            entry.series_id: parse(entry.labels)["__name__"]
            for frame in self.frames
            for entry in frame.label_sets
        }
        return Counter(
            of[series]
            for frame in self.frames
            for column in (frame.series_id, frame.histograms.series_id)
            for series in column.tolist()
        )


async def held(broker: Broker) -> Held:
    """Read all data of the topic."""
    reader = kafka.LogReader(broker.bootstrap, METRICS)
    spans = await reader.spans(range(SHARDS))
    frames = [decode(r.value) async for r in reader.between(spans) if r.value is not None]
    await reader.close()
    return Held([frame for frame in frames if frame.kind is FrameKind.DATA])


async def told_when(prometheus: Prometheus, true: Callable[[Told], bool]) -> Told:
    """Wait until a Prometheus tells that it is so."""
    async with asyncio.timeout(WITHIN_S):
        while True:
            if true(told := Told.by(prometheus)):
                return told
            await asyncio.sleep(0.2)


async def all_sent(prometheus: Prometheus) -> Told:
    """Let a Prometheus rest, and wait until it has sent all it has."""
    prometheus.rest()
    last, since_s = Told.by(prometheus), time.monotonic()

    def quiet(told: Told) -> bool:
        nonlocal last, since_s
        if told.pending or told != last:
            last, since_s = told, time.monotonic()
        return time.monotonic() - since_s > SCRAPES_S

    return await told_when(prometheus, quiet)


async def compare(
    broker: Broker, folder: Path, make: Callable[[Path, Mapping[str, Any]], Prometheus], **to: str
) -> Held:
    """Let a Prometheus scrape and send for a while; nothing is lost, and nothing comes twice."""
    await kafka.create_topics(broker.bootstrap, specs())
    with (
        GatewayProcess(folder / "gateway", broker=broker) as gateway,
        NodeExporter(folder / "node-exporter") as exporter,
        make(folder / "prometheus", sending(gateway.write_url, [exporter], **to)) as prometheus,
    ):
        await told_when(prometheus, lambda told: told.tried > SAMPLES_MIN)
        exporter.stop()
        await asyncio.sleep(SCRAPES_S)
        told = await all_sent(prometheus)
        found = await held(broker)
        logs = prometheus.log.read_text() + gateway.log.read_text()
    assert told.lost == 0, logs
    assert (found.samples, found.histograms) == (told.samples, told.histograms), logs
    assert found.ends > 500  # One of each of node-exporter's series.
    return found


async def test_prometheus_2_sends_version_1(
    kafka_broker: Broker, short_dir: Path, need_program: Callable[[str], str]
) -> None:
    need_program("prometheus")
    need_program("prometheus-node-exporter")

    def make(folder: Path, config: Mapping[str, Any]) -> Prometheus:
        features = ("native-histograms", "exemplar-storage")
        return Prometheus(folder, config=config, features=features)

    found = await compare(kafka_broker, short_dir, make)
    assert found.kinds()["go_goroutines"] is MetricKind.GAUGE


@pytest.mark.parametrize("version", [VERSION_1, VERSION_2])
async def test_prometheus_3_sends(
    kafka_broker: Broker, short_dir: Path, need_program: Callable[[str], str], version: str
) -> None:
    """It has native histograms of its own, and metadata in both versions."""
    if what := prometheus3_missing():
        absent(what)
    need_program("prometheus-node-exporter")

    def make(folder: Path, config: Mapping[str, Any]) -> Prometheus:
        return Prometheus3(folder, config=config)

    found = await compare(kafka_broker, short_dir, make, protobuf_message=version)
    assert found.histograms > 0
    kinds = found.kinds()
    assert kinds["go_goroutines"] is MetricKind.GAUGE
    assert kinds["node_cpu_seconds_total"] is MetricKind.COUNTER


def otlp(number: int, time_ms: int) -> dict[str, Any]:
    """Make one request of each kind of metric that OTLP has and the exporter sends."""
    begin_ns, now_ns = str((time_ms - 60_000) * 1_000_000), str(time_ms * 1_000_000)
    times = {"startTimeUnixNano": begin_ns, "timeUnixNano": now_ns}
    counts = [number, 2 * number, 3 * number]
    whole = {**times, "count": str(sum(counts)), "sum": 1.5 * number}
    exponential = {
        **whole,
        "scale": 3,
        "zeroCount": "0",
        "positive": {"offset": -2, "bucketCounts": [str(count) for count in counts]},
    }
    trace = {"timeUnixNano": now_ns, "asDouble": 0.05, "traceId": "5b" * 16, "spanId": "ee" * 8}
    explicit = {
        **whole,
        "exemplars": [trace],
        "explicitBounds": BOUNDS,
        "bucketCounts": [str(count) for count in counts],
    }
    summed = {"aggregationTemporality": 2}
    metrics = [
        {"name": "queue", "gauge": {"dataPoints": [{**times, "asDouble": 0.5 * number}]}},
        {
            "name": "requests",
            "sum": {**summed, "isMonotonic": True, "dataPoints": [{**times, "asInt": str(number)}]},
        },
        {"name": "latency", "unit": "s", "histogram": {**summed, "dataPoints": [explicit]}},
        {"name": "size", "exponentialHistogram": {**summed, "dataPoints": [exponential]}},
    ]
    resource = {"service.name": "shop", "service.instance.id": "shop-1", "zone": "a"}
    attributes = [{"key": key, "value": {"stringValue": text}} for key, text in resource.items()]
    return {
        "resourceMetrics": [
            {
                "resource": {"attributes": attributes},
                "scopeMetrics": [{"scope": {"name": "test"}, "metrics": metrics}],
            }
        ]
    }


@pytest.mark.parametrize("version", [VERSION_1, VERSION_2])
async def test_opentelemetry_sends(kafka_broker: Broker, short_dir: Path, version: str) -> None:
    """Each of its requests is answered when all of it is in the log."""
    if what := otel_missing():
        absent(what)
    await kafka.create_topics(kafka_broker.bootstrap, specs())
    with GatewayProcess(short_dir / "gateway", broker=kafka_broker) as gateway:
        options = {
            "endpoint": gateway.write_url,
            "protobuf_message": version,
            "send_metadata": True,
            "remote_write_queue": {"enabled": False},
            "external_labels": {"cluster": "test"},
        }
        with OtelExporter(short_dir / "otel", options=options) as sender:
            begin_ms = time.time_ns() // 1_000_000 - ROUNDS * 1000
            for number in range(1, ROUNDS + 1):
                assert sender.export(otlp(number, begin_ms + number * 1000)) == ""
        found = await held(kafka_broker)
    names = found.names()
    assert names.pop("target_info") > 0
    assert names == {
        "queue": ROUNDS,
        "requests_total": ROUNDS,
        "latency_seconds_bucket": ROUNDS * (len(BOUNDS) + 1),
        "latency_seconds_count": ROUNDS,
        "latency_seconds_sum": ROUNDS,
        "size": ROUNDS,
    }
    assert found.histograms == ROUNDS
    assert found.kinds()["requests_total"] is MetricKind.COUNTER
