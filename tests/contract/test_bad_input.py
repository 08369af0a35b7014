"""The gateway survives what it should never be sent, and a log that fails.

What is refused leaves nothing in the log, what is taken in part exactly the rest, and afterwards
a good request is answered 204.
"""

import asyncio
import io
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path

import aiohttp
import cramjam
import numpy as np
import pytest

import front
from native import native
from receiver import HEADERS, PATH, Receiver, bits, frames, held, packed, receiver
from second_version import DraftSeries, encode_v1, encode_v2, field, varint
from watchkeep.schemas.errors import LogError
from watchkeep.schemas.frame import SHARDS
from watchkeep.schemas.settings import Gateway
from watchkeep.streams.memory import MemoryLog
from watchkeep.streams.topics import METRICS
from watchkeep.streams.wire import V1, V2

NOW_MS = 1_772_409_600_000
MIB = 1024 * 1024
UP = (("__name__", "up"), ("namespace", "shop"), ("pod", "cart-0"))
NONE = (0, 0, 0)
SAMPLE = field(2, b"\x09" + bytes(7) + b"\x40\x10\x01")


def series(name: str = "up", at_ms: int = NOW_MS, value: float = 1.0) -> DraftSeries:
    return DraftSeries((("__name__", name), *UP[1:]), ((at_ms, value),))


GOOD = {V1: encode_v1([series("good")]), V2: encode_v2([series("good")])}


class FailingLog(MemoryLog):
    """A log that can be out of reach: all of it, or what `down` names of its shards."""

    def __init__(self) -> None:
        super().__init__()
        self.down: set[int] = set()
        self.stuck: asyncio.Event | None = None

    async def send(
        self,
        topic: str,
        value: bytes | None,
        *,
        partition: int = 0,
        key: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Write a record, or fail, or hang."""
        if self.stuck:
            await self.stuck.wait()
        if partition in self.down:
            raise LogError("down")
        await super().send(topic, value, partition=partition, key=key, headers=headers)


@pytest.fixture
def log() -> FailingLog:
    return FailingLog()


@pytest.fixture
async def gateway(
    each_reader: None,  # noqa: ARG001
    log: FailingLog,
    request: pytest.FixtureRequest,
) -> AsyncIterator[Receiver]:
    """Open a gateway; at the end it must still do its work."""
    settings = getattr(request, "param", Gateway(max_body_mb=1.0))
    async with receiver(log, settings) as opened:
        yield opened
        log.down = set()
        if log.stuck:
            log.stuck.set()
        await asyncio.sleep(0.05)
        log.partitions.clear()
        for version, told in ((V1, None), (V2, (1, 0, 0))):
            answer = await opened.send(GOOD[version], version)
            assert (answer.status, answer.written) == (204, told)
        assert sum(len(frame.value) for frame in frames(log)) == 2


# ---- transport ----


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"])
async def test_only_post_is_allowed(gateway: Receiver, log: MemoryLog, method: str) -> None:
    assert (await gateway.post(packed(GOOD[V2]), HEADERS[V2], method)).status == 405
    assert not held(log)


TYPE = "application/x-protobuf"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/x-protobuf2"}, 415),
        ({"Content-Type": f"{TYPE};proto=prometheus.WriteRequest3"}, 415),
        ({"Content-Type": f"{TYPE};proto=io.prometheus.write.v2.request"}, 415),
        ({"Content-Type": f"{TYPE};proto"}, 415),
        ({"Content-Type": f"{TYPE};proto="}, 415),
        ({"Content-Type": f'{TYPE};proto="'}, 415),
        ({"Content-Type": f"{TYPE};proto=a;proto=b"}, 415),
        ({"Content-Type": TYPE + ";proto=prometheus.WriteRequest" * 2}, 415),
        ({"Content-Type": ";"}, 204),
        ({"Content-Type": f"{TYPE};;charset=utf-8"}, 204),
        ({"Content-Type": f"{TYPE.upper()} ; PROTO = prometheus.WriteRequest"}, 204),
        ({"Content-Encoding": "gzip"}, 415),
        ({"Content-Encoding": "snappy, gzip"}, 415),
        ({"Content-Encoding": "identity"}, 415),
        ({"Content-Encoding": ""}, 204),
        ({"Content-Encoding": "Snappy"}, 204),
    ],
)
async def test_types_and_encodings(
    gateway: Receiver, log: MemoryLog, headers: dict[str, str], status: int
) -> None:
    answer = await gateway.post(packed(GOOD[V1]), HEADERS[V1] | dict(headers))
    assert answer.status == status
    assert bool(held(log)) == (status == 204)


async def test_nothing_but_a_body_is_version_1(gateway: Receiver) -> None:
    assert (await gateway.post(packed(GOOD[V1]), {})).status == 204


def zeros(count: int) -> bytes:
    return bytes(cramjam.snappy.compress_raw(bytes(count)))


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"\xff", 400),
        (bytes(cramjam.snappy.compress(GOOD[V2])), 400),
        (b"\xff\xff\xff\xff\x0f", 413),
        (b"\xff" * 9 + b"\x01", 400),
        (varint(MIB) + packed(GOOD[V2])[1:], 400),
        (b"\x01" + packed(GOOD[V2])[1:], 400),
        (varint(MIB + 1), 413),
        (zeros(MIB), 400),
        (zeros(MIB + 1), 413),
        (bytes(MIB + 1), 413),
    ],
    ids=[
        "empty", "a byte", "framed", "4 GiB", "no length", "longer than told", "shorter",
        "more than allowed is told", "not protobuf", "bomb", "large body",
    ],
)  # fmt: skip
@pytest.mark.parametrize("chunked", [False, True])
async def test_bodies_that_are_no_snappy_or_too_large(
    gateway: Receiver, log: MemoryLog, body: bytes, status: int, *, chunked: bool
) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for at in range(0, len(body), 100_000):
            yield body[at : at + 100_000]

    answer = await gateway.post(chunks() if chunked else io.BytesIO(body), HEADERS[V2])
    assert (answer.status, answer.written) == (status, NONE)
    assert not held(log)


async def test_a_body_that_ends_early_is_refused_wherever_it_ends(
    gateway: Receiver, log: MemoryLog
) -> None:
    body = packed(encode_v2([series(f"m{i}") for i in range(20)]))
    for end in range(len(body)):
        assert (await gateway.post(body[:end], HEADERS[V2])).status == 400
    assert not held(log)


def head(version: int, length: int) -> bytes:
    told = "".join(f"{name}: {value}\r\n" for name, value in HEADERS[version].items())
    return f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n{told}\r\n".encode()


@pytest.mark.parametrize("gateway", [Gateway(request_timeout_s=0.3)], indirect=True)
async def test_who_is_too_slow_is_to_send_again(gateway: Receiver, log: MemoryLog) -> None:
    body = packed(GOOD[V2])
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(head(V2, len(body)) + body[:-1])
    async with asyncio.timeout(10):
        answer = await reader.readuntil(b"\r\n\r\n")
    writer.close()
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"\r\nRetry-After: " in answer
    assert not held(log)


async def test_who_goes_away_leaves_nothing(gateway: Receiver, log: MemoryLog) -> None:
    body = packed(GOOD[V2])
    for end in (0, 1, len(body) - 1):
        _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(head(V2, len(body)) + body[:end])
        await writer.drain()
        writer.transport.abort()
    await asyncio.sleep(0.05)
    assert not held(log)


# ---- protobuf ----

TWO = {V1: encode_v1([series("a"), series("b")]), V2: encode_v2([series("a"), series("b")])}


def between_fields(plain: bytes) -> set[int]:
    """Tell where fields end; each has a tag and a length of a byte."""
    ends, at = {0}, 0
    while at < len(plain):
        at += 2 + plain[at + 1]
        ends.add(at)
    return ends


@pytest.mark.parametrize("version", [V1, V2])
async def test_a_request_that_ends_early_is_refused_but_between_fields(
    gateway: Receiver, log: MemoryLog, version: int
) -> None:
    plain = TWO[version]
    for end in range(len(plain)):
        log.partitions.clear()
        whole = end in between_fields(plain)
        answer = await gateway.send(plain[:end], version)
        assert answer.status == (204 if whole else 400), end
        assert whole or not held(log)


def of_series(body: bytes, version: int = V2) -> bytes:
    """Make a request of a series with these fields; version 2.0 has the symbols 0 to 2."""
    if version == V1:
        return field(1, body)
    return field(4, b"") + field(4, b"__name__") + field(4, b"up") + field(5, body)


NAMED = {V1: field(1, b"\x0a\x08__name__\x12\x02up"), V2: field(1, b"\x01\x02")}


@pytest.mark.parametrize("version", [V1, V2])
@pytest.mark.parametrize(
    "broken",
    [
        b"\x12" + b"\x80" * 10 + b"\x00",
        b"\x12" + b"\xff" * 9 + b"\x02",
        field(2, b"\x10" + b"\xff" * 10 + b"\x01"),
        field(2, b"\x10" + b"\xff" * 9 + b"\x7f"),
        field(2, b"\x10\x80"),
        field(2, b"\x09\x00"),
        field(2, b"\x08\x01"),
        field(2, b"\x12\x01\x01"),
        b"\x10\x01",
        b"\x09" + bytes(8),
        b"\x13\x14",
        b"\x16",
        b"\x02\x01",
        b"\xff\xff\xff\xff\xff\x01\x00",
        b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
        b"\x12\x7f",
    ],
)
async def test_what_is_no_protobuf_or_has_other_types_is_refused_whole(
    gateway: Receiver, log: MemoryLog, version: int, broken: bytes
) -> None:
    answer = await gateway.send(of_series(NAMED[version] + SAMPLE + broken, version), version)
    assert (answer.status, answer.written) == (400, None if version == V1 else NONE)
    assert not held(log)


@pytest.mark.parametrize("version", [V1, V2])
async def test_unknown_fields_are_passed_over(
    gateway: Receiver, log: MemoryLog, version: int
) -> None:
    unknown = b"\xf8\x06\x01" + b"\xf9\x06" + bytes(8) + b"\xfd\x06" + bytes(4) + field(111, b"x")
    sample = field(2, b"\x09" + bytes(6) + b"\xf0\x3f" + unknown + b"\x10\x07")
    plain = unknown + of_series(unknown + NAMED[version] + sample + unknown, version) + unknown
    assert (await gateway.send(plain, version)).status == 204
    assert held(log) == {(("__name__", "up"),): [bits(7, 1.0)]}


@pytest.mark.parametrize(("version", "labelled"), [(V1, V2), (V2, V1)])
async def test_bytes_of_the_other_version_are_refused(
    gateway: Receiver, log: MemoryLog, version: int, labelled: int
) -> None:
    answer = await gateway.send(TWO[version], labelled)
    assert answer.status == 400
    assert "the other version" in answer.text
    assert not held(log)


# ---- symbols ----


@pytest.mark.parametrize(
    "plain",
    [
        field(5, SAMPLE),
        field(5, NAMED[V2] + SAMPLE),
        field(4, b"x") + field(4, b"__name__") + field(4, b"up") + field(5, NAMED[V2] + SAMPLE),
    ],
)
async def test_the_first_symbol_must_be_there_and_empty(
    gateway: Receiver, log: MemoryLog, plain: bytes
) -> None:
    assert (await gateway.send(plain))[:2] == (400, NONE)
    assert not held(log)


@pytest.mark.parametrize(
    "references",
    [
        b"\x01",
        b"\x01\x02\x01",
        b"\x01\x03",
        b"\x03\x02",
        b"\x01" + varint(2**31),
        b"\x01" + varint(2**32 + 2),
        b"\x01" + varint(2**64 - 1),
    ],
)
async def test_references_that_lead_nowhere_cost_the_series_alone(
    gateway: Receiver, log: MemoryLog, references: bytes
) -> None:
    good = of_series(NAMED[V2] + SAMPLE)
    answer = await gateway.send(good + field(5, field(1, references) + SAMPLE))
    assert (answer.status, answer.written) == (400, (1, 0, 0))
    assert held(log) == {(("__name__", "up"),): [bits(1, 2.0)]}


async def test_what_is_wrong_in_exemplars_and_metadata_costs_no_samples(
    gateway: Receiver, log: MemoryLog
) -> None:
    odd = field(4, field(1, b"\x63")) + field(4, b"\xff") + field(5, b"\x18\x63\x08\x63")
    answer = await gateway.send(of_series(NAMED[V2] + SAMPLE + odd))
    assert (answer.status, answer.written) == (204, (1, 0, 2))
    assert len(held(log)) == 1


# ---- series ----

NATIVE = native({1: 3}, time_ms=NOW_MS).SerializeToString()
BAD_SERIES = {
    "no name": DraftSeries(UP[1:], ((1, 1.0),)),
    "an empty name": DraftSeries((("__name__", ""), *UP[1:]), ((1, 1.0),)),
    "no labels": DraftSeries((), ((1, 1.0),)),
    "a label twice": DraftSeries((*UP, ("pod", "b")), ((1, 1.0),)),
    "the same label twice": DraftSeries((*UP, UP[2]), ((1, 1.0),)),
    "a label without a name": DraftSeries((*UP, ("", "b")), ((1, 1.0),)),
    "huge labels": DraftSeries((*UP, ("a", "x" * 17_000)), ((1, 1.0),)),
    "vast labels": DraftSeries((*UP, ("a", "x" * 900_000)), ((1, 1.0),)),
    "many labels": DraftSeries((*UP, *((f"l{i}", "") for i in range(5_000))), ((1, 1.0),)),
    "both": DraftSeries(UP, ((1, 1.0),), histograms=(NATIVE,)),
}


@pytest.mark.parametrize("version", [V1, V2])
@pytest.mark.parametrize("bad", BAD_SERIES.values(), ids=BAD_SERIES)
async def test_a_series_that_is_refused_costs_no_other(
    gateway: Receiver, log: MemoryLog, version: int, bad: DraftSeries
) -> None:
    draft = [series("a"), bad._replace(exemplars=1), series("b")]
    for times in (1, 2):  # The second time it is known.
        answer = await gateway.draft(draft, version)
        assert (answer.status, answer.written) == (400, None if version == V1 else (2, 0, 0))
        assert "1 series: " in answer.text
        assert [len(rows) for rows in held(log).values()] == [times, times]


@pytest.mark.parametrize("version", [V1, V2])
async def test_texts_that_are_no_utf_8_cost_the_series_alone(
    gateway: Receiver, log: MemoryLog, version: int
) -> None:
    plain = ENCODED[version].replace(b"BAD", b"\xff\xc0\x80")
    answer = await gateway.send(plain, version)
    assert (answer.status, answer.written) == (400, None if version == V1 else (1, 0, 0))
    assert "UTF-8" in answer.text
    assert list(held(log)) == [series("a").labels]


ENCODED = {V1: encode_v1([series("a"), series("BAD")]), V2: encode_v2([series("a"), series("BAD")])}


@pytest.mark.parametrize("version", [V1, V2])
async def test_labels_are_sorted_and_empty_ones_left_out(
    gateway: Receiver, log: MemoryLog, version: int
) -> None:
    odd = DraftSeries((("zone", ""), *reversed(UP), ("a", "")), ((NOW_MS, 1.0),))
    assert (await gateway.draft([odd], version)).status == 204
    assert held(log) == {UP: [bits(NOW_MS, 1.0)]}


@pytest.mark.parametrize("version", [V1, V2])
async def test_labels_that_lie_apart_are_one_label_set(
    gateway: Receiver, log: MemoryLog, version: int
) -> None:
    job = {V1: field(1, b"\x0a\x03job\x12\x02up"), V2: b"\x08\x03\x08\x02"}[version]
    apart = of_series(NAMED[version] + SAMPLE + job + SAMPLE, version)
    if version == V2:
        apart = apart.replace(field(4, b"up"), field(4, b"up") + field(4, b"job"))
    for times in (2, 4):
        assert (await gateway.send(apart, version)).status == 204
        assert held(log) == {(("__name__", "up"), ("job", "up")): [bits(1, 2.0)] * times}


@pytest.mark.parametrize(("exemplars", "version"), [(0, V1), (0, V2), (1, V1), (1, V2)])
async def test_a_series_without_samples_is_taken_and_leaves_nothing(
    gateway: Receiver, log: MemoryLog, exemplars: int, version: int
) -> None:
    answer = await gateway.draft([DraftSeries(UP, (), exemplars=exemplars)], version)
    assert (answer.status, answer.written) == (204, None if version == V1 else (0, 0, exemplars))
    assert not held(log)


@pytest.mark.parametrize("gateway", [Gateway(new_series_per_minute=1)], indirect=True)
async def test_the_same_series_twice_in_a_request_is_one_new_series(
    gateway: Receiver, log: MemoryLog
) -> None:
    answer = await gateway.draft([series("good", NOW_MS + i, float(i)) for i in range(3)])
    assert (answer.status, answer.written) == (204, (3, 0, 0))
    assert list(held(log).values()) == [[bits(NOW_MS + i, float(i)) for i in range(3)]]


# ---- samples ----

ODD_SAMPLES = (
    (NOW_MS, 0.0),
    (NOW_MS, 0.0),
    (NOW_MS, -0.0),
    (NOW_MS - 60_000, np.nan),
    (NOW_MS + 5, float(np.array([0x7FF0000000000002], np.uint64).view(np.float64)[0])),
    (NOW_MS + 4, np.inf),
    (NOW_MS + 3, -np.inf),
    (4_102_444_800_000, 5e-324),
    (0, 1.7976931348623157e308),
    (-1, float(np.array([0xFFF8000000000001], np.uint64).view(np.float64)[0])),
    (2**63 - 1, 1.0),
    (-(2**63), 1.0),
)


@pytest.mark.parametrize("version", [V1, V2])
async def test_odd_samples_come_as_they_are_and_in_order(
    gateway: Receiver, log: MemoryLog, version: int
) -> None:
    assert (await gateway.draft([DraftSeries(UP, ODD_SAMPLES)], version)).status == 204
    assert held(log) == {UP: [bits(*sample) for sample in ODD_SAMPLES]}


async def test_samples_of_many_series_keep_their_order(gateway: Receiver, log: MemoryLog) -> None:
    own = [(("__name__", "up"), ("pod", f"w{i}-0")) for i in range(40)]
    times = [7 * i % 50 for i in range(50)]
    draft = [DraftSeries(labels, ((t, float(t)),)) for t in times for labels in own]
    assert (await gateway.draft(draft))[:2] == (204, (2_000, 0, 0))
    assert held(log) == {labels: [bits(t, float(t)) for t in times] for labels in own}


# ---- the log ----


@pytest.mark.parametrize("version", [V1, V2])
async def test_without_the_log_everything_is_to_be_sent_again(
    gateway: Receiver, log: FailingLog, version: int
) -> None:
    log.down = set(range(SHARDS))
    answer = await gateway.send(TWO[version], version)
    assert (answer.status, answer.written) == (503, None if version == V1 else NONE)
    assert int(answer.headers["Retry-After"]) > 0
    assert not held(log)
    log.down = set()
    assert (await gateway.send(TWO[version], version)).status == 204
    assert held(log) == {series(name).labels: [bits(NOW_MS, 1.0)] for name in "ab"}


async def test_a_log_that_took_a_part_gets_everything_with_the_next_try(
    gateway: Receiver, log: FailingLog
) -> None:
    draft = [
        DraftSeries((("__name__", "up"), ("pod", f"w{i}-0")), ((NOW_MS, float(i)),))
        for i in range(40)
    ]
    assert (await gateway.draft(draft)).status == 204
    shards = {shard for _, shard in log.partitions}
    log.partitions.clear()
    log.down = {min(shards)}
    newer = [one._replace(samples=((NOW_MS + 1, 2.0),)) for one in draft]
    answer = await gateway.draft(newer)
    assert (answer.status, answer.written) == (503, NONE)
    assert {shard for _, shard in log.partitions} == shards - log.down
    log.down = set()
    log.partitions.clear()  # Even a reader that begins here knows every series.
    assert (await gateway.draft(newer))[:2] == (204, (40, 0, 0))
    assert held(log) == {one.labels: [bits(NOW_MS + 1, 2.0)] for one in newer}


async def test_the_same_request_again_is_taken_again(gateway: Receiver, log: MemoryLog) -> None:
    for times in (1, 2, 3):
        assert (await gateway.send(TWO[V2]))[:2] == (204, (2, 0, 0))
        assert list(held(log).values()) == [[bits(NOW_MS, 1.0)] * times] * 2


FULL = Gateway(waiting_mb=0.001)


@pytest.mark.parametrize(
    ("gateway", "one"),
    [
        (FULL, DraftSeries(UP, ((NOW_MS, 1.0),) * 100)),
        (FULL, DraftSeries(UP, (), histograms=(b"",) * 9)),
    ],
    indirect=["gateway"],
    ids=["samples", "histograms without buckets"],
)  # fmt: skip
async def test_when_too_much_waits_senders_are_to_come_again(
    gateway: Receiver, log: FailingLog, one: DraftSeries
) -> None:
    log.stuck = asyncio.Event()
    waiting = []
    for _ in range(2):  # One is being written, the other waits.
        waiting.append(asyncio.ensure_future(gateway.draft([one])))
        await asyncio.sleep(0.1)
    async with asyncio.timeout(10):
        answer = await gateway.draft([one])
    assert (answer.status, answer.written) == (503, NONE)
    assert int(answer.headers["Retry-After"]) > 0
    assert "too much waits" in answer.text
    log.stuck.set()
    assert [answer.status for answer in await asyncio.gather(*waiting)] == [204, 204]
    assert sum(map(len, held(log).values())) == 2 * (len(one.samples) + len(one.histograms))


@pytest.mark.parametrize("gateway", [Gateway()], indirect=True)
async def test_a_request_larger_than_a_record_is_split(gateway: Receiver, log: MemoryLog) -> None:
    long = "x" * 8_000
    draft = [
        DraftSeries((*UP, ("long", long), ("n", str(i))), tuple((t, 1.0) for t in range(1_000)))
        for i in range(150)
    ]
    assert (await gateway.draft(draft))[:2] == (204, (150_000, 0, 0))
    records = [len(value) for value in log.values(METRICS) if value]
    assert sum(records) > 4_000_000
    assert max(records) < 1_000_000
    assert {tuple(rows) for rows in held(log).values()} == {
        tuple(bits(t, 1.0) for t in range(1_000))
    }


@pytest.mark.parametrize("gateway", [Gateway()], indirect=True)
async def test_many_clusters_of_long_names_leave_ticks_small(
    gateway: Receiver, log: MemoryLog
) -> None:
    draft = [
        DraftSeries((*UP, ("cluster", f"{i}" + "\n" * 8_000)), ((NOW_MS, 1.0),)) for i in range(100)
    ]
    await gateway.draft(draft)
    async with asyncio.timeout(10):
        while len({shard for _, shard in log.partitions}) < SHARDS:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert max(len(value) for value in log.values(METRICS) if value) < 1_000_000


# ---- memory ----

EMPTIES = 31 * MIB // 2
NAME = field(1, b"\x0a\x08__name__\x12\x02up")
LARGE = b"".join(field(4, text) for text in (b"", b"__name__", b"up", b"a", b"x" * 16_000))
AMPLIFIED = field(5, field(1, b"\x03\x04"))
# By what is sent: its version, how often, its bytes, the status, and by how many MiB the memory
# may grow at its peak. A body, and a copy of it, are twice 32 MiB.
HOSTILE: dict[str, tuple[int, int, bytes, int, int]] = {
    "forged lengths": (V2, 200, b"\xff\xff\xff\xff\x0f", 413, 8),
    "lengths without bodies": (V2, 200, varint(32 * MIB) + bytes(3), 400, 40),
    "bombs": (V1, 10, zeros(32 * MIB), 400, 100),
    "bombs too large": (V1, 20, zeros(33 * MIB), 413, 8),
    "empty series": (V1, 3, packed(b"\x0a\0" * EMPTIES), 413, 120),
    "empty series of version 2": (V2, 3, packed(b"\x22\0" + b"\x2a\0" * EMPTIES), 413, 140),
    "empty histograms": (V1, 2, packed(field(1, NAME + b"\x22\0" * EMPTIES)), 413, 150),
    "many histograms": (V1, 2, packed(field(1, NAME + b"\x22\0" * 199_999)), 413, 100),
    "empty metadata": (V1, 2, packed(b"\x1a\0" * EMPTIES), 413, 120),
    "spans": (V1, 2, packed(field(1, NAME + field(4, b"\x5a\0" * EMPTIES))), 413, 150),
    "symbols repeated": (V2, 3, packed(LARGE + AMPLIFIED * 8_000), 400, 500),
    "symbols repeated too often": (V2, 3, packed(LARGE + AMPLIFIED * 100_000), 413, 300),
    "long names": (
        V1, 12, packed(field(3, b"\x08\x01" + field(2, b"x" * 10 * MIB))), 204, 100,
    ),
}  # fmt: skip
# To walk through all of them takes the plain reader up to a minute.
HOSTILE_TO_PYTHON: dict[str, tuple[int, int, bytes, int, int]] = {
    "empty samples": (V1, 2, packed(field(1, NAME + b"\x12\0" * EMPTIES)), 413, 300),
    "empty symbols": (V2, 2, packed(b"\x22\0" * EMPTIES), 413, 300),
    "empty exemplars": (V1, 2, packed(field(1, NAME + b"\x1a\0" * EMPTIES)), 204, 100),
    "empty labels": (V1, 2, packed(field(1, b"\x0a\0" * EMPTIES)), 400, 100),
    "labels apart": (V1, 2, packed(field(1, b"\x0a\0\x1a\0" * (EMPTIES // 2))), 400, 100),
    "references": (V2, 2, packed(b"\x22\0" + field(5, field(1, bytes(31 * MIB)))), 400, 100),
}


def memory_mib(pid: int) -> int:
    """Tell the most memory that a process has had since this was last reset."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) // 1024


@pytest.fixture
def program(each_reader: None) -> Iterator[tuple[int, int]]:  # noqa: ARG001
    """Run a gateway on its own: its process and port."""
    command = [sys.executable, front.__file__, "{}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ, text=True) as process:
        try:
            assert process.stdout
            yield process.pid, int(process.stdout.readline())
        finally:
            process.kill()


CASES = [
    *(("compiled", name) for name in HOSTILE | HOSTILE_TO_PYTHON),
    *(("plain", name) for name in HOSTILE),
]


@pytest.mark.parametrize(("each_reader", "name"), CASES, indirect=["each_reader"])
async def test_memory_is_bounded(program: tuple[int, int], name: str) -> None:
    pid, port = program
    version, times, body, status, most_mib = (HOSTILE | HOSTILE_TO_PYTHON)[name]
    async with aiohttp.ClientSession() as session:
        gateway = Receiver(session, port)
        assert (await gateway.send(GOOD[V2])).status == 204
        before_mib = memory_mib(pid)
        for _ in range(times):
            assert (await gateway.post(io.BytesIO(body), HEADERS[version])).status == status
        assert (await gateway.send(GOOD[V2])).status == 204
    assert memory_mib(pid) - before_mib < most_mib
