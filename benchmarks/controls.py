"""Detectors that know nothing, to hold the figures of one that should know something against."""

from collections.abc import Sequence

import numpy as np

from corpora import WEEK_MS, Floats, Recorded


def always_on(records: Sequence[Recorded]) -> list[Floats]:
    """Alarm at every row, at any budget: float64[T] of each record."""
    return [np.full(len(record.time_ms), np.inf) for record in records]


def random(records: Sequence[Recorded], seed: int = 1) -> list[Floats]:
    """Alarm at random, about as often as is asked: float64[T] of each record."""
    dice = np.random.default_rng(seed)
    return [
        -np.log10((1 - dice.random(len(record.time_ms))) * WEEK_MS / record.step_ms)
        for record in records
    ]
