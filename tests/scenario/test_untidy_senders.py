"""Two gateways, requests sent again, samples out of order and late: the log alone decides."""

import random

import pytest

from small_shop import small_shop
from taking import take_body
from watchkeep.schemas.entity import EntityRules
from watchkeep.schemas.settings import Settings
from watchkeep.schemas.window import Window, decode
from watchkeep.shop.model import Shop
from watchkeep.shop.remote_write import requests
from watchkeep.streams.clocks import EventClock
from watchkeep.streams.intake import Intake
from watchkeep.streams.memory import MemoryLog
from watchkeep.streams.memory_store import MemoryStore
from watchkeep.streams.runtime import Worker
from watchkeep.streams.topics import ANOMALIES, METRICS

SETTINGS = Settings(clock="event")
pytestmark = pytest.mark.usefixtures("quickly_warm")


async def untidy(shop: Shop, seed: int) -> MemoryLog:
    """Send a shop's requests through two gateways as a bad day would."""
    dice, log = random.Random(seed), MemoryLog()
    gateways = [
        Intake(SETTINGS.gateway.model_copy(update={"name": name}), EntityRules(), EventClock())
        for name in ("gateway-0", "gateway-1")
    ]
    bodies = [request.body for request in requests(shop, 1_000)]
    for i in range(len(bodies) - 1):
        if dice.random() < 0.05:
            bodies[i], bodies[i + 1] = bodies[i + 1], bodies[i]
    order = [*bodies]
    for i in sorted(dice.sample(range(len(bodies)), len(bodies) // 10), reverse=True):
        order.insert(i + dice.randint(1, 20), bodies[i])
    for body in order:
        gateway = dice.choice(gateways)
        take_body(gateway, body)
        for shard, records in gateway.drain().items():
            for record in records:
                await log.send(METRICS, record, partition=shard)
        for shard, tick in dice.choice(gateways).ticks().items():
            await log.send(METRICS, tick, partition=shard)
    return log


async def detected(log: MemoryLog, store: MemoryStore, stops: int) -> Worker:
    """Run detect over the log, with new workers between its parts."""
    whole = {place: list(entries) for place, entries in log.partitions.items()}
    for part in range(1, stops + 2):
        for (topic, shard), entries in whole.items():
            log.partitions[topic, shard] = entries[: len(entries) * part // (stops + 1)]
        worker = Worker(log.source(METRICS, "detect"), log, store, SETTINGS.detect)
        await worker.adopt_assigned()
        if part != stops:  # One of them dies without a last snapshot.
            await worker.save_all()
    return worker


def seen(log: MemoryLog, store: MemoryStore) -> tuple[dict[tuple[str, int], str], str]:
    found: dict[tuple[str, int], str] = {}
    for value in log.values(ANOMALIES):
        anomaly = decode(value or b"")
        if isinstance(anomaly, Window):
            text = anomaly.model_dump_json()
            assert found.setdefault((anomaly.window_id, anomaly.revision), text) == text
    return found, repr(sorted(store.rollups.items()))


async def test_the_same_log_gives_the_same_result_and_late_samples_are_counted() -> None:
    shop = small_shop(3)
    log, store = await untidy(shop, seed=4), MemoryStore()
    worker = await detected(log, store, stops=0)
    drops = worker.drops()
    samples = sum(len(batch.value) for batch in shop.batches(10_000))
    assert drops["not_newer"] + drops["late"] > samples / 20, drops
    once = seen(log, store)
    assert len(once[0]) >= 3
    again_log, again_store = await untidy(shop, seed=4), MemoryStore()
    await detected(again_log, again_store, stops=4)
    assert seen(again_log, again_store) == once
