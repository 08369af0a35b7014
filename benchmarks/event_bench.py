"""A corpus judged by what a person on call would get from it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from rich.table import Table

import controls
import event_figures
import events
import quality_plots
from corpora import Floats, Recorded, npz_corpus
from quality_run import Judged, QualityBench


class EventBench(QualityBench):
    """Alerts at budgets, over a folder of .npz files.

    Attributes:
        budget: the main one, of false alerts an entity has a week.
        soon_rows: a segment must be found within so many of its rows; None: anywhere in it.
    """

    main_figure: ClassVar[str] = "event_f1"
    budget: ClassVar[float]
    soon_rows: ClassVar[int | None]

    def read(self, folder: Path) -> list[Recorded]:
        """Read every .npz file of a folder."""
        return npz_corpus(folder)

    def judge(self, records: Sequence[Recorded], rarities: Sequence[Floats]) -> Judged:
        """Count alerts at every budget."""
        tallies = event_figures.at_budgets(records, rarities, self.soon_rows)
        figures = event_figures.summary(tallies, self.budget)
        main = tallies[self.budget]
        figures["per_record"] = event_figures.per_record(records, main)
        return Judged(figures, events.table(main))

    def main_of(self, sums: Floats) -> Floats:
        """Compute the event-F1 from sums of tallies."""
        return events.event_f1(sums)

    def tables(self, figures: Mapping[str, Mapping[str, Any]]) -> list[Table]:
        """Show every budget."""
        return [event_figures.budget_table(figures)]

    def lines(self, records: Sequence[Recorded], rarities: Sequence[Floats]) -> dict[str, float]:
        """Name thresholds to draw besides the budgets'; the alerts of the first are marked."""
        del records, rarities
        return {}

    def draw(self, records: Sequence[Recorded], rarities: Sequence[Floats], folder: Path) -> None:
        """Draw each record, the budgets, and precision against recall."""
        lines = self.lines(records, rarities)
        levels = {f"{of:g} a week": events.level(of) for of in event_figures.BUDGETS}
        main = next(iter(lines), f"{self.budget:g} a week")
        quality_plots.draw_records(records, rarities, lines | levels, main, folder)
        tallies = event_figures.at_budgets(records, rarities, self.soon_rows)
        quality_plots.draw_budgets(tallies, folder / "budgets.png")
        curves = {
            "detector": self._curve(records, rarities),
            "random": self._curve(records, controls.random(records)),
            "always on": self._curve(records, controls.always_on(records)),
        }
        totals = {budget: events.total(of) for budget, of in tallies.items()}
        marks = {
            f"{budget:g}": (events.recall(of), events.precision(of))
            for budget, of in totals.items()
        }
        quality_plots.draw_curves(curves, marks, folder / "precision-recall.png")

    def _curve(self, records: Sequence[Recorded], rarities: Sequence[Floats]) -> Floats:
        return event_figures.curve(records, rarities, self.soon_rows)
