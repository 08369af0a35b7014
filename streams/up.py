"""`watchkeep up`: every stage in a process of its own, on embedded servers where none is set."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

from pydantic import SecretStr

from watchkeep.notifiers.apprise_sender import receivers
from watchkeep.schemas.errors import ConfigError
from watchkeep.schemas.settings import Settings
from watchkeep.streams import embedded, kafka, postgres, running, store
from watchkeep.streams.child import die_with_parent
from watchkeep.streams.config import RUNNING_VARIABLE
from watchkeep.streams.river_adapter import chosen_by
from watchkeep.streams.topics import specs

STAGE_NAMES: Final = ("gateway", "detect", "incidents", "notify")
DEATHS_MAX: Final = 5
DEATHS_SPAN_S: Final = 60.0
_BACKOFF_S: Final = 0.5
_BACKOFF_MAX_S: Final = 8.0
_STOP_S: Final = 4.0
_LOOK_S: Final = 0.1

Echo = Callable[[str], None]


@dataclass(slots=True)
class Deaths:
    """When a stage died, and so what is to be done."""

    times_s: deque[float] = field(default_factory=deque)

    def backoff_s(self, now_s: float) -> float | None:
        """Take note of a death; return how long to wait before a new start, None to give up."""
        self.times_s.append(now_s)
        while now_s - self.times_s[0] > DEATHS_SPAN_S:
            self.times_s.popleft()
        if len(self.times_s) >= DEATHS_MAX:
            return None
        return float(min(_BACKOFF_S * 2 ** (len(self.times_s) - 1), _BACKOFF_MAX_S))


@dataclass(slots=True)
class Platform:
    """What the stages run on.

    Attributes:
        settings: with the addresses of the embedded servers filled in.
        run_file: where the stages read them.
        servers: the embedded servers.
        stages: the stages' processes, by name, while they run.
    """

    settings: Settings
    run_file: Path
    servers: list[embedded.Embedded]
    stages: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def pids(self) -> list[int]:
        """List the processes of the servers and the stages."""
        return [server.pid for server in self.servers] + [p.pid for p in self.stages.values()]


@asynccontextmanager
async def platform(settings: Settings, echo: Echo) -> AsyncIterator[Platform]:
    """Check the settings, start the embedded servers, create topics and tables.

    Raises:
        ConfigError: something can't be used; nothing is left running.
    """
    receivers(settings.notify.urls, settings.notify.timeout_s)
    chosen_by(settings.detect.river)
    own_database = not settings.database.url.get_secret_value()
    own_broker = not settings.broker.bootstrap
    for key, own in (("database.url", own_database), ("broker.bootstrap", own_broker)):
        if own:
            embedded.require(key)
    _check_port("gateway", settings.gateway.host, settings.gateway.port)
    for port in filter(None, map(settings.monitor.port_of, STAGE_NAMES)):
        _check_port("monitor", settings.monitor.host, port)
    async with AsyncExitStack() as stack:
        stack.enter_context(running.sole_owner(settings))
        servers = []
        if own_database:
            echo("starting the embedded database")
            place = running.folder(settings) / "postgres"
            server = await stack.enter_async_context(postgres.database(place))
            servers.append(server)
            settings = _with(settings, "database", url=SecretStr(server.address))
        if own_broker:
            server = await stack.enter_async_context(embedded.broker())
            servers.append(server)
            settings = _with(settings, "broker", bootstrap=server.address, idempotent=False)
        await kafka.create_topics(settings.broker.bootstrap, specs())
        await store.migrate(settings.database.url.get_secret_value())
        run_file = stack.enter_context(running.announced(settings))
        yield Platform(settings, run_file, servers)


def _with(settings: Settings, section: str, **values: object) -> Settings:
    changed = getattr(settings, section).model_copy(update=values)
    return settings.model_copy(update={section: changed})


def _check_port(section: str, host: str, port: int) -> None:
    try:
        with socket.create_server((host, port)):
            pass
    except OSError as error:
        raise ConfigError(
            f"{section}.port: can't listen on {host}:{port} ({os.strerror(error.errno or 0)}); "
            f"stop what listens there, or set another {section}.host or {section}.port"
        ) from error


async def supervise(
    on: Platform, stop: asyncio.Event, echo: Echo, output: IO[bytes] | None = None
) -> int:
    """Run the stages until told to stop; start those again that die.

    Args:
        on: what they run on.
        stop: set to end them.
        echo: takes a line for the person who watches.
        output: where the stages' output goes; None leaves it on the terminal.

    Returns:
        The exit code: 0 after `stop`, 1 when a stage died too often or an embedded server died.
    """
    loop = asyncio.get_running_loop()
    deaths = {name: Deaths() for name in STAGE_NAMES}
    starts_s = dict.fromkeys(STAGE_NAMES, 0.0)
    try:
        while not stop.is_set():
            for name, due_s in list(starts_s.items()):
                if loop.time() >= due_s:
                    del starts_s[name]
                    on.stages[name] = _start(name, on.run_file, output)
            for name, process in list(on.stages.items()):
                code = process.poll()
                if code is None:
                    continue
                del on.stages[name]
                backoff_s = deaths[name].backoff_s(loop.time())
                if backoff_s is None:
                    echo(f"{name} died {DEATHS_MAX} times in a minute, giving up")
                    return 1
                echo(f"{name} died ({_cause(code)}), starting it again in {backoff_s:g} s")
                starts_s[name] = loop.time() + backoff_s
            if not all(server.lives() for server in on.servers):
                echo("an embedded server died, and with it what it held; start again")
                return 1
            await _pause(stop)
        return 0
    finally:
        await _end(on)


async def _pause(stop: asyncio.Event) -> None:
    try:
        await asyncio.wait_for(stop.wait(), _LOOK_S)
    except TimeoutError:
        return


def _start(name: str, run_file: Path, output: IO[bytes] | None) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 - The program is this one.
        [sys.executable, "-m", "watchkeep.streams.cli", name],
        env=os.environ | {RUNNING_VARIABLE: str(run_file)},
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        # Ctrl-C is for `up`, which ends the stages in its own order.
        start_new_session=True,
        preexec_fn=die_with_parent,  # noqa: PLW1509 - It only makes one system call.
    )


def _cause(code: int) -> str:
    return f"exit code {code}" if code >= 0 else signal.Signals(-code).name


async def _end(on: Platform) -> None:
    """End all stages at once; those that linger are killed."""
    for process in on.stages.values():
        process.terminate()
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + _STOP_S
    while loop.time() < deadline_s:
        if all(process.poll() is not None for process in on.stages.values()):
            break
        await asyncio.sleep(_LOOK_S)
    for process in on.stages.values():
        if process.poll() is None:
            process.kill()
        process.wait()
    on.stages.clear()


async def up(settings: Settings, echo: Echo) -> int:
    """Run everything until Ctrl-C; return the exit code.

    Raises:
        ConfigError: a setting is wrong.
    """
    stop = asyncio.Event()
    starting = asyncio.current_task()
    assert starting is not None

    def give_up() -> None:
        _at_signals(stop.set)  # Once: what clears up isn't to be cancelled too.
        stop.set()
        starting.cancel()

    _at_signals(give_up)
    try:
        async with platform(settings, echo) as on:
            _at_signals(stop.set)
            for line in welcome(on):
                echo(line)
            code = await supervise(on, stop, echo)
    except asyncio.CancelledError:
        if not stop.is_set():
            raise
        code = 0
    echo("stopped")
    return code


def _at_signals(act: Callable[[], None]) -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, act)


def _monitors(settings: Settings) -> str:
    gateway = f"{settings.gateway.url}/metrics"
    if not settings.monitor.port:
        return gateway
    ports = [str(settings.monitor.port_of(name)) for name in STAGE_NAMES[1:]]
    return f"{gateway}, and on the ports {', '.join(ports)}"


def welcome(on: Platform) -> list[str]:
    """Say where everything listens."""
    settings = on.settings
    told = [url.get_secret_value().partition("://")[0] for url in settings.notify.urls]
    told += ["this terminal"] if settings.notify.terminal else []
    embedded_ones = {server.address for server in on.servers}
    url = settings.database.url.get_secret_value()
    broker, database = settings.broker.bootstrap, store.place(url)
    if broker in embedded_ones:
        broker += " (embedded: in memory, for a first look)"
    if url in embedded_ones:
        database = f"{running.folder(settings) / 'postgres'} (embedded)"
    return [
        f"remote write  {settings.gateway.url}/api/v1/write",
        f"metrics       {_monitors(settings)}",
        f"broker        {broker}",
        f"database      {database}",
        f"alerts go to  {', '.join(told) or 'nobody: set notify.urls'}",
        "Ctrl-C stops it; `watchkeep alerts --follow` shows alerts as they come",
    ]
