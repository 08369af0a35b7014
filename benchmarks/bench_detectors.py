"""`make bench-detectors`: channels against River, side by side, on the same jobs.

A job scores each sample, then learns it. River does so for one signal, sample by sample, in the
shortest loop that Python allows; Watchkeep for a batch of 2,000 signals out of 2,500, all warm, in
the order of their slots. In jobs named `_range` the 2,000 are side by side, so that channels can
take views of their state; in the others they have gaps. A run lasts at least `--seconds` of CPU
time; runs of both take turns, and the result is the median of the ratios of turns: samples a CPU
second, ours over River's.

`half_space` is one feature a model for both; River's nodes choose their own feature and place, ours
are those of oblivious trees (see half_space.py), with a window of 250 points.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import cycle
from statistics import median
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
from rich.console import Console
from river import anomaly, stats, utils

from watchkeep.detectors.arrays import Arrays
from watchkeep.detectors.channel import Channel, Span
from watchkeep.detectors.ewma import Ewma
from watchkeep.detectors.half_space import Forest, HalfSpaceTrees
from watchkeep.detectors.robust_z import RobustZ
from watchkeep.detectors.rolling_z import RollingZ

_BATCH: Final = 2_000
_SLOTS: Final = 2_500
_WINDOW: Final = 60
_WARM_CELLS: Final = 400

console = Console(stderr=True, highlight=False)
Row = npt.NDArray[np.float64]


class Job(NamedTuple):
    """A job, ours and River's: each does some more samples a call, and tells how many."""

    name: str
    ours: Callable[[], int]
    river: Callable[[], int] | None


def _values() -> Row:
    return np.random.default_rng(1).normal(100, 5, (_WARM_CELLS, _BATCH))


def _slots() -> npt.NDArray[np.int64]:
    return np.sort(np.random.default_rng(2).choice(_SLOTS, _BATCH, replace=False)).astype(np.int64)


def _stepper(step: Callable[[Arrays, int, Row], object], state: Arrays) -> Callable[[], int]:
    """Make what steps through the values without end, and has done so once."""
    state.grow(_SLOTS)
    cells: Iterator[tuple[int, Row]] = cycle(enumerate(_values()))

    def some(cells_count: int = 20) -> int:
        for _ in range(cells_count):
            number, row = next(cells)
            step(state, number, row)
        return cells_count * _BATCH

    some(_WARM_CELLS)
    return some


def _channel(channel: Channel, slots: npt.NDArray[np.int64]) -> Callable[[], int]:
    return _stepper(
        lambda state, number, row: channel.step(state, slots, Span(number * 60_000, 60_000), row),
        Arrays(channel.fields),
    )


def _forest(height: int) -> Callable[[], int]:
    trees, slots = HalfSpaceTrees(Forest(1, 10, height)), _slots()
    return _stepper(
        lambda state, _, row: trees.step(state, slots, row[:, None]), Arrays(trees.fields)
    )


def _river_z(mean: Any, variance: Any) -> Callable[[], int]:  # noqa: ANN401 - River has no types.
    values = _values()[:, 0].tolist()

    def some() -> int:
        score = 0.0
        for value in values:
            spread = variance.get()
            if spread > 0:
                score = (value - mean.get()) / spread**0.5
            mean.update(value)
            variance.update(value)
        assert score == score  # noqa: PLR0124 - Not NaN: the work was done.
        return len(values)

    return some


def _river_forest() -> Callable[[], int]:
    forest: Any = anomaly.HalfSpaceTrees(n_trees=10, height=8, window_size=250, seed=1)
    points = [{"value": value / 200} for value in _values()[:, 0].tolist()]

    def some() -> int:
        for point in points:
            forest.score_one(point)
            forest.learn_one(point)
        return len(points)

    some()
    return some


def _jobs() -> list[Job]:
    rolling = partial(utils.Rolling, window_size=_WINDOW)
    fading = 2 / (_WINDOW + 1)
    ewma, rolling_z = Ewma(_WINDOW, 30, 6.0), RollingZ(_WINDOW, 30, 6.0)
    river_ewma = _river_z(stats.EWMean(fading), stats.EWVar(fading))
    river_rolling_z = _river_z(rolling(stats.Mean), rolling(stats.Var))
    gaps, side_by_side = _slots(), np.arange(_BATCH)
    return [
        Job("ewma", _channel(ewma, gaps), river_ewma),
        Job("ewma_range", _channel(ewma, side_by_side), river_ewma),
        Job("rolling_z", _channel(rolling_z, gaps), river_rolling_z),
        Job("rolling_z_range", _channel(rolling_z, side_by_side), river_rolling_z),
        Job("hst", _forest(8), _river_forest()),
        Job("hst_height_6", _forest(6), None),
        Job("robust_z", _channel(RobustZ(_WINDOW, 30), gaps), None),
    ]


def _speed(some: Callable[[], int], seconds: float) -> float:
    """Measure samples a CPU second."""
    samples, begin = 0, time.process_time()
    while (took := time.process_time() - begin) < seconds:
        samples += some()
    return samples / took


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=1.0, help="CPU time of one run")
    parser.add_argument("--turns", type=int, default=7, help="runs of each, taking turns")
    options = parser.parse_args()
    result: dict[str, float] = {}
    for job in _jobs():
        ours, theirs = [], []
        for _ in range(options.turns):
            ours.append(_speed(job.ours, options.seconds))
            if job.river:
                theirs.append(_speed(job.river, options.seconds))
        result[f"{job.name}_samples_per_cpu_s"] = round(median(ours))
        if theirs:
            ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
            result[f"{job.name}_over_river"] = round(median(ratios), 1)
            result[f"river_{job.name}_samples_per_cpu_s"] = round(median(theirs))
            console.print(f"{job.name}: {min(ratios):.1f} to {max(ratios):.1f} times River")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
