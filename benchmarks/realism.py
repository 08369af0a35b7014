"""How alike simulated signals are to those of real systems, measure by measure."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

from real_sets import read
from signal_measures import MEASURES, Floats, Measures, increase, measures

__all__ = ["MEASURES", "Measures", "compare", "increase", "measures", "plot", "report"]


class _Panel(NamedTuple):
    """How a measure is drawn.

    Attributes:
        title: what it is.
        unit: of its axis.
        ticks: of its axis, which ends with them; what is beyond is drawn at the edge.
        scale: of its axis.
        normal: what white normal noise has.
    """

    title: str
    unit: str
    ticks: tuple[float, ...]
    scale: str = "linear"
    normal: float | None = None


_SHARES: Final = (0.0, 0.25, 0.5, 0.75, 1.0)
_LAGS: Final = (-0.5, 0.0, 0.5, 1.0)
_NOISES: Final = (0.001, 0.01, 0.1, 1.0, 10.0)
_PANELS: Final = {
    "equal_share": _Panel("Equal to the sample before", "share of the samples", _SHARES),
    "tail_index": _Panel("Tail of the steps", "Hill index", (1, 2, 5, 10, 20), "log", 7.5),
    "tail_ratio": _Panel("Wildest to large steps", "q99.9 / q99", (1, 2, 5, 10), "log", 1.28),
    "autocorrelation_step": _Panel("Next sample", "autocorrelation", _LAGS, normal=0.0),
    "autocorrelation_10min": _Panel("Ten minutes later", "autocorrelation", _LAGS, normal=0.0),
    "season_strength": _Panel("Daily season", "share of the variance", _SHARES),
    "residual_cv": _Panel("Noise around the season", "deviation / mean", _NOISES, "log"),
    "step_cv": _Panel("Noise new in every sample", "deviation / mean", _NOISES, "log"),
    "shifts_per_day": _Panel("Moves of the level", "a day", (0, 1, 2, 3, 4, 5)),
}
_COLOUR, _GREY = "#d1495b", "#5b6b7b"

console = Console(stderr=True, highlight=False, width=200)


def compare(
    real: Mapping[str, Sequence[Measures]], simulated: Sequence[Measures]
) -> tuple[Table, dict[str, Any]]:
    """Put the measures of the simulated signals next to those of real ones.

    Returns:
        a table of medians and 10-90% ranges over the signals that aren't constant; the same for
        JSON, by set, where "simulated" is one: `series`, `constant_share`, and of every measure
        `median`, `q10`, `q90` and `series`, how many have it, or null if none has.
    """
    sets = dict(real) | ({"simulated": simulated} if simulated else {})
    summary = {name: _summary(found) for name, found in sets.items()}
    table = Table(title="Median, and 10-90% of the signals", show_lines=True)
    for heading in ("set", "series", "constant", *MEASURES):
        # Headings break between words, or the table would be as wide as they are.
        table.add_column(heading.replace("_", " "), justify="left" if heading == "set" else "right")
    for name, of in summary.items():
        cells = [
            f"{of[m]['median']:.2g}\n{of[m]['q10']:.2g}..{of[m]['q90']:.2g}" if of[m] else "-"
            for m in MEASURES
        ]
        style = "bold" if name == "simulated" else None
        share = f"{of['constant_share']:.0%}"
        table.add_row(name, str(of["series"]), share, *cells, style=style)
    return table, summary


def _summary(found: Sequence[Measures]) -> dict[str, Any]:
    summary: dict[str, Any] = {
        "series": len(found),
        "constant_share": float(np.mean([of.constant for of in found])),
    }
    for name in MEASURES:
        known = _known(found, name)
        if not len(known):
            summary[name] = None
            continue
        low, median, high = np.quantile(known, [0.1, 0.5, 0.9]).tolist()
        summary[name] = {"median": median, "q10": low, "q90": high, "series": len(known)}
    return summary


def _known(found: Iterable[Measures], name: str) -> Floats:
    every = np.array([getattr(of, name) for of in found if not of.constant], np.float64)
    return every[np.isfinite(every)]


def plot(real: Mapping[str, Sequence[Measures]], simulated: Sequence[Measures], path: Path) -> None:
    """Draw how every measure is distributed in every set, the simulated signals in colour.

    Args:
        real: by set.
        simulated: may be empty.
        path: a file that ends in .svg or .png.
    """
    # An extra. Not pyplot: it would look for a screen.
    import matplotlib as mpl  # noqa: PLC0415 - Only the plot needs it.
    from matplotlib.figure import Figure  # noqa: PLC0415 - As above.
    from matplotlib.lines import Line2D  # noqa: PLC0415 - As above.

    sets = dict(real) | ({"simulated": simulated} if simulated else {})
    figure = Figure(figsize=(11.0, 1.4 + 3 * (0.75 + 0.24 * len(sets))), layout="constrained")
    panels = figure.subplots(3, 3, sharey=True)
    for axes, (name, panel) in zip(panels.flat, _PANELS.items(), strict=True):
        low, high = panel.ticks[0], panel.ticks[-1]
        for row, (title, found) in enumerate(sets.items()):
            known = np.clip(_known(found, name), low, high)
            if not len(known):
                axes.text(low, row, "  no figure", color=_GREY, fontsize=8, va="center")
                continue
            colour = _COLOUR if title == "simulated" else _GREY
            q10, q25, median, q75, q90 = np.quantile(known, [0.1, 0.25, 0.5, 0.75, 0.9])
            # Not cut off at the edge, where many signals are.
            style: dict[str, Any] = {"color": colour, "clip_on": False, "zorder": 3}
            axes.plot([q10, q90], [row, row], **style, linewidth=1.5)
            axes.plot([q25, q75], [row, row], **style, linewidth=6, solid_capstyle="butt")
            axes.plot(median, row, "o", **style | {"color": "white"}, markeredgecolor=colour)
        if panel.normal is not None:
            axes.axvline(panel.normal, color="black", linewidth=0.8, linestyle=":", zorder=0)
        axes.set_xscale(panel.scale)
        axes.set_xlim(low, high)
        axes.set_xticks(panel.ticks, [f"{tick:g}" for tick in panel.ticks])
        axes.minorticks_off()
        axes.set_title(panel.title, fontsize=10)
        axes.set_xlabel(panel.unit, fontsize=8)
        axes.tick_params(labelsize=8)
        axes.grid(axis="x", color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    names = [_name(title, found) for title, found in sets.items()]
    for axes in panels[:, 0]:
        axes.set_yticks(range(len(sets)), names)
        # Read from above, like the table; every panel shares this axis.
        axes.set_ylim(len(sets) - 0.4, -0.6)
        if simulated:
            axes.get_yticklabels()[-1].set(color=_COLOUR, weight="bold")
    keys = [
        Line2D([], [], color=_GREY, linewidth=1.5, label="10-90% of the signals"),
        Line2D([], [], color=_GREY, linewidth=6, label="25-75%"),
        Line2D([], [], color="white", marker="o", markeredgecolor=_GREY, label="median"),
        Line2D([], [], color="black", linewidth=0.8, linestyle=":", label="white normal noise"),
    ]
    if simulated:
        keys.append(Line2D([], [], color=_COLOUR, linewidth=6, label="simulated"))
    figure.legend(handles=keys, loc="outside lower center", ncols=len(keys), frameon=False)
    figure.suptitle("Signals of real systems" + " and of the simulated shop" * bool(simulated))
    # The same picture is the same file: no date, and no random names in it.
    with mpl.rc_context({"svg.hashsalt": "watchkeep"}):
        figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None)


def _name(title: str, found: Sequence[Measures]) -> str:
    constant = np.mean([of.constant for of in found])
    return f"{title}: {len(found)}" + (f" ({constant:.0%} constant)" if constant else "")


def report(
    data: Path, simulated: Iterable[tuple[str, float, Floats]], path: Path | None
) -> dict[str, Any]:
    """Measure simulated signals and the real sets in a folder, show both, and draw.

    Args:
        data: the folder of the real sets; see `real_sets.py`.
        simulated: name, step in seconds, value float64[n].
        path: the .svg or .png to draw, if any.

    Returns:
        What `compare` says, for JSON.
    """
    real: dict[str, list[Measures]] = defaultdict(list)
    for signal in read(data):
        real[signal.group].append(measures(signal.value, signal.step_s))
    judged = [measures(value, step_s) for _, step_s, value in simulated]
    table, summary = compare(real, judged)
    console.print(table)
    if path:
        whole: dict[str, list[Measures]] = defaultdict(list)
        for group, found in real.items():
            whole[group.split("/")[0]] += found
        plot(whole, judged, path)
    return summary
