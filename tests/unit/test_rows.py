"""Rows are cut into parts that fit into a frame, along time."""

import numpy as np
import pytest

from watchkeep.schemas.frame import BUCKETS_MAX, SAMPLES_MAX
from watchkeep.schemas.histograms import NO_HISTOGRAMS, Histograms
from watchkeep.streams import rows
from watchkeep.streams.rows import NO_SAMPLES, Part, Samples


def samples(times: list[int]) -> Samples:
    n = len(times)
    return Samples(np.arange(n, dtype=np.uint64), np.array(times), np.zeros(n))


def histograms(times: list[int], own: list[int]) -> Histograms:
    """Make histograms with so many buckets each, numbered through."""
    h, k = len(own), sum(own)
    return Histograms(
        np.arange(h, dtype=np.uint64),
        np.array(times, np.int64),
        np.full(h, 1e9),
        np.zeros(h),
        np.array(own, np.uint32),
        np.arange(k, dtype=np.float64),
        np.arange(1, k + 1, dtype=np.float64),
        np.arange(1, k + 1, dtype=np.float64),
    )


def parts(samples: Samples = NO_SAMPLES, histograms: Histograms = NO_HISTOGRAMS) -> list[Part]:
    return list(rows.parts(samples, histograms))


def test_what_fits_is_one_part_in_the_order_it_came() -> None:
    (part,) = parts(samples([5, 3, 1]), histograms([4, 2], [3, 0]))
    assert part.samples.time_ms.tolist() == [5, 3, 1]
    assert part.histograms.time_ms.tolist() == [4, 2]
    assert part.reached_ms is None


def test_nothing_is_one_part() -> None:
    (part,) = parts()
    assert (len(part.samples.time_ms), len(part.histograms.time_ms)) == (0, 0)


@pytest.mark.parametrize(
    ("count", "sizes"), [(SAMPLES_MAX, [SAMPLES_MAX]), (10_000, [8_192, 1_808])]
)
def test_samples_alone_fill_frames(count: int, sizes: list[int]) -> None:
    cut = parts(samples(list(range(count))))
    assert [len(part.samples.time_ms) for part in cut] == sizes
    assert [part.reached_ms for part in cut] == [*np.cumsum(sizes[:-1]) - 1, None]


def test_histograms_are_cut_by_their_buckets_and_keep_them() -> None:
    times, own = list(range(40))[::-1], [i * 100 for i in range(40)]
    cut = parts(histograms=histograms(times, own))
    assert len(cut) > 1
    assert all(part.histograms.buckets.sum() <= BUCKETS_MAX for part in cut)
    ends = np.cumsum(own)
    seen = []
    for part in cut:
        at = 0
        for number, count in zip(part.histograms.series_id, part.histograms.buckets, strict=True):
            values = part.histograms.value[at : at + count].tolist()
            assert values == list(range(ends[number] - own[number] + 1, ends[number] + 1))
            seen.append(int(number))
            at += int(count)
        assert at == len(part.histograms.value)
    assert seen == list(range(40))[::-1]
    reached = [part.reached_ms for part in cut[:-1]]
    assert reached == [part.histograms.time_ms.max() for part in cut[:-1]]


def test_samples_and_histograms_are_cut_at_the_same_time() -> None:
    cut = parts(
        samples(list(range(0, 12_000, 2))), histograms(list(range(1, 12_000, 2)), [1] * 6000)
    )
    assert len(cut) == 2
    first, last = cut
    reached = first.reached_ms
    assert reached is not None
    for times in (first.samples.time_ms, first.histograms.time_ms):
        assert times.max() <= reached
    for times in (last.samples.time_ms, last.histograms.time_ms):
        assert times.min() > reached
    assert sum(len(part.samples.time_ms) + len(part.histograms.time_ms) for part in cut) == 12_000


def test_rows_of_one_time_stay_in_order() -> None:
    cut = parts(samples([7] * 20_000), histograms([7, 7], [1, 1]))
    assert np.concatenate([part.samples.series_id for part in cut]).tolist() == list(range(20_000))
    assert np.concatenate([part.histograms.series_id for part in cut]).tolist() == [0, 1]
