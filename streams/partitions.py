"""The partitions of detect: claimed in the store, loaded from their snapshot, checked with the log.

The place in the store is the truth, and the consumer group's committed offset only a hint: whatever
lies between a snapshot and what the group delivers first is read from the log here. So neither a
commit that runs ahead, nor a database restored from a backup, can leave a hole.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from watchkeep.schemas.errors import DecodeError
from watchkeep.schemas.settings import Detect
from watchkeep.schemas.window import Anomaly, ColdStart
from watchkeep.streams import snapshot
from watchkeep.streams.patience import patiently
from watchkeep.streams.pipeline import Shard
from watchkeep.streams.places import Standing, standings
from watchkeep.streams.ports import NOWHERE, Place, Source
from watchkeep.streams.stores import Attempts, Claim, DetectStore

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
        saved_s: when it was written, on the loop's clock; `counted_s`: when its census was.
        told_ms: the log time up to which every window is published.
        attempts: the record that this stage has died of.
        careful: note each record before it is tried, as one of them may end the process;
            `tried`: how many were since.
        whole: no record is half applied: what follows from each is published.
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
    counted_s: float = 0.0
    told_ms: int | None = None
    attempts: Attempts | None = None
    careful: bool = False
    tried: int = 0
    whole: bool = True
    owned: bool = True
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


async def adopt(
    kept: Mapping[int, Partition | None], store: DetectStore, settings: Detect
) -> tuple[dict[int, Partition], list[Anomaly]]:
    """Claim partitions, and find their states: those kept here, or those in the store.

    Args:
        kept: by partition, what this worker had of it before it was assigned to others.
        store: where the snapshots are.
        settings: the detection settings in force.

    Returns:
        The partitions, and what to publish about states that are given up: the windows that they
        leave open, or that nobody knows which.

    """
    # Each is repeated on its own: a second claim would look like a death after the first.
    claims = await patiently(lambda: store.claim(kept))
    died = await patiently(lambda: store.attempts("detect", kept))
    partitions: dict[int, Partition] = {}
    left_open: list[Anomaly] = []
    for number, claim in claims.items():
        partition = kept[number]
        if (
            partition is None
            or not partition.whole
            or (claim.token, claim.place) != (partition.token + 1, partition.saved)
        ):
            # Somebody else has claimed it meanwhile, or nobody here ever had it, or all of it.
            shard, given_up = await _loaded(number, claim, store, settings)
            left_open += given_up
            place = claim.place
            partition = Partition(shard, place=place, saved=place, manifest=claim.manifest)
        partition.token = claim.token
        partition.owned = True
        partition.careful = claim.unsaved >= _CAREFUL_FROM
        partition.attempts = died.get(number)
        partitions[number] = partition
    return partitions, left_open


async def _loaded(
    number: int, claim: Claim, store: DetectStore, settings: Detect
) -> tuple[Shard, Sequence[Anomaly]]:
    # A state without a place is one of a log that was made anew, and of which nothing came yet.
    if claim.place.offset < 0 and not claim.manifest:
        return Shard(settings, number), []
    # Windows may have been revised after the snapshot, so they can't be closed from it.
    given_up = [ColdStart(shard=number)]
    if claim.settings != settings.state_version:
        log.warning("shard %d starts cold: the detection settings have changed", number)
        return Shard(settings, number), given_up
    try:
        blocks = await patiently(lambda: store.load_blocks(number))
        return snapshot.load(claim.manifest, blocks, settings, number), []
    except DecodeError as error:
        log.warning("shard %d starts cold: %s", number, error)
        return Shard(settings, number), given_up


async def check(partitions: Mapping[int, Partition], source: Source) -> bool:
    """Find where reading goes on: after the place, or where the log begins if it isn't there.

    Returns:
        Whether the log was made anew.
    """
    begun = {n: p for n, p in partitions.items() if p.place.offset >= 0}
    for number, found in (await standings(source, {n: p.place for n, p in begun.items()})).items():
        partition = begun[number]
        partition.witness = partition.place if found is Standing.SAME else NOWHERE
        if found is Standing.ANEW:
            partition.place = NOWHERE
        elif found is Standing.EXPIRED:
            begin = (await source.spans([number]))[number].begin
            _tell_expired(source.topic, number, partition.place.offset + 1, begin)
    return any(partition.place.offset < 0 for partition in begun.values())


def _tell_expired(topic: str, number: int, next_offset: int, begin: int) -> None:
    if begin > next_offset:
        log.warning(
            "shard %d: the log's retention has removed %d records that were not read: offsets %d "
            "to %d; a longer retention.ms of %s gives more time",
            number,
            begin - next_offset,
            next_offset,
            begin - 1,
            topic,
        )
