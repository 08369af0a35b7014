"""Numbered SQL, applied in order and once."""

from importlib.resources import files
from typing import Final

from watchkeep.schemas.errors import ConfigError
from watchkeep.streams.store.connection import connect

_MIGRATION_LOCK: Final = 7_220_418  # Any number that nobody else locks.


def _steps() -> list[tuple[int, str, str]]:
    return sorted(
        (int(file.name.split("_")[0]), file.name, file.read_text())
        for file in files("watchkeep.schemas").joinpath("sql").iterdir()
        if file.name.endswith(".sql")
    )


async def pending(url: str) -> list[str]:
    """Name the steps that `migrate` would take.

    Raises:
        ConfigError: the database can't be reached.
    """
    async with await connect(url) as connection:
        cursor = await connection.execute("SELECT to_regclass('schema_migrations')::text")
        row = await cursor.fetchone()
        if row is None or row[0] is None:
            return [name for _, name, _ in _steps()]
        cursor = await connection.execute("SELECT version FROM schema_migrations")
        taken = {version for (version,) in await cursor.fetchall()}
        return [name for number, name, _ in _steps() if number not in taken]


async def migrate(url: str) -> list[str]:
    """Bring the database's schema up to date, and return the names of the steps taken.

    Raises:
        ConfigError: it can't be reached, or a newer Watchkeep has used it.
    """
    steps = _steps()
    async with await connect(url) as connection:
        # Two processes that start together take turns.
        await connection.execute("SELECT pg_advisory_lock(%s)", [_MIGRATION_LOCK])
        await connection.execute(
            "CREATE TABLE IF NOT EXISTS schema_migrations (version integer PRIMARY KEY, "
            "name text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
        )
        cursor = await connection.execute("SELECT max(version) FROM schema_migrations")
        row = await cursor.fetchone()
        version = (row[0] if row else None) or 0
        if version > steps[-1][0]:
            raise ConfigError(
                f"database.url: its schema is version {version}, this Watchkeep knows "
                f"{steps[-1][0]}; install the newer Watchkeep that has used it before"
            )
        taken = [step for step in steps if step[0] > version]
        for number, name, text in taken:
            async with connection.transaction():
                await connection.execute(text.encode())
                await connection.execute(
                    "INSERT INTO schema_migrations (version, name) VALUES (%s, %s)", [number, name]
                )
        return [name for _, name, _ in taken]
