"""Bodies are read within bounds of size, time and memory; what may be sent again gets 503."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from front import PATH, Plain, opened, turned_away
from watchkeep.schemas.errors import RemoteWriteError
from watchkeep.schemas.settings import Gateway
from watchkeep.streams import bodies
from watchkeep.streams.bodies import BodyBudget

KIB = 1024
MIB = 1024 * KIB


class Raw:
    """A client that sends what it is told to, byte by byte if need be."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        """Send bytes."""
        self.writer.write(data)
        await self.writer.drain()

    async def begin(self, length: int | None) -> None:
        """Send the head of a request; without a length, its body comes in chunks."""
        how = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
        await self.send(f"POST {PATH} HTTP/1.1\r\nHost: x\r\n{how}\r\n\r\n".encode())

    async def chunk(self, data: bytes) -> None:
        """Send a chunk; an empty one is the last."""
        await self.send(b"%x\r\n%b\r\n" % (len(data), data))

    async def trickle(self, data: bytes, every_s: float) -> None:
        """Send byte by byte until the server has had enough."""
        with contextlib.suppress(ConnectionError):
            for byte in data:
                await self.send(bytes([byte]))
                await asyncio.sleep(every_s)

    async def answer(self) -> tuple[int, str]:
        """Read an answer: its status, and all of its head and text."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        fields = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:-2])
        text = (await self.reader.readexactly(int(fields.get("content-length", 0)))).decode()
        return int(head.split(" ", 2)[1]), head + text


@contextlib.asynccontextmanager
async def raw(port: int) -> AsyncIterator[Raw]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Raw(reader, writer)
    finally:
        writer.close()


async def whole(port: int, length: int) -> int:
    """Send a body at once, and tell the status."""
    async with asyncio.timeout(10), raw(port) as client:
        await client.begin(length)
        await client.send(bytes(length))
        return (await client.answer())[0]


@pytest.fixture
def settings() -> Gateway:
    return Gateway(max_body_mb=1.0, bodies_max_mb=4.0, request_timeout_s=2.0)


async def test_a_body_is_read_whole_and_its_bytes_are_given_back(settings: Gateway) -> None:
    plain = Plain(settings)
    async with opened(settings, plain) as port, raw(port) as client:
        for length in (0, 1, 300_000, MIB):
            await client.begin(length)
            await client.send(bytes(length))
            assert (await client.answer())[1].endswith(f"\r\n\r\n{length} ")
    assert plain.budget.used == 0


async def test_a_body_in_chunks_is_read_whole(settings: Gateway) -> None:
    plain = Plain(settings)
    async with opened(settings, plain) as port, raw(port) as client:
        await client.begin(None)
        for chunk in (b"a", b"b" * 100_000, b"c" * 7, b""):
            await client.chunk(chunk)
        assert (await client.answer())[1].endswith("\r\n\r\n100008 ")
    assert plain.budget.used == 0


@pytest.mark.parametrize("length", [MIB + 1, 2**31, 2**62])
async def test_a_length_above_the_limit_is_refused_before_the_body(
    settings: Gateway, length: int
) -> None:
    before = turned_away("body too large")
    async with opened(settings) as port, raw(port) as client:
        await client.begin(length)
        async with asyncio.timeout(1):
            status, text = await client.answer()
        assert status == 413
        assert f"{length} bytes are more than the {MIB} bytes allowed" in text
    assert turned_away("body too large") - before == 1


@pytest.mark.parametrize("length", ["-1", "1e3", "0x10", "1, 2", "99999999999999999999999"])
async def test_a_length_that_is_no_number_is_refused(
    settings: Gateway, length: str, caplog: pytest.LogCaptureFixture
) -> None:
    before = turned_away("malformed request")
    async with asyncio.timeout(5), opened(settings) as port, raw(port) as client:
        await client.send(
            f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n".encode()
        )
        assert (await client.answer())[0] == 400
        assert await whole(port, 10) == 200
    assert turned_away("malformed request") - before == 1
    assert "Traceback" not in caplog.text


async def test_chunks_above_the_limit_are_refused_when_they_come(settings: Gateway) -> None:
    plain = Plain(settings)
    async with asyncio.timeout(5), opened(settings, plain) as port, raw(port) as client:
        await client.begin(None)
        for _ in range(17):
            await client.chunk(bytes(64 * KIB))
        assert (await client.answer())[0] == 413
        assert plain.budget.used == 0


async def test_a_body_of_a_byte_a_second_is_told_to_come_again(settings: Gateway) -> None:
    before = turned_away("body too slow")
    plain = Plain(settings)
    async with asyncio.timeout(10), opened(settings, plain) as port, raw(port) as client:
        await client.begin(1_000)
        slow = asyncio.ensure_future(client.trickle(bytes(1_000), 0.1))
        assert await whole(port, MIB) == 200
        status, text = await client.answer()
        assert status == 503
        assert "\r\nRetry-After: " in text
        assert plain.budget.used == 0
        slow.cancel()
    assert turned_away("body too slow") - before == 1


async def test_who_goes_away_gives_back_what_it_held(settings: Gateway) -> None:
    before = turned_away("body cut off")
    plain = Plain(settings)
    async with asyncio.timeout(5), opened(settings, plain) as port:
        for length in (MIB, None):
            async with raw(port) as client:
                await client.begin(length)
                await client.send(b"5\r\nabcde\r\n")
                await asyncio.sleep(0.1)
                assert plain.budget.used == (length or 5)
            while plain.budget.used:  # noqa: ASYNC110 - The budget has no event to wait for.
                await asyncio.sleep(0.01)
        assert await whole(port, MIB) == 200
    assert turned_away("body cut off") - before == 2


async def test_what_exceeds_the_budget_is_told_to_come_again(
    settings: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "_GRACE_S", 60.0)  # Nobody is late here.
    before = turned_away("no room for the body")
    plain = Plain(settings)
    async with (
        asyncio.timeout(10),
        opened(settings, plain) as port,
        contextlib.AsyncExitStack() as all_,
    ):
        clients = [await all_.enter_async_context(raw(port)) for _ in range(5)]
        for client in clients[:4]:
            await client.begin(MIB)
        await asyncio.sleep(0.2)
        assert plain.budget.used == 4 * MIB
        await clients[4].begin(10)
        status, text = await clients[4].answer()
        assert status == 503
        assert "\r\nRetry-After: " in text
        for client in clients[:4]:
            await client.send(bytes(MIB))
            assert (await client.answer())[0] == 200
        assert await whole(port, 10) == 200
    assert turned_away("no room for the body") - before == 1


async def test_who_is_too_slow_gives_way_to_who_needs_the_room() -> None:
    """Forged lengths would otherwise keep everyone out, for as long as a body may take."""
    settings = Gateway(max_body_mb=1.0, bodies_max_mb=4.0, request_timeout_s=60.0)
    plain = Plain(settings)
    async with (
        asyncio.timeout(10),
        opened(settings, plain) as port,
        contextlib.AsyncExitStack() as all_,
    ):
        slow = [await all_.enter_async_context(raw(port)) for _ in range(4)]
        for client in slow[:3]:
            await client.begin(MIB)
            await client.send(b"x")
        on_pace = slow[3]
        await on_pace.begin(MIB)
        await on_pace.send(bytes(MIB - 1))
        await asyncio.sleep(1.5)
        assert await whole(port, MIB) == 200
        for client in slow[:3]:
            assert (await client.answer())[0] == 503
        await on_pace.send(b"x")
        assert (await on_pace.answer())[0] == 200
    assert plain.budget.used == 0


def test_a_share_holds_what_is_decoded_too() -> None:
    budget = BodyBudget(100)
    with budget.share() as one:
        one.take(60)
        with budget.share() as other, pytest.raises(RemoteWriteError) as refused:
            other.take(41)
        assert refused.value.status == 503
        assert refused.value.retry_after_s
        one.take(40)
        assert budget.used == 100
    assert budget.used == 0
