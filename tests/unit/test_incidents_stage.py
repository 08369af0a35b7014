"""The incidents stage: each revision once, published from the outbox, poison kept aside."""

import json

import pytest

from watchkeep.enrichers.incidents import advance
from watchkeep.enrichers.template import alert_of
from watchkeep.schemas.alert import Incident, decode
from watchkeep.schemas.errors import LeaseLostError
from watchkeep.schemas.frame import shard_of
from watchkeep.schemas.window import (
    Anomaly,
    ColdStart,
    Direction,
    Evidence,
    Progress,
    Window,
    WindowState,
)
from watchkeep.streams import incidents
from watchkeep.streams.memory import MemoryLog
from watchkeep.streams.memory_store import MemoryStore
from watchkeep.streams.places import record_hash
from watchkeep.streams.ports import NOWHERE, Place, Step
from watchkeep.streams.stores import Lease
from watchkeep.streams.topics import ALERTS, ANOMALIES, DEAD_LETTERS

AT_MS = 1_772_409_600_000
EVIDENCE = Evidence(
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


def window(revision: int = 1, state: WindowState = WindowState.OPEN, name: str = "w1") -> Window:
    closed = state is WindowState.CLOSED
    return Window(
        window_id=name,
        revision=revision,
        state=state,
        entity="workload/c/shop/cart",
        onset_ms=AT_MS,
        detected_ms=AT_MS,
        at_ms=AT_MS + revision,
        ended_ms=AT_MS + 60_000 if closed else None,
        settings="s",
        backlog=False,
        strength=9,
        evidence=(EVIDENCE,),
    )


async def leased(store: MemoryStore) -> Lease:
    lease = await store.acquire_lease("incidents", "test", 1e9)
    assert lease is not None
    return lease


async def followed(*records: Anomaly) -> tuple[MemoryLog, MemoryStore]:
    log, store = MemoryLog(), MemoryStore()
    lease = await leased(store)
    for record in records:
        await log.send(ANOMALIES, record.model_dump_json().encode())
    await follow(log, store, lease)
    return log, store


async def follow(log: MemoryLog, store: MemoryStore, lease: Lease) -> None:
    source = log.source(ANOMALIES, "incidents")
    alerts = log.source(ALERTS, "nobody").records()
    await incidents.follow(source, sink=log, store=store, lease=lease, alerts=alerts)


def told(log: MemoryLog) -> list[tuple[str, int, str]]:
    alerts = [decode(value) for value in log.values(ALERTS) if value is not None]
    return [(alert.alert_id, alert.revision, alert.state) for alert in alerts]


async def test_each_revision_is_taken_once_and_old_ones_are_passed_over() -> None:
    log, _ = await followed(window(1), window(2), window(1), window(2))
    assert told(log) == [("w1", 1, "firing"), ("w1", 2, "firing")]


async def test_a_window_after_the_end_is_a_new_incident() -> None:
    log, _ = await followed(window(1), window(2, WindowState.CLOSED), window(1, name="w2"))
    assert told(log) == [("w1", 1, "firing"), ("w1", 2, "resolved"), ("w2", 1, "firing")]


async def test_a_window_first_heard_of_when_closed_is_an_incident_that_is_over() -> None:
    log, _ = await followed(window(3, WindowState.CLOSED))
    assert told(log) == [("w1", 1, "resolved")]


async def test_an_alert_carries_cloudevents_headers_and_the_incident_s_key() -> None:
    log, _ = await followed(window(1))
    (entry,) = log.partitions[ALERTS, 0]
    assert entry.key == b"w1"
    assert entry.headers == {
        "ce_specversion": "1.0",
        "ce_id": "w1/1",
        "ce_type": "watchkeep.alert.v1",
        "ce_source": "/watchkeep/incidents",
        "ce_time": "2026-03-02T00:00:00.001000Z",
        "content-type": "application/json",
    }
    assert json.loads(entry.value or b"")["version"] == 1


async def test_what_a_crash_left_in_the_outbox_goes_out_first() -> None:
    log, store = MemoryLog(), MemoryStore()
    lease = await leased(store)
    first = advance(None, window(1))
    await log.send(ANOMALIES, window(1).model_dump_json().encode())
    step = Step(NOWHERE, Place(0, record_hash(log.values(ANOMALIES)[0])))
    await store.record(lease, step, (window(1), first, alert_of(first)))
    await log.send(ANOMALIES, window(2).model_dump_json().encode())
    await follow(log, store, lease)
    assert told(log) == [("w1", 1, "firing"), ("w1", 2, "firing")]
    assert await store.unpublished() == []


async def test_progress_is_kept() -> None:
    _, store = await followed(Progress(log_time_ms={3: AT_MS}))
    assert await store.log_times() == {3: AT_MS}


@pytest.mark.parametrize("poison", [{"entity": "nonsense"}, {"evidence": ()}])
async def test_a_window_that_no_alert_can_tell_of_does_not_stop_the_next(
    poison: dict[str, object],
) -> None:
    bad = window(name="w0").model_copy(update=poison)
    log, _ = await followed(bad, window(1))
    assert log.values(DEAD_LETTERS) == [bad.model_dump_json().encode()]
    assert told(log) == [("w1", 1, "firing")]
    assert log.committed["incidents", ANOMALIES, 0] == 2


async def test_a_successor_makes_the_topic_s_last_word_the_newest() -> None:
    log, store = await followed(window(1), window(2))
    old = next(value for value in log.values(ALERTS))
    await log.send(ALERTS, old, key=b"w1")  # A paused predecessor wakes up.
    await follow(log, store, await leased(store))
    assert told(log)[-1] == ("w1", 2, "firing")


async def test_a_restored_store_s_revisions_are_lifted_above_the_topic_s() -> None:
    log, _ = await followed(window(1), window(2), window(3))
    restored = MemoryStore()
    lease = await leased(restored)
    first = advance(None, window(1))
    step = Step(NOWHERE, Place(0, record_hash(log.values(ANOMALIES)[0])))
    await restored.record(lease, step, (window(1), first, alert_of(first)))
    await follow(log, restored, lease)
    assert told(log)[3:] == [
        ("w1", 1, "firing"),
        ("w1", 4, "firing"),
        ("w1", 5, "firing"),
        ("w1", 6, "firing"),
    ]
    assert restored.incidents["w1"].windows == {"w1": 3}


async def test_what_the_group_has_acked_and_the_store_has_not_is_read_again() -> None:
    log, store = MemoryLog(), MemoryStore()
    for revision in (1, 2, 3):
        await log.send(ANOMALIES, window(revision).model_dump_json().encode())
    log.committed["incidents", ANOMALIES, 0] = 3
    await follow(log, store, await leased(store))
    assert [revision for _, revision, _ in told(log)] == [1, 2, 3]


async def test_anomalies_made_anew_are_read_from_their_beginning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    _, store = await followed(window(1), window(2), window(3))
    anew = MemoryLog()
    await anew.send(ANOMALIES, window(1, name="w2").model_dump_json().encode())
    await follow(anew, store, await leased(store))
    assert "was made anew" in caplog.text
    assert store.incidents["w1"].windows == {"w1": 3, "w2": 1}


async def test_a_shard_that_starts_cold_leaves_no_incident_firing_for_ever() -> None:
    shard = shard_of("workload/c/shop/cart")
    log, store = await followed(
        window(1),
        ColdStart(shard=(shard + 1) % 64),
        window(2),
        ColdStart(shard=shard),
        ColdStart(shard=shard),
    )
    assert [(revision, state) for _, revision, state in told(log)] == [
        (1, "firing"),
        (2, "firing"),
        (3, "resolved"),
    ]
    assert (await store.place("incidents")).offset == 4


async def test_a_place_that_was_moved_by_others_ends_the_stage() -> None:
    log, store = await followed(window(1))
    lease = await leased(store)
    with pytest.raises(LeaseLostError, match="not where it was left"):
        await store.advance(lease, Step(NOWHERE, Place(5, "aa")))
    assert await store.place("incidents") == Place(0, record_hash(log.values(ANOMALIES)[0]))


async def test_a_record_that_ends_the_stage_three_times_is_put_aside(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log, store = MemoryLog(), MemoryStore()
    lease = await leased(store)
    for name in ("w1", "w2", "w3"):
        await log.send(ANOMALIES, window(name=name).model_dump_json().encode())

    def deadly(incident: Incident | None, seen: Window) -> Incident:
        if seen.window_id == "w2":
            raise ZeroDivisionError
        return advance(incident, seen)

    monkeypatch.setattr(incidents, "advance", deadly)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            await follow(log, store, lease)
        assert not log.values(DEAD_LETTERS)
    await follow(log, store, lease)
    assert log.values(DEAD_LETTERS) == [window(name="w2").model_dump_json().encode()]
    assert store.incidents["w1"].windows == {"w1": 1, "w3": 1}
    (trouble,) = await store.troubles()
    assert trouble.title == "Watchkeep's incidents died 3 times of one record"
