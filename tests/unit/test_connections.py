"""Slow clients and many of them take nothing from the others."""

import asyncio
import contextlib

import pytest

from front import PATH, opened, turned_away
from watchkeep.schemas.settings import Gateway
from watchkeep.streams import front_door

OK = b"HTTP/1.1 200"
REQUEST = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx".encode()


async def connect(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", port)


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    writer.write(REQUEST)
    head = await reader.readuntil(b"\r\n\r\n")
    await reader.readexactly(len("1 "))
    return head


async def end(reader: asyncio.StreamReader) -> bytes:
    """Read until the server closes the connection, however it does."""
    with contextlib.suppress(ConnectionError):
        return await reader.read()
    return b""


async def test_a_head_of_a_byte_a_second_is_cut_off_in_time() -> None:
    before = turned_away("head too slow")
    settings = Gateway(request_timeout_s=1.0)
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(10), opened(settings) as port:
        began_s = loop.time()
        slow = [await connect(port) for _ in range(50)]

        async def trickle(writer: asyncio.StreamWriter) -> None:
            for byte in REQUEST[:-5]:
                writer.write(bytes([byte]))
                await asyncio.sleep(0.1)

        trickles = [asyncio.ensure_future(trickle(writer)) for _, writer in slow]
        other = await connect(port)
        while not slow[0][0].at_eof() and loop.time() - began_s < 0.9:
            assert (await ask(*other)).startswith(OK)
        assert [await end(reader) for reader, _ in slow] == [b""] * 50
        assert 0.9 < loop.time() - began_s < 3
        for task, (_, writer) in zip(trickles, slow, strict=True):
            task.cancel()
            writer.close()
        other[1].close()
    assert turned_away("head too slow") - before == 50


async def test_a_silent_connection_is_closed_in_time_and_a_busy_one_is_not() -> None:
    async with asyncio.timeout(10), opened(Gateway(idle_timeout_s=1.0)) as port:
        silent, used, busy = [await connect(port) for _ in range(3)]
        assert (await ask(*used)).startswith(OK)
        for _ in range(6):
            assert (await ask(*busy)).startswith(OK)
            await asyncio.sleep(0.4)
        for reader, writer in (silent, used):
            assert reader.at_eof()
            writer.close()
        assert (await ask(*busy)).startswith(OK)
        busy[1].close()


async def test_an_endless_head_is_cut_off() -> None:
    before = turned_away("head too large")
    async with asyncio.timeout(10), opened(Gateway()) as port:
        reader, writer = await connect(port)
        writer.write(b"GET / HTTP/1.1\r\n")
        for at in range(100):
            writer.write(b"x-%d: %b\r\n" % (at, b"x" * 1_000))
        assert await end(reader) == b""
        writer.close()
    assert turned_away("head too large") - before == 1


async def test_a_head_that_comes_in_pieces_is_read() -> None:
    async with asyncio.timeout(10), opened(Gateway()) as port:
        reader, writer = await connect(port)
        for _ in range(2):
            for byte in REQUEST:
                writer.write(bytes([byte]))
                await asyncio.sleep(0.001)
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(OK)
            await reader.readexactly(2)
        head = REQUEST[:-2].replace(b"Length: 1", b"Length: 200000")
        writer.write(head)
        await asyncio.sleep(0.1)
        writer.write(b"\n" + bytes(200_000))  # Most of it is no head.
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(OK)
        writer.close()


async def test_many_requests_at_once_on_one_connection_are_answered() -> None:
    async with asyncio.timeout(10), opened(Gateway(request_timeout_s=0.5)) as port:
        reader, writer = await connect(port)
        body = b"x" * 100_000
        head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        writer.write((head + body) * 20)
        for _ in range(20):
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(OK)
            assert await reader.readexactly(7) == b"100000 "
        await asyncio.sleep(0.7)  # Nothing is left of it that would be cut off.
        assert (await ask(reader, writer)).startswith(OK)
        writer.close()


async def test_of_too_many_the_one_that_waited_longest_gives_way() -> None:
    before = turned_away("too many connections")
    async with asyncio.timeout(10), opened(Gateway(connections_max=3)) as port:
        first, second, third = [await connect(port) for _ in range(3)]
        assert (await ask(*first)).startswith(OK)  # It has waited least now.
        under_way = third
        under_way[1].write(REQUEST[:-1])
        await asyncio.sleep(0.1)
        fourth = await connect(port)
        assert await end(second[0]) == b""
        fifth = await connect(port)
        assert await end(first[0]) == b""
        under_way[1].write(b"x")
        assert (await under_way[0].readuntil(b"\r\n\r\n")).startswith(OK)
        for one in (fourth, fifth):
            assert (await ask(*one)).startswith(OK)
        for one in (first, second, third, fourth, fifth):
            one[1].close()
    assert turned_away("too many connections") - before == 2


async def test_who_does_not_read_its_answers_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prometheus_client.generate_latest", lambda: bytes(20_000_000))
    before = turned_away("answer not read")
    async with asyncio.timeout(20), opened(Gateway(request_timeout_s=1.0)) as port:
        reader, writer = await connect(port)
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        while turned_away("answer not read") == before:  # noqa: ASYNC110 - It has no event.
            await asyncio.sleep(0.05)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(20_000_000)
        writer.close()


@pytest.mark.parametrize(
    ("hard", "let_in", "soft"),
    [(1_000_000, 10_000, 11_280), (-1, 10_000, 11_280), (4_096, 2_816, 4_096), (1_024, 512, 1_024)],
)
def test_there_is_room_for_files_beside_the_connections(
    monkeypatch: pytest.MonkeyPatch, hard: int, let_in: int, soft: int
) -> None:
    limits = [(256, hard)]
    monkeypatch.setattr("resource.getrlimit", lambda _: limits[-1])
    monkeypatch.setattr("resource.setrlimit", lambda _, both: limits.append(both))
    assert front_door._connections_max(Gateway()) == let_in
    assert limits[-1] == (soft, hard)
