"""Small cases of alerts and of what they find, computed by hand."""

import math
from pathlib import Path

import numpy as np
import pytest

import events
from bootstrap import paired
from corpora import LayoutError, Recorded, npz_corpus
from events import Tally

MINUTE_MS = 60_000
WEEK = 10_080  # Rows of a minute.


def recorded(rows: int, *segments: tuple[int, int], split: int = 0) -> Recorded:
    return Recorded(
        name="made",
        group="",
        step_ms=MINUTE_MS,
        time_ms=np.arange(rows) * MINUTE_MS,
        value=np.zeros((rows, 1)),
        segments=np.array(segments, np.int64).reshape(-1, 2),
        split=split,
    )


def alarms(rows: int, *at: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    rarity = np.full(rows, -np.inf)
    rarity[list(at)] = 1.0
    return rarity


def alerts(*at: int) -> list[list[int]]:
    alarm = np.zeros(200, bool)
    alarm[list(at)] = True
    found: list[list[int]] = events.alerts(alarm).tolist()
    return found


def test_no_alarm_is_no_alert() -> None:
    assert alerts() == []


def test_alarms_ten_rows_apart_are_one_alert() -> None:
    assert alerts(5, 15, 26) == [[5, 16], [26, 27]]


def test_a_long_run_fires_again_every_thirty_rows() -> None:
    assert alerts(*range(10, 40)) == [[10, 40]]
    assert alerts(*range(10, 41)) == [[10, 40], [40, 41]]
    assert alerts(3, *range(100, 200, 10)) == [
        [3, 4],
        [100, 130],
        [130, 160],
        [160, 190],
        [190, 191],
    ]


def test_always_on_is_many_alerts() -> None:
    always = events.tally(recorded(WEEK), np.full(WEEK, np.inf), events.level(1))
    assert (always.alerts, always.weeks) == (336, 1)
    assert events.false_a_week(always) == 336


def test_an_alert_is_true_if_it_overlaps_a_segment() -> None:
    spans = np.array([[0, 10], [0, 11], [12, 14], [18, 25], [20, 30], [50, 60]])
    segments = np.array([[10, 20], [40, 55]])
    assert events.overlapping(spans, segments).tolist() == [False, True, True, True, False, True]
    assert not events.overlapping(spans, np.empty((0, 2), np.int64)).any()


@pytest.mark.parametrize(("at", "found"), [(99, 0), (100, 1), (107, 1), (108, 0), (119, 0)])
def test_a_segment_may_have_to_be_found_soon(at: int, found: int) -> None:
    made = events.tally(recorded(500, (100, 120)), alarms(500, at), 0.0, events.SOON_ROWS)
    assert made.found == found
    # Late is still about something that was wrong.
    assert made.true_alerts == (at >= 100)


def test_a_long_segment_may_be_found_anywhere_in_it() -> None:
    assert events.tally(recorded(500, (100, 120)), alarms(500, 119), 0.0).found == 1
    assert events.tally(recorded(500, (100, 120)), alarms(500, 120), 0.0).found == 0


def test_an_alarm_after_a_short_segment_is_late() -> None:
    made = events.tally(recorded(500, (100, 103)), alarms(500, 104), 0.0, events.SOON_ROWS)
    assert (made.found, made.true_alerts) == (0, 0)


def test_what_comes_before_the_split_is_not_scored() -> None:
    record = recorded(WEEK, (100, 110), (495, 520), split=500)
    made = events.tally(record, alarms(WEEK, 50, 105, 496, 510), 0.0, events.SOON_ROWS)
    assert (made.segments, made.found) == (1, 0)
    assert (made.alerts, made.true_alerts) == (1, 1)
    assert made.weeks == pytest.approx((WEEK - 500) / WEEK)


def test_a_row_that_is_not_warm_never_alarms() -> None:
    made = events.tally(recorded(100, (10, 20)), np.full(100, np.nan), -5.0)
    assert made.alerts == 0


def test_a_budget_is_a_level() -> None:
    assert [events.level(budget) for budget in (0.1, 1, 10)] == [1, 0, -1]


def test_event_f1_is_of_alerts_and_segments() -> None:
    # Of four alerts, one is true; of two segments, one is found.
    record = recorded(WEEK, (100, 120), (1_000, 1_010))
    made = events.tally(record, alarms(WEEK, 101, 300, 400, 500), 0.0, events.SOON_ROWS)
    assert events.precision(made) == 1 / 4
    assert events.recall(made) == 1 / 2
    assert events.event_f1(np.array(made)) == pytest.approx(1 / 3)
    assert events.false_a_week(made) == 3


def test_nothing_right_is_an_f1_of_zero() -> None:
    nothing = events.tally(recorded(100, (10, 20)), alarms(100), 0.0)
    assert events.event_f1(np.array(nothing)) == 0
    assert events.delay7_f1(nothing) == 0


def test_delay7_f1_counts_whole_segments_found_in_time() -> None:
    record = recorded(500, (100, 120), (200, 205))
    # The first is found late, the second in time; two rows are false.
    made = events.tally(record, alarms(500, 108, 109, 204, 300, 301), 0.0)
    assert (made.true_rows, made.missed_rows, made.false_rows) == (5, 20, 2)
    assert events.delay7_f1(made) == pytest.approx(2 * 5 / (2 * 5 + 20 + 2))


def tally(false: int, weeks: float) -> Tally:
    return Tally(false + 2, 2, 2, 2, weeks, 0, 0, 0)


@pytest.mark.parametrize(
    ("false", "weeks", "within"),
    [
        (0, 2.9, True),
        (0, 3.0, False),
        (1, 3.0, True),
        (3, 10.0, True),
        (2, 10.0, False),
        (30, 10.0, True),
        (31, 10.0, False),
        (2, 0.5, True),
        (3, 0.5, False),
    ],
)
def test_a_count_is_near_the_budget_within_a_factor(
    false: int, weeks: float, *, within: bool
) -> None:
    assert events.within_factor([tally(false, weeks)], 1.0) == within


def test_a_share_is_of_all_records() -> None:
    made = [tally(10, 10), tally(300, 10), tally(20, 10), tally(0, 1)]
    assert events.within_factor(made, 1.0) == 0.75
    assert events.total(made)[:5] == (338, 8, 8, 8, 31)


def test_a_paired_bootstrap_sees_a_gain_on_every_record() -> None:
    dice = np.random.default_rng(3)
    before = np.stack([dice.uniform(0, 5, 40), np.full(40, 10.0)], axis=1)
    now = before + np.array([0.5, 0])
    found = paired(now, before, lambda sums: sums[..., 0] / sums[..., 1])
    assert found.difference == pytest.approx(0.05)
    assert found.low == pytest.approx(0.05)
    assert found.high == pytest.approx(0.05)


def test_a_paired_bootstrap_doubts_a_gain_on_one_record() -> None:
    before = np.stack([np.full(20, 5.0), np.full(20, 10.0)], axis=1)
    now = before.copy()
    now[3, 0] += 4
    found = paired(now, before, lambda sums: sums[..., 0] / sums[..., 1])
    assert found == paired(now, before, lambda sums: sums[..., 0] / sums[..., 1])
    assert found.low == 0
    assert found.difference == pytest.approx(0.02)
    assert found.high > 0.04


def test_a_corpus_of_several_metrics_is_read(tmp_path: Path) -> None:
    label = np.array([0, 1, 1, 0, 0, 2], np.int8)
    value = np.ones((6, 3), np.float32)
    np.savez(tmp_path / "server.npz", value=value, label=label, split=3, step_s=30)
    np.savez(
        tmp_path / "a.npz", value=value[:, 0], label=label, split=0, timestamp=np.arange(6) * 300
    )
    one, server = npz_corpus(tmp_path)
    assert (one.name, one.step_ms, one.value.shape) == ("a", 300_000, (6, 1))
    assert (server.name, server.step_ms, server.value.shape) == ("server", 30_000, (6, 3))
    assert server.value.dtype == np.float64
    assert server.segments.tolist() == [[1, 3], [5, 6]]
    assert server.scored_segments.tolist() == [[2, 3]]
    assert math.isclose(server.scored_weeks, 1.5 / WEEK)


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match=r"no \.npz files"):
        npz_corpus(tmp_path)
    np.savez(tmp_path / "a.npz", value=np.ones(3))
    with pytest.raises(LayoutError, match="lacks label, split"):
        npz_corpus(tmp_path)
