"""A gateway on a socket, with a log in memory: what it answers, and what the log then holds."""

import asyncio
import contextlib
import io
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from typing import Any, NamedTuple

import aiohttp
import cramjam
import numpy as np

from second_version import Draft, Labels, encode_v1, encode_v2
from watchkeep.schemas.frame import Frame, FrameKind, decode
from watchkeep.schemas.labels import parse
from watchkeep.schemas.settings import Gateway as GatewaySettings
from watchkeep.schemas.settings import Settings
from watchkeep.streams.front_door import open_door
from watchkeep.streams.gateway import Gateway
from watchkeep.streams.memory import MemoryLog
from watchkeep.streams.topics import METRICS
from watchkeep.streams.wire import V1, V2

PATH = "/api/v1/write"
SNAPPY = {"Content-Encoding": "snappy"}
HEADERS = {
    V1: SNAPPY | {"Content-Type": "application/x-protobuf"},
    V2: SNAPPY
    | {
        "Content-Type": "application/x-protobuf;proto=io.prometheus.write.v2.Request",
        "X-Prometheus-Remote-Write-Version": "2.0.0",
    },
}
ENCODE = {V1: encode_v1, V2: encode_v2}

# A sample as it can be compared: NaNs too.
Bits = tuple[int, int]
Written = tuple[int, int, int]


class Answer(NamedTuple):
    """What a sender is told.

    Attributes:
        written: samples, native histograms and exemplars; None where nothing is said of them.
    """

    status: int
    written: Written | None
    text: str
    headers: Mapping[str, str]


def packed(plain: bytes) -> bytes:
    """Compress a request."""
    return bytes(cramjam.snappy.compress_raw(plain))


class Receiver:
    """A sender's view of a gateway."""

    def __init__(self, session: aiohttp.ClientSession, port: int) -> None:
        self._session = session
        self.port = port

    async def post(
        self,
        body: bytes | io.BytesIO | AsyncIterator[bytes],
        headers: Mapping[str, str],
        method: str = "POST",
        **options: Any,  # noqa: ANN401 - Whatever aiohttp takes.
    ) -> Answer:
        """Send a body as it is."""
        url = f"http://127.0.0.1:{self.port}{PATH}"
        skipped = ["Content-Type", "Accept-Encoding"]
        async with self._session.request(
            method, url, data=body, headers=headers, skip_auto_headers=skipped, **options
        ) as got:
            told = [
                got.headers.get(f"X-Prometheus-Remote-Write-{name}-Written")
                for name in ("Samples", "Histograms", "Exemplars")
            ]
            written = None
            if told != [None] * 3:
                samples, histograms, exemplars = (int(number or "missing") for number in told)
                written = samples, histograms, exemplars
            return Answer(got.status, written, await got.text(), got.headers)

    async def send(self, plain: bytes, version: int = V2) -> Answer:
        """Send a request."""
        return await self.post(io.BytesIO(packed(plain)), HEADERS[version])

    async def draft(self, draft: Draft, version: int = V2) -> Answer:
        """Send a request that is well-formed."""
        return await self.send(ENCODE[version](draft), version)


@contextlib.asynccontextmanager
async def receiver(
    log: MemoryLog, settings: GatewaySettings | None = None
) -> AsyncIterator[Receiver]:
    """Run a gateway as in production, but for its log."""
    settings = (settings or GatewaySettings()).model_copy(update={"port": 0})
    gateway = Gateway(Settings(gateway=settings), log)
    door = await open_door(gateway.app(), settings)
    writer = asyncio.ensure_future(gateway.write())
    try:
        async with aiohttp.ClientSession() as session:
            yield Receiver(session, door.port)
    finally:
        await door.close()
        writer.cancel()


def frames(log: MemoryLog) -> list[Frame]:
    """Read the log's frames of data."""
    found = [decode(value) for value in log.values(METRICS) if value]
    return [frame for frame in found if frame.kind is FrameKind.DATA]


def bits(time_ms: int, value: float) -> Bits:
    """Put a sample into a form that can be compared."""
    return time_ms, int(np.float64(value).view(np.uint64))


def held(log: MemoryLog) -> dict[Labels, list[Bits]]:
    """Tell what the log holds of each series, in order: samples, and histograms by their count."""
    labels: dict[int, Labels] = {}
    found: dict[Labels, list[Bits]] = defaultdict(list)
    for frame in frames(log):
        for one in frame.label_sets:
            labels[one.series_id] = tuple(sorted(parse(one.labels).items()))
        for ids, times, values in (
            (frame.series_id, frame.time_ms, frame.value),
            (frame.histograms.series_id, frame.histograms.time_ms, frame.histograms.count),
        ):
            for series_id, time_ms, value in zip(ids.tolist(), times.tolist(), values, strict=True):
                found[labels[series_id]].append(bits(time_ms, value))
    return dict(found)
