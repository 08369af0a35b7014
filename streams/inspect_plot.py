"""The plot of `watchkeep inspect`: values in their bands, and how rare they were, on one time axis.

Colours are Okabe's and Ito's, which the colour-blind tell apart, and each channel has a mark of its
own besides. Sizes are such that it can be read on a phone.
"""

import os
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from watchkeep.schemas.entity import Entity
from watchkeep.schemas.errors import ConfigError
from watchkeep.schemas.text import clock_time, plain
from watchkeep.schemas.window import Evidence, Window
from watchkeep.streams.inspect_lookup import Cells, Floats
from watchkeep.streams.inspection import Inspection, Look, entity_rarity, over_ms
from watchkeep.streams.show_inspection import short
from watchkeep.streams.show_signals import NAME_MAX, title
from watchkeep.streams.stores import CHANNELS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

_KINDS: Final = (".png", ".svg")
_VALUE: Final = "#0072B2"
_ENTITY: Final = "#000000"
_WINDOW: Final = "#E69F00"
_LEFT: Final = "#D55E00"
_CHOSEN: Final = "#555555"
_CHANNELS: Final = dict(
    zip(
        CHANNELS,
        (("#D55E00", "o"), ("#009E73", "s"), ("#CC79A7", "^"), ("#56B4E9", "D"), ("#F0E442", "v")),
        strict=True,
    )
)
_VALUES_SHOWN: Final = 2
# So much of what the value spans is shown above and below it.
_ROOM: Final = 0.6
_TITLE_MAX: Final = 62
# What is less rare than this says nothing, and would only take the place of what does.
_FLOOR: Final = -2.0
# From here on it only says that it was never seen.
_CEILING: Final = 4.0
_LEAST: Final = 2.0
# How often each rarity is, in words.
_OFTEN: Final = {
    -2: "100 a week",
    -1: "10 a week",
    0: "once a week",
    1: "1 in 10 weeks",
    2: "1 in 2 years",
    3: "1 in 20 years",
    4: "rarer",
}


def check(path: Path) -> None:
    """Make sure that a plot can be drawn and written, before anything is looked up.

    Raises:
        ConfigError: it can't.
    """
    if path.suffix not in _KINDS:
        raise ConfigError(f"--plot: {path} has to end in {' or '.join(_KINDS)}")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise ConfigError(f"--plot: {path} can't be written: name a file in a folder of yours")
    try:
        import matplotlib  # noqa: F401, ICN001, PLC0415 - Only plots need it.
    except ImportError as error:
        raise ConfigError(
            f"--plot: {error.name} is missing; pip install 'watchkeep[plots]'"
        ) from error


def draw(path: Path, found: Inspection) -> None:
    """Draw what was found into a file.

    Raises:
        ConfigError: there is nothing to draw, or the file can't be written.
    """
    shown = _shown(found)
    if not shown:
        raise ConfigError("--plot: no cell is stored of this time; another --at or --span may help")
    import matplotlib as mpl  # noqa: PLC0415 - Late, as it takes its time.

    with mpl.rc_context({"font.size": 11, "svg.hashsalt": "watchkeep"}):
        figure, (*values, rarities) = _figure(len(shown))
        for plot, (look, cells) in zip(values, shown, strict=True):
            _draw_value(plot, look, cells, found.windows)
        _draw_rarities(rarities, found)
        for plot in (*values, rarities):
            _mark(plot, found)
        rarities.set_xlim(_date(found.span_ms[0]), _date(found.span_ms[1]))
        figure.suptitle(_heading(found), fontsize=12, fontweight="bold", x=0.01, ha="left")
        _legend(figure, [rarities, *values[:1]])
        metadata = {"Date": None} if path.suffix == ".svg" else {}
        try:
            figure.savefig(path, dpi=180, metadata=metadata)
        except OSError as error:
            raise ConfigError(f"--plot: {path} can't be written: {error.strerror}") from error


def _shown(found: Inspection) -> list[tuple[Look, Cells]]:
    """Choose the signals to draw: the one asked about, or those that were rarest in the span."""
    chosen = [found.signal] if found.signal else found.looks
    drawn = [
        (look, found.cells[look.signal.signal_id])
        for look in chosen
        if look.signal.signal_id in found.cells
    ]
    drawn.sort(key=lambda pair: -_peak(pair[1], found))
    return drawn[:_VALUES_SHOWN]


def _peak(cells: Cells, found: Inspection) -> float:
    """Tell how rare a signal was at most, in the window or else anywhere."""
    window = found.window
    if window is not None:
        cells = cells.between(window.onset_ms, min(over_ms(window), found.span_ms[1]))
    told = cells.channels[np.isfinite(cells.channels)]
    return float(told.max()) if len(told) else -np.inf


def _figure(values: int) -> tuple[Any, "list[Axes]"]:
    from matplotlib import dates  # noqa: PLC0415 - Late.
    from matplotlib.figure import Figure  # noqa: PLC0415 - Late, and without pyplot's globals.

    untyped: Any = dates
    figure = Figure(figsize=(6.0, 1.0 + 1.7 * values + 2.6), layout="constrained")
    axes = list(figure.subplots(values + 1, 1, sharex=True, height_ratios=[1.7] * values + [2.6]))
    locator = untyped.AutoDateLocator(tz=UTC, maxticks=7)
    for plot in axes:
        plot.xaxis.set_major_locator(locator)
        plot.xaxis.set_major_formatter(untyped.ConciseDateFormatter(locator, tz=UTC))
        plot.tick_params(labelsize=10)
        plot.grid(visible=True, color="#dddddd", lw=0.6)
        for side in ("top", "right"):
            plot.spines[side].set_visible(False)
    return figure, axes


def _draw_value(plot: "Axes", look: Look, cells: Cells, windows: "Sequence[Window]") -> None:
    cells = _gaps(cells)
    times, low, name = _date(cells.at_ms), cells.low, title(look.signal)
    if not (cells.value < 0).any() and not (cells.high < 0).any():
        low = np.maximum(low, 0.0)  # Nobody expects what can't be negative below nothing.
    plot.fill_between(times, low, cells.high, color=_VALUE, alpha=0.18, lw=0, label="usual")
    plot.plot(times, cells.expected, color=_VALUE, lw=0.8, ls=":", label="expected")
    plot.plot(times, cells.value, color=_VALUE, lw=1.4)
    left = _left(windows, name)
    for window, shown in left:
        ends = [_date(shown.since_ms), _date(min(over_ms(window), cells.at_ms[-1]))]
        for edge in (shown.low, shown.high):
            plot.plot(ends, [edge, edge], color=_LEFT, lw=1.4, ls="--", label="band it left")
    _zoom(plot, cells, low, [edge for _, shown in left for edge in (shown.low, shown.high)])
    unit = f" [{plain(look.signal.unit)}]" if look.signal.unit else ""
    plot.set_title(_literal(_short(name) + unit), fontsize=10, loc="left")
    plot.locator_params(axis="y", nbins=4)
    plot.yaxis.set_major_formatter(lambda value, _: short(value, 4))


def _left(windows: "Sequence[Window]", name: str) -> list[tuple[Window, Evidence]]:
    """Find the bands that a signal left in windows, one a window."""
    told = [
        (window, next((e for e in window.evidence if plain(e.signal, NAME_MAX) == name), None))
        for window in windows
    ]
    return [(window, shown) for window, shown in told if shown and not shown.member]


def _zoom(plot: "Axes", cells: Cells, low: Floats, edges: list[float]) -> None:
    """Show what the value does, and as much of the band around it as leaves that to be seen."""
    shown = np.concatenate([cells.value[np.isfinite(cells.value)], edges])
    if not len(shown):
        return
    least, most = float(shown.min()), float(shown.max())
    room = _ROOM * (most - least) or max(abs(most), 1.0) * 0.1
    band = np.fmin.reduce(low, initial=least), np.fmax.reduce(cells.high, initial=most)
    bottom, top = max(least - room, float(band[0])), min(most + room, float(band[1]))
    margin = 0.05 * (top - bottom) or room
    plot.set_ylim(bottom - margin, top + margin)


def _draw_rarities(plot: "Axes", found: Inspection) -> None:
    top = _LEAST
    for name, at_ms, rarity in _by_channel(found):
        colour, mark = _CHANNELS[name]
        told = rarity > _FLOOR
        at, height = _date(at_ms[told]), np.minimum(rarity[told], _CEILING)
        size = 10 if name in {"spike", "member", "river"} else 14
        plot.scatter(at, height, s=size, c=colour, marker=mark, label=name)
        top = max(top, float(height.max(initial=_FLOOR)))
    at_ms, rarity, threshold = entity_rarity(found.cells)
    rarity = np.clip(rarity, _FLOOR, _CEILING)
    top = max(top, float(np.nanmax(rarity, initial=_FLOOR))) + 0.3
    plot.plot(_date(at_ms), rarity, color=_ENTITY, lw=1.3, label="entity")
    plot.plot(_date(at_ms), threshold, color=_ENTITY, lw=1.2, ls="--", label="window opens")
    plot.set_ylim(_FLOOR - 0.1, top)
    ticks = [tick for tick in _OFTEN if tick <= top]
    plot.set_yticks(ticks, [_OFTEN[tick] for tick in ticks])
    plot.set_title("How rare (alone, to each channel; and the entity)", fontsize=10, loc="left")


def _by_channel(found: Inspection) -> list[tuple[str, Floats, Floats]]:
    """Give the times and rarities of each channel's looks: of several signals, the rarest."""
    chosen = [look.signal.signal_id for look in ([found.signal] if found.signal else found.looks)]
    cells = [found.cells[signal_id] for signal_id in chosen if signal_id in found.cells]
    drawn = []
    for n, name in enumerate(CHANNELS):
        at_ms = np.concatenate([each.at_ms for each in cells])
        rarity = np.concatenate([each.channels[n] for each in cells])
        at_ms, rarity = at_ms[np.isfinite(rarity)], rarity[np.isfinite(rarity)]
        if len(at_ms):
            order = np.lexsort((rarity, at_ms))
            at_ms, rarity = at_ms[order], rarity[order]
            last = np.append(at_ms[1:] != at_ms[:-1], True)
            drawn.append((name, at_ms[last], rarity[last]))
    return drawn


def _mark(plot: "Axes", found: Inspection) -> None:
    """Shade windows, and mark the time that was asked about."""
    begin_ms, end_ms = found.span_ms
    for window in found.windows:
        first, last = max(window.onset_ms, begin_ms), min(over_ms(window), end_ms)
        if first < last:
            plot.axvspan(_date(first), _date(last), color=_WINDOW, alpha=0.22, lw=0, label="window")
    plot.axvline(
        _date(found.at_ms), color=_CHOSEN, lw=1.2, ls="-.", label=clock_time(found.at_ms)[11:16]
    )


def _legend(figure: Any, plots: "Sequence[Axes]") -> None:  # noqa: ANN401 - matplotlib is imported late.
    unique: dict[str, Any] = {}
    for plot in plots:
        handles, names = plot.get_legend_handles_labels()
        unique |= dict(zip(names, handles, strict=True))
    figure.legend(
        unique.values(),
        unique.keys(),
        loc="outside lower left",
        ncols=3,
        fontsize=10,
        frameon=False,
    )


def _heading(found: Inspection) -> str:
    entity = Entity.from_key(found.entity).title
    return _literal(f"{_short(plain(entity))}, {clock_time(found.at_ms)}")


def _gaps(cells: Cells) -> Cells:
    """Put an empty cell where some are missing, so that no line leads over."""
    late = np.flatnonzero(np.diff(cells.at_ms) > 2_500 * cells.step_s[:-1]) + 1
    if not len(late):
        return cells
    hole = cells.at_ms[late - 1] + cells.step_s[late - 1] * 1000
    filled = (np.insert(column, late, np.nan, axis=-1) for column in cells[1:])
    return Cells(np.insert(cells.at_ms, late, hole), *filled)


def _short(text: str) -> str:
    return text if len(text) <= _TITLE_MAX else f"{text[: _TITLE_MAX - 1]}…"


def _date(time_ms: Any) -> Any:  # noqa: ANN401 - A number, or an array of them.
    """Give a time as matplotlib counts it: days since 1970."""
    return time_ms / 86_400_000


def _literal(text: str) -> str:
    """Keep matplotlib from reading a dollar as the begin of a formula."""
    return text.replace("$", r"\$")
