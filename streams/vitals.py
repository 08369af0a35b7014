"""What a stage says about itself: /metrics, /healthz and /readyz.

A stage is one process, so its vitals are one module. It lives while it makes progress through its
log: an answering loop alone would hide one that is wedged. It isn't ready while it waits for a
server, which no restart would bring back.
"""

import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import prometheus_client
from aiohttp import web

from watchkeep.schemas.errors import ConfigError
from watchkeep.streams.ports import Span

# So long may a stage have records before it and be brought none: consumers can get wedged in a
# rebalance, with everything else in order.
STUCK_S: Final = 30.0
# So long may one record take, with every receiver out of reach.
TAKEN_MAX_S: Final = 600.0

LAG: Final = prometheus_client.Gauge(
    "watchkeep_lag_records",
    "Records of the log that are not applied yet, by topic and partition.",
    ["topic", "partition"],
)
APPLIED: Final = prometheus_client.Counter(
    "watchkeep_applied_records", "Records applied.", ["topic"]
)
DROPPED: Final = prometheus_client.Gauge(
    "watchkeep_dropped_samples", "Samples that were not folded since the start.", ["reason"]
)
LIMITED: Final = prometheus_client.Gauge(
    "watchkeep_limit_refusals",
    "What a limit of detect has refused since the states began: series, or members folded as one.",
    ["limit"],
)
REFUSED: Final = prometheus_client.Counter(
    "watchkeep_refused_series", "Series refused by the gateway.", ["reason"]
)
TURNED_AWAY: Final = prometheus_client.Counter(
    "watchkeep_turned_away", "Requests and connections that the gateway didn't let in.", ["reason"]
)
CONNECTIONS: Final = prometheus_client.Gauge(
    "watchkeep_connections", "Open connections of the gateway."
)
ACCEPTED: Final = prometheus_client.Counter(
    "watchkeep_accepted_samples", "Samples acknowledged by the gateway."
)
EXEMPLARS: Final = prometheus_client.Counter(
    "watchkeep_exemplars", "Exemplars that came with samples; they are counted and not kept."
)
REQUESTS: Final = prometheus_client.Counter(
    "watchkeep_remote_write_requests", "Remote-write requests answered, by status.", ["status"]
)
ACTIVE_SERIES: Final = prometheus_client.Gauge(
    "watchkeep_active_series", "Series that the gateway knows."
)
WAITING_BYTES: Final = prometheus_client.Gauge(
    "watchkeep_waiting_bytes", "What the gateway has taken in and not yet written."
)
DEAD_LETTERS: Final = prometheus_client.Counter(
    "watchkeep_dead_letters", "Records put aside.", ["topic"]
)
SNAPSHOT_BYTES: Final = prometheus_client.Counter(
    "watchkeep_snapshot_bytes", "Bytes of changed blocks written."
)
DELIVERIES: Final = prometheus_client.Counter(
    "watchkeep_deliveries", "Notifications, by receiver and outcome.", ["channel", "outcome"]
)


@dataclass(slots=True)
class Vitals:
    """How this process does.

    Attributes:
        waits_for: what it can't reach now, with the reason.
        lag: by partition, records not applied.
        moved_s: when its place in the log was last seen to move, on the monotonic clock.
        taking_s: since when it has been taking a record; None while it waits for one.
    """

    waits_for: Counter[str] = field(default_factory=Counter)
    lag: dict[int, int] = field(default_factory=dict)
    moved_s: float = field(default_factory=time.monotonic)
    taking_s: float | None = None
    _offsets: Mapping[int, int] = field(default_factory=dict)

    @contextlib.contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        """Mark that something can't be reached while the block runs."""
        self.waits_for[what] += 1
        try:
            yield
        finally:
            self.waits_for[what] -= 1
            self.waits_for += Counter()  # It drops what is zero.

    @contextlib.contextmanager
    def taking(self) -> Iterator[None]:
        """Mark that a record is being taken while the block runs."""
        self.taking_s = time.monotonic()
        try:
            yield
        finally:
            self.taking_s, self.moved_s = None, time.monotonic()

    def look(self, topic: str, offsets: Mapping[int, int], spans: Mapping[int, Span]) -> None:
        """Compare the places with the ends of the log.

        Args:
            topic: the log.
            offsets: by partition, the last offset applied.
            spans: by partition, what the log holds.
        """
        self.lag = {n: max(0, spans[n].end - 1 - offset) for n, offset in offsets.items()}
        LAG.clear()
        for partition, lag in self.lag.items():
            LAG.labels(topic, partition).set(lag)
        if offsets != self._offsets or not any(self.lag.values()):
            self.moved_s = time.monotonic()
            self._offsets = dict(offsets)

    def stuck(self) -> str:
        """Say why this process should be started again; nothing while it makes progress."""
        now_s = time.monotonic()
        if self.waits_for:
            return ""
        if self.taking_s is not None:
            taken_s = now_s - self.taking_s
            return f"one record takes {taken_s:.0f} s" if taken_s > TAKEN_MAX_S else ""
        if any(self.lag.values()) and now_s - self.moved_s > STUCK_S:
            return (
                f"{sum(self.lag.values())} records wait, and none has come for "
                f"{now_s - self.moved_s:.0f} s"
            )
        return ""

    def not_ready(self) -> str:
        """Say what this process can't do its work for."""
        return ", ".join(sorted(self.waits_for))


VITALS: Final = Vitals()


def routes() -> list[web.RouteDef]:
    """Make the routes that tell."""
    return [
        web.get("/metrics", _metrics),
        web.get("/healthz", _healthz),
        web.get("/readyz", _readyz),
    ]


async def _metrics(_: web.Request) -> web.Response:
    return web.Response(
        body=prometheus_client.generate_latest(),
        headers={"Content-Type": prometheus_client.CONTENT_TYPE_LATEST},
    )


async def _healthz(_: web.Request) -> web.Response:
    return _answer(VITALS.stuck())


async def _readyz(_: web.Request) -> web.Response:
    return _answer(VITALS.stuck() or VITALS.not_ready())


def _answer(problem: str) -> web.Response:
    if problem:
        return web.Response(status=503, text=f"{problem}\n")
    return web.Response(text="ok\n")


@asynccontextmanager
async def served(host: str, port: int) -> AsyncIterator[None]:
    """Answer on a port while the block runs; port 0 answers nowhere.

    Raises:
        ConfigError: the port is in use.
    """
    if not port:
        yield
        return
    app = web.Application()
    app.router.add_routes(routes())
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        await runner.cleanup()
        raise ConfigError(
            f"monitor.port: can't listen on {host}:{port} ({error.strerror}); stop what listens "
            "there, or set another monitor.port (0 for none)"
        ) from error
    try:
        yield
    finally:
        await runner.cleanup()
