"""A reader knows the end of the log from a broker that has fallen silent."""

import pytest
from aiokafka import TopicPartition

from watchkeep.schemas.errors import LogError
from watchkeep.streams.kafka import reader


class Silent:
    """A fake of a consumer whose broker brings nothing."""

    async def getmany(self, *_: TopicPartition, timeout_ms: int) -> dict[TopicPartition, object]:
        """Bring nothing."""
        assert timeout_ms
        return {}

    async def position(self, _: TopicPartition) -> int:
        """Stand still."""
        return 4

    def pause(self, _: TopicPartition) -> None:
        """Have nothing to pause."""


async def read(end: int) -> list[object]:
    return [m async for m in reader._messages(Silent(), {TopicPartition("t", 0): end})]


async def test_a_broker_that_falls_silent_is_not_the_log_s_end() -> None:
    with pytest.raises(LogError, match="brings nothing for 5 s"):
        await read(9)


async def test_marks_that_no_message_stands_for_are_the_end() -> None:
    assert await read(4) == []
