"""One active, one standby: the lease that decides.

The standby waits here before it joins any consumer group, as a group of two would share the
partitions. The store's clock counts, so the clocks of two machines needn't agree.
"""

import asyncio
import contextlib
import logging
import os
import socket
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from watchkeep.schemas.errors import LeaseLostError, StoreError
from watchkeep.streams.patience import patiently
from watchkeep.streams.stores import Lease, LeaseStore

log = logging.getLogger(__name__)

TTL_S = 9.0
_RETRY_S = 1.0


@asynccontextmanager
async def held(store: LeaseStore, name: str, stop: asyncio.Event) -> AsyncIterator[Lease | None]:
    """Wait for a lease, hold it while the block runs, and give it back.

    Yields:
        The lease, or None when `stop` was set before it was free.

    Raises:
        LeaseLostError: it went to another process meanwhile; the block is cancelled.
    """
    lease = await _wait_for(store, name, stop)
    if lease is None:
        yield None
        return
    log.info("active: holds the lease %s, token %d", name, lease.token)
    try:
        async with asyncio.TaskGroup() as tasks:
            renewal = tasks.create_task(_renew(store, lease))
            yield lease
            renewal.cancel()
    except* LeaseLostError as lost:
        raise lost.exceptions[0] from None
    finally:
        with contextlib.suppress(StoreError):  # It runs out by itself.
            await store.release_lease(lease)


async def _wait_for(store: LeaseStore, name: str, stop: asyncio.Event) -> Lease | None:
    # Containers may share a host's name, and have the same few process ids.
    holder = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    told = False
    while not stop.is_set():
        lease = await patiently(lambda: store.acquire_lease(name, holder, TTL_S))
        if lease is not None:
            return lease
        if not told:
            log.info("standby: another process holds the lease %s", name)
            told = True
        try:
            await asyncio.wait_for(stop.wait(), _RETRY_S)
        except TimeoutError:
            continue
    return None


async def _renew(store: LeaseStore, lease: Lease) -> None:
    while True:
        await asyncio.sleep(TTL_S / 3)
        # While the store is gone nobody else can take the lease either.
        if not await patiently(lambda: store.renew_lease(lease, TTL_S)):
            raise LeaseLostError(f"the lease {lease.name} is another process's now")
