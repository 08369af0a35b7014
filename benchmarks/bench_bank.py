"""`make bench-bank`: how many signal steps a CPU second a bank does, and a signal's memory.

A step is one signal in one cell of a minute, with all channels, their rarities, and the fusion per
entity. The signals have a shape of the day, noise, a few spikes and a few gaps. A small bank is
warmed for days; the measured one has copies of its signals, so all their blocks end, and all their
looks are due, in the same cells: the worst case for the longest step. The daily fits are staggered.

The figures are of whole days, as a cell of a minute with nothing due, one with a look, and one with
blocks and fits cost differently. CPU time is that of the bank alone: values are made beforehand.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from rich.console import Console

from watchkeep.detectors.bank import Bank
from watchkeep.detectors.channel import Span

_CELL_MS: Final = 60_000
_HOUR_CELLS: Final = 60
_DAY_CELLS: Final = 1_440
_START_MS: Final = 1_700_006_400_000
# Of warm signals that are then copied.
_ENTITIES_WARMED: Final = 20

Floats = npt.NDArray[np.float64]

console = Console(stderr=True, highlight=False)


def values(signals: int, first: int, cells: int) -> Iterator[tuple[Span, Floats]]:
    """Make cells, from number `first` on."""
    dice = np.random.default_rng([signals, first])
    shape = np.random.default_rng(signals)
    base, height = shape.lognormal(3, 2, signals), shape.uniform(0, 1, signals)
    noise, phase = shape.uniform(0.01, 0.2, signals), shape.uniform(0, 2 * np.pi, signals)
    for cell in range(first, first + cells):
        day = 1 + height * np.sin(2 * np.pi * cell / _DAY_CELLS + phase)
        value = base * (day + noise * dice.normal(size=signals))
        value[dice.random(signals) < 5e-4] *= 5
        value[dice.random(signals) < 1e-3] = np.nan
        yield Span(_START_MS + cell * _CELL_MS, _CELL_MS), value


def warm(entities: int, signals_each: int, days: int) -> Bank:
    """Make a bank of warm signals: a few, stepped through days, and copies of them."""
    few = min(entities, _ENTITIES_WARMED)
    small = Bank()
    slots = np.arange(few * signals_each)
    small.place(slots, slots // signals_each, slots / len(slots))
    for span, value in values(len(slots), 0, days * _DAY_CELLS):
        small.step(span, slots, value)
    copied = Bank()
    copies = -(-entities // few)
    used = {"entities": few}
    columns = {
        name: np.concatenate([column[: used.get(name.split("/")[0], len(slots))]] * copies)
        for name, column in small.dump().items()
    }
    every = np.arange(entities * signals_each)
    columns["shares/entity"] = np.arange(copies * len(slots)) // signals_each
    copied.restore(columns)
    copied.free(np.arange(len(every), copies * len(slots)))
    return copied


def _measure(entities: int, signals_each: int, days: int, hours: int) -> dict[str, Any]:
    signals = entities * signals_each
    console.print(f"{signals:,} signals: warming them for {days} days")
    bank = warm(entities, signals_each, days)
    slots = np.arange(signals)
    spent_s = []
    for hour in range(hours):
        first = days * _DAY_CELLS + hour * _HOUR_CELLS
        for span, value in values(signals, first, _HOUR_CELLS):
            begun_s = time.process_time()
            bank.step(span, slots, value)
            spent_s.append(time.process_time() - begun_s)
        rate = signals * _HOUR_CELLS / sum(spent_s[-_HOUR_CELLS:])
        console.print(f"hour {hour}: {rate:,.0f} steps a CPU second")
    # The first hour fills the caches.
    measured = np.array(spent_s[_HOUR_CELLS:])
    return {
        "steps_per_cpu_s": round(signals * len(measured) / measured.sum()),
        "bytes_per_signal": round(bank.nbytes / signals),
        "longest_step_over_median": round(float(measured.max() / np.median(measured)), 1),
        "median_step_ms": round(float(np.median(measured)) * 1e3, 1),
        "longest_step_ms": round(float(measured.max()) * 1e3, 1),
        "signals": signals,
        "entities": entities,
        "hours": hours - 1,
    }


def main() -> int:
    """Measure, and print one JSON object."""
    parser = argparse.ArgumentParser(prog="make bench-bank ARGS=", description=__doc__)
    parser.add_argument("--entities", type=int, default=1_000)
    parser.add_argument("--signals-each", type=int, default=20)
    parser.add_argument("--warm-days", type=int, default=6)
    parser.add_argument("--hours", type=int, default=24, help="measured ones; one comes before")
    options = parser.parse_args()
    result = _measure(options.entities, options.signals_each, options.warm_days, options.hours + 1)
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
