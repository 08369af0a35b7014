"""What is watched, as detect tells it and people look it up."""

import asyncio
import dataclasses
import time

import numpy as np
import psycopg

from watchkeep.streams.catalogue import Catalogue, DroppedRow, FeedRow, RefusalRow, SenderRow
from watchkeep.streams.lookup import Count, Heard, LastCell
from watchkeep.streams.memory_store import MemoryStore
from watchkeep.streams.store import PgStore, migrate, open_store
from watchkeep.streams.stores import CHANNELS, Rollups, SignalRow, Write

CART, NODE = "workload/c/shop/cart", "node/c//n1"
AT_MS = 1_772_409_600_000
ERRORS = SignalRow(
    2**64 - 1,
    CART,
    "http_requests_total",
    {"code": "5xx"},
    "1/s",
    folding="rate",
    role="page",
    why="errors that its callers see",
    step_s=30,
)
P50 = SignalRow(2, CART, "request_seconds", {}, "s", folding="p50", role="page")
P99 = P50._replace(signal_id=3, folding="p99")
LOAD = SignalRow(4, NODE, "node_load1", {}, "")
FED = FeedRow(
    ERRORS.signal_id,
    series=12,
    members=3,
    asleep=False,
    value=0.5,
    at_ms=AT_MS,
    folded=("instance", "pod"),
    example='http_requests_total{pod="cart-\\"é"}',
)
INFO = DroppedRow(CART, "build_info", "info", "it says what is, not how it does", 3, "build_info")
REFUSED = RefusalRow(CART, "signals_per_entity", 37, "http_requests_total", AT_MS)
A = SenderRow("c", "a", AT_MS, AT_MS + 5, elected=True)
B = A._replace(replica="b", newest_ms=AT_MS - 9, elected=False)
SHARD = Catalogue(
    3,
    (
        FED,
        FED._replace(signal_id=2, series=30, members=2, value=None, at_ms=0),
        FED._replace(signal_id=3, series=30, members=2, asleep=True, value=float("inf"), folded=()),
    ),
    (INFO, INFO._replace(metric="other_info", series=4)),
    (REFUSED, REFUSED._replace(entity="", limit="late", count=99)),
    (A, B),
)
OTHER = Catalogue(
    5, (FED._replace(signal_id=4, series=1, members=1),), senders=(B._replace(elected=True),)
)

Store = MemoryStore | PgStore


def cells(at_ms: int, *signals: SignalRow) -> Rollups:
    """Make one cell of each signal."""
    n = len(signals)
    nan = np.full(n, np.nan)
    return Rollups(
        60,
        np.full(n, at_ms, np.int64),
        np.array([signal.signal_id for signal in signals], np.uint64),
        np.full(n, 7.5),
        np.ones(n, np.int32),
        expected=np.full(n, 7.0),
        low=np.full(n, 6.5),
        high=np.full(n, 8.0),
        rarity=nan,
        threshold=np.full(n, 0.5),
        warmup=np.full(n, 0.25),
        channels={**dict.fromkeys(CHANNELS, nan), "hour": np.full(n, -1.5)},
        signals=signals,
    )


async def filled(store: Store) -> None:
    """Write names, cells and two shards."""
    await store.write_rollups([cells(AT_MS - 60_000, ERRORS, P50, P99, LOAD)], Write("a", 1))
    await store.write_rollups([cells(AT_MS, ERRORS)], Write("a", 2))
    await store.write_catalogue([SHARD, OTHER])


async def test_an_empty_store_tells_nothing(store: Store) -> None:
    assert list(await store.counts()) == []
    assert list(await store.watched([CART])) == []
    assert list(await store.refusals()) == []
    assert list(await store.senders()) == []
    assert await store.newest_cell_ms() is None


async def test_what_is_watched_is_read_back(store: Store) -> None:
    await filled(store)
    errors, p50, p99 = await store.watched([CART])
    assert errors.signal == ERRORS
    assert errors.feed == FED
    assert errors.last == LastCell(AT_MS, 7.5, 7.0, 6.5, 8.0, -1.5, None, 0.5, 0.25)
    assert (p50.feed.value, p50.feed.at_ms) == (None, 0)
    assert (p99.feed.value, p99.feed.asleep, p99.feed.folded) == (float("inf"), True, ())
    assert [w.signal for w in await store.watched([NODE, "workload/c/x/y"])] == [LOAD]
    assert await store.newest_cell_ms() == AT_MS


async def test_a_signal_without_cells_is_watched_too(store: Store) -> None:
    await store.write_catalogue([OTHER])
    assert list(await store.watched([NODE])) == []
    named = dataclasses.replace(cells(AT_MS), signals=(LOAD,))
    await store.write_rollups([named], Write("a", 1))
    (load,) = await store.watched([NODE])
    assert load.last is None


async def test_entities_are_counted(store: Store) -> None:
    await filled(store)
    unnamed = INFO._replace(entity="", metric="")
    dropped = (INFO._replace(entity="job/c//x"), unnamed)
    await store.write_catalogue([Catalogue(6, dropped=dropped)])
    assert list(await store.dropped("")) == [unnamed]
    assert list(await store.counts()) == [
        Count("job/c//x", 0, 0, 0, 0, 3),
        Count(NODE, 1, 0, 1, 1, 0),
        Count(CART, 3, 3, 42, 3, 7),
    ]


async def test_what_is_not_watched_is_read_back(store: Store) -> None:
    await filled(store)
    assert list(await store.dropped(CART)) == [INFO._replace(metric="other_info", series=4), INFO]
    assert list(await store.dropped(NODE)) == []
    assert list(await store.refusals()) == [SHARD.refusals[1], REFUSED]


async def test_senders_are_told_over_all_shards(store: Store) -> None:
    await filled(store)
    senders = await store.senders()
    assert all(abs(sender.told_ms - time.time_ns() // 1_000_000) < 60_000 for sender in senders)
    assert [sender._replace(told_ms=0) for sender in senders] == [
        Heard("c", "a", AT_MS, AT_MS + 5, 1, 1, 0),
        Heard("c", "b", AT_MS - 9, AT_MS + 5, 1, 2, 0),
    ]


async def test_a_shard_is_replaced_whole_and_others_stay(store: Store) -> None:
    await filled(store)
    for _ in range(2):
        await store.write_catalogue([Catalogue(3, (FED._replace(value=1.5),))])
        (errors,) = await store.watched([CART])
        assert errors.feed.value == 1.5
        assert list(await store.dropped(CART)) == []
        assert list(await store.refusals()) == []
        assert [sender.replica for sender in await store.senders()] == ["b"]
        assert len(await store.watched([NODE])) == 1


async def test_names_follow_the_rules_of_today(store: Store) -> None:
    await filled(store)
    changed = ERRORS._replace(role="evidence", why="a rule says so", step_s=60)
    await store.write_rollups([cells(AT_MS, changed)], Write("a", 3))
    assert (await store.watched([CART]))[0].signal == changed


async def test_names_that_stay_are_not_written_again(database_url: str) -> None:
    await migrate(database_url)
    async with open_store(database_url) as store:
        await store.write_rollups([cells(AT_MS, ERRORS)], Write("a", 1))
        before = await versions(database_url)
        await store.write_rollups([cells(AT_MS, ERRORS)], Write("a", 2))
        assert await versions(database_url) == before
        await store.write_rollups([cells(AT_MS, ERRORS._replace(why="x"))], Write("a", 3))
        assert await versions(database_url) != before


async def versions(url: str) -> list[tuple[object, ...]]:
    async with await psycopg.AsyncConnection.connect(url) as connection:
        return await (await connection.execute("SELECT xmin::text FROM signals")).fetchall()


async def test_two_workers_may_write_a_shard_together(database_url: str) -> None:
    await migrate(database_url)
    async with open_store(database_url) as one, open_store(database_url) as two:
        both = [store.write_catalogue([OTHER, SHARD]) for store in (one, two, one, two)]
        await asyncio.gather(*both)
        await one.write_rollups([cells(AT_MS, LOAD)], Write("a", 1))
        assert len(await two.watched([NODE])) == 1
        assert len(await two.dropped(CART)) == 2
