"""Cells and windows, as detect and incidents write them and `inspect` reads them."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from small_catalogue import CART, NODE
from small_history import (
    BEGIN_MS,
    ERRORS,
    MIDDLE,
    PAY,
    QUEUE,
    SLOWEST,
    THEIRS,
    WINDOW,
    at,
    fill,
    renamed,
)
from watchkeep.schemas.window import WindowState
from watchkeep.streams.cli import main
from watchkeep.streams.memory_store import MemoryStore
from watchkeep.streams.store import PgStore, migrate, open_store
from watchkeep.streams.stores import CHANNELS

Store = MemoryStore | PgStore

NEVER_MS = BEGIN_MS * 2


async def test_an_empty_store_has_no_past(store: Store) -> None:
    assert list(await store.entities()) == []
    assert list(await store.metrics()) == []
    assert list(await store.named()) == []
    assert await store.newest_of([1], NEVER_MS) is None
    assert await store.cells([1], 0, NEVER_MS) == {}
    assert list(await store.windows_of(CART, 0, NEVER_MS)) == []


async def test_names_are_found_by_entity_and_by_metric(store: Store) -> None:
    await fill(store)
    assert CART in await store.entities()
    assert list(await store.entities()) == sorted(await store.entities())
    assert "node_load1" in await store.metrics()
    whole = await store.named(entity=CART)
    assert [row.signal_id for row in whole] == [MIDDLE[0], SLOWEST[0], ERRORS[0], QUEUE[0]]
    assert list(await store.named(metric=ERRORS.metric)) == [ERRORS, THEIRS]
    assert list(await store.named(PAY, ERRORS.metric)) == [THEIRS]
    assert list(await store.named(NODE, ERRORS.metric)) == []


async def test_the_newest_cell_before_a_time_is_told(store: Store) -> None:
    await fill(store)
    ids = [QUEUE.signal_id, ERRORS.signal_id, THEIRS.signal_id]
    assert await store.newest_of(ids, NEVER_MS) == at(119)
    assert await store.newest_of(ids, at(60)) == at(59)
    assert await store.newest_of(ids, at(60) + 1) == at(60)
    assert await store.newest_of(ids, BEGIN_MS) is None
    assert await store.newest_of([THEIRS.signal_id], NEVER_MS) is None


async def test_cells_are_read_back_with_what_each_channel_said(store: Store) -> None:
    await fill(store)
    ids = [QUEUE.signal_id, ERRORS.signal_id, THEIRS.signal_id]
    found = await store.cells(ids, at(28), at(31))
    assert set(found) == {QUEUE.signal_id, ERRORS.signal_id}
    cells = found[ERRORS.signal_id]
    assert cells.at_ms.tolist() == [at(28), at(29), at(30)]
    assert cells.end_ms.tolist() == [at(29), at(30), at(31)]
    assert cells.value.tolist() == [1.0, 1.0, 9.0]
    assert cells.rarity.tolist() == [-3.0, -3.0, 0.8]
    assert (cells.threshold.tolist(), cells.warmup.tolist()) == ([0.0] * 3, [1.0] * 3)
    spike, envelope = (cells.channels[CHANNELS.index(name)] for name in ("spike", "envelope"))
    assert spike.tolist() == [-3.0, -3.0, 1.5]
    assert np.isnan(envelope).tolist() == [True, False, True]
    assert envelope[1] == pytest.approx(-1.8)
    assert found[QUEUE.signal_id].value.tolist() == [np.inf] * 3
    assert cells.between(at(29), at(30)).value.tolist() == [1.0]
    assert cells.between(at(29), at(30)).channels.shape == (len(CHANNELS), 1)


async def test_windows_that_touch_a_stretch_of_time_are_read_as_they_were_told_last(
    store: Store,
) -> None:
    first = renamed(WINDOW, "a", revision=1, state=WindowState.OPEN, at_ms=at(32), ended_ms=None)
    last = renamed(WINDOW, "a", revision=2)
    other = renamed(first, "b", onset_ms=at(90), detected_ms=at(91), at_ms=at(91), revision=1)
    await fill(store, first, last, other)
    assert list(await store.windows_of(CART, BEGIN_MS, at(120))) == [last, other]
    assert list(await store.windows_of(CART, at(44), at(90))) == [last]
    assert list(await store.windows_of(CART, at(45), at(90))) == []
    assert list(await store.windows_of(CART, at(200), at(300))) == [other]
    assert list(await store.windows_of(CART, BEGIN_MS, at(30))) == []
    assert list(await store.windows_of(NODE, BEGIN_MS, at(120))) == []


async def filled(url: str) -> None:
    """Fill a database that is empty."""
    await migrate(url)
    async with open_store(url) as store:
        await fill(store)


@pytest.mark.database
def test_a_person_asks_on_the_command_line(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import asyncio  # noqa: PLC0415 - The command runs a loop of its own.

    asyncio.run(filled(database_url))
    monkeypatch.setenv("WATCHKEEP_DATABASE__URL", database_url)
    monkeypatch.setenv("WATCHKEEP_BROKER__BOOTSTRAP", "127.0.0.1:1")

    def inspect(*words: str) -> tuple[int, str]:
        done = CliRunner().invoke(main, ["inspect", *words])
        return done.exit_code, done.output

    code, told = inspect("shop/cart", "--at", "-1h24m")
    assert code == 0
    assert "It fired: a window was open from 00:30 to 00:45" in told
    code, told = inspect("http_requests_total", "--json")
    assert (code, told.splitlines()[0]) == (
        2,
        "watchkeep: 2 signals fit http_requests_total; ask for one of them:",
    )
    code, told = inspect("node n1", "--json")
    assert (code, json.loads(told)["verdict"]) == (0, "warming")
    for words, wrong in {
        ("shop/cart", "--at", "soon"): "--at: 'soon' is no time",
        ("shop/cart", "--span", "6"): "--span: '6' is no length of time",
        ("shop/cart", "--plot", "x.gif"): "--plot: x.gif has to end in .png or .svg",
    }.items():
        code, told = inspect(*words)
        assert (code, told.count("\n")) == (2, 1)
        assert wrong in told


def test_the_help_teaches_with_examples() -> None:
    told = CliRunner().invoke(main, ["inspect", "--help"]).output
    assert "watchkeep inspect shop/cart --at 14:05 --plot cart.png" in told
