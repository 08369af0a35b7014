"""`make bench-kpi`: how well single series are watched, as a person on call sees it.

The corpus holds one series a file, with short faults: AIOps-2018 KPI, or any folder of .npz files
with `value` [T], `label` [T], `split`, and `timestamp` [T] in seconds or `step_s`. Rows before
`split` are seen without their labels; the rest is scored.

An alert is a run of alarms at most 10 rows apart; it fires again every 30 rows. It is false if it
overlaps no labelled segment. A segment is found if an alarm falls in its first 8 rows. No threshold
is chosen: a budget of false alerts a week is asked for, and `false_alerts_per_week` is what was
got. Recall, precision, event_f1 and delay7_f1 are those at a budget of 1; fa_at_0_3 and recall_at_3
are what another budget got, and `budgets` holds all of them. within_factor_3 is the share of series
whose count of false alerts is within a factor 3 of what was asked, limits rounded outwards to whole
alerts.

delay7_f1 is only for comparing with papers. The controls alarm always, and at random.
"""

import sys

from event_bench import EventBench
from events import SOON_ROWS
from quality_run import main


class KpiBench(EventBench):
    """Faults are short, and must be found soon."""

    corpus = "kpi"
    budget = 1.0
    soon_rows = SOON_ROWS


if __name__ == "__main__":
    sys.exit(main(KpiBench(), __doc__))
