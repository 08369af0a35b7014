"""Places in the log, and whether the log still is the one that a place was taken in."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from enum import Enum
from typing import Final

import xxhash

from watchkeep.schemas.errors import LogAnewError, LogError, StuckError
from watchkeep.streams.ports import Place, Source, Span
from watchkeep.streams.vitals import VITALS

_GUARD_S: Final = 5.0


class Standing(Enum):
    """What has become of the record at a place."""

    SAME = "it is there"
    EXPIRED = "the log's retention has removed it"
    ANEW = "another record, or none, is there: the log was made anew"


def record_hash(value: bytes | None) -> str:
    """Name a record's bytes: xxh3-64 in hex."""
    return xxhash.xxh3_64_hexdigest(value or b"")


async def standings(source: Source, places: Mapping[int, Place]) -> dict[int, Standing]:
    """Tell whether partitions still hold the records of their places."""
    spans = await source.spans(places)
    found = {
        partition: Standing.ANEW if place.offset >= spans[partition].end else Standing.EXPIRED
        for partition, place in places.items()
    }
    # A record that isn't delivered was removed, by retention or by compaction.
    there = {n: Span(place.offset, place.offset + 1) for n, place in places.items()}
    async for record in source.between(there):
        same = record_hash(record.value) == places[record.partition].record_hash
        found[record.partition] = Standing.SAME if same else Standing.ANEW
    return found


async def guard(
    source: Source,
    offsets: Callable[[], dict[int, int]],
    save: Callable[[], Awaitable[None]] | None = None,
) -> None:
    """Watch for a log that ends before its place, or does not come; runs as long as the reader.

    A consumer that goes on in a log made anew drops what lies before the offset that it had.

    Args:
        source: the log.
        offsets: gives the last offset taken of each partition.
        save: keeps what was made of a log that is gone, and can't be read again.

    Raises:
        LogAnewError: the log was made anew.
        StuckError: the log has records, and the source brings none.
    """
    reached: dict[int, int] = {}
    while True:
        await asyncio.sleep(_GUARD_S)
        before, taken = reached, offsets()
        try:
            spans = await source.spans(taken)
            reached = {n: max(offset, before.get(n, -1)) for n, offset in taken.items()}
            still = {n: reached[n] for n in reached if reached[n] == before.get(n)}
            if not VITALS.waits_for:
                reached |= await _over_marks(source, still, spans)
        except LogError:
            continue  # Whoever needs the log now will say so.
        VITALS.look(source.topic, reached, spans)
        if stuck := VITALS.stuck():
            raise StuckError(f"{source.topic}: {stuck}")
        for partition, span in spans.items():
            if span.end <= taken[partition]:
                if save is not None:
                    await save()
                raise LogAnewError(
                    f"{source.topic}/{partition} was made anew while it was read: it ends at "
                    f"offset {span.end}, and {taken[partition]} was taken already"
                )


async def _over_marks(
    source: Source, offsets: Mapping[int, int], spans: Mapping[int, Span]
) -> dict[int, int]:
    """Step over the end of a log in which no record is: a transaction leaves a mark there."""
    rest = {n: Span(offset + 1, spans[n].end) for n, offset in offsets.items()}
    rest = {n: span for n, span in rest.items() if span.begin < span.end}
    ends = {n: span.end - 1 for n, span in rest.items()}
    async with aclosing(source.between(rest)) as records:
        async for record in records:
            ends.pop(record.partition, None)
            if not ends:
                break
    return ends
