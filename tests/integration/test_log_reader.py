"""Reading by offsets, transactions that fence, and dead letters, on each broker."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from watchkeep.schemas.errors import ConfigError, LogError
from watchkeep.schemas.settings import Broker
from watchkeep.streams import dlq, kafka, places, vitals
from watchkeep.streams.dead_letters import bury
from watchkeep.streams.places import Standing, guard, record_hash, standings
from watchkeep.streams.ports import Place, Record, Span
from watchkeep.streams.topics import ALERTS, ANOMALIES, DEAD_LETTERS, METRICS, specs
from watchkeep.streams.vitals import Vitals

pytestmark = pytest.mark.broker


class Source(kafka.LogReader):
    """A source that only reads by places."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        super().__init__(bootstrap, topic)
        self.topic = topic


@pytest.fixture
async def ready(broker: Broker) -> Broker:
    """Create the topics on a broker."""
    await kafka.create_topics(broker.bootstrap, specs())
    return broker


@pytest.fixture
async def reader(ready: Broker) -> AsyncIterator[kafka.LogReader]:
    """Open a reader of metrics that hold three records in shard 3, and one in shard 40."""
    async with kafka.open_sink(ready) as sink:
        for value in (b"a", b"b", b"c"):
            await sink.send(METRICS, value, partition=3)
        await sink.send(METRICS, b"z", partition=40)
    made = kafka.LogReader(ready.bootstrap, METRICS)
    yield made
    await made.close()


async def read(reader: kafka.LogReader, ranges: dict[int, Span]) -> list[tuple[int, int, bytes]]:
    found = [record async for record in reader.between(ranges)]
    return [(record.partition, record.offset, record.value or b"") for record in found]


async def test_records_are_read_by_their_places(reader: kafka.LogReader) -> None:
    assert await reader.spans([3, 40, 7]) == {3: (0, 3), 40: (0, 1), 7: (0, 0)}
    assert await reader.spans([]) == {}
    assert await read(reader, {3: Span(1, 9)}) == [(3, 1, b"b"), (3, 2, b"c")]
    both = {40: Span(0, 1), 3: Span(-4, 2), 7: Span(0, 5)}
    assert sorted(await read(reader, both)) == [(3, 0, b"a"), (3, 1, b"b"), (40, 0, b"z")]
    assert await read(reader, {7: Span(0, 9), 3: Span(3, 9)}) == []


async def test_a_reader_that_was_left_in_the_middle_reads_on(reader: kafka.LogReader) -> None:
    for _ in range(3):
        async for record in reader.between({3: Span(0, 3)}):
            assert record.value == b"a"
            break
    assert len(await read(reader, {3: Span(0, 3)})) == 3


async def test_a_place_is_told_from_one_in_another_log(reader: kafka.LogReader) -> None:
    source = Source(reader._bootstrap, METRICS)
    known = {3: Place(2, record_hash(b"c")), 40: Place(0, record_hash(b"y"))}
    found = await standings(source, known | {7: Place(0, "aa")})  # type: ignore[arg-type]  # Half a source.
    assert found == {3: Standing.SAME, 40: Standing.ANEW, 7: Standing.ANEW}
    await source.close()


async def test_who_was_succeeded_can_not_write_any_more(kafka_broker: Broker) -> None:
    await kafka.create_topics(kafka_broker.bootstrap, specs())
    async with kafka.open_sink(kafka_broker, fenced_as="incidents") as paused:
        await paused.send(ALERTS, b"1", key=b"i1")
        async with kafka.open_sink(kafka_broker, fenced_as="incidents") as successor:
            await successor.send(ALERTS, b"2", key=b"i1")
            with pytest.raises(LogError):
                await paused.send(ALERTS, b"3", key=b"i1")
            await successor.send(ALERTS, b"4", key=b"i1")
    # Each record is followed by a mark of its transaction, which is no message.
    values = [
        record.value async for record in kafka.tail(kafka_broker.bootstrap, ALERTS, follow=False)
    ]
    assert values == [b"1", b"2", b"4"]


async def test_a_mark_at_the_end_keeps_no_reader_waiting(
    kafka_broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = Vitals()
    monkeypatch.setattr(places, "_GUARD_S", 0.05)
    monkeypatch.setattr(places, "VITALS", seen)
    monkeypatch.setattr(vitals, "STUCK_S", 1.0)
    await kafka.create_topics(kafka_broker.bootstrap, specs())
    async with kafka.open_sink(kafka_broker, fenced_as="incidents") as sink:
        await sink.send(ALERTS, b"1", key=b"i1")
    source = Source(kafka_broker.bootstrap, ALERTS)
    assert (await source.spans([0]))[0].end == 2
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(4):
            await guard(source, lambda: {0: 0})  # type: ignore[arg-type]  # Half a source.
    await source.close()
    assert seen.lag == {0: 0}


async def test_dead_letters_are_listed_shown_and_sent_once_more(
    ready: Broker, capsys: pytest.CaptureFixture[str]
) -> None:
    await dlq.list_letters(ready, as_json=False)
    assert capsys.readouterr().out == "no dead letters\n"
    async with kafka.open_sink(ready) as sink:
        for topic, partition, value in ((METRICS, 9, b"\x00\x1b[2Jpoison"), (ALERTS, 0, b"{")):
            record = Record(topic, partition, 7, value, lambda: None, b"k")
            await bury(sink, record, "no magic \x1b[31m")
        await bury(sink, record, "no magic, after a crash")
    await dlq.list_letters(ready, as_json=False)
    table = capsys.readouterr().out
    assert f"{METRICS}/9 offset 7" in table
    assert table.count("no magic") == 2
    assert "\x1b" not in table
    await dlq.show_letter(ready, 0)
    shown = capsys.readouterr().out
    assert "00 1b 5b 32 4a 70 6f 69 73 6f 6e" in shown
    assert "\x1b" not in shown
    told = await dlq.replay(ready, [0, 1])
    assert told == [f"sent 0 to {METRICS}/9 once more", f"sent 1 to {ALERTS}/0 once more"]
    (again,) = [record async for record in kafka.tail(ready.bootstrap, ALERTS, follow=False)]
    assert (again.value, again.key) == (b"{", b"k")
    with pytest.raises(ConfigError, match="there is no dead letter 5"):
        await dlq.replay(ready, [5])


async def test_a_record_as_large_as_the_log_takes_can_be_put_aside(ready: Broker) -> None:
    record = Record(METRICS, 9, 7, bytes(1_048_000), lambda: None, b"k")
    async with kafka.open_sink(ready) as sink:
        await bury(sink, record, "no magic" * 1_000)
    (kept,) = [r async for r in kafka.tail(ready.bootstrap, DEAD_LETTERS, follow=False)]
    assert kept.value == record.value


async def test_a_dead_letter_that_came_from_nowhere_is_not_sent(ready: Broker) -> None:
    async with kafka.open_sink(ready) as sink:
        for headers in ({}, {"topic": "x", "partition": "0"}, {"topic": ANOMALIES}):
            await sink.send(DEAD_LETTERS, b"?", headers=headers)
    for number in range(3):
        with pytest.raises(ConfigError, match=rf"dead letter {number} doesn't say where it was"):
            await dlq.replay(ready, [number])
