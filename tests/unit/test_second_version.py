"""The gateway speaks remote write 2.0: what was written is told, and nothing is taken silently."""

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import cramjam
import numpy as np
import pytest
from aiohttp.test_utils import TestClient, TestServer

from native import native
from second_version import DraftSeries, encode_v2
from watchkeep.schemas.errors import LogError
from watchkeep.schemas.frame import Frame, FrameKind, MetricKind, decode
from watchkeep.schemas.labels import parse
from watchkeep.schemas.settings import Gateway as GatewaySettings
from watchkeep.schemas.settings import Settings
from watchkeep.streams.gateway import Gateway
from watchkeep.streams.memory import MemoryLog
from watchkeep.streams.topics import METRICS

NOW_MS = 1_772_409_600_000
HEADERS = {
    "Content-Type": "application/x-protobuf;proto=io.prometheus.write.v2.Request",
    "Content-Encoding": "snappy",
    "X-Prometheus-Remote-Write-Version": "2.0.0",
}
UP = (("__name__", "up"), ("namespace", "shop"), ("pod", "cart-0"))
STALE = np.array([0x7FF0000000000002], np.uint64).view(np.float64)[0]

Client = TestClient[aiohttp.web.Request, aiohttp.web.Application]
SMALL = GatewaySettings(active_series_max=4, new_series_per_minute=2)


class GoneLog(MemoryLog):
    """A log that can't be reached."""

    async def send(self, *_: object, **__: object) -> None:
        """Fail."""
        raise LogError("gone")


@pytest.fixture
def log() -> MemoryLog:
    return MemoryLog()


@pytest.fixture
async def client(request: pytest.FixtureRequest, log: MemoryLog) -> AsyncIterator[Client]:
    settings = getattr(request, "param", GatewaySettings())
    gateway = Gateway(Settings(clock="event", gateway=settings), log)
    writer = asyncio.ensure_future(gateway.write())
    async with TestClient(TestServer(gateway.app())) as opened:
        yield opened
    writer.cancel()


async def post(client: Client, plain: bytes) -> tuple[int, list[int | None], str]:
    """Send a request: the status, the counts of what was written, and the text."""
    body = bytes(cramjam.snappy.compress_raw(plain))
    answer = await client.post("/api/v1/write", data=body, headers=HEADERS)
    told = [
        answer.headers.get(f"X-Prometheus-Remote-Write-{name}-Written")
        for name in ("Samples", "Histograms", "Exemplars")
    ]
    return answer.status, [None if n is None else int(n) for n in told], await answer.text()


def frames(log: MemoryLog) -> list[Frame]:
    found = [decode(value) for value in log.values(METRICS) if value]
    return [frame for frame in found if frame.kind is FrameKind.DATA]


async def test_what_was_written_is_told_and_is_in_the_log(client: Client, log: MemoryLog) -> None:
    draft = [
        DraftSeries(UP, ((NOW_MS, 1.5), (NOW_MS + 1, STALE)), kind=2, exemplars=1),
        DraftSeries(
            (("__name__", "ends"), ("namespace", "shop"), ("pod", "cart-0")), (), exemplars=1
        ),
    ]
    assert await post(client, encode_v2(draft)) == (204, [2, 0, 2], "")
    (frame,) = frames(log)
    assert frame.value.view(np.uint64).tolist() == [
        np.float64(1.5).view(np.uint64),
        0x7FF0000000000002,
    ]
    (labels,) = frame.label_sets
    assert (parse(labels.labels), labels.kind) == (dict(UP), MetricKind.GAUGE)


async def test_native_histograms_count_as_such(client: Client, log: MemoryLog) -> None:
    message = native({1: 3}, time_ms=NOW_MS)
    plain = encode_v2([DraftSeries(UP, (), kind=3, histograms=(message.SerializeToString(),))])
    assert await post(client, plain) == (204, [0, 1, 0], "")
    (frame,) = frames(log)
    assert frame.histograms.value.tolist() == [3]
    assert frame.label_sets[0].kind is MetricKind.HISTOGRAM


async def test_a_kind_that_changes_is_told_anew(client: Client, log: MemoryLog) -> None:
    for kind in (0, 1, 1, 2):
        await post(client, encode_v2([DraftSeries(UP, ((NOW_MS, 1.0),), kind=kind)]))
    kinds = [[labels.kind for labels in frame.label_sets] for frame in frames(log)]
    assert kinds == [[MetricKind.UNKNOWN], [MetricKind.COUNTER], [], [MetricKind.GAUGE]]


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ((), "no metric name"),
        ((("__name__", ""),), "no metric name"),
        ((("job", "a"),), "no metric name"),
        ((*UP, ("pod", "b")), "duplicate label name"),
        ((*UP, ("", "b")), "label without a name"),
        ((*UP, ("path", "x" * 17_000)), "labels of more than 16384 bytes"),
    ],
)
async def test_bad_label_sets_are_told_and_the_rest_is_written(
    client: Client, log: MemoryLog, labels: tuple[tuple[str, str], ...], words: str
) -> None:
    samples = ((NOW_MS, 1.0),)
    draft = [DraftSeries(labels, samples, exemplars=1), DraftSeries(UP, samples, exemplars=1)]
    for _ in range(2):  # The second time it is known.
        status, told, text = await post(client, encode_v2(draft))
        assert (status, told) == (400, [1, 0, 1])
        assert f"1 series: {words}" in text
    assert [frame.value.tolist() for frame in frames(log)] == [[1.0], [1.0]]


@pytest.mark.parametrize(
    ("references", "words"),
    [
        (b"\x01\x09", "reference to a symbol that isn't there"),
        (b"\x01", "label name without a value"),
    ],
)
async def test_bad_references_are_told(client: Client, references: bytes, words: str) -> None:
    good = encode_v2([DraftSeries(UP, ((NOW_MS, 1.0),))])
    bad = b"\x2a" + bytes([len(references) + 2]) + b"\x0a" + bytes([len(references)]) + references
    status, told, text = await post(client, good + bad)
    assert (status, told) == (400, [1, 0, 0])
    assert words in text


async def test_bytes_of_version_1_are_not_taken_silently(client: Client) -> None:
    status, told, text = await post(client, b"\x0a\x00")
    assert (status, told) == (400, [0, 0, 0])
    assert "the other version" in text


async def test_start_timestamps_of_both_drafts_of_the_specification_are_accepted(
    client: Client,
) -> None:
    body = encode_v2([DraftSeries(UP, ((NOW_MS, 1.0),))])
    at = body.rindex(b"\x2a")
    series = body[at + 2 :]
    # One after the sample in the series (field 6), and one in the sample (field 3).
    sample_at = series.index(b"\x12")
    sample = series[sample_at + 2 :]
    sample = b"\x12" + bytes([len(sample) + 2]) + sample + b"\x18\x05"
    series = series[:sample_at] + sample + b"\x30\x07"
    assert (await post(client, body[:at] + b"\x2a" + bytes([len(series)]) + series))[0] == 204


@pytest.mark.parametrize("log", [GoneLog()])
async def test_a_log_out_of_reach_has_nothing_written(client: Client, log: MemoryLog) -> None:
    status, told, _ = await post(client, encode_v2([DraftSeries(UP, ((NOW_MS, 1.0),))]))
    assert (status, told) == (503, [0, 0, 0])
    assert not frames(log)


@pytest.mark.parametrize("client", [SMALL], indirect=True)
async def test_new_series_beyond_the_limits_are_refused_and_known_ones_go_on(
    client: Client, log: MemoryLog
) -> None:
    def draft(names: str, time_ms: int) -> bytes:
        return encode_v2(
            [DraftSeries((("__name__", name), *UP[1:]), ((time_ms, 1.0),)) for name in names]
        )

    # The clock is that of the samples that came before.
    assert (await post(client, draft("a", NOW_MS)))[:2] == (204, [1, 0, 0])
    status, told, text = await post(client, draft("abcd", NOW_MS))
    assert (status, told) == (400, [3, 0, 0])
    assert "1 series: more than 2 new series a minute" in text
    assert (await post(client, draft("abcd", NOW_MS + 60_000)))[:2] == (400, [3, 0, 0])
    assert (await post(client, draft("abcd", NOW_MS + 61_000)))[:2] == (204, [4, 0, 0])
    status, told, text = await post(client, draft("abcde", NOW_MS + 200_000))
    assert (status, told) == (400, [4, 0, 0])
    assert "1 series: more than 4 active series" in text
    assert sum(len(frame.value) for frame in frames(log)) == 15
