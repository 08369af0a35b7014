"""What is done to the system: each point is one disturbance, and returns when it is over."""

import asyncio
import random
import shutil
import signal
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from aiokafka.admin import AIOKafkaAdminClient

from chaos.outcome import Heard
from chaos.stage import KILLS, RAISES
from chaos.system import SESSION_S, System
from servers import Kafka, Postgres
from watchkeep.schemas.settings import Broker
from watchkeep.streams import kafka
from watchkeep.streams.topics import ALERTS, ANOMALIES, METRICS, specs

_DRAIN_S: Final = 120.0

Point = Callable[[System, random.Random, Heard], Awaitable[str]]
"""Disturb the system; return what exactly was done."""


async def kill_stage(system: System, dice: random.Random, _: Heard) -> str:
    """Kill -9 of a stage."""
    return _signal(system, dice, signal.SIGKILL)


async def end_stage(system: System, dice: random.Random, _: Heard) -> str:
    """SIGTERM to a stage."""
    return _signal(system, dice, signal.SIGTERM)


def _signal(system: System, dice: random.Random, number: signal.Signals) -> str:
    name = dice.choice(sorted(system.stages))
    system.stages[name].send_signal(number)
    return name


async def pause_stage(system: System, dice: random.Random, _: Heard) -> str:
    """SIGSTOP for longer than the session timeout and the lease, then SIGCONT."""
    name = dice.choice([n for n in sorted(system.stages) if n != "gateway"])
    process = system.stages[name]
    process.send_signal(signal.SIGSTOP)
    seconds = SESSION_S + dice.uniform(1.5, 5)
    await asyncio.sleep(seconds)
    process.send_signal(signal.SIGCONT)
    return f"{name} for {seconds:.1f} s"


async def kill_broker(system: System, dice: random.Random, _: Heard) -> str:
    """Kill -9 of the broker, and a start some seconds later."""
    return await _down(system.kafka, dice.uniform(0, 4))


async def kill_database(system: System, dice: random.Random, _: Heard) -> str:
    """Kill -9 of the database, and a start some seconds later."""
    return await _down(system.postgres, dice.uniform(0, 8))


async def _down(server: Kafka | Postgres, seconds: float) -> str:
    server.kill()
    await asyncio.sleep(seconds)
    await asyncio.to_thread(server.start)
    return f"down for {seconds:.1f} s"


async def second_worker(system: System, dice: random.Random, _: Heard) -> str:
    """One more detect joins, and leaves."""
    system.start("detect-c")
    seconds = dice.uniform(5, 12)
    await asyncio.sleep(seconds)
    number = dice.choice([signal.SIGTERM, signal.SIGKILL])
    if "detect-c" in system.stages:
        system.stages["detect-c"].send_signal(number)
    return f"stays {seconds:.1f} s, leaves by {number.name}"


async def same_instance(system: System, dice: random.Random, _: Heard) -> str:
    """Two more detects join, by mistake with one instance id."""
    seconds = dice.uniform(6, 12)
    for name in ("detect-x", "detect-y"):
        system.start(name, WATCHKEEP_BROKER__INSTANCE="worker-1")
        await asyncio.sleep(dice.uniform(0, 2))
    await asyncio.sleep(seconds)
    for name in ("detect-x", "detect-y"):
        if name in system.stages:
            system.stages[name].kill()
    return f"for {seconds:.1f} s"


async def full_disk(system: System, dice: random.Random, _: Heard) -> str:
    """The database's disk is full for a while."""
    data = system.postgres.data
    if not data.parent.is_mount():
        return "left out: the database has no file system of its own (needs root)"
    filler = data.parent / "filler"
    with filler.open("wb") as file:
        while True:
            try:
                file.write(bytes(64 * 1024))
                file.flush()
            except OSError:
                break
    seconds = dice.uniform(4, 10)
    await asyncio.sleep(seconds)
    filler.unlink()
    if not system.postgres.lives():
        await asyncio.to_thread(system.postgres.start)
        return f"for {seconds:.1f} s; the database died of it and was started again"
    return f"for {seconds:.1f} s"


async def restore_database(system: System, dice: random.Random, _: Heard) -> str:
    """The database is restored from a backup, from about an hour ago in event time."""
    backup = system.folder / "backup"
    shutil.rmtree(backup, ignore_errors=True)
    await asyncio.to_thread(system.postgres.stop)
    await asyncio.to_thread(system.postgres.backup, backup)
    await asyncio.to_thread(system.postgres.start)
    begun_ms = system.last_ms
    await asyncio.sleep(dice.uniform(8, 12))
    system.postgres.kill()
    await asyncio.to_thread(system.postgres.restore, backup)
    await asyncio.to_thread(system.postgres.start)
    return f"{(system.last_ms - begun_ms) / 60_000:.0f} minutes back"


async def deadly_record(system: System, dice: random.Random, _: Heard) -> str:
    """A record ends a stage again and again."""
    topic = dice.choice([METRICS, ANOMALIES, ALERTS])
    partition = dice.randrange(64) if topic == METRICS else 0
    mark = dice.choice([RAISES, KILLS])
    async with kafka.open_sink(Broker(bootstrap=system.kafka.address)) as sink:
        await sink.send(topic, mark + dice.randbytes(8), partition=partition, key=b"deadly")
    return f"{mark.decode()} in {topic}/{partition}"


async def topics_anew(system: System, dice: random.Random, heard: Heard) -> str:
    """All topics are deleted and made anew, when everything in them was read."""
    del dice
    await system.drained(_DRAIN_S)
    await heard.listen(system.kafka.address)
    await _delete_topics(system.kafka.address)
    await kafka.create_topics(system.kafka.address, specs())
    return "when all was read"


async def _delete_topics(bootstrap: str) -> None:
    names = [spec.name for spec in specs()]
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.delete_topics(names)
        while set(names) & set(await admin.list_topics()):
            await asyncio.sleep(0.1)
    finally:
        await admin.close()


POINTS: Final[dict[str, tuple[Point, int]]] = {
    "kill -9 of a stage": (kill_stage, 16),
    "SIGTERM to a stage": (end_stage, 8),
    "a stage paused": (pause_stage, 8),
    "broker kill -9": (kill_broker, 6),
    "database kill -9": (kill_database, 6),
    "a second worker": (second_worker, 4),
    "one instance id twice": (same_instance, 3),
    "database disk full": (full_disk, 3),
    "database restored": (restore_database, 3),
    "a deadly record": (deadly_record, 4),
    "topics made anew": (topics_anew, 2),
}
"""By name, the point and how often of 63 it comes."""


def schedule(count: int, dice: random.Random) -> list[str]:
    """Choose the points: each kind at least once if there is room, the rest by weight."""
    names = list(POINTS)
    chosen = dice.sample(names, min(count, len(names)))
    weights = [weight for _, weight in POINTS.values()]
    chosen += dice.choices(names, weights, k=count - len(chosen))
    dice.shuffle(chosen)
    return chosen


def mounted(folder: Path, megabytes: int) -> bool:
    """Mount a small file system for the database, so that it can be filled; False without root."""
    folder.mkdir(parents=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=755", "tmpfs", str(folder)],
        capture_output=True,
        check=False,
    )
    return done.returncode == 0
