"""The demo's report: one HTML file with everything in it, plots too."""

import io
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import numpy as np

from watchkeep.schemas.alert import Alert
from watchkeep.schemas.entity import Entity
from watchkeep.schemas.errors import ConfigError
from watchkeep.schemas.text import clock_time, duration, plain
from watchkeep.streams.demo_report import Finding, Result
from watchkeep.streams.store.curves import Curve, Floats

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_FAULT: Final = "#b3261e"
_CALM: Final = "#6b7c8c"
_LINE: Final = "#1f5f99"
_SHOWN: Final = 3

Time = TypeVar("Time", float, Floats)


@dataclass(frozen=True, slots=True)
class Story:
    """All that the report tells.

    Attributes:
        findings: in the order of time; `curves`: of each, the signals of its root around it.
        wrong: alerts that tell of nothing that was put in.
        span_ms: the whole time.
    """

    seed: int
    span_ms: tuple[int, int]
    result: Result
    findings: Sequence[Finding]
    curves: Sequence[Sequence[Curve]]
    wrong: Sequence[Alert]


def check(path: Path) -> None:
    """Make sure, before the demo runs, that its report can be drawn and written.

    Raises:
        ConfigError: it can't.
    """
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise ConfigError(f"--out: {path} can't be written: name a file in a folder of yours")
    try:
        import jinja2  # noqa: F401, PLC0415 - Only the report needs them.
        import matplotlib  # noqa: F401, ICN001, PLC0415 - As above.
    except ImportError as error:
        raise ConfigError(
            f"--out: {error.name} is missing; pip install 'watchkeep[plots]'"
        ) from error


def write(path: Path, story: Story) -> None:
    """Write the report.

    Raises:
        ConfigError: the file can't be written.
    """
    import jinja2  # noqa: PLC0415 - Only the report needs it.

    text = files("watchkeep.streams").joinpath("pages/demo.html.j2").read_text(encoding="utf-8")
    template = jinja2.Environment(autoescape=True).from_string(text)
    begin_ms, end_ms = story.span_ms
    page = template.render(
        seed=story.seed,
        span=duration((end_ms - begin_ms) / 1000),
        result=story.result,
        tiles=_tiles(story.result),
        timeline=_safe(_timeline(story)),
        rows=[_row(f, curves) for f, curves in zip(story.findings, story.curves, strict=True)],
        wrong=[
            {"when": clock_time(a.detected_ms), "summary": plain(a.explanation.summary, 400)}
            for a in story.wrong
        ],
    )
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--out: {path} can't be written: {error.strerror}") from error


def _tiles(result: Result) -> list[tuple[str, str]]:
    delay = result.median_delay_s
    return [
        (f"{result.found} of {result.faults}", "faults found"),
        (f"{result.non_faults_paged} of {result.non_faults}", "non-faults paged"),
        (str(result.false_alerts), "false alerts"),
        (f"{result.false_alerts_per_service_week:.2f}", "false alerts a service and week"),
        ("none" if delay is None else duration(delay), "median delay"),
        (f"{result.pss_mb} MB", "memory of everything"),
    ]


def _row(finding: Finding, curves: Sequence[Curve]) -> dict[str, Any]:
    truth, alert = finding.truth, finding.alert
    return {
        "title": truth.title,
        "fault": truth.fault,
        "where": Entity.from_key(truth.root).title,
        "began": clock_time(truth.onset_ms)[5:16],
        "lasted": duration((truth.end_ms - truth.onset_ms) / 1000),
        "good": truth.fault == (alert is not None),
        "after": "" if finding.delay_s is None else duration(finding.delay_s),
        "alert": alert
        and {"title": plain(alert.title), "summary": plain(alert.explanation.summary, 400)},
        "plot": _safe(_plot(finding, curves)),
    }


def _safe(svg: str) -> Any:  # noqa: ANN401 - jinja2 is imported late.
    from markupsafe import Markup  # noqa: PLC0415 - As above.

    return Markup(svg)  # noqa: S704 - matplotlib wrote it, and escapes texts.


def _timeline(story: Story) -> str:
    figure, axes = _figure(1, 1.2 + 0.22 * len(story.findings))
    (plot,) = axes
    for i, finding in enumerate(story.findings):
        truth = finding.truth
        begin, end = _date(truth.onset_ms), _date(truth.end_ms)
        plot.barh(i, end - begin, left=begin, color=_FAULT if truth.fault else _CALM, height=0.6)
        if finding.alert is not None:
            plot.plot(_date(finding.alert.detected_ms), i, "k|", markersize=11, markeredgewidth=2)
    for alert in story.wrong:
        plot.plot(_date(alert.detected_ms), len(story.findings), "x", color="#a15c00")
    where = [
        _literal(plain(f"{f.truth.kind} · {Entity.from_key(f.truth.root).title}"))
        for f in story.findings
    ]
    plot.set_yticks(range(len(where) + 1), [*where, "false alerts"], fontsize=8)
    plot.invert_yaxis()
    plot.set_xlim(_date(story.span_ms[0]), _date(story.span_ms[1]))
    plot.grid(axis="x", alpha=0.25)
    return _svg(figure)


def _plot(finding: Finding, curves: Sequence[Curve]) -> str:
    truth, alert = finding.truth, finding.alert
    chosen = telling(curves, truth.onset_ms, truth.end_ms)
    if not chosen:
        return ""
    figure, axes = _figure(len(chosen), 1.55 * len(chosen) + 0.3)
    for plot, curve in zip(axes, chosen, strict=True):
        times = _date(curve.at_ms)
        plot.fill_between(times, curve.low, curve.high, color=_LINE, alpha=0.15, lw=0)
        plot.plot(times, curve.value, color=_LINE, lw=1.1)
        colour = _FAULT if truth.fault else _CALM
        plot.axvspan(_date(truth.onset_ms), _date(truth.end_ms), color=colour, alpha=0.12, lw=0)
        if alert is not None:
            plot.axvline(_date(alert.detected_ms), color="k", ls="--", lw=1)
        labels = ", ".join(f"{n}={v}" for n, v in sorted(curve.labels.items()))
        name = curve.metric + (f"{{{labels}}}" if labels else "")
        unit = f"  [{curve.unit}]" if curve.unit else ""
        plot.set_title(_literal(plain(name + unit)), fontsize=8, loc="left")
    return _svg(figure)


def telling(curves: Sequence[Curve], begin_ms: int, end_ms: int) -> list[Curve]:
    """Choose the signals that moved most in a stretch of time, of each metric one."""
    strength: dict[str, tuple[float, Curve]] = {}
    for curve in curves:
        during = (curve.at_ms >= begin_ms) & (curve.at_ms < end_ms)
        told = curve.alone[during & np.isfinite(curve.alone)]
        peak = float(told.max()) if len(told) else -np.inf
        if curve.metric not in strength or peak > strength[curve.metric][0]:
            strength[curve.metric] = (peak, curve)
    ranked = sorted(strength.values(), key=lambda pair: (-pair[0], pair[1].metric))
    return [curve for _, curve in ranked[:_SHOWN]]


def _figure(count: int, inches: float) -> tuple[Any, "list[Axes]"]:
    from matplotlib import dates  # noqa: PLC0415 - Late.
    from matplotlib.figure import Figure  # noqa: PLC0415 - Late, and without pyplot's globals.

    untyped: Any = dates

    figure = Figure(figsize=(10.5, inches), layout="constrained")
    axes = list(np.atleast_1d(figure.subplots(count, 1, sharex=True)))
    locator = untyped.AutoDateLocator(tz=UTC)
    for plot in axes:
        plot.xaxis.set_major_locator(locator)
        plot.xaxis.set_major_formatter(untyped.ConciseDateFormatter(locator, tz=UTC))
        plot.tick_params(labelsize=8)
        for side in ("top", "right"):
            plot.spines[side].set_visible(False)
    return figure, axes


def _date(time_ms: Time) -> Time:
    """Give a time as matplotlib counts it: days since 1970."""
    return time_ms / 86_400_000


def _literal(text: str) -> str:
    """Keep matplotlib from reading a dollar as the begin of a formula."""
    return text.replace("$", r"\$")


def _svg(figure: Any) -> str:  # noqa: ANN401 - matplotlib is imported late.
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return re.sub(r"^.*?(?=<svg)", "", buffer.getvalue(), flags=re.DOTALL)
