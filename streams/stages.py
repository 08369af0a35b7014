"""The stages, wired to Kafka and Postgres: what runs when a stage is started by its name."""

import asyncio
import contextlib
import functools
import gc
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, NoReturn

from watchkeep.notifiers.apprise_sender import receivers
from watchkeep.notifiers.terminal import Terminal
from watchkeep.schemas.errors import ConfigError, UnreachableError, WatchkeepError
from watchkeep.schemas.settings import Settings
from watchkeep.streams import gateway, incidents, kafka, notify, runtime
from watchkeep.streams.config import RUNNING_VARIABLE
from watchkeep.streams.lease import held
from watchkeep.streams.river_adapter import chosen_by
from watchkeep.streams.store import open_store
from watchkeep.streams.topics import ALERTS, ANOMALIES, METRICS
from watchkeep.streams.vitals import VITALS, served

log = logging.getLogger(__name__)

_WAIT_S: Final = 2.0
# Kubernetes kills after 30 s, and what is left then is done once more at the next start.
_STOP_S: Final = 20.0
_GONE_STOP_S: Final = 2.0
_SELDOM_S: Final = 60.0
_SELDOM_CHARS: Final = 40

Stage = Callable[[Settings, asyncio.Event], Awaitable[None]]


async def run_gateway(settings: Settings, stop: asyncio.Event) -> None:
    """Receive remote write, write frames."""
    async with kafka.open_sink(settings.broker) as sink:
        await gateway.serve(settings, sink, stop)


async def run_detect(settings: Settings, stop: asyncio.Event) -> None:
    """Read frames, write windows and rollups."""
    chosen_by(settings.detect.river)  # What is wrong with it is told now, not in the middle.
    collect_seldom()
    url = settings.database.url.get_secret_value()
    async with open_store(url) as store, kafka.open_sink(settings.broker) as sink:
        handler = functools.partial(runtime.run, sink=sink, store=store, settings=settings.detect)
        await kafka.consume(settings.broker, "watchkeep-detect", METRICS, handler, stop)


def collect_seldom() -> None:
    """Look for garbage less often: names and arrays live long, and few cycles are ever made.

    Going through all names again and again costs the more, the more of them there are.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


async def run_incidents(settings: Settings, stop: asyncio.Event) -> None:
    """Read windows, write alerts; one active, one standby."""
    url = settings.database.url.get_secret_value()
    async with (
        open_store(url) as store,
        held(store, "incidents", stop) as lease,
    ):
        if lease is None:
            return
        # Only now: it ends the predecessor's right to write.
        async with kafka.open_sink(settings.broker, fenced_as="incidents") as sink:
            handler = functools.partial(
                incidents.follow,
                sink=sink,
                store=store,
                lease=lease,
                alerts=kafka.tail(settings.broker.bootstrap, ALERTS, follow=False),
            )
            await kafka.consume(settings.broker, "watchkeep-incidents", ANOMALIES, handler, stop)


async def run_notify(settings: Settings, stop: asyncio.Event) -> None:
    """Read alerts, tell people; one active, one standby."""
    url = settings.database.url.get_secret_value()
    told = receivers(settings.notify.urls, settings.notify.timeout_s)
    if settings.notify.terminal:
        told.append(Terminal(sys.stdout))
    teller = notify.Teller(told, settings.notify.attempts, settings.notify.blind_after_s)
    async with (
        open_store(url) as store,
        kafka.open_sink(settings.broker) as sink,
        held(store, "notify", stop) as lease,
    ):
        if lease is not None:
            handler = functools.partial(
                notify.follow,
                sink=sink,
                store=store,
                lease=lease,
                teller=teller,
            )
            await kafka.consume(settings.broker, "watchkeep-notify", ALERTS, handler, stop)


STAGES: Final[dict[str, Stage]] = {
    "gateway": run_gateway,
    "detect": run_detect,
    "incidents": run_incidents,
    "notify": run_notify,
}


def main(name: str, settings: Settings) -> NoReturn:
    """Run one stage until SIGTERM or SIGINT, and end the process: 0, or 1 after a crash.

    Raises:
        ConfigError: a setting is wrong.
    """
    logging.basicConfig(
        level=settings.log_level.upper(),
        format=f"%(asctime)s %(levelname)s {name}: %(message)s",
        stream=sys.stderr,
    )
    # These tell every step of every rebalance, and again and again that a server is gone.
    for chatty in ("faust", "aiokafka", "mode", "apprise", "psycopg"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    for handler in logging.getLogger().handlers:
        handler.addFilter(_Seldom())
    try:
        # `up` has reached the servers before it started this, so they are down and will be back.
        asyncio.run(_until_told(name, settings, patient=RUNNING_VARIABLE in os.environ))
    except ConfigError:
        raise
    except WatchkeepError as error:
        log.error("%s ends: %s", name, error)  # noqa: TRY400 - The message says it all.
        _leave(1)
    except Exception:
        # Crash only: the log and the store know what to do again.
        log.exception("%s ends, it can't go on", name)
        _leave(1)


class _Seldom(logging.Filter):
    """Lets each warning of the libraries pass once in a while."""

    def __init__(self) -> None:
        super().__init__()
        self._told_s: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether a record is to be written."""
        if record.name.startswith("watchkeep"):
            return True
        key = (record.name, str(record.msg)[:_SELDOM_CHARS])
        if record.created - self._told_s.get(key, 0.0) < _SELDOM_S:
            return False
        self._told_s[key] = record.created
        return True


def _leave(code: int) -> NoReturn:
    """End the process without waiting for Faust's threads, which may wait for a broker."""
    logging.shutdown()
    sys.stdout.flush()
    os._exit(code)


async def _run(name: str, settings: Settings, stop: asyncio.Event) -> None:
    """Run a stage once; what ends it is raised as it is, not in a group of one."""
    try:
        async with served(settings.monitor.host, settings.monitor.port_of(name)):
            await STAGES[name](settings, stop)
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]
        raise error from None


async def _ending(run: Coroutine[Any, Any, None], stop: asyncio.Event) -> None:
    """Run a stage; once it is told to stop, it may not wait for ever for a server that is gone."""
    task, stopped = asyncio.ensure_future(run), asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            await asyncio.wait({task}, timeout=_GONE_STOP_S if VITALS.waits_for else _STOP_S)
        if not task.done():
            log.warning("stops in the middle: %s", VITALS.not_ready() or "a record takes long")
            task.cancel()
            await asyncio.wait({task}, timeout=_GONE_STOP_S)
            return
        task.result()
    finally:
        stopped.cancel()


async def _until_told(name: str, settings: Settings, *, patient: bool) -> NoReturn:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    while not stop.is_set():
        try:
            await _ending(_run(name, settings, stop), stop)
            break
        except UnreachableError as error:
            if not patient:
                raise
            log.warning("waits: %s", error)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), _WAIT_S)
    _leave(0)
