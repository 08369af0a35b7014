"""A plot of how rare real entities were at rest, and with one fault after the other."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from rest_record import Stretch
from rest_report import Detected, Page, title
from watchkeep.schemas.settings import Detect

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SERIES, _GREY, _FAULT, _PAGE = "#2b5c8a", "#5b6b7b", "#f2b84b", "#c0392b"
_UNKNOWN: Final = "#eef0f2"
_BOTTOM, _TOP = -5.0, 6.5  # What is beyond is drawn at the edge.
_ROW_INCHES: Final = 1.3


def draw(stretches: Sequence[Stretch], found: Detected, settings: Detect, path: Path) -> None:
    """Draw each entity that may page in a row of its own.

    Args:
        stretches: the first is rest, the others are faults.
        found: what was detected.
        settings: those of detection.
        path: a .png or .svg file.
    """
    entities = [e for e, cells in found.rarity.items() if np.isfinite(list(cells.values())).any()]
    figure = _figure(11, 1.2 + _ROW_INCHES * max(len(entities), 1))
    rows = figure.subplots(max(len(entities), 1), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    begin_ms = stretches[0].begin_ms
    for axes, entity in zip(rows, sorted(entities), strict=False):
        cells = found.rarity[entity]
        pages = [page for page in found.pages if page.first.entity == entity]
        _draw_entity(axes, cells, pages, begin_ms)
        opens = settings.opens_at(entity)
        axes.axhline(opens, color=_PAGE, linewidth=1, linestyle="--", zorder=2)
        axes.set_title(title(entity), loc="left", fontsize=9, pad=3)
    for axes in rows:
        for stretch in stretches[1:]:
            span = ((at_ms - begin_ms) / 60_000 for at_ms in (stretch.begin_ms, stretch.end_ms))
            axes.axvspan(*span, color=_FAULT, alpha=0.45, linewidth=0, zorder=1)
    _name_faults(rows[0], stretches)
    begun = datetime.fromtimestamp(begin_ms / 1000, UTC)
    rows[-1].set_xlabel(f"minutes at rest and after, since {begun:%Y-%m-%d %H:%M} UTC")
    figure.supylabel("rarity: -log10 of alerts a week", fontsize=9)
    _explain(figure)
    figure.savefig(path, dpi=110)


def _name_faults(axes: "Axes", stretches: Sequence[Stretch]) -> None:
    """Write their names above them."""
    begin_ms = stretches[0].begin_ms
    for stretch in stretches[1:]:
        middle = (stretch.begin_ms + stretch.end_ms) / 2 - begin_ms
        axes.annotate(
            stretch.name,
            (middle / 60_000, 1),
            xycoords=("data", "axes fraction"),
            xytext=(0, 4),
            textcoords="offset points",
            ha="center",
            fontsize=9,
            color=_GREY,
        )


def _draw_entity(
    axes: "Axes", cells: Mapping[int, float], pages: Sequence[Page], begin_ms: int
) -> None:
    at = np.array(sorted(cells))
    rarity = np.array([cells[each] for each in at.tolist()])
    minute = (at - begin_ms) / 60_000
    known = np.flatnonzero(np.isfinite(rarity))
    axes.axvspan(0, minute[known[0]], color=_UNKNOWN, linewidth=0, zorder=0)
    shown = np.clip(rarity, _BOTTOM, _TOP)
    axes.plot(minute, shown, color=_SERIES, linewidth=1, marker=".", markersize=2.5, zorder=3)
    for page in pages:
        minutes = (page.at_ms - begin_ms) / 60_000
        axes.plot(minutes, _TOP, "v", color=_PAGE, markersize=7, clip_on=False, zorder=4)
    axes.set(xlim=(0, minute[-1]), ylim=(_BOTTOM, _TOP))
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.tick_params(labelsize=8, colors=_GREY)


def _explain(figure: "Figure") -> None:
    from matplotlib.lines import Line2D  # noqa: PLC0415 - Only plots need it.
    from matplotlib.patches import Patch  # noqa: PLC0415 - As above.

    handles = [
        Patch(color=_UNKNOWN, label="too little is known"),
        Patch(color=_FAULT, alpha=0.45, label="a fault"),
        Line2D([], [], color=_PAGE, linewidth=1, linestyle="--", label="a window opens"),
        Line2D([], [], color=_PAGE, marker="v", linestyle="", label="a page"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False, fontsize=9)


def _figure(width: float, height: float) -> "Figure":
    from matplotlib.figure import Figure  # noqa: PLC0415 - Only plots need it.

    return Figure(figsize=(width, height), layout="constrained")
