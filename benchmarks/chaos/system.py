"""The system under chaos: real servers, stages that are started again when they die, a sender."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import aiohttp
import psycopg
from aiohttp import web

from servers import Kafka, Postgres
from watchkeep.schemas.errors import LogError
from watchkeep.schemas.frame import SHARDS
from watchkeep.shop.remote_write import HEADERS, Request
from watchkeep.streams import kafka
from watchkeep.streams.child import die_with_parent
from watchkeep.streams.embedded import free_port
from watchkeep.streams.store import migrate
from watchkeep.streams.topics import ALERTS, METRICS, specs

STAGES: Final = (
    "gateway",
    "detect-a",
    "detect-b",
    "incidents-a",
    "incidents-b",
    "notify-a",
    "notify-b",
)
SESSION_S: Final = 6.0
_BACKOFF_S: Final = 0.5
_LOOK_S: Final = 0.1
_STAGE: Final = Path(__file__).with_name("stage.py")


@dataclass
class System:
    """Everything that runs.

    Attributes:
        stages: running processes by name; `wanted` are started again when they die.
        deaths: ends that nobody asked for, by stage.
        notifications: what the webhook received: title and text.
        last_ms: the newest sample that was acknowledged.
    """

    folder: Path
    kafka: Kafka
    postgres: Postgres
    port: int = field(default_factory=free_port)
    webhook: int = field(default_factory=free_port)
    stages: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    wanted: set[str] = field(default_factory=set)
    deaths: dict[str, int] = field(default_factory=dict)
    notifications: list[tuple[str, str]] = field(default_factory=list)
    last_ms: int = 0

    @property
    def url(self) -> str:
        """The database's URL."""
        return self.postgres.url

    def start(self, name: str, **settings: str) -> None:
        """Start a stage; what follows a dash in its name only tells it from its twin."""
        stage = name.partition("-")[0]
        with (self.folder / f"{name}.log").open("ab") as log:
            self.stages[name] = subprocess.Popen(
                [sys.executable, str(_STAGE), stage],
                env=os.environ | self._environment() | settings,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=die_with_parent,  # noqa: PLW1509 - It only makes one system call.
            )

    def _environment(self) -> dict[str, str]:
        return {
            "WATCHKEEP_CLOCK": "event",
            "WATCHKEEP_MONITOR__PORT": "0",
            "WATCHKEEP_LOG_LEVEL": "info",
            "WATCHKEEP_BROKER__BOOTSTRAP": self.kafka.address,
            "WATCHKEEP_BROKER__SESSION_TIMEOUT_S": str(SESSION_S),
            "WATCHKEEP_DATABASE__URL": self.url,
            "WATCHKEEP_GATEWAY__PORT": str(self.port),
            "WATCHKEEP_NOTIFY__URLS": f"json://127.0.0.1:{self.webhook}/",
            "WATCHKEEP_NOTIFY__TERMINAL": "false",
            "WATCHKEEP_NOTIFY__BLIND_AFTER_S": "20",
            # So lively that there is always something to lose.
            "WATCHKEEP_DETECT__SNAPSHOT_S": "5",
            # Much shall be told, also of what is nothing.
            "WATCHKEEP_DETECT__BUDGET": "100",
            "WATCHKEEP_DETECT__COOL_DOWN_S": "60",
        }

    async def supervise(self) -> None:
        """Start again what dies; runs as long as the system."""
        due_s: dict[str, float] = {}
        while True:
            for name, process in list(self.stages.items()):
                if process.poll() is not None:
                    del self.stages[name]
                    due_s[name] = time.monotonic() + _BACKOFF_S
                    if process.returncode not in (0, -signal.SIGKILL):
                        self.deaths[name] = self.deaths.get(name, 0) + 1
            for name in self.wanted - self.stages.keys():
                if time.monotonic() >= due_s.get(name, 0.0):
                    self.start(name)
            await asyncio.sleep(_LOOK_S)

    def end(self) -> None:
        """Kill every stage."""
        self.wanted.clear()
        for process in self.stages.values():
            process.kill()
            process.wait()

    async def send(self, requests: Sequence[Request], seconds: float) -> None:
        """Send requests one after the other, spread over a time; each until it is acknowledged."""
        pause_s = seconds / max(len(requests), 1)
        timeout = aiohttp.ClientTimeout(total=40)
        async with aiohttp.ClientSession(timeout=timeout) as http:
            for request in requests:
                begun_s = time.monotonic()
                while not await self._post(http, request):
                    await asyncio.sleep(0.3)
                self.last_ms = request.last_ms
                await asyncio.sleep(max(0.0, begun_s + pause_s - time.monotonic()))

    async def _post(self, http: aiohttp.ClientSession, request: Request) -> bool:
        url = f"http://127.0.0.1:{self.port}/api/v1/write"
        try:
            async with http.post(url, data=request.body, headers=HEADERS) as answer:
                assert answer.status in {204, 503}, await answer.text()
                return answer.status == 204
        except (aiohttp.ClientError, TimeoutError):
            return False

    async def drained(self, seconds: float) -> None:
        """Wait until every shard has seen the last sample and is saved, and all alerts are read.

        Raises:
            TimeoutError: with what is missing.
        """
        missing = ""
        try:
            async with asyncio.timeout(seconds):
                # Ticks go on for ever, so what is there now has to do.
                ends = await self._ends(METRICS, SHARDS)
                while missing := await self._missing(ends):
                    await asyncio.sleep(_LOOK_S)
        except TimeoutError:
            for process in self.stages.values():
                process.send_signal(signal.SIGUSR1)  # Its log then has where it is stuck.
            await asyncio.sleep(1)
            raise TimeoutError(f"after {seconds:.0f} s still missing: {missing}") from None

    async def _missing(self, ends: Mapping[int, int]) -> str:
        try:
            return await self._behind() or await self._unsaved(ends) or await self._untold()
        except (psycopg.Error, LogError) as error:
            return f"an answer: {error}"

    async def _behind(self) -> str:
        shards = await self._count(
            f"SELECT count(*) FROM progress WHERE log_time_ms >= {self.last_ms}"
        )
        if shards < SHARDS:
            return f"{SHARDS - shards} shards are behind"
        waiting = await self._count("SELECT count(*) FROM alerts WHERE published_at IS NULL")
        return f"{waiting} alerts are not published" if waiting else ""

    async def _unsaved(self, ends: Mapping[int, int]) -> str:
        # What a restored database lacks is written again before a snapshot covers it.
        log = ", ".join(f"({shard}, {end})" for shard, end in ends.items())
        unsaved = await self._count(
            f"SELECT count(*) FROM (VALUES {log}) AS log (partition, log_end) "
            "LEFT JOIN snapshots USING (partition) "
            "WHERE coalesce(applied_offset, -1) < log_end - 1"
        )
        return f"{unsaved} shards are not saved" if unsaved else ""

    async def _untold(self) -> str:
        told = await self._count(
            "SELECT coalesce(max(applied_offset), -1) FROM places WHERE stage = 'notify'"
        )
        end = (await self._ends(ALERTS, 1))[0]
        # On this broker each record is a transaction, and its end a mark of its own.
        return f"notify is at {told} of {end}" if told < end - 2 else ""

    async def _count(self, query: str) -> int:
        def ask() -> int:
            with psycopg.connect(self.url, connect_timeout=2) as connection:
                row = connection.execute(query.encode()).fetchone()
                assert row is not None
                return int(row[0])

        return await asyncio.to_thread(ask)

    async def _ends(self, topic: str, partitions: int) -> dict[int, int]:
        reader = kafka.LogReader(self.kafka.address, topic)
        try:
            spans = await reader.spans(range(partitions))
        finally:
            await reader.close()
        return {partition: span.end for partition, span in spans.items()}


@asynccontextmanager
async def running(folder: Path, data: Path) -> AsyncIterator[System]:
    """Start the servers and the stages; `data` is where the database keeps its files."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    settings = {"max_wal_size": "128MB", "shared_buffers": "64MB"}
    with Kafka(folder / "kafka") as broker, Postgres(folder / "pg", data, settings) as postgres:
        system = System(folder, broker, postgres)
        await kafka.create_topics(broker.address, specs())
        await migrate(system.url)
        system.wanted = set(STAGES)
        async with _webhook(system):
            supervisor = asyncio.ensure_future(system.supervise())
            try:
                yield system
            finally:
                supervisor.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await supervisor
                system.end()


@asynccontextmanager
async def _webhook(system: System) -> AsyncIterator[None]:
    async def receive(request: web.Request) -> web.Response:
        message = await request.json()
        system.notifications.append((message["title"], message["message"]))
        return web.Response()

    app = web.Application()
    app.router.add_post("/", receive)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", system.webhook).start()
    try:
        yield
    finally:
        await runner.cleanup()
