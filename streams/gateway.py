"""The gateway: remote write in, frames out. An answer of 204 means that the log has every sample.

Requests only fill buffers; one writer takes all that waits, writes it, and answers everybody who
waited for it. While a write is under way the next one fills, so frames grow with the load.
"""

import asyncio
import contextlib
import logging
import random
import time
from collections import Counter
from typing import Final

from aiohttp import web

from watchkeep.schemas.entity import EntityRules
from watchkeep.schemas.errors import LogError, RemoteWriteError
from watchkeep.schemas.settings import Settings
from watchkeep.streams.front_door import open_door
from watchkeep.streams.intake import EventClock, Intake
from watchkeep.streams.native_histograms import GAUGE
from watchkeep.streams.ports import Clock, Sink
from watchkeep.streams.remote_write import decode, negotiate
from watchkeep.streams.senders import check_senders
from watchkeep.streams.topics import METRICS
from watchkeep.streams.vitals import ACCEPTED, REFUSED, VITALS, routes

log = logging.getLogger(__name__)

TICK_S: Final = 1.0
_LOG_GONE: Final = "the log can't be reached"
# At this rate a full linger is worth its delay: 64 shards then get 200 samples each.
_LINGER_FULL_RATE: Final = 50_000


class WallClock:
    """The time of day."""

    def now_ms(self) -> int:
        """Tell the time."""
        return time.time_ns() // 1_000_000


class Gateway:
    """One gateway process: requests come in here, `write` puts them into the log."""

    def __init__(self, settings: Settings, sink: Sink) -> None:
        self._settings = settings.gateway
        self._sink = sink
        clock: Clock = EventClock() if settings.clock == "event" else WallClock()
        rules = EntityRules(settings.entities.rules)
        self._intake = Intake(settings.gateway, rules, clock)
        self._body_bytes_max = round(settings.gateway.max_body_mb * 1024 * 1024)
        self._filled = asyncio.Event()
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
        try:
            negotiate(http.headers)
            request = decode(await http.read(), self._body_bytes_max)
        except RemoteWriteError as error:
            log.warning("refused a request from %s: %s", http.remote, error)
            return web.Response(status=error.status, text=f"{error}\n")
        refused = self._intake.take(request)
        for reason, count in refused.items():
            REFUSED.labels(reason).inc(count)
        if self._intake.waiting:
            written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(written)
            self._filled.set()
            try:
                await written
            except LogError:
                retry_s = random.randint(2, 8)  # noqa: S311 - It spreads the senders' retries.
                return web.Response(
                    status=503,
                    headers={"Retry-After": str(retry_s)},
                    text="the log is out of reach; nothing was taken, send it again\n",
                )
        return _answer(refused)

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
                await asyncio.sleep(self._linger_s())
                taken = await self._flush()
                now_s = loop.time()
                self._rate += 0.2 * (taken / max(now_s - flushed_s, 1e-3) - self._rate)
                flushed_s = now_s
            if loop.time() - tick_s >= TICK_S:
                tick_s = loop.time()
                await self._tick()

    def _linger_s(self) -> float:
        """Wait for more only when more may come: a lone sender waits for us."""
        if len(self._waiting) <= 1:
            return 0.0
        return self._settings.linger_ms / 1000 * min(1.0, self._rate / _LINGER_FULL_RATE)

    async def _flush(self) -> int:
        """Write all that waits, and answer who waited; return the number of samples."""
        self._filled.clear()
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
            await self._sink.send(METRICS, record, partition=shard)

    async def _tick(self) -> None:
        """Tell every shard the time that doesn't know it."""
        ticks = {shard: [record] for shard, record in self._intake.ticks().items()}
        try:
            await self._send(ticks)
        except LogError as error:
            log.warning("ticks were not written: %s", error)


def _settle(waiting: list[asyncio.Future[None]], error: LogError | None) -> None:
    for written in waiting:
        if written.done():
            continue  # The sender went away.
        if error is None:
            written.set_result(None)
        else:
            written.set_exception(error)


def _answer(refused: Counter[str]) -> web.Response:
    # Whoever sends gauge histograms does so with every request. They are what this program can't
    # use, no fault of the sender's: a 400 would be an error in its log each time, and burn its
    # alerts on failed samples, though all the rest was taken. The metric tells of them.
    if not set(refused) - {GAUGE}:
        return web.Response(status=204)
    reasons = ", ".join(f"{count} series: {reason}" for reason, count in refused.items())
    return web.Response(status=400, text=f"all but these were written: {reasons}\n")


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
