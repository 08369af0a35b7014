"""detect is killed at every offset and between any two of its steps, and nothing comes out of it.

The worker runs on the memory ports. Every call that leaves it (send, save, write, claim, ack) can
be its last: before it is made, or after it was made and before the worker hears of it.
"""

import asyncio
import copy
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from watchkeep.schemas.errors import LogAnewError, StoreError
from watchkeep.schemas.frame import Frame, FrameKind, LabelSet, MetricKind, SenderTime, encode
from watchkeep.schemas.labels import canonical, series_id
from watchkeep.schemas.settings import Detect
from watchkeep.schemas.window import ColdStart, Window, decode
from watchkeep.streams.memory import MemoryLog
from watchkeep.streams.memory_store import MemoryStore
from watchkeep.streams.ports import Span
from watchkeep.streams.runtime import Worker
from watchkeep.streams.topics import ANOMALIES, DEAD_LETTERS, METRICS

SETTINGS = Detect(warmup_cells=5, memory_cells=10, open_cells=1, close_cells=2, grace_s=1)
SHARDS = (3, 40)
CELLS = 26
SAVED_EVERY = 7
BEGIN_MS = 1_772_409_600_000

Result = tuple[dict[tuple[str, int], str], str]


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
            value = 100 + noise.normal(0, 1, 3) + 80 * (10 <= cell < 14 or cell == 20)
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


async def live(log: MemoryLog, store: MemoryStore, fate: Fate) -> None:
    """Run detect while the log grows to what `a_log` has; snapshots come every few records."""
    whole = await a_log()
    ports: tuple[Any, Any] = (Mortal(log, fate), Mortal(store, fate))
    worker = Worker(log.source(METRICS, "detect"), *ports, SETTINGS)
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


@pytest.fixture(scope="module")
def undisturbed() -> tuple[Result, int]:
    """Run it without any death; tell the result, and how many steps it took."""

    async def run() -> tuple[Result, int]:
        log, store, fate = MemoryLog(), MemoryStore(), Fate()
        await live(log, store, fate)
        return result(log, store), fate.steps

    return asyncio.run(run())


async def test_the_undisturbed_run_has_something_to_lose(
    undisturbed: tuple[Result, int],
) -> None:
    (windows, rollups), steps = undisturbed
    assert len({name for name, _ in windows}) == 4
    assert len(windows) >= 8
    assert rollups.count("(") > 2 * len(SHARDS) * (CELLS - 3)
    assert steps > 150


async def test_a_death_at_any_step_changes_nothing(undisturbed: tuple[Result, int]) -> None:
    expected, steps = undisturbed
    for at in range(1, steps + 1):
        log, store = MemoryLog(), MemoryStore()
        with pytest.raises(Killed):
            await live(log, store, Fate(at))
        await live(log, store, Fate())
        assert result(log, store) == expected, f"killed at step {at} of {steps}"


async def test_many_deaths_change_nothing(undisturbed: tuple[Result, int]) -> None:
    expected, steps = undisturbed
    for seed in range(20):
        dice = random.Random(seed)
        log, store = MemoryLog(), MemoryStore()
        for _ in range(6):
            try:
                await live(log, store, Fate(dice.randint(1, steps)))
            except Killed:
                continue
        await live(log, store, Fate())
        assert result(log, store) == expected, f"seed {seed}"


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


async def test_who_was_paused_can_not_overwrite_its_successor(
    undisturbed: tuple[Result, int], caplog: pytest.LogCaptureFixture
) -> None:
    whole = await a_log()
    log, store = await cut_log(whole, 9), MemoryStore()
    paused, successor = a_worker(log, store), a_worker(log, store)
    await paused.adopt_assigned()
    await paused.save_all()
    await grow(log, whole, 13)
    await taken(paused, log, SHARDS[0], 9, 11)
    await successor.adopt_assigned()
    await grow(log, whole, 17)
    await successor.adopt_assigned()
    await taken(successor, log, SHARDS[0], 13, 17)
    await successor.save_all()
    await taken(paused, log, SHARDS[0], 11, 15)
    await paused.save_all()
    assert "another worker has claimed it" in caplog.text
    assert store.snapshots[SHARDS[0]].place.offset == 16
    await grow(log, whole, CELLS)
    await live(log, store, Fate())
    assert result(log, store) == undisturbed[0]


async def test_a_database_restored_under_a_running_worker_costs_nothing(
    undisturbed: tuple[Result, int],
) -> None:
    whole = await a_log()
    log, store = await cut_log(whole, 9), MemoryStore()
    worker = a_worker(log, store)
    await worker.adopt_assigned()
    await worker.save_all()
    backup = copy.deepcopy(store.__dict__)
    await grow(log, whole, 17)
    for shard in SHARDS:
        await taken(worker, log, shard, 9, 17)
    await worker.save_all()
    store.__dict__.update(backup)
    await grow(log, whole, 20)
    for shard in SHARDS:
        await taken(worker, log, shard, 17, 20)
    await worker.save_all()
    assert store.snapshots[SHARDS[0]].place.offset == 8
    await grow(log, whole, CELLS)
    for shard in SHARDS:
        await taken(worker, log, shard, 20, CELLS)
    await worker.save_all()
    assert store.snapshots[SHARDS[0]].place.offset == CELLS - 1
    assert result(log, store) == undisturbed[0]


async def test_a_state_is_kept_over_a_rebalance_that_brings_it_back(
    undisturbed: tuple[Result, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = await a_log()
    log, store = await cut_log(whole, 12), MemoryStore()
    worker = a_worker(log, store)
    await worker.adopt_assigned()
    await worker.give_up(set(SHARDS))
    monkeypatch.setattr(store, "load_blocks", None)
    await grow(log, whole, CELLS)
    await worker.adopt_assigned()
    await worker.save_all()
    assert result(log, store) == undisturbed[0]


async def test_without_a_database_windows_are_told_and_nothing_is_lost(
    undisturbed: tuple[Result, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = await a_log()
    log, store = await cut_log(whole, 6), MemoryStore()
    worker = a_worker(log, store)
    await worker.adopt_assigned()

    async def gone(*_: object) -> None:
        raise StoreError("no route to it")

    monkeypatch.setattr("watchkeep.streams.runtime._ROWS_A_WRITE", 3)
    with monkeypatch.context() as outage:
        for name in ("claim", "save_snapshots", "write_rollups"):
            outage.setattr(store, name, gone)
        await grow(log, whole, CELLS)
        for shard in SHARDS:
            await taken(worker, log, shard, 6, CELLS)
        with pytest.raises(StoreError):
            await worker.flush()
        await worker.give_up({SHARDS[0]})
    await worker.flush()
    assert result(log, store) == undisturbed[0]


async def test_a_record_that_ends_detect_three_times_is_put_aside(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log, store = await a_log(), MemoryStore()
    deadly = log.partitions[METRICS, SHARDS[1]][4].value or b""

    def read(value: bytes) -> Frame:
        if value == deadly:
            raise ZeroDivisionError
        return frame_of(value)

    from watchkeep.schemas.frame import decode as frame_of  # noqa: PLC0415 - The one replaced below.

    monkeypatch.setattr("watchkeep.streams.runtime.decode", read)
    for _ in range(3):
        assert not log.values(DEAD_LETTERS)
        with pytest.raises(ZeroDivisionError):
            await live(log, store, Fate())
    await live(log, store, Fate())
    assert log.values(DEAD_LETTERS) == [deadly]
    assert store.snapshots[SHARDS[1]].place.offset == CELLS - 1
    assert [trouble.title for trouble in await store.troubles()] == [
        "Watchkeep's detect died 3 times of one record"
    ]


async def test_a_record_that_kills_outright_is_put_aside_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log, store = await a_log(), MemoryStore()
    deadly = log.partitions[METRICS, SHARDS[0]][4].value or b""

    from watchkeep.schemas.frame import decode as frame_of  # noqa: PLC0415 - As above.

    def read(value: bytes) -> Frame:
        if value == deadly:
            raise Killed
        return frame_of(value)

    monkeypatch.setattr("watchkeep.streams.runtime.decode", read)
    deaths = 0
    while not log.values(DEAD_LETTERS):
        try:
            await live(log, store, Fate())
        except Killed:
            deaths += 1
    assert deaths == 4
    assert store.snapshots[SHARDS[0]].place.offset == CELLS - 1


async def test_a_log_made_anew_under_a_running_worker_costs_no_state(
    undisturbed: tuple[Result, int], caplog: pytest.LogCaptureFixture
) -> None:
    whole = await a_log()
    log, store = await cut_log(whole, 14), MemoryStore()
    worker = a_worker(log, store)
    await worker.adopt_assigned()
    await worker.save_all()
    await grow(log, whole, 17)
    for shard in SHARDS:
        await taken(worker, log, shard, 14, 17)
        log.partitions[METRICS, shard] = whole.partitions[METRICS, shard][17:21]
    await worker.save_all()
    for shard in SHARDS:
        assert store.snapshots[shard].place.offset == 16
        log.partitions[METRICS, shard] = whole.partitions[METRICS, shard][17:]
    successor = a_worker(log, store)
    await successor.adopt_assigned()
    await successor.save_all()
    assert "was made anew" in caplog.text
    assert result(log, store) == undisturbed[0]


async def test_a_state_outlives_a_log_made_anew_that_is_still_empty(
    undisturbed: tuple[Result, int],
) -> None:
    whole = await a_log()
    log, store = await cut_log(whole, 14), MemoryStore()
    worker = a_worker(log, store)
    await worker.adopt_assigned()
    await worker.save_all()
    await grow(log, whole, 0)
    for _ in range(2):
        successor = a_worker(log, store)
        await successor.adopt_assigned()
        await successor.save_all()
    for shard in SHARDS:
        log.partitions[METRICS, shard] = whole.partitions[METRICS, shard][14:]
    last = a_worker(log, store)
    await last.adopt_assigned()
    await last.save_all()
    assert result(log, store) == undisturbed[0]


async def test_no_snapshot_spans_two_logs() -> None:
    whole = await a_log()
    log, store = await cut_log(whole, 5), MemoryStore()
    worker = a_worker(log, store)
    await worker.adopt_assigned()
    await worker.save_all()
    for shard in SHARDS:
        log.partitions[METRICS, shard] = whole.partitions[METRICS, shard][5:]
        await taken(worker, log, shard, 7, 12)
    with pytest.raises(LogAnewError):
        await worker.save_all()
    assert [store.snapshots[shard].place.offset for shard in SHARDS] == [4, 4]


async def test_a_damaged_snapshot_is_told_and_starts_cold(
    caplog: pytest.LogCaptureFixture,
) -> None:
    whole = await a_log()
    log, store = await cut_log(whole, 15), MemoryStore()
    worker = a_worker(log, store)
    await worker.adopt_assigned()
    await worker.save_all()
    blocks = dict(store.snapshots[SHARDS[0]].blocks)
    store.snapshots[SHARDS[0]].blocks = blocks | {0: blocks[0][:-1] + b"x"}
    store.snapshots[SHARDS[1]].manifest = b"WKS1" + store.snapshots[SHARDS[1]].manifest[4:]
    await grow(log, whole, CELLS)
    await live(log, store, Fate())
    assert f"shard {SHARDS[0]} starts cold: the snapshot is damaged: " in caplog.text
    assert f"shard {SHARDS[1]} starts cold: the snapshot is of another version" in caplog.text
    cold = [decode(value or b"") for value in log.values(ANOMALIES)]
    assert {record.shard for record in cold if isinstance(record, ColdStart)} == set(SHARDS)
    assert [store.snapshots[shard].place.offset for shard in SHARDS] == [CELLS - 1] * 2
