"""Snapshots: the state of a shard as blocks of bytes, and back.

A state is one stream of bytes: its columns, each padded to 64 bytes, then a JSON text with the
columns' places and all that is no column, then that text's length (u64). The stream is cut into
blocks of 256 KiB. A snapshot holds each block compressed (zstd), and a manifest: magic "WKS4", the
stream's length (u64) and the xxh3-64 of every block. Columns grow by an eighth, so between two
snapshots most stay where they are, and only blocks whose digest has changed are written.
"""

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import cramjam
import numpy as np
import numpy.typing as npt
import xxhash

from watchkeep.detectors.logtime import LogTime
from watchkeep.schemas.errors import DecodeError
from watchkeep.schemas.frame import SenderTime
from watchkeep.schemas.settings import Detect
from watchkeep.streams.pipeline import Shard
from watchkeep.streams.snapshot_state import FLEETING, State, capture_cluster, load_cluster

_MAGIC: Final = b"WKS4"
_HEADER: Final = struct.Struct("<4sQ")
_TAIL: Final = struct.Struct("<Q")
_DIGEST_BYTES: Final = 8
_ALIGN: Final = 64
_LEVEL: Final = 1
BLOCK_BYTES: Final = 256 * 1024

Column = npt.NDArray[Any]


@dataclass(slots=True)
class Capture:
    """A copy of a state at one moment, to be written while the state goes on.

    Attributes:
        head: what is no column.
    """

    head: dict[str, Any]
    columns: dict[str, Column] = field(default_factory=dict)


class Blocks(NamedTuple):
    """A state, cut into blocks.

    Attributes:
        changed: by number, compressed, those that differ from the manifest before.
    """

    manifest: bytes
    changed: dict[int, bytes]


def capture(shard: Shard) -> Capture:
    """Copy a shard's state: fast, as the shard waits for it."""
    names = sorted(shard.clusters)
    time = shard.time
    copy = Capture(
        {
            "tick_ms": time.tick_ms,
            "senders": list(time.senders.values()),
            "elected": [[*group, replica] for group, replica in time.elected.items()],
            "silence": shard.senders.dump(),
            "clusters": [],
        }
    )
    for i, name in enumerate(names):
        head, columns = capture_cluster(shard.clusters[name])
        copy.head["clusters"].append({"name": name} | head)
        copy.columns.update({f"{i}/{key}": column for key, column in columns.items()})
    return copy


def cut(copy: Capture, before: bytes) -> Blocks:
    """Write a copied state as blocks.

    Args:
        copy: the state.
        before: the manifest of the snapshot that is there; empty for none.
    """
    stream = memoryview(_stream(copy))
    pieces = [stream[i : i + BLOCK_BYTES] for i in range(0, len(stream), BLOCK_BYTES)]
    digests = [xxhash.xxh3_64_digest(piece) for piece in pieces]
    known = _digests(before)
    changed = {
        i: bytes(cramjam.zstd.compress(piece, level=_LEVEL))
        for i, (piece, digest) in enumerate(zip(pieces, digests, strict=True))
        if i >= len(known) or known[i] != digest
    }
    return Blocks(_HEADER.pack(_MAGIC, len(stream)) + b"".join(digests), changed)


def _stream(copy: Capture) -> bytes:
    parts: list[memoryview | bytes] = []
    table = []
    size = 0
    # What grows or goes with every new series or cell comes last, and so moves no other column.
    for name, column in sorted(copy.columns.items(), key=lambda item: _is_fleeting(item[0])):
        table.append((name, column.dtype.str, column.shape, size))
        padding = -column.nbytes % _ALIGN
        parts += (column.reshape(-1).view(np.uint8).data, bytes(padding))
        size += column.nbytes + padding
    text = json.dumps(copy.head | {"columns": table}).encode()
    return b"".join((*parts, text, _TAIL.pack(len(text))))


def _is_fleeting(name: str) -> bool:
    return name.split("/")[1] in FLEETING


def _digests(manifest: bytes) -> list[bytes]:
    rest = manifest[_HEADER.size :]
    return [rest[i : i + _DIGEST_BYTES] for i in range(0, len(rest), _DIGEST_BYTES)]


def count(manifest: bytes) -> int:
    """Tell how many blocks a snapshot has."""
    return len(_digests(manifest))


def load(manifest: bytes, blocks: Mapping[int, bytes], settings: Detect, number: int = 0) -> Shard:
    """Read a shard's state back.

    Raises:
        DecodeError: the snapshot is damaged, or of another version.
    """
    head, columns = _read(_joined(manifest, blocks))
    shard = Shard(settings, number)
    shard.senders.restore(head["silence"])
    senders = [SenderTime(*sender) for sender in head["senders"]]
    elected = {(cluster, group): replica for cluster, group, replica in head["elected"]}
    shard.time = LogTime(senders, elected, head["tick_ms"])
    for i, entry in enumerate(head["clusters"]):
        start = f"{i}/"
        own = {k.removeprefix(start): v for k, v in columns.items() if k.startswith(start)}
        shard.clusters[entry["name"]] = load_cluster(State(entry, own), settings)
    return shard


def _joined(manifest: bytes, blocks: Mapping[int, bytes]) -> bytes:
    if manifest[:4] != _MAGIC:
        raise DecodeError(f"the snapshot is of another version: it begins with {manifest[:4]!r}")
    pieces = []
    for i, digest in enumerate(_digests(manifest)):
        if i not in blocks:
            raise DecodeError(f"the snapshot is damaged: block {i} is missing")
        try:
            piece = bytes(cramjam.zstd.decompress(blocks[i]))
        except cramjam.DecompressionError as error:
            raise DecodeError(f"the snapshot is damaged: block {i}: {error}") from error
        if xxhash.xxh3_64_digest(piece) != digest:
            raise DecodeError(f"the snapshot is damaged: the checksum of block {i} differs")
        pieces.append(piece)
    return b"".join(pieces)


def _read(stream: bytes) -> tuple[dict[str, Any], dict[str, Column]]:
    (length,) = _TAIL.unpack(stream[-_TAIL.size :])
    end = len(stream) - _TAIL.size
    head = json.loads(stream[end - length : end])
    columns = {
        name: np.frombuffer(stream, dtype, int(np.prod(shape)), offset).reshape(shape)
        for name, dtype, shape, offset in head.pop("columns")
    }
    return head, columns
