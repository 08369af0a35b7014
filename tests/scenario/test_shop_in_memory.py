"""The whole way of the data on the memory ports: requests in, messages out."""

from collections.abc import Sequence

import pytest

from inbox import Inbox
from small_shop import small_shop
from taking import take_body
from watchkeep.schemas.alert import AlertState
from watchkeep.schemas.entity import EntityRules
from watchkeep.schemas.settings import Settings
from watchkeep.schemas.window import Window, decode
from watchkeep.shop.model import Shop
from watchkeep.shop.remote_write import metadata, requests
from watchkeep.streams import incidents, notify, runtime
from watchkeep.streams.clocks import EventClock
from watchkeep.streams.demo_report import incidents_of, match
from watchkeep.streams.intake import Intake
from watchkeep.streams.memory import MemoryLog
from watchkeep.streams.memory_store import MemoryStore
from watchkeep.streams.topics import ALERTS, ANOMALIES, DEAD_LETTERS, METRICS

DAYS = 0.5
SETTINGS = Settings(clock="event")
# What is found is another test's; here it is what becomes of it.
pytestmark = pytest.mark.usefixtures("quickly_warm")


async def filled(log: MemoryLog, shop: Shop) -> None:
    """Take the shop's requests in as the gateway does."""
    intake = Intake(SETTINGS.gateway, EntityRules(), EventClock())
    bodies = [metadata(shop), *(r.body for r in requests(shop, 2_000, grouped=True))]
    for body in bodies:
        assert not take_body(intake, body)
        for shard, records in intake.drain().items():
            for record in records:
                await log.send(METRICS, record, partition=shard)
        for shard, tick in intake.ticks().items():
            await log.send(METRICS, tick, partition=shard)


async def detected(log: MemoryLog, store: MemoryStore) -> None:
    source = log.source(METRICS, "detect")
    await runtime.run(source, sink=log, store=store, settings=SETTINGS.detect)


async def told(log: MemoryLog, store: MemoryStore, inbox: Inbox) -> None:
    lease = await store.acquire_lease("incidents", "test", 1e9)
    assert lease is not None
    source = log.source(ANOMALIES, "incidents")
    alerts = log.source(ALERTS, "nobody").records()
    await incidents.follow(source, sink=log, store=store, lease=lease, alerts=alerts)
    lease = await store.acquire_lease("notify", "test", 1e9)
    assert lease is not None
    source = log.source(ALERTS, "notify")
    teller = notify.Teller([inbox], attempts=3, blind_after_s=60)
    await notify.follow(source, sink=log, store=store, lease=lease, teller=teller)


def windows(log: MemoryLog) -> list[Window]:
    records = [decode(value) for value in log.values(ANOMALIES) if value is not None]
    return [record for record in records if isinstance(record, Window)]


def revisions(found: Sequence[Window]) -> list[tuple[str, int]]:
    return sorted({(window.window_id, window.revision) for window in found})


@pytest.mark.parametrize("seed", [11, 12])
async def test_what_is_found_in_a_shop_is_told(seed: int) -> None:
    log, store, inbox, shop = MemoryLog(), MemoryStore(), Inbox(), small_shop(seed, DAYS)
    await filled(log, shop)
    await detected(log, store)
    await told(log, store, inbox)
    paged = incidents_of(store.alerts)
    assert any(finding.alert is not None for finding in match(shop.truth, paged))
    titles = [message.title for message in inbox.messages]
    assert sum(title.startswith("FIRING") for title in titles) == len(paged)
    resolved = sum(alert.state is AlertState.RESOLVED for alert in paged)
    assert sum(title.startswith("RESOLVED") for title in titles) == resolved > 0
    assert min((await store.log_times()).values()) >= shop.end_ms - 60_000
    assert not log.values(DEAD_LETTERS)


async def test_stopping_and_starting_again_changes_no_window_and_no_rollup() -> None:
    shop = small_shop(13, DAYS)
    whole, log = MemoryLog(), MemoryLog()
    whole_store, store = MemoryStore(), MemoryStore()
    await filled(whole, shop)
    await detected(whole, whole_store)
    for (topic, shard), entries in list(whole.partitions.items()):
        if topic == METRICS:
            log.partitions[topic, shard] = list(entries)
    full = dict(log.partitions)
    for share in (0.3, 0.31, 0.7, 1.0):
        for place, entries in full.items():
            log.partitions[place] = entries[: round(len(entries) * share)]
        await detected(log, store)
    assert [w.model_dump_json() for w in sorted_(windows(log))] == [
        w.model_dump_json() for w in sorted_(windows(whole))
    ]
    assert repr(sorted(store.rollups.items())) == repr(sorted(whole_store.rollups.items()))


def sorted_(found: Sequence[Window]) -> list[Window]:
    return sorted(found, key=lambda window: (window.window_id, window.revision))


async def test_a_crash_before_the_snapshot_yields_the_same_revisions_again() -> None:
    shop, log, store = small_shop(13, DAYS), MemoryLog(), MemoryStore()
    await filled(log, shop)
    await detected(log, store)
    before = windows(log)
    log.committed.clear()
    store.snapshots.clear()
    await detected(log, store)
    again = windows(log)[len(before) :]
    assert [w.model_dump_json() for w in again] == [w.model_dump_json() for w in before]
    inbox = Inbox()
    await told(log, store, inbox)
    alerts = [(alert.alert_id, alert.revision) for alert in store.alerts]
    assert len(alerts) == len(set(alerts)) == len(revisions(before))


async def test_alerts_are_told_once_after_a_restart() -> None:
    log, store, inbox = MemoryLog(), MemoryStore(), Inbox()
    await filled(log, small_shop(11, DAYS))
    await detected(log, store)
    await told(log, store, inbox)
    count = len(inbox.messages)
    log.committed.clear()
    await told(log, store, inbox)
    assert len(inbox.messages) == count > 0


async def test_changed_settings_end_what_is_open_and_start_cold(
    caplog: pytest.LogCaptureFixture,
) -> None:
    shop, log, store, inbox = small_shop(11, DAYS), MemoryLog(), MemoryStore(), Inbox()
    await filled(log, shop)
    full = dict(log.partitions)
    firing = False
    for fault in shop.truth:
        middle_ms = (fault.onset_ms + fault.end_ms) // 2
        share = (middle_ms - shop.start_ms) / (shop.end_ms - shop.start_ms)
        for place, entries in full.items():
            log.partitions[place] = entries[: round(len(entries) * share)]
        await detected(log, store)
        await told(log, store, inbox)
        firing = any(one.state is AlertState.FIRING for one in store.incidents.values())
        if firing:
            break
    assert firing
    before = {name for name, one in store.incidents.items() if one.state is AlertState.FIRING}
    for place, entries in full.items():
        log.partitions[place] = entries
    changed = SETTINGS.detect.model_copy(update={"hold_s": 200.0})
    source = log.source(METRICS, "detect")
    await runtime.run(source, sink=log, store=store, settings=changed)
    await told(log, store, inbox)
    assert "starts cold: the detection settings have changed" in caplog.text
    assert {store.incidents[name].state for name in before} == {AlertState.RESOLVED}


async def test_a_log_made_anew_is_read_from_its_beginning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = MemoryStore()
    old, new = MemoryLog(), MemoryLog()
    await filled(old, small_shop(11, DAYS))
    await detected(old, store)
    await filled(new, small_shop(12, DAYS))
    await detected(new, store)
    assert f"{METRICS} was made anew" in caplog.text
    assert all(
        store.snapshots[shard].place.offset == len(entries) - 1
        for (topic, shard), entries in new.partitions.items()
        if topic == METRICS
    )


async def test_a_poison_record_is_kept_and_passed_over() -> None:
    log, store, inbox = MemoryLog(), MemoryStore(), Inbox()
    for topic in (METRICS, ANOMALIES, ALERTS):
        await log.send(topic, b"poison")
    await log.send(METRICS, None)
    await detected(log, store)
    await told(log, store, inbox)
    kept = log.partitions[DEAD_LETTERS, 0]
    assert [entry.value for entry in kept] == [b"poison", None, b"poison", b"poison"]
    assert [entry.headers["topic"] for entry in kept] == [METRICS, METRICS, ANOMALIES, ALERTS]
    assert log.committed["detect", METRICS, 0] == 2
    assert not inbox.messages


async def test_a_receiver_that_fails_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notify, "_BACKOFF_S", 0.0)
    log, store, inbox = MemoryLog(), MemoryStore(), Inbox(failures=4)
    await filled(log, small_shop(11, DAYS))
    await detected(log, store)
    await told(log, store, inbox)
    assert {(line.outcome, line.attempts) for line in store.delivered} >= {
        ("failed", 3),
        ("sent", 2),
    }
