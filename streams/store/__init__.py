"""The store on PostgreSQL: the one place that imports psycopg."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from watchkeep.schemas.errors import ConfigError
from watchkeep.streams.store.catalogue import CatalogueTables
from watchkeep.streams.store.connection import check, open_database, place
from watchkeep.streams.store.curves import CurveTables
from watchkeep.streams.store.detect import DetectTables
from watchkeep.streams.store.doctor import DoctorTables
from watchkeep.streams.store.incidents import IncidentTables
from watchkeep.streams.store.inspect import InspectTables
from watchkeep.streams.store.migrations import migrate, pending
from watchkeep.streams.store.notify import NotifyTables
from watchkeep.streams.store.places import LeaseTables, PlaceTables

__all__ = ["PgStore", "check", "migrate", "open_store", "open_to_read", "pending", "place"]


class PgStore(
    CatalogueTables,
    CurveTables,
    DetectTables,
    DoctorTables,
    IncidentTables,
    InspectTables,
    NotifyTables,
    PlaceTables,
    LeaseTables,
):
    """All that the stages keep, in one database."""


@asynccontextmanager
async def open_store(url: str) -> AsyncIterator[PgStore]:
    """Connect to a migrated database.

    Raises:
        ConfigError: it can't be reached.
    """
    async with open_database(url) as database:
        yield PgStore(database)


@asynccontextmanager
async def open_to_read(url: str) -> AsyncIterator[PgStore]:
    """Connect to a database that may not be migrated yet.

    Raises:
        ConfigError: it can't be reached, or its tables aren't those of this version.
    """
    if await pending(url):
        raise ConfigError(
            "database.url: its tables are not up to date; `watchkeep migrate` brings them there, "
            "and so does a start of `watchkeep up`"
        )
    async with open_store(url) as store:
        yield store
