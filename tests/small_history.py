"""Two hours of a service that fires once, and of others that don't: what `inspect` looks at."""

import numpy as np

from small_catalogue import CART, FEEDS, HOSTILE, NODE, signal
from watchkeep.enrichers.incidents import advance
from watchkeep.enrichers.template import alert_of
from watchkeep.schemas.window import Direction, Evidence, Window, WindowState
from watchkeep.streams.catalogue import Catalogue, DroppedRow
from watchkeep.streams.memory_store import MemoryStore
from watchkeep.streams.ports import Place, Step
from watchkeep.streams.store import PgStore
from watchkeep.streams.stores import CHANNELS, Rollups, Write

BEGIN_MS = 1_772_409_600_000  # 2026-03-02 00:00 UTC
MINUTE_MS = 60_000
MINUTES = 120
PAY, NIGHTLY = "workload/prod/shop/payments", "job/prod/shop/nightly"
NAN = float("nan")

ERRORS = signal(1, "http_requests_total", folding="rate", role="page", unit="1/s")._replace(
    labels={"code": "5xx"}, why="Errors that its callers see."
)
SLOWEST = signal(2, "http_request_duration_seconds", folding="p99", role="page", unit="s")
MIDDLE = SLOWEST._replace(signal_id=3, folding="p50", role="evidence")
QUEUE = signal(2**64 - 4, "queue_length")._replace(labels={"queue": HOSTILE})
LOAD = signal(5, "node_load1", role="page")._replace(entity=NODE)
THEIRS = ERRORS._replace(signal_id=6, entity=PAY)
STILL = signal(7, "up", role="page")._replace(entity=PAY)
LAST = signal(8, "job_duration_seconds")._replace(entity=NIGHTLY)
SIGNALS = (ERRORS, SLOWEST, MIDDLE, QUEUE, LOAD, THEIRS, STILL, LAST)
WITH_CELLS = (ERRORS, SLOWEST, MIDDLE, QUEUE, LOAD, LAST)


def at(minute: int) -> int:
    """Give the begin of a cell."""
    return BEGIN_MS + minute * MINUTE_MS


# By minute, how rare the service was where it wasn't as ever, which is a thousand times a week.
RARITY = dict.fromkeys(range(30, 40), 0.8) | {50: 0.3, 100: 0.5, 110: -0.5}

WINDOW = Window(
    window_id="b56f8cffd93155ed",
    revision=3,
    state=WindowState.CLOSED,
    entity=CART,
    onset_ms=at(30),
    detected_ms=at(32),
    at_ms=at(45),
    ended_ms=at(40),
    settings="s",
    backlog=False,
    strength=0.8,
    evidence=(
        Evidence(
            signal='http_requests_total{code="5xx"}',
            metric="http_requests_total",
            labels={"code": "5xx"},
            unit="1/s",
            channel="spike",
            direction=Direction.ABOVE,
            observed=9.0,
            expected=1.0,
            low=0.5,
            high=2.0,
            score=1.5,
            threshold=0.0,
            since_ms=at(30),
            peak=12.5,
            peak_ms=at(33),
            peak_score=1.5,
            members=3,
        ),
    ),
)


def cells(minute: int) -> Rollups:
    """Make a cell of all that have cells: the envelope looks in the last minute of each five."""
    n = len(WITH_CELLS)
    fires, looks = RARITY.get(minute, -3.0), minute % 5 == 4
    loud = minute in RARITY
    warm = np.array([signal.entity != NODE for signal in WITH_CELLS])
    unrated = np.array([signal.entity in {NODE, NIGHTLY} for signal in WITH_CELLS])
    spike = np.where(warm, -3.0, NAN)
    spike[0] = 1.5 if loud else -3.0
    envelope = np.where(warm & looks, -1.8, NAN)
    if looks:
        envelope[1] = -0.5
    return Rollups(
        60,
        np.full(n, at(minute), np.int64),
        np.array([signal.signal_id for signal in WITH_CELLS], np.uint64),
        value=np.array([9.0 if loud else 1.0, 1.25, 0.1, np.inf, 3.0, 60.0]),
        members=np.full(n, 3, np.int32),
        expected=np.where(warm, 1.0, NAN),
        low=np.where(warm, 0.5, NAN),
        high=np.where(warm, 2.0, NAN),
        rarity=np.where(unrated, NAN, fires),
        threshold=np.zeros(n),
        warmup=np.where(warm, 1.0, 0.4),
        channels=dict.fromkeys(CHANNELS, np.full(n, NAN)) | {"spike": spike, "envelope": envelope},
        signals=SIGNALS if not minute else (),
    )


async def fill(store: MemoryStore | PgStore, *windows: Window) -> None:
    """Write it all, with one window of the service, or others."""
    for minute in range(MINUTES):
        await store.write_rollups([cells(minute)], Write("a", minute + 1))
    feeds = [
        FEEDS[0]._replace(signal_id=row.signal_id, asleep=row.entity == PAY) for row in SIGNALS
    ]
    dropped = DroppedRow("job/prod/shop/gone", "x_info", "info", "It says what is.", 3, "x_info")
    await store.write_catalogue([Catalogue(3, tuple(feeds), (dropped,))])
    lease = await store.acquire_lease("incidents", "test", 60.0)
    assert lease is not None
    for offset, window in enumerate(windows or (WINDOW,)):
        incident = advance(await store.incident_of(window.entity), window)
        before = Place(offset - 1, "aa") if offset else await store.place("incidents")
        told = (window, incident, alert_of(incident))
        await store.record(lease, Step(before, Place(offset, "aa")), told)


def renamed(window: Window, name: str, **changed: object) -> Window:
    """Make another window, changed."""
    return window.model_copy(update={"window_id": name, **changed})
