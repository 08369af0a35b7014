"""What `watchkeep inspect` prints. Names are untrusted, so each goes through `plain`."""

import json
import math
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from watchkeep.schemas.entity import Entity
from watchkeep.schemas.signal import Side
from watchkeep.schemas.text import clock_time, how_often, iso_time, plain
from watchkeep.schemas.window import Window, WindowState, known_ms
from watchkeep.streams.inspect_lookup import Cells
from watchkeep.streams.inspect_verdict import UNUSUAL, Told, Verdict, clock, of_signal
from watchkeep.streams.inspection import Inspection, Look, known
from watchkeep.streams.show_signals import title
from watchkeep.streams.stores import CHANNELS

_SIGNALS_MAX: Final = 15
_CELLS_MAX: Final = 12
_NONE: Final = "-"
_LEGEND: Final = (
    "How rare it was to each channel: 0 is once a week, +1 once in ten weeks, -1 ten times a week; "
    "envelope and hour look every five minutes."
)
_ARROWS: Final = "\u2191 pages only when it rises, \u2193 only when it falls."
# The last of the channels is there if it is set.
_STANDING: Final = CHANNELS[:-1]
# Names that are longer are broken before their labels.
_NAME_WIDTH: Final = 35
# What is rarer is never seen.
_MOST: Final = 9.0
_SUFFIXES: Final = (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3))
_COLOURS: Final = {Verdict.FIRED: "bold red", Verdict.CALM: "bold green"}


def show(console: Console, found: Inspection, told: Told) -> None:
    """Print what was found, for people."""
    entity = Entity.from_key(found.entity)
    head = Text(plain(entity.title), "bold")
    head.append(f", a {entity.kind} in cluster {plain(entity.cluster)}", "not bold")
    if found.signal is not None:
        head = Text.assemble((title(found.signal.signal), "bold"), " of ", head)
    console.print(head)
    console.print(Text(told.why, _COLOURS.get(told.verdict, "bold")))
    console.print()
    console.print(_facts(found))
    looks = [look for look in found.looks if look.cell is not None]
    if found.signal is not None:
        _show_signal(console, found, found.signal)
    elif looks:
        console.print()
        _show_looks(console, looks)
        if asleep := sum(look.asleep for look in found.looks):
            sleep = "signal sleeps: it was" if asleep == 1 else "signals sleep: they were"
            console.print(Text(f"{asleep:,} {sleep} constant up to now", "dim"))


def _facts(found: Inspection) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, fact in _told(found):
        table.add_row(Text(name, "dim"), Text(fact))
    return table


def _told(found: Inspection) -> Iterator[tuple[str, str]]:
    cell = "nothing stored" if found.cell_ms is None else f"cell of {clock_time(found.cell_ms)}"
    yield "time", f"{clock_time(found.at_ms)}: {cell}"
    if found.cell_ms is not None:
        rarity = found.rarity
        rare = "not known" if rarity is None else f"{rarity:+.2f}, {how_often(rarity)}"
        yield "entity's rarity", rare
    if found.threshold is not None:
        setting = f", {found.budget_of}" if found.budget_of else ""
        budget = f"{10**-found.threshold:.3g} a week"
        yield "window opens at", f"{_signed(found.threshold)}, by a budget of {budget}{setting}"
    paging = [look for look in found.looks if look.pages and look.cell is not None]
    if paging:
        ready = sum(look.cell is not None and look.cell.warmup >= 1 for look in paging)
        yield "may page", f"{len(paging):,} signals, {ready:,} of them warmed up"
    for window in found.windows:
        yield "window", _window(window, found.at_ms)


def _window(window: Window, at_ms: int) -> str:
    onset, found, closed = (
        clock(ms, at_ms) for ms in (window.onset_ms, window.detected_ms, window.at_ms)
    )
    lasted = f"since {onset}" if window.state is WindowState.OPEN else f"from {onset} to {closed}"
    missed = any(shown.reason for shown in window.evidence)
    often = how_often(window.strength, known_ms(window.evidence)).removeprefix("seen ")
    strength = "somebody missed" if missed else often
    return f"{plain(window.window_id)}  {lasted}, found {found}, {strength}"


def _show_looks(console: Console, looks: Sequence[Look]) -> None:
    table = _table()
    table.add_column("signal", overflow="fold", ratio=1)
    table.add_column("pages", justify="center", no_wrap=True)
    channels = CHANNELS if any(CHANNELS[-1] in look.saw for look in looks) else _STANDING
    for heading in ("value", "usual", *channels):
        table.add_column(heading, justify="right", no_wrap=True)
    for look in looks[:_SIGNALS_MAX]:
        cell = look.cell
        assert cell is not None, "only those with a cell are shown"
        numbers = [_number(cell.value, look.signal.unit), _band(cell.value, cell.low, cell.high)]
        rarities = [Text(_rarity(look, name), _weight(look, name)) for name in channels]
        table.add_row(_name(look), _pages(look), *numbers, *rarities)
    console.print(table)
    if len(looks) > _SIGNALS_MAX:
        more = len(looks) - _SIGNALS_MAX
        console.print(Text(f"{more:,} more are less rare; --json has all", "dim"))
    arrows = _ARROWS * any(look.pages and look.side is not Side.BOTH for look in looks)
    console.print(Text(_LEGEND + "\n" * bool(arrows) + arrows, "dim"))


def _name(look: Look) -> Text:
    name = title(look.signal)
    if len(name) > _NAME_WIDTH:
        name = name.replace("{", "\n  {", 1)
    return Text(name, "" if look.pages else "dim")


def _show_signal(console: Console, found: Inspection, look: Look) -> None:
    console.print()
    console.print(Text(of_signal(found, look)))
    cells = found.cells.get(look.signal.signal_id)
    if cells is None:
        return
    cells = cells.between(0, found.at_ms + 1)
    console.print()
    table = _table()
    channels = CHANNELS if np.isfinite(cells.channels[-1]).any() else _STANDING
    for heading in ("time", "value", "expected", "usual", *channels, "entity"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in range(max(0, len(cells.at_ms) - _CELLS_MAX), len(cells.at_ms)):
        table.add_row(*_cell_row(cells, row, look.signal.unit, len(channels)))
    console.print(table)
    console.print(Text(_LEGEND, "dim"))


def _cell_row(cells: Cells, row: int, unit: str, channels: int) -> list[str]:
    value, expected, low, high, rarity = (known(float(column[row])) for column in cells[2:7])
    return [
        clock_time(int(cells.at_ms[row]))[11:16],
        _number(value, unit),
        _number(expected, ""),
        _band(value, low, high),
        *(_signed(known(float(channel[row]))) for channel in cells.channels[:channels]),
        _signed(rarity),
    ]


def _pages(look: Look) -> str:
    if not look.pages:
        return "no"
    return {Side.BOTH: "yes", Side.ABOVE: "\u2191", Side.BELOW: "\u2193"}[look.side]


def _rarity(look: Look, channel: str) -> str:
    saw = look.saw.get(channel)
    return _NONE if saw is None else _signed(saw.rarity)


def _weight(look: Look, channel: str) -> str:
    """Make the number bold that the signal's place is due to, and pale what is nothing unusual."""
    if (saw := look.saw.get(channel)) is None or saw.rarity < UNUSUAL:
        return "dim"
    return "bold" if look.rarest is not None and look.rarest[0] == channel else ""


def _signed(number: float | None) -> str:
    if number is None:
        return _NONE
    if number > _MOST:
        return f">{_MOST:g}"
    return "0" if abs(number) < 0.05 else f"{number:+.1f}"


def _number(value: float | None, unit: str = "") -> str:
    return _NONE if value is None else f"{short(value)} {plain(unit)}".rstrip()


def short(value: float, digits: int = 3) -> str:
    """Write a number in few digits: ``128M``."""
    suffix, size = next((pair for pair in _SUFFIXES if abs(value) >= 10 * pair[1]), ("", 1.0))
    return f"{value / size:.{digits}g}{suffix}"


def _band(value: float | None, low: float | None, high: float | None) -> str:
    """Write what is usual; nobody expects what can't be negative below nothing."""
    if low is None or high is None:
        return _NONE
    return f"{_number(max(low, 0.0) if (value or 0.0) >= 0 <= high else low)}..{_number(high)}"


def _table() -> Table:
    return Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)


def record(found: Inspection, told: Told) -> dict[str, object]:
    """Give all that was found, for programs."""
    entity, window, signal = Entity.from_key(found.entity), found.window, found.signal
    begin_ms, end_ms = found.span_ms
    return {
        "entity": found.entity,
        "title": entity.title,
        "signal": None if signal is None else title(signal.signal),
        "at": iso_time(found.at_ms),
        "cell": None if found.cell_ms is None else iso_time(found.cell_ms),
        "verdict": told.verdict,
        "why": told.why,
        "rarity": found.rarity,
        "threshold": found.threshold,
        "budget": None if found.threshold is None else 10**-found.threshold,
        "budget_of": found.budget_of or None,
        "window": None if window is None else window.window_id,
        "windows": [each.model_dump(mode="json") for each in found.windows],
        "signal_why": None if signal is None else of_signal(found, signal),
        "signals": [_described(look) for look in ([signal] if signal else found.looks)],
        "span": {"begin": iso_time(begin_ms), "end": iso_time(end_ms)},
        "cells": [] if signal is None else _cells(found.cells.get(signal.signal.signal_id)),
    }


def _described(look: Look) -> dict[str, object]:
    row, cell = look.signal, look.cell
    return {
        "signal_id": f"{row.signal_id:016x}",
        "title": title(row),
        "metric": row.metric,
        "labels": dict(row.labels),
        "folding": row.folding,
        "unit": row.unit,
        "role": row.role,
        "side": look.side,
        "why": row.why,
        "asleep": look.asleep,
        "cell": None if cell is None else cell._asdict(),
        "rarest": look.rarest[0] if look.rarest else None,
        "channels": {name: saw._asdict() for name, saw in look.saw.items()},
    }


def _cells(cells: Cells | None) -> list[dict[str, object]]:
    if cells is None:
        return []
    times = (cells.at_ms.astype(np.int64), cells.step_s.astype(np.int64))
    columns = (*times, *cells[2:-1], *cells.channels)
    names = (*Cells._fields[:-1], *CHANNELS)
    return [
        {
            name: value if math.isfinite(value) else None
            for name, value in zip(names, row, strict=True)
        }
        for row in zip(*(column.tolist() for column in columns), strict=True)
    ]


def print_json(console: Console, found: Inspection, told: Told) -> None:
    """Print what was found, for programs: one line."""
    console.out(json.dumps(record(found, told)), highlight=False)
