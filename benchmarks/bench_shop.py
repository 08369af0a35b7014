"""`make bench-shop`: how fast the simulated shop is, and how like real signals its signals are.

`--data DIR` compares them with real data sets (see `real_sets.py`), `--plot FILE` draws it.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from rich.console import Console

import realism
from watchkeep.schemas.entity import EntityRules
from watchkeep.schemas.frame import MetricKind
from watchkeep.shop.blueprint import CLUSTER
from watchkeep.shop.frames import frames
from watchkeep.shop.model import Shop
from watchkeep.shop.remote_write import requests
from watchkeep.shop.times import MINUTE_MS, SCRAPE_MS

_SAMPLES: Final = 2_000
_FRAMES_SAMPLES: Final = 200_000
_SIGNALS: Final = 400

console = Console(stderr=True, highlight=False)


def _speed(name: str, samples: Iterator[int]) -> int:
    begun_s, count = time.process_time(), 0
    for count_of_one in samples:
        count += count_of_one
    seconds = time.process_time() - begun_s
    console.print(f"{name}: {count:,} samples in {seconds:.1f} CPU seconds")
    return round(count / seconds)


def _alive(shop: Shop) -> int:
    """Count the series of one scrape in the middle."""
    middle_ms = (shop.start_ms + shop.end_ms) // 2
    seen: set[int] = set()
    for batch in shop.batches(_FRAMES_SAMPLES):
        inside = (batch.time_ms >= middle_ms) & (batch.time_ms < middle_ms + SCRAPE_MS)
        seen.update(np.unique(batch.series[inside]).tolist())
    return len(seen)


def _signals(seed: int, days: float) -> Iterator[tuple[str, int, npt.NDArray[np.float64]]]:
    """Give some of the calm shop's signals at one minute: gauges, and the growth of counters."""
    shop = Shop(seed, days, kinds={})
    chosen = np.random.default_rng(seed).permutation(len(shop.series))
    count = (shop.end_ms - shop.start_ms) // MINUTE_MS
    table = np.full((len(shop.series), count), np.nan)
    for batch in shop.batches(_FRAMES_SAMPLES):
        minute = (batch.time_ms - shop.start_ms) // MINUTE_MS
        inside = (minute < count) & np.isfinite(batch.value)
        table[batch.series[inside], minute[inside]] = batch.value[inside]
    told = 0
    for i in chosen.tolist():
        labels, kind = shop.series[i]
        # Pods that came late or left early have too little to measure.
        if np.isfinite(table[i]).mean() < 0.9 or told == _SIGNALS:
            continue
        told += 1
        counted = kind in {MetricKind.COUNTER, MetricKind.HISTOGRAM}
        value = realism.increase(table[i]) if counted else table[i]
        yield labels["__name__"], 60, value


def main() -> int:
    """Measure, and print one JSON object."""
    parser = argparse.ArgumentParser(prog="make bench-shop ARGS=", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--days", type=float, default=0.25, help="of the speed runs")
    parser.add_argument("--data", type=Path, help="folder of the real data sets to compare with")
    parser.add_argument("--compared-days", type=float, default=4.0, help="of the comparison")
    parser.add_argument("--plot", type=Path, help="draw the comparison into this .png or .svg")
    options = parser.parse_args()
    shop = Shop(options.seed, options.days)
    shop.series  # noqa: B018 - It is made once, and not part of the speed.
    frame_speed = _speed("frames", (r.samples for r in frames(shop, _FRAMES_SAMPLES)))
    write_speed = _speed("remote write", (r.samples for r in requests(shop, _SAMPLES)))
    rules = EntityRules()
    result: dict[str, Any] = {
        "samples_per_cpu_s": frame_speed,
        "remote_write_samples_per_cpu_s": write_speed,
        "series": _alive(shop),
        "entities": len({rules.place(labels, CLUSTER).entity for labels, _ in shop.series}),
    }
    if options.data:
        result["realism"] = realism.report(
            options.data, _signals(options.seed, options.compared_days), options.plot
        )
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
