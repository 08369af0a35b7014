"""`make chaos`: disturb the system at random points, and compare with a run that was not disturbed.

The same requests of a simulated shop go through two systems on real Apache Kafka and PostgreSQL.
One is left alone. The other is killed, paused, restored and deceived while they are sent.
"""

import argparse
import asyncio
import itertools
import json
import logging
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from rich.console import Console
from rich.table import Table

from chaos.outcome import Difference, Heard, Outcome, difference, outcome
from chaos.points import POINTS, mounted, schedule
from chaos.system import System, running
from servers import kafka_missing, postgres_missing
from small_shop import small_shop
from watchkeep.shop.remote_write import Request, requests

_SAMPLES_A_REQUEST: Final = 300
_POINT_S: Final = 6.0
_DRAIN_S: Final = 180.0
_DISK_MB: Final = 700

console = Console(stderr=True, highlight=False)


class Done(NamedTuple):
    """One point that was made."""

    kind: str
    what: str
    seconds: float


async def _undisturbed(folder: Path, sent: Sequence[Request]) -> Outcome:
    async with running(folder, folder / "data") as system:
        await system.send(sent, 0)
        return await _ended(system, Heard())


async def _disturbed(
    folder: Path, data: Path, slices: list[list[Request]], kinds: list[str], seed: int
) -> tuple[Outcome, list[Done], dict[str, int]]:
    dice, heard, done = random.Random(seed), Heard(), []
    async with running(folder, data) as system:
        await system.send(slices[0], _POINT_S)
        for i, (kind, part) in enumerate(zip(kinds, slices[1:], strict=True), 1):
            begun_s = time.monotonic()
            # All that was sent must be read before the topics go, so nothing is sent meanwhile.
            alone = kind == "topics made anew"
            sender = asyncio.ensure_future(system.send([] if alone else part, _POINT_S))
            await asyncio.sleep(dice.uniform(0, 2))
            what = await POINTS[kind][0](system, dice, heard)
            await sender
            await system.send(part if alone else [], _POINT_S)
            done.append(Done(kind, what, time.monotonic() - begun_s))
            console.print(f"{i:3} of {len(kinds)}  {kind:24} {done[-1].seconds:5.1f} s  {what}")
        return await _ended(system, heard), done, dict(system.deaths)


async def _ended(system: System, heard: Heard) -> Outcome:
    begun_s = time.monotonic()
    try:
        await system.drained(_DRAIN_S)
    except TimeoutError as error:
        console.print(f"[red]{error}[/]")
    await asyncio.sleep(2)  # A message that comes twice comes soon.
    await heard.listen(system.kafka.address)
    console.print(f"drained in {time.monotonic() - begun_s:.1f} s")
    return outcome(system.url, heard, system.notifications)


def _slices(sent: list[Request], count: int) -> list[list[Request]]:
    edges = [round(i * len(sent) / count) for i in range(count + 1)]
    return [sent[begin:end] for begin, end in itertools.pairwise(edges)]


def _table(done: list[Done]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("what was done", "times", "seconds, longest"):
        table.add_column(heading, justify="left" if heading == "what was done" else "right")
    for kind, times in Counter(point.kind for point in done).items():
        longest_s = max(point.seconds for point in done if point.kind == kind)
        table.add_row(kind, str(times), f"{longest_s:.1f}")
    return table


def _told(found: Difference, done: list[Done], deaths: dict[str, int], baseline: Outcome) -> int:
    console.print(_table(done))
    console.print("ends that nobody asked for:", deaths or "none")
    for line in found.examples:
        console.print(line, markup=False)
    left_out = sum(point.what.startswith("left out") for point in done)
    result = {
        "points": len(done) - left_out,
        "lost": found.lost,
        "duplicated": found.duplicated,
        "diverged": found.diverged,
        "repeated_notifications": found.repeated_notifications,
        "windows": len(baseline.taken),
        "alerts": len(baseline.incidents),
        "notifications": len(baseline.notifications),
        "rollups": len(baseline.rollups),
    }
    print(json.dumps(result))
    return 1 if found.lost or found.duplicated or found.diverged else 0


def main() -> int:
    """Run both, and print a table and one JSON object."""
    parser = argparse.ArgumentParser(prog="make chaos ARGS=", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="another seed, other points")
    parser.add_argument("--points", type=int, default=63, help="how many disturbances")
    parser.add_argument("--only", choices=POINTS, help="only this kind of point")
    parser.add_argument("--keep", type=Path, help="keep logs and data in this folder")
    options = parser.parse_args()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    if missing := kafka_missing() or postgres_missing():
        console.print(f"missing: {missing}")
        return 2
    if options.keep and options.keep.exists():
        parser.error(f"--keep: {options.keep} is there already; name a new folder")
    dice = random.Random(options.seed)
    kinds = [options.only] * options.points if options.only else schedule(options.points, dice)
    days = max(0.5, options.points / 63)
    sent = list(requests(small_shop(options.seed, days), _SAMPLES_A_REQUEST))
    with tempfile.TemporaryDirectory(prefix="wk-chaos-") as temporary:
        folder = options.keep or Path(temporary)
        Path(temporary).chmod(0o755)
        console.print(f"undisturbed: {len(sent)} requests of {days:.2g} days")
        baseline = asyncio.run(_undisturbed(folder / "calm", sent))
        console.print(
            f"{len(baseline.taken)} windows' revisions, {len(baseline.incidents)} incidents, "
            f"{len(baseline.notifications)} notifications, {len(baseline.rollups)} rollups"
        )
        disk = Path(temporary) / "disk"
        is_mounted = mounted(disk, _DISK_MB)
        try:
            disturbed, done, deaths = asyncio.run(
                _disturbed(
                    folder / "chaos",
                    disk / "data",
                    _slices(sent, len(kinds) + 1),
                    kinds,
                    options.seed,
                )
            )
        finally:
            if is_mounted:
                subprocess.run(["umount", "-l", str(disk)], check=True)
    return _told(difference(baseline, disturbed), done, deaths, baseline)


if __name__ == "__main__":
    sys.exit(main())
