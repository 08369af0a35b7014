"""What the doctor finds behind the gateway: stages, signals, and whom alerts reach."""

from datetime import date

import pytest
from pydantic import SecretStr

from small_catalogue import AT_MS, HOSTILE
from watchkeep.detectors.bank import PARTS
from watchkeep.schemas.settings import BudgetRule, Detect, Notify
from watchkeep.streams.doctor_ask import SILENCE, Answer
from watchkeep.streams.doctor_notify import (
    of_alerting,
    of_deliveries,
    of_receivers,
    of_troubles,
)
from watchkeep.streams.doctor_signals import WARM_CELLS, of_budgets, of_days, of_warmth
from watchkeep.streams.doctor_stages import of_all, of_stage
from watchkeep.streams.findings import Finding, Level, first_cause
from watchkeep.streams.lookup import Alerting, Channel, Warmth
from watchkeep.streams.stores import Trouble

RUNS = Answer("http://d:9202")
BUSY = Answer("http://d:9202", "no answer within 5 s")
GONE = Answer("http://d:9202", SILENCE)
NOTHING = Alerting(0, 0, 0, 0, None)
FIRED = Alerting(3, 1, 7, 0, AT_MS)
LATER_MS = AT_MS + 600_000
URL = "json://user:hunter2@127.0.0.1:8080/alerts"


def behind(records: float) -> Answer:
    labels = {"topic": "watchkeep.metrics.v1", "partition": "0"}
    return Answer("http://d:9202", samples={"watchkeep_lag_records": [(labels, records)]})


@pytest.mark.parametrize(
    ("answer", "active", "level", "words"),
    [
        (RUNS, None, Level.OK, "it runs, and has read all"),
        (behind(64), None, Level.OK, "it runs, 64 records behind"),
        (behind(50_000), None, Level.WARN, "50,000 records behind in watchkeep.metrics.v1"),
        (Answer("x", not_ready="wedged\x1b"), None, Level.BAD, "it can't do its work: wedged"),
        (GONE, None, Level.BAD, "http://d:9202 is where it should tell"),
        (GONE, "", Level.BAD, "http://d:9202 is where it should tell"),
        (GONE, "host-7", Level.OK, "http://d:9202 is where it should tell"),
        (BUSY, "host-7", Level.WARN, "http://d:9202 is where it should tell"),
        (None, None, Level.OK, "monitor.port is 0, so it can't be asked"),
        (None, "host-7", Level.OK, "monitor.port is 0, so it can't be asked; it runs all the same"),
        (None, "", Level.BAD, "monitor.port is 0, so it can't be asked"),
    ],
)
def test_a_stage_runs_lags_or_is_gone(
    answer: Answer | None, active: str | None, level: Level, words: str
) -> None:
    (found,) = of_stage("incidents", answer, active=active)
    assert found.level is level
    assert found.told.startswith(words)
    assert bool(found.advice) == (level is not Level.OK)


def test_a_lease_says_who_runs_elsewhere() -> None:
    answers = dict.fromkeys(("detect", "incidents", "notify"), GONE)
    found = of_all(answers, {"incidents": "host-7"}, reports=True)
    levels = {stage: one.level.value for stage, (one,) in found.items()}
    assert levels == {"detect": "ok", "incidents": "ok", "notify": "bad"}
    found = of_all(answers, None, reports=False)
    assert {one.level for (one,) in found.values()} == {Level.BAD}


def test_an_hour_of_cells_makes_a_signal_warm() -> None:
    """The rarities' blocks, and the cell in which they are first looked at."""
    rarity = PARTS[0].rarity
    assert rarity.block_cells * rarity.warm_blocks + 1 == WARM_CELLS


@pytest.mark.parametrize(
    ("warmth", "blocks", "words"),
    [
        (Warmth(0, 0, 0, None), True, "none is known yet that may page"),
        (Warmth(4, 4, 0, None), True, "nothing can fire yet: all 4 that may page were constant"),
        (
            Warmth(9, 2, 0, 1_860),
            True,
            (
                "nothing can fire yet: 0 of 9 signals that may page are warm, 2 sleep, as they "
                "were constant up to now; the first will be in about 31 min of samples"
            ),
        ),
        (
            Warmth(9, 2, 3, 60),
            False,
            "3 of 9 signals that may page are warm, 2 sleep, as they were ",
        ),
    ],
)
def test_it_is_told_whether_anything_can_fire(warmth: Warmth, blocks: bool, words: str) -> None:
    found = of_warmth(warmth)
    assert found.told.startswith(words)
    assert found.blocks is blocks
    assert found.level is (Level.WARN if blocks else Level.OK)


def test_budgets_that_nothing_passes_are_told() -> None:
    assert of_budgets(Detect()) == []
    rules = (BudgetRule(entity="node/*", budget=1), BudgetRule(entity="job/*", budget=0.02))
    first, second = of_budgets(Detect(budget=0.01, budgets=rules))
    assert first.told == (
        "detect.budget = 0.01: only what is seen once in 100 weeks opens a window"
    )
    assert second.told.startswith("detect.budgets[1], for job/* = 0.02: ")


def test_a_day_that_is_left_out_is_told_in_its_zone() -> None:
    # It is 2026-03-02 00:00 in UTC.
    settings = Detect(excluded_days=(date(2026, 3, 1),), time_zone="America/New_York")
    (found,) = of_days(settings, AT_MS)
    assert found.told == "today, 2026-03-01 in America/New_York, is one of detect.excluded_days"
    assert of_days(settings.model_copy(update={"time_zone": "UTC"}), AT_MS) == []


def test_receivers_are_told_without_their_secrets() -> None:
    (found,), names = of_receivers(Notify(urls=(SecretStr(URL),)))
    assert found.level is Level.OK
    assert found.told.startswith("alerts go to notify.urls[0], json-")
    assert list(names.values())[1:] == ["the terminal"]
    assert "hunter2" not in found.told
    (wrong,), _ = of_receivers(Notify(urls=(SecretStr("nonsense://hunter2"),)))
    assert (wrong.level, "hunter2" in str(wrong)) == (Level.BAD, False)


def test_the_terminal_alone_is_little_and_nobody_is_bad() -> None:
    (terminal,), names = of_receivers(Notify())
    assert (terminal.level, names) == (Level.WARN, {"terminal": "the terminal"})
    (nobody,), names = of_receivers(Notify(terminal=False))
    assert (nobody.level, names) == (Level.BAD, {})


def test_deliveries_are_judged_by_the_last() -> None:
    names = {"json-1": "notify.urls[0], json-1", "json-2": "notify.urls[1], json-2"}
    channels = [
        Channel("json-1", 5, 1, works=True, error="", at_ms=AT_MS),
        Channel("json-2", 5, 2, works=False, error=f"answered {HOSTILE}", at_ms=AT_MS),
        Channel("gone-3", 0, 9, works=False, error="", at_ms=AT_MS),
    ]
    works, fails = of_deliveries(channels, names, FIRED, LATER_MS)
    told = "notify.urls[0], json-1: 5 sent, 1 failed, the last one sent 10 min ago"
    assert (works.level, works.told) == (Level.OK, told)
    assert fails.level is Level.BAD
    assert fails.told.endswith("the last one failed 10 min ago: answered [red]x [2J")


def test_what_was_never_delivered_is_told_once_it_is_late() -> None:
    names = {"terminal": "the terminal"}
    (early,) = of_deliveries([], names, NOTHING, LATER_MS)
    assert early.level is Level.OK
    assert of_deliveries([], names, FIRED, AT_MS + 5_000) == []
    (never,) = of_deliveries([], names, FIRED, LATER_MS)
    assert never.told == "nothing was ever delivered, and there are 7 revisions of alerts"


def test_incidents_are_counted_and_an_outbox_that_stays_is_bad() -> None:
    (none,) = of_alerting(NOTHING, LATER_MS)
    assert none.told == "no window has made an incident so far"
    (some,) = of_alerting(FIRED._replace(unpublished=1), AT_MS + 1_000)
    assert some.told == "3 incidents so far, 1 of them firing; the last alert was written 1 s ago"
    _, stuck = of_alerting(FIRED._replace(unpublished=2), LATER_MS)
    assert stuck.told == "2 revisions of alerts wait to be published"
    (trouble,) = of_troubles([Trouble("a", f"died {HOSTILE}", "see the log")])
    assert (trouble.told, trouble.advice) == ("died [red]x [2J", "see the log")


def test_the_first_that_is_in_the_way_is_the_verdict() -> None:
    fine = Finding(Level.OK, "broker", "fine")
    learning = Finding(Level.WARN, "signals", "0 are warm", "wait", blocks=True)
    little = Finding(Level.WARN, "receivers", "only the terminal", "set notify.urls")
    bad = Finding(Level.BAD, "deliveries", "failed", "see the log")
    assert first_cause([fine, little]).level is Level.OK
    assert "nothing is in the way" in first_cause([fine, little]).told
    verdict = first_cause([fine, little, learning, bad])
    assert verdict.told == "first in the way is signals: 0 are warm"
    assert (verdict.level, verdict.advice) == (Level.WARN, "wait")
