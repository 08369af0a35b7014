"""What the doctor asks of the store."""

import dataclasses

import numpy as np

from small_catalogue import AT_MS, CART, SHARD, SIGNALS, cells
from watchkeep.enrichers.incidents import advance
from watchkeep.enrichers.template import alert_of
from watchkeep.schemas.window import Window
from watchkeep.streams.lookup import Alerting, Warmth
from watchkeep.streams.memory_store import MemoryStore
from watchkeep.streams.ports import Place, Step
from watchkeep.streams.store import PgStore
from watchkeep.streams.stores import Delivery, Write

Store = MemoryStore | PgStore


async def test_an_empty_store_tells_nothing(store: Store) -> None:
    assert await store.warmth(61) == Warmth(0, 0, 0, None)
    assert await store.active() == {}
    assert await store.alerting() == Alerting(0, 0, 0, 0, None)
    assert list(await store.channels()) == []


async def test_signals_that_may_page_are_counted_by_how_far_they_are(store: Store) -> None:
    signals = tuple(row._replace(role="page") for row in SIGNALS)
    for n in range(3):
        made = dataclasses.replace(cells(AT_MS + 60_000 * n), signals=signals)
        await store.write_rollups([made], Write("a", n + 1))
    await store.write_catalogue([SHARD])
    # Of six the first and the third are warm, the second has three cells of 30 s, one sleeps.
    assert await store.warmth(61) == Warmth(6, 1, 2, 58 * 30)
    assert await store.warmth(3) == Warmth(6, 1, 2, None)
    learning = dataclasses.replace(cells(AT_MS + 180_000), warmup=np.full(3, 0.5), signals=())
    await store.write_rollups([learning], Write("a", 4))
    assert await store.warmth(61) == Warmth(6, 1, 0, 57 * 30)


async def test_who_is_active_is_told(store: Store) -> None:
    lease = await store.acquire_lease("notify", "host-7", 60)
    assert await store.active() == {"notify": "host-7"}
    assert lease is not None
    await store.release_lease(lease)
    assert await store.active() == {}


async def test_deliveries_are_told_by_receiver(store: Store) -> None:
    sent = Delivery("a", 1, "json-1", "new", "sent", 1, "")
    failed = sent._replace(outcome="failed", error="it answered failure")
    for line in (failed, sent, sent, sent._replace(channel="mail-2"), failed):
        await store.log_delivery(line)
    json, mail = await store.channels()
    assert json[:5] == ("json-1", 2, 2, False, "it answered failure")
    assert mail[:5] == ("mail-2", 1, 0, True, "")


async def test_incidents_and_alerts_are_counted(store: Store) -> None:
    window = Window.model_validate(WINDOW)
    incident = advance(None, window)
    lease = await store.acquire_lease("incidents", "host-7", 60)
    assert lease is not None
    step = Step(Place(), Place(0, "x"))
    await store.record(lease, step, (window, incident, alert_of(incident)))
    alerting = await store.alerting()
    assert alerting[:4] == (1, 1, 1, 1)
    assert alerting.last_ms is not None
    await store.published(await store.unpublished())
    assert (await store.alerting()).unpublished == 0


WINDOW = {
    "window_id": "w1",
    "revision": 1,
    "state": "open",
    "entity": CART,
    "onset_ms": AT_MS,
    "detected_ms": AT_MS,
    "at_ms": AT_MS,
    "ended_ms": None,
    "settings": "s",
    "backlog": False,
    "strength": 9,
    "evidence": [
        {
            "signal": "up",
            "metric": "up",
            "labels": {},
            "unit": "",
            "channel": "ewma",
            "direction": "below",
            "observed": 0,
            "expected": 1,
            "low": 0.9,
            "high": 1.1,
            "score": -9,
            "threshold": 6,
            "since_ms": AT_MS,
            "peak": 0,
            "peak_ms": AT_MS,
            "peak_score": -9,
            "members": 1,
        }
    ],
}
