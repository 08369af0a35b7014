"""The database is brought up to date, and what is wrong with its URL is told."""

import asyncio
import traceback

import psycopg
import pytest

from watchkeep.schemas.errors import ConfigError
from watchkeep.streams.store import check, migrate, open_to_read, pending


async def test_migrating_again_changes_nothing(database_url: str) -> None:
    steps = [
        "0001_core.sql",
        "0002_delivery.sql",
        "0003_writers.sql",
        "0004_catalogue.sql",
        "0005_rarity.sql",
        "0006_river.sql",
        "0007_windows_by_entity.sql",
    ]
    assert await pending(database_url) == steps
    first = await asyncio.gather(migrate(database_url), migrate(database_url))
    assert sorted(first) == [[], steps]
    assert await migrate(database_url) == await pending(database_url) == []


async def test_who_only_reads_is_told_to_migrate(database_url: str) -> None:
    with pytest.raises(ConfigError, match="`watchkeep migrate`"):
        async with open_to_read(database_url):
            pass
    await migrate(database_url)
    async with open_to_read(database_url) as store:
        assert await store.newest_cell_ms() is None


async def test_a_database_of_a_newer_watchkeep_is_refused(database_url: str) -> None:
    await migrate(database_url)
    with psycopg.connect(database_url) as connection:
        connection.execute("INSERT INTO schema_migrations VALUES (999, 'later')")
    with pytest.raises(ConfigError, match="newer Watchkeep"):
        await migrate(database_url)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:hunter2@127.0.0.1:1/x",
        "postgresql://u:hun@ter2@127.0.0.1:1/x",
        "postgresql://u:hun/ter2@127.0.0.1:1/x",
        "postgresql://u:hun%ter2@127.0.0.1:1/x",
        "postgresql+asyncpg://u:hunter2@127.0.0.1:1/x",
        "nonsense",
    ],
)
async def test_a_wrong_url_is_told_in_one_line_without_the_password(url: str) -> None:
    with pytest.raises(ConfigError, match=r"^database\.url: ") as refused:
        await check(url)
    assert "\n" not in str(refused.value)
    told = "".join(traceback.format_exception(refused.value))
    assert "hun" not in told
    assert "ter2" not in told
