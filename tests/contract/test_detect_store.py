"""What detect keeps: claims, snapshots, rollups."""

import asyncio

import numpy as np
import psycopg
import pytest

from watchkeep.schemas.errors import StoreAnewError, StoreError
from watchkeep.streams.memory_store import MemoryStore
from watchkeep.streams.patience import patiently
from watchkeep.streams.ports import NOWHERE, Place
from watchkeep.streams.store import PgStore, migrate, open_store
from watchkeep.streams.stores import CHANNELS, Attempts, Claim, Rollups, SignalRow, Snapshot, Write

ENTITY = "workload/c/shop/cart"
AT_MS = 1_772_409_600_000

Store = MemoryStore | PgStore


def a_batch(values: list[float], at_ms: int = AT_MS) -> Rollups:
    n = len(values)
    ids = np.arange(2**64 - n, 2**64, dtype=np.uint64)
    return Rollups(
        step_s=60,
        at_ms=np.full(n, at_ms, np.int64),
        signal_id=ids,
        value=np.array(values),
        members=np.ones(n, np.int32),
        expected=np.full(n, np.nan),
        low=np.full(n, np.nan),
        high=np.full(n, np.nan),
        rarity=np.full(n, np.nan),
        threshold=np.zeros(n),
        warmup=np.zeros(n),
        channels=dict.fromkeys(CHANNELS, np.full(n, np.nan)),
        signals=tuple(SignalRow(int(i), ENTITY, "up", {"code": "5xx"}, "1/s") for i in ids),
    )


MANIFEST = b"WKS2" + bytes(8) + bytes(16)  # Of two blocks.


async def claimed(store: Store, partition: int) -> Claim:
    return (await store.claim([partition]))[partition]


async def a_snapshot(store: Store, partition: int = 3) -> Snapshot:
    token = (await claimed(store, partition)).token
    blocks = {0: b"\x00zero", 1: b"one"}
    return Snapshot(partition, token, -1, Place(41, "aa"), "s", MANIFEST, blocks)


async def test_the_first_claim_finds_nothing(store: Store) -> None:
    assert await claimed(store, 3) == Claim(1, 1, NOWHERE, "", b"")
    assert await claimed(store, 4) == Claim(1, 1, NOWHERE, "", b"")


async def test_a_snapshot_is_read_back_and_its_changed_blocks_replaced(store: Store) -> None:
    first = await a_snapshot(store)
    other = (await a_snapshot(store, 4))._replace(blocks={0: b"x", 1: b"y"})
    assert await store.save_snapshots([first, other]) == set()
    assert await store.load_blocks(3) == {0: b"\x00zero", 1: b"one"}
    second = first._replace(before=41, place=Place(42, "bb"), blocks={1: b"later"})
    assert await store.save_snapshots([second]) == set()
    assert await store.load_blocks(3) == {0: b"\x00zero", 1: b"later"}
    assert await store.load_blocks(4) == {0: b"x", 1: b"y"}
    assert await claimed(store, 3) == Claim(2, 1, Place(42, "bb"), "s", MANIFEST)


async def test_a_snapshot_that_has_shrunk_keeps_no_old_blocks(store: Store) -> None:
    first = await a_snapshot(store)
    await store.save_snapshots([first])
    fewer = first._replace(before=41, place=Place(42, "bb"), manifest=MANIFEST[:-8], blocks={})
    await store.save_snapshots([fewer])
    assert await store.load_blocks(3) == {0: b"\x00zero"}


async def test_who_was_succeeded_can_not_overwrite_the_successor(store: Store) -> None:
    first, other = await a_snapshot(store), await a_snapshot(store, 4)
    successor = await a_snapshot(store)
    assert await store.save_snapshots([first, other]) == {3}
    assert await store.load_blocks(4) == other.blocks
    assert await store.save_snapshots([successor]) == set()
    late = first._replace(before=41, place=Place(99, "cc"))
    assert await store.save_snapshots([late]) == {3}
    assert (await claimed(store, 3)).place == Place(41, "aa")


async def test_changed_blocks_are_refused_on_another_snapshot_than_theirs(store: Store) -> None:
    first = await a_snapshot(store)
    await store.save_snapshots([first])
    assert await store.save_snapshots([first._replace(before=40, place=Place(43, "bb"))]) == {3}
    assert (await claimed(store, 3)).place == Place(41, "aa")


async def test_many_partitions_are_claimed_together(store: Store) -> None:
    await claimed(store, 1)
    claims = await store.claim(range(64))
    assert [claims[n].token for n in range(64)] == [1, 2, *([1] * 62)]
    for number in (7, 9):
        await store.note_attempt("detect", number, Place(number, "aa"))
    deaths = await store.attempts("detect", range(8))
    assert deaths == {7: Attempts(Place(7, "aa"), 1)}


async def test_claims_without_a_snapshot_are_counted(store: Store) -> None:
    assert [(await claimed(store, 3)).unsaved for _ in range(3)] == [1, 2, 3]
    await store.save_snapshots([(await a_snapshot(store))])
    assert (await claimed(store, 3)).unsaved == 1


async def test_the_same_cell_again_overwrites(database_url: str) -> None:
    await migrate(database_url)
    async with open_store(database_url) as store:
        await store.write_rollups([a_batch([1, 2])], Write("a", 1))
        await store.write_rollups([a_batch([3, 4]), a_batch([5, 6])], Write("a", 2))
        next_day = AT_MS + 86_400_000
        batches = [a_batch([7], next_day), a_batch([8], next_day - 1)]
        await store.write_rollups(batches, Write("a", 3))
    with psycopg.connect(database_url) as connection:
        rows = connection.execute(
            "SELECT extract(epoch FROM at) * 1000, value, expected, entity, labels->>'code' "
            "FROM rollups JOIN signals USING (signal_id) ORDER BY at, value"
        ).fetchall()
    day = [(AT_MS, 5.0), (AT_MS, 6.0), (next_day - 1, 8.0), (next_day, 7.0)]
    assert [(int(at), value) for at, value, *_ in rows] == day
    assert {tuple(rest) for _, _, *rest in rows} == {(None, ENTITY, "5xx")}


async def test_two_writers_may_begin_a_day_together(database_url: str) -> None:
    await migrate(database_url)
    async with open_store(database_url) as one, open_store(database_url) as two:
        await asyncio.gather(
            one.write_rollups([a_batch([1])], Write("one", 1)),
            two.write_rollups([a_batch([2])], Write("two", 1)),
        )


async def test_a_reader_does_not_keep_a_day_from_beginning(database_url: str) -> None:
    await migrate(database_url)
    with psycopg.connect(database_url) as reader:
        reader.execute("SELECT count(*) FROM rollups")
        async with asyncio.timeout(10), open_store(database_url) as store:
            await store.write_rollups([a_batch([1])], Write("a", 1))


async def test_a_write_finds_out_that_the_one_before_is_gone(store: Store) -> None:
    for number in (1, 1, 2, 2, 3):
        await store.write_rollups([], Write("a", number))
    await store.write_rollups([], Write("b", 1))
    for gap in (Write("a", 5), Write("b", 3), Write("c", 2)):
        with pytest.raises(StoreAnewError):
            await store.write_rollups([a_batch([9])], gap)
    await store.write_rollups([], Write("a", 4))


async def test_nothing_is_kept_of_a_write_that_is_refused(database_url: str) -> None:
    await migrate(database_url)
    async with open_store(database_url) as store:
        with pytest.raises(StoreAnewError):
            await store.write_rollups([a_batch([1])], Write("a", 2))
    with psycopg.connect(database_url) as connection:
        assert connection.execute("SELECT count(*) FROM rollups").fetchone() == (0,)


async def test_writers_that_are_gone_are_swept(database_url: str) -> None:
    await migrate(database_url)
    async with open_store(database_url) as store:
        await store.write_rollups([], Write("gone", 1))
        await store.write_rollups([], Write("here", 1))
        with psycopg.connect(database_url) as connection:
            connection.execute(
                "UPDATE writers SET wrote_at = now() - interval '2 days' WHERE writer = 'gone'"
            )
        await store.write_rollups([], Write("new", 1))
    with psycopg.connect(database_url) as connection:
        rows = connection.execute("SELECT writer FROM writers ORDER BY writer").fetchall()
    assert rows == [("here",), ("new",)]


async def test_a_database_that_only_answers_reads_is_as_good_as_gone(database_url: str) -> None:
    await migrate(database_url)
    name = psycopg.conninfo.conninfo_to_dict(database_url)["dbname"]

    def only_reads(state: str) -> None:
        with psycopg.connect(database_url, autocommit=True) as connection:
            connection.execute("SET default_transaction_read_only = off")
            query = f"ALTER DATABASE {name} SET default_transaction_read_only = {state}"
            connection.execute(query.encode())

    only_reads("on")
    async with open_store(database_url) as store:
        with pytest.raises(StoreError, match="read-only"):
            await store.write_rollups([], Write("a", 1))
        only_reads("off")
        # The session was a read-only one, so this needs another.
        async with asyncio.timeout(20):
            await patiently(lambda: store.write_rollups([], Write("a", 1)))
