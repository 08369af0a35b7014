"""The partitions of detect: claimed in the store, loaded from their snapshot, checked with the log.

The place in the store is the truth, and the consumer group's committed offset only a hint: whatever
lies between a snapshot and what the group delivers first is read from the log here. So neither a
commit that runs ahead, nor a database restored from a backup, can leave a hole.
"""

import asyncio
import logging
from dataclasses import dataclass, field
from typing import Final

from watchkeep.schemas.errors import DecodeError
from watchkeep.schemas.settings import Detect
from watchkeep.schemas.window import Window
from watchkeep.streams import snapshot
from watchkeep.streams.pipeline import Shard
from watchkeep.streams.places import Standing, standing
from watchkeep.streams.ports import NOWHERE, Attempts, Claim, DetectStore, Place, Source

log = logging.getLogger(__name__)

# A second claim without a snapshot between them means that the first worker died of something.
_CAREFUL_FROM: Final = 2


@dataclass(slots=True)
class Partition:
    """One partition of the metrics topic in this worker.

    Attributes:
        token: the right to write its snapshots.
        place: the last record that the state holds.
        saved: the place of the snapshot in the store; `manifest`: its digests.
        witness: a place that was seen in this log; if it is gone, the log was made anew.
        saved_s: when it was written, on the loop's clock.
        told_ms: the log time up to which every window is published.
        attempts: the record that this stage has died of.
        careful: note each record before it is tried, as one of them may end the process.
        owned: it is assigned to this worker; a state that isn't is kept for a while.
        lock: the state changes, and is copied, by one task at a time.
    """

    shard: Shard
    token: int = 0
    place: Place = NOWHERE
    saved: Place = NOWHERE
    witness: Place = NOWHERE
    manifest: bytes = b""
    saved_s: float = 0.0
    told_ms: int | None = None
    attempts: Attempts | None = None
    careful: bool = False
    owned: bool = True
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


async def adopt(
    number: int, kept: Partition | None, store: DetectStore, settings: Detect
) -> tuple[Partition, list[Window]]:
    """Claim a partition, and find its state: the one kept here, or the one in the store.

    Args:
        number: the partition.
        kept: what this worker had of it before it was assigned to others.
        store: where the snapshots are.
        settings: the detection settings in force.

    Returns:
        The partition, and windows to publish: those that a state which is given up leaves open.

    Raises:
        StoreError: the database can't be reached.
    """
    claim = await store.claim(number)
    left_open: list[Window] = []
    if kept is not None and (claim.token, claim.place) == (kept.token + 1, kept.saved):
        partition = kept  # Nobody else has claimed it meanwhile.
    else:
        shard, left_open = await _loaded(number, claim, store, settings)
        partition = Partition(shard, place=claim.place, saved=claim.place, manifest=claim.manifest)
    partition.token = claim.token
    partition.owned = True
    partition.careful = claim.unsaved >= _CAREFUL_FROM
    partition.attempts = await store.attempts("detect", number)
    return partition, left_open


async def _loaded(
    number: int, claim: Claim, store: DetectStore, settings: Detect
) -> tuple[Shard, list[Window]]:
    if claim.place.offset < 0:
        return Shard(settings), []
    try:
        shard = snapshot.load(claim.manifest, await store.load_blocks(number), settings)
    except DecodeError as error:
        log.warning("shard %d starts cold: %s", number, error)
        return Shard(settings), []
    if claim.settings != settings.version:
        log.warning("shard %d starts cold: the detection settings have changed", number)
        return Shard(settings), shard.end()
    return shard, []


async def check(number: int, partition: Partition, source: Source) -> Standing:
    """Find where reading goes on: after the place, or where the log begins if it isn't there."""
    partition.witness = NOWHERE
    if partition.place.offset < 0:
        return Standing.SAME
    found = await standing(source, number, partition.place)
    if found is Standing.ANEW:
        partition.place = NOWHERE
    elif found is Standing.SAME:
        partition.witness = partition.place
    else:
        begin = (await source.spans([number]))[number].begin
        if missing := begin - partition.place.offset - 1:
            log.warning(
                "shard %d: the log's retention has removed %d records that were not read: offsets "
                "%d to %d; a longer retention.ms of %s gives more time",
                number,
                missing,
                partition.place.offset + 1,
                begin - 1,
                source.topic,
            )
    return found
