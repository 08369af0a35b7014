"""One is active, the other waits, and who lost the lease stops at once."""

import asyncio

import pytest

from watchkeep.schemas.errors import LeaseLostError
from watchkeep.streams import lease
from watchkeep.streams.lease import held
from watchkeep.streams.memory import ManualClock
from watchkeep.streams.memory_store import MemoryStore


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "TTL_S", 0.06)
    monkeypatch.setattr(lease, "_RETRY_S", 0.01)


async def test_the_standby_waits_until_the_active_one_gives_it_back() -> None:
    store = MemoryStore(ManualClock(1))
    active = await store.acquire_lease("incidents", "other", 60)
    assert active is not None
    waiting = asyncio.ensure_future(entered(store))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    await store.release_lease(active)
    assert await asyncio.wait_for(waiting, 1) > active.token


async def entered(store: MemoryStore) -> int:
    async with held(store, "incidents", asyncio.Event()) as mine:
        assert mine is not None
        return mine.token


async def test_the_standby_takes_over_when_the_active_one_is_gone() -> None:
    clock = ManualClock(1)
    store = MemoryStore(clock)
    await store.acquire_lease("incidents", "other", 60)
    waiting = asyncio.ensure_future(entered(store))
    await asyncio.sleep(0.03)
    clock.time_ms += 61_000
    assert await asyncio.wait_for(waiting, 1) == 2


async def test_a_standby_that_is_stopped_never_becomes_active() -> None:
    store, stop = MemoryStore(ManualClock(1)), asyncio.Event()
    await store.acquire_lease("incidents", "other", 60)
    stop.set()
    async with held(store, "incidents", stop) as mine:
        assert mine is None


async def test_who_lost_the_lease_is_stopped_in_the_middle() -> None:
    clock = ManualClock(1)
    store = MemoryStore(clock)

    async def active() -> None:
        async with held(store, "incidents", asyncio.Event()):
            clock.time_ms += 1_000
            assert await store.acquire_lease("incidents", "other", 60) is not None
            await asyncio.sleep(5)
            pytest.fail("it went on without the lease")

    with pytest.raises(LeaseLostError):
        await active()


async def test_it_is_kept_while_it_is_renewed_and_free_afterwards() -> None:
    store = MemoryStore(ManualClock(1))
    async with held(store, "incidents", asyncio.Event()):
        await asyncio.sleep(0.1)
        assert await store.acquire_lease("incidents", "other", 60) is None
    assert await store.acquire_lease("incidents", "other", 60) is not None


async def test_who_dies_of_an_error_leaves_it_free() -> None:
    store = MemoryStore(ManualClock(1))
    with pytest.raises(ExceptionGroup):
        async with held(store, "incidents", asyncio.Event()):
            raise ZeroDivisionError
    assert await store.acquire_lease("incidents", "other", 60) is not None


async def test_two_processes_of_one_name_are_two() -> None:
    store = MemoryStore(ManualClock(1))
    async with held(store, "incidents", asyncio.Event()) as mine:
        assert mine is not None
        twin = asyncio.ensure_future(entered(store))
        await asyncio.sleep(0.05)
        assert not twin.done()
    assert await asyncio.wait_for(twin, 1) > mine.token
