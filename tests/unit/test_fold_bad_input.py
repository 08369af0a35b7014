"""Hostile and broken senders: what they cost is bounded, and they are named."""

import numpy as np
import pytest

from folding import START_MS, STEP_MS, Sample, every, folded, label_set, put, told
from watchkeep.detectors.fold import Fold
from watchkeep.schemas.frame import Frame, FrameKind, LabelSet, SenderTime
from watchkeep.schemas.settings import Detect

ENTITY = "workload/c/n/w"


def many(count: int, begin: int = 0) -> list[LabelSet]:
    """Make label sets of one counter, one a pod, fast."""
    return [
        LabelSet(
            number + 1,
            label_set("r_total:a").kind,
            ENTITY,
            f"pod-{number}",
            b"__name__\xffr_total\xffpod\xffpod-%d\xff" % number,
        )
        for number in range(begin, begin + count)
    ]


def test_a_million_new_series_in_a_minute_are_refused_but_for_what_a_minute_may_bring() -> None:
    fold = Fold(Detect(new_series_per_minute=2_000))
    for begin in range(0, 1_000_000, 50_000):
        fold.learn(many(50_000, begin), START_MS + begin // 50)
    assert len(fold.roster.table) == 2_000
    refused = fold.roster.left_out.refused["new_series_per_minute", ENTITY]
    assert refused.times == 998_000
    assert refused.example == 'r_total{pod="pod-2000"}'


def test_an_entity_of_a_hundred_thousand_members_is_folded_whole_and_stays_small() -> None:
    count = 100_000
    fold = Fold(Detect(new_series_per_minute=count))
    sets = many(count)
    fold.learn(sets, START_MS)
    sender = SenderTime("c", "", START_MS + 10 * STEP_MS, START_MS)
    for scrape in range(3):
        fold.add(
            Frame(
                FrameKind.DATA,
                "g",
                START_MS,
                "r",
                (sender,),
                np.arange(1, count + 1, dtype=np.uint64),
                np.full(count, START_MS + scrape * 30_000),
                np.full(count, 30.0 * scrape),
            ),
            sender.newest_ms,
        )
    signals = told(fold, list(fold.close(START_MS + 2 * STEP_MS)))
    assert signals["r_total"][0] == pytest.approx(count)
    assert len(fold.roster.names) == Detect().members_per_entity + 1
    assert fold.roster.strand_slots.used == Detect().members_per_entity + 1
    assert fold.roster.left_out.refused["members_per_entity", ENTITY].times == count - 1_000


def test_names_of_what_is_dropped_and_refused_are_bounded() -> None:
    fold = Fold(Detect(signals_per_entity=1, new_series_per_minute=100_000))
    sets = [label_set(f"metric{i}_total:a", entity=f"workload/c/n/{i % 50}") for i in range(10_000)]
    fold.learn(sets, START_MS)
    assert len(fold.roster.left_out.unwatched) <= 2_001
    assert sum(refused.times for refused in fold.roster.left_out.refused.values()) == 9_950


def test_a_frame_of_everything_odd_at_once_changes_nothing_for_the_others() -> None:
    well = every("r_total:well", 30_000, [0, 30, 60, 90, 120])
    odd: list[Sample] = []
    values = (np.nan, np.inf, -np.inf, 1e300, -1e300, -5.0, 5e-324, 1e29)
    for i, value in enumerate(values):
        odd += every(f"odd_total:{i}", 30_000, [1.0, value, 2.0, value, 3.0])
        odd += every(f"odd:{i}", 30_000, [1.0, value, 2.0, value, 3.0])
    odd += [("odd:0", 30_000, 7.0), ("odd:0", 30_000, 8.0), ("odd:0", 10_000, 9.0)]
    signals = folded([well + odd], 3 * STEP_MS)
    assert signals["r_total"] == {0: 1.0, 1: 1.0}
    assert all(np.isfinite(list(cells.values())).all() for cells in signals.values())


def test_a_sender_whose_clock_is_ahead_is_named_and_moves_nothing() -> None:
    fold = Fold(Detect())
    put(fold, every("r_total:a", 30_000, [0, 30, 60]))
    put(fold, [("r_total:b", 10_000_000_000, 5.0)])
    assert fold.drops["clock_ahead"] == 1
    assert fold.blamed["clock_ahead"][0] == f"{ENTITY} b"
    assert told(fold, list(fold.close(START_MS + 2 * STEP_MS)))["r_total"] == {0: 1.0}
