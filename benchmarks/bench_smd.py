"""`make bench-smd`: how well servers of many metrics are watched, as a person on call sees it.

The corpus holds one server a file, with long faults: the Server Machine Dataset, or any folder of
.npz files with `value` [T, metrics], `label` [T], `split`, and `step_s` or `timestamp` [T] in
seconds. Rows before `split` are seen without their labels; the rest is scored.

A server has one rarity a row, whatever the number of its metrics. An alert is a run of alarms at
most 10 rows apart; it fires again every 30 rows. It is false if it overlaps no labelled segment. A
segment is found if an alarm falls in it. No threshold is chosen: a budget of false alerts a week is
asked for, and `false_alerts_per_week` is what a server got. Recall, precision, event_f1 and
delay7_f1 are those at a budget of 3; `budgets` holds all of them. within_factor_3 is the share of
servers whose count of false alerts is within a factor 3 of what was asked, limits rounded outwards
to whole alerts.

delay7_f1 is only for comparing with papers. The controls alarm always, and at random.
"""

import sys

from event_bench import EventBench
from quality_run import main


class SmdBench(EventBench):
    """Faults are long, and whatever finds them helps."""

    corpus = "smd"
    budget = 3.0
    soon_rows = None


if __name__ == "__main__":
    sys.exit(main(SmdBench(), __doc__))
