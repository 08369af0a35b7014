"""A warm start: days before the first sample, written straight to the store as rollups.

The samples go through the pipeline of detect, so the rollups are those that it would have written.
Nothing else is kept of those days: no windows, and no state.
"""

from collections.abc import AsyncIterator
from typing import Final

from watchkeep.schemas.frame import decode
from watchkeep.schemas.settings import Detect
from watchkeep.shop.frames import frames
from watchkeep.shop.model import Shop
from watchkeep.streams.pipeline import Shard
from watchkeep.streams.stores import DetectStore, Rollups, Write

_SAMPLES: Final = 100_000
_ROWS_A_WRITE: Final = 20_000
_WRITER: Final = "warm start"


async def warm_start(shop: Shop, store: DetectStore, settings: Detect) -> AsyncIterator[int]:
    """Write the rollups of a shop's days before it is sent.

    Yields:
        how far it is, in ms since 1970.
    """
    shards: dict[int, Shard] = {}
    waiting: list[Rollups] = []
    number = rows = 0
    for record in frames(shop, _SAMPLES, before=True):
        if record.shard not in shards:
            shards[record.shard] = Shard(settings)
        shard = shards[record.shard]
        made = shard.apply(decode(record.value)).rollups
        waiting += made
        rows += sum(len(rollups.at_ms) for rollups in made)
        if rows >= _ROWS_A_WRITE:
            number += 1
            await store.write_rollups(waiting, Write(_WRITER, number))
            waiting, rows = [], 0
            yield record.clock_ms
    if waiting:
        await store.write_rollups(waiting, Write(_WRITER, number + 1))
    yield shop.live_ms
