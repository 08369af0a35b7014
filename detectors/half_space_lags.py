"""Half-Space Trees over one signal: its value, and how it differs from a few cells before.

See half_space.py. The score is from 0 to 1 with the sign of the side of the running range's middle
that the value is on; it has no unit, so `spread` is NaN.
"""

from collections.abc import Mapping
from functools import cached_property
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from watchkeep.detectors.arrays import Arrays, Field, SlotArray
from watchkeep.detectors.channel import Scores, Span
from watchkeep.detectors.half_space import Forest, HalfSpaceTrees
from watchkeep.detectors.restraint import CELLS_MAX, Floats, usable


class HalfSpace:
    """The channel.

    Attributes:
        lags: differences are from the values so many cells before; cells without a value, or with
            one that can't be used, don't count.
        warmup_cells: cells until a signal that moves is warm.
        trees: its forest, of one feature more than there are lags.
    """

    name: ClassVar[str] = "half_space"

    def __init__(
        self,
        lags: tuple[int, ...] = (1,),
        warmup_cells: int = 128,
        *,
        trees: int = 10,
        height: int = 6,
        window: int = 250,
    ) -> None:
        self.lags = lags
        self.warmup_cells = warmup_cells
        self.trees = HalfSpaceTrees(Forest(len(lags) + 1, trees, height, window))

    @cached_property
    def fields(self) -> Mapping[str, Field]:
        """The columns of its state: those of the trees, and the values of some cells."""
        return {
            **self.trees.fields,
            "before": Field("f8", np.nan, (max(self.lags, default=1),)),
            "seen": Field("i4", 0),
        }

    def seed(
        self,
        state: Arrays,
        slots: SlotArray,
        value: Floats,
        cells: npt.NDArray[np.int64],
    ) -> None:
        """Learn that signals had one value all along; see the contract."""
        known = usable(value) & (cells > 0)
        slots, value, cells = slots[known], value[known, None], cells[known, None]
        filled = np.arange(state["before"].shape[1]) < cells
        state["before"][slots] = np.where(filled, value, np.nan)
        state["seen"][slots] = np.minimum(cells[:, 0], CELLS_MAX)
        differs = np.where(np.array(self.lags, int) < cells, 0.0, np.nan)
        state["low"][slots] = state["high"][slots] = np.concatenate([value, differs], axis=1)

    def step(
        self,
        state: Arrays,
        slots: SlotArray,
        span: Span,  # noqa: ARG002 - Part of the contract; seasonal channels need it.
        value: Floats,
    ) -> Scores:
        """Score one cell, then learn from it; see the contract."""
        low, high = state["low"][slots, 0], state["high"][slots, 0]
        expected = low + (high - low) / 2
        known = usable(value)
        value = np.where(known, value, np.nan)
        warmup = np.minimum(state["cells"].take(slots) / self.warmup_cells, 1.0)
        score = self.trees.step(state, slots, self._features(state, slots, value))
        self._remember(state, slots[known], value[known])
        below = value < expected
        return Scores(np.where(below, -score, score), expected, np.full(len(slots), np.nan), warmup)

    def _features(self, state: Arrays, slots: SlotArray, value: Floats) -> Floats:
        before, seen = state["before"], state["seen"].take(slots)
        columns = [value]
        columns += [value - before[slots, (seen - lag) % before.shape[1]] for lag in self.lags]
        return np.stack(columns, axis=1)

    def _remember(self, state: Arrays, slots: SlotArray, value: Floats) -> None:
        before, seen = state["before"], state["seen"].take(slots)
        before[slots, seen % before.shape[1]] = value
        state["seen"][slots] = np.minimum(seen + 1, CELLS_MAX)
