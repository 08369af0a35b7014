"""What detect makes of a recording, and which of its windows tell of which fault.

Every shard is given its own records in order, as in a running system. A window pages when the
frame comes that closes its first cell, so that is when it counts.
"""

import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np

from rest_record import Recording, Stretch
from watchkeep.enrichers.template import finding
from watchkeep.schemas.entity import Entity
from watchkeep.schemas.frame import decode
from watchkeep.schemas.settings import Detect
from watchkeep.schemas.signal import Role
from watchkeep.schemas.window import Window
from watchkeep.streams.pipeline import Shard
from watchkeep.streams.stores import Rollups, SignalRow

_LINES: Final = 3


class Page(NamedTuple):
    """A window that people are paged about.

    Attributes:
        at_ms: when.
        first, last: its first revision, and its last.
    """

    at_ms: int
    first: Window
    last: Window


class Near(NamedTuple):
    """How rare a signal that may page was at its rarest in some time."""

    rarity: float
    at_ms: int
    signal: SignalRow
    channel: str
    value: float
    expected: float


@dataclass
class Detected:
    """What detect makes of a recording.

    Attributes:
        pages: by time.
        rarity: by entity and cell; NaN where too little was known.
        signals: by id.
        cells: the rollups, for those who want to know more.
    """

    pages: list[Page] = field(default_factory=list)
    rarity: dict[str, dict[int, float]] = field(default_factory=lambda: defaultdict(dict))
    signals: dict[int, SignalRow] = field(default_factory=dict)
    cells: list[Rollups] = field(default_factory=list)

    def judged_ms(self) -> int | None:
        """Tell when the first entity was known well enough to page."""
        known = [
            at for cells in self.rarity.values() for at, r in cells.items() if not math.isnan(r)
        ]
        return min(known, default=None)


def detect(recording: Recording, settings: Detect) -> Detected:
    """Run detection over a recording."""
    found = Detected()
    for number, records in sorted(recording.frames.items()):
        shard, told = Shard(settings, number), dict[str, Page]()
        for record in records:
            frame = decode(record)
            outcome = shard.apply(frame)
            for window in outcome.windows:
                known = told.get(window.window_id, Page(frame.gateway_ms, window, window))
                told[window.window_id] = known._replace(last=window)
            for rollups in outcome.rollups:
                _note(found, rollups)
        found.pages += [page for page in told.values() if not page.first.backlog]
    found.pages.sort(key=lambda page: (page.at_ms, page.first.entity))
    return found


def _note(found: Detected, rollups: Rollups) -> None:
    found.signals.update((row.signal_id, row) for row in rollups.signals)
    found.cells.append(rollups)
    rows = zip(
        rollups.signal_id.tolist(), rollups.at_ms.tolist(), rollups.rarity.tolist(), strict=True
    )
    for signal_id, at_ms, rarity in rows:
        found.rarity[found.signals[signal_id].entity][at_ms] = rarity


def finished(recording: Recording) -> list[Stretch]:
    """List the stretches; one that was cut off ends with the last frame."""
    newest_ms = max(decode(records[-1]).gateway_ms for records in recording.frames.values())
    return [
        stretch if stretch.end_ms else stretch._replace(end_ms=newest_ms)
        for stretch in recording.stretches
    ]


def shared_out(stretches: Sequence[Stretch], pages: Sequence[Page]) -> list[list[Page]]:
    """Give each stretch the pages from its begin to that of the next.

    What comes before the first belongs to it too: the servers have just been started.
    """
    begins = [stretch.begin_ms for stretch in stretches]
    shares: list[list[Page]] = [[] for _ in stretches]
    for page in pages:
        shares[max(bisect_right(begins, page.at_ms) - 1, 0)].append(page)
    return shares


def gone_on(stretch: Stretch, until_ms: int, pages: Sequence[Page]) -> list[Page]:
    """List the windows that were open when a stretch began, and took in something new in it."""
    return [
        page
        for page in pages
        if page.at_ms < stretch.begin_ms
        and any(stretch.begin_ms <= each.since_ms < until_ms for each in page.last.evidence)
    ]


def nearest(found: Detected, begin_ms: int, end_ms: int) -> dict[str, list[Near]]:
    """Find each entity's rarest signals that may page, in some time."""
    best: dict[int, Near] = {}
    for rollups in found.cells:
        rows = np.flatnonzero((rollups.at_ms >= begin_ms) & (rollups.at_ms < end_ms))
        for channel, rarity in rollups.channels.items():
            for i in rows[~np.isnan(rarity[rows])].tolist():
                signal = found.signals[int(rollups.signal_id[i])]
                before = best.get(signal.signal_id)
                if signal.role != Role.PAGE or (before and before.rarity >= rarity[i]):
                    continue
                best[signal.signal_id] = Near(
                    *(float(rarity[i]), int(rollups.at_ms[i]), signal, channel),
                    *(float(rollups.value[i]), float(rollups.expected[i])),
                )
    by_entity: dict[str, list[Near]] = defaultdict(list)
    for near in sorted(best.values(), key=lambda one: -one.rarity):
        by_entity[near.signal.entity].append(near)
    return by_entity


def figures(stretches: Sequence[Stretch], found: Detected) -> dict[str, Any]:
    """Sum it up: pages at rest, and for each fault how soon it paged and whom about."""
    shares = shared_out(stretches, found.pages)
    rest, begin_ms = stretches[0], found.judged_ms()
    summed: dict[str, Any] = {
        "rest_minutes": _minutes(rest.end_ms - rest.begin_ms),
        "rest_judged_minutes": _minutes(max(rest.end_ms - begin_ms, 0)) if begin_ms else 0.0,
        "rest_pages": len(shares[0]),
    }
    for stretch, share in zip(stretches[1:], shares[1:], strict=True):
        first = share[0] if share else None
        summed[f"{stretch.name}_paged_s"] = (
            round((first.at_ms - stretch.begin_ms) / 1000) if first else None
        )
        summed[f"{stretch.name}_paged"] = [page.first.entity for page in share]
    return summed


def _minutes(span_ms: int) -> float:
    return round(span_ms / 60_000, 1)


def title(entity: str) -> str:
    """Write an entity as people do."""
    return Entity.from_key(entity).title


def lines(page: Page) -> list[str]:
    """Write what a page's first revision told."""
    return [finding(evidence) for evidence in page.first.evidence[:_LINES]]


def rarest(rarity: Mapping[int, float], begin_ms: int, end_ms: int) -> float:
    """Find how rare an entity was at its rarest in some time; NaN where nothing was known."""
    inside = [rarity[at] for at in rarity if begin_ms <= at < end_ms]
    return float(np.fmax.reduce(inside)) if inside else float("nan")
