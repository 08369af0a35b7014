"""The log in memory keeps the promises of the ports: order, groups, acks and places."""

import pytest

from watchkeep.streams.memory import Entry, MemoryLog
from watchkeep.streams.ports import Record, Sink, Source, Span

ALL = [(0, 0, b"a"), (0, 1, b"b"), (0, 2, b"c"), (5, 0, b"z")]


@pytest.fixture
async def log() -> MemoryLog:
    """Make a log with two partitions of `t`, and another topic."""
    made = MemoryLog()
    sink: Sink = made
    for value in (b"a", b"b", b"c"):
        await sink.send("t", value)
    await sink.send("t", b"z", partition=5)
    await sink.send("other", b"not asked for")
    return made


async def delivered(source: Source) -> list[Record]:
    return [record async for record in source.records()]


def places(records: list[Record]) -> list[tuple[int, int, bytes | None]]:
    return [(record.partition, record.offset, record.value) for record in records]


async def test_a_partition_comes_in_the_order_of_its_offsets(log: MemoryLog) -> None:
    assert places(await delivered(log.source("t", "g"))) == ALL


async def test_what_is_not_acked_comes_again(log: MemoryLog) -> None:
    await delivered(log.source("t", "g"))
    assert places(await delivered(log.source("t", "g"))) == ALL


async def test_a_group_goes_on_where_it_has_acked(log: MemoryLog) -> None:
    records = await delivered(log.source("t", "g"))
    for record in records[:2]:
        record.ack()
    await log.send("t", b"d")
    assert places(await delivered(log.source("t", "g"))) == [ALL[2], (0, 3, b"d"), ALL[3]]
    assert places(await delivered(log.source("t", "another"))) == [*ALL[:3], (0, 3, b"d"), ALL[3]]


async def test_an_ack_covers_what_is_before_it_and_is_never_taken_back(log: MemoryLog) -> None:
    records = await delivered(log.source("t", "g"))
    records[2].ack()
    records[0].ack()
    assert places(await delivered(log.source("t", "g"))) == [ALL[3]]


async def test_what_is_written_meanwhile_comes_too(log: MemoryLog) -> None:
    values = []
    async for record in log.source("other", "g").records():
        values.append(record.value)
        if len(values) < 3:
            await log.send("other", b"more")
    assert values == [b"not asked for", b"more", b"more"]


async def test_records_are_read_by_their_places(log: MemoryLog) -> None:
    source: Source = log.source("t", "g")
    assert source.assigned() == {0, 5}
    assert await source.spans([0, 5, 7]) == {0: (0, 3), 5: (0, 1), 7: (0, 0)}
    assert places([record async for record in source.between({0: Span(1, 9)})]) == ALL[1:3]
    assert places([record async for record in source.between({0: Span(-5, 1)})]) == ALL[:1]
    both = {5: Span(0, 1), 0: Span(2, 3)}
    assert sorted(places([record async for record in source.between(both)])) == ALL[2:]
    assert not [record async for record in source.between({7: Span(0, 9)})]
    assert sorted(log.partitions) == [("other", 0), ("t", 0), ("t", 5)]


async def test_a_record_is_kept_with_its_key_and_headers() -> None:
    log = MemoryLog()
    await log.send("t", None, key=b"k", headers={"h": "1"})
    assert log.partitions["t", 0] == [Entry(b"k", None, {"h": "1"})]
    assert log.values("t") == [None]
