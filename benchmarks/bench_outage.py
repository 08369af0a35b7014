"""`make bench-outage`: detect's memory while the database is gone under full input.

Frames of a simulated fleet go into Apache Kafka at a steady rate, faster than life: every second a
scrape of 15 s. A real `watchkeep detect` reads them. Then PostgreSQL is killed, and comes back
after some minutes. Measured are detect's memory, how long it takes to catch up, and what is
missing.
"""

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import numpy as np
import psutil
import psycopg
from rich.console import Console

from servers import Kafka, Postgres, kafka_missing, postgres_missing
from watchkeep.schemas.frame import (
    SHARDS,
    Frame,
    FrameKind,
    LabelSet,
    MetricKind,
    SenderTime,
    encode,
)
from watchkeep.schemas.labels import canonical, series_id
from watchkeep.schemas.settings import Broker
from watchkeep.streams import kafka
from watchkeep.streams.child import die_with_parent
from watchkeep.streams.store import migrate
from watchkeep.streams.topics import METRICS, specs

_BEGIN_MS: Final = 1_772_409_600_000
_SCRAPE_MS: Final = 15_000
_MEMBERS: Final = 4
_WARM_S: Final = 60
_CATCH_UP_S: Final = 900.0

console = Console(stderr=True, highlight=False)


class Fleet:
    """Gauges of many entities, scraped together."""

    def __init__(self, series: int) -> None:
        self._dice = np.random.default_rng(1)
        self._labels = [self._of_shard(shard, series // SHARDS) for shard in range(SHARDS)]
        self._ids = [np.array([s.series_id for s in sets], np.uint64) for sets in self._labels]
        self.signals = sum(len({s.entity for s in sets}) for sets in self._labels)

    @staticmethod
    def _of_shard(shard: int, count: int) -> list[LabelSet]:
        sets = []
        for i in range(count):
            labels = {"__name__": "queue_depth", "pod": f"app-{shard}-{i}"}
            form = canonical(labels.items())
            entity = f"workload/c/bench/app-{shard}-{i // _MEMBERS}"
            member = f"m{i % _MEMBERS}"
            sets.append(LabelSet(series_id(form), MetricKind.GAUGE, entity, member, form))
        return sets

    def scrape(self, index: int) -> list[bytes]:
        """Make the frames of a scrape, one a shard."""
        time_ms = _BEGIN_MS + index * _SCRAPE_MS
        sender = SenderTime("c", "", time_ms, time_ms)
        return [
            encode(
                Frame(
                    FrameKind.DATA,
                    "bench",
                    time_ms,
                    "rules",
                    (sender,),
                    ids,
                    np.full(len(ids), time_ms, np.int64),
                    100 + self._dice.normal(0, 1, len(ids)),
                    tuple(sets) if index % 40 == 0 else (),
                )
            )
            for ids, sets in zip(self._ids, self._labels, strict=True)
        ]


async def _feed(fleet: Fleet, address: str, stop: asyncio.Event) -> int:
    """Send a scrape every second until told to stop; return how many were sent."""
    index = 0
    begun_s = time.monotonic()
    async with kafka.open_sink(Broker(bootstrap=address)) as sink:
        while not stop.is_set():
            frames = await asyncio.to_thread(fleet.scrape, index)
            await asyncio.gather(
                *(sink.send(METRICS, frame, partition=n) for n, frame in enumerate(frames))
            )
            index += 1
            await asyncio.sleep(max(0.0, begun_s + index - time.monotonic()))
    return index


async def _watch(process: psutil.Process, seconds: float, what: str) -> int:
    """Watch a process' memory for a while; return the most of it, in MB."""
    most, begun_s, told_s = 0, time.monotonic(), 0.0
    while (passed_s := time.monotonic() - begun_s) < seconds:
        most = max(most, process.memory_info().rss)
        if passed_s >= told_s:
            console.print(f"{what}: {passed_s:4.0f} s, {process.memory_info().rss / 1e6:.0f} MB")
            told_s += 30
        await asyncio.sleep(1)
    return round(most / 1e6)


async def _measure(folder: Path, fleet: Fleet, minutes: float) -> dict[str, object]:
    with Kafka(folder / "kafka") as broker, Postgres(folder / "pg") as postgres:
        await kafka.create_topics(broker.address, specs())
        await migrate(postgres.url)
        detect = _start(folder, broker.address, postgres.url)
        stop = asyncio.Event()
        feed = asyncio.ensure_future(_feed(fleet, broker.address, stop))
        process = psutil.Process(detect.pid)
        before = await _watch(process, _WARM_S, "all is well")
        postgres.kill()
        during = await _watch(process, minutes * 60, "the database is gone")
        await asyncio.to_thread(postgres.start)
        after = await _watch(process, 30, "it is back")
        stop.set()
        scrapes = await feed
        begun_s = time.monotonic()
        expected = _expected(fleet, scrapes)
        while (there := _rollups(postgres.url)) < expected:
            if time.monotonic() - begun_s > _CATCH_UP_S or detect.poll() is not None:
                break
            await asyncio.sleep(1)
        detect.send_signal(signal.SIGTERM)
        code = detect.wait(60)
        return {
            "rss_mb_before": before,
            "rss_mb_gone": during,
            "rss_mb_back": after,
            "outage_s": round(minutes * 60),
            "samples_per_s": fleet.signals * _MEMBERS,
            "missing_rollups": expected - there,
            "rollups": there,
            "caught_up_s": round(time.monotonic() - begun_s),
            "exit_code": code,
        }


def _start(folder: Path, broker: str, url: str) -> subprocess.Popen[bytes]:
    settings = {
        "WATCHKEEP_CLOCK": "event",
        "WATCHKEEP_MONITOR__PORT": "0",
        "WATCHKEEP_BROKER__BOOTSTRAP": broker,
        "WATCHKEEP_DATABASE__URL": url,
        "WATCHKEEP_DETECT__SNAPSHOT_S": "60",
    }
    with (folder / "detect.log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "watchkeep.streams.cli", "detect"],
            env=os.environ | settings,
            stdout=log,
            stderr=log,
            preexec_fn=die_with_parent,  # noqa: PLW1509 - It only makes one system call.
        )


def _expected(fleet: Fleet, scrapes: int) -> int:
    """Tell how many rollups there must be: every signal in every cell that is closed."""
    last_ms = (scrapes - 1) * _SCRAPE_MS
    return fleet.signals * ((last_ms - 15_000) // 60_000)


def _rollups(url: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT count(*) FROM rollups").fetchone()
        assert row is not None
        return int(row[0])


def main() -> int:
    """Measure, and print one JSON object."""
    parser = argparse.ArgumentParser(prog="make bench-outage ARGS=", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="the database is gone for")
    parser.add_argument("--series", type=int, default=32_768, help="samples a second")
    options = parser.parse_args()
    if missing := kafka_missing() or postgres_missing():
        console.print(f"missing: {missing}")
        return 2
    with tempfile.TemporaryDirectory(prefix="wk-bench-") as temporary:
        Path(temporary).chmod(0o755)
        fleet = Fleet(options.series)
        result = asyncio.run(_measure(Path(temporary), fleet, options.minutes))
        if result["missing_rollups"]:
            console.print((Path(temporary) / "detect.log").read_text()[-4_000:], markup=False)
    print(json.dumps(result))
    return 1 if result["missing_rollups"] else 0


if __name__ == "__main__":
    sys.exit(main())
