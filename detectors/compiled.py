"""Loops over signals that numba compiles where it is installed (the extra `numba`).

They do what the channels' numpy does, to the last bit, in one pass over the signals in place of
dozens; compiling takes a second or two at a channel's first step. Without numba they are plain
Python: far too slow to serve, but tests compare them with numpy on any machine.
"""

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final, TypeVar

import numpy as np

from watchkeep.detectors.arrays import SlotArray
from watchkeep.detectors.restraint import (
    CELLS_MAX,
    CLIP,
    FLOOR,
    LARGEST,
    SCORE_MAX,
    SMALLEST,
    Flags,
    Floats,
)

AVAILABLE: Final = find_spec("numba") is not None

_Loop = TypeVar("_Loop", bound=Callable[..., None])


def _compiled(loop: _Loop) -> _Loop:
    if not AVAILABLE:
        return loop
    # Division by zero gives Inf, as in numpy.
    made: _Loop = import_module("numba").njit(loop, error_model="numpy")
    return made


@_compiled
def ewma(
    slots: SlotArray,
    value: Floats,
    columns: tuple[Any, ...],
    limits: tuple[int, int, float],
    out: tuple[Floats, ...],
) -> None:
    """Step Ewma: see there.

    Args:
        slots: int64[n].
        value: float64[n].
        columns: mean, variance, cells and far_cells of the state.
        limits: memory_cells, warmup_cells and far.
        out: float64[n] four times, the fields of Scores.
    """
    mean, variance, cells, far_cells = columns
    memory, warmup, far = limits
    scores, expected, spreads, warm_part = out
    for i in range(len(slots)):
        slot, x = slots[i], value[i]
        m, v, c = mean[slot], variance[slot], cells[slot]
        known, warm, moved = abs(x) < LARGEST, c >= warmup, v > 0 and c > 1
        spread = max(np.sqrt(v), FLOOR * abs(m))
        distance = x - m if known else 0.0
        score = min(max(distance / spread, -SCORE_MAX), SCORE_MAX) if known and moved else np.nan
        scores[i], warm_part[i] = score, min(c / warmup, 1.0)
        expected[i] = m if c > 0 else np.nan
        spreads[i] = spread if moved else np.nan
        if not known:
            continue
        if abs(score) >= far:
            far_cells[slot] = min(far_cells[slot] + 1, CELLS_MAX)
            if warm and far_cells[slot] <= memory:
                continue
        else:
            far_cells[slot] = 0
        if warm and spread > SMALLEST:
            distance = min(max(distance, -CLIP * spread), CLIP * spread)
        weight = max(1.0 / (c + 1), 2.0 / (memory + 1))
        change = weight * distance
        mean[slot] = m + change
        variance[slot] = (1 - weight) * (change * distance + v)
        cells[slot] = min(c + 1, CELLS_MAX)


@_compiled
def rolling_z(  # noqa: PLR0913, PLR0917 - It is one pass over what the state holds.
    slots: SlotArray,
    value: Floats,
    columns: tuple[Any, ...],
    limits: tuple[int, float, float],
    out: tuple[Floats, ...],
    anew: Flags,
) -> None:
    """Step RollingZ, but for summing windows anew: see there.

    Args:
        slots: int64[n].
        value: float64[n].
        columns: ring, mean, squares, squares_max, cells, moved and far_cells of the state.
        limits: warmup_cells, far, and what part of the largest sum of squares is too small.
        out: float64[n] four times, the fields of Scores.
        anew: bool[n], all False; set where the window must be summed anew.
    """
    ring, mean, squares, squares_max, cells, moved, far_cells = columns
    warmup, far, shrunk = limits
    scores, expected, spreads, warm_part = out
    window = ring.shape[1]
    for i in range(len(slots)):
        slot, x = slots[i], value[i]
        m, q, c = mean[slot], squares[slot], cells[slot]
        known, warm, full = abs(x) < LARGEST, c >= warmup, c >= window
        spread = max(np.sqrt(q / max(min(c, window) - 1, 1)), FLOOR * abs(m))
        score = np.nan
        if known and moved[slot] and spread > 0:
            score = min(max((x - m) / spread, -SCORE_MAX), SCORE_MAX)
        scores[i], warm_part[i] = score, min(c / warmup, 1.0)
        expected[i] = m if c > 0 else np.nan
        spreads[i] = spread if moved[slot] else np.nan
        if not known:
            continue
        if abs(score) >= far:
            far_cells[slot] = min(far_cells[slot] + 1, CELLS_MAX)
            if warm and far_cells[slot] <= window:
                continue
        else:
            far_cells[slot] = 0
        if warm and spread > SMALLEST:
            x = min(max(x, m - CLIP * spread), m + CLIP * spread)
        at = c % window
        old = ring[slot, at] if full else m
        ring[slot, at] = x
        change = x - old
        new = m + change / min(c + 1, window)
        q += change * ((x - new) + (old - m))
        mean[slot], squares[slot], cells[slot] = new, q, min(c + 1, CELLS_MAX)
        squares_max[slot] = max(squares_max[slot], q)
        anew[i] = q < shrunk * squares_max[slot] or (full and at == 0)
        if q > 0 and not anew[i]:
            moved[slot] = True
