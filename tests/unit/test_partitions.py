"""Where a partition's reading goes on: after its place, or where the log begins."""

from collections.abc import AsyncGenerator, Collection, Mapping

import pytest

from watchkeep.schemas.settings import Detect
from watchkeep.streams.memory import MemorySource
from watchkeep.streams.partitions import Partition, check
from watchkeep.streams.pipeline import Shard
from watchkeep.streams.places import record_hash
from watchkeep.streams.ports import NOWHERE, Place, Record, Span


class Shortened(MemorySource):
    """A log whose retention has removed what lies before offset 10; record n is its number."""

    def __init__(self) -> None:
        self.topic = "t"

    async def spans(self, partitions: Collection[int]) -> dict[int, Span]:
        """Tell what is left."""
        return dict.fromkeys(partitions, Span(10, 20))

    async def between(self, ranges: Mapping[int, Span]) -> AsyncGenerator[Record, None]:
        """Read what is left."""
        for partition, (begin, end) in ranges.items():
            for offset in range(max(begin, 10), min(end, 20)):
                yield Record("t", partition, offset, str(offset).encode(), lambda: None)


def at(offset: int, value: str) -> Partition:
    return Partition(Shard(Detect()), place=Place(offset, record_hash(value.encode())))


@pytest.mark.parametrize(
    ("partition", "place", "anew", "told"),
    [
        (at(12, "12"), 12, False, ""),
        (at(4, "4"), 4, False, "removed 5 records that were not read: offsets 5 to 9"),
        (at(9, "9"), 9, False, ""),
        (at(12, "other"), -1, True, ""),
        (at(20, "20"), -1, True, ""),
        (Partition(Shard(Detect())), -1, False, ""),
    ],
)
async def test_reading_goes_on_where_the_log_allows_it(
    partition: Partition, place: int, anew: bool, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert await check({3: partition}, Shortened()) is anew
    assert partition.place.offset == place
    assert told in caplog.text
    assert bool(caplog.text) is bool(told)
    assert (partition.witness == NOWHERE) is (place != 12)
