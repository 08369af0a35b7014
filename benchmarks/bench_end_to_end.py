"""`make bench-end-to-end`: all stages on real servers: samples a CPU second, in all and of each.

Remote write of a fleet goes into a real gateway, scrape by scrape, faster than life; frames of 64
shards through Apache Kafka to detect; rollups and snapshots into PostgreSQL, windows to incidents.
Every process' CPU time counts, those of broker and database too, from when all series are known
until the last cell is in the store. `samples_per_cpu_s` is of all of them together; the sender's
own time is no part of it.
"""

import argparse
import asyncio
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import aiohttp
import cramjam
import numpy as np
import psutil
import psycopg
from rich.console import Console

from second_version import encode_v1
from servers import Kafka, Postgres, Server, kafka_missing, postgres_missing, steady_port
from watchkeep.streams import kafka
from watchkeep.streams.child import die_with_parent
from watchkeep.streams.store import migrate
from watchkeep.streams.topics import specs
from watchkeep.streams.wire import V1
from write_load import HEADERS, answers, draft

_BEGIN_MS: Final = 1_772_409_600_000
_SCRAPE_MS: Final = 30_000
_CELL_MS: Final = 60_000
_GRACE_MS: Final = 15_000
_STAGES: Final = ("gateway", "detect", "incidents")
_WARM_SCRAPES: Final = 8
_LATE_S: Final = 600.0
# Of a sample: its tag and length, the value's tag, the value, the time's tag, the time.
_VALUE_AT: Final = 3
_TIME_AT: Final = 12
_SAMPLE_BYTES: Final = 18

console = Console(stderr=True, highlight=False)


class Load:
    """The requests of one scrape after the other: the same bytes with other times and values."""

    def __init__(self, series: int, per_request: int) -> None:
        self._dice = np.random.default_rng(1)
        self._plain: list[np.ndarray[tuple[int], np.dtype[np.uint8]]] = []
        self._at: list[np.ndarray[tuple[int], np.dtype[np.int64]]] = []
        counters = []
        for first in range(0, series, per_request):
            # A value that isn't 0 has its eight bytes in every sample, where they can be changed.
            drafts = [
                one._replace(samples=((_BEGIN_MS, 1.0),))
                for one in draft(min(per_request, series - first), 1, _BEGIN_MS, first)
            ]
            bodies = [encode_v1([one]) for one in drafts]
            self._plain.append(np.frombuffer(b"".join(bodies), np.uint8).copy())
            ends = np.cumsum([len(body) for body in bodies])
            self._at.append(ends - _SAMPLE_BYTES)
            counters += [
                dict(one.labels)["__name__"].endswith(("_total", "_bucket", "_count", "_sum"))
                for one in drafts
            ]
        self._counters = np.array(counters)
        self._value = 1.0 + 99 * self._dice.random(series)
        self._rate = 1.0 + 9 * self._dice.random(series)

    def scrape(self, index: int) -> list[bytes]:
        """Make the bodies of a scrape."""
        noise = self._dice.normal(0, 1, len(self._value))
        grown = self._value + (_SCRAPE_MS / 1000) * self._rate * index + np.abs(noise)
        value = np.where(self._counters, grown, self._value + 0.1 * noise)
        time_ms, bodies, begin = _varint(_BEGIN_MS + index * _SCRAPE_MS), [], 0
        for plain, at in zip(self._plain, self._at, strict=True):
            own = value[begin : begin + len(at)].view(np.uint8).reshape(-1, 8)
            plain[(at + _VALUE_AT)[:, None] + np.arange(8)] = own
            plain[(at + _TIME_AT)[:, None] + np.arange(len(time_ms))] = time_ms
            bodies.append(bytes(cramjam.snappy.compress_raw(plain.tobytes())))
            begin += len(at)
        return bodies


def _varint(value: int) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    parts = []
    while value >= 0x80:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return np.array([*parts, value], np.uint8)


async def _send(session: aiohttp.ClientSession, url: str, bodies: list[bytes]) -> None:
    """Send a scrape, and wait until all of it is acknowledged."""

    async def send(body: bytes) -> None:
        async with session.post(url, data=body, headers=HEADERS[V1]) as answer:
            if answer.status != 204:
                raise RuntimeError(f"{answer.status}: {await answer.text()}")

    await asyncio.gather(*(send(body) for body in bodies))


def _start(folder: Path, stage: str, settings: Mapping[str, str]) -> psutil.Process:
    with (folder / f"{stage}.log").open("wb") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "watchkeep.streams.cli", stage],
            env=os.environ | settings,
            stdout=log,
            stderr=log,
            preexec_fn=die_with_parent,  # noqa: PLW1509 - It only makes one system call.
        )
    return psutil.Process(child.pid)


def _cpu_s(process: psutil.Process) -> float:
    """Tell the CPU time of a process and of all that it has started, also of those that ended."""
    spent = process.cpu_times()
    ended = spent.children_user + spent.children_system
    running = sum(_cpu_s(child) for child in process.children())
    return float(spent.user + spent.system + ended + running)


async def _reached(url: str, until_ms: int) -> None:
    """Wait until the cells before a time are in the store."""
    begun_s = time.monotonic()
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        while time.monotonic() - begun_s < _LATE_S:
            row = await (await connection.execute("SELECT max(at) FROM rollups")).fetchone()
            last = row[0] if row else None
            if last and last >= datetime.fromtimestamp(until_ms / 1000, UTC):
                await asyncio.sleep(3)  # What is behind the rollups is done soon after.
                return
            await asyncio.sleep(0.5)
    raise RuntimeError(f"the cells of {until_ms} didn't come in {_LATE_S:.0f} s")


def _last_cell_ms(scrapes: int) -> int:
    """Tell the begin of the last cell that so many scrapes close."""
    log_ms = (scrapes - 1) * _SCRAPE_MS - _GRACE_MS
    return _BEGIN_MS + math.floor(log_ms / _CELL_MS) * _CELL_MS - _CELL_MS


async def _measure(folder: Path, options: argparse.Namespace) -> dict[str, float]:
    console.print(f"making {options.series:,} series in requests of {options.per_request:,}")
    load = Load(options.series, options.per_request)
    with ExitStack() as running:
        broker = running.enter_context(Kafka(folder / "kafka"))
        database = running.enter_context(Postgres(folder / "pg"))
        await kafka.create_topics(broker.address, specs())
        await migrate(database.url)
        port = steady_port()
        settings = {
            "WATCHKEEP_CLOCK": "event",
            "WATCHKEEP_MONITOR__PORT": "0",
            "WATCHKEEP_BROKER__BOOTSTRAP": broker.address,
            "WATCHKEEP_DATABASE__URL": database.url,
            "WATCHKEEP_GATEWAY__PORT": str(port),
        }
        processes = {stage: _start(folder, stage, settings) for stage in _STAGES}
        servers: dict[str, Server] = {"broker": broker, "store": database}
        processes |= {name: psutil.Process(server.pid) for name, server in servers.items()}
        url = f"http://127.0.0.1:{port}/api/v1/write"
        await answers(port)
        connector = aiohttp.TCPConnector(limit=options.connections)
        async with aiohttp.ClientSession(connector=connector) as session:
            for index in range(_WARM_SCRAPES):
                await _send(session, url, load.scrape(index))
            await _reached(database.url, _last_cell_ms(_WARM_SCRAPES))
            before = {name: _cpu_s(process) for name, process in processes.items()}
            begun_s = time.monotonic()
            whole = _WARM_SCRAPES + options.scrapes
            for index in range(_WARM_SCRAPES, whole):
                await _send(session, url, load.scrape(index))
                console.print(f"scrape {index - _WARM_SCRAPES + 1} of {options.scrapes}", end="\r")
            await _reached(database.url, _last_cell_ms(whole))
        seconds = time.monotonic() - begun_s
        spent = {name: _cpu_s(process) - before[name] for name, process in processes.items()}
        signals = _signals(database.url)
        for stage in _STAGES:
            processes[stage].terminate()
            processes[stage].wait(60)
    samples = options.series * options.scrapes
    told = {f"{name}_samples_per_cpu_s": round(samples / s) for name, s in spent.items()}
    return {
        "samples_per_cpu_s": round(samples / sum(spent.values())),
        **told,
        "samples_per_s": round(samples / seconds),
        "samples": samples,
        "signals": signals,
    }


def _signals(url: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT count(DISTINCT signal_id) FROM rollups").fetchone()
        assert row is not None
        return int(row[0])


def main() -> int:
    """Measure, and print one JSON object."""
    parser = argparse.ArgumentParser(
        prog="make bench-end-to-end ARGS=",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--series", type=int, default=50_000, help="so many (50,000)")
    parser.add_argument("--scrapes", type=int, default=60, help="each half a minute on (60)")
    parser.add_argument("--per-request", type=int, default=500, help="samples (500)")
    parser.add_argument("--connections", type=int, default=100, help="of the sender (100)")
    options = parser.parse_args()
    if missing := kafka_missing() or postgres_missing():
        console.print(f"missing: {missing}")
        return 2
    with tempfile.TemporaryDirectory(prefix="wk-bench-") as temporary:
        Path(temporary).chmod(0o755)
        result = asyncio.run(_measure(Path(temporary), options))
    for name in ("gateway", "detect", "incidents", "broker", "store"):
        console.print(f"{name:10} {result[f'{name}_samples_per_cpu_s']:>12,} samples/cpu-s")
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
