"""The connection to PostgreSQL: checked at start, pooled, and its failures named."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.errors import ReadOnlySqlTransaction
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from watchkeep.schemas.errors import ConfigError, StoreError, UnreachableError

_CONNECT_S: Final = 5
# A statement that takes longer stands before a database that is as good as gone.
_ANSWER_S: Final = 30.0
_POOL_S: Final = 5.0
_CONNECTIONS: Final = 4

Connection = psycopg.AsyncConnection[Any]


async def check(url: str) -> None:
    """Make sure that the database can be reached.

    Raises:
        ConfigError: it can't, in one line without the password.
    """
    async with await connect(url):
        pass


async def connect(url: str) -> Connection:
    """Open a connection outside the pool.

    Raises:
        ConfigError: the database can't be reached.
    """
    try:
        return await psycopg.AsyncConnection.connect(
            url, autocommit=True, connect_timeout=_CONNECT_S
        )
    except psycopg.Error as error:
        # The cause may quote the URL, and with it the password.
        raise UnreachableError(_unreachable(url, error)) from None


def place(url: str) -> str:
    """Tell where a database is, without user and password: ``db:5432/watchkeep``.

    Raises:
        ConfigError: this is no URL of a PostgreSQL.
    """
    try:
        parts = conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        raise ConfigError(
            "database.url: this is no PostgreSQL URL; "
            "postgresql://user:password@host:5432/name is expected"
        ) from None
    host, port = parts.get("host", "localhost"), parts.get("port", 5432)
    return f"{host}:{port}/{parts.get('dbname', '')}"


def _unreachable(url: str, error: psycopg.Error) -> str:
    where = place(url)
    if "@" in where:
        # Cut at the wrong place: what passes for host or name may be the password's rest.
        return (
            "database.url: an @ or / in the user or password parts the URL at the wrong place; "
            "write %40 for @ and %2F for /"
        )
    reason = " ".join(str(error).split())
    if password := conninfo_to_dict(url).get("password"):
        reason = reason.replace(str(password), "********")
    return (
        f"database.url: can't connect to {where} ({reason}); is it running, and are host, user, "
        "password and database name right?"
    )


def signed(number: int) -> int:
    """Read a 64-bit id as the database keeps it."""
    return number - 2**64 if number >= 2**63 else number


def unsigned(number: int) -> int:
    """Read an id back."""
    return number % 2**64


class Database:
    """A pool of connections that come back by themselves once the database does."""

    def __init__(self, pool: AsyncConnectionPool[Connection]) -> None:
        self._pool = pool

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """Lend a connection; what is done with it is kept whole, or not at all.

        Raises:
            StoreError: the database is out of reach. When the end of the transaction was not
                answered, it may have been kept.
        """
        try:
            async with asyncio.timeout(_ANSWER_S), self._pool.connection() as connection:
                try:
                    yield connection
                except ReadOnlySqlTransaction:
                    # A failover has left this server behind: the next one may be the new primary.
                    await connection.close()
                    raise
        except (
            psycopg.OperationalError,
            psycopg.InterfaceError,
            ReadOnlySqlTransaction,
            PoolTimeout,
        ) as error:
            raise StoreError(" ".join(str(error).split()) or type(error).__name__) from error
        except TimeoutError as error:
            raise StoreError(f"no answer within {_ANSWER_S:.0f} s") from error

    async def rows(
        self, query: str, values: Sequence[object] | Mapping[str, object] = ()
    ) -> list[tuple[Any, ...]]:
        """Run one statement, and return what it gives."""
        async with self.transaction() as connection:
            cursor = await connection.execute(query.encode(), values)
            return await cursor.fetchall() if cursor.description else []


class Tables:
    """Some tables of the database, and what is done with them."""

    def __init__(self, database: Database) -> None:
        self._database = database


@asynccontextmanager
async def open_database(url: str) -> AsyncIterator[Database]:
    """Connect to a migrated database.

    Raises:
        ConfigError: it can't be reached.
    """
    await check(url)
    pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
        url,
        min_size=1,
        max_size=_CONNECTIONS,
        timeout=_POOL_S,
        # Attempts to connect wait ever longer; giving up soon, the next request begins anew.
        reconnect_timeout=_POOL_S,
        kwargs={"connect_timeout": _CONNECT_S},
        open=False,
    )
    async with pool:
        yield Database(pool)
