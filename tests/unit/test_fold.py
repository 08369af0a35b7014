"""Samples of many series become signals on the grid."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from watchkeep.detectors.fold import Cell, Fold
from watchkeep.schemas.frame import Frame, FrameKind, LabelSet, MetricKind, SenderTime
from watchkeep.schemas.labels import canonical, series_id
from watchkeep.schemas.settings import Detect

STEP_MS = 60_000
START_MS = 1_700_000_040_000 // STEP_MS * STEP_MS
FAR_MS = START_MS + 50 * STEP_MS
STALE = float(np.array([0x7FF0000000000002], np.uint64).view(np.float64)[0])

Sample = tuple[str, int, float]  # series, time in ms after the start, value


def label_set(name: str, kind: MetricKind = MetricKind.UNKNOWN) -> LabelSet:
    """`requests_total:a` is that metric of the pod a."""
    metric, _, pod = name.partition(":")
    form = canonical({"__name__": metric, "pod": pod}.items())
    return LabelSet(series_id(form), kind, "workload/c/n/w", pod, form)


def a_frame(samples: Sequence[Sample]) -> Frame:
    names = [name for name, _, _ in samples]
    return Frame(
        FrameKind.DATA,
        "g",
        START_MS,
        "r",
        (SenderTime("c", "", FAR_MS, FAR_MS),),
        np.array([label_set(name).series_id for name in names], np.uint64),
        np.array([START_MS + ms for _, ms, _ in samples], np.int64),
        np.array([value for _, _, value in samples], np.float64),
        tuple(label_set(name) for name in sorted(set(names))),
    )


def folded(frames: Sequence[Sequence[Sample]], until_ms: int = 10 * STEP_MS) -> list[Cell]:
    fold = Fold(Detect())
    for samples in frames:
        frame = a_frame(samples)
        fold.learn(frame.label_sets)
        fold.add(frame, FAR_MS)
    return list(fold.close(START_MS + until_ms))


def values(cells: Sequence[Cell]) -> list[float]:
    return [float(cell.value[0]) for cell in cells]


def every(name: str, step_ms: int, data: Sequence[float], first_ms: int = 0) -> list[Sample]:
    return [(name, first_ms + i * step_ms, value) for i, value in enumerate(data)]


def test_a_counter_becomes_its_rate() -> None:
    cells = folded([every("r_total:a", 30_000, [0, 60, 120, 180, 240])], 2 * STEP_MS + 15_000)
    assert values(cells) == [2.0, 2.0]


def test_rates_of_members_are_summed_and_values_averaged() -> None:
    counters = every("r_total:a", 30_000, [0, 30, 60]) + every("r_total:b", 30_000, [5, 95, 185])
    gauges = every("mem:a", 30_000, [1, 1, 1]) + every("mem:b", 30_000, [3, 3, 3])
    (cell,) = folded([counters + gauges], STEP_MS + 15_000)
    assert sorted(cell.value.tolist()) == [2.0, 4.0]
    assert cell.members.tolist() == [2, 2]


def test_a_counter_reset_is_no_spike() -> None:
    cells = folded([every("r_total:a", 30_000, [1000, 1030, 1060, 10, 40])], 2 * STEP_MS + 15_000)
    assert values(cells) == pytest.approx([1.0, (10 / 30 + 1) / 2])


def test_a_rate_is_spread_over_the_cells_between_two_samples() -> None:
    cells = folded([every("r_total:a", 120_000, [0, 240])], 2 * STEP_MS + 15_000)
    assert values(cells) == [2.0, 2.0]


def test_a_gauge_is_weighted_by_the_time_it_stands_for() -> None:
    samples = [("mem:a", 0, 1.0), ("mem:a", 15_000, 1.0), ("mem:a", 60_000, 5.0)]
    (cell,) = folded([samples], STEP_MS + 15_000)
    assert values([cell]) == pytest.approx([(15 * 1 + 45 * 5) / 60], rel=1e-4)


def test_a_series_stands_for_its_last_value_until_it_is_too_old() -> None:
    cells = folded([every("mem:a", 30_000, [7, 7])], 9 * STEP_MS)
    assert values(cells) == [7.0] * 5
    assert cells[-1].begin_ms == START_MS + 4 * STEP_MS


def test_a_stale_marker_ends_a_series_at_once() -> None:
    cells = folded([[("mem:a", 0, 7.0), ("mem:a", 30_000, 7.0), ("mem:a", 60_000, STALE)]])
    assert len(cells) == 1


def test_a_cell_stays_open_for_the_grace() -> None:
    samples = every("mem:a", 30_000, [1, 1, 1])
    assert not folded([samples], STEP_MS + 14_999)
    assert len(folded([samples], STEP_MS + 15_000)) == 1


def test_histogram_buckets_and_info_are_not_watched() -> None:
    samples = [(f"{name}:a", 0, 1.0) for name in ("x_bucket", "x_info", "x_created")]
    assert not folded([samples])


def test_metadata_beats_the_name() -> None:
    fold = Fold(Detect())
    fold.learn([label_set("jobs_total:a", MetricKind.GAUGE)])
    assert not fold.signals[0].counter


def test_labels_that_are_not_kept_are_folded_away() -> None:
    fold = Fold(Detect())
    for code, path in (("500", "/a"), ("503", "/b"), ("200", "/a")):
        labels = {"__name__": "http_requests_total", "code": code, "path": path}
        form = canonical(labels.items())
        kind = MetricKind.COUNTER
        fold.learn([LabelSet(series_id(form), kind, "workload/c/n/w", "p", form)])
    titles = [signal.title for signal in fold.signals]
    assert titles == ['http_requests_total{code="5xx"}', 'http_requests_total{code="2xx"}']


def test_what_is_not_folded_is_counted_by_its_reason() -> None:
    fold = Fold(Detect())
    frame = a_frame([*every("mem:a", 30_000, [1, 1]), ("mem:a", 30_000, 2), ("mem:a", 10_000, 2)])
    fold.add(frame, FAR_MS)
    assert fold.drops == {"unknown_series": 4}
    fold.learn(frame.label_sets)
    fold.add(frame, FAR_MS)
    assert fold.drops["not_newer"] == 2
    fold.add(a_frame([("mem:a", FAR_MS, 1.0)]), FAR_MS)
    assert fold.drops["clock_ahead"] == 1
    list(fold.close(START_MS + 50 * STEP_MS))
    fold.add(a_frame([("mem:a", 40_000, 1.0)]), FAR_MS)
    assert fold.drops["late"] == 1


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, STALE, 1e308, -1e308, -5.0])
def test_odd_values_do_no_harm(value: float) -> None:
    samples = every("mem:a", 30_000, [1, value, 1, 1]) + every("r_total:a", 30_000, [1, value, 1])
    for cell in folded([samples]):
        assert np.isfinite(cell.value).all()


@pytest.mark.parametrize("time_ms", [-(2**63), -1, 0, 2**63 - 1])
def test_odd_times_do_no_harm(time_ms: int) -> None:
    frame = a_frame(every("mem:a", 30_000, [1, 1, 1]))
    odd = Frame(
        **{name: getattr(frame, name) for name in frame.__slots__}
        | {"time_ms": np.array([time_ms, START_MS, START_MS + 30_000], np.int64)}
    )
    fold = Fold(Detect())
    fold.learn(odd.label_sets)
    fold.add(odd, FAR_MS)
    assert len(list(fold.close(START_MS + 2 * STEP_MS))) < 10


SAMPLES = st.lists(
    st.tuples(
        st.sampled_from(["r_total:a", "r_total:b", "mem:a", "mem:b"]),
        st.integers(0, 8 * STEP_MS),
        st.floats(0, 1e6),
    ),
    max_size=60,
)


@settings(max_examples=60)
@given(SAMPLES, st.lists(st.integers(0, 60), max_size=5))
def test_neither_the_split_of_batches_nor_the_order_of_series_matters(
    samples: list[Sample], cuts: list[int]
) -> None:
    samples = sorted(samples, key=lambda sample: sample[1])
    if not samples:
        return
    whole = folded([samples])
    bounds = [0, *sorted(cuts), len(samples)]
    parts = [samples[a:b] for a, b in pairwise(bounds) if samples[a:b]]
    by_series = [sorted(part, key=lambda sample: sample[0]) for part in parts]
    for other in (folded(parts), folded(by_series)):
        assert [cell.begin_ms for cell in other] == [cell.begin_ms for cell in whole]
        for a, b in zip(whole, other, strict=True):
            assert sorted(a.value.tolist()) == pytest.approx(sorted(b.value.tolist()))
