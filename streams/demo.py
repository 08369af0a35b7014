"""`watchkeep demo`: the simulated shop through the whole running system.

Everything is real: requests over HTTP, the broker, the workers, the database, and a webhook that
receives the notifications and shows them. Only the shop is simulated, and its clock runs fast.
"""

import asyncio
import contextlib
import math
import os
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp
import psutil
from aiohttp import web
from pydantic import SecretStr
from rich.console import Console
from rich.markup import escape

from watchkeep.schemas.alert import Alert, AlertState, decode
from watchkeep.schemas.errors import StageError
from watchkeep.schemas.settings import Gateway, Monitor, Notify, Settings
from watchkeep.schemas.text import clock_time, duration, plain
from watchkeep.shop.blueprint import FULL
from watchkeep.shop.model import Shop
from watchkeep.shop.strikes import chosen
from watchkeep.shop.times import DAY_MS, MINUTE_MS
from watchkeep.streams import demo_page, demo_report, kafka
from watchkeep.streams.embedded import free_port
from watchkeep.streams.shop_sender import Sent, send
from watchkeep.streams.store import open_store
from watchkeep.streams.store.curves import Curve
from watchkeep.streams.topics import ALERTS
from watchkeep.streams.up import Platform, platform, supervise
from watchkeep.streams.warm_start import warm_start

_LOOK_S: Final = 0.1
_START_S: Final = 30.0
# Sending is several times as fast as detection, so only a standstill is a fault.
_STUCK_S: Final = 60.0
_TELL_S: Final = 10.0
_DEATH_SHOWS_S: Final = 6.0
_PSS_S: Final = 1.0
_AROUND_MS: Final = 45 * MINUTE_MS


@dataclass(slots=True)
class Demo:
    """One run.

    Attributes:
        told: notifications received, in all.
        pss_mb: the largest sum of all processes' proportional memory seen.
        waits_for: what is still missing after the last sample was sent.
    """

    shop: Shop
    console: Console
    sent: Sent = field(default_factory=Sent)
    told: int = 0
    pss_mb: int = 0
    waits_for: str = ""
    alerts: list[Alert] = field(default_factory=list)
    curves: list[list[Curve]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody wants to see.

    Attributes:
        seed: another seed is another day, with other faults.
        days: how much event time; of more than one, only the last is sent, and those before are
            history in the store.
        faults: a folder with kinds of faults; None for those that are shipped.
        out: where the report goes.
        as_json: print the result as one JSON object, and all else to stderr.
    """

    seed: int
    days: float
    faults: Path | None
    out: Path | None
    as_json: bool


async def run(wish: Wish) -> int:
    """Run the demo; return the exit code.

    Raises:
        ConfigError: a kind of fault is wrong, or the report can't be written.
        StageError: the system under it failed.
    """
    if wish.out is not None:
        demo_page.check(wish.out)
    kinds = chosen(wish.faults, FULL)
    asked = _cancel_when_asked()
    # The embedded broker keeps all it gets in memory, so a day is the most that goes through it.
    before = max(0, math.ceil(wish.days) - 1)
    shop = Shop(wish.seed, wish.days - before, kinds=kinds, days_before=before)
    demo = Demo(shop, Console(stderr=wish.as_json))
    with tempfile.TemporaryDirectory(prefix="watchkeep-") as home:
        log = Path(home) / "stages.log"
        try:
            await _run(demo, Path(home), log)
        except StageError:
            demo.console.print(escape(log.read_text(errors="replace")[-4_000:]))
            raise
        except asyncio.CancelledError:
            if not asked.is_set():
                raise
            demo.console.print("stopped; everything is removed")
            return 130
    result = _report(demo, wish)
    if wish.as_json:
        print(result.json())  # noqa: T201 - It is what the command is for.
    return 0


def _cancel_when_asked() -> asyncio.Event:
    """Cancel this task at Ctrl-C, SIGTERM or a closed terminal; once, so that it can clean up."""
    asked = asyncio.Event()
    task = asyncio.current_task()
    assert task is not None

    def cancel() -> None:
        if not asked.is_set():
            asked.set()
            task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, cancel)
    return asked


async def _run(demo: Demo, home: Path, log: Path) -> None:
    def echo(line: str) -> None:
        demo.console.print(escape(line))

    stop = asyncio.Event()
    with log.open("wb") as output:
        async with _webhook(demo) as url, platform(_settings(home, url), echo) as on:
            system = asyncio.ensure_future(supervise(on, stop, echo, output))
            memory = asyncio.ensure_future(_watch_memory(demo, on))
            try:
                await _while_it_lives(system, _work(demo, on))
            finally:
                memory.cancel()
                stop.set()
                await system


async def _while_it_lives(system: asyncio.Task[int], work: Coroutine[Any, Any, None]) -> None:
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait({system, task}, return_when=asyncio.FIRST_COMPLETED)
        if task.done() and task.exception() is not None:
            # A server's death is noticed here at once; `supervise` ends the stages before it tells.
            await asyncio.wait({system}, timeout=_DEATH_SHOWS_S)
        if system.done():
            raise StageError("the demo failed: a part of the system died")
        task.result()
    finally:
        task.cancel()


def _settings(home: Path, url: str) -> Settings:
    return Settings(
        data_dir=home,
        clock="event",
        log_level="warning",
        gateway=Gateway(port=free_port()),
        monitor=Monitor(port=0),
        notify=Notify(urls=(SecretStr(url),), terminal=False),
    )


async def _work(demo: Demo, on: Platform) -> None:
    gateway = on.settings.gateway
    base = f"http://{gateway.host}:{gateway.port}"
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_START_S)) as http:
        await _until_up(http, f"{base}/healthz")
    if demo.shop.live_ms > demo.shop.start_ms:
        await _warm(demo, on)
    await send(demo.shop, f"{base}/api/v1/write", demo.console, demo.sent)
    demo.console.print("detection follows")
    try:
        async with asyncio.timeout(_STUCK_S) as limit:
            await _until_drained(demo, on, limit)
    except TimeoutError as error:
        raise StageError(
            f"the system has not come on for {_STUCK_S:.0f} s: {demo.waits_for}"
        ) from error


def _wait_for(demo: Demo, what: str, limit: asyncio.Timeout) -> None:
    """Say what is missing; as long as that changes, there is time."""
    if what == demo.waits_for:
        return
    demo.waits_for = what
    limit.reschedule(asyncio.get_running_loop().time() + _STUCK_S)


async def _warm(demo: Demo, on: Platform) -> None:
    shop, settings = demo.shop, on.settings
    begun_s, told_ms = time.monotonic(), shop.start_ms
    async with open_store(settings.database.url.get_secret_value()) as store:
        async for reached_ms in warm_start(shop, store, settings.detect):
            if reached_ms - told_ms >= DAY_MS // 4:
                told_ms = reached_ms
                demo.console.print(f"history up to {clock_time(told_ms)}", highlight=False)
    whole = duration((shop.live_ms - shop.start_ms) / 1000)
    demo.console.print(
        f"{whole} of history are in the store, after {time.monotonic() - begun_s:.0f} s",
        highlight=False,
    )


async def _until_up(http: aiohttp.ClientSession, url: str) -> None:
    deadline_s = time.monotonic() + _START_S
    while time.monotonic() < deadline_s:
        try:
            async with http.get(url) as answer:
                if answer.status == 200:
                    return
        except aiohttp.ClientConnectionError:
            pass
        await asyncio.sleep(_LOOK_S)
    raise StageError(f"the gateway did not come up within {_START_S:.0f} s")


async def _until_drained(demo: Demo, on: Platform, limit: asyncio.Timeout) -> None:
    """Wait until detect has seen the last sample, and everybody was told."""
    settings = on.settings
    told_s = time.monotonic()
    async with open_store(settings.database.url.get_secret_value()) as store:
        while (reached := min((await store.log_times()).values(), default=0)) < demo.sent.last_ms:
            seen = clock_time(reached) if reached else "nothing"
            what = f"detection has seen {seen} of {clock_time(demo.sent.last_ms)}"
            _wait_for(demo, what, limit)
            if time.monotonic() - told_s >= _TELL_S:
                told_s = time.monotonic()
                demo.console.print(what, highlight=False)
            await asyncio.sleep(_LOOK_S)
        for truth in demo.shop.truth:
            around = (truth.onset_ms - _AROUND_MS, truth.end_ms + _AROUND_MS)
            demo.curves.append(await store.curves(truth.root, *around))
    _wait_for(demo, "the alerts can't be read", limit)
    records = kafka.tail(settings.broker.bootstrap, ALERTS, follow=False)
    demo.alerts = [decode(r.value) async for r in records if r.value is not None]
    incidents = demo_report.incidents_of(demo.alerts)
    owed = sum(2 if alert.state is AlertState.RESOLVED else 1 for alert in incidents)
    while demo.told < owed:
        _wait_for(demo, f"{demo.told} of {owed} notifications have come", limit)
        await asyncio.sleep(_LOOK_S)


@asynccontextmanager
async def _webhook(demo: Demo) -> AsyncIterator[str]:
    """Receive notifications as a person's webhook would, and show them."""

    async def receive(request: web.Request) -> web.Response:
        message = await request.json()
        demo.told += 1
        colour = "green" if message["type"] == "success" else "red"
        first = message["message"].splitlines()[0]
        demo.console.print(f"[{colour}]{escape(plain(message['title']))}[/]", highlight=False)
        # One line each: on a bad day there are many.
        demo.console.print(
            f"  {escape(plain(first, 300))}", highlight=False, no_wrap=True, overflow="ellipsis"
        )
        return web.Response()

    app = web.Application()
    app.router.add_post("/", receive)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield f"json://127.0.0.1:{port}/"
    finally:
        await runner.cleanup()


async def _watch_memory(demo: Demo, on: Platform) -> None:
    while True:
        demo.pss_mb = max(demo.pss_mb, await asyncio.to_thread(_pss_mb, on.pids()))
        await asyncio.sleep(_PSS_S)


def _pss_mb(pids: list[int]) -> int:
    """Sum the proportional set size of this process, some more, and all their children."""
    seen: dict[int, int] = {}
    for pid in (os.getpid(), *pids):
        for process in _family(pid):
            with contextlib.suppress(psutil.Error):  # It has ended meanwhile.
                seen[process.pid] = process.memory_full_info().pss
    return round(sum(seen.values()) / 1e6)


def _family(pid: int) -> list[psutil.Process]:
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _report(demo: Demo, wish: Wish) -> demo_report.Result:
    shop = demo.shop
    incidents = demo_report.incidents_of(demo.alerts)
    findings = demo_report.match(shop.truth, incidents)
    wrong = demo_report.false_alerts(shop.truth, incidents, shop.warm_until_ms)
    services = len(shop.blueprint.services)
    calm = [finding for finding in findings if not finding.truth.fault]
    result = demo_report.Result(
        faults=len(findings) - len(calm),
        found=sum(f.alert is not None for f in findings if f.truth.fault),
        non_faults=len(calm),
        non_faults_paged=sum(finding.alert is not None for finding in calm),
        false_alerts=len(wrong),
        false_alerts_per_service_week=demo_report.a_service_week(
            len(wrong), services, shop.end_ms - shop.warm_until_ms
        ),
        median_delay_s=demo_report.median_delay_s(findings),
        samples=demo.sent.samples,
        samples_per_s=round(demo.sent.samples / demo.sent.seconds),
        pss_mb=demo.pss_mb,
    )
    _tell(demo.console, findings, result, incidents=len(incidents))
    if wish.out is not None:
        span_ms = (shop.live_ms, shop.end_ms)
        story = demo_page.Story(wish.seed, span_ms, result, findings, demo.curves, wrong)
        demo_page.write(wish.out, story)
        demo.console.print(f"the report: {wish.out.resolve().as_uri()}", highlight=False)
    return result


def _tell(
    console: Console,
    findings: list[demo_report.Finding],
    result: demo_report.Result,
    incidents: int,
) -> None:
    for fault, heading in ((True, "Faults"), (False, "What only looks like a fault")):
        if some := [finding for finding in findings if finding.truth.fault is fault]:
            console.print(f"\n[bold]{heading}[/]\n")
            console.print(demo_report.table(some))
    console.print(
        f"\n{result.found} of {result.faults} faults found, {result.non_faults_paged} of "
        f"{result.non_faults} non-faults paged, {result.false_alerts} false alerts "
        f"({result.false_alerts_per_service_week:.1f} a service and week), {incidents} incidents; "
        f"{result.pss_mb} MB of memory at most",
        highlight=False,
    )
