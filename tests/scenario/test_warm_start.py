"""History is written as detect would have written it."""

from small_shop import PLAIN
from watchkeep.schemas.settings import Detect
from watchkeep.shop.blueprint import SMALL
from watchkeep.shop.frames import frames
from watchkeep.shop.kinds import shipped
from watchkeep.shop.model import Shop
from watchkeep.streams import runtime
from watchkeep.streams.memory import MemoryLog
from watchkeep.streams.memory_store import MemoryStore
from watchkeep.streams.topics import METRICS
from watchkeep.streams.warm_start import warm_start


async def test_a_warm_start_has_the_rollups_that_detect_would_have_written() -> None:
    kinds = {name: shipped()[name] for name in PLAIN}
    shop = Shop(4, 0.1, blueprint=SMALL, kinds=kinds, days_before=1)
    warm, live, log, settings = MemoryStore(), MemoryStore(), MemoryLog(), Detect()
    reached = [time_ms async for time_ms in warm_start(shop, warm, settings)]
    assert reached == sorted(reached)
    assert reached[-1] == shop.live_ms
    for record in frames(shop, 100_000, before=True):
        await log.send(METRICS, record.value, partition=record.shard)
    source = log.source(METRICS, "detect")
    await runtime.run(source, sink=log, store=live, settings=settings)
    assert repr(sorted(warm.rollups.items())) == repr(sorted(live.rollups.items()))
    assert max(at_ms for _, at_ms in warm.rollups) < shop.live_ms
    assert len(warm.rollups) > 20_000
    assert all(strike.onset_ms > shop.live_ms for strike in shop.strikes)
