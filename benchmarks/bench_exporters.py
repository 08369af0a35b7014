"""`make bench-exporters`: what detect makes of real exporters, and how near it is to PromQL.

Starts etcd, the Kubernetes API server, node-exporter, Alertmanager and Prometheus under a steady
load, has Prometheus scrape them all and send to a gateway, folds what came, and asks Prometheus for
the same (see `exporter_signals.py`). `--out FILE` keeps what came, for other benchmarks.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from rich.console import Console

import exporter_capture
from exporter_run import SCRAPE_S, Run, running
from exporter_signals import (
    INCREMENTS_MIN,
    OBSERVATIONS_MIN,
    SMOOTH_GAUGES,
    Oracle,
    fold,
    spread,
)
from real_servers import exporters_missing
from watchkeep.schemas.settings import Detect
from watchkeep.schemas.signal import Folding

_STEP_S: Final = 30
_CELLS: Final = 4

console = Console(stderr=True, highlight=False)


def _measure(run: Run, detect: Detect) -> dict[str, Any]:
    folded = fold(run, detect)
    oracle = Oracle(folded)
    console.print("folded; asking Prometheus for the same")
    return {
        "scrape_s": SCRAPE_S,
        "step_s": detect.step_s,
        "cells": len(oracle.ends),
        "load_behind_s_max": round(run.load.behind_s_max, 3),
        "exporters": folded.counts(),
        "rates": spread(list(oracle.rates(INCREMENTS_MIN))),
        **{
            folding: spread(list(oracle.families(folding, OBSERVATIONS_MIN)))
            for folding in (Folding.P50, Folding.P99, Folding.AVERAGE)
        },
        "means": spread(list(oracle.means(SMOOTH_GAUGES))),
    }


def main() -> int:
    """Measure, and print one JSON object."""
    parser = argparse.ArgumentParser(prog="make bench-exporters ARGS=", description=__doc__)
    parser.add_argument("--step-s", type=int, default=_STEP_S, help="width of a cell")
    parser.add_argument("--cells", type=int, default=_CELLS, help="how many to record")
    parser.add_argument("--out", type=Path, help="keep what was sent in this .npz")
    options = parser.parse_args()
    if what := exporters_missing():
        console.print(f"{what} is missing")
        return 2
    detect = Detect(step_s=options.step_s)
    with (
        tempfile.TemporaryDirectory(prefix="wk-") as folder,
        running(Path(folder), console.print) as run,
    ):
        console.print(f"recording {options.cells} cells of {options.step_s} s")
        run.record(detect, options.cells)
        if options.out:
            frames = (frame for shard in run.frames.values() for frame in shard)
            exporter_capture.save(options.out, frames)
            console.print(f"wrote {options.out}")
        result = _measure(run, detect)
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
