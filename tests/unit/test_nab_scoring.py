"""Small cases of the NAB score, computed by hand."""

import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

import nab_scoring
from corpora import Floats, LayoutError, Recorded, nab_corpus
from nab_scoring import Profile

STANDARD = Profile(found=1.0, false=0.11, missed=1.0)


def recorded(
    rows: int = 100, *windows: tuple[int, int], split: int = 0, group: str = ""
) -> Recorded:
    return Recorded(
        name="made",
        group=group,
        step_ms=60_000,
        time_ms=np.arange(rows) * 60_000,
        value=np.zeros((rows, 1)),
        segments=np.array(windows, np.int64).reshape(-1, 2),
        split=split,
    )


def prepared(record: Recorded, rarity: dict[int, float]) -> nab_scoring.Steps:
    levels = np.full(len(record.time_ms), -np.inf)
    levels[list(rarity)] = list(rarity.values())
    return nab_scoring.steps(record, levels)


def score(
    record: Recorded, rarity: dict[int, float], threshold: float = 1.0, profile: Profile = STANDARD
) -> float:
    return nab_scoring.at([prepared(record, rarity)], profile, threshold).score


def sigmoid(place: float) -> float:
    return 2 / (1 + math.exp(5 * place)) - 1


def test_the_first_row_of_every_window_is_perfect() -> None:
    assert score(recorded(100, (20, 30), (60, 80)), {20: 1.0, 60: 1.0}) == pytest.approx(100)


def test_no_alarm_is_the_zero() -> None:
    assert score(recorded(100, (20, 30)), {}) == 0


def test_a_window_earns_by_its_best_alarm_only() -> None:
    # The sixth of ten rows is half of the window before its end.
    half = sigmoid(-0.5) / sigmoid(-1)
    alarms = {25: 1.0, 26: 1.0, 29: 1.0}
    assert score(recorded(100, (20, 30)), alarms) == pytest.approx(100 * (half + 1) / 2)


def test_an_alarm_before_any_window_costs_all_of_its_weight() -> None:
    assert score(recorded(100, (20, 30)), {3: 1.0}) == pytest.approx(100 * -0.11 / 2)


def test_an_alarm_costs_less_soon_after_a_window() -> None:
    # Nine rows lie between a window's first row and its last, row 29.
    cost = 0.11 * sigmoid(3 / 9)
    assert score(recorded(100, (20, 30)), {32: 1.0}) == pytest.approx(100 * cost / 2)
    assert score(recorded(100, (20, 30)), {56: 1.0}) == pytest.approx(100 * -0.11 / 2)


def test_behind_a_window_of_one_row_all_is_far() -> None:
    assert score(recorded(100, (20, 21)), {21: 1.0}) == pytest.approx(100 * -0.11 / 2)
    assert score(recorded(100, (20, 21)), {20: 1.0}) == pytest.approx(100)


def test_the_probation_is_not_scored() -> None:
    record = recorded(100, (5, 10), (12, 22), split=15)
    assert score(record, {3: 1.0, 7: 1.0}) == 0
    # The second window is measured from where it begins, not from where scoring does.
    late = sigmoid(-0.7) / sigmoid(-1)
    assert score(record, {12: 1.0, 15: 1.0}) == pytest.approx(100 * (late + 1) / 2)


def test_missing_costs_what_the_profile_says() -> None:
    record = recorded(100, (20, 30), (60, 80))
    keen = Profile(found=1.0, false=0.11, missed=2.0)
    assert score(record, {20: 1.0, 3: 1.0}, profile=keen) == pytest.approx(100 * (3 - 0.11) / 6)


def test_rows_that_cannot_alarm_never_do() -> None:
    record = recorded(100, (20, 30))
    levels = np.full(100, np.nan)
    levels[40:] = -np.inf
    made = nab_scoring.steps(record, levels)
    assert not len(made.level)
    assert nab_scoring.best([made], STANDARD).score == 0


def test_the_best_threshold_weighs_windows_against_false_alarms() -> None:
    record = recorded(1_000, (20, 30), (60, 70))
    false = dict.fromkeys(range(500, 505), 2.0)
    made = prepared(record, {20: 3.0} | false | {60: 1.0, 900: 0.0})
    found = nab_scoring.best([made], STANDARD)
    assert found.threshold == 1.0
    assert found.score == pytest.approx(100 * (4 - 5 * 0.11) / 4)
    assert found.parts.tolist() == [[pytest.approx(4 - 5 * 0.11), 4.0]]


def test_rows_of_the_same_rarity_alarm_together() -> None:
    record = recorded(1_000, (20, 30))
    made = prepared(record, {20: 1.0} | dict.fromkeys(range(500, 520), 1.0))
    found = nab_scoring.best([made], STANDARD)
    assert math.isnan(found.threshold)
    assert found.score == 0


def test_always_on_may_be_infinitely_rare() -> None:
    record = recorded(100, (20, 30))
    made = nab_scoring.steps(record, np.full(100, np.inf))
    assert nab_scoring.at([made], STANDARD, 0.0).score < 0
    assert nab_scoring.best([made], STANDARD).score == 0


def test_the_threshold_of_a_group_is_chosen_on_the_others() -> None:
    def of(group: str, window: float, false: float) -> tuple[nab_scoring.Steps, str]:
        rarity = {20: window} | dict.fromkeys(range(500, 520), false)
        return prepared(recorded(1_000, (20, 30), group=group), rarity), group

    # Each group's own best threshold is 2 and 4; at 4, the first finds nothing.
    pairs = [of("a", 2.0, 1.0), of("b", 4.0, 3.0)]
    score, thresholds = nab_scoring.leaving_out(
        [made for made, _ in pairs], [group for _, group in pairs], STANDARD
    )
    assert thresholds == {"a": 4.0, "b": 2.0}
    assert score == pytest.approx(100 * (0 + 2 - 20 * 0.11) / 4)


def test_one_group_has_no_others() -> None:
    made = prepared(recorded(100, (20, 30)), {20: 1.0})
    assert math.isnan(nab_scoring.leaving_out([made], ["a"], STANDARD)[0])


def earned_row_by_row(record: Recorded, rarity: Floats, threshold: float) -> float:
    """Earn what `steps` and `at` should, without sorting or sums over thresholds."""
    earned = 0.0
    scored = range(record.split, len(rarity))
    alarms = [row for row in scored if rarity[row] >= threshold]
    for begin, end in record.segments.tolist():
        inside = [row for row in alarms if begin <= row < end]
        if inside:
            earned += 1 + sigmoid((inside[0] - end) / (end - begin)) / sigmoid(-1)
    for row in alarms:
        if not record.label[row]:
            last = [window for window in record.segments.tolist() if window[1] <= row][-1:]
            far = [(row - end + 1) / (end - begin - 1) for begin, end in last if end - begin > 1]
            earned += 0.11 * sigmoid(far[0]) if far and far[0] < 3 else -0.11
    return earned


@pytest.mark.parametrize("seed", range(20))
def test_all_thresholds_at_once_give_what_one_by_one_would(seed: int) -> None:
    dice = np.random.default_rng(seed)
    rows = int(dice.integers(30, 200))
    edges = np.sort(dice.choice(rows, 2 * (seed % 4), replace=False)).reshape(-1, 2)
    record = recorded(rows, *[(begin, end) for begin, end in edges.tolist()], split=rows // 7)
    rarity = dice.integers(0, 12, rows).astype(float)
    rarity[dice.random(rows) < 0.1] = np.nan
    made = nab_scoring.steps(record, rarity)
    slowly = {level: earned_row_by_row(record, rarity, level) for level in range(13)}
    for level, earned in slowly.items():
        assert nab_scoring.at([made], STANDARD, level).parts[0, 0] == pytest.approx(earned)
    most = nab_scoring.best([made], STANDARD).parts[0, 0]
    assert most == pytest.approx(max(slowly.values()))


def corpus(folder: Path, windows: Sequence[Sequence[str]]) -> Path:
    (folder / "data" / "kind").mkdir(parents=True)
    (folder / "labels").mkdir()
    times = [f"2014-04-10 {row // 12:02d}:{row % 12 * 5:02d}:00" for row in range(40)]
    text = "timestamp,value\n" + "".join(f"{time},{row}.5\n" for row, time in enumerate(times))
    (folder / "data" / "kind" / "a.csv").write_text(text)
    (folder / "data" / "kind" / "unlabelled.csv").write_text(text)
    (folder / "labels" / "combined_windows.json").write_text(json.dumps({"kind/a.csv": windows}))
    return folder


def test_a_corpus_is_read_by_its_layout(tmp_path: Path) -> None:
    window = ["2014-04-10 01:00:00.000000", "2014-04-10 01:20:00.000000"]
    (record,) = nab_corpus(corpus(tmp_path, [window]))
    assert (record.name, record.group, record.step_ms) == ("kind/a.csv", "kind", 300_000)
    assert record.value[:2].tolist() == [[0.5], [1.5]]
    assert record.segments.tolist() == [[12, 17]]
    assert record.split == 6
    assert np.flatnonzero(record.label).tolist() == [12, 13, 14, 15, 16]


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match=r"combined_windows\.json is missing"):
        nab_corpus(tmp_path)
    corpus(tmp_path, [])
    with pytest.raises(LayoutError, match=r"profiles\.json is missing"):
        nab_scoring.profiles(tmp_path)
