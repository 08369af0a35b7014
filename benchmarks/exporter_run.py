"""Real exporters under a steady load, scraped by a real Prometheus that sends to a gateway.

    with running(folder) as run:
        run.record(Detect(step_s=30), cells=4)
        run.prometheus.query("up", run.end_ms)

The gateway runs in a thread of this process and keeps the log in memory.
"""

import asyncio
import http.client
import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from real_servers import Alertmanager, Etcd, HttpServer, KubeApiserver, NodeExporter, Prometheus
from servers import Server, ServerError, steady_port
from watchkeep.schemas.frame import Frame, decode
from watchkeep.schemas.settings import Detect, Gateway, Settings
from watchkeep.streams.gateway import serve
from watchkeep.streams.memory import MemoryLog

CLUSTER: Final = "test"
SCRAPE_S: Final = 5
# By then no kind of request is new, so no series is, and Prometheus has told the kinds of all.
_WARM_S: Final = 20.0
# Prometheus sends what it has scraped at once; the margin is for a busy machine.
_SENT_S: Final = 4.0
_ROUNDS_PER_S: Final = 4.0
# Nobody makes up for what he could not ask for so long.
_LATE_S: Final = 5.0
_NAMESPACE: Final = "/api/v1/namespaces/default"
_LOG_LINES: Final = 15


class _Request(NamedTuple):
    server: HttpServer
    method: str
    path: str
    headers: dict[str, str]
    body: str = ""


@dataclass
class Load:
    """Rounds of the same requests at a steady rate, in a thread: each scrape sees as many of each.

    Attributes:
        apiserver: gets nine requests a round; two of them it denies, some change what it keeps.
        others: get one a round, at a path of theirs.
        rounds_per_s: how many rounds there are.
        behind_s_max: how far it was behind its timetable at worst.
        requests: how many were answered.
    """

    apiserver: KubeApiserver
    others: tuple[tuple[HttpServer, str], ...]
    rounds_per_s: float = _ROUNDS_PER_S
    behind_s_max: float = 0.0
    requests: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def on(self) -> Iterator[None]:
        """Keep it up meanwhile."""
        thread = threading.Thread(target=self._run, name="load")
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()

    def _run(self) -> None:
        connections = {s.job: s.connect() for s in (self.apiserver, *(s for s, _ in self.others))}
        begun_s = time.monotonic()
        for number in itertools.count():
            requests = self._round(number)
            for i, request in enumerate(requests):
                due_s = begun_s + (number + i / len(requests)) / self.rounds_per_s
                if self._stop.wait(max(due_s - time.monotonic(), 0)):
                    for connection in connections.values():
                        connection.close()
                    return
                late_s = time.monotonic() - due_s
                self.behind_s_max = max(self.behind_s_max, late_s)
                if late_s > _LATE_S:
                    begun_s += late_s
                self._ask(connections[request.server.job], request)

    def _round(self, number: int) -> list[_Request]:
        api, admin = self.apiserver, self.apiserver.headers()
        guest = {"Authorization": f"Bearer {api.guest_token}"}
        maps, name = f"{_NAMESPACE}/configmaps", f"load-{number}"
        new = json.dumps({"metadata": {"name": name}, "data": {"round": str(number)}})
        typed = {**admin, "Content-Type": "application/json"}
        return [
            _Request(api, "POST", maps, typed, new),
            _Request(api, "GET", f"{maps}/{name}", admin),
            _Request(api, "GET", "/api/v1/namespaces", admin),
            *(_Request(server, "GET", path, {}) for server, path in self.others),
            _Request(api, "GET", _NAMESPACE, admin),
            _Request(api, "GET", f"{maps}/nothing", admin),
            _Request(api, "GET", f"{_NAMESPACE}/secrets", guest),
            _Request(api, "GET", maps, admin),
            _Request(api, "GET", f"{maps}/{name}", admin),
            _Request(api, "DELETE", f"{maps}/{name}", admin),
        ]

    def _ask(self, connection: http.client.HTTPConnection, request: _Request) -> None:
        try:
            connection.request(request.method, request.path, request.body, request.headers)
            connection.getresponse().read()
            self.requests += 1
        except (OSError, http.client.HTTPException):
            connection.close()  # It connects anew with the next request.


@dataclass
class Run:
    """The servers, and what the gateway has written.

    Attributes:
        jobs: what the scraped are called.
        frames: by shard, in order, once recorded.
        begin_ms, end_ms: of the recorded cells that are far from the run's edges.
    """

    prometheus: Prometheus
    load: Load
    jobs: tuple[str, ...]
    log: MemoryLog
    servers: list[Server] = field(default_factory=list)
    frames: dict[int, list[Frame]] = field(default_factory=dict)
    begin_ms: int = 0
    end_ms: int = 0

    def record(self, detect: Detect, cells: int) -> None:
        """Wait until so many whole cells, and what closes the last, have been written.

        Raises:
            ServerError: something was not scraped.
        """
        step_ms = detect.step_s * 1000
        time.sleep(_WARM_S)
        self.begin_ms = -(-time.time_ns() // 1_000_000 // step_ms) * step_ms
        self.end_ms = self.begin_ms + cells * step_ms
        closed_s = self.end_ms / 1000 + detect.grace_s + 2 * SCRAPE_S + _SENT_S
        time.sleep(closed_s - time.time())
        self._check_scrapes()
        for (_, shard), entries in sorted(self.log.partitions.items()):
            # Those that are written from now on don't count.
            records = [entry.value for entry in list(entries)]
            self.frames[shard] = [decode(record) for record in records if record is not None]

    def _check_scrapes(self) -> None:
        seconds = (self.end_ms - self.begin_ms) // 1000 + SCRAPE_S
        scrapes = f"sum_over_time(up[{seconds}s])"
        found = {
            labels["job"]: count
            for labels, count in self.prometheus.query(scrapes, self.end_ms + SCRAPE_S * 1000)
        }
        missed = [job for job in self.jobs if found.get(job, 0) < seconds // SCRAPE_S]
        if missed:
            raise ServerError(f"{', '.join(missed)}: not scraped every time{self.logs()}")

    def logs(self) -> str:
        """Tell the ends of all logs."""
        ends = []
        for server in self.servers:
            lines = server.log.read_text(errors="replace").splitlines()[-_LOG_LINES:]
            ends.append("\n".join([f"\n--- {server.name}: {server.log}", *lines]))
        return "".join(ends)


@contextmanager
def running(
    folder: Path,
    tell: Callable[[str], None] = lambda _: None,
    *,
    scrape_s: int = SCRAPE_S,
    rounds_per_s: float = _ROUNDS_PER_S,
) -> Iterator[Run]:
    """Start everything, the load last, and end all after use.

    Args:
        folder: where the servers keep their files and logs.
        tell: is told what happens.
        scrape_s: how often Prometheus scrapes; `Run.record` expects the default.
        rounds_per_s: of the load.
    """
    port, log = steady_port(), MemoryLog()
    settings = Settings(gateway=Gateway(port=port))
    with ExitStack() as stack:
        stack.enter_context(_gateway(settings, log))
        etcd = stack.enter_context(Etcd(folder / "etcd"))
        tell("etcd answers")
        scraped: list[HttpServer] = [
            etcd,
            apiserver := KubeApiserver(folder / "apiserver", etcd=etcd.address),
            NodeExporter(folder / "node-exporter"),
            alertmanager := Alertmanager(folder / "alertmanager"),
        ]
        for server in scraped[1:]:
            stack.enter_context(server)
            tell(f"{server.name} answers")
        config = {
            "global": {
                "scrape_interval": f"{scrape_s}s",
                "external_labels": {"cluster": CLUSTER, "prometheus_replica": "a"},
            },
            "scrape_configs": [server.scrape() for server in scraped],
            "remote_write": [
                {
                    "url": f"http://127.0.0.1:{port}/api/v1/write",
                    "queue_config": {
                        "batch_send_deadline": "1s",
                        "max_samples_per_send": 5_000,
                        "capacity": 20_000,
                    },
                    "metadata_config": {"send_interval": f"{scrape_s}s"},
                }
            ],
        }
        prometheus = Prometheus(folder / "prometheus", config=config)
        stack.enter_context(prometheus)
        tell("Prometheus scrapes them")
        load = Load(
            apiserver,
            ((alertmanager, "/api/v2/alerts"), (prometheus, "/api/v1/query?query=up")),
            rounds_per_s,
        )
        jobs = tuple(server.job for server in (*scraped, prometheus))
        stack.enter_context(load.on())
        yield Run(prometheus, load, jobs, log, [*scraped, prometheus])


@contextmanager
def _gateway(settings: Settings, log: MemoryLog) -> Iterator[None]:
    """Run a gateway in a thread, with an event loop of its own."""
    started = threading.Event()
    handles: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def run() -> None:
        stop = asyncio.Event()
        handles.append((asyncio.get_running_loop(), stop))
        started.set()
        await serve(settings, log, stop)

    thread = threading.Thread(target=asyncio.run, args=(run(),), name="gateway")
    thread.start()
    started.wait()
    try:
        yield
    finally:
        ((loop, stop),) = handles
        loop.call_soon_threadsafe(stop.set)
        thread.join()
