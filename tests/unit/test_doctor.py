"""What the doctor finds, and what it says to do."""

import json
from pathlib import Path

import pytest
from rich.console import Console

from small_catalogue import AT_MS, CART, HOSTILE, fill
from watchkeep.schemas.settings import Settings
from watchkeep.streams.catalogue import RefusalRow
from watchkeep.streams.doctor import examine, of_store
from watchkeep.streams.doctor_detect import (
    LIMITS,
    of_cells,
    of_limits,
    of_reasons,
    of_senders,
)
from watchkeep.streams.findings import Finding, Level, show, verdict
from watchkeep.streams.lookup import Heard
from watchkeep.streams.memory import ManualClock
from watchkeep.streams.memory_store import MemoryStore

HOUR_MS = 3_600_000
URL = "http://gateway:9201/api/v1/write"
ONE = Heard("prod", "", AT_MS - 5_000, AT_MS, 64, 64, AT_MS)
A = ONE._replace(replica="a")
B = ONE._replace(replica="b", elected=0)


def judged(*senders: Heard, now_ms: int | None = AT_MS, folded: bool = True) -> list[Finding]:
    return of_senders(senders, now_ms, URL, folded=folded)


def levels(found: list[Finding]) -> list[str]:
    return [finding.level.value for finding in found]


async def test_what_detect_has_written_is_judged() -> None:
    clock = ManualClock(AT_MS + 30_000)
    store = MemoryStore(clock)
    await fill(store)
    found = await of_store(store, Settings(), clock)
    assert verdict(found) == "it works, and 2 things want a look"
    wanting = [finding.told for finding in found if finding.level is Level.WARN]
    told = "detect.signals_per_entity = 1000: refused 37 for shop/cart, e.g. http_requests_total"
    assert wanting[0].startswith(told)
    assert wanting[1].startswith("late: 9, ")


async def test_an_hour_later_it_is_all_too_old_unless_event_time_counts() -> None:
    clock = ManualClock(AT_MS + 60_000)
    store = MemoryStore(clock)
    await fill(store)
    clock.time_ms += HOUR_MS
    wall = await of_store(store, Settings(), clock)
    bad = [finding.told for finding in wall if finding.level is Level.BAD]
    assert [told[:33] for told in bad] == [
        "detect reported 1 h ago; as of th",
        "the newest cell is of 2026-03-02 ",
    ]
    event = await of_store(store, Settings(clock="event"), clock)
    assert Level.BAD not in [finding.level for finding in event]


async def test_an_empty_store_says_where_to_write() -> None:
    found = await of_store(MemoryStore(), Settings(), ManualClock(AT_MS))
    assert levels(found)[:2] == ["bad", "warn"]
    assert "http://127.0.0.1:9201/api/v1/write" in found[0].advice


def test_cells_without_senders_are_only_early() -> None:
    assert levels(judged()) == ["warn"]
    assert levels(judged(folded=False)) == ["bad"]


def test_a_sender_is_told_with_its_lag() -> None:
    report, sender = judged(ONE, now_ms=AT_MS + 120_000)
    assert report.told == "detect reported 2 min ago; as of then:"
    assert sender.told == "cluster prod: heard 0 s ago, its samples 5 s behind"
    assert levels([report, sender]) == ["ok", "ok"]


def test_of_a_pair_it_is_told_who_is_elected() -> None:
    told = [finding.told for finding in judged(A, B, B._replace(replica="c", elected=7))]
    assert told[1].startswith("cluster prod, replica a, elected: ")
    assert told[2].startswith("cluster prod, replica b, standby: ")
    assert told[3].startswith("cluster prod, replica c, elected in 7 of 64 shards: ")


def test_a_silent_sender_is_bad_unless_another_took_over() -> None:
    silent_a, silent_b = (one._replace(heard_ms=AT_MS - 120_000) for one in (A, B))
    assert levels(judged(A, silent_b)) == ["ok", "ok", "warn"]
    assert levels(judged(A, silent_b._replace(elected=3))) == ["ok", "ok", "warn"]
    assert levels(judged(silent_a, silent_b)) == ["ok", "bad", "warn"]
    assert levels(judged(A, silent_a._replace(replica="other"))) == ["ok", "ok", "bad"]


def test_a_backlog_is_told() -> None:
    *_, finding = judged(ONE._replace(newest_ms=AT_MS - HOUR_MS))
    assert finding.level is Level.WARN
    assert "backlog" in finding.advice


@pytest.mark.parametrize(
    ("newest_ms", "now_ms", "level"),
    [
        (None, AT_MS, Level.WARN),
        (AT_MS - 100_000, AT_MS, Level.OK),
        (AT_MS - HOUR_MS, AT_MS, Level.BAD),
        (AT_MS - HOUR_MS, None, Level.OK),
    ],
)
def test_cells_have_to_be_new(newest_ms: int | None, now_ms: int | None, level: Level) -> None:
    assert of_cells(newest_ms, now_ms, 60).level is level


def test_each_limit_has_a_line_with_its_setting_and_an_example() -> None:
    refusals = [
        RefusalRow(CART, "signals_per_entity", 30, "http_requests_total{}", AT_MS),
        RefusalRow("job/c//x", "signals_per_entity", 7, "up", AT_MS),
        RefusalRow(CART, "members_per_entity", 2, f"pod {HOSTILE}", AT_MS),
        RefusalRow("", "entities", 1, "", AT_MS),
    ]
    found = of_limits(refusals, {"signals_per_entity": 1000, "entities": 5})
    assert [finding.told for finding in found] == [
        (
            "detect.signals_per_entity = 1000: refused 37 for 2 entities, most for shop/cart, e.g. "
            "http_requests_total{}"
        ),
        "detect.entities = 5: refused 1",
        "detect.members_per_entity: refused 2 for shop/cart, e.g. pod [red]x [2J",
        "detect.new_series_per_minute: has refused nothing",
    ]
    assert levels(found) == ["warn", "warn", "warn", "ok"]
    assert all(finding.advice for finding in found[:3])
    assert len(found) == len(LIMITS)


def test_reasons_are_told_with_what_to_do() -> None:
    refusals = [
        RefusalRow("", "standby_replica", 900, "b", AT_MS),
        RefusalRow("", "late", 4, "", AT_MS),
        RefusalRow("", "late", 3, "sender b", AT_MS + 60_000),
        RefusalRow("", "brand_new", 1, "", AT_MS),
    ]
    standby, late, new = of_reasons(refusals)
    assert (standby.level, late.level, new.level) == (Level.OK, Level.WARN, Level.WARN)
    assert late.told == "late: 7, last 2026-03-02 00:01 UTC, e.g. sender b"
    assert levels(of_reasons([])) == ["ok"]


async def test_wrong_settings_are_a_finding(tmp_path: Path) -> None:
    file = tmp_path / "w.toml"
    file.write_text("[detect]\nstep = 3\n")
    found, last = await examine(file, ManualClock())
    assert last.told.startswith("first in the way is settings: ")
    assert found.level is Level.BAD
    assert "detect.step: no setting has this name" in found.told


async def test_servers_that_do_not_answer_are_findings(tmp_path: Path) -> None:
    file = tmp_path / "w.toml"
    file.write_text(
        '[broker]\nbootstrap = "127.0.0.1:1"\n[database]\nurl = "postgresql://u:hunter2@127.0.0.1:1/x"\n'
    )
    settings, broker, database, *_ = await examine(file, ManualClock())
    assert levels([settings, broker, database]) == ["ok", "bad", "bad"]
    assert "no Kafka answers at 127.0.0.1:1" in broker.told
    assert "hunter2" not in database.told


@pytest.mark.parametrize("width", [80, 120])
def test_people_and_programs_are_told(width: int) -> None:
    found = [Finding(Level.OK, "a", "fine"), Finding(Level.BAD, "b", f"b[bold]{HOSTILE}", "do x")]
    console = Console(width=width, force_terminal=False)
    with console.capture() as capture:
        show(console, found, as_json=False)
    lines = [line.rstrip() for line in capture.get().splitlines()]
    assert lines == [
        "ok   a  fine",
        "bad  b  b[bold][red]x [2J",
        "        -> do x",
        "",
        "1 thing is wrong",
    ]
    with console.capture() as capture:
        show(console, found, as_json=True)
    assert json.loads(capture.get().splitlines()[0]) == {
        "level": "ok",
        "stage": "a",
        "told": "fine",
        "advice": "",
    }
