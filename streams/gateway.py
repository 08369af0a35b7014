"""The gateway: remote write in, frames out. An answer of 204 means that the log has every sample.

Requests only fill buffers; one writer takes all that waits, writes it, and answers everybody who
waited for it. While a write is under way the next one fills, so frames grow with the load.
"""

import asyncio
import contextlib
import logging
from typing import Final

from aiohttp import web

from watchkeep.schemas.entity import EntityRules
from watchkeep.schemas.errors import LogError, RemoteWriteError
from watchkeep.schemas.settings import Settings
from watchkeep.streams.bodies import BodyBudget, Share, read_body
from watchkeep.streams.clocks import EventClock, WallClock
from watchkeep.streams.front_door import open_door
from watchkeep.streams.intake import QUIET, Intake, Taken
from watchkeep.streams.ports import Clock, Sink
from watchkeep.streams.remote_write import decompress, decompressed_size, negotiate, written
from watchkeep.streams.senders import charge, check_senders, retry_after_s
from watchkeep.streams.topics import METRICS
from watchkeep.streams.vitals import (
    ACCEPTED,
    ACTIVE_SERIES,
    EXEMPLARS,
    REFUSED,
    REQUESTS,
    VITALS,
    WAITING_BYTES,
    routes,
)
from watchkeep.streams.wire import V1

log = logging.getLogger(__name__)

TICK_S: Final = 1.0
_LOG_GONE: Final = "the log can't be reached"
# At this rate a full linger is worth its delay: 64 shards then get 200 samples each.
_LINGER_FULL_RATE: Final = 50_000
# A request may wait for the write under way, a tick and its own write; Prometheus waits for 30 s.
_WRITE_S: Final = 9.0
# The log is seldom back sooner.
_RETRY_S: Final = 3.0
# Frames of 64 shards are large enough then, and to wait longer would only delay.
_ENOUGH: Final = 64 * 4_096


class Gateway:
    """One gateway process: requests come in here, `write` puts them into the log."""

    def __init__(self, settings: Settings, sink: Sink) -> None:
        self._settings = settings.gateway
        self._sink = sink
        clock: Clock = EventClock() if settings.clock == "event" else WallClock()
        rules = EntityRules(settings.entities.rules)
        self._intake = Intake(settings.gateway, rules, clock)
        self._body_bytes_max = round(settings.gateway.max_body_mb * 1024 * 1024)
        self._waiting_bytes_max = round(settings.gateway.waiting_mb * 1024 * 1024)
        self._bodies = BodyBudget(round(settings.gateway.bodies_max_mb * 1024 * 1024))
        self._filled = asyncio.Event()
        self._enough = asyncio.Event()
        self._waiting: list[asyncio.Future[None]] = []
        self._rate = 0.0

    def app(self) -> web.Application:
        """Make the HTTP application."""
        app = web.Application(
            client_max_size=self._body_bytes_max, middlewares=[check_senders(self._settings)]
        )
        app.router.add_post("/api/v1/write", self._write)
        app.router.add_routes(routes())
        return app

    async def _write(self, http: web.Request) -> web.Response:
        version = V1
        try:
            version = negotiate(http.headers)
            answer = await self._take(http, version)
        except RemoteWriteError as error:
            log.warning("refused a request from %s: %s", http.remote, error)
            answer = _refusal(error, version)
        REQUESTS.labels(answer.status).inc()
        return answer

    async def _take(self, http: web.Request, version: int) -> web.Response:
        with self._bodies.share() as share:
            taken = await self._read(http, version, share)
        charge(http, taken.samples + taken.histograms)
        for reason, count in taken.refused.items():
            REFUSED.labels(reason).inc(count)
        if taken.waits:
            acknowledged: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(acknowledged)
            self._filled.set()
            if self._intake.waiting >= _ENOUGH:
                self._enough.set()
            try:
                await acknowledged
            except LogError:
                raise _later("the log is out of reach") from None
        EXEMPLARS.inc(taken.exemplars)
        return _answer(taken, version)

    async def _read(self, http: web.Request, version: int, share: Share) -> Taken:
        """Read a request, and take it in; what it holds of the budget is free afterwards."""
        limit = self._body_bytes_max
        body = await read_body(http, limit, share, self._settings.request_timeout_s)
        share.take(decompressed_size(body, limit))
        plain = decompress(body)
        if self._intake.waiting_bytes > self._waiting_bytes_max:
            raise _later("too much waits for the log")
        return self._intake.take(plain, version)

    async def write(self) -> None:
        """Write what waits, and the ticks, again and again; runs as long as the gateway.

        One task writes both, so that no tick overtakes the samples whose time it tells.
        """
        loop = asyncio.get_running_loop()
        flushed_s = tick_s = loop.time()
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(tick_s + TICK_S):
                    await self._filled.wait()
            if self._filled.is_set():
                await self._linger()
                taken = await self._flush()
                now_s = loop.time()
                self._rate += 0.2 * (taken / max(now_s - flushed_s, 1e-3) - self._rate)
                flushed_s = now_s
            if loop.time() - tick_s >= TICK_S:
                tick_s = loop.time()
                await self._tick()

    async def _linger(self) -> None:
        """Wait for more only when more may come: a lone sender waits for us."""
        if len(self._waiting) <= 1:
            return
        linger_s = self._settings.linger_ms / 1000 * min(1.0, self._rate / _LINGER_FULL_RATE)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(linger_s):
                await self._enough.wait()

    async def _flush(self) -> int:
        """Write all that waits, and answer who waited; return the number of samples."""
        self._filled.clear()
        self._enough.clear()
        waiting, self._waiting = self._waiting, []
        taken = self._intake.waiting
        try:
            await self._send(self._intake.drain())
        except LogError as error:
            log.warning("a write failed, its senders will send it again: %s", error)
            VITALS.waits_for[_LOG_GONE] = 1
            self._intake.forget()
            _settle(waiting, error)
        else:
            del VITALS.waits_for[_LOG_GONE]
            ACCEPTED.inc(taken)
            _settle(waiting, None)
        ACTIVE_SERIES.set(self._intake.active_series)
        WAITING_BYTES.set(self._intake.waiting_bytes)
        return taken

    async def _send(self, frames: dict[int, list[bytes]]) -> None:
        results = await asyncio.gather(
            *(self._send_shard(shard, records) for shard, records in frames.items()),
            return_exceptions=True,
        )
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def _send_shard(self, shard: int, records: list[bytes]) -> None:
        for record in records:
            try:
                async with asyncio.timeout(_WRITE_S):
                    await self._sink.send(METRICS, record, partition=shard)
            except TimeoutError:
                # An idempotent producer goes on trying for as long as the broker is gone.
                silent = f"{METRICS}/{shard} has not acknowledged for {_WRITE_S:.0f} s"
                raise LogError(silent) from None

    async def _tick(self) -> None:
        """Tell every shard the time that doesn't know it."""
        ticks = {shard: [record] for shard, record in self._intake.ticks().items()}
        try:
            await self._send(ticks)
        except LogError as error:
            log.warning("ticks were not written: %s", error)


def _settle(waiting: list[asyncio.Future[None]], error: LogError | None) -> None:
    for acknowledged in waiting:
        if acknowledged.done():
            continue  # The sender went away.
        if error is None:
            acknowledged.set_result(None)
        else:
            acknowledged.set_exception(error)


def _later(why: str) -> RemoteWriteError:
    """Have a sender send again; 429 would make Prometheus drop the data."""
    words = f"{why}; nothing was taken, send it again"
    return RemoteWriteError(503, words, retry_after_s(_RETRY_S))


def _refusal(error: RemoteWriteError, version: int) -> web.Response:
    told = written(version)
    if error.retry_after_s is not None:
        told["Retry-After"] = str(error.retry_after_s)
    return web.Response(status=error.status, headers=told, text=f"{error}\n")


def _answer(taken: Taken, version: int) -> web.Response:
    told = written(version, taken.samples, taken.histograms, taken.exemplars)
    if not set(taken.refused) - QUIET:
        return web.Response(status=204, headers=told)
    reasons = ", ".join(f"{count} series: {reason}" for reason, count in taken.refused.items())
    return web.Response(status=400, headers=told, text=f"all but these were written: {reasons}\n")


async def serve(settings: Settings, sink: Sink, stop: asyncio.Event) -> None:
    """Run the gateway until told to stop; requests under way are finished.

    Raises:
        ConfigError: the port is in use, or a secret or certificate can't be used.
    """
    gateway = Gateway(settings, sink)
    door = await open_door(gateway.app(), settings.gateway)
    log.info("listening on %s/api/v1/write", settings.gateway.url)
    async with asyncio.TaskGroup() as tasks:
        writer = tasks.create_task(gateway.write())
        await stop.wait()
        await door.close()
        writer.cancel()
