"""`watchkeep demo`: the simulated shop through the whole running system.

Everything is real: requests over HTTP, the broker, the workers, the database, and a webhook that
receives the notifications and shows them. Only the shop is simulated, and its clock runs fast.
"""

import asyncio
import contextlib
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
from rich.progress import BarColumn, Progress, TextColumn

from watchkeep.schemas.alert import Alert, AlertState, decode
from watchkeep.schemas.errors import StageError
from watchkeep.schemas.settings import Gateway, Monitor, Notify, Settings
from watchkeep.schemas.text import clock_time, duration, plain
from watchkeep.shop.model import Shop
from watchkeep.shop.remote_write import HEADERS, requests
from watchkeep.streams import demo_report, kafka
from watchkeep.streams.embedded import free_port
from watchkeep.streams.store import open_store
from watchkeep.streams.topics import ALERTS
from watchkeep.streams.up import Platform, platform, supervise

SAMPLES_A_REQUEST: Final = 2_000
_LOOK_S: Final = 0.1
_START_S: Final = 30.0
_RESEND_S: Final = 60.0
_DRAIN_S: Final = 60.0
_DEATH_SHOWS_S: Final = 6.0
_PLAIN_STEP: Final = 0.2
_PSS_S: Final = 1.0


@dataclass(slots=True)
class Demo:
    """One run.

    Attributes:
        told: notifications received, in all.
        pss_mb: the largest sum of all processes' proportional memory seen.
        seconds: wall time of sending.
        last_ms: when the newest sample that was sent was taken.
        waits_for: what is still missing after the last sample was sent.
    """

    shop: Shop
    console: Console
    told: int = 0
    pss_mb: int = 0
    seconds: float = 0.0
    last_ms: int = 0
    waits_for: str = ""
    alerts: list[Alert] = field(default_factory=list)


async def run(seed: int, days: float, *, as_json: bool) -> int:
    """Run the demo; return the exit code.

    Args:
        seed: another seed is another day, with other faults.
        days: how much event time to send.
        as_json: print the result as one JSON object, and all else to stderr.

    Raises:
        StageError: the system under it failed.
    """
    asked = _cancel_when_asked()
    demo = Demo(Shop(seed, days), Console(stderr=as_json))
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
    result = _report(demo)
    if as_json:
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
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_RESEND_S)) as http:
        await _until_up(http, f"{base}/healthz")
        await _send_all(demo, http, f"{base}/api/v1/write")
    try:
        async with asyncio.timeout(_DRAIN_S):
            await _until_drained(demo, on)
    except TimeoutError as error:
        raise StageError(
            f"the system did not catch up within {_DRAIN_S:.0f} s of the last sample: "
            f"{demo.waits_for}"
        ) from error


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


async def _send_all(demo: Demo, http: aiohttp.ClientSession, url: str) -> None:
    """Send every request, one after the other, as Prometheus would."""
    shop = demo.shop
    begun_s = time.monotonic()
    sent, plain_from = 0, _PLAIN_STEP
    with _progress(demo.console) as progress:
        bar = progress.add_task("", total=shop.samples, clock="", rate="")
        for request in requests(shop, SAMPLES_A_REQUEST):
            await _send(http, url, request.body)
            sent += request.samples
            demo.last_ms = request.last_ms
            demo.seconds = time.monotonic() - begun_s
            now = clock_time(demo.last_ms)
            rate = f"{sent / demo.seconds:,.0f} samples/s"
            progress.update(bar, completed=sent, clock=now, rate=rate)
            if progress.disable and sent >= plain_from * shop.samples:
                plain_from += _PLAIN_STEP
                demo.console.print(f"{now}  {sent / shop.samples:.0%}  {rate}", highlight=False)
    demo.console.print(
        f"sent {sent:,} samples of {duration((shop.end_ms - shop.start_ms) / 1000)} "
        f"in {demo.seconds:.1f} s, {sent / demo.seconds:,.0f} a second; detection follows"
    )


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.fields[clock]}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%  {task.fields[rate]}"),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )


async def _send(http: aiohttp.ClientSession, url: str, body: bytes) -> None:
    """Send a request until it is taken: a gateway that died is started again."""
    deadline_s = time.monotonic() + _RESEND_S
    while (wait_s := await _post(http, url, body)) is not None:
        if time.monotonic() + wait_s > deadline_s:
            raise StageError(f"the gateway did not take a request within {_RESEND_S:.0f} s")
        await asyncio.sleep(wait_s)


async def _post(http: aiohttp.ClientSession, url: str, body: bytes) -> float | None:
    """Send once; return how long to wait before sending again, None when it was taken."""
    try:
        async with http.post(url, data=body, headers=HEADERS) as answer:
            if answer.status == 503:
                return float(answer.headers.get("Retry-After", "1"))
            if not answer.ok:
                raise StageError(f"the gateway answered {answer.status}: {await answer.text()}")
            return None
    except (aiohttp.ClientConnectionError, TimeoutError):
        return _LOOK_S


async def _until_drained(demo: Demo, on: Platform) -> None:
    """Wait until detect has seen the last sample, and everybody was told."""
    settings = on.settings
    async with open_store(settings.database.url.get_secret_value()) as store:
        while (reached := min((await store.log_times()).values(), default=0)) < demo.last_ms:
            seen = clock_time(reached) if reached else "nothing"
            demo.waits_for = f"detection has seen {seen} of {clock_time(demo.last_ms)}"
            await asyncio.sleep(_LOOK_S)
    demo.waits_for = "the alerts can't be read"
    records = kafka.tail(settings.broker.bootstrap, ALERTS, follow=False)
    demo.alerts = [decode(r.value) async for r in records if r.value is not None]
    incidents = demo_report.incidents_of(demo.alerts)
    owed = sum(2 if alert.state is AlertState.RESOLVED else 1 for alert in incidents)
    while demo.told < owed:
        demo.waits_for = f"{demo.told} of {owed} notifications have come"
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
        demo.console.print(f"  {escape(plain(first, 300))}", highlight=False)
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


def _report(demo: Demo) -> demo_report.Result:
    shop = demo.shop
    incidents = demo_report.incidents_of(demo.alerts)
    findings = demo_report.match(shop.faults, incidents)
    wrong = demo_report.false_alerts(shop.faults, incidents, shop.warm_until_ms)
    demo.console.print("\nWhat was injected, and what was found:\n")
    demo.console.print(demo_report.table(findings))
    for alert in wrong:
        demo.console.print(f"False alert: {escape(alert.explanation.summary)}")
    result = demo_report.Result(
        faults=len(shop.faults),
        found=sum(finding.alert is not None for finding in findings),
        false_alerts=len(wrong),
        median_delay_s=demo_report.median_delay_s(findings),
        samples=shop.samples,
        samples_per_s=round(shop.samples / demo.seconds),
        pss_mb=demo.pss_mb,
    )
    demo.console.print(
        f"\n{result.found} of {result.faults} faults found, {result.false_alerts} false alerts, "
        f"{len(incidents)} incidents; {result.pss_mb} MB of memory at most"
    )
    return result
