"""The gateway's door: it listens, with TLS or without, and lets requests in within bounds."""

import asyncio
import logging
import resource
from typing import Final

from aiohttp import web
from aiohttp.http import HttpProcessingError

from watchkeep.schemas.errors import ConfigError
from watchkeep.schemas.settings import Gateway
from watchkeep.streams.connections import Connections
from watchkeep.streams.tls import Certificates
from watchkeep.streams.vitals import TURNED_AWAY

log = logging.getLogger(__name__)

_SHUTDOWN_S: Final = 2.0
# So long may what is left of a refused body come, so that its sender reads why.
_LINGER_S: Final = 5.0
_BACKLOG: Final = 512
# For the broker's connections and files, and for connections on their way in and out: asyncio
# accepts all of a backlog before any of them is counted.
_OTHER_FILES: Final = 256 + 2 * _BACKLOG


class FrontDoor:
    """An open door; `open_door` opens one."""

    def __init__(
        self, runner: web.AppRunner, listener: asyncio.Server, connections: Connections
    ) -> None:
        self._runner = runner
        self._listener = listener
        self._connections = connections

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._listener.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Let nobody in any more; requests under way are finished."""
        self._listener.close()
        await self._connections.end_handshakes()
        await self._runner.cleanup()


async def open_door(app: web.Application, settings: Gateway) -> FrontDoor:
    """Listen for requests.

    Raises:
        ConfigError: the port is in use, or the certificate can't be used.
    """
    certificates = Certificates(settings.tls) if settings.tls.certificate else None
    runner = web.AppRunner(
        app,
        access_log=None,
        logger=_quiet_log(),
        shutdown_timeout=_SHUTDOWN_S,
        keepalive_timeout=settings.idle_timeout_s,
        lingering_time=_LINGER_S,
    )
    connections = Connections(settings.request_timeout_s, _connections_max(settings), certificates)
    app.middlewares.insert(0, connections.watch())
    await runner.setup()
    assert runner.server is not None
    connections.server = runner.server
    try:
        listener = await asyncio.get_running_loop().create_server(
            connections, settings.host, settings.port, backlog=_BACKLOG
        )
    except OSError as error:
        await runner.cleanup()
        raise ConfigError(
            f"gateway.port: can't listen on {settings.host}:{settings.port} ({error.strerror}); "
            "stop what listens there, or set another gateway.host or gateway.port"
        ) from error
    return FrontDoor(runner, listener, connections)


def _quiet_log() -> logging.Logger:
    """Make aiohttp's log; it would write a traceback for all nonsense that a stranger sends."""
    http_log = log.getChild("http")
    http_log.addFilter(_no_nonsense)  # Once only, however often it is added.
    return http_log


def _no_nonsense(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    nonsense = isinstance(error, HttpProcessingError)
    if nonsense:
        TURNED_AWAY.labels("malformed request").inc()
    return not nonsense


def _connections_max(settings: Gateway) -> int:
    """Make room for as many connections as are wanted, as far as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = settings.connections_max + _OTHER_FILES
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed == wanted:
        return settings.connections_max
    found = max(allowed // 2, allowed - _OTHER_FILES)
    log.warning(
        "gateway.connections_max: this system allows %d open files; %d connections are let in",
        allowed,
        found,
    )
    return min(found, settings.connections_max)
