"""Runs of detect on the memory ports, which may be killed between any two of its steps.

Every call that leaves the worker (send, save, write, claim, ack) can be its last: before it is
made, or after it was made and before the worker hears of it.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from watchkeep.detectors.bank import Bank, Part
from watchkeep.detectors.chosen import Chosen
from watchkeep.detectors.ewma import Ewma
from watchkeep.detectors.rarity import Rarity
from watchkeep.detectors.tails import Pareto
from watchkeep.schemas.frame import Frame, FrameKind, LabelSet, MetricKind, SenderTime, encode
from watchkeep.schemas.labels import canonical, series_id
from watchkeep.schemas.settings import Detect
from watchkeep.schemas.signal import Role
from watchkeep.schemas.signal_rules import SignalRule
from watchkeep.schemas.window import Window, decode
from watchkeep.streams.memory import MemoryLog
from watchkeep.streams.memory_store import MemoryStore
from watchkeep.streams.ports import Span
from watchkeep.streams.runtime import Worker
from watchkeep.streams.topics import ANOMALIES, DEAD_LETTERS, METRICS

RULE = SignalRule(why="It is the test's.", when={"__name__": "queue_depth"}, role=Role.PAGE)
SETTINGS = Detect(close_cells=2, cool_down_s=1, grace_s=1, rules=(RULE,))
SHARDS = (3, 40)
CELLS = 26
SAVED_EVERY = 7
BEGIN_MS = 1_772_409_600_000

Result = tuple[dict[tuple[str, int], str], str]


def quick_bank(chosen: Chosen | None = None) -> Bank:
    """Make a bank that is warm after a few cells."""
    quick = Rarity(Pareto(trust=None), block_cells=2, warm_blocks=3, refit_ms=4 * 60_000)
    own = chosen and Chosen(chosen.channel, quick)
    return Bank((Part(Ewma(10, 5, 6.0), quick, slow=False),), quick, quick, own)


class Killed(BaseException):
    """The process is gone: nothing in it may handle this."""


@dataclass
class Fate:
    """Kills at one of the steps, counted from the begin; never when that is None."""

    at: int | None = None
    steps: int = 0

    async def around(self, call: Callable[[], Awaitable[Any]]) -> Any:  # noqa: ANN401 - Whatever the call gives.
        """Make a call between two chances to die."""
        self.step()
        answer = await call()
        self.step()
        return answer

    def step(self) -> None:
        """Go one step on, or die."""
        self.steps += 1
        if self.steps == self.at:
            raise Killed


class Mortal:
    """A port whose calls may be the last; attributes that are no coroutines pass through."""

    def __init__(self, port: object, fate: Fate) -> None:
        self._port = port
        self._fate = fate

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - The port's own.
        method = getattr(self._port, name)

        async def mortal(*args: object, **kwargs: object) -> Any:  # noqa: ANN401 - As above.
            return await self._fate.around(lambda: method(*args, **kwargs))

        return mortal


async def a_log() -> MemoryLog:
    """Write what two entities say: both jump for a while, one sends late and twice."""
    log = MemoryLog()
    noise = np.random.default_rng(5)
    for shard in SHARDS:
        form = canonical({"__name__": "queue_depth", "pod": f"cart-{shard}"}.items())
        label_set = LabelSet(
            series_id(form), MetricKind.GAUGE, f"workload/c/shop/cart-{shard}", "p", form
        )
        for cell in range(CELLS):
            time_ms = BEGIN_MS + cell * 60_000 + np.array([0, 20_000, 40_000])
            value = 100 + noise.normal(0, 1, 3) + 80 * (10 <= cell < 14) + 1e6 * (cell == 20)
            if shard == SHARDS[0]:
                time_ms, value = np.append(time_ms, time_ms[:1]), np.append(value, 7.0)
            newest_ms = int(time_ms.max())
            frame = Frame(
                FrameKind.DATA,
                "gateway-0",
                newest_ms,
                "rules",
                (SenderTime("c", "", newest_ms, newest_ms),),
                np.full(len(time_ms), label_set.series_id, np.uint64),
                time_ms.astype(np.int64),
                value,
                (label_set,) if cell % 10 == 0 else (),
            )
            await log.send(METRICS, encode(frame), partition=shard)
    return log


async def live(log: MemoryLog, store: MemoryStore, fate: Fate, *, polite: bool = False) -> None:
    """Run detect while the log grows to what `a_log` has; snapshots come every few records.

    Who is killed politely saves once more what it has, wherever it was.
    """
    ports: tuple[Any, Any] = (Mortal(log, fate), Mortal(store, fate))
    worker = Worker(log.source(METRICS, "detect"), *ports, SETTINGS)
    try:
        await _live(worker, log, fate)
    except Killed:
        if polite:
            await worker.save_all()
        raise


async def _live(worker: Worker, log: MemoryLog, fate: Fate) -> None:
    whole = await a_log()
    await worker.adopt_assigned()
    for offset in range(CELLS):
        for shard in SHARDS:
            if offset < len(log.partitions[METRICS, shard]):
                continue
            log.partitions[METRICS, shard].append(whole.partitions[METRICS, shard][offset])
            async for record in log.source(METRICS, "detect").records():
                if record.partition == shard:
                    record.ack = mortal_ack(record.ack, fate)
                    await worker.take(record)
            if offset % SAVED_EVERY == SAVED_EVERY - 1:
                await worker.save([shard])
    await worker.adopt_assigned()
    await worker.save_all()


def mortal_ack(ack: Callable[[], None], fate: Fate) -> Callable[[], None]:
    def mortal() -> None:
        fate.step()
        ack()
        fate.step()

    return mortal


def result(log: MemoryLog, store: MemoryStore) -> Result:
    """Give what readers see: each (window, revision) with its bytes, and the rollups."""
    windows: dict[tuple[str, int], str] = {}
    for value in log.values(ANOMALIES):
        record = decode(value or b"")
        if isinstance(record, Window):
            text = record.model_dump_json()
            assert windows.setdefault((record.window_id, record.revision), text) == text
    assert not log.values(DEAD_LETTERS)
    return windows, repr(sorted(store.rollups.items()))


async def taken(worker: Worker, log: MemoryLog, shard: int, begin: int, end: int) -> None:
    async for record in between(log, shard, begin, end):
        await worker.take(record)


async def between(log: MemoryLog, shard: int, begin: int, end: int) -> AsyncIterator[Any]:
    async for record in log.source(METRICS, "detect").between({shard: Span(begin, end)}):
        yield record


def a_worker(log: MemoryLog, store: MemoryStore) -> Worker:
    return Worker(log.source(METRICS, "detect"), log, store, SETTINGS)


async def cut_log(whole: MemoryLog, end: int) -> MemoryLog:
    log = MemoryLog()
    for place, entries in whole.partitions.items():
        log.partitions[place] = entries[:end]
    return log


async def grow(log: MemoryLog, whole: MemoryLog, end: int) -> None:
    for (topic, shard), entries in whole.partitions.items():
        if topic == METRICS:
            log.partitions[topic, shard] = entries[:end]


async def undisturbed_run() -> tuple[Result, int]:
    """Run it without any death; tell the result, and how many steps it took."""
    log, store, fate = MemoryLog(), MemoryStore(), Fate()
    await live(log, store, fate)
    return result(log, store), fate.steps
