"""What `watchkeep inspect` prints. Names are untrusted, so each goes through `plain`."""

import json
import math
from collections.abc import Iterator, Sequence
from typing import Final

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from watchkeep.schemas.entity import Entity
from watchkeep.schemas.signal import Side
from watchkeep.schemas.text import clock_time, how_often, iso_time, plain
from watchkeep.schemas.window import Window, WindowState
from watchkeep.streams.inspect_lookup import Cells
from watchkeep.streams.inspect_verdict import Told, Verdict, of_signal
from watchkeep.streams.inspection import Cell, Inspection, Look, known
from watchkeep.streams.show_signals import title
from watchkeep.streams.stores import CHANNELS

_SIGNALS_MAX: Final = 15
_CELLS_MAX: Final = 12
_NONE: Final = "-"
_LEGEND: Final = (
    "The channels' numbers are rarities: 0 is once a week, 1 once in ten weeks, -1 ten times a "
    "week. Envelope and hour look every five minutes."
)
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
    if found.signal is not None:
        _show_signal(console, found, found.signal)
    elif any(look.cell is not None for look in found.looks):
        console.print()
        _show_looks(console, [look for look in found.looks if look.cell is not None])
    if any(look.asleep for look in found.looks) and found.signal is None:
        asleep = sum(look.asleep for look in found.looks)
        console.print(Text(f"{asleep:,} signals sleep: they were constant up to now", "dim"))


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
        setting = f", {found.budget_of} of the settings" if found.budget_of else ""
        yield (
            "window opens at",
            f"{_signed(found.threshold)}: a budget of {10**-found.threshold:.3g} a week{setting}",
        )
    paging = [look for look in found.looks if look.pages and look.cell is not None]
    if paging:
        ready = sum(look.cell is not None and look.cell.warmup >= 1 for look in paging)
        yield "may page", f"{len(paging):,} signals, {ready:,} of them warmed up"
    for window in found.windows:
        yield "window", _window(window)


def _window(window: Window) -> str:
    if window.state is WindowState.OPEN:
        until = "open"
    else:
        until = f"closed {clock_time(window.at_ms)[11:16]}"
    found = clock_time(window.detected_ms)[11:16]
    return (
        f"{plain(window.window_id)}  since {clock_time(window.onset_ms)[:16]}, found {found}, "
        f"{until}; {how_often(window.strength)}"
    )


def _show_looks(console: Console, looks: Sequence[Look]) -> None:
    table = _table()
    table.add_column("signal", overflow="fold", ratio=1)
    table.add_column("role", no_wrap=True)
    for heading in ("value", "usual", *CHANNELS):
        table.add_column(heading, justify="right", no_wrap=True)
    for look in looks[:_SIGNALS_MAX]:
        cell = look.cell
        assert cell is not None, "only those with a cell are shown"
        style = "" if look.pages else "dim"
        numbers = [_number(cell.value, look.signal.unit), _band(cell)]
        rarities = [Text(_rarity(look, name), _weight(look, name)) for name in CHANNELS]
        table.add_row(Text(title(look.signal), style), role(look), *numbers, *rarities)
    console.print(table)
    if len(looks) > _SIGNALS_MAX:
        more = len(looks) - _SIGNALS_MAX
        console.print(Text(f"{more:,} more are less rare; --json has all", "dim"))
    console.print(Text(_LEGEND, "dim"))


def _show_signal(console: Console, found: Inspection, look: Look) -> None:
    console.print()
    console.print(Text(of_signal(found, look)))
    cells = found.cells.get(look.signal.signal_id)
    if cells is None:
        return
    cells = cells.between(0, found.at_ms + 1)
    console.print()
    table = _table()
    for heading in ("time", "value", "expected", "usual", *CHANNELS, "entity"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in range(max(0, len(cells.at_ms) - _CELLS_MAX), len(cells.at_ms)):
        table.add_row(*_cell_row(cells, row, look.signal.unit))
    console.print(table)
    console.print(Text(_LEGEND, "dim"))


def _cell_row(cells: Cells, row: int, unit: str) -> list[str]:
    value, expected, low, high, rarity = (known(float(column[row])) for column in cells[2:7])
    usual = _NONE if low is None or high is None else f"{low:.4g} .. {high:.4g}"
    return [
        clock_time(int(cells.at_ms[row]))[11:16],
        _number(value, unit),
        _number(expected, ""),
        usual,
        *(_signed(known(float(channel[row]))) for channel in cells.channels),
        _signed(rarity),
    ]


def role(look: Look) -> str:
    """Say in a word or two whether a signal may page."""
    if not look.pages:
        return "evidence"
    return "page" if look.side is Side.BOTH else f"page {look.side}"


def _rarity(look: Look, channel: str) -> str:
    saw = look.saw.get(channel)
    return _NONE if saw is None else _signed(saw.rarity)


def _weight(look: Look, channel: str) -> str:
    """Make the number bold that the signal's place is due to."""
    return "bold" if look.rarest is not None and look.rarest[0] == channel else ""


def _signed(number: float | None) -> str:
    if number is None:
        return _NONE
    return "0" if abs(number) < 0.05 else f"{number:+.1f}"


def _number(value: float | None, unit: str) -> str:
    return _NONE if value is None else f"{value:.4g} {plain(unit)}".rstrip()


def _band(cell: Cell) -> str:
    if cell.low is None or cell.high is None:
        return _NONE
    return f"{cell.low:.4g} .. {cell.high:.4g}"


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
        "cell": None if cell is None else {**cell._asdict(), "at_ms": cell.at_ms},
        "rarest": look.rarest[0] if look.rarest else None,
        "channels": {name: saw._asdict() for name, saw in look.saw.items()},
    }


def _cells(cells: Cells | None) -> list[dict[str, object]]:
    if cells is None:
        return []
    names = (*Cells._fields[:-1], *CHANNELS)
    rows = zip(*(column.tolist() for column in (*cells[:-1], *cells.channels)), strict=True)
    return [
        {
            name: value if math.isfinite(value) else None
            for name, value in zip(names, row, strict=True)
        }
        for row in rows
    ]


def print_json(console: Console, found: Inspection, told: Told) -> None:
    """Print what was found, for programs: one line."""
    console.out(json.dumps(record(found, told)), highlight=False)
