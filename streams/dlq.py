"""`watchkeep dlq`: look at dead letters, and send them once more when their cause is mended."""

import json
from collections.abc import Collection, Iterator
from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from watchkeep.schemas.errors import ConfigError
from watchkeep.schemas.settings import Broker
from watchkeep.schemas.text import clock_time, plain
from watchkeep.streams import kafka
from watchkeep.streams.ports import Record
from watchkeep.streams.topics import DEAD_LETTERS, specs

_SHOWN_BYTES: Final = 1_024
_ROW_BYTES: Final = 16


async def list_letters(broker: Broker, *, as_json: bool) -> None:
    """Print one line a dead letter, oldest first."""
    letters = await _all(broker)
    console = Console(soft_wrap=True)
    if as_json:
        for letter in letters:
            console.out(json.dumps(_described(letter)), highlight=False)
    elif letters:
        console.print(_table(letters))
    else:
        console.print("no dead letters")


async def _all(broker: Broker) -> list[Record]:
    """Read the dead letters; a crash may have put one aside twice, and once is enough."""
    found: dict[tuple[object, ...], Record] = {}
    async for letter in kafka.tail(broker.bootstrap, DEAD_LETTERS, follow=False):
        place = tuple(letter.headers.get(name) for name in ("topic", "partition", "offset"))
        found.setdefault((*place, letter.value), letter)
    return list(found.values())


def _described(letter: Record) -> dict[str, object]:
    return {
        "number": letter.offset,
        "time_ms": letter.time_ms,
        "topic": letter.headers.get("topic", ""),
        "partition": _whole(letter.headers.get("partition", "")),
        "offset": _whole(letter.headers.get("offset", "")),
        "bytes": len(letter.value or b""),
        "error": letter.headers.get("error", ""),
    }


def _whole(text: str) -> int | None:
    return int(text) if text.isdecimal() else None


def _table(letters: Collection[Record]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for heading, justify in (("number", "right"), ("kept at", "left"), ("from", "left")):
        table.add_column(heading, justify=justify, no_wrap=True)  # type: ignore[arg-type]  # It is one of three words.
    table.add_column("bytes", justify="right")
    table.add_column("error", overflow="fold")
    for letter in letters:
        table.add_row(
            str(letter.offset),
            clock_time(letter.time_ms),
            escape(_place(letter)),
            str(len(letter.value or b"")),
            escape(plain(letter.headers.get("error", ""), 200)),
        )
    return table


def _place(letter: Record) -> str:
    headers = {name: plain(value) for name, value in letter.headers.items()}
    topic, partition = headers.get("topic", "?"), headers.get("partition", "?")
    return f"{topic}/{partition} offset {headers.get('offset', '?')}"


async def show_letter(broker: Broker, number: int) -> None:
    """Print a dead letter: where it was, what stopped it, and its bytes."""
    (letter,) = await _letters(broker, [number])
    value = letter.value or b""
    console = Console(soft_wrap=True)
    console.out(f"number  {number}", highlight=False)
    console.out(f"from    {_place(letter)}", highlight=False)
    console.out(f"error   {plain(letter.headers.get('error', ''), 2_000)}", highlight=False)
    console.out(f"bytes   {len(value)}\n", highlight=False)
    for line in _dump(value[:_SHOWN_BYTES]):
        console.out(line, highlight=False)
    if len(value) > _SHOWN_BYTES:
        console.out(f"... and {len(value) - _SHOWN_BYTES} bytes more", highlight=False)


def _dump(value: bytes) -> Iterator[str]:
    for begin in range(0, len(value), _ROW_BYTES):
        row = value[begin : begin + _ROW_BYTES]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        yield f"{begin:06x}  {row.hex(' '):<{3 * _ROW_BYTES}} {text}"


async def replay(broker: Broker, numbers: Collection[int]) -> list[str]:
    """Write dead letters to the end of the topics that they were in.

    Returns:
        A line for each.

    Raises:
        ConfigError: one of them isn't there, or doesn't say where it was.
        LogError: the broker did not take one.
    """
    letters = await _letters(broker, numbers)
    known = {spec.name: spec.partitions for spec in specs()}
    for letter in letters:
        partition = _whole(letter.headers.get("partition", ""))
        topic = letter.headers.get("topic", "")
        if partition is None or not 0 <= partition < known.get(topic, 0):
            raise ConfigError(f"dead letter {letter.offset} doesn't say where it was")
    told = []
    async with kafka.open_sink(broker) as sink:
        for letter in letters:
            topic, partition = letter.headers["topic"], int(letter.headers["partition"])
            await sink.send(topic, letter.value, partition=partition, key=letter.key)
            told.append(f"sent {letter.offset} to {topic}/{partition} once more")
    return told


async def _letters(broker: Broker, numbers: Collection[int]) -> list[Record]:
    there = {letter.offset: letter for letter in await _all(broker)}
    for number in numbers:
        if number not in there:
            raise ConfigError(f"there is no dead letter {number}; `watchkeep dlq list` shows all")
    return [there[number] for number in numbers]
