"""The store in memory and the one on each PostgreSQL, which keep the same promises."""

from collections.abc import AsyncIterator, Callable

import pytest

from watchkeep.streams.clocks import WallClock
from watchkeep.streams.memory_store import MemoryStore
from watchkeep.streams.store import PgStore, migrate, open_store


@pytest.fixture(params=["memory", "embedded", "debian"])
async def store(
    request: pytest.FixtureRequest, new_database: Callable[[str], str]
) -> AsyncIterator[MemoryStore | PgStore]:
    if request.param == "memory":
        yield MemoryStore(WallClock())
        return
    url = new_database(request.getfixturevalue(f"{request.param}_database"))
    await migrate(url)
    async with open_store(url) as opened:
        yield opened
