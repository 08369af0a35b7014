"""Waiting for a database that is out of reach."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from watchkeep.schemas.errors import StoreError
from watchkeep.streams.vitals import VITALS

log = logging.getLogger(__name__)

Result = TypeVar("Result")

_RETRY_S: Final = 1.0


async def patiently(call: Callable[[], Awaitable[Result]]) -> Result:
    """Call until the store can be reached; only for what may be done twice."""
    while True:
        try:
            return await call()
        except StoreError as error:
            log.warning("waits for the database: %s", error)
            with VITALS.waiting("the database can't be reached"):
                await asyncio.sleep(_RETRY_S * random.uniform(0.5, 1.5))  # noqa: S311 - It spreads retries.
