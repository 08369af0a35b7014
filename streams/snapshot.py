"""Snapshots: the state of a shard as bytes, and back.

Layout: magic "WKS1", xxh3-64 of what follows, then zstd of a numpy archive: the columns by name,
and one JSON text for what is no column.
"""

import io
import json
from collections.abc import Mapping
from typing import Any, Final

import cramjam
import numpy as np
import numpy.typing as npt
import xxhash

from watchkeep.detectors.fold import OpenCell
from watchkeep.detectors.logtime import LogTime
from watchkeep.detectors.signals import Signal
from watchkeep.schemas.errors import DecodeError
from watchkeep.schemas.frame import SenderTime
from watchkeep.schemas.settings import Detect
from watchkeep.streams.pipeline import Cluster, Shard

_MAGIC: Final = b"WKS1"
_LEVEL: Final = 1
_HEAD: Final = "head"

Columns = dict[str, npt.NDArray[Any]]


def dump(shard: Shard) -> bytes:
    """Write a shard's state as bytes."""
    names = sorted(shard.clusters)
    columns: Columns = {}
    head = {
        "tick_ms": shard.time.tick_ms,
        "senders": list(shard.time.senders.values()),
        "clusters": [
            {"name": name} | _dump_cluster(shard.clusters[name], f"{i}/", columns)
            for i, name in enumerate(names)
        ],
    }
    columns[_HEAD] = np.frombuffer(json.dumps(head).encode(), np.uint8)
    archive = io.BytesIO()
    np.savez(archive, **columns)  # type: ignore[arg-type] # Its stub takes the names for options.
    packed = bytes(cramjam.zstd.compress(archive.getvalue(), level=_LEVEL))
    return _MAGIC + xxhash.xxh3_64_digest(packed) + packed


def _dump_cluster(cluster: Cluster, prefix: str, columns: Columns) -> dict[str, Any]:
    fold = cluster.fold
    ids = np.fromiter(fold.slot_of, np.uint64, len(fold.slot_of))
    columns[prefix + "ids"] = ids
    columns[prefix + "slots"] = np.fromiter(fold.slot_of.values(), np.int64, len(ids))
    for part, arrays in _parts(cluster).items():
        columns.update({f"{prefix}{part}/{k}": column for k, column in arrays.dump().items()})
    for index, cell in fold.open.items():
        columns[f"{prefix}open/{index}"] = np.stack([cell.weighted, cell.covered])
    return {
        "used": fold.slots.used,
        "next_cell": fold.next_cell,
        "open": list(fold.open),
        "signals": fold.signals,
        "members": list(fold.members),
        "windows": cluster.windows.dump(),
    }


def _parts(cluster: Cluster) -> dict[str, Any]:
    return {
        "series": cluster.fold.series,
        "channel": cluster.state,
        "runs": cluster.windows.runs,
    }


def load(state: bytes, settings: Detect) -> Shard:
    """Read a shard's state back.

    Raises:
        DecodeError: the bytes are damaged, or of another version.
    """
    if state[:4] != _MAGIC:
        raise DecodeError(f"the snapshot is of another version: it begins with {state[:4]!r}")
    if xxhash.xxh3_64_digest(state[12:]) != state[4:12]:
        raise DecodeError("the snapshot is damaged: its checksum differs")
    archive = io.BytesIO(bytes(cramjam.zstd.decompress(state[12:])))
    with np.load(archive, allow_pickle=False) as columns:
        head = json.loads(columns[_HEAD].tobytes())
        shard = Shard(settings)
        senders = [SenderTime(*sender) for sender in head["senders"]]
        shard.time = LogTime(senders, head["tick_ms"])
        for i, entry in enumerate(head["clusters"]):
            shard.clusters[entry["name"]] = _load_cluster(entry, f"{i}/", columns, settings)
    return shard


def _load_cluster(
    entry: dict[str, Any],
    prefix: str,
    columns: Mapping[str, npt.NDArray[Any]],
    settings: Detect,
) -> Cluster:
    cluster = Cluster(settings)
    fold = cluster.fold
    ids, slots = columns[prefix + "ids"].tolist(), columns[prefix + "slots"].tolist()
    fold.slot_of = dict(zip(ids, slots, strict=True))
    fold.slots.used = entry["used"]
    fold.next_cell = entry["next_cell"]
    fold.members = {member: i for i, member in enumerate(entry["members"])}
    for entity, metric, labels, counter in entry["signals"]:
        pairs = tuple((name, value) for name, value in labels)
        fold.signal_slot(Signal(entity, metric, pairs, counter))
    for part, arrays in _parts(cluster).items():
        start = f"{prefix}{part}/"
        arrays.restore({k.removeprefix(start): columns[k] for k in columns if k.startswith(start)})
    for index in entry["open"]:
        weighted, covered = columns[f"{prefix}open/{index}"]
        fold.open[index] = OpenCell(weighted.copy(), covered.copy())
    cluster.windows.restore(entry["windows"])
    return cluster
