"""`make bench-snapshot`: what keeping a large state costs a worker.

64 shards of detect hold the detectors of 100,000 signals that have seen days. A worker saves them
as it does in life, one after the other, to a real PostgreSQL, while a clock on the same event loop
measures how long anything else would have waited.

Two cases: every byte has changed since the last snapshot, and to random ones, the worst case; and
three cells have been scored, as in life.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import psycopg
from rich.console import Console

from bench_bank import values, warm
from servers import Postgres, postgres_missing
from watchkeep.schemas.frame import SHARDS
from watchkeep.schemas.settings import Detect
from watchkeep.streams.memory import MemoryLog
from watchkeep.streams.partitions import Partition
from watchkeep.streams.pipeline import Cluster, Shard
from watchkeep.streams.ports import Place
from watchkeep.streams.runtime import Worker
from watchkeep.streams.store import migrate, open_store
from watchkeep.streams.topics import METRICS

_SIGNALS_EACH: Final = 20
_WARM_DAYS: Final = 5
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


def _partitions(tokens: Sequence[int], slots: int) -> list[Partition]:
    """Make partitions, each with the same warm signals."""
    columns = warm(slots // _SIGNALS_EACH, _SIGNALS_EACH, _WARM_DAYS).dump()
    made = []
    for token in tokens:
        settings = Detect()
        shard, cluster = Shard(settings), Cluster(settings)
        cluster.bank.restore(columns)
        shard.clusters["bench"] = cluster
        made.append(Partition(shard, token=token, place=Place(0, "bench")))
    return made


def _all_anew(partition: Partition, _: int) -> None:
    """Fill every column with random bytes."""
    bank = partition.shard.clusters["bench"].bank
    bank.restore(
        {
            name: np.frombuffer(dice.bytes(column.nbytes), column.dtype).reshape(column.shape)
            for name, column in bank.dump().items()
        }
    )


def _some_cells(partition: Partition, number: int) -> None:
    """Score the cells between two snapshots."""
    bank = partition.shard.clusters["bench"].bank
    slots = np.arange(len(bank.dump()["signals/side"]) // _SIGNALS_EACH * _SIGNALS_EACH)
    first = _WARM_DAYS * 1_440 + number * _CELLS_BETWEEN
    for span, value in values(len(slots), first, _CELLS_BETWEEN):
        bank.step(span, slots, value)


_CASES: Final[Mapping[str, Callable[[Partition, int], None]]] = {
    "_in_life": _some_cells,
    "": _all_anew,
}


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
        console.print(f"warming {slots:,} signals")
        tokens = [(await store.claim([n]))[n].token for n in range(SHARDS)]
        partitions = _partitions(tokens, slots // SHARDS)
        worker._partitions.update(enumerate(partitions))  # noqa: SLF001 - No log makes so large a state.
        result: dict[str, Any] = {
            "slots": slots,
            "bytes_a_slot": round(
                partitions[0].shard.clusters["bench"].bank.nbytes * SHARDS / slots
            ),
        }
        await _sweep(worker, url)
        for suffix, change in _CASES.items():
            sweeps = []
            for number in range(rounds):
                for partition in partitions:
                    partition.witness = Place()  # The log here has no such records.
                    change(partition, number)
                    partition.place = Place(partition.place.offset + 1, "bench")
                sweeps.append(await _sweep(worker, url))
                console.print(f"{change.__name__}: {sweeps[-1]}")
            result |= _summary(sweeps, suffix)
        return result


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
