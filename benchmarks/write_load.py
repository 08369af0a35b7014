"""Remote-write requests of a fleet, and senders that keep connections busy with them."""

import asyncio
import time
from collections.abc import Sequence
from itertools import islice
from typing import Final, NamedTuple

import aiohttp
import cramjam

from fleet import fleet
from second_version import DraftSeries, encode_v1, encode_v2
from watchkeep.streams.wire import V1, V2

HEADERS: Final = {
    V1: {"Content-Type": "application/x-protobuf", "Content-Encoding": "snappy"},
    V2: {
        "Content-Type": "application/x-protobuf;proto=io.prometheus.write.v2.Request",
        "Content-Encoding": "snappy",
    },
}
ENCODE: Final = {V1: encode_v1, V2: encode_v2}
_START_S: Final = 60.0
_SCRAPE_MS: Final = 15_000
# A pod of the fleet shows so many series; each service here has one pod.
_SHOWN: Final = 430
_SERVICES: Final = 640


def draft(series: int, samples: int, begin_ms: int, first: int = 0) -> list[DraftSeries]:
    """Draft a request of series of all services; a third of the values are 0, as in life."""
    shown = [labels for labels, _ in islice(fleet(), _SHOWN)]
    drafts = []
    for number in range(first, first + series):
        pod = f"service-{number % _SERVICES}-7d9c5b8f6d-x{number // _SERVICES % 10}k2p"
        labels = shown[number // _SERVICES % _SHOWN] | {"pod": pod, "cluster": "bench"}
        values = tuple(
            (begin_ms + i * _SCRAPE_MS, number % 3 * 1.7 * (i + 1)) for i in range(samples)
        )
        drafts.append(DraftSeries(tuple(sorted(labels.items())), values))
    return drafts


async def answers(port: int) -> None:
    """Wait until somebody listens."""
    async with asyncio.timeout(_START_S):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.1)
                continue
            writer.close()
            return


class Sent(NamedTuple):
    """What senders have sent, and how long it took by the clock."""

    samples: int
    seconds: float
    refused: int


async def keep_sending(  # noqa: PLR0913 - They are the load.
    url: str,
    bodies: Sequence[bytes],
    headers: dict[str, str],
    *,
    samples: int,
    connections: int,
    seconds: float,
) -> Sent:
    """Send bodies in turn over so many connections, each waiting for its answers.

    Args:
        url: where to.
        bodies: compressed; each connection has its own to begin with.
        headers: theirs.
        samples: of one body.
        connections: so many at once.
        seconds: for how long; 0 for each body once.
    """
    acknowledged = refused = 0
    begun_s = time.monotonic()
    left = list(range(len(bodies)))

    async def send(session: aiohttp.ClientSession, number: int) -> None:
        nonlocal acknowledged, refused
        turn = number
        while time.monotonic() - begun_s < seconds if seconds else left:
            at = turn % len(bodies) if seconds else left.pop()
            turn += connections
            async with session.post(url, data=bodies[at], headers=headers) as answer:
                if answer.status == 204:
                    acknowledged += samples
                else:
                    refused += 1
                    await asyncio.sleep(0.1)

    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        await asyncio.gather(*(send(session, number) for number in range(connections)))
    return Sent(acknowledged, time.monotonic() - begun_s, refused)


def bodies_of(version: int, count: int, series: int, begin_ms: int) -> list[bytes]:
    """Make bodies, compressed, each of other series with one sample."""
    return [
        bytes(
            cramjam.snappy.compress_raw(
                ENCODE[version](draft(series, 1, begin_ms, first=number * series))
            )
        )
        for number in range(count)
    ]
