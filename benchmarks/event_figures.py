"""The figures of alerts over a corpus, at several budgets and over all thresholds."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from rich.table import Table

import events
from corpora import Floats, Recorded
from events import Tally

BUDGETS: Final = (0.3, 1.0, 3.0, 10.0)  # False alerts an entity has a week.

_LEVELS: Final = 50
_LEVEL_ROWS_MIN: Final = 10  # Fewer alarms in a whole corpus say nothing.

Tallies = Mapping[float, Sequence[Tally]]


def at_budgets(
    records: Sequence[Recorded], rarities: Sequence[Floats], soon_rows: int | None
) -> dict[float, list[Tally]]:
    """Count every record's alerts at every budget, in the records' order."""
    return {
        budget: [
            events.tally(record, rarity, events.level(budget), soon_rows)
            for record, rarity in zip(records, rarities, strict=True)
        ]
        for budget in BUDGETS
    }


def figures(tallies: Sequence[Tally], budget: float) -> dict[str, float]:
    """Name what a corpus got at one budget."""
    total = events.total(tallies)
    return {
        "event_f1": float(events.event_f1(np.array(total))),
        "precision": events.precision(total),
        "recall": events.recall(total),
        "false_alerts_per_week": events.false_a_week(total),
        "within_factor_3": events.within_factor(tallies, budget),
        "delay7_f1": events.delay7_f1(total),
    }


def summary(tallies: Tallies, main: float) -> dict[str, Any]:
    """Name what a corpus got at its main budget, and some of what it got at the others."""
    each = {budget: figures(of, budget) for budget, of in tallies.items()}
    named = {budget: f"{budget:g}".replace(".", "_") for budget in each}
    return (
        each[main]
        | {f"fa_at_{named[budget]}": of["false_alerts_per_week"] for budget, of in each.items()}
        | {f"recall_at_{named[budget]}": of["recall"] for budget, of in each.items()}
        | {"budgets": {f"{budget:g}": of for budget, of in each.items()}}
    )


def per_record(
    records: Sequence[Recorded], tallies: Sequence[Tally]
) -> dict[str, dict[str, float]]:
    """Name what each record got at one budget."""
    return {
        record.name: {
            "weeks": of.weeks,
            "segments": of.segments,
            "found": of.found,
            "alerts": of.alerts,
            "false_alerts": of.alerts - of.true_alerts,
        }
        for record, of in zip(records, tallies, strict=True)
    }


def curve(records: Sequence[Recorded], rarities: Sequence[Floats], soon_rows: int | None) -> Floats:
    """Follow precision and recall as the threshold falls over the whole corpus.

    Returns:
        float64[n, 2]: recall, precision; only where there are alerts.
    """
    scored = [rarity[of.split :] for of, rarity in zip(records, rarities, strict=True)]
    level = np.sort(np.concatenate([part[part > -np.inf] for part in scored]))[::-1]
    if len(level) < _LEVEL_ROWS_MIN:
        return np.empty((0, 2))
    ranks = np.geomspace(_LEVEL_ROWS_MIN, len(level), _LEVELS).astype(int) - 1
    points = []
    for threshold in dict.fromkeys(level[ranks].tolist()):
        total = events.total(
            [
                events.tally(of, rarity, threshold, soon_rows)
                for of, rarity in zip(records, rarities, strict=True)
            ]
        )
        points.append((events.recall(total), events.precision(total)))
    return np.array(points)


def budget_table(figures: Mapping[str, Mapping[str, Any]]) -> Table:
    """Lay out what each run got at each budget, for a person."""
    table = Table("", "asked", "got", "within 3x", "recall", "precision", "event-F1", "delay-7 F1")
    for column in table.columns[1:]:
        column.justify = "right"
    for name, of in figures.items():
        for budget, got in of["budgets"].items():
            table.add_row(
                name,
                budget,
                f"{got['false_alerts_per_week']:.2f}",
                f"{got['within_factor_3']:.0%}",
                f"{got['recall']:.2f}",
                f"{got['precision']:.2f}",
                f"{got['event_f1']:.3f}",
                f"{got['delay7_f1']:.3f}",
            )
        table.add_section()
    table.caption = "asked, got: false alerts that an entity has a week"
    return table
