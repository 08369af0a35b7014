"""`make bench-rules`: how fast a new series finds its entity and its signals.

The series are those of the simulated shop; every metric's name has been seen before.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable

from watchkeep.schemas.entity import EntityKind, EntityRules
from watchkeep.schemas.signal_rules import SignalRules
from watchkeep.shop.model import Shop


def main() -> int:
    """Measure, and print one JSON object."""
    parser = argparse.ArgumentParser(prog="make bench-rules ARGS=", description=__doc__)
    parser.add_argument("--rounds", type=int, default=10, help="over all series; the best counts")
    options = parser.parse_args()
    series = Shop(1, 0.02).series
    entities, signals = EntityRules(), SignalRules()

    def place() -> None:
        for labels, _ in series:
            entities.place(labels, "prod")

    def feed() -> None:
        for labels, kind in series:
            signals.feed(labels, kind, EntityKind.WORKLOAD)

    result = {
        "series": len(series),
        "place_us": round(_best_s(place, options.rounds) / len(series) * 1e6, 2),
        "feed_us": round(_best_s(feed, options.rounds) / len(series) * 1e6, 2),
    }
    print(json.dumps(result))
    return 0


def _best_s(run: Callable[[], None], rounds: int) -> float:
    times = []
    for _ in range(rounds + 1):  # The first fills the caches.
        begin = time.perf_counter()
        run()
        times.append(time.perf_counter() - begin)
    return min(times[1:])


if __name__ == "__main__":
    sys.exit(main())
