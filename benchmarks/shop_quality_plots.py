"""Plots of how detection did on shops: false alerts by seed, faults by kind, each seed's days."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from shop_figures import Judged
from watchkeep.schemas.alert import Alert
from watchkeep.schemas.entity import Entity
from watchkeep.shop.times import DAY_MS, HOUR_MS
from watchkeep.streams.demo_report import Finding

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SERIES, _GREY, _FAULT, _FALSE, _TRUE = "#2b5c8a", "#5b6b7b", "#f2b84b", "#c0392b", "#2e8b57"
_NO_FAULT: Final = "#b9c4cf"
_ROW_INCHES: Final = 0.24
_NONE_A_WEEK: Final = 0.03  # Where no false alert is drawn: the axis has no zero.


def draw(runs: Sequence[Judged], budget: float, folder: Path) -> None:
    """Draw all plots.

    Args:
        runs: at least one.
        budget: what was asked for, in false alerts an entity and week.
        folder: is there; gets `false-alerts.png`, `faults.png` and a `seed-N.png` of each.
    """
    _draw_false(runs, budget, folder / "false-alerts.png")
    _draw_faults(runs, folder / "faults.png")
    for run in runs:
        _draw_timeline(run, folder / f"seed-{run.seed}.png")


def _draw_false(runs: Sequence[Judged], budget: float, path: Path) -> None:
    figure = _figure(7, 4)
    axes = figure.subplots()
    seeds = [str(run.seed) for run in runs]
    got = np.array([run.false_a_week for run in runs])
    axes.axhspan(budget / 3, budget * 3, color="#e9edf1", linewidth=0, label="factor 3")
    axes.axhline(budget, color=_GREY, linewidth=1, linestyle="--", label=f"asked: {budget:g}")
    axes.plot(seeds, np.maximum(got, _NONE_A_WEEK), "o", color=_SERIES, label="each seed")
    mean = float(np.average(got, weights=[run.length_ms for run in runs]))
    axes.axhline(
        max(mean, _NONE_A_WEEK), color=_FALSE, linewidth=1.4, label=f"all seeds: {mean:.2g}"
    )
    top = 3 * max(float(got.max()), 3 * budget)
    axes.set(yscale="log", ylim=(_NONE_A_WEEK / 1.3, top))
    ticks = [tick for tick in (0.1, 0.3, 1, 3, 10, 30, 100, 300) if tick < top]
    axes.set_yticks([_NONE_A_WEEK, *ticks], ["none", *(f"{tick:g}" for tick in ticks)])
    axes.minorticks_off()
    axes.set_title("False alerts a service and week", loc="left", fontsize=11)
    axes.set_xlabel("seed")
    figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    figure.savefig(path, dpi=130)


def _draw_faults(runs: Sequence[Judged], path: Path) -> None:
    findings = [finding for run in runs for finding in run.faults]
    kinds = sorted({of.truth.kind for of in findings}, key=lambda k: (_share(findings, k), k))
    figure = _figure(9, 1.6 + _ROW_INCHES * max(len(kinds), 4))
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[1, 1.3])
    rows = np.arange(len(kinds))
    found = np.array([_found(findings, kind) for kind in kinds])
    total = np.array([sum(of.truth.kind == kind for of in findings) for kind in kinds])
    left.barh(rows, found, color=_TRUE, height=0.7, label="found")
    left.barh(rows, total - found, left=found, color=_FALSE, height=0.7, label="missed")
    left.set_yticks(rows, kinds)
    left.set_xlabel("faults")
    left.set_xlim(0, 1.05 * max([1, *total]))
    _plain(left)
    left.xaxis.get_major_locator().set_params(integer=True)
    for row, kind in enumerate(kinds):
        minutes = [
            of.delay_s / 60 for of in findings if of.truth.kind == kind and of.delay_s is not None
        ]
        right.plot(minutes, [row] * len(minutes), "o", color=_SERIES, alpha=0.45, markersize=5)
        if minutes:
            right.plot(np.median(minutes), row, "|", color=_FALSE, markersize=13, markeredgewidth=2)
    delays_s = [of.delay_s for of in findings if of.delay_s is not None]
    right.set_xlim(0, 1.05 * max([60, *delays_s]) / 60)
    right.set_xlabel("minutes until the first alert; line: median")
    _plain(right)
    figure.suptitle(f"Found {found.sum()} of {total.sum()} faults", x=0.01, ha="left", fontsize=11)
    figure.legend(
        *left.get_legend_handles_labels(),
        loc="outside upper right",
        ncols=2,
        frameon=False,
        fontsize=9,
    )
    figure.savefig(path, dpi=130)


def _found(findings: Sequence[Finding], kind: str) -> int:
    return sum(of.truth.kind == kind and of.alert is not None for of in findings)


def _share(findings: Sequence[Finding], kind: str) -> float:
    return _found(findings, kind) / sum(of.truth.kind == kind for of in findings)


def _draw_timeline(run: Judged, path: Path) -> None:
    """Draw who was struck when, and who paged; one line an entity."""
    named = {finding.truth.root for finding in run.findings} | {a.entity for a in run.paged}
    entities = sorted(named, reverse=True)
    row = {entity: i for i, entity in enumerate(entities)}
    figure = _figure(14, 1.9 + _ROW_INCHES * max(len(entities), 4))
    axes = figure.subplots()
    for finding in run.findings:
        _bar(axes, run, finding, row[finding.truth.root])
    false = {(alert.alert_id, alert.detected_ms) for alert in run.false}
    for colour, alerts in (
        (_TRUE, [a for a in run.paged if (a.alert_id, a.detected_ms) not in false]),
        (_FALSE, run.false),
    ):
        _marks(axes, run, alerts, row, colour)
    axes.set_yticks(range(len(entities)), [Entity.from_key(e).title for e in entities], fontsize=8)
    axes.set_ylim(-0.7, len(entities) - 0.3)
    axes.set_xlim(0, run.length_ms / HOUR_MS)
    axes.set_xticks(np.arange(0, run.length_ms / HOUR_MS, _tick_h(run)))
    axes.set_xlabel("hours since warm-up ended")
    axes.grid(axis="y", color="#eef0f2", linewidth=0.8)
    axes.set_axisbelow(True)
    _plain(axes)
    faults = run.faults
    found = sum(finding.alert is not None for finding in faults)
    axes.set_title(
        f"Seed {run.seed}: found {found} of {len(faults)} faults, {len(run.false)} false alerts in "
        f"{run.length_ms / DAY_MS:.1f} days",
        loc="left",
        fontsize=11,
    )
    _explain(figure)
    figure.savefig(path, dpi=110)


def _tick_h(run: Judged) -> float:
    """Choose how many hours lie between two ticks, so that there are at most two dozen."""
    steps_h = (0.5, 1, 2, 3, 6, 12, 24)
    return next((step for step in steps_h if run.length_ms <= 24 * step * HOUR_MS), 48)


def _bar(axes: "Axes", run: Judged, finding: Finding, row: int) -> None:
    truth = finding.truth
    begin_h = (truth.onset_ms - run.span_ms[0]) / HOUR_MS
    length_h = (truth.end_ms - truth.onset_ms) / HOUR_MS
    missed = truth.fault and finding.alert is None
    axes.barh(
        row,
        length_h,
        left=begin_h,
        height=0.72,
        facecolor=_FAULT if truth.fault else _NO_FAULT,
        edgecolor=_FALSE if missed else "none",
        linewidth=1.4,
        zorder=2,
    )
    style: dict[str, Any] = {"fontsize": 6.5, "color": _GREY, "va": "center", "zorder": 5}
    axes.annotate(
        truth.kind, (begin_h + length_h, row), xytext=(3, 0), textcoords="offset points", **style
    )


def _marks(
    axes: "Axes", run: Judged, alerts: Sequence[Alert], row: dict[str, int], colour: str
) -> None:
    hours = [(alert.detected_ms - run.span_ms[0]) / HOUR_MS for alert in alerts]
    rows = [row[alert.entity] for alert in alerts]
    axes.plot(hours, rows, color=colour, **_MARK)


_MARK: Final[dict[str, Any]] = {
    "marker": "v",
    "linestyle": "",
    "markersize": 6,
    "markeredgecolor": "white",
    "markeredgewidth": 0.5,
    "zorder": 4,
}


def _explain(figure: "Figure") -> None:
    """Place what colours and marks mean below the plot."""
    from matplotlib.lines import Line2D  # noqa: PLC0415 - Only plots need it.
    from matplotlib.patches import Patch  # noqa: PLC0415 - As above.

    handles = [
        Patch(facecolor=_FAULT, label="fault, found"),
        Patch(facecolor=_FAULT, edgecolor=_FALSE, linewidth=1.4, label="fault, missed"),
        Patch(color=_NO_FAULT, label="no fault"),
        Line2D([], [], color=_TRUE, label="alert that tells of a fault", **_MARK),
        Line2D([], [], color=_FALSE, label="false alert", **_MARK),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=5, frameon=False, fontsize=9)


def _plain(axes: "Axes") -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(axis="y", length=0)


def _figure(width: float, height: float) -> "Figure":
    # An extra. Not pyplot: it would look for a screen.
    from matplotlib.figure import Figure  # noqa: PLC0415 - Only plots need it.

    return Figure(figsize=(width, height), layout="constrained")
