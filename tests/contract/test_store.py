"""The store in memory and the one on each PostgreSQL keep the same promises."""

import asyncio
import traceback
from collections.abc import AsyncIterator, Callable

import numpy as np
import psycopg
import pytest

from watchkeep.enrichers.incidents import advance
from watchkeep.enrichers.template import alert_of
from watchkeep.schemas.alert import Alert, Incident
from watchkeep.schemas.errors import ConfigError, LeaseLostError
from watchkeep.schemas.window import Direction, Evidence, Window, WindowState
from watchkeep.streams.gateway import WallClock
from watchkeep.streams.memory_store import MemoryStore
from watchkeep.streams.ports import (
    NOWHERE,
    Attempts,
    Claim,
    Delivery,
    Lease,
    Place,
    Rollups,
    SignalRow,
    Snapshot,
    Step,
    Trouble,
)
from watchkeep.streams.store import PgStore, check, migrate, open_store

ENTITY = "workload/c/shop/cart"
AT_MS = 1_772_409_600_000

Store = MemoryStore | PgStore


@pytest.fixture(params=["memory", "embedded", "debian"])
async def store(
    request: pytest.FixtureRequest, new_database: Callable[[str], str]
) -> AsyncIterator[Store]:
    if request.param == "memory":
        yield MemoryStore(WallClock())
        return
    url = new_database(request.getfixturevalue(f"{request.param}_database"))
    await migrate(url)
    async with open_store(url) as opened:
        yield opened


def a_window(revision: int = 1, state: WindowState = WindowState.OPEN, name: str = "w1") -> Window:
    evidence = Evidence(
        signal="up",
        metric="up",
        labels={},
        unit="",
        channel="ewma",
        direction=Direction.BELOW,
        observed=0,
        expected=1,
        low=0.9,
        high=1.1,
        score=-9,
        threshold=6,
        since_ms=AT_MS,
        peak=0,
        peak_ms=AT_MS,
        peak_score=-9,
        members=1,
    )
    return Window(
        window_id=name,
        revision=revision,
        state=state,
        entity=ENTITY,
        onset_ms=AT_MS,
        detected_ms=AT_MS + 180_000,
        at_ms=AT_MS + 180_000 * revision,
        ended_ms=AT_MS + 180_000 if state is WindowState.CLOSED else None,
        settings="s",
        backlog=False,
        strength=9,
        evidence=(evidence,),
    )


async def recorded(store: Store, lease: Lease, window: Window) -> tuple[Incident, Alert]:
    incident = advance(await store.incident_of(window.entity), window)
    alert = alert_of(incident)
    await store.record(lease, await a_step(store), (window, incident, alert))
    return incident, alert


async def a_step(store: Store, stage: str = "incidents") -> Step:
    before = await store.place(stage)
    return Step(before, Place(before.offset + 1, "aa"))


async def leased(
    store: Store, holder: str = "a", ttl_s: float = 60, name: str = "incidents"
) -> Lease:
    lease = await store.acquire_lease(name, holder, ttl_s)
    assert lease is not None
    return lease


def a_batch(values: list[float], at_ms: int = AT_MS) -> Rollups:
    n = len(values)
    ids = np.arange(2**64 - n, 2**64, dtype=np.uint64)
    return Rollups(
        step_s=60,
        channel="ewma",
        at_ms=np.full(n, at_ms, np.int64),
        signal_id=ids,
        value=np.array(values),
        members=np.ones(n, np.int32),
        expected=np.full(n, np.nan),
        spread=np.full(n, np.nan),
        score=np.full(n, np.nan),
        threshold=np.full(n, 6.0),
        warmup=np.zeros(n),
        signals=tuple(SignalRow(int(i), ENTITY, "up", {"code": "5xx"}, "1/s") for i in ids),
    )


MANIFEST = b"WKS2" + bytes(8) + bytes(16)  # Of two blocks.


async def claimed(store: Store, partition: int) -> Claim:
    return (await store.claim([partition]))[partition]


async def died(store: Store, partition: int) -> Attempts | None:
    return (await store.attempts("detect", [partition])).get(partition)


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


async def test_a_place_moves_on_from_where_it_is(store: Store) -> None:
    lease = await leased(store)
    assert await store.place("incidents") == NOWHERE
    await store.advance(lease, Step(NOWHERE, Place(0, "aa")))
    await store.advance(lease, Step(Place(0, "aa"), Place(7, "bb")))
    assert await store.place("incidents") == Place(7, "bb")
    for wrong in (NOWHERE, Place(0, "aa"), Place(7, "cc")):
        with pytest.raises(LeaseLostError):
            await store.advance(lease, Step(wrong, Place(8, "dd")))
    assert await store.place("incidents") == Place(7, "bb")
    # A log made anew is read from its beginning.
    await store.advance(lease, Step(Place(7, "bb"), Place(0, "ee")))
    assert await store.place("notify") == NOWHERE


async def test_what_a_stage_died_of_is_counted_in_a_row(store: Store) -> None:
    assert await died(store, 3) is None
    one, two = Place(7, "aa"), Place(8, "bb")
    for deaths in (1, 2):
        await store.note_attempt("detect", 3, one)
        assert await died(store, 3) == Attempts(one, deaths)
        assert await died(store, 3) == Attempts(one, deaths)
    await store.note_attempt("detect", 3, two)
    await store.calm("detect", 3)
    assert await died(store, 3) == Attempts(one, 2)
    await store.note_attempt("detect", 3, one)
    await store.note_attempt("detect", 3, two)
    assert await died(store, 3) == Attempts(two, 1)
    assert await died(store, 4) is None


async def test_a_trouble_is_told_once(store: Store) -> None:
    trouble = Trouble("deadly/t/0/7", "a title", "a text")
    await store.report(trouble)
    await store.report(trouble._replace(title="again"))
    assert list(await store.troubles()) == [trouble]
    await store.told([trouble])
    await store.report(trouble)
    assert list(await store.troubles()) == []


async def test_an_incident_is_kept_with_its_window_and_alert(store: Store) -> None:
    lease = await leased(store)
    assert await store.window_revision("w1") == 0
    incident, alert = await recorded(store, lease, a_window())
    assert await store.window_revision("w1") == 1
    assert await store.incident_of(ENTITY) == incident
    assert await store.unpublished() == [alert]
    await store.published([alert])
    assert await store.unpublished() == []


async def test_a_resolved_incident_is_no_longer_the_entity_s(store: Store) -> None:
    lease = await leased(store)
    await recorded(store, lease, a_window())
    _, last = await recorded(store, lease, a_window(2, WindowState.CLOSED))
    assert await store.incident_of(ENTITY) is None
    assert (await store.unpublished())[-1] == last
    await recorded(store, lease, a_window(name="w2"))
    assert (await store.incident_of(ENTITY)) is not None


async def test_the_outbox_keeps_the_order_of_revisions(store: Store) -> None:
    lease = await leased(store)
    alerts = [(await recorded(store, lease, a_window(i)))[1] for i in (1, 2, 3)]
    await store.published(alerts[:1])
    assert await store.unpublished() == alerts[1:]


async def test_a_revision_that_was_taken_changes_nothing(store: Store) -> None:
    lease = await leased(store)
    incident, alert = await recorded(store, lease, a_window())
    later = incident.model_copy(update={"revision": 2})
    step = await a_step(store)
    await store.record(lease, step, (a_window(), later, alert_of(later)))
    assert await store.incident_of(ENTITY) == incident
    assert await store.unpublished() == [alert]
    assert await store.place("incidents") == step.here


async def test_an_incident_s_revision_only_grows(store: Store) -> None:
    lease = await leased(store)
    first, _ = await recorded(store, lease, a_window(1))
    second, alert = await recorded(store, lease, a_window(2))
    after = alert.model_copy(update={"revision": 3})
    await store.record(lease, await a_step(store), (a_window(3), first, after))
    assert await store.incident_of(ENTITY) == second


async def test_an_entity_has_one_firing_incident(store: Store) -> None:
    lease = await leased(store)
    incident, alert = await recorded(store, lease, a_window())
    other = a_window(name="w2")
    second = advance(None, other)
    step = await a_step(store)
    with pytest.raises((AssertionError, psycopg.errors.UniqueViolation)):
        await store.record(lease, step, (other, second, alert_of(second)))
    assert await store.place("incidents") == step.before
    assert await store.window_revision("w2") == 0
    assert await store.incident_of(ENTITY) == incident
    assert await store.unpublished() == [alert]


async def test_a_lease_has_one_holder(store: Store) -> None:
    lease = await leased(store, "a")
    assert await store.acquire_lease("incidents", "b", 60) is None
    assert await store.acquire_lease("incidents", "a", 60) == lease
    assert await store.acquire_lease("notify", "b", 60) is not None
    assert await store.renew_lease(lease, 60)


async def test_a_lease_that_is_given_back_goes_to_the_next_with_a_larger_token(
    store: Store,
) -> None:
    lease = await leased(store, "a")
    await store.release_lease(lease)
    assert (await leased(store, "b")).token > lease.token
    assert not await store.renew_lease(lease, 60)


async def test_a_lease_is_neither_renewed_nor_given_back_by_others(store: Store) -> None:
    lease = await leased(store, "a")
    for stranger in (lease._replace(holder="b"), lease._replace(name="notify")):
        assert not await store.renew_lease(stranger, 60)
        await store.release_lease(stranger)
    assert await store.acquire_lease("incidents", "b", 60) is None


async def test_a_lease_runs_out(store: Store) -> None:
    lease = await leased(store, "a", ttl_s=0.05)
    await asyncio.sleep(0.1)
    assert (await leased(store, "b")).token > lease.token


async def test_the_open_windows_are_the_last_revisions_that_are_not_closed(store: Store) -> None:
    lease = await leased(store)
    await recorded(store, lease, a_window(1))
    second = a_window(2)
    await recorded(store, lease, second)
    await recorded(store, lease, a_window(1, name="w2"))
    await recorded(store, lease, a_window(2, WindowState.CLOSED, name="w2"))
    assert list(await store.open_windows()) == [second]
    await recorded(store, lease, a_window(3, WindowState.CLOSED))
    assert list(await store.open_windows()) == []


async def test_who_lost_the_lease_keeps_nothing(store: Store) -> None:
    lease = await leased(store, "a")
    await store.release_lease(lease)
    await leased(store, "b")
    with pytest.raises(LeaseLostError):
        await recorded(store, lease, a_window())
    assert await store.window_revision("w1") == 0
    assert await store.unpublished() == []


async def test_deliveries_are_kept_in_order(store: Store) -> None:
    lease = await leased(store, name="notify")
    sent = Delivery("i1", 1, "json-1", "new", "sent", 1, "")
    failed = Delivery("i1", 2, "json-1", "resolved", "failed", 5, "timeout")
    for delivery in (sent, failed, sent._replace(alert_id="i2")):
        await store.log_delivery(delivery)
    assert list(await store.deliveries(lease, "i1")) == [sent, failed]


async def test_who_lost_the_lease_learns_it_before_sending(store: Store) -> None:
    lease = await leased(store, name="notify")
    await store.release_lease(lease)
    await leased(store, "b", name="notify")
    with pytest.raises(LeaseLostError):
        await store.deliveries(lease, "i1")


async def test_progress_is_kept_by_shard_and_never_goes_back(store: Store) -> None:
    lease = await leased(store)
    await store.save_progress(lease, await a_step(store), {0: 5, 63: 7})
    await store.save_progress(lease, await a_step(store), {0: 6})
    await store.save_progress(lease, await a_step(store), {0: 4, 63: 6})
    assert await store.log_times() == {0: 6, 63: 7}


async def test_changed_incidents_can_be_published_again(store: Store) -> None:
    lease = await leased(store)
    incident, alert = await recorded(store, lease, a_window())
    await store.published([alert])
    assert list(await store.changed_since(3_600)) == [incident]
    lifted = incident.model_copy(update={"revision": 7})
    await store.republish(lease, [(incident, alert), (lifted, alert_of(lifted))])
    assert list(await store.unpublished()) == [alert, alert_of(lifted)]
    assert await store.incident_of(ENTITY) == lifted


async def test_the_same_cell_again_overwrites(database_url: str) -> None:
    await migrate(database_url)
    async with open_store(database_url) as store:
        await store.write_rollups([a_batch([1, 2])])
        await store.write_rollups([a_batch([3, 4]), a_batch([5, 6])])
        next_day = AT_MS + 86_400_000
        await store.write_rollups([a_batch([7], next_day), a_batch([8], next_day - 1)])
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
        await asyncio.gather(one.write_rollups([a_batch([1])]), two.write_rollups([a_batch([2])]))


async def test_a_reader_does_not_keep_a_day_from_beginning(database_url: str) -> None:
    await migrate(database_url)
    with psycopg.connect(database_url) as reader:
        reader.execute("SELECT count(*) FROM rollups")
        async with asyncio.timeout(10), open_store(database_url) as store:
            await store.write_rollups([a_batch([1])])


async def test_migrating_again_changes_nothing(database_url: str) -> None:
    first = await asyncio.gather(migrate(database_url), migrate(database_url))
    assert sorted(first) == [[], ["0001_core.sql", "0002_delivery.sql"]]
    assert await migrate(database_url) == []


async def test_a_database_of_a_newer_watchkeep_is_refused(database_url: str) -> None:
    await migrate(database_url)
    with psycopg.connect(database_url) as connection:
        connection.execute("INSERT INTO schema_migrations VALUES (999, 'later')")
    with pytest.raises(ConfigError, match="newer Watchkeep"):
        await migrate(database_url)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:hunter2@127.0.0.1:1/x",
        "postgresql://u:hun@ter2@127.0.0.1:1/x",
        "postgresql://u:hun/ter2@127.0.0.1:1/x",
        "postgresql://u:hun%ter2@127.0.0.1:1/x",
        "postgresql+asyncpg://u:hunter2@127.0.0.1:1/x",
        "nonsense",
    ],
)
async def test_a_wrong_url_is_told_in_one_line_without_the_password(url: str) -> None:
    with pytest.raises(ConfigError, match=r"^database\.url: ") as refused:
        await check(url)
    assert "\n" not in str(refused.value)
    told = "".join(traceback.format_exception(refused.value))
    assert "hun" not in told
    assert "ter2" not in told
