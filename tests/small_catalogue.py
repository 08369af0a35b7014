"""A small catalogue: what detect would tell of one service and its node."""

import numpy as np

from watchkeep.streams.catalogue import Catalogue, DroppedRow, FeedRow, RefusalRow, SenderRow
from watchkeep.streams.memory_store import MemoryStore
from watchkeep.streams.store import PgStore
from watchkeep.streams.stores import CHANNELS, Rollups, SignalRow, Write

CART, NODE = "workload/prod/shop/cart", "node/prod//n1"
AT_MS = 1_772_409_600_000
HOSTILE = "[red]x\x1b[2J\n"


def signal(number: int, metric: str, **others: str) -> SignalRow:
    """Name a signal of the service."""
    return SignalRow(number, CART, metric, {}, "")._replace(**others)  # type: ignore[arg-type]  # All of these are texts.


SIGNALS = (
    signal(1, "http_requests_total", folding="rate", role="page", unit="1/s")._replace(
        labels={"code": "5xx"}, why="Errors that its callers see."
    ),
    signal(2, "http_request_duration_seconds", folding="p99", role="page", unit="s")._replace(
        why="How long its callers wait.", step_s=30
    ),
    signal(3, "container_memory_working_set_bytes", unit="B"),
    signal(4, "process_max_fds"),
    signal(5, "queue_length")._replace(labels={"queue": HOSTILE}),
    signal(6, "node_load1")._replace(entity=NODE),
)
FOLDED = ("container", "instance", "pod")
FEEDS = tuple(
    FeedRow(row.signal_id, 12, 3, row.signal_id == 4, 1234.5 / row.signal_id, AT_MS, FOLDED, "x")
    for row in SIGNALS
)
DROPPED = (
    DroppedRow(CART, "go_info", "info", "It says what is, not how it does.", 3, "go_info{v=1}"),
    DroppedRow(CART, "kube_pod_info", "info", "It says what is.", 14, f"kube_pod_info{HOSTILE}"),
    DroppedRow("job/prod//x", "up", "rule", "A rule drops it.", 2, "up"),
)
REFUSALS = (
    RefusalRow(CART, "signals_per_entity", 37, 'http_requests_total{path="/a"}', AT_MS),
    RefusalRow("", "late", 9, "sender b", AT_MS),
    RefusalRow("", "standby_replica", 5_000, "sender b", AT_MS),
)
SENDERS = (
    SenderRow("prod", "a", AT_MS, AT_MS, elected=True),
    SenderRow("prod", "b", AT_MS - 20_000, AT_MS, elected=False),
)
SHARD = Catalogue(3, FEEDS, DROPPED, REFUSALS, SENDERS)


def cells(at_ms: int = AT_MS) -> Rollups:
    """Make a cell of the first three signals: ready, warming up, without a score."""
    return Rollups(
        60,
        np.full(3, at_ms, np.int64),
        np.arange(1, 4, dtype=np.uint64),
        value=np.array([1.0, 2.0, 3.0]),
        members=np.full(3, 3, np.int32),
        expected=np.ones(3),
        low=np.zeros(3),
        high=np.full(3, 2.0),
        rarity=np.array([-0.5, np.nan, np.nan]),
        threshold=np.zeros(3),
        warmup=np.array([1.0, 0.4, 1.0]),
        channels={name: np.array([-1.125, np.nan, np.nan]) for name in CHANNELS},
        signals=SIGNALS,
    )


async def fill(store: MemoryStore | PgStore, at_ms: int = AT_MS, heard_ms: int = AT_MS) -> None:
    """Write it all, as if its cells and its senders were of other times."""
    await store.write_rollups([cells(at_ms)], Write("a", 1))
    senders = [sender._replace(heard_ms=heard_ms, newest_ms=heard_ms) for sender in SENDERS]
    await store.write_catalogue([SHARD._replace(senders=tuple(senders))])
