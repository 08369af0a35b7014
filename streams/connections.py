"""The connections of the gateway: bounded in number, in time, and in what each may hold.

aiohttp closes a connection that is silent for too long. What it has no bound for is here: how many
there are, heads of requests that come a byte at a time, TLS handshakes that don't end, and answers
that nobody reads.
"""

import asyncio
from asyncio import sslproto
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from watchkeep.streams.tls import Certificates
from watchkeep.streams.vitals import CONNECTIONS, TURNED_AWAY

_HANDSHAKE_S: Final = 10.0
_SHUTDOWN_S: Final = 2.0
_HEAD_BYTES_MAX: Final = 32 * 1024
_HEAD_END: Final = b"\r\n\r\n"
# Each TLS connection holds a buffer of this size from its start. asyncio's default, 256 KiB, is
# all that 10,000 idle ones need memory for; a TLS record has 16 KiB.
_TLS_BUFFER_BYTES: Final = 32 * 1024


class Connections:
    """All connections of a server; call it for the protocol of a new one.

    Where there are too many, the one that has waited longest for a request gives way: whoever has
    something to say finds room.

    Args:
        timeout_s: so long the head of a request may take to come, and an answer to be read.
        connections_max: how many there may be.
        certificates: for TLS; None for plain HTTP.

    Attributes:
        server: what handles the requests; set before the first connection.
    """

    def __init__(
        self,
        timeout_s: float,
        connections_max: int,
        certificates: Certificates | None,
    ) -> None:
        self.server: web.Server | None = None
        self.timeout_s: Final = timeout_s
        self.certificates: Final = certificates
        self._connections_max = connections_max
        self._all: set[Connection] = set()
        self._waiting: dict[Connection, None] = {}  # It keeps their order.
        self._handshakes: set[asyncio.Task[None]] = set()
        self.by_handler: Final[dict[asyncio.Protocol, Connection]] = {}
        if certificates is not None:
            sslproto.SSLProtocol.max_size = _TLS_BUFFER_BYTES

    def __call__(self) -> "Connection":
        """Make the protocol of a new connection."""
        return Connection(self)

    def admit(self, connection: "Connection") -> None:
        """Take in a new connection, and close another one if there are too many."""
        self._all.add(connection)
        CONNECTIONS.set(len(self._all))
        self._waiting[connection] = None
        if len(self._all) > self._connections_max:
            next(iter(self._waiting)).abort("too many connections")

    def wait(self, connection: "Connection") -> None:
        """Note that a connection waits for a request from now on."""
        self._waiting[connection] = None

    def serve(self, connection: "Connection") -> None:
        """Note that a request has come on a connection."""
        self._waiting.pop(connection, None)

    def leave(self, connection: "Connection") -> None:
        """Forget a connection."""
        self._all.discard(connection)
        CONNECTIONS.set(len(self._all))
        self._waiting.pop(connection, None)

    def handshake(self, connection: "Connection", transport: asyncio.Transport) -> None:
        """Begin TLS on a connection."""
        task = asyncio.ensure_future(self._secure(connection, transport))
        self._handshakes.add(task)
        task.add_done_callback(self._handshakes.discard)

    async def _secure(self, connection: "Connection", transport: asyncio.Transport) -> None:
        assert self.certificates is not None
        try:
            secured = await asyncio.get_running_loop().start_tls(
                transport,
                connection,
                self.certificates.context(),
                server_side=True,
                ssl_handshake_timeout=_HANDSHAKE_S,
                ssl_shutdown_timeout=_SHUTDOWN_S,
            )
        except OSError:
            secured = None
        if secured is None:
            TURNED_AWAY.labels("TLS handshake failed").inc()
            connection.connection_lost(None)
        else:
            connection.begin(secured)

    async def end_handshakes(self) -> None:
        """End the handshakes under way; what comes after them is the server's to end."""
        for task in self._handshakes:
            task.cancel()
        await asyncio.gather(*self._handshakes, return_exceptions=True)

    def watch(self) -> Middleware:
        """Make the middleware that tells when requests are under way."""

        @web.middleware
        async def watched(request: web.Request, handler: Handler) -> web.StreamResponse:
            connection = self.by_handler.get(request.protocol)
            if connection is None:
                return await handler(request)
            connection.serve()
            try:
                return await handler(request)
            finally:
                # A body that wasn't read is still coming, and is no head of the next request.
                request.content.on_eof(connection.wait)

        return watched


class Connection(asyncio.Protocol):
    """One connection: it passes on to aiohttp what comes, and looks for ends of heads."""

    __slots__ = (
        "_all",
        "_clock",
        "_early",
        "_head_bytes",
        "_inner",
        "_stuck",
        "_tail",
        "_transport",
    )

    def __init__(self, connections: Connections) -> None:
        self._all = connections
        self._transport: asyncio.Transport | None = None
        self._inner: asyncio.Protocol | None = None
        self._early: list[bytes] = []
        # What came of the head of a request; None while a request is under way.
        self._head_bytes: int | None = 0
        self._tail = b""
        self._clock: asyncio.TimerHandle | None = None
        self._stuck: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take in the connection, and begin TLS where it is wanted."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._all.admit(self)
        if self._transport is None:
            return
        if self._all.certificates is None:
            self.begin(transport)
        else:
            transport.pause_reading()
            self._all.handshake(self, transport)

    def begin(self, transport: asyncio.Transport) -> None:
        """Hand the connection to aiohttp."""
        if self._transport is None:
            transport.abort()
            return
        self._transport = transport
        assert self._all.server is not None
        self._inner = self._all.server()
        self._all.by_handler[self._inner] = self
        self._inner.connection_made(transport)
        early, self._early = self._early, []
        for data in early:  # It came together with the end of the handshake.
            self.data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._all.leave(self)
        self._transport = None
        self._stop_clock()
        if self._stuck is not None:
            self._stuck.cancel()
        if self._inner is not None:
            self._all.by_handler.pop(self._inner, None)
            self._inner.connection_lost(exc)
            self._inner = None

    def data_received(self, data: bytes) -> None:
        """Pass on what came."""
        if self._inner is None:
            self._early.append(data)
            return
        if self._head_bytes is not None:
            self._look(data)
        self._inner.data_received(data)

    def _look(self, data: bytes) -> None:
        """Look for the end of a request's head."""
        assert self._head_bytes is not None
        if _HEAD_END in self._tail + data:
            self.serve()
            return
        self._tail = (self._tail + data)[1 - len(_HEAD_END) :]
        self._head_bytes += len(data)
        if self._head_bytes > _HEAD_BYTES_MAX:
            self.abort("head too large")
        elif self._clock is None:
            loop = asyncio.get_running_loop()
            self._clock = loop.call_later(self._all.timeout_s, self.abort, "head too slow")

    def serve(self) -> None:
        """Note that a request is under way."""
        self._head_bytes, self._tail = None, b""
        self._stop_clock()
        self._all.serve(self)

    def wait(self) -> None:
        """Note that the next request is awaited."""
        if self._transport is not None:
            self._head_bytes = 0
            self._all.wait(self)

    def abort(self, reason: str) -> None:
        """Close the connection at once, and say why."""
        TURNED_AWAY.labels(reason).inc()
        self._all.leave(self)
        self._stop_clock()
        if self._transport is not None:
            self._transport.abort()
            self._transport = None

    def _stop_clock(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None

    def eof_received(self) -> None:
        """Pass it on: the client sends no more."""
        if self._inner is not None:
            self._inner.eof_received()

    def pause_writing(self) -> None:
        """Pass it on; a client that doesn't read its answer is left in the end."""
        loop = asyncio.get_running_loop()
        self._stuck = loop.call_later(self._all.timeout_s, self.abort, "answer not read")
        if self._inner is not None:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        """Pass it on."""
        if self._stuck is not None:
            self._stuck.cancel()
        if self._inner is not None:
            self._inner.resume_writing()
