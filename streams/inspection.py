"""Inspection: all that is known of why an entity's window opened at some time, or didn't."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from watchkeep.detectors.envelope import LOOK_MS
from watchkeep.schemas.entity import Entity, EntityKind
from watchkeep.schemas.settings import Detect
from watchkeep.schemas.signal import Folding, Role, Side
from watchkeep.schemas.signal_rules import SignalRules
from watchkeep.schemas.text import plain
from watchkeep.schemas.window import Window, WindowState
from watchkeep.streams.inspect_lookup import Cells, Floats, InspectStore
from watchkeep.streams.inspect_names import Target
from watchkeep.streams.show_signals import NAME_MAX, title
from watchkeep.streams.stores import CHANNELS, SignalRow

_FOREVER_MS: Final = 253_402_300_799_000
# After a time that isn't the newest, so much of the span is shown as well.
_AFTER: Final = 0.25


class Question(NamedTuple):
    """What is asked.

    Attributes:
        target: about whom.
        at_ms: the time.
        span_s: how much is shown around it.
    """

    target: Target
    at_ms: int
    span_s: float


class Saw(NamedTuple):
    """What a channel said when it looked last: how rare, and in the cell that began when."""

    rarity: float
    at_ms: int


class Cell(NamedTuple):
    """One cell of a signal; None where nothing was known. See `stores.Rollups`."""

    at_ms: int
    step_s: int
    value: float | None
    expected: float | None
    low: float | None
    high: float | None
    rarity: float | None
    threshold: float | None
    warmup: float


class Look(NamedTuple):
    """A signal at the time that is asked about.

    Attributes:
        side: which way it must leave what is expected to page, by the settings of now.
        cell: the one that the time lies in; None where there is none.
        saw: by channel, what it said in that cell, or up to five minutes before, as some channels
            only look so often.
        asleep: it was constant all along, up to now.
    """

    signal: SignalRow
    side: Side
    cell: Cell | None
    saw: Mapping[str, Saw]
    asleep: bool

    @property
    def pages(self) -> bool:
        """It may page."""
        return self.signal.role == Role.PAGE

    @property
    def rarest(self) -> tuple[str, Saw] | None:
        """Tell the channel that found it rarest, and how rare; None where none could tell."""
        return max(self.saw.items(), key=lambda item: item[1].rarity, default=None)

    @property
    def rarity(self) -> float | None:
        """How rare it is by itself."""
        return self.rarest[1].rarity if self.rarest else None

    @property
    def wrong_side(self) -> bool:
        """It is on the side on which it doesn't page."""
        cell = self.cell
        if self.side is Side.BOTH or cell is None or cell.value is None or cell.expected is None:
            return False
        return (cell.value > cell.expected) != (self.side is Side.ABOVE)


@dataclass(frozen=True, slots=True)
class Inspection:
    """All that is known.

    Attributes:
        entity: its key.
        signal: the one of its signals that is asked about, if any.
        at_ms: the time that is asked about.
        cell_ms: the begin of the cell that it lies in; None where nothing is stored of it.
        nearest_ms: the begins of the newest cell before the time and of the newest of all.
        rarity, threshold: of the entity; None where that isn't known.
        budget_of: the setting that the threshold comes from, if it is one of now.
        looks: its signals, the rarest first.
        windows: those that touch the span, by onset.
        span_ms: what is shown around the time.
        cells: by signal id, cells in the span: of the signal that is asked about, or of the
            rarest.
    """

    entity: str
    signal: Look | None
    at_ms: int
    cell_ms: int | None
    nearest_ms: tuple[int | None, int | None]
    rarity: float | None
    threshold: float | None
    budget_of: str
    looks: Sequence[Look]
    windows: Sequence[Window]
    span_ms: tuple[int, int]
    cells: Mapping[int, Cells]

    @property
    def window(self) -> Window | None:
        """The window that was open at the time, onset and end included."""
        end_ms = self.at_ms + 1
        covering = [w for w in self.windows if w.onset_ms < end_ms and over_ms(w) > self.at_ms]
        return covering[-1] if covering else None


def over_ms(window: Window) -> int:
    """Tell when a window was closed, far off for one that is open."""
    return window.at_ms if window.state is WindowState.CLOSED else _FOREVER_MS


async def newest(store: InspectStore, target: Target, before_ms: int = _FOREVER_MS) -> int | None:
    """Tell the begin of the newest cell of what is asked about, before some time."""
    rows = target.signals if target.signal is None else (target.signal,)
    return await store.newest_of([row.signal_id for row in rows], before_ms)


async def inspect(store: InspectStore, asked: Question, settings: Detect) -> Inspection:
    """Gather all that is known of a time.

    Args:
        store: where to look.
        asked: what to look for.
        settings: those of now. Thresholds are as they are stored, and the sides on which signals
            page as they would be now.
    """
    target, at_ms, span_s = asked
    newest_ms = await newest(store, target)
    span_ms = _span(at_ms, span_s, newest_ms)
    ids = [row.signal_id for row in target.signals]
    around = await store.cells(ids, at_ms - LOOK_MS, at_ms + 1)
    asleep = {
        each.signal.signal_id for each in await store.watched([target.entity]) if each.feed.asleep
    }
    sides = SignalRules(settings.rules, settings.step_s)
    kind = Entity.from_key(target.entity).kind
    looks = [
        _look(row, _side(sides, row, kind), around.get(row.signal_id), at_ms, asleep)
        for row in target.signals
    ]
    looks.sort(key=_order)
    chosen = next((look for look in looks if look.signal == target.signal), None)
    found = [look.cell for look in looks if look.cell is not None]
    threshold = _most([cell.threshold for cell in found])
    windows = await store.windows_of(
        target.entity, span_ms[0] - round(settings.cool_down_s * 1000), span_ms[1]
    )
    telling = [chosen] if chosen else _telling(looks, windows)
    return Inspection(
        entity=target.entity,
        signal=chosen,
        at_ms=at_ms,
        cell_ms=max((cell.at_ms for cell in found), default=None),
        nearest_ms=(await newest(store, target, at_ms + 1), newest_ms),
        rarity=_most([cell.rarity for cell in found]),
        threshold=threshold,
        budget_of=_budget_of(settings, target.entity, threshold),
        looks=looks,
        windows=windows,
        span_ms=span_ms,
        cells=await store.cells([look.signal.signal_id for look in telling], *span_ms),
    )


def _span(at_ms: int, span_s: float, newest_ms: int | None) -> tuple[int, int]:
    length_ms = round(span_s * 1000)
    end_ms = at_ms + round(length_ms * _AFTER)
    if newest_ms is not None and newest_ms >= at_ms:
        end_ms = min(end_ms, newest_ms + 1)
    return end_ms - length_ms, end_ms


def _side(sides: SignalRules, row: SignalRow, kind: EntityKind) -> Side:
    labels = tuple(sorted(row.labels.items()))
    return sides.side(row.metric, labels, Folding(row.folding), kind)


def _look(row: SignalRow, side: Side, cells: Cells | None, at_ms: int, asleep: set[int]) -> Look:
    cell, saw = None, {}
    if cells is not None and len(cells.at_ms):
        if cells.end_ms[-1] > at_ms:
            cell = _cell(cells)
        saw = _saw(cells)
    sleeps = cell is None and row.signal_id in asleep
    return Look(row, side, cell, saw if cell is not None else {}, sleeps)


def _cell(cells: Cells) -> Cell:
    """Give the last cell."""
    begin, step, *numbers, warmup = (float(column[-1]) for column in cells[:-1])
    value, expected, low, high, rarity, threshold = map(known, numbers)
    return Cell(
        int(begin),
        int(step),
        value,
        expected,
        low,
        high,
        rarity,
        threshold,
        known(warmup) or 0.0,
    )


def _saw(cells: Cells) -> dict[str, Saw]:
    """Give each channel's last look."""
    found = {}
    for name, rarity in zip(CHANNELS, cells.channels, strict=True):
        (told,) = np.nonzero(~np.isnan(rarity))
        if len(told):
            found[name] = Saw(float(rarity[told[-1]]), int(cells.at_ms[told[-1]]))
    return found


def _order(look: Look) -> tuple[object, ...]:
    """Put the rarest first, and of those that can't be told, those that may page."""
    rarity = look.rarity
    signal = look.signal
    name = (signal.metric, sorted(signal.labels.items()), signal.folding)
    return (rarity is None, -(rarity or 0.0), not look.pages, name)


def _telling(looks: Sequence[Look], windows: Sequence[Window]) -> Sequence[Look]:
    """Choose the signals that decide: those that may page, and those that tell who was missed."""
    missed = {
        plain(shown.signal, NAME_MAX)
        for window in windows
        for shown in window.evidence
        if shown.reason
    }
    return [look for look in looks if look.pages or title(look.signal) in missed] or looks


def _most(numbers: Sequence[float | None]) -> float | None:
    return max((number for number in numbers if number is not None), default=None)


def known(number: float) -> float | None:
    """Tell a number that was computed from NaN and what is endless; there is no minus nothing."""
    return number + 0.0 if np.isfinite(number) else None


def _budget_of(settings: Detect, entity: str, threshold: float | None) -> str:
    """Name the setting that a threshold comes from; empty where it isn't one of now."""
    if threshold is None or abs(settings.opens_at(entity) - threshold) > 1e-6:
        return ""
    own = settings.model_copy(update={"budgets": ()}).opens_at(entity)
    return "detect.budget" if abs(own - threshold) < 1e-6 else "detect.budgets"


def entity_rarity(cells: Mapping[int, Cells]) -> tuple[Floats, Floats, Floats]:
    """Give an entity's rarity over time, and its threshold, as its signals' cells tell them.

    Returns:
        The begins of cells; how rare the entity was in each; from where its window opened.
    """
    every = [each for each in cells.values() if len(each.at_ms)]
    if not every:
        return np.empty(0), np.empty(0), np.empty(0)
    at_ms, place = np.unique(np.concatenate([each.at_ms for each in every]), return_inverse=True)
    rarity, threshold = np.full((2, len(at_ms)), np.nan)
    np.fmax.at(rarity, place, np.concatenate([each.rarity for each in every]))
    np.fmax.at(threshold, place, np.concatenate([each.threshold for each in every]))
    return at_ms, rarity, threshold
