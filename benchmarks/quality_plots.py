"""Plots of what a detector saw in labelled recordings."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from rich.console import Console
from rich.progress import track

import events
from corpora import Floats, Longs, Recorded
from event_figures import Tallies

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BINS: Final = 1_600  # Across a plot; each draws its extremes, so that no spike is lost.
_LINES_MAX: Final = 4  # More signals than these are drawn as a map of colours.
_RARITY: Final = (-2.5, 6.0)  # What is beyond is drawn at the edge.
_SERIES, _GREY, _FAULT, _FALSE, _TRUE = "#2b5c8a", "#5b6b7b", "#f2b84b", "#c0392b", "#2e8b57"
_UNSCORED: Final = "#eef0f2"
_ALERT: Final[dict[str, Any]] = {
    "marker": "v",
    "linestyle": "",
    "markersize": 6,
    "markeredgecolor": "white",
    "markeredgewidth": 0.4,
}
_CONTROLS: Final = {"random": "#8e6bbf", "always on": "#8a8a8a"}


console = Console(stderr=True, highlight=False)


def draw_records(
    records: Sequence[Recorded],
    rarities: Sequence[Floats],
    levels: Mapping[str, float],
    main: str,
    folder: Path,
) -> None:
    """Draw each record: its signals above, how rare they were below.

    Args:
        records: what was recorded.
        rarities: float64[T] of each.
        levels: thresholds by name.
        main: the threshold whose alerts are marked.
        folder: is there; gets a .png of each record.
    """
    pairs = list(zip(records, rarities, strict=True))
    for record, rarity in track(pairs, "drawing", console=console, transient=True):
        name = record.name.removesuffix(".csv").replace("/", "--")
        _draw_record(record, rarity, levels, main, folder / f"{name}.png")


def _draw_record(
    record: Recorded, rarity: Floats, levels: Mapping[str, float], main: str, path: Path
) -> None:
    figure = _figure(14, 6.5)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[6, 5])
    day = record.time_ms / 86_400_000
    _draw_signals(above, record, day)
    _draw_rarity(below, day, rarity, levels, main)
    _mark_alerts(below, record, rarity, levels[main], day)
    begin = day[min(record.split, len(day) - 1)]
    for axes in (above, below):
        axes.axvline(begin, color=_GREY, linewidth=0.9, linestyle="--", zorder=3)
        axes.axvspan(day[0], begin, color=_UNSCORED, zorder=0, linewidth=0)
    _shade(above, day, record.segments, 0.45 if _is_drawn_as_lines(record) else 0.25)
    _shade(below, day, record.segments, 0.45)
    _date_axis(below, day)
    total = events.tally(record, rarity, levels[main])
    above.set_title(
        f"{record.name}   {main}: touched {total.found:.0f} of {total.segments:.0f} segments, "
        f"{total.alerts - total.true_alerts:.0f} false alerts in {total.weeks:.1f} weeks",
        fontsize=11,
        loc="left",
    )
    _explain(figure, main)
    figure.savefig(path, dpi=110)


def _is_drawn_as_lines(record: Recorded) -> bool:
    return len(record.value.T) <= _LINES_MAX


def _mark_alerts(
    axes: "Axes", record: Recorded, rarity: Floats, threshold: float, day: Floats
) -> None:
    fired = events.alerts(rarity[record.split :] >= threshold)
    true = events.overlapping(fired, record.scored_segments)
    for chosen, colour in ((true, _TRUE), (~true, _FALSE)):
        if chosen.any():
            at = day[record.split + fired[chosen, 0]]
            top = np.full(len(at), axes.get_ylim()[1])
            axes.plot(at, top, color=colour, clip_on=False, zorder=4, **_ALERT)


def _explain(figure: "Figure", main: str) -> None:
    """Place what colours and marks mean below the plots."""
    from matplotlib.lines import Line2D  # noqa: PLC0415 - Only plots need it.
    from matplotlib.patches import Patch  # noqa: PLC0415 - As above.

    handles = [
        Patch(color=_FAULT, label="labelled"),
        Patch(color=_UNSCORED, label="not scored"),
        Line2D([], [], color=_FALSE, linewidth=1.2, label=f"threshold: {main}"),
        Line2D([], [], color=_TRUE, label="true alert", **_ALERT),
        Line2D([], [], color=_FALSE, label="false alert", **_ALERT),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=5, frameon=False, fontsize=9)


def _draw_signals(axes: "Axes", record: Recorded, day: Floats) -> None:
    signals = record.value.shape[1]
    if _is_drawn_as_lines(record):
        for signal in record.value.T:
            axes.plot(*_envelope(day, signal), color=_SERIES, linewidth=0.7, zorder=2)
        axes.margins(x=0, y=0.08)
        axes.set_ylabel("value")
        return
    # Each metric on its own scale, the largest of each bin.
    edges = np.linspace(0, len(day), min(_BINS, len(day)) + 1).astype(int)[:-1]
    low, high = np.nanmin(record.value, axis=0), np.nanmax(record.value, axis=0)
    scaled = (record.value - low) / np.where(high > low, high - low, 1.0)
    shown = np.maximum.reduceat(scaled, edges, axis=0).T
    axes.imshow(
        shown,
        aspect="auto",
        extent=(day[0], day[-1], signals + 0.5, 0.5),
        cmap="Blues",
        interpolation="nearest",
        zorder=1,
        vmin=0,
        vmax=1,
    )
    axes.set_ylabel("metric, each on its own scale")


def _draw_rarity(
    axes: "Axes", day: Floats, rarity: Floats, levels: Mapping[str, float], main: str
) -> None:
    finite = rarity[np.isfinite(rarity)]
    bottom = _RARITY[0]
    top = min(_RARITY[1], finite.max() + 0.5 if len(finite) else 0.0)
    top = max(top, 2.0, *(level + 0.5 for level in levels.values()))
    shown = np.clip(rarity, bottom, top)
    axes.plot(*_envelope(day, shown), color=_SERIES, linewidth=0.6, zorder=2)
    for name, level in levels.items():
        style: dict[str, Any] = {"color": _FALSE, "linewidth": 1.2, "label": name}
        if name != main:
            style |= {"color": _GREY, "linewidth": 0.8, "linestyle": ":", "label": None}
        axes.axhline(level, **style, zorder=3)
        axes.annotate(
            name,
            (1, level),
            xycoords=("axes fraction", "data"),
            xytext=(5, 0),
            textcoords="offset points",
            fontsize=7.5,
            va="center",
            color=style["color"],
        )
    axes.set_ylim(bottom, top)
    axes.set_ylabel("rarity: -log10 of alerts a week")


def _envelope(day: Floats, value: Floats) -> tuple[Floats, Floats]:
    """Thin a series to its extremes: float64[T] twice -> float64[n] twice."""
    if len(day) <= 2 * _BINS:
        return day, value
    edges = np.linspace(0, len(day), _BINS + 1).astype(int)[:-1]
    # fmin and fmax pass over NaN.
    low, high = np.fmin.reduceat(value, edges), np.fmax.reduceat(value, edges)
    return np.repeat(day[edges], 2), np.stack([low, high], axis=1).ravel()


def _shade(axes: "Axes", day: Floats, segments: Longs, alpha: float) -> None:
    """Mark segments; an edge keeps the shortest of them in sight."""
    end = np.minimum(segments[:, 1], len(day) - 1)
    spans = list(zip(day[segments[:, 0]], day[end] - day[segments[:, 0]], strict=True))
    axes.broken_barh(
        spans,
        (0, 1),
        transform=axes.get_xaxis_transform(),
        facecolor=_FAULT,
        edgecolor=_FAULT,
        linewidth=0.8,
        alpha=alpha,
        zorder=1.5,
    )


def draw_budgets(tallies: Tallies, path: Path) -> None:
    """Draw the false alerts that were got against those asked, of the corpus and each record."""
    figure = _figure(6.5, 6)
    axes = figure.subplots()
    asked = np.array(sorted(tallies))
    low, high = 0.03, 400.0
    line = np.array([asked[0] / 3, asked[-1] * 3])
    axes.fill_between(line, line / 3, line * 3, color="#e9edf1", linewidth=0, label="factor 3")
    axes.plot(line, line, color=_GREY, linewidth=0.9, linestyle=":", label="as asked")
    got = np.array([[events.false_a_week(of) for of in tallies[budget]] for budget in asked])
    # Side by side, so that records don't hide each other.
    aside = np.geomspace(0.8, 1.25, got.shape[1]) if got.shape[1] > 1 else np.ones(1)
    axes.plot(
        (asked[:, None] * aside).ravel(),
        np.clip(got, low, high).ravel(),
        "o",
        color=_SERIES,
        alpha=0.35,
        markersize=4,
        markeredgewidth=0,
        clip_on=False,
        label="each record",
    )
    whole = [events.false_a_week(events.total(tallies[budget])) for budget in asked]
    axes.plot(asked, np.clip(whole, low, high), "o-", color=_FALSE, label="corpus", zorder=4)
    axes.set(xscale="log", yscale="log", xlim=(line[0], line[-1]), ylim=(low, high))
    axes.set_xticks(asked, [f"{budget:g}" for budget in asked])
    ticks = [low, 0.1, 0.3, 1, 3, 10, 30, 100]
    axes.set_yticks(ticks, ["none", *(f"{tick:g}" for tick in ticks[1:])])
    axes.minorticks_off()
    axes.set_title("False alerts a week")
    axes.set_xlabel("asked")
    axes.set_ylabel("got")
    axes.legend(frameon=False, fontsize=9, loc="upper left")
    figure.savefig(path, dpi=130)


def draw_curves(
    curves: Mapping[str, Floats], marks: Mapping[str, tuple[float, float]], path: Path
) -> None:
    """Draw precision against recall over all thresholds.

    Args:
        curves: by run, float64[n, 2]: recall, precision; one point is drawn as a cross.
        marks: recall and precision of the first run at each budget.
        path: a .png file.
    """
    figure = _figure(6.5, 6)
    axes = figure.subplots()
    _draw_f1(axes)
    for name, points in curves.items():
        colour = _CONTROLS.get(name, _SERIES)
        style = {"marker": "X", "markersize": 9} if len(points) == 1 else {"linewidth": 2}
        axes.plot(*points.T, color=colour, label=name, clip_on=False, zorder=3, **style)
    # In the legend, for several budgets may get nearly the same.
    for marker, (budget, point) in zip("osD^", marks.items(), strict=True):
        axes.plot(
            *point,
            marker,
            color=_SERIES,
            markeredgecolor="white",
            markersize=8,
            clip_on=False,
            zorder=5,
            label=f"{budget} a week",
        )
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="recall of segments", ylabel="precision of alerts")
    axes.legend(frameon=False, fontsize=9, loc="upper right")
    figure.savefig(path, dpi=130)


def _draw_f1(axes: "Axes") -> None:
    """Draw where the F1 is the same."""
    for f1 in np.arange(1, 10) / 10:
        recall = np.geomspace(f1 / (2 - f1), 1, 200)
        precision = f1 * recall / (2 * recall - f1)
        axes.plot(recall, precision, color="#d5dbe1", linewidth=0.7, zorder=1)
        axes.annotate(
            f"F1 {f1:.1f}",
            (1, precision[-1]),
            xytext=(3, 0),
            textcoords="offset points",
            fontsize=7,
            va="center",
            color=_GREY,
        )


def _figure(width: float, height: float) -> "Figure":
    # An extra. Not pyplot: it would look for a screen.
    from matplotlib.figure import Figure  # noqa: PLC0415 - Only plots need it.

    return Figure(figsize=(width, height), layout="constrained")


def _date_axis(axes: "Axes", day: Floats) -> None:
    from matplotlib import dates  # noqa: PLC0415 - As above.

    untyped: Any = dates
    locator = untyped.AutoDateLocator()
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(untyped.ConciseDateFormatter(locator))
    axes.set_xlim(day.min(), day.max())
