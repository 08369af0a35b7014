"""Seen: what a channel saw of a signal in a window, from the cell on in which it was odd.

The band that a signal has left is kept as it was then: channels learn what lasts within hours, and
a window isn't over because its signals have stayed where nobody wants them.
"""

from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from watchkeep.detectors.arrays import SlotArray
from watchkeep.detectors.bank import MEMBER, Bank, Sighting
from watchkeep.detectors.cells import Cell

Floats = npt.NDArray[np.float64]

# The band of what is usual: a channel finds a signal beyond it ten times a week.
USUAL: Final = -1.0
# One value in the band may be chance.
_BACK_CELLS: Final = 3
# No past shows that something is rarer than this.
RAREST: Final = 6.0


@dataclass(slots=True)
class Seen:
    """What a channel saw of a signal; values are those of `Evidence`.

    Attributes:
        rarity: of the last time that the channel looked.
        pages: it may page, and what it shows is on the side that matters.
        away: the signal hasn't stayed in its band since it was odd last; `back_cells`: for how
            many cells on end it is back.
        odd_ms: the end of the cell in which it was odd last.
    """

    observed: float
    expected: float
    low: float
    high: float
    rarity: float
    members: int
    since_ms: int
    peak: float
    peak_ms: int
    peak_rarity: float
    member: str
    reason: str
    pages: bool
    away: bool
    back_cells: int
    odd_ms: int

    @property
    def above(self) -> bool:
        """It was above what is usual, at its farthest."""
        return self.peak > self.expected


class Glance(NamedTuple):
    """What a channel saw of one signal in one cell; its values are those of `Seen`."""

    observed: float
    expected: float
    low: float
    high: float
    rarity: float
    members: int
    strand: int
    pages: bool


def glances(
    cell: Cell, sighting: Sighting, bank: Bank, rows: SlotArray, pages: npt.NDArray[np.bool_]
) -> list[Glance]:
    """Tell what a channel saw of some of a cell's signals.

    Args:
        cell: the cell.
        sighting: what the channel made of it.
        bank: that of the channel.
        rows: int64[n], the places of the signals in the cell.
        pages: bool[n], whether each may page on the side where it is.
    """
    scores, slots = sighting.scores, cell.slots.take(rows)
    low, high = scores.band(rows, bank.levels(sighting.channel, slots, USUAL))
    observed = (cell.value if scores.observed is None else scores.observed).take(rows)
    strand = cell.siblings.strand.take(rows) if sighting.channel == MEMBER else rows * 0 - 1
    return [
        Glance(*values)
        for values in zip(
            observed.tolist(),
            scores.expected.take(rows).tolist(),
            low.tolist(),
            high.tolist(),
            np.minimum(sighting.rarity.take(rows), RAREST).tolist(),
            cell.members.take(rows).tolist(),
            strand.tolist(),
            pages.tolist(),
            strict=True,
        )
    ]


def first(glance: Glance, cell: Cell, member: str) -> Seen:
    """Begin to follow a signal that is odd."""
    return Seen(
        observed=glance.observed,
        expected=glance.expected,
        low=glance.low,
        high=glance.high,
        rarity=glance.rarity,
        members=glance.members,
        since_ms=cell.begin_ms,
        peak=glance.observed,
        peak_ms=cell.begin_ms,
        peak_rarity=glance.rarity,
        member=member,
        reason="",
        pages=glance.pages,
        away=True,
        back_cells=0,
        odd_ms=cell.end_ms,
    )


def update(seen: Seen, glance: Glance, cell: Cell, member: str, odd_from: float) -> None:
    """Take in another look at a signal.

    Args:
        seen: what is known; changed in place.
        glance: the look, of a cell in which the channel looked.
        cell: the cell.
        member: whom the look is about; empty for all members.
        odd_from: rarities from here on are odd, but for those in the band: averages that a jump
            has moved find the way back odd too.
    """
    stronger = glance.rarity > seen.peak_rarity
    if not stronger and member != seen.member:
        seen.away = False
        return  # It is another member that is farthest now, and an ordinary one.
    seen.observed, seen.rarity, seen.members = glance.observed, glance.rarity, glance.members
    if seen.away and (glance.observed > glance.expected) != seen.above:
        return
    if glance.rarity >= odd_from and not seen.low <= glance.observed <= seen.high:
        seen.odd_ms, seen.back_cells, seen.away = cell.end_ms, 0, True
        seen.pages |= glance.pages
    elif member:
        seen.away = glance.rarity >= USUAL
    if stronger:
        seen.peak, seen.peak_ms, seen.peak_rarity = glance.observed, cell.begin_ms, glance.rarity
    if member != seen.member:
        seen.member = member
        seen.expected, seen.low, seen.high = glance.expected, glance.low, glance.high


def returns(seen: Seen, value: float) -> None:
    """Take note of a signal's value in a cell: after some in its band it is back there."""
    if seen.member or seen.reason:
        return
    beyond = value > seen.high if seen.above else value < seen.low
    seen.back_cells = 0 if beyond else seen.back_cells + 1
    if seen.back_cells >= _BACK_CELLS:
        seen.away = False
