"""Samples of many series become signals on the grid."""

import numpy as np
import pytest

from folding import (
    FAR_MS,
    STALE,
    START_MS,
    STEP_MS,
    a_frame,
    every,
    folded,
    label_set,
    put,
    told,
)
from watchkeep.detectors.fold import Fold
from watchkeep.schemas.frame import Frame, LabelSet, MetricKind
from watchkeep.schemas.labels import canonical, series_id
from watchkeep.schemas.settings import Detect
from watchkeep.schemas.signal_rules import SignalRule


def test_a_counter_becomes_its_rate() -> None:
    signals = folded([every("r_total:a", 30_000, [0, 60, 120, 180, 240])], 2 * STEP_MS + 15_000)
    assert signals == {"r_total": {0: 2.0, 1: 2.0}}


def test_rates_of_members_are_summed_and_values_averaged() -> None:
    counters = every("r_total:a", 30_000, [0, 30, 60]) + every("r_total:b", 30_000, [5, 95, 185])
    gauges = every("mem:a", 30_000, [1, 2, 2]) + every("mem:b", 30_000, [3, 4, 4])
    signals = folded([counters + gauges], STEP_MS + 15_000)
    assert signals == {"r_total": {0: 4.0}, "mem": {0: 3.0}}


def test_a_counter_reset_is_no_spike() -> None:
    signals = folded([every("r_total:a", 30_000, [1000, 1030, 1060, 10, 40])], 2 * STEP_MS + 15_000)
    assert signals["r_total"] == pytest.approx({0: 1.0, 1: (10 / 30 + 1) / 2})


def test_a_rate_is_spread_over_the_cells_between_two_samples() -> None:
    signals = folded([every("r_total:a", 120_000, [0, 240])], 2 * STEP_MS + 15_000)
    assert signals["r_total"] == {0: 2.0, 1: 2.0}


def test_a_gauge_is_weighted_by_the_time_it_stands_for() -> None:
    samples = [("mem:a", 0, 1.0), ("mem:a", 15_000, 2.0), ("mem:a", 60_000, 5.0)]
    signals = folded([samples], STEP_MS + 15_000)
    assert signals["mem"] == pytest.approx({0: (15 * 2 + 45 * 5) / 60})


def test_a_series_stands_for_its_last_value_until_it_is_too_old() -> None:
    signals = folded([every("mem:a", 30_000, [6, 7])], 9 * STEP_MS)
    assert signals["mem"] == {0: 7.0, 1: 7.0, 2: 7.0, 3: 7.0, 4: 7.0}


def test_a_stale_marker_ends_a_series_at_once() -> None:
    samples = [("mem:a", 0, 7.0), ("mem:a", 30_000, 8.0), ("mem:a", 60_000, STALE)]
    assert folded([samples])["mem"] == {0: 8.0}


def test_a_cell_stays_open_for_the_grace() -> None:
    samples = every("mem:a", 30_000, [1, 2, 1])
    assert not folded([samples], STEP_MS + 14_999)
    assert folded([samples], STEP_MS + 15_000)


def test_a_gap_in_the_data_is_no_dip_of_a_rate() -> None:
    """The rate is over the time that was seen, of the first cell as of those around a gap."""
    before = every("r_total:a", 15_000, [0, 15, 30, 45], first_ms=30_000)
    after = every("r_total:a", 15_000, [1_000, 1_015, 1_030, 1_045], first_ms=20 * STEP_MS + 25_000)
    rates = folded([before, after], 21 * STEP_MS + 20_000)["r_total"]
    assert rates[0] == rates[1] == 1.0
    # What was counted in the gap is spread over all of it, and told where it still can be.
    assert rates[20] == pytest.approx((25 * (955 / 1150) + 35) / 60, rel=1e-6)


def test_a_pod_that_is_replaced_in_a_cell_is_no_dip() -> None:
    old = [*every("r_total:old", 10_000, [0, 10, 20, 30]), ("r_total:old", 35_000, STALE)]
    new = every("r_total:new", 10_000, [0, 10, 20, 30], first_ms=50_000)
    assert folded([old, new], 2 * STEP_MS)["r_total"][0] == pytest.approx(1.0)


def test_load_that_moves_between_pods_stays_the_same() -> None:
    """A rolling deploy: what the old pod no longer takes, the other does."""
    old = [*every("r_total:old", 10_000, [0, 10, 20]), ("r_total:old", 21_000, STALE)]
    other = every("r_total:other", 10_000, [0, 10, 20, 40, 60, 80, 100])
    assert folded([old + other], STEP_MS + 15_000)["r_total"][0] == pytest.approx(2.0)


def test_what_never_changes_takes_no_part() -> None:
    """It is asleep; when it moves, it is known for how long it was as it was."""
    fold = Fold(Detect())
    put(fold, every("up:a", 30_000, [1] * 21))
    assert not told(fold, list(fold.close(START_MS + 10 * STEP_MS)))
    put(fold, every("up:a", 30_000, [0, 0, 0], first_ms=21 * 30_000))
    first, second = fold.close(START_MS + 11 * STEP_MS + 15_000)
    assert told(fold, [first, second]) == {"up": {9: 1.0, 10: 0.0}}
    assert (first.quiet[-1], first.slept[-1]) == (1.0, 9)


def test_a_gauge_that_moves_at_last_was_as_before_for_the_rest_of_its_cell() -> None:
    samples = every("goroutines:a", 10_000, [17] * 12 + [117])
    for cuts in ([samples], [samples[:5], samples[5:]], [[one] for one in samples]):
        rates = folded(cuts, 3 * STEP_MS)["goroutines"]
        assert rates[1] == pytest.approx((50 * 17 + 10 * 117) / 60)


def test_errors_that_come_for_the_first_time_have_a_past_of_none() -> None:
    fold = Fold(Detect())
    put(fold, every("errors_total:a", 30_000, [0] * 10 + [30, 60, 90]))
    cells = list(fold.close(START_MS + 6 * STEP_MS + 15_000))
    assert told(fold, cells)["errors_total"][4] == 0.5
    assert (cells[4].quiet[-1], cells[4].slept[-1]) == (0.0, 4)


def test_a_histogram_becomes_its_rate_and_quantiles() -> None:
    samples = []
    for pod, slow in (("a", 1), ("b", 3)):
        for i in range(3):
            n = 60 * i
            samples += [
                (f"s_bucket{{le=0.1}}:{pod}", 30_000 * i, n * 0.5),
                (f"s_bucket{{le=1}}:{pod}", 30_000 * i, n - slow * i),
                (f"s_bucket{{le=+Inf}}:{pod}", 30_000 * i, n),
                (f"s_count:{pod}", 30_000 * i, n),
                (f"s_sum:{pod}", 30_000 * i, n * 0.4),
            ]
    signals = folded(
        [samples], STEP_MS + 15_000, dict.fromkeys(("s_count", "s_sum"), MetricKind.HISTOGRAM)
    )
    assert signals["s"] == {0: 4.0}
    assert signals["p50(s)"] == pytest.approx({0: 0.1})
    # 99% are 237.6 of 240, and 236 lie below 1, the last bound.
    assert signals["p99(s)"] == pytest.approx({0: 1.0})
    assert signals["average(s)"] == pytest.approx({0: 0.4})


def test_metadata_beats_the_name_and_may_come_late() -> None:
    fold = Fold(Detect())
    put(fold, every("jobs_total:a", 30_000, [5, 6]))
    put(fold, every("jobs_total:a", 30_000, [5, 6], 60_000), {"jobs_total": MetricKind.GAUGE})
    put(fold, every("jobs_total:a", 30_000, [5, 6, 5], 120_000), {"jobs_total": MetricKind.GAUGE})
    assert told(fold, list(fold.close(START_MS + 4 * STEP_MS)))["jobs_total"][2] == 5.5


def test_behaviour_tells_what_nobody_says() -> None:
    """What only ever rises is counted; it then begins anew as a signal."""
    fold = Fold(Detect())
    put(fold, every("mystery:a", 30_000, list(range(0, 300, 3))))
    put(fold, every("waves:a", 30_000, [i % 7 for i in range(100)]))
    fold.roster.renewed.clear()
    early = told(fold, list(fold.close(START_MS + 30 * STEP_MS)))
    put(fold, every("mystery:a", 30_000, list(range(300, 360, 3)), first_ms=50 * STEP_MS))
    late = told(fold, list(fold.close(START_MS + 58 * STEP_MS)))
    assert late["mystery"] == pytest.approx(dict.fromkeys(range(50, 57), 0.1), rel=0.03)
    assert [fold.roster.signal(slot).title for slot in fold.roster.renewed] == ["mystery"]
    assert early["waves"][10] == pytest.approx(0.5)


def test_labels_that_are_not_kept_are_folded_away() -> None:
    fold = Fold(Detect())
    for code, path in (("500", "/a"), ("503", "/b"), ("200", "/a")):
        labels = {"__name__": "http_requests_total", "code": code, "path": path}
        form = canonical(labels.items())
        entry = LabelSet(series_id(form), MetricKind.COUNTER, "workload/c/n/w", "p", form)
        fold.learn([entry], START_MS)
    _, *titles = [signal.title for signal in fold.roster.signal_slot]
    assert titles == ['http_requests_total{code="5xx"}', 'http_requests_total{code="2xx"}']


def test_what_is_not_folded_is_counted_by_its_reason() -> None:
    fold = Fold(Detect())
    frame = a_frame([*every("mem:a", 30_000, [1, 2]), ("mem:a", 30_000, 2), ("mem:a", 10_000, 2)])
    fold.add(frame, FAR_MS)
    assert fold.drops == {"unknown_series": 4}
    fold.learn(frame.label_sets, START_MS)
    fold.add(frame, FAR_MS)
    assert fold.drops["not_newer"] == 2
    fold.add(a_frame([("mem:a", FAR_MS + 1 - START_MS, 1.0)]), FAR_MS)
    assert fold.drops["clock_ahead"] == 1
    list(fold.close(START_MS + 50 * STEP_MS))
    fold.add(a_frame([("mem:a", 40_000, 1.0)]), FAR_MS)
    assert fold.drops["late"] == 1
    put(fold, [("r_total:a", 60_000, -3.0), ("huge:a", 60_000, 1e300)])
    assert fold.drops["negative_counter"] == fold.drops["too_large"] == 1


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, STALE, 1e308, -1e308, 1e300, -5.0])
def test_odd_values_do_no_harm(value: float) -> None:
    samples = every("mem:a", 30_000, [1, value, 1, 2]) + every("r_total:a", 30_000, [1, value, 1])
    for signal in folded([samples]).values():
        assert np.isfinite(list(signal.values())).all()


@pytest.mark.parametrize("time_ms", [-(2**63), -1, 0, 2**63 - 1])
def test_odd_times_do_no_harm(time_ms: int) -> None:
    frame = a_frame(every("mem:a", 30_000, [1, 1, 1]))
    odd = Frame(
        **{name: getattr(frame, name) for name in frame.__slots__}
        | {"time_ms": np.array([time_ms, START_MS, START_MS + 30_000], np.int64)}
    )
    fold = Fold(Detect())
    fold.learn(odd.label_sets, START_MS)
    fold.add(odd, FAR_MS)
    assert len(list(fold.close(START_MS + 2 * STEP_MS))) < 10


def test_a_series_can_change_its_kind() -> None:
    fold = Fold(Detect())
    fold.learn([label_set("x:a", MetricKind.GAUGE)], START_MS)
    fold.learn([label_set("x:a", MetricKind.COUNTER)], START_MS)
    put(fold, every("x:a", 30_000, [0, 60, 120]), {"x": MetricKind.COUNTER})
    assert told(fold, list(fold.close(START_MS + STEP_MS + 15_000))) == {"x": {0: 2.0}}


@pytest.mark.parametrize("at_once", [True, False])
def test_what_has_moved_takes_part_though_it_rests_again(at_once: bool) -> None:
    samples = every("r_total:a", 30_000, [0, 30, 30, 30, 30, 30])
    frames = [samples] if at_once else [[sample] for sample in samples]
    assert folded(frames, 2 * STEP_MS + 15_000)["r_total"] == {0: 0.5, 1: 0.0}


def test_a_stale_marker_hides_no_negative_counter() -> None:
    fold = Fold(Detect())
    put(fold, [("r_total:a", 0, 1.0), ("r_total:a", 30_000, -3.0), ("r_total:b", 0, STALE)])
    assert fold.drops == {"negative_counter": 1}


def test_signals_have_cells_of_their_own_width() -> None:
    rules = tuple(
        SignalRule(why="It is the test's.", when={"__name__": name}, step_s=step_s)
        for name, step_s in (("fast_total", 10), ("slow_total", 300))
    )
    counts = [30.0 * i for i in range(61)]
    names = ("fast_total:a", "r_total:a", "slow_total:a")
    samples = [
        sample
        for scrape in zip(*(every(n, 10_000, counts) for n in names), strict=True)
        for sample in scrape
    ]
    for cuts in ([samples], [samples[:70], samples[70:150], samples[150:]]):
        rates = folded(cuts, 10 * STEP_MS + 15_000, settings=Detect(rules=rules))
        assert rates["fast_total"] == pytest.approx({i / 6: 3.0 for i in range(60)}, rel=1e-9)
        assert rates["r_total"] == pytest.approx(dict.fromkeys(range(10), 3.0))
        # The cells of five minutes lie where the hour has them, and the first was hardly seen.
        assert rates["slow_total"] == pytest.approx({1: 3.0})
