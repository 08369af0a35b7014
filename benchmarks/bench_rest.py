"""`make bench-rest`: what of real exporters pages at rest, and with one real fault each.

Starts etcd, the Kubernetes API server, node-exporter, Alertmanager and Prometheus, scraped as users
do, and leaves them at rest; then come busy processes, the loss of etcd, a full disk and a flood of
requests, one after the other. Everything goes through detect in its default settings. It is Linux'
root that may mount the disk.

`--out FILE` keeps what was recorded; `--from FILE` reads it again, also while it is being recorded.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Final

from rich.console import Console

import rest_plot
import rest_record
import rest_report
import rest_run
import rest_shown
from real_servers import exporters_missing
from watchkeep.schemas.settings import Detect

_REST_MINUTES: Final = 60.0
_FAULT_MINUTES: Final = 6.0
_GAP_MINUTES: Final = 8.0

console = Console(stderr=True, highlight=False, soft_wrap=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make bench-rest ARGS=",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rest-minutes", type=float, default=_REST_MINUTES, help="(%(default)s)")
    parser.add_argument(
        "--fault-minutes", type=float, default=_FAULT_MINUTES, help="of each fault (%(default)s)"
    )
    parser.add_argument("--gap-minutes", type=float, default=_GAP_MINUTES, help="rest after each")
    files = parser.add_mutually_exclusive_group()
    files.add_argument("--out", type=Path, help="keep the recording in this file")
    files.add_argument("--from", dest="file", type=Path, help="record nothing, read this file")
    parser.add_argument("--step-s", type=int, default=60, help="width of a cell of detection")
    parser.add_argument("--plot", type=Path, help="draw how rare entities were, as .png or .svg")
    return parser.parse_args()


def _record(options: argparse.Namespace, folder: Path) -> Path:
    minutes = (options.rest_minutes, options.fault_minutes, options.gap_minutes)
    plan = rest_run.Plan(*(60 * each for each in minutes))
    path: Path = options.out or folder / "recording"
    rest_run.record(path, folder, plan, console.print)
    return path


def _report(path: Path, settings: Detect, plot: Path | None) -> None:
    recording = rest_record.load(path)
    found = rest_report.detect(recording, settings)
    stretches = rest_report.finished(recording)
    rest_shown.show(console, stretches, found)
    if plot is not None:
        rest_plot.draw(stretches, found, settings, plot)
    print(json.dumps(rest_report.figures(stretches, found)))


def main() -> int:
    """Record unless there is a recording, and print one JSON object."""
    options = _options()
    settings = Detect(step_s=options.step_s)
    if options.file is not None:
        _report(options.file, settings, options.plot)
        return 0
    if what := exporters_missing():
        console.print(f"{what} is missing")
        return 2
    if os.geteuid() != 0:
        console.print("only root may mount the disk that is filled")
        return 2
    with tempfile.TemporaryDirectory(prefix="wk-") as folder:
        _report(_record(options, Path(folder)), settings, options.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())
