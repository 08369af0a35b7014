"""`make bench-snapshot`: what keeping a large state costs a worker.

64 shards of detect hold 100,000 slots of 12 kB, random numbers, as incompressible as real state. A
worker saves them as it does in life, one after the other, to a real PostgreSQL, while a clock on
the same event loop measures how long anything else would have waited.

Two cases: every byte has changed since the last snapshot, and, as for a state that is mostly the
history of recent days, only the columns of the last cells and the running ones have. The figures
without a suffix are those of the first, the worst case.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import psycopg
from rich.console import Console

from servers import Postgres, postgres_missing
from watchkeep.detectors.arrays import Arrays, Field
from watchkeep.schemas.frame import SHARDS
from watchkeep.schemas.settings import Detect
from watchkeep.streams.memory import MemoryLog
from watchkeep.streams.partitions import Partition
from watchkeep.streams.pipeline import Cluster, Shard
from watchkeep.streams.ports import Place
from watchkeep.streams.runtime import Worker
from watchkeep.streams.store import migrate, open_store
from watchkeep.streams.topics import METRICS

_COLUMNS: Final = 1_500  # Of 8 bytes: 12 kB a slot.
_RUNNING_COLUMNS: Final = 40
_CELLS_BETWEEN: Final = 3  # Of 60 s, in the 180 s between two snapshots.
_TICK_S: Final = 0.001

console = Console(stderr=True, highlight=False)
dice = np.random.default_rng(1)


@dataclass
class Sweep:
    """What one snapshot of every shard cost.

    Attributes:
        stall_s: the longest that the event loop answered nobody.
        cpu_s: CPU time of this process, all threads.
        wall_s: how long it took.
        wal_bytes: what the database wrote to its log.
    """

    stall_s: float
    cpu_s: float
    wall_s: float
    wal_bytes: int


def _a_partition(token: int, slots: int) -> Partition:
    settings = Detect()
    shard, cluster = Shard(settings), Cluster(settings)
    cluster.state = Arrays({f"c{i}": Field("f8", 0.0) for i in range(_COLUMNS)})
    cluster.state.grow(slots)
    shard.clusters["bench"] = cluster
    partition = Partition(shard, token=token)
    _change(partition, range(_COLUMNS))
    return partition


def _change(partition: Partition, columns: range) -> None:
    """Give columns new contents, and the state a new place."""
    state = partition.shard.clusters["bench"].state
    for i in columns:
        state[f"c{i}"][:] = dice.random(len(state[f"c{i}"]))
    partition.place = Place(partition.place.offset + 1, "bench")


async def _sweep(worker: Worker, url: str) -> Sweep:
    """Save every shard, and measure."""
    stalls: list[float] = []
    clock = asyncio.ensure_future(_watch(stalls))
    wal = _wal(url)
    begun_s, cpu_s = time.perf_counter(), time.process_time()
    for number in range(SHARDS):
        await worker.save([number])
    sweep = Sweep(0.0, time.process_time() - cpu_s, time.perf_counter() - begun_s, _wal(url) - wal)
    clock.cancel()
    sweep.stall_s = max(stalls)
    return sweep


async def _watch(stalls: list[float]) -> None:
    while True:
        begun_s = time.perf_counter()
        await asyncio.sleep(_TICK_S)
        stalls.append(time.perf_counter() - begun_s - _TICK_S)


def _wal(url: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn").fetchone()
        assert row is not None
        return int(row[0])


async def _measure(url: str, slots: int, rounds: int) -> dict[str, Any]:
    await migrate(url)
    log = MemoryLog()
    for number in range(SHARDS):
        for _ in range(100):
            await log.send(METRICS, b"", partition=number)
    async with open_store(url) as store:
        worker = Worker(log.source(METRICS, "bench"), log, store, Detect())
        console.print(f"making {slots:,} slots of {8 * _COLUMNS / 1000:g} kB")
        for number in range(SHARDS):
            token = (await store.claim([number]))[number].token
            worker._partitions[number] = _a_partition(token, slots // SHARDS)  # noqa: SLF001 - No log makes so large a state.
        first = await _sweep(worker, url)
        console.print(f"first snapshot: {first}")
        cases = {"": range(_COLUMNS), "_mostly_history": range(_RUNNING_COLUMNS + _CELLS_BETWEEN)}
        result: dict[str, Any] = {}
        for suffix, columns in cases.items():
            sweeps = []
            for _ in range(rounds):
                for partition in worker._partitions.values():  # noqa: SLF001 - No log makes so large a state.
                    partition.witness = Place()  # The log here has no such records.
                    _change(partition, columns)
                sweeps.append(await _sweep(worker, url))
                console.print(f"{len(columns):5} of {_COLUMNS} columns changed: {sweeps[-1]}")
            result |= _summary(sweeps, suffix)
        return result | {"slots": slots, "bytes_a_slot": 8 * _COLUMNS}


def _summary(sweeps: list[Sweep], suffix: str) -> dict[str, Any]:
    interval_s = Detect().snapshot_s
    return {
        f"stall_s{suffix}": round(max(sweep.stall_s for sweep in sweeps), 4),
        f"cpu_share{suffix}": round(max(sweep.cpu_s for sweep in sweeps) / interval_s, 4),
        f"wal_mb_per_hour{suffix}": round(
            max(sweep.wal_bytes for sweep in sweeps) / 1e6 * 3_600 / interval_s
        ),
        f"sweep_s{suffix}": round(max(sweep.wall_s for sweep in sweeps), 2),
    }


def main() -> int:
    """Measure, and print one JSON object."""
    parser = argparse.ArgumentParser(prog="make bench-snapshot ARGS=", description=__doc__)
    parser.add_argument("--slots", type=int, default=100_000, help="in all 64 shards")
    parser.add_argument("--rounds", type=int, default=2, help="snapshots a case; the worst counts")
    options = parser.parse_args()
    if missing := postgres_missing():
        console.print(f"missing: {missing}")
        return 2
    with tempfile.TemporaryDirectory(prefix="wk-bench-") as temporary:
        Path(temporary).chmod(0o755)
        with Postgres(Path(temporary) / "pg") as postgres:
            result = asyncio.run(_measure(postgres.url, options.slots, options.rounds))
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
