"""A real Prometheus scrapes native histograms and sends them: the log has what it has."""

import asyncio
import math
import random
import struct
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import numpy as np
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from native import deltas, spans
from servers import Server
from watchkeep.detectors.fold import Fold
from watchkeep.schemas.frame import FrameKind, MetricKind, decode
from watchkeep.schemas.histograms import STALE_BITS, Histograms, concatenate
from watchkeep.schemas.labels import parse
from watchkeep.schemas.settings import Detect, Settings
from watchkeep.streams.gateway import Gateway
from watchkeep.streams.memory import MemoryLog
from watchkeep.streams.topics import METRICS

_READY = "/-/ready"
pytestmark = pytest.mark.prometheus

NAME = "test_latency_seconds"
PROTOBUF = (
    "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
)
# Two steps finer than what is kept.
SCHEMA = 6
WITHIN_S = 60
STEP_S = 10
CONFIG = """
global:
  scrape_interval: 1s
  external_labels: {{cluster: test}}
scrape_configs:
  - job_name: target
    static_configs: [{{targets: ["{target}"]}}]
remote_write:
  - url: {gateway}
    send_native_histograms: true
    queue_config: {{batch_send_deadline: 500ms}}
"""


@dataclass
class Prometheus(Server):
    """Debian's Prometheus, with native histograms."""

    program: str = ""
    config: str = ""

    name = "Prometheus"

    def _prepare(self) -> None:
        (self.folder / "prometheus.yml").write_text(self.config)

    def _command(self) -> list[str]:
        return [
            self.program,
            f"--config.file={self.folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={self.data}",
            f"--web.listen-address={self.address}",
            "--enable-feature=native-histograms",
        ]

    def _answers(self, begin: int) -> bool:  # noqa: ARG002 - Asking it is better than its log.
        try:
            with urllib.request.urlopen(f"http://{self.address}{_READY}", timeout=2):
                return True
        except (urllib.error.URLError, OSError):
            return False


class Target:
    """What is scraped: latencies, more of them each time, until it fails."""

    def __init__(self) -> None:
        self._random = random.Random(7)
        self._buckets: Counter[int] = Counter()
        self._sum = 0.0
        self.fails = False

    async def answer(self, _: web.Request) -> web.Response:
        """Answer a scrape."""
        if self.fails:
            return web.Response(status=500)
        for _observed in range(self._random.randrange(4_000, 6_000)):
            seconds = self._random.lognormvariate(-2, 1)
            self._sum += seconds
            self._buckets[math.ceil(math.log2(seconds) * 2**SCHEMA)] += 1
        family = text(1, NAME) + varint_field(3, 4) + delimited(4, delimited(7, self._histogram()))
        return web.Response(body=varint(len(family)) + family, headers={"Content-Type": PROTOBUF})

    def _histogram(self) -> bytes:
        zigzags = [2 * delta if delta >= 0 else -2 * delta - 1 for delta in deltas(self._buckets)]
        return b"".join(
            (
                varint_field(1, self._buckets.total()),
                varint(2 << 3 | 1) + struct.pack("<d", self._sum),
                varint_field(5, 2 * SCHEMA),
                varint(6 << 3 | 1) + struct.pack("<d", 2.0**-128),
                *(delimited(12, span.SerializeToString()) for span in spans(self._buckets)),
                delimited(13, b"".join(map(varint, zigzags))),
            )
        )


def varint(number: int) -> bytes:
    parts = bytearray()
    while number > 127:
        parts.append(number & 127 | 128)
        number >>= 7
    return bytes((*parts, number))


def varint_field(field: int, number: int) -> bytes:
    return varint(field << 3) + varint(number)


def delimited(field: int, value: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(value)) + value


def text(field: int, value: str) -> bytes:
    return delimited(field, value.encode())


def received(log: MemoryLog) -> Histograms:
    """Find all histograms of the log; they are of one series."""
    frames = [decode(value) for value in log.values(METRICS) if value is not None]
    frames = [frame for frame in frames if frame.kind is FrameKind.DATA]
    sets = [labels for frame in frames for labels in frame.label_sets]
    (own,) = [labels for labels in sets if parse(labels.labels)["__name__"] == NAME]
    assert own.kind is MetricKind.HISTOGRAM
    found = concatenate([frame.histograms for frame in frames])
    assert set(found.series_id.tolist()) == {own.series_id}
    return found


def quantiles(log: MemoryLog) -> dict[str, dict[int, float]]:
    """Fold what the log has: by signal, its value by the times at which cells end."""
    fold = Fold(Detect(step_s=STEP_S))
    newest_ms = 0
    for value in log.values(METRICS):
        frame = decode(value) if value is not None else None
        if frame is not None and frame.kind is FrameKind.DATA:
            newest_ms = max(newest_ms, *frame.histograms.time_ms.tolist(), 0)
            fold.learn(frame.label_sets, frame.gateway_ms)
            fold.add(frame, frame.gateway_ms)
    found: dict[str, dict[int, float]] = {}
    for cell in fold.close(newest_ms + 15_000):
        for slot, value in zip(cell.slots.tolist(), cell.value.tolist(), strict=True):
            found.setdefault(fold.roster.signal(slot).title, {})[cell.end_ms] = value
    return found


async def histograms_when(log: MemoryLog, true: Callable[[Histograms], bool]) -> Histograms:
    """Wait until the log's histograms are so."""
    async with asyncio.timeout(WITHIN_S):
        while True:
            try:
                found = received(log)
            except ValueError:
                found = None
            if found is not None and true(found):
                return found
            await asyncio.sleep(0.2)


async def asked(address: str, query: str, time_ms: int) -> float:
    """Ask Prometheus for the one value at a time."""
    url, params = f"http://{address}/api/v1/query", {"query": query, "time": str(time_ms / 1000)}
    async with aiohttp.ClientSession() as session, session.get(url, params=params) as answer:
        (found,) = (await answer.json())["data"]["result"]
    return float(found["value"][1])


async def compare_cells(log: MemoryLog, address: str) -> None:
    """Two whole cells have the quantiles that Prometheus finds of the same time."""
    span_ms = (3 * STEP_S + 2) * 1000
    await histograms_when(log, lambda some: some.time_ms[-1] - some.time_ms[0] > span_ms)
    found = quantiles(log)
    for q, title in ((0.5, f"p50({NAME})"), (0.99, f"p99({NAME})")):
        # The first one has begun before the first sample.
        _, *ends = [end_ms for end_ms in found[title] if end_ms < max(found[title])]
        assert len(ends) >= 1
        for end_ms in ends:
            # It leaves out what came between the range's begin and the first sample in it.
            query = f"histogram_quantile({q}, rate({NAME}[{STEP_S}s]))"
            there = await asked(address, query, end_ms)
            assert found[title][end_ms] == pytest.approx(there, rel=0.02)


async def test_the_log_has_the_histograms_of_a_real_sender(
    short_dir: Path, need_program: Callable[[str], str]
) -> None:
    """Counts are the sender's, quantiles lie in the bucket where it finds them, ends are told."""
    program = need_program("prometheus")
    log, target = MemoryLog(), Target()
    gateway = Gateway(Settings(), log)
    exposed = web.Application()
    exposed.router.add_get("/metrics", target.answer)
    writer = asyncio.ensure_future(gateway.write())
    async with TestServer(exposed) as scraped, TestServer(gateway.app()) as written:
        config = CONFIG.format(
            target=f"{scraped.host}:{scraped.port}", gateway=written.make_url("/api/v1/write")
        )
        with Prometheus(short_dir, program=program, config=config) as prometheus:
            found = await histograms_when(log, lambda some: len(some.count) >= 5)
            ends = np.cumsum(found.buckets)
            for i, time_ms in enumerate(found.time_ms.tolist()):
                count = await asked(prometheus.address, f"histogram_count({NAME})", time_ms)
                assert count == found.count[i]
                total = await asked(prometheus.address, f"histogram_sum({NAME})", time_ms)
                assert total == found.sum[i]
                own = slice(ends[i] - found.buckets[i], ends[i])
                filled = np.cumsum(found.value[own])
                assert filled[-1] == count
                for quantile in (0.1, 0.5, 0.9, 0.99):
                    query = f"histogram_quantile({quantile}, {NAME})"
                    where = np.searchsorted(filled, quantile * count)
                    value = await asked(prometheus.address, query, time_ms)
                    # Its bounds may differ from ours in the last bit.
                    assert value >= found.lower[own][where] * (1 - 1e-12)
                    assert value <= found.upper[own][where] * (1 + 1e-12)
            await compare_cells(log, prometheus.address)
            target.fails = True
            last = await histograms_when(log, lambda some: bool(np.isnan(some.count[-1])))
            assert last.count.view(np.uint64)[-1] == STALE_BITS
            assert last.buckets[-1] == 0
    writer.cancel()
