"""What the quality benchmarks have in common: options, the run, its figures, saved runs, plots."""

import argparse
import json
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Final, NamedTuple

import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

import bootstrap
import controls
import detector_under_test
from corpora import Floats, LayoutError, Recorded
from watchkeep.detectors.bank import PARTS

_BENCHMARKS: Final = Path(__file__).resolve().parent
_KEY: Final = "rarity/"

console = Console(stderr=True, highlight=False, width=110)


class RunError(Exception):
    """What was asked can't be done."""


class Judged(NamedTuple):
    """What a run is worth.

    Attributes:
        figures: by name, for JSON.
        parts: float64[records, parts], counts that the main figure is computed from once summed.
    """

    figures: dict[str, Any]
    parts: Floats


class QualityBench(ABC):
    """One corpus and how it is scored."""

    corpus: ClassVar[str]
    main_figure: ClassVar[str]

    @abstractmethod
    def read(self, folder: Path) -> list[Recorded]:
        """Read the corpus; LayoutError if it isn't there."""

    @abstractmethod
    def judge(self, records: Sequence[Recorded], rarities: Sequence[Floats]) -> Judged:
        """Score one run."""

    @abstractmethod
    def main_of(self, sums: Floats) -> Floats:
        """Compute the main figure from sums of parts: float64[..., parts] -> float64[...]."""

    @abstractmethod
    def tables(self, figures: Mapping[str, Mapping[str, Any]]) -> list[Table]:
        """Lay figures out for a person: those of the run and of the controls, by name."""

    @abstractmethod
    def draw(self, records: Sequence[Recorded], rarities: Sequence[Floats], folder: Path) -> None:
        """Draw plots into an empty or older folder."""

    def judge_random(self, records: Sequence[Recorded]) -> dict[str, Any]:
        """Score alarms at random."""
        return self.judge(records, controls.random(records)).figures


def main(bench: QualityBench, doc: str) -> int:
    """Run a benchmark as its command line asks; print one JSON object."""
    options = _options(bench.corpus, doc)
    try:
        result = _run(bench, options)
    except LayoutError as error:
        console.print(f"{error}; --data FOLDER names a corpus of this layout", soft_wrap=True)
        return 2
    except RunError as error:
        console.print(str(error), soft_wrap=True)
        return 2
    print(json.dumps(_plain(result)))
    return 0


def _options(corpus: str, doc: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=f"make bench-{corpus} ARGS=",
        description=doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="FOLDER",
        default=_BENCHMARKS.parent.parent / "shared" / "data" / corpus,
        help=f"the corpus; any of the same layout will do (default: ../shared/data/{corpus})",
    )
    parser.add_argument(
        "--only", metavar="TEXT", default="", help="only records whose name contains this"
    )
    parser.add_argument(
        "--plots",
        type=Path,
        metavar="FOLDER",
        nargs="?",
        const=_BENCHMARKS / "out" / corpus,
        help=f"draw each record and the corpus as .png there (default: benchmarks/out/{corpus})",
    )
    parser.add_argument(
        "--without",
        choices=[part.channel.name for part in PARTS],
        metavar="CHANNEL",
        default="",
        help="leave a channel out, to see what it is worth: %(choices)s",
    )
    parser.add_argument(
        "--save", type=Path, metavar="FILE.npz", help="keep what the detector said of every row"
    )
    parser.add_argument(
        "--compare",
        type=Path,
        metavar="FILE.npz",
        help="tell by a paired bootstrap if this run is better than a saved one",
    )
    return parser.parse_args()


def _run(bench: QualityBench, options: argparse.Namespace) -> dict[str, Any]:
    if not options.data.is_dir():
        raise LayoutError(f"there is no folder {options.data}")
    if options.plots and not find_spec("matplotlib"):
        raise RunError("--plots: matplotlib is missing; pip install 'watchkeep[plots]'")
    records = [of for of in bench.read(options.data) if options.only in of.name]
    if not records:
        raise RunError(f"--only: no record's name contains {options.only!r}")
    # A saved run that doesn't fit is told before the long part.
    before = load(options.compare, records) if options.compare else None
    rarities, spent_s = _detect(records, options.without)
    if options.save:
        save(options.save, records, rarities)
    judged = bench.judge(records, rarities)
    known_nothing = {
        "always_on": bench.judge(records, controls.always_on(records)).figures,
        "random": bench.judge_random(records),
    }
    for table in bench.tables({"detector": judged.figures} | known_nothing):
        console.print(table)
    result = judged.figures | {
        "records": len(records),
        "rows_per_s": round(sum(of.value.size for of in records) / spent_s),
        "controls": known_nothing,
    }
    if before is not None:
        result["compared"] = _compare(bench, judged, bench.judge(records, before))
    if options.plots:
        options.plots.mkdir(parents=True, exist_ok=True)
        bench.draw(records, rarities, options.plots)
    return result


def _detect(records: Sequence[Recorded], without: str) -> tuple[list[Floats], float]:
    begun_s = time.perf_counter()
    with Progress(console=console) as bar:
        task = bar.add_task("detecting", total=len(records))
        rarities = detector_under_test.rarities(records, lambda _: bar.advance(task), without)
    for record, rarity in zip(records, rarities, strict=True):
        assert rarity.shape == record.time_ms.shape, record.name
        assert rarity.dtype == np.float64, record.name
    return rarities, time.perf_counter() - begun_s


def _compare(bench: QualityBench, now: Judged, before: Judged) -> dict[str, Any]:
    found = bootstrap.paired(now.parts, before.parts, bench.main_of)
    was = float(bench.main_of(before.parts.sum(axis=0)))
    sure = "" if found.low > 0 or found.high < 0 else ": may be luck"
    console.print(
        f"{bench.main_figure} was {was:.3g}; it changed by {found.difference:+.3g}, "
        f"95% of resampled records between {found.low:+.3g} and {found.high:+.3g}{sure}"
    )
    return {"figure": bench.main_figure, "before": was, **found._asdict()}


def save(path: Path, records: Sequence[Recorded], rarities: Sequence[Floats]) -> None:
    """Keep a run's rarities by the records' names."""
    named = {_KEY + of.name: rarity for of, rarity in zip(records, rarities, strict=True)}
    with path.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **named)


def load(path: Path, records: Sequence[Recorded]) -> list[Floats]:
    """Read what a saved run said of these records."""
    if not path.is_file():
        raise RunError(f"--compare: there is no saved run {path}")
    with np.load(path) as file:
        missing = [of.name for of in records if _KEY + of.name not in file]
        if missing:
            raise RunError(f"--compare: {path} is of another corpus: it lacks {missing[0]}")
        found: list[Floats] = [file[_KEY + of.name] for of in records]
    for record, rarity in zip(records, found, strict=True):
        if rarity.shape != record.time_ms.shape:
            raise RunError(f"--compare: {path} is of another corpus: {record.name} has other rows")
    return found


def _plain(value: Any) -> Any:  # noqa: ANN401 - It is whatever JSON may hold.
    """Round for JSON, which knows no NaN."""
    if isinstance(value, Mapping):
        return {key: _plain(of) for key, of in value.items()}
    if isinstance(value, float):
        return round(value, 4) if math.isfinite(value) else None
    return value
