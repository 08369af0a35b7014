"""The log, the database or another worker changes under a running detect: nothing is lost."""

import asyncio
import copy
from collections.abc import Collection

import pytest

from detect_runs import (
    CELLS,
    SETTINGS,
    SHARDS,
    Fate,
    Result,
    a_log,
    a_worker,
    cut_log,
    grow,
    live,
    result,
    taken,
    undisturbed_run,
)
from watchkeep.schemas.errors import LogAnewError, LogError, StoreAnewError, StoreError
from watchkeep.schemas.window import ColdStart, decode
from watchkeep.streams.memory_store import MemoryStore
from watchkeep.streams.ports import Place
from watchkeep.streams.runtime import Worker
from watchkeep.streams.stores import Attempts
from watchkeep.streams.topics import ANOMALIES, METRICS

pytestmark = pytest.mark.usefixtures("quickly_warm")


@pytest.fixture(scope="module")
def undisturbed(quickly_warm: None) -> Result:  # noqa: ARG001 - It is there before.
    return asyncio.run(undisturbed_run())[0]


async def test_who_was_paused_can_not_overwrite_its_successor(
    undisturbed: Result, caplog: pytest.LogCaptureFixture
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
    assert result(log, store) == undisturbed


@pytest.mark.parametrize("saved_meanwhile", [True, False])
async def test_a_database_restored_under_a_running_worker_costs_nothing(
    undisturbed: Result, *, saved_meanwhile: bool
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
    await worker.flush()
    if saved_meanwhile:
        await worker.save_all()
    store.__dict__.update(backup)
    # Nothing new comes, so only looking can tell.
    for ending in (worker.flush, worker.save_all):
        with pytest.raises(StoreAnewError):
            await ending()
    await worker.give_up(set(SHARDS))
    assert store.snapshots[SHARDS[0]].place.offset == 8
    await grow(log, whole, CELLS)
    await live(log, store, Fate())
    assert store.snapshots[SHARDS[0]].place.offset == CELLS - 1
    assert result(log, store) == undisturbed


async def test_a_snapshot_on_a_restored_one_is_refused(
    undisturbed: Result, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    whole = await a_log()
    log, store = await cut_log(whole, 9), MemoryStore()
    worker = a_worker(log, store)
    await worker.adopt_assigned()
    await worker.save_all()
    before = copy.deepcopy(store.snapshots)
    await grow(log, whole, 17)
    await worker.adopt_assigned()
    for shard in SHARDS:
        await taken(worker, log, shard, 9, 17)
    await worker.save_all()
    monkeypatch.setattr(store, "snapshots", before)
    await grow(log, whole, CELLS)
    for shard in SHARDS:
        await taken(worker, log, shard, 17, CELLS)
    await worker.save_all()
    assert "its state here is dropped" in caplog.text
    await worker.adopt_assigned()
    await worker.save_all()
    assert store.snapshots[SHARDS[0]].place.offset == CELLS - 1
    assert result(log, store) == undisturbed


async def test_a_state_is_kept_over_a_rebalance_that_brings_it_back(
    undisturbed: Result, monkeypatch: pytest.MonkeyPatch
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
    assert result(log, store) == undisturbed


async def test_without_a_database_windows_are_told_and_nothing_is_lost(
    undisturbed: Result, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = await a_log()
    log, store = await cut_log(whole, 6), MemoryStore()
    worker = a_worker(log, store)
    await worker.adopt_assigned()

    async def gone(*_: object) -> None:
        raise StoreError("no route to it")

    monkeypatch.setattr("watchkeep.streams.closed_cells._ROWS_A_WRITE", 3)
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
    assert result(log, store) == undisturbed


async def test_a_log_made_anew_under_a_running_worker_costs_no_state(
    undisturbed: Result, caplog: pytest.LogCaptureFixture
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
    assert result(log, store) == undisturbed


async def test_a_state_outlives_a_log_made_anew_that_is_still_empty(
    undisturbed: Result,
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
    assert result(log, store) == undisturbed


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


async def test_a_log_that_takes_nothing_is_no_record_s_fault(
    undisturbed: Result, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, store = await a_log(), MemoryStore()

    async def full(*_: object, **__: object) -> None:
        raise LogError("too few replicas")

    with monkeypatch.context() as outage:
        outage.setattr(log, "send", full)
        for _ in range(6):
            with pytest.raises(LogError):
                await a_worker(log, store).adopt_assigned()
    await live(log, store, Fate())
    assert await store.troubles() == []
    assert result(log, store) == undisturbed


async def test_what_was_taken_away_while_it_was_adopted_is_not_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log, store = await a_log(), MemoryStore()
    source = log.source(METRICS, "detect")
    worker = Worker(source, log, store, SETTINGS)
    assigned = iter([set(SHARDS)])
    monkeypatch.setattr(source, "assigned", lambda: next(assigned, {SHARDS[0]}))
    await worker.adopt_assigned()
    assert set(worker.offsets()) == {SHARDS[0]}
    taken_before = len(log.values(ANOMALIES))
    await taken(worker, log, SHARDS[1], 0, CELLS)
    assert len(log.values(ANOMALIES)) == taken_before


async def test_a_database_that_stumbles_after_a_claim_is_no_death(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log, store = await a_log(), MemoryStore()
    attempts, answers = store.attempts, iter([False])

    async def stumbling(stage: str, partitions: Collection[int]) -> dict[int, Attempts]:
        if not next(answers, True):
            raise StoreError("no route to it")
        return await attempts(stage, partitions)

    monkeypatch.setattr(store, "attempts", stumbling)
    await a_worker(log, store).adopt_assigned()
    assert {store.snapshots[shard].unsaved for shard in SHARDS} == {1}


async def test_care_ends_once_enough_was_tried(
    undisturbed: Result, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("watchkeep.streams.runtime._TRIED_MAX", 4)
    log, store = await a_log(), MemoryStore()
    for _ in range(2):
        await store.claim(SHARDS)
    noted = []

    async def note(stage: str, partition: int, place: Place) -> None:
        noted.append((stage, partition, place.offset))

    monkeypatch.setattr(store, "note_attempt", note)
    await live(log, store, Fate())
    assert noted == [("detect", shard, offset) for shard in SHARDS for offset in range(4)]
    assert result(log, store) == undisturbed
