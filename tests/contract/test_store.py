"""What the stages keep of which one is active: places, incidents, deliveries, leases."""

import asyncio

import psycopg
import pytest

from watchkeep.enrichers.incidents import advance
from watchkeep.enrichers.template import alert_of
from watchkeep.schemas.alert import Alert, Incident
from watchkeep.schemas.errors import LeaseLostError
from watchkeep.schemas.window import Direction, Evidence, Window, WindowState
from watchkeep.streams.memory_store import MemoryStore
from watchkeep.streams.ports import NOWHERE, Place, Step
from watchkeep.streams.store import PgStore
from watchkeep.streams.stores import Attempts, Delivery, Lease, Trouble

ENTITY = "workload/c/shop/cart"
AT_MS = 1_772_409_600_000

Store = MemoryStore | PgStore


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


async def died(store: Store, partition: int) -> Attempts | None:
    return (await store.attempts("detect", [partition])).get(partition)


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
