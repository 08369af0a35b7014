"""A file of the gateway's frames, and of what was done to the scraped meanwhile.

It is a row of blocks, each the length of what follows, u32 little-endian, and that, compressed by
zlib: entries of a shard, u8, a length, u32, and so many bytes. What stands at shard NOTES is JSON.
A block is written at once, so a file that was cut off lacks its last minute at most.
"""

import json
import struct
import threading
import time
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from watchkeep.schemas.frame import SHARDS

NOTES: Final = 255
assert NOTES >= SHARDS
_BLOCK: Final = struct.Struct("<I")
_ENTRY: Final = struct.Struct("<BI")
_one_at_a_time: Final = threading.Lock()

Entry = tuple[int, bytes]


class Stretch(NamedTuple):
    """A time that has a name: rest, or a fault.

    Attributes:
        end_ms: when it was over; 0 if the file ends before that.
        facts: what people should know of it.
    """

    name: str
    begin_ms: int
    end_ms: int
    facts: str = ""


@dataclass
class Recording:
    """What a file holds.

    Attributes:
        frames: the records of each shard, in order.
        stretches: in order.
    """

    frames: dict[int, list[bytes]] = field(default_factory=lambda: defaultdict(list))
    stretches: list[Stretch] = field(default_factory=list)


def now_ms() -> int:
    """Tell the time."""
    return time.time_ns() // 1_000_000


def note(stretch: Stretch) -> Entry:
    """Make the entry of a stretch; the last one of a name and begin counts."""
    return NOTES, json.dumps(stretch).encode()


def append(path: Path, entries: Iterable[Entry]) -> None:
    """Write a block at the end of a file."""
    parts = [_ENTRY.pack(shard, len(value)) + value for shard, value in entries]
    if not parts:
        return
    block = zlib.compress(b"".join(parts))
    with _one_at_a_time, path.open("ab") as file:
        file.write(_BLOCK.pack(len(block)) + block)


def load(path: Path) -> Recording:
    """Read a file; a last block that isn't whole is left out."""
    recording = Recording()
    stretches: dict[tuple[str, int], Stretch] = {}
    for shard, value in _entries(path):
        if shard == NOTES:
            stretch = Stretch(*json.loads(value))
            stretches[stretch.name, stretch.begin_ms] = stretch
        else:
            recording.frames[shard].append(value)
    recording.stretches = sorted(stretches.values(), key=lambda one: one.begin_ms)
    return recording


def _entries(path: Path) -> Iterator[Entry]:
    with path.open("rb") as file:
        while len(head := file.read(_BLOCK.size)) == _BLOCK.size:
            (length,) = _BLOCK.unpack(head)
            if len(block := file.read(length)) < length:
                return
            whole, at = zlib.decompress(block), 0
            while at < len(whole):
                shard, size = _ENTRY.unpack_from(whole, at)
                at += _ENTRY.size
                yield shard, whole[at : at + size]
                at += size
