"""Reading bodies within bounds: of size, of time, and of memory for all of them together.

What is sent again later is no worse for it, so all but a body that is too large is answered 503: a
4xx, 408 included, would tell the sender to drop its samples.
"""

import asyncio
import contextlib
import logging
from collections.abc import Iterator
from typing import Final

from aiohttp import web

from watchkeep.schemas.errors import RemoteWriteError
from watchkeep.streams.senders import retry_after_s
from watchkeep.streams.vitals import TURNED_AWAY

log = logging.getLogger(__name__)

# Before so long nobody is too slow: the first bytes of a body may have far to go.
_GRACE_S: Final = 1.0
_BUSY_S: Final = 2.0


class Share:
    """What one request holds of a budget."""

    def __init__(self, budget: "BodyBudget") -> None:
        self._budget = budget
        self.bytes = 0
        self.reading: _Reading | None = None

    def take(self, count: int) -> None:
        """Hold so many bytes more, until the request is done.

        Raises:
            RemoteWriteError: 503, the others leave too little.
        """
        self._budget.take(self, count)


class BodyBudget:
    """Bytes that all requests under way may hold at once.

    Whoever reads a body of a length told beforehand holds all of it from the start: it will be
    read to its end. Who is too slow for that gives way when others need the room.

    Args:
        bytes_max: how many.
    """

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._shares: dict[Share, None] = {}
        self.used = 0

    @contextlib.contextmanager
    def share(self) -> Iterator[Share]:
        """Give a request its share while the block runs."""
        share = Share(self)
        self._shares[share] = None
        try:
            yield share
        finally:
            del self._shares[share]
            self.used -= share.bytes
            share.bytes = 0

    def take(self, share: Share, count: int) -> None:
        """Hold so many bytes more for a share.

        Raises:
            RemoteWriteError: 503, the others leave too little.
        """
        if self.used + count > self._bytes_max:
            self._end_slow_ones(share)
        if self.used + count > self._bytes_max:
            TURNED_AWAY.labels("no room for the body").inc()
            raise RemoteWriteError(
                503,
                "too many requests at once; nothing was taken, send it again",
                retry_after_s(_BUSY_S),
            )
        share.bytes += count
        self.used += count

    def _end_slow_ones(self, but: Share) -> None:
        for share in self._shares:
            if share is not but and share.reading and share.reading.late():
                share.reading.end()
                self.used -= share.bytes
                share.bytes = 0


class _Reading:
    """A body that is being read."""

    def __init__(self, length: int | None, timeout_s: float, limit: asyncio.Timeout) -> None:
        self._length = length
        self._timeout_s = timeout_s
        self._limit = limit
        self._loop = asyncio.get_running_loop()
        self._began_s = self._loop.time()
        self.got = 0

    def late(self) -> bool:
        """Tell whether the body would not be whole in time at the pace it comes."""
        took_s = self._loop.time() - self._began_s - _GRACE_S
        if took_s <= 0:
            return False
        # One without a length is late when even a small one would be.
        return self.got < (self._length or 65_536) * min(1.0, took_s / self._timeout_s)

    def end(self) -> None:
        self._limit.reschedule(self._loop.time())


async def read_body(http: web.Request, bytes_max: int, budget: Share, timeout_s: float) -> bytes:
    """Read the body of a request.

    Args:
        http: the request.
        bytes_max: how long it may be.
        budget: what holds its bytes; they are given back at the end of the share, not of this.
        timeout_s: the longest it may take.

    Raises:
        RemoteWriteError: 413 when it is too large, without reading it where its length tells so;
            503 when there is no room or it came too slowly; 400 when the sender went away.
    """
    length = http.content_length
    if length is not None:
        if length > bytes_max:
            raise _too_large(length, bytes_max)
        budget.take(length)
    body = bytearray()
    try:
        async with asyncio.timeout(timeout_s) as limit:
            budget.reading = reading = _Reading(length, timeout_s, limit)
            while chunk := await http.content.readany():
                if len(body) + len(chunk) > bytes_max:
                    raise _too_large(None, bytes_max)
                if length is None:
                    budget.take(len(chunk))
                body += chunk
                reading.got = len(body)
    except TimeoutError as error:
        TURNED_AWAY.labels("body too slow").inc()
        raise RemoteWriteError(
            503,
            f"{len(body)} bytes of the body came in time; nothing was taken, send it again",
            retry_after_s(_BUSY_S),
        ) from error
    except (web.RequestPayloadError, ConnectionError) as error:
        TURNED_AWAY.labels("body cut off").inc()
        raise RemoteWriteError(400, f"the body ends after {len(body)} bytes") from error
    finally:
        budget.reading = None
    return bytes(body)


def _too_large(length: int | None, bytes_max: int) -> RemoteWriteError:
    TURNED_AWAY.labels("body too large").inc()
    told = "more" if length is None else f"{length} bytes are more"
    return RemoteWriteError(413, f"{told} than the {bytes_max} bytes allowed")
