"""`make bench-gateway`: how fast remote write is read, and what the gateway does a CPU second.

Reading is measured beside what anybody would write first, Google's protobuf and loops, and beside
only copying the bytes, in turns in one run. All label sets are known, as they are to a gateway
after a sender's first requests. `plain_...` is what is left without the compiled part.

The whole gateway is a process of its own on Apache Kafka. Connections send one request after the
other, and each waits for its answer, which comes when all of it is in the log. The series are of so
many services that each request goes to all 64 shards. CPU time is that of the gateway's process,
from when it knows all series.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Final

import psutil
from rich.console import Console

import protobuf_baseline
from servers import Kafka, kafka_missing, steady_port
from watchkeep.streams import kafka, wire
from watchkeep.streams.child import die_with_parent
from watchkeep.streams.topics import specs
from watchkeep.streams.wire import V1, V2, Reader
from watchkeep.streams.wire_plain import PlainReader
from write_load import ENCODE, HEADERS, answers, bodies_of, draft, keep_sending

_SERIES: Final = 500
_ROUNDS: Final = 15
_TURN_S: Final = 0.05
_BODIES: Final = 80
_BASELINE: Final = {V1: protobuf_baseline.read_v1, V2: protobuf_baseline.read_v2}

console = Console(stderr=True, highlight=False)


def _seconds_of(step: Callable[[], object]) -> float:
    """Measure a step once, by as many repetitions as fill a turn."""
    count, begun_s = 0, time.perf_counter()
    while (passed_s := time.perf_counter() - begun_s) < _TURN_S:
        step()
        count += 1
    return passed_s / count


def _knowing(reader: Reader, plain: bytes, version: int) -> Reader:
    for _, labels in reader.read(plain, version).unknown:
        reader.learn(labels)
    assert not reader.read(plain, version).unknown
    return reader


def measure_reading(version: int, samples: int) -> dict[str, float]:
    """Measure how fast a request of so many samples a series is read."""
    plain = ENCODE[version](draft(_SERIES, samples, round(time.time() * 1000)))
    fastest = _knowing(wire.reader(), plain, version)
    slower = _knowing(PlainReader(), plain, version)
    steps: dict[str, Callable[[], object]] = {
        "protobuf": lambda: _BASELINE[version](plain),
        "copy": lambda: bytearray(plain),
        "ours": lambda: fastest.read(plain, version),
        "plain": lambda: slower.read(plain, version),
    }
    turns = [{name: _seconds_of(step) for name, step in steps.items()} for _ in range(_ROUNDS)]
    name = f"v{version}" + (f"_x{samples}" if version == V1 else "")
    of = {step: median(turn[step] for turn in turns) for step in steps}
    ratios = {
        f"decode_{name}_ratio": median(turn["protobuf"] / turn["ours"] for turn in turns),
        f"plain_decode_{name}_ratio": median(turn["protobuf"] / turn["plain"] for turn in turns),
        f"copy_{name}_ratio": median(turn["ours"] / turn["copy"] for turn in turns),
    }
    speeds = ", ".join(f"{step} {_SERIES * samples / of[step] / 1e6:.2f}" for step in steps)
    console.print(f"reading {name}: {speeds} M samples/s")
    return {key: round(value, 2) for key, value in ratios.items()}


@contextmanager
def _gateway(folder: Path, broker: str, port: int) -> Iterator[psutil.Process]:
    settings = {
        "WATCHKEEP_MONITOR__PORT": "0",
        "WATCHKEEP_BROKER__BOOTSTRAP": broker,
        "WATCHKEEP_DATABASE__URL": "postgresql://nobody@127.0.0.1/none",
        "WATCHKEEP_GATEWAY__PORT": str(port),
    }
    with (folder / "gateway.log").open("wb") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "watchkeep.streams.cli", "gateway"],
            env=os.environ | settings,
            stdout=log,
            stderr=log,
            preexec_fn=die_with_parent,  # noqa: PLW1509 - It only makes one system call.
        )
    try:
        yield psutil.Process(child.pid)
    finally:
        child.terminate()
        child.wait(30)


async def measure_gateway(
    folder: Path, version: int, series: int, options: argparse.Namespace
) -> dict[str, float]:
    """Measure the whole gateway under requests of so many samples."""
    with Kafka(folder / "kafka") as broker:
        await kafka.create_topics(broker.address, specs())
        port = steady_port()
        with _gateway(folder, broker.address, port) as process:
            await answers(port)
            url = f"http://127.0.0.1:{port}/api/v1/write"
            bodies = bodies_of(version, _BODIES, series, round(time.time() * 1000))
            load = {"samples": series, "connections": options.connections}
            await keep_sending(url, bodies, HEADERS[version], seconds=0, **load)
            before = process.cpu_times()
            sent = await keep_sending(
                url, bodies, HEADERS[version], seconds=options.seconds, **load
            )
            after = process.cpu_times()
            rss_mb = process.memory_info().rss / 1e6
    if sent.refused:
        console.print(f"{sent.refused} requests were refused")
    cpu_s = after.user + after.system - before.user - before.system
    speed = round(sent.samples / cpu_s)
    console.print(
        f"gateway, version {version}, {series} a request: {speed:,} samples/cpu-s, "
        f"{sent.samples / sent.seconds:,.0f} samples/s, {rss_mb:.0f} MB"
    )
    return {"samples_per_cpu_s": speed, "samples_per_s": round(sent.samples / sent.seconds)}


def main() -> int:
    """Measure, and print one JSON object."""
    parser = argparse.ArgumentParser(
        prog="make bench-gateway ARGS=",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--connections", type=int, default=200, help="so many senders (200)")
    parser.add_argument("--seconds", type=float, default=15.0, help="each measurement (15)")
    options = parser.parse_args()
    if missing := kafka_missing():
        console.print(f"missing: {missing}")
        return 2
    result: dict[str, object] = {"compiled": wire.COMPILED}
    for version, samples in ((V1, 1), (V1, 4), (V2, 1)):
        result |= measure_reading(version, samples)
    for version, series in ((V1, 500), (V1, 2_000), (V2, 500), (V2, 2_000)):
        with tempfile.TemporaryDirectory(prefix="wk-bench-") as folder:
            measured = asyncio.run(measure_gateway(Path(folder), version, series, options))
        name = ("" if series == 500 else f"_{series}") + ("" if version == V1 else "_v2")
        result |= {f"{key}{name}": value for key, value in measured.items()}
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
