"""The doctor at the signals: can anything fire yet, and is anything set so that it hardly can."""

from datetime import UTC, datetime
from typing import Final
from zoneinfo import ZoneInfo

from watchkeep.schemas.settings import Detect
from watchkeep.schemas.text import duration
from watchkeep.streams.findings import Finding, Level
from watchkeep.streams.lookup import Warmth

STAGE: Final = "signals"
# So many cells make a signal warm; tests compare it with the detectors', which are slow to import.
WARM_CELLS: Final = 61
# Windows a week: fewer is less than two a year of an entity.
_LOW_BUDGET: Final = 0.04


def of_warmth(warmth: Warmth) -> Finding:
    """Judge whether anything can fire."""
    page, asleep, warm, next_s = warmth
    sleeping = f", {asleep:,} sleep, as they were constant up to now" if asleep else ""
    if warm:
        learning = page - warm - asleep
        told = f"{warm:,} of {page:,} signals that may page are warm{sleeping}"
        told += f", {learning:,} are learning" if learning else ""
        return Finding(Level.OK, STAGE, told)
    if not page:
        told = "none is known yet that may page"
        advice = "detect tells every minute what it watches; if it stays so, `watchkeep signals "
        advice += "list` shows what there is, and docs/signals.md how to make a signal page"
        return Finding(Level.WARN, STAGE, told, advice, blocks=True)
    if page == asleep:
        told = f"nothing can fire yet: all {page:,} that may page were constant up to now"
        advice = "they are scored once they move; is there any load?"
        return Finding(Level.WARN, STAGE, told, advice, blocks=True)
    told = f"nothing can fire yet: 0 of {page:,} signals that may page are warm{sleeping}"
    if next_s is not None:
        told += f"; the first will be in about {duration(next_s)} of samples"
    advice = "wait: a signal is judged once it has an hour of history, by time of day after a day"
    return Finding(Level.WARN, STAGE, told, advice, blocks=True)


def of_budgets(settings: Detect) -> list[Finding]:
    """Tell of budgets that hardly anything can pass."""
    budgets = [("detect.budget", settings.budget)]
    budgets += [
        (f"detect.budgets[{n}], for {rule.entity}", rule.budget)
        for n, rule in enumerate(settings.budgets)
    ]
    return [
        Finding(
            Level.WARN,
            "budget",
            f"{name} = {budget:g}: only what is seen once in {1 / budget:.0f} weeks opens a window",
            "raise it to what you would bear of each a week; 1 is the default",
        )
        for name, budget in budgets
        if budget <= _LOW_BUDGET
    ]


def of_days(settings: Detect, now_ms: int) -> list[Finding]:
    """Tell whether today teaches nothing."""
    zone = ZoneInfo(settings.time_zone)
    today = datetime.fromtimestamp(now_ms / 1000, UTC).astimezone(zone).date()
    if today not in settings.excluded_days:
        return []
    told = f"today, {today} in {settings.time_zone}, is one of detect.excluded_days"
    advice = "nothing is learnt today, and what is new doesn't become warm; what is warm fires"
    return [Finding(Level.WARN, "days", told, advice)]
