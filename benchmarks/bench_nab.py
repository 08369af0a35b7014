"""`make bench-nab`: the scores of the Numenta Anomaly Benchmark.

The corpus is a folder with data/<category>/<file>.csv (timestamp, value), labels/
combined_windows.json and profiles.json, as numenta/NAB publishes it.

`standard`, `low_fp` and `low_fn` are the official scores: one threshold for the whole corpus and
each profile, the best there is. 0 is what no alarm at all gets, 100 an alarm at the first row of
each window and no other. `standard_loco` chooses the threshold of each category on all the others,
and is what to expect of data like these. `standard_at_budget` chooses none: alarms are what a
budget of alerts a week says.

`budgets` is what a person on call would get; see `make bench-kpi ARGS=--help`. Here a window is
found by any alarm in it. The controls alarm always, and at random; the latter is the mean of 20
runs, for one may be ten points from another.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.table import Table

import controls
import event_figures
import events
import nab_scoring
from corpora import Floats, Recorded, nab_corpus
from event_bench import EventBench
from nab_scoring import Profile, Steps
from quality_run import Judged, main

_RANDOM_RUNS: Final = 20


class NabBench(EventBench):
    """NAB's own scores, and alerts at budgets beside them."""

    corpus = "nab"
    main_figure = "standard"
    budget = 1.0
    soon_rows = None

    def __init__(self) -> None:
        self._profiles: dict[str, Profile] = {}

    def read(self, folder: Path) -> list[Recorded]:
        """Read the series and the profiles."""
        self._profiles = nab_scoring.profiles(folder)
        return nab_corpus(folder)

    def judge(self, records: Sequence[Recorded], rarities: Sequence[Floats]) -> Judged:
        """Score by every profile, and count alerts at every budget."""
        prepared = _prepared(records, rarities)
        standard = nab_scoring.best(prepared, self._profiles["standard"])
        figures = self._scores(records, prepared) | {
            "standard_threshold": standard.threshold,
            "categories": _by_category(records, standard.parts),
            "budgets": super().judge(records, rarities).figures["budgets"],
        }
        return Judged(figures, standard.parts)

    def judge_random(self, records: Sequence[Recorded]) -> dict[str, Any]:
        """Score several runs, and take the mean."""
        rarities = controls.random(records)
        scores = [
            self._scores(records, _prepared(records, controls.random(records, seed)))
            for seed in range(1, _RANDOM_RUNS + 1)
        ]
        at_budget = {
            budget: float(np.mean([of["standard_at_budget"][budget] for of in scores]))
            for budget in scores[0]["standard_at_budget"]
        }
        means = {
            name: float(np.mean([of[name] for of in scores]))
            for name in scores[0]
            if name != "standard_at_budget"
        }
        figures = self.judge(records, rarities).figures
        return figures | means | {"standard_at_budget": at_budget}

    def main_of(self, sums: Floats) -> Floats:
        """Compute the standard score from what was and what could be earned."""
        return nab_scoring.normalised(sums)

    def tables(self, figures: Mapping[str, Mapping[str, Any]]) -> list[Table]:
        """Show the scores, those of each category, and every budget."""
        return [
            _score_table(figures),
            _category_table(figures),
            event_figures.budget_table(figures),
        ]

    def lines(self, records: Sequence[Recorded], rarities: Sequence[Floats]) -> dict[str, float]:
        """Name the best threshold, if any alarm at all is better than none."""
        best = nab_scoring.best_threshold(_prepared(records, rarities), self._profiles["standard"])
        return {} if np.isnan(best) else {"NAB's best": best}

    def _scores(self, records: Sequence[Recorded], prepared: Sequence[Steps]) -> dict[str, Any]:
        standard = self._profiles["standard"]
        groups = [of.group for of in records]
        return {
            **{name: nab_scoring.best(prepared, of).score for name, of in self._profiles.items()},
            "standard_loco": nab_scoring.leaving_out(prepared, groups, standard)[0],
            "standard_at_budget": {
                f"{budget:g}": nab_scoring.at(prepared, standard, events.level(budget)).score
                for budget in event_figures.BUDGETS
            },
        }


def _prepared(records: Sequence[Recorded], rarities: Sequence[Floats]) -> list[Steps]:
    return [
        nab_scoring.steps(record, rarity) for record, rarity in zip(records, rarities, strict=True)
    ]


def _by_category(records: Sequence[Recorded], parts: Floats) -> dict[str, dict[str, float]]:
    """Tell what each category earned at the standard threshold, and what it could have earned."""
    found = {}
    for group in sorted({of.group for of in records}):
        earned, could = parts[[of.group == group for of in records]].sum(axis=0)
        found[group] = {"earned": float(earned), "of": float(could)}
    return found


def _score_table(figures: Mapping[str, Mapping[str, Any]]) -> Table:
    budgets = next(iter(figures.values()))["standard_at_budget"]
    names = [*nab_scoring.PROFILES, "standard_loco"]
    heads = ["standard", "low FP", "low FN", "leaving out", *(f"at {of} a week" for of in budgets)]
    table = Table("", *heads, caption="NAB; from leaving out on by the standard profile")
    for column in table.columns[1:]:
        column.justify = "right"
    for name, of in figures.items():
        scores = [*(of[key] for key in names), *of["standard_at_budget"].values()]
        table.add_row(name, *(f"{score:.1f}" for score in scores))
    return table


def _category_table(figures: Mapping[str, Mapping[str, Any]]) -> Table:
    table = Table("category", *figures, "of", caption="earned at the best standard threshold")
    for column in table.columns[1:]:
        column.justify = "right"
    for group, first in next(iter(figures.values()))["categories"].items():
        earned = [of["categories"][group]["earned"] for of in figures.values()]
        table.add_row(group, *(f"{value:.1f}" for value in earned), f"{first['of']:.0f}")
    return table


if __name__ == "__main__":
    sys.exit(main(NabBench(), __doc__))
