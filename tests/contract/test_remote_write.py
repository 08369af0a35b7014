"""What Prometheus' compliance suite asks of receivers of remote write, in our own words.

The suite asks only for an answer. Here every status and count is exact, what may be taken is to be
taken, and what was answered 204 is in the log to the bit: in order, and under sorted labels.
"""

import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from typing import NamedTuple

import numpy as np
import pytest

from receiver import HEADERS, Bits, Receiver, Written, bits, held, packed, receiver
from second_version import Draft, DraftSeries, Exemplar, Labels, encode_v1, encode_v2
from watchkeep.schemas.remote_write_pb2 import BucketSpan, Histogram
from watchkeep.streams.memory import MemoryLog
from watchkeep.streams.wire import V1, V2

NOW_MS = int(time.time() * 1000)
MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
STALE = float(np.array([0x7FF0000000000002], np.uint64).view(np.float64)[0])
VALUES = {"1": 1.0, "stale": STALE, "nan": np.nan, "inf": np.inf, "minus inf": -np.inf}
OTHERS = {"0": 0.0, "negative": -123.456, "1e10": 1e10, "1e-10": 1e-10} | VALUES

COUNTER, GAUGE, HISTOGRAM, GAUGE_HISTOGRAM, SUMMARY, INFO, STATE_SET = range(1, 8)
TRACE = Exemplar((("trace_id", "4bf92f35"),), 0.5, NOW_MS)


class Case(NamedTuple):
    """A request, and what is to be said of it.

    Attributes:
        good: what is taken.
        written: what the answer tells of.
        bad: what of it is refused; if there is any, the answer is 400.
    """

    name: str
    good: Draft
    written: Written
    bad: tuple[DraftSeries, ...] = ()


def labels(name: str, **more: str) -> Labels:
    """Make labels in an order that is not theirs."""
    return (*sorted(more.items(), reverse=True), ("job", "test"), ("__name__", name))


def sample(name: str = "up", value: float = 1.0, ago_ms: int = 0, **more: str) -> DraftSeries:
    return DraftSeries(labels(name, **more), ((NOW_MS - ago_ms, value),))


def native(
    name: str = "latency_seconds",
    *,
    positive: bool = True,
    negative: bool = False,
    zero: bool = False,
    custom: bool = False,
    count: int | None = None,
) -> DraftSeries:
    """Make a series of one native histogram; without a zero bucket its oneof isn't set."""
    message = Histogram(timestamp=NOW_MS, sum=12.5)
    if custom:
        message.schema = -53
        message.custom_values.extend([0.1, 0.5, 1, 2.5, 5, 10])
        message.positive_spans.append(BucketSpan(offset=0, length=6))
        message.positive_deltas.extend([2, 1, 2, 3, -1, -2])
    elif positive:
        spans = [BucketSpan(offset=0, length=3), BucketSpan(offset=2, length=2)]
        message.positive_spans.extend(spans)
        message.positive_deltas.extend([1, 2, 1, 3, 1])
    if negative:
        message.negative_spans.append(BucketSpan(offset=0, length=2))
        message.negative_deltas.extend([1, 1])
    if zero:
        message.zero_count_int = 1
    told = 30 * custom or 23 * positive + 3 * negative + zero
    message.count_int = told if count is None else count
    return DraftSeries(labels(name), (), histograms=(message.SerializeToString(),))


def told(
    series: DraftSeries,
    kind: int = 0,
    about: tuple[str, str] = ("What it is.", "seconds"),
    exemplar: Exemplar | None = None,
) -> DraftSeries:
    """Add metadata, and maybe an exemplar."""
    series = series._replace(kind=kind, about=about)
    return with_exemplar(series, exemplar) if exemplar else series


def with_exemplar(series: DraftSeries, exemplar: Exemplar = TRACE) -> DraftSeries:
    return series._replace(exemplars=1, exemplar=exemplar)


def since(series: DraftSeries, ago_ms: int) -> DraftSeries:
    return series._replace(created_ms=NOW_MS - ago_ms)


def nameless(series: DraftSeries, *named: tuple[str, str]) -> DraftSeries:
    return series._replace(labels=(("job", "test"), *named))


EMPTY_NAME = ("__name__", "")


def samples_of_any_value() -> Iterator[Case]:
    named = {
        "only a name": (("__name__", "up"),),
        "labels": labels("up", instance="localhost:9090"),
        "a newline": labels("up", path="first\nsecond"),
        "dots": labels("http.server.duration", **{"service.name": "cart"}),
        "spaces": labels("a metric of words", **{"a label": "a value"}),
    }
    for which, value in VALUES.items():
        one = ((NOW_MS, value),)
        for name, own in named.items():
            yield Case(f"{name}, {which}", [DraftSeries(own, one)], (1, 0, 0))
        yield Case(f"no name, {which}", [], (0, 0, 0), (nameless(sample(value=value)),))
        yield Case(f"no labels, {which}", [], (0, 0, 0), (DraftSeries((), one),))
        four = [sample(f"m{i}", value) for i in range(4)]
        yield Case(f"created an hour ago, {which}", [since(four[0], HOUR_MS)], (1, 0, 0))
        yield Case(f"four, {which}", four, (4, 0, 0))
        yield Case(f"four nameless, {which}", [], (0, 0, 0), tuple(map(nameless, four)))
        yield Case(f"one of four nameless, {which}", four[1:], (3, 0, 0), (nameless(four[0]),))


def exemplars() -> Iterator[Case]:
    for name, own in {
        "trace": TRACE.labels,
        "trace and span": (*TRACE.labels, ("span_id", "00f067aa")),
        "no trace": (("user", "anna"),),
        "several": (("a", "1"), ("b", "2"), ("c", "3")),
        "no labels": (),
        "special characters": (("path", '/a?b=c&d="e"\\\n'),),
        "unicode": (("straße", "東京 🚀"),),
    }.items():
        exemplar = Exemplar(own, 0.5, NOW_MS)
        yield Case(f"exemplar: {name}", [with_exemplar(sample(city="Zürich"), exemplar)], (1, 0, 1))
    for name, value in OTHERS.items():
        one = with_exemplar(sample(value=value), Exemplar(TRACE.labels, value, NOW_MS))
        yield Case(f"exemplar of {name}", [one], (1, 0, 1))
    fine, broken = with_exemplar(sample()), nameless(with_exemplar(sample()))
    yield Case("exemplar, created", [since(fine, 2 * HOUR_MS)], (1, 0, 1))
    three = [with_exemplar(sample(f"m{i}")) for i in range(3)]
    yield Case("three with exemplars", three, (3, 0, 3))
    again = [with_exemplar(sample(ago_ms=ago)) for ago in (HOUR_MS, MINUTE_MS, 0)]
    yield Case("one series three times", again, (3, 0, 3))
    yield Case("exemplar, no name", [], (0, 0, 0), (broken,))
    yield Case("exemplar, empty name", [], (0, 0, 0), (nameless(broken, EMPTY_NAME),))
    yield Case("exemplar, valid", [fine], (1, 0, 1))


def histograms() -> Iterator[Case]:
    both = native("other_seconds", negative=True, zero=True)
    for name, one in {
        "both sides and zero": native(negative=True, zero=True),
        "custom bounds": native(custom=True),
        "positive and zero": native(zero=True),
        "negative only": native(positive=False, negative=True),
        "zero only": native(positive=False, zero=True),
        "empty": native(positive=False),
        "created": since(native(), 30 * MINUTE_MS),
        "metadata": told(native(), HISTOGRAM),
        "metadata, many labels": told(
            native()._replace(labels=labels("latency_seconds", a="1", b="2", c="3", d="4")),
            HISTOGRAM,
        ),
    }.items():
        yield Case(f"histogram: {name}", [one], (0, 1, 0))
    yield Case("histogram: a count that lies", [], (0, 0, 0), (native(count=99),))
    yield Case("two histograms", [native(), both], (0, 2, 0))
    two = [told(one, HISTOGRAM) for one in (native(), both)]
    yield Case("two histograms, metadata", two, (0, 2, 0))
    yield Case("histogram, exemplar", [with_exemplar(native())], (0, 1, 1))
    every = told(native(), HISTOGRAM, exemplar=TRACE)
    yield Case("histogram, metadata, exemplar", [every], (0, 1, 1))
    own = with_exemplar(native(custom=True))
    yield Case("histogram: custom bounds, exemplar", [own], (0, 1, 1))
    complex_ = [told(native(), HISTOGRAM, exemplar=TRACE), two[1]]
    yield Case("two histograms, metadata, an exemplar", complex_, (0, 2, 1))
    fifty = [told(native(f"h{i}"), HISTOGRAM, exemplar=TRACE) for i in range(50)]
    yield Case("fifty histograms", fifty, (0, 50, 50))


def metadata() -> Iterator[Case]:
    for name, kind, about in (
        ("counter", COUNTER, ("Requests.", "requests")),
        ("gauge", GAUGE, ("Memory.", "bytes")),
        ("no texts", GAUGE, ("", "")),
        ("odd texts", GAUGE, ('Bytes\nof "all".', "bytes/sec")),
        ("unspecified", 0, ("Something.", "")),
        ("info", INFO, ("Build.", "")),
        ("state set", STATE_SET, ("State.", "")),
        ("summary", SUMMARY, ("Latency.", "seconds")),
        ("gauge histogram", GAUGE_HISTOGRAM, ("Ages.", "seconds")),
    ):
        yield Case(f"metadata: {name}", [told(sample(), kind, about)], (1, 0, 0))
    one = told(sample("requests_total"), COUNTER)
    yield Case("metadata, created", [since(one, HOUR_MS)], (1, 0, 0))
    yield Case("metadata, three", [told(sample(f"m{i}"), GAUGE) for i in range(3)], (3, 0, 0))
    yield Case("metadata, no name", [], (0, 0, 0), (nameless(one),))
    yield Case("metadata, empty name", [], (0, 0, 0), (nameless(one, EMPTY_NAME),))
    alone = one._replace(samples=())
    yield Case("metadata without data", [alone], (0, 0, 0))
    yield Case("exemplars without data", [with_exemplar(alone)], (0, 0, 1))


def combinations() -> Iterator[Case]:
    one = told(sample("requests_total"), COUNTER, exemplar=TRACE)
    gauge = told(sample("temperature"), GAUGE)
    yield Case("metadata, exemplar", [one], (1, 0, 1))
    yield Case("two gauges, an exemplar", [gauge, told(sample(), GAUGE, exemplar=TRACE)], (2, 0, 1))
    yield Case("a counter and a gauge", [one, gauge], (2, 0, 1))
    old = with_exemplar(
        sample("m", ago_ms=HOUR_MS), TRACE._replace(time_ms=NOW_MS - 30 * MINUTE_MS)
    )
    yield Case("an old sample and a new one", [old, sample()], (2, 0, 1))
    fifty = [told(sample(f"m{i}_total", i), COUNTER, exemplar=TRACE) for i in range(50)]
    yield Case("fifty counters", fifty, (50, 0, 50))
    special = told(
        sample("special", who="anna@example.org 🚀", where="Köln"),
        GAUGE,
        ('"Quoted"\nhelp', "special/units"),
        Exemplar((("wer", "Jörg"),), 1.0, NOW_MS),
    )
    yield Case("special characters", [special], (1, 0, 1))


CASES = [
    *samples_of_any_value(),
    *exemplars(),
    *histograms(),
    *metadata(),
    *combinations(),
]


@pytest.fixture
def log() -> MemoryLog:
    return MemoryLog()


@pytest.fixture
async def gateway(each_reader: None, log: MemoryLog) -> AsyncIterator[Receiver]:  # noqa: ARG001
    async with receiver(log) as opened:
        yield opened


def expected(draft: Draft) -> dict[Labels, list[Bits]]:
    """Tell what the log must hold after a request."""
    found: dict[Labels, list[Bits]] = defaultdict(list)
    for one in draft:
        own = tuple(sorted(one.labels))
        found[own] += [bits(*sample) for sample in one.samples]
        messages = map(Histogram.FromString, one.histograms)
        found[own] += [bits(message.timestamp, message.count_int) for message in messages]
    return {labels: rows for labels, rows in found.items() if rows}


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
async def test_what_is_taken_is_told_and_in_the_log(
    gateway: Receiver, log: MemoryLog, case: Case
) -> None:
    answer = await gateway.draft([*case.bad, *case.good])
    assert (answer.status, answer.written) == (400 if case.bad else 204, case.written)
    assert bool(answer.text) == bool(case.bad)
    assert held(log) == expected(case.good)


@pytest.mark.parametrize("media", ["application/json", "image/png"])
async def test_another_type_is_told_before_the_body_is_looked_at(
    gateway: Receiver, log: MemoryLog, media: str
) -> None:
    corrupt = b"0" + packed(encode_v2([sample()]))[1:]
    answer = await gateway.post(corrupt, HEADERS[V2] | {"Content-Type": media})
    assert answer.status == 415
    assert not held(log)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_another_encoding_is_told_before_the_body_is_looked_at(
    gateway: Receiver, log: MemoryLog, encoding: str
) -> None:
    corrupt = b"0" + packed(encode_v2([sample()]))[1:]
    answer = await gateway.post(corrupt, HEADERS[V2] | {"Content-Encoding": encoding})
    assert answer.status == 415
    assert not held(log)


async def test_a_corrupt_body_of_version_2(gateway: Receiver, log: MemoryLog) -> None:
    corrupt = b"0" + packed(encode_v2([sample()]))[1:]
    answer = await gateway.post(corrupt, HEADERS[V2])
    assert (answer.status, answer.written) == (400, (0, 0, 0))
    assert not held(log)


async def test_a_corrupt_body_of_version_1(gateway: Receiver, log: MemoryLog) -> None:
    corrupt = b"\xff" + packed(encode_v1([sample()]))[1:]
    answer = await gateway.post(corrupt, HEADERS[V1])
    assert (answer.status, answer.written) == (400, None)
    assert not held(log)


async def test_version_1_is_taken_as_ever_and_told_no_counts(
    gateway: Receiver, log: MemoryLog
) -> None:
    draft = [sample("up"), sample("down", 0.0, instance="b")]
    answer = await gateway.draft(draft, V1)
    assert (answer.status, answer.written, answer.text) == (204, None, "")
    assert held(log) == expected(draft)
