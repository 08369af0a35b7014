"""detect is killed at every offset and between any two of its steps, and nothing is lost."""

import asyncio
import random

import pytest

from detect_runs import CELLS, SHARDS, Fate, Killed, Result, a_log, live, result, undisturbed_run
from watchkeep.schemas.frame import Frame
from watchkeep.streams.memory import MemoryLog
from watchkeep.streams.memory_store import MemoryStore
from watchkeep.streams.topics import DEAD_LETTERS, METRICS

pytestmark = pytest.mark.usefixtures("quickly_warm")


@pytest.fixture(scope="module")
def undisturbed(quickly_warm: None) -> tuple[Result, int]:  # noqa: ARG001 - It is there before.
    return asyncio.run(undisturbed_run())


async def test_the_undisturbed_run_has_something_to_lose(
    undisturbed: tuple[Result, int],
) -> None:
    (windows, rollups), steps = undisturbed
    assert len({name for name, _ in windows}) == 4
    assert len(windows) >= 8
    assert rollups.count("(") > 2 * len(SHARDS) * (CELLS - 3)
    assert steps > 150


@pytest.mark.parametrize("polite", [False, True])
async def test_a_death_at_any_step_changes_nothing(
    undisturbed: tuple[Result, int], *, polite: bool
) -> None:
    expected, steps = undisturbed
    for at in range(1, steps + 1):
        log, store = MemoryLog(), MemoryStore()
        with pytest.raises(Killed):
            await live(log, store, Fate(at), polite=polite)
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
