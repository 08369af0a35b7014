"""`make bench-fold`: how many raw samples a CPU second folds, and what memory a series takes.

The series are those of a fleet of services (see fleet.py), or of copies of the simulated shop,
which has few pods and few buckets, and so a signal for every three series; in the shards that they
would have, a sample of each every 30 s. A scrape of a shard is a frame, or several of 8,192
samples; cells of a minute close as time goes on. CPU time is that of folding alone: frames are made
beforehand, and garbage is collected as seldom as in detect.

`bytes_per_series` is what the columns of series and strands take, in open cells too; label sets are
not held at all. `bytes_per_signal` is everything else by which the process has grown.
"""

import argparse
import gc
import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import count, islice
from statistics import median
from typing import Any, Final, NamedTuple
from zlib import crc32

import numpy as np
import numpy.typing as npt
import psutil
from rich.console import Console

from fleet import Labelled, fleet
from watchkeep.detectors.columns import COUNTS
from watchkeep.detectors.fold import Fold
from watchkeep.schemas.entity import EntityRules
from watchkeep.schemas.frame import (
    SAMPLES_MAX,
    Frame,
    FrameKind,
    LabelSet,
    SenderTime,
    by_bytes,
    shard_of,
)
from watchkeep.schemas.labels import canonical, series_id
from watchkeep.schemas.settings import Detect
from watchkeep.shop.model import Shop
from watchkeep.streams.stages import collect_seldom

_SCRAPE_MS: Final = 30_000
_START_MS: Final = 1_700_000_040_000
_REPLICA: Final = "prometheus_replica"

console = Console(stderr=True, highlight=False)


class Plan(NamedTuple):
    """The series of one shard, in the order in which they come."""

    label_sets: list[LabelSet]
    ids: npt.NDArray[np.uint64]
    offset_ms: npt.NDArray[np.int64]


def _plans(series: Iterator[Labelled], size: int) -> dict[int, Plan]:
    """Have so many series in their shards."""
    rules = EntityRules()
    label_sets: dict[int, list[LabelSet]] = defaultdict(list)
    for labels, kind in islice(series, size):
        place = rules.place(labels, "bench")
        form = canonical(labels.items())
        key = place.entity.key
        entry = LabelSet(series_id(form), kind, key, place.member, form)
        label_sets[shard_of(key)].append(entry)
    return {
        shard: Plan(
            entries,
            np.array([entry.series_id for entry in entries], np.uint64),
            # Each target is scraped at its own time; a member stands for one here.
            np.array([crc32(entry.member.encode()) % _SCRAPE_MS for entry in entries], np.int64),
        )
        for shard, entries in label_sets.items()
    }


def _shops() -> Iterator[Labelled]:
    """Copy the shop's series into one namespace after the other."""
    shop = Shop(1, 0.05)
    for copy in count():
        for given, kind in shop.series:
            labels = {name: value for name, value in given.items() if name != _REPLICA}
            for name in ("namespace", "exported_namespace", "destination_workload_namespace"):
                if name in labels:
                    labels[name] += f"-{copy}"
            if "namespace" not in labels:
                labels["instance"] = f"{copy}-{labels.get('instance', '')}"
                labels["node"] = f"{copy}-{labels.get('node', '')}"
            yield labels, kind


_LIKE: Final[dict[str, Callable[[], Iterator[Labelled]]]] = {"fleet": fleet, "shop": _shops}


def _frames(plan: Plan, counts: npt.NDArray[np.bool_], number: int) -> Iterator[Frame]:
    """Make the frames of one scrape of a shard."""
    time_ms, value = _scrape(plan, counts, number)
    for begin in range(0, len(plan.ids), SAMPLES_MAX):
        part = slice(begin, begin + SAMPLES_MAX)
        newest_ms = int(time_ms[part].max())
        sender = SenderTime("bench", "", newest_ms, newest_ms)
        columns = (plan.ids[part], time_ms[part], value[part])
        yield Frame(FrameKind.DATA, "bench", newest_ms, "r", (sender,), *columns)


def _scrape(
    plan: Plan, counts: npt.NDArray[np.bool_], number: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Make times and values of one scrape."""
    dice = np.random.default_rng([number, len(plan.ids)])
    # Two in five stay as they are, as in the shop.
    moves = np.arange(len(plan.ids)) % 5 < 3
    noise = dice.random(len(plan.ids)) * moves
    value = np.where(counts, 100.0 * number * moves + noise, 10.0 + noise)
    return _START_MS + number * _SCRAPE_MS + plan.offset_ms, value


def _learn(fold: Fold, plan: Plan) -> npt.NDArray[np.bool_]:
    for chunk in by_bytes(plan.label_sets):
        fold.learn(chunk, _START_MS)
    slots = fold.roster.table.find(plan.ids)
    return np.asarray(fold.roster.series["flags"][slots] & COUNTS != 0)


def _measure(like: str, size: int, scrapes: int) -> dict[str, Any]:
    console.print(f"{size:,} series: making them")
    plans = _plans(_LIKE[like](), size)
    settings = Detect(new_series_per_minute=1_000_000)
    before = _held()
    folds = {shard: Fold(settings) for shard in plans}
    begun_s = time.process_time()
    counts = {shard: _learn(folds[shard], plan) for shard, plan in plans.items()}
    learnt_s = time.process_time() - begun_s
    _run(plans, folds, counts, range(6))
    used = _held() - before - sum(mask.nbytes for mask in counts.values())
    signals = sum(len(fold.roster.signal_slot) for fold in folds.values())
    series_bytes = sum(fold.nbytes for fold in folds.values())
    console.print(f"learnt in {learnt_s:.1f} s of CPU time")
    collect_seldom()
    runs = [
        # A cell has two scrapes, so that each run closes one.
        _run(plans, folds, counts, range(first, first + 2))
        for first in range(6, 6 + scrapes, 2)
    ]
    return {
        "series": size,
        "samples_per_cpu_s": round(median(samples / spent_s for spent_s, samples, _ in runs)),
        "samples_a_frame": round(median(samples / frames for _, samples, frames in runs)),
        "bytes_per_series": round(series_bytes / size, 1),
        "bytes_per_signal": round((used - series_bytes) / signals),
        "signals": signals,
    }


def _held() -> int:
    gc.collect()
    return psutil.Process().memory_info().rss


def _run(
    plans: dict[int, Plan], folds: dict[int, Fold], counts: dict[int, Any], scrapes: range
) -> tuple[float, int, int]:
    """Fold scrapes of all shards; return the CPU time, and how many samples and frames."""
    spent_s, samples, made = 0.0, 0, 0
    for number in scrapes:
        frames = [
            (folds[shard], frame)
            for shard, plan in plans.items()
            for frame in _frames(plan, counts[shard], number)
        ]
        begun_s = time.process_time()
        for fold, frame in frames:
            fold.add(frame, frame.senders[0].newest_ms)
            for _ in fold.close(frame.senders[0].newest_ms):
                pass
        spent_s += time.process_time() - begun_s
        samples += sum(len(frame.series_id) for _, frame in frames)
        made += len(frames)
    return spent_s, samples, made


def main() -> int:
    """Measure, and print one JSON object."""
    parser = argparse.ArgumentParser(prog="make bench-fold ARGS=", description=__doc__)
    parser.add_argument("--series", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument(
        "--like", choices=_LIKE, default="fleet", help="services of twelve pods, or the shop's"
    )
    parser.add_argument("--scrapes", type=int, default=20, help="measured ones; 6 come before")
    options = parser.parse_args()
    results = [_measure(options.like, size, options.scrapes) for size in options.series]
    worst = {
        "samples_per_cpu_s": min(result["samples_per_cpu_s"] for result in results),
        "bytes_per_series": max(result["bytes_per_series"] for result in results),
        "bytes_per_signal": max(result["bytes_per_signal"] for result in results),
    }
    print(json.dumps(worst | {"like": options.like, "sizes": results}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
