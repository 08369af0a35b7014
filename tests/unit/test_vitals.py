"""What a stage says about itself: it lives while it makes progress, ready with its servers."""

import asyncio
from collections.abc import Collection

import aiohttp
import pytest

from watchkeep.schemas.errors import ConfigError, LogAnewError, StuckError
from watchkeep.streams import places, vitals
from watchkeep.streams.embedded import free_port
from watchkeep.streams.memory import MemoryLog
from watchkeep.streams.ports import Span
from watchkeep.streams.vitals import STUCK_S, Vitals, served


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> Vitals:
    made = Vitals()
    monkeypatch.setattr(vitals, "VITALS", made)
    return made


async def told(port: int, path: str) -> tuple[int, str]:
    async with (
        aiohttp.ClientSession() as http,
        http.get(f"http://127.0.0.1:{port}{path}") as answer,
    ):
        return answer.status, await answer.text()


async def test_a_stage_with_nothing_before_it_lives(fresh: Vitals) -> None:
    fresh.look("t", {0: 9}, {0: Span(0, 10)})
    fresh.moved_s -= 2 * STUCK_S
    port = free_port()
    async with served("127.0.0.1", port):
        assert await told(port, "/healthz") == (200, "ok\n")
        assert await told(port, "/readyz") == (200, "ok\n")


async def test_a_stage_that_answers_and_takes_nothing_does_not_live(fresh: Vitals) -> None:
    fresh.look("t", {0: 9, 1: 5}, {0: Span(0, 20), 1: Span(0, 6)})
    fresh.moved_s -= STUCK_S + 1
    fresh.look("t", {0: 9, 1: 5}, {0: Span(0, 30), 1: Span(0, 6)})
    port = free_port()
    async with served("127.0.0.1", port):
        status, text = await told(port, "/healthz")
        assert (status, text.startswith("20 records wait, and none has come for 3")) == (
            503,
            True,
        )
        metrics = (await told(port, "/metrics"))[1]
    assert 'watchkeep_lag_records{partition="0",topic="t"} 20.0' in metrics
    fresh.look("t", {0: 10, 1: 5}, {0: Span(0, 30), 1: Span(0, 6)})
    assert fresh.stuck() == ""


async def test_who_waits_for_a_server_lives_and_is_not_ready(fresh: Vitals) -> None:
    fresh.look("t", {0: 9}, {0: Span(0, 20)})
    fresh.moved_s -= STUCK_S + 1
    port = free_port()
    async with served("127.0.0.1", port):
        with fresh.waiting("the database can't be reached"):
            assert await told(port, "/healthz") == (200, "ok\n")
            assert await told(port, "/readyz") == (503, "the database can't be reached\n")
        assert fresh.not_ready() == ""


async def test_one_record_may_take_long_but_not_for_ever(
    fresh: Vitals, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh.look("t", {0: 9}, {0: Span(0, 20)})
    fresh.moved_s -= STUCK_S + 1
    with fresh.taking():
        assert fresh.stuck() == ""
        monkeypatch.setattr(vitals, "TAKEN_MAX_S", -1.0)
        assert fresh.stuck() == "one record takes 0 s"
    assert fresh.stuck() == ""


async def test_a_log_that_does_not_come_ends_the_stage(
    fresh: Vitals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "_GUARD_S", 0.01)
    monkeypatch.setattr(places, "VITALS", fresh)
    monkeypatch.setattr(vitals, "STUCK_S", 0.05)
    log = MemoryLog()
    for _ in range(3):
        await log.send("t", b"x")
    with pytest.raises(StuckError, match=r"^t: 2 records wait, and none has come for 0 s$"):
        await places.guard(log.source("t", "g"), lambda: {0: 0})
    with pytest.raises(LogAnewError):
        await places.guard(log.source("t", "g"), lambda: {0: 3})


async def test_marks_at_the_end_of_a_log_are_no_records(
    fresh: Vitals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "_GUARD_S", 0.01)
    monkeypatch.setattr(places, "VITALS", fresh)
    monkeypatch.setattr(vitals, "STUCK_S", 0.05)
    log = MemoryLog()
    for partition in (0, 1):
        await log.send("t", b"x", partition=partition)
    source = log.source("t", "g")
    held = source.spans

    async def with_marks(partitions: Collection[int]) -> dict[int, Span]:
        return {n: Span(0, end + 2) for n, (_, end) in (await held(partitions)).items()}

    monkeypatch.setattr(source, "spans", with_marks)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await places.guard(source, lambda: {0: 0, 1: 0})
    assert fresh.lag == {0: 0, 1: 0}
    await log.send("t", b"beyond the marks", partition=1)
    with pytest.raises(StuckError, match=r"^t: 3 records wait"):
        await places.guard(source, lambda: {0: 0, 1: 0})


async def test_a_port_in_use_is_told() -> None:
    port = free_port()
    async with served("127.0.0.1", port):
        with pytest.raises(ConfigError, match=rf"^monitor\.port: can't listen on 127.0.0.1:{port}"):
            async with served("127.0.0.1", port):
                pytest.fail("two listen on one port")


async def test_port_0_listens_nowhere() -> None:
    async with served("127.0.0.1", 0):
        pass
