"""Ten thousand idle connections: the others are served, and memory stays bounded."""

import asyncio
import contextlib
import resource
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import psutil
import pytest

import front
from certificates import Authority
from conftest import absent
from watchkeep.schemas.settings import Gateway, Tls

MANY = 10_000
# With TLS each takes milliseconds to make, here and there.
MANY_TLS = 2_000
# Twice what was seen.
KIB_EACH = 12
KIB_EACH_TLS = 120
ASKED = 20
ANSWER_S = 5.0
PATIENCE_S = 120


@dataclass(frozen=True)
class Running:
    """The gateway as a process of its own: a process may have only so many files."""

    port: int
    process: psutil.Process

    def rss_kib(self) -> float:
        """Tell how much memory it has."""
        return float(self.process.memory_info().rss) / 1024

    def connections(self) -> int:
        """Count its connections."""
        return len(self.process.net_connections("tcp")) - 1


@contextlib.contextmanager
def running(settings: Gateway) -> Iterator[Running]:
    command = [sys.executable, front.__file__, settings.model_dump_json()]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield Running(int(process.stdout.readline()), psutil.Process(process.pid))
        finally:
            process.terminate()


@pytest.fixture
def many_files() -> Iterator[None]:
    """Let this process, and those it starts, have enough open files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = MANY + 1_000
    if hard != resource.RLIM_INFINITY and hard < needed:
        absent(f"a hard limit of {needed} open files (ulimit -Hn; it is {hard})")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, needed), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def connect(port: int, context: ssl.SSLContext | None) -> asyncio.StreamWriter:
    return (await asyncio.open_connection("127.0.0.1", port, ssl=context))[1]


async def longest_answer_s(port: int, context: ssl.SSLContext | None) -> float:
    """Send some requests, each on a connection of its own; tell how long the longest took."""
    longest_s = 0.0
    scheme = "https" if context else "http"
    for _ in range(ASKED):
        began_s = time.monotonic()
        async with (
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context or True)) as session,
            session.post(
                f"{scheme}://127.0.0.1:{port}{front.PATH}",
                data=front.small_body(),
                headers=front.HEADERS,
            ) as answer,
        ):
            assert answer.status == 204
        longest_s = max(longest_s, time.monotonic() - began_s)
    return longest_s


async def crowd(gateway: Running, many: int, context: ssl.SSLContext | None) -> tuple[float, float]:
    """Hold many idle connections; tell what one costs, and the longest answer meanwhile."""
    async with asyncio.timeout(PATIENCE_S):
        await longest_answer_s(gateway.port, context)
        before_kib = gateway.rss_kib()
        writers = []
        for _ in range(many // 100):
            writers += await asyncio.gather(*(connect(gateway.port, context) for _ in range(100)))
        longest_s = await longest_answer_s(gateway.port, context)
        each_kib = (gateway.rss_kib() - before_kib) / many
        assert gateway.connections() >= many
        for writer in writers:
            writer.transport.abort()
        return each_kib, longest_s


@pytest.mark.usefixtures("many_files")
async def test_idle_connections_cost_little_and_hinder_nobody() -> None:
    with running(Gateway(connections_max=MANY + 100)) as gateway:
        each_kib, longest_s = await crowd(gateway, MANY, None)
    assert each_kib < KIB_EACH
    assert longest_s < ANSWER_S


@pytest.mark.usefixtures("many_files")
async def test_idle_connections_with_tls_cost_little_too(
    tmp_path: Path, need_program: Callable[[str], str]
) -> None:
    need_program("openssl")
    authority = Authority(tmp_path, "ours")
    own = authority.issue("gateway", "IP:127.0.0.1")
    used = Tls(certificate=own.certificate, key=own.key)
    context = ssl.create_default_context(cafile=authority.file)
    with running(Gateway(connections_max=MANY + 100, tls=used)) as gateway:
        each_kib, longest_s = await crowd(gateway, MANY_TLS, context)
    assert each_kib < KIB_EACH_TLS
    assert longest_s < ANSWER_S


@pytest.mark.usefixtures("many_files")
async def test_slow_heads_on_many_connections_hinder_nobody() -> None:
    """The gateway has room for fewer than come: those that wait longest give way."""
    # None of them ends by itself meanwhile.
    settings = Gateway(connections_max=MANY // 2, request_timeout_s=300, idle_timeout_s=300)
    with running(settings) as gateway:
        async with asyncio.timeout(PATIENCE_S):
            writers = []
            for _ in range(MANY // 100):
                writers += await asyncio.gather(*(connect(gateway.port, None) for _ in range(100)))
                for writer in writers[-100:]:
                    writer.write(b"POST /api/v1/write HTTP/1.1\r\nHost: ")
            assert await longest_answer_s(gateway.port, None) < ANSWER_S
            assert gateway.connections() <= MANY // 2 + 10
            for writer in writers:
                writer.transport.abort()
