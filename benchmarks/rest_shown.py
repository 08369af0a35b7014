"""What paged at rest and with each fault, and what came near, written for people."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from rich.console import Console
from rich.markup import escape

import rest_report
from rest_record import Stretch
from rest_report import Detected, Near, Page, title
from watchkeep.schemas.text import clock_time, how_often
from watchkeep.streams.show_signals import title as signal_title

_NEAR: Final = 3


def show(console: Console, stretches: Sequence[Stretch], found: Detected) -> None:
    """Print each stretch with its pages, and with the signals that were nearest to one."""
    judged_ms = found.judged_ms()
    begin = clock_time(judged_ms) if judged_ms else "never"
    console.print(f"the first entity was known well enough to page: {begin}")
    ends = [*(stretch.begin_ms for stretch in stretches[1:]), stretches[-1].end_ms + 3_600_000]
    shares = rest_report.shared_out(stretches, found.pages)
    for stretch, share, until_ms in zip(stretches, shares, ends, strict=True):
        minutes = (stretch.end_ms - stretch.begin_ms) / 60_000
        facts = f": {stretch.facts}" if stretch.facts else ""
        console.print(
            f"\n[bold]{stretch.name}[/] from {clock_time(stretch.begin_ms)}, {minutes:.1f} min"
            f"{escape(facts)}"
        )
        for page in share:
            _show_page(console, page, stretch)
        if not share:
            console.print("  nothing paged")
        for page in rest_report.gone_on(stretch, until_ms, found.pages):
            console.print(f"  {title(page.first.entity)}: new evidence in a window open before")
        _show_near(console, found, stretch.begin_ms, until_ms)


def _show_page(console: Console, page: Page, stretch: Stretch) -> None:
    window = page.first
    console.print(
        f"  [bold]{escape(title(window.entity))}[/] paged after "
        f"{(page.at_ms - stretch.begin_ms) / 1000:.0f} s, {clock_time(page.at_ms)}: "
        f"{how_often(window.strength)} ({window.strength:+.2f}), "
        f"at its strongest {page.last.strength:+.2f}"
    )
    for line in rest_report.lines(page):
        console.print(f"    {escape(line)}")


def _show_near(console: Console, found: Detected, begin_ms: int, until_ms: int) -> None:
    near = rest_report.nearest(found, begin_ms, until_ms)
    for entity, cells in sorted(found.rarity.items()):
        rarity = rest_report.rarest(cells, begin_ms, until_ms)
        if np.isnan(rarity):
            continue
        told = "; ".join(_told(one) for one in near.get(entity, [])[:_NEAR])
        console.print(f"  [dim]{escape(title(entity))} at most {rarity:+.2f}: {escape(told)}[/]")


def _told(near: Near) -> str:
    name = signal_title(near.signal)
    return (
        f"{name} {near.value:.4g} where {near.expected:.4g} was expected ({near.channel} "
        f"{near.rarity:+.1f})"
    )
