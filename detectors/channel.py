"""The channel contract: one detector's view of many signals at once.

A channel is settings and a `step`; its state is an `Arrays` over the signals' slots, made from the
channel's `fields`. Growth, freeing, snapshot and restore are those of `Arrays`, so a channel need
not write them. `step` takes each slot at most once a call, in the order of time over calls. Its
result for a signal depends on that signal's past alone: the order of signals and the split of
batches don't matter.
"""

from collections.abc import Mapping
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from watchkeep.detectors.arrays import Arrays, Field, SlotArray


class Span(NamedTuple):
    """Where a cell lies in time: it begins at `begin_ms`, and is `step_ms` wide.

    Of one that doesn't teach, nothing is kept that tells what is usual: it is of a holiday.
    """

    begin_ms: int
    step_ms: int
    teaches: bool = True

    @property
    def end_ms(self) -> int:
        """Where it ends."""
        return self.begin_ms + self.step_ms


class Scores(NamedTuple):
    """What a channel makes of one cell, as columns over the slots of the call.

    Attributes:
        score: float64; its sign tells above or below, NaN where it can't be told.
        expected: float64, what was expected before this cell; NaN where nothing was.
        spread: float64, one unit of the score in the unit of the signal.
        warmup: float64, from 0 (new) to 1 (warm).
        low, high: float64, between which the score is 0; None where that is `expected` alone.
        observed: float64, what was looked at; NaN where nothing was, None where it is the value.
    """

    score: npt.NDArray[np.float64]
    expected: npt.NDArray[np.float64]
    spread: npt.NDArray[np.float64]
    warmup: npt.NDArray[np.float64]
    low: npt.NDArray[np.float64] | None = None
    high: npt.NDArray[np.float64] | None = None
    observed: npt.NDArray[np.float64] | None = None

    def band(
        self, rows: SlotArray, score: npt.NDArray[np.float64]
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Give the values between which some rows' scores are no farther off than `score`."""
        low = self.expected if self.low is None else self.low
        high = self.expected if self.high is None else self.high
        away = score * self.spread.take(rows)
        return low.take(rows) - away, high.take(rows) + away


class Channel(Protocol):
    """One detector."""

    @property
    def name(self) -> str:
        """Its name, in evidence and rollups."""
        ...

    @property
    def fields(self) -> Mapping[str, Field]:
        """The columns of its state."""
        ...

    def seed(
        self,
        state: Arrays,
        slots: SlotArray,
        value: npt.NDArray[np.float64],
        cells: npt.NDArray[np.int64],
    ) -> None:
        """Learn that signals that are new here had one value all along.

        Args:
            state: its columns; changed in place.
            slots: int64[n], each at most once, none ever stepped.
            value: float64[n]; NaN where it isn't known.
            cells: int64[n], for how many cells they had it.
        """
        ...

    def step(
        self,
        state: Arrays,
        slots: SlotArray,
        span: Span,
        value: npt.NDArray[np.float64],
    ) -> Scores:
        """Score one cell, then learn from it.

        Args:
            state: its columns; changed in place.
            slots: int64[n], each at most once.
            span: where the cell lies, later than that of the call before.
            value: float64[n]; NaN and Inf are neither scored nor learnt.
        """
        ...
