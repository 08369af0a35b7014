"""`make bench-shop-quality`: how well detection works on the simulated shop, over several seeds.

Each seed is another shop: what befalls it and when, its users, its noise. Its quiet history is
taken in first, then come the live days, one fault after the other and calm between them. Samples go
the way that they go in production, from the gateway's frames to alerts, without broker and
database.

A fault is found if its root, or an entity that it really affects, pages between its onset and ten
minutes after its end. All other pages after warm-up are false, those of what only looks like a
fault too. false_alerts_per_week is by the shop's services; false alerts of nodes, cron jobs and
what runs beside the services count as theirs, and by kind of entity they are told as well.
found_by_chance_share is what the false alerts would find if they came at other times.

Three shops without faults tell of what often pages falsely. deploy_20 is the false alerts of a
service in the week after a deploy that adds 20 metrics, deploy_20_without those of the same
services without the metrics, and cron_hourly those of a cron job that runs hourly, in a week.
"""

import argparse
import json
import math
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Final, NamedTuple

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from shop_detection import RefusedError, alerts, entities
from shop_figures import Judged, figures, judged, tables
from shop_specials import Special, cron_hourly, deploy
from watchkeep.schemas.errors import ConfigError
from watchkeep.schemas.settings import Detect
from watchkeep.shop.blueprint import FULL, Blueprint
from watchkeep.shop.kinds import Kind
from watchkeep.shop.model import Shop
from watchkeep.shop.strikes import chosen

_OUT: Final = Path(__file__).resolve().parent / "out" / "shop-quality"

console = Console(stderr=True, highlight=False, width=110)
_Task = Callable[[], Judged | Special]


class Asked(NamedTuple):
    """What each seed is run with.

    Attributes:
        days: when faults come, after `days_before` without any.
    """

    blueprint: Blueprint
    kinds: Mapping[str, Kind]
    days: float
    days_before: int
    settings: Detect


def run(seed: int, asked: Asked) -> Judged:
    """Run one shop through detection, and judge its alerts."""
    shop = Shop(
        seed,
        asked.days,
        blueprint=asked.blueprint,
        kinds=asked.kinds,
        days_before=asked.days_before,
    )
    return judged(shop, alerts(shop, asked.settings), entities(shop))


def settings_of(budget: float) -> Detect:
    """Make detection's settings."""
    return Detect(budget=budget)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure as the command line asks; print one JSON object."""
    options = _options(arguments)
    if options.plots and not find_spec("matplotlib"):
        console.print(
            "--plots: matplotlib is missing; pip install 'watchkeep[plots]'", markup=False
        )
        return 2
    begun_s = time.perf_counter()
    try:
        kinds = chosen(options.faults, FULL)
        settings = settings_of(options.budget)
        asked = Asked(FULL, kinds, options.days, options.days_before, settings)
        runs, specials = _all(options.seeds, asked, options.workers, special=options.special)
    except (ConfigError, RefusedError) as error:
        console.print(str(error), soft_wrap=True, markup=False)
        return 2
    told = figures(runs)
    for table in tables(told):
        console.print(table)
        console.print()
    result = told | {special.name: special.false_a_week for special in specials}
    result |= {
        "budget": options.budget,
        "seeds": options.seeds,
        "days": options.days,
        "days_before": options.days_before,
        "spent_s": round(time.perf_counter() - begun_s),
    }
    if options.plots:
        _draw(runs, options.budget, options.plots)
    print(json.dumps(result))
    return 0


def _all(
    seeds: int, asked: Asked, workers: int, *, special: bool
) -> tuple[list[Judged], list[Special]]:
    """Run all seeds and special shops, several at once."""
    tasks: list[_Task] = [partial(run, seed, asked) for seed in range(1, seeds + 1)]
    if special:
        tasks += _specials(asked)
    runs, specials = list[Judged](), list[Special]()
    columns = (TextColumn("{task.description}"), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("shops", total=len(tasks))
        for done in _each(tasks, workers):
            bar.advance(task)
            bar.console.print(_line(done))
            if isinstance(done, Judged):
                runs.append(done)
            else:
                specials.append(done)
    return sorted(runs, key=lambda of: of.seed), sorted(specials, key=lambda of: of.name)


def _specials(asked: Asked) -> list[_Task]:
    given = (asked.days_before, asked.settings)
    return [
        partial(deploy, "deploy_20", *given, grows=True),
        partial(deploy, "deploy_20_without", *given, grows=False),
        partial(cron_hourly, "cron_hourly", *given),
    ]


def _each(tasks: Sequence[_Task], workers: int) -> Iterator[Judged | Special]:
    if workers == 1:
        yield from (task() for task in tasks)
        return
    # A process that is forked would inherit the thread that draws the progress.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        # The longest come last in the list, and begin first.
        for future in as_completed([pool.submit(task) for task in reversed(tasks)]):
            yield future.result()


def _line(of: Judged | Special) -> str:
    if isinstance(of, Special):
        return f"{of.name}: {of.false_a_week:.2f} false alerts an entity and week"
    faults = of.faults
    found = sum(finding.alert is not None for finding in faults)
    return (
        f"seed {of.seed}: found {found} of {len(faults)} faults, {len(of.false)} false alerts, "
        f"{of.false_a_week:.2f} a service and week"
    )


def _draw(runs: Sequence[Judged], budget: float, folder: Path) -> None:
    # An extra; only plots need it.
    import shop_quality_plots  # noqa: PLC0415 - As said above.

    folder.mkdir(parents=True, exist_ok=True)
    shop_quality_plots.draw(runs, budget, folder)
    console.print(f"drawn into {folder}", soft_wrap=True)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make bench-shop-quality ARGS=",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--seeds", type=_number(int, 1), default=10, metavar="N", help="run seeds 1 to N (10)"
    )
    parser.add_argument(
        "--days",
        type=_number(float, 0.2, 60),
        default=1.5,
        help="live days of each, of which the first two hours are warm-up (%(default)s)",
    )
    parser.add_argument(
        "--days-before",
        type=_number(int, 0, 60),
        default=4,
        metavar="DAYS",
        help="quiet days that detection learns from first (%(default)s)",
    )
    parser.add_argument(
        "--faults", type=Path, metavar="FOLDER", help="kinds of faults instead of the shipped ones"
    )
    parser.add_argument(
        "--budget",
        type=_number(float, 0.01, 100),
        default=1.0,
        help="false alerts to accept an entity and week (%(default)s)",
    )
    parser.add_argument(
        "--no-special",
        dest="special",
        action="store_false",
        help="leave out the shops without faults, a third of the time",
    )
    parser.add_argument(
        "--workers",
        type=_number(int, 1),
        default=os.cpu_count() or 1,
        metavar="N",
        help="processes (%(default)s)",
    )
    parser.add_argument(
        "--plots",
        type=Path,
        metavar="FOLDER",
        nargs="?",
        const=_OUT,
        help="draw the result as .png there (benchmarks/out/shop-quality)",
    )
    return parser.parse_args(arguments)


def _number(
    kind: Callable[[str], float], least: float, most: float = math.inf
) -> Callable[[str], float]:
    def number(text: str) -> float:
        value = kind(text)
        if not least <= value <= most:
            limits = f"at least {least:g}" + ("" if most == math.inf else f" and at most {most:g}")
            raise argparse.ArgumentTypeError(f"{text} won't do: it must be {limits}")
        return value

    return number


if __name__ == "__main__":
    sys.exit(main())
