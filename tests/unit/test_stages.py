"""A stage that is told to stop ends, also when it waits for a server that is gone."""

import asyncio

import pytest

from watchkeep.schemas.errors import LogError
from watchkeep.streams import stages
from watchkeep.streams.vitals import Vitals


@pytest.fixture(autouse=True)
def vitals(monkeypatch: pytest.MonkeyPatch) -> Vitals:
    fresh = Vitals()
    monkeypatch.setattr(stages, "VITALS", fresh)
    monkeypatch.setattr(stages, "_GONE_STOP_S", 0.05)
    return fresh


async def test_who_waits_for_a_server_is_ended_in_the_middle(vitals: Vitals) -> None:
    async def waits() -> None:
        with vitals.waiting("the database can't be reached"):
            await asyncio.Event().wait()

    stop = asyncio.Event()
    asyncio.get_running_loop().call_later(0.05, stop.set)
    await asyncio.wait_for(stages._ending(waits(), stop), 5)


async def test_who_works_may_end_what_it_does() -> None:
    ended = []

    async def works() -> None:
        await asyncio.sleep(0.3)
        ended.append("all of it")

    stop = asyncio.Event()
    stop.set()
    await stages._ending(works(), stop)
    assert ended == ["all of it"]


async def test_why_a_stage_ended_is_not_lost() -> None:
    async def fails() -> None:
        raise LogError("no answer")

    with pytest.raises(LogError, match="no answer"):
        await stages._ending(fails(), asyncio.Event())
