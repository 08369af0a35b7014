"""What people are told about Watchkeep itself: that it is blind, and what it stumbled over."""

import asyncio

import pytest

from inbox import Inbox
from watchkeep.schemas.errors import StoreError
from watchkeep.streams import notify
from watchkeep.streams.memory import MemoryLog
from watchkeep.streams.memory_store import MemoryStore
from watchkeep.streams.stores import Trouble
from watchkeep.streams.topics import ALERTS


async def gone() -> list[Trouble]:
    raise StoreError("connection refused <!here>")


async def lived(store: MemoryStore, inbox: Inbox) -> asyncio.Task[None]:
    teller = notify.Teller([inbox], attempts=1, blind_after_s=0.05)
    return asyncio.ensure_future(notify._look_after(store, teller))


async def test_people_are_told_once_that_watchkeep_is_blind_and_once_that_it_sees_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store, inbox = MemoryStore(), Inbox()
    with monkeypatch.context() as outage:
        outage.setattr(store, "troubles", gone)
        task = await lived(store, inbox)
        await asyncio.sleep(0.4)
    await asyncio.sleep(0.2)
    task.cancel()
    assert [message.title for message in inbox.messages] == [
        "Watchkeep is blind: its database is gone",
        "Watchkeep sees again: its database is back",
    ]
    assert "connection refused" in inbox.messages[0].body
    assert "<!here>" not in inbox.messages[0].body


async def test_a_short_outage_is_nobody_s_business(monkeypatch: pytest.MonkeyPatch) -> None:
    store, inbox = MemoryStore(), Inbox()
    teller = notify.Teller([inbox], attempts=1, blind_after_s=60)
    with monkeypatch.context() as outage:
        outage.setattr(store, "troubles", gone)
        outage.setattr(notify, "_LOOK_S", 0.02)
        task = asyncio.ensure_future(notify._look_after(store, teller))
        await asyncio.sleep(0.1)
    await asyncio.sleep(0.1)
    task.cancel()
    assert inbox.messages == []


async def test_operators_are_told_of_a_trouble_beside_the_alerts() -> None:
    log, store, inbox = MemoryLog(), MemoryStore(), Inbox()
    await store.report(Trouble("deadly/t/0/7", "detect died 3 times", "t/0 offset 7 is put aside"))
    lease = await store.acquire_lease("notify", "test", 1e9)
    assert lease is not None
    teller = notify.Teller([inbox], attempts=1, blind_after_s=60)
    await log.send(ALERTS, None, key=b"i1")
    for _ in range(2):
        source = log.source(ALERTS, "notify")
        await notify.follow(source, sink=log, store=store, lease=lease, teller=teller)
    assert [message.title for message in inbox.messages] == ["detect died 3 times"]


async def test_what_nobody_could_be_told_is_told_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notify, "_LOOK_S", 0.02)
    store, inbox = MemoryStore(), Inbox(failures=2)
    await store.report(Trouble("deadly/t/0/7", "detect died 3 times", "t/0 offset 7 is put aside"))
    task = await lived(store, inbox)
    await asyncio.sleep(0.2)
    inbox.fail(times=2)
    monkeypatch.setattr(store, "troubles", gone)
    await asyncio.sleep(0.4)
    task.cancel()
    assert set(inbox.refused) == {"Watchkeep is blind: its database is gone"}
    assert inbox.titles == ["detect died 3 times", "Watchkeep is blind: its database is gone"]
