"""What must not matter to the fold doesn't, and what is gone leaves nothing behind."""

from collections.abc import Sequence
from itertools import pairwise
from random import Random

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from folding import FAR_MS, STALE, START_MS, STEP_MS, Sample, every, folded, label_set, put, told
from watchkeep.detectors.columns import PRESENCE
from watchkeep.detectors.fold import Fold
from watchkeep.detectors.roster import OTHERS
from watchkeep.schemas.frame import Frame, FrameKind, MetricKind, SenderTime
from watchkeep.schemas.settings import Detect
from watchkeep.streams.pipeline import Cluster
from watchkeep.streams.snapshot_state import State, capture_cluster, load_cluster

_PODS = ("a", "b", "c")
_KINDS = dict.fromkeys(("s_count", "s_sum", "s_bucket"), MetricKind.HISTOGRAM)
_NAMES = (
    *(f"r_total:{pod}" for pod in _PODS),
    *(f"mem{{zone={zone}}}:{pod}" for pod in _PODS for zone in "xy"),
    *(f"s_bucket{{le={le}}}:{pod}" for pod in _PODS for le in ("0.1", "1", "+Inf")),
    *(f"{name}:{pod}" for pod in _PODS for name in ("s_count", "s_sum", "mystery")),
)
_VALUES = st.one_of(
    st.integers(0, 1_000).map(float), st.floats(0, 1e6), st.sampled_from([STALE, np.nan, -1.0])
)
_SAMPLES = st.lists(
    st.tuples(st.sampled_from(_NAMES), st.integers(0, 8 * STEP_MS), _VALUES), max_size=120
).map(lambda samples: sorted(samples, key=lambda sample: sample[1]))
_CUTS = st.lists(st.integers(0, 120), max_size=5)


def parts(samples: Sequence[Sample], cuts: Sequence[int]) -> list[Sequence[Sample]]:
    return [samples[a:b] for a, b in pairwise([0, *sorted(cuts), len(samples)])]


def same(one: dict[str, dict[int, float]], other: dict[str, dict[int, float]]) -> None:
    assert one.keys() == other.keys()
    for title, values in one.items():
        assert other[title] == pytest.approx(values, rel=1e-9, abs=1e-9), title


@settings(max_examples=60)
@given(_SAMPLES, _CUTS, st.randoms(use_true_random=False))
def test_neither_the_split_of_batches_nor_the_order_of_members_matters(
    samples: list[Sample], cuts: list[int], dice: Random
) -> None:
    whole = folded([samples], kinds=_KINDS)
    same(folded(parts(samples, cuts), kinds=_KINDS), whole)
    order = list(_NAMES)
    dice.shuffle(order)
    shuffled = [sorted(part, key=lambda s: order.index(s[0])) for part in parts(samples, cuts)]
    same(folded(shuffled, kinds=_KINDS), whole)


@settings(max_examples=60)
@given(_SAMPLES, st.integers(0, 120), st.integers(0, 8))
def test_a_restart_changes_nothing(samples: list[Sample], cut: int, closed: int) -> None:
    """Not even the last bit."""

    def run(*, restarted: bool) -> str:
        cluster = Cluster(Detect())
        cells = []
        for number, part in enumerate(parts(samples, [cut])):
            if part:
                put(cluster.fold, part, _KINDS)
            if not number:
                cells += list(cluster.fold.close(START_MS + closed * STEP_MS))
                if restarted:
                    head, columns = capture_cluster(cluster)
                    cluster = load_cluster(State(head, columns), Detect())
        cells += list(cluster.fold.close(START_MS + 12 * STEP_MS))
        return repr([[getattr(c, "tolist", lambda c=c: c)() for c in cell[:5]] for cell in cells])

    assert run(restarted=True) == run(restarted=False)


@settings(max_examples=60)
@given(
    _SAMPLES,
    st.sampled_from(["r_total:z", "mem{zone=z}:z", "mem{zone=z}:a", "s_bucket{le=1}:z", "info:a"]),
    st.integers(0, 1_000),
)
@example(
    [("mem{zone=x}:b", at, next_to_nothing) for at, next_to_nothing in enumerate((0.0, 1e-38))]
    + [("mem{zone=x}:a", 2, 0.0), ("mem{zone=x}:c", 2, 3.0)],
    "r_total:z",
    0,
)
def test_a_series_that_never_changes_changes_no_signal(
    samples: list[Sample], name: str, value: int
) -> None:
    """A target shows one line more, at the times at which it is scraped."""
    member = name.partition(":")[2]
    scrapes = sorted({ms for other, ms, _ in samples if other.endswith(f":{member}")}) or [
        0,
        30_000,
    ]
    # It is there from the beginning: what begins later takes part in signals that have moved.
    scrapes = sorted({0, *scrapes})
    constant = [(name, ms, float(value)) for ms in scrapes]
    other = [(f"other:{member}", ms, 1.0) for ms in scrapes]
    with_it = sorted(samples + constant + other, key=lambda sample: sample[1])
    without = sorted(samples + other, key=lambda sample: sample[1])
    same(folded([with_it], kinds=_KINDS), folded([without], kinds=_KINDS))


def test_members_that_begin_later_take_part_also_if_they_never_change() -> None:
    """All pods are replaced; those that come show no error, and one of them is never ready."""
    old = every("ready:a", 30_000, [1, 0, 1, 1, 1]) + every("errors_total:a", 30_000, [0, 3, 6, 6])
    new = [
        sample
        for pod, ready in (("b", 1), ("c", 0))
        for sample in every(f"ready:{pod}", 30_000, [ready] * 13, first_ms=180_000)
        + every(f"errors_total:{pod}", 30_000, [5] * 13, first_ms=180_000)
    ]
    kinds = {"errors_total": MetricKind.COUNTER, "ready": MetricKind.GAUGE}
    signals = folded(
        [old, [("ready:a", 150_000, STALE), ("errors_total:a", 150_000, STALE)], new], kinds=kinds
    )
    assert [signals["ready"][minute] for minute in range(4, 9)] == [0.5] * 5
    assert [signals["errors_total"][minute] for minute in range(4, 9)] == [0.0] * 5


def forward(fold: Fold, minutes: Sequence[int]) -> None:
    """Keep another series of the entity going."""
    for minute in minutes:
        samples = every("alive:z", 30_000, [minute % 7, minute % 5], first_ms=minute * STEP_MS)
        frame = Frame(
            FrameKind.DATA,
            "g",
            START_MS,
            "r",
            (SenderTime("c", "", FAR_MS, FAR_MS),),
            np.array([label_set("alive:z").series_id] * 2, np.uint64),
            np.array([START_MS + ms for _, ms, _ in samples], np.int64),
            np.array([value for _, _, value in samples], np.float64),
            label_sets=(label_set("alive:z"),),
        )
        fold.learn(frame.label_sets, START_MS)
        fold.add(frame, START_MS + (minute + 1) * STEP_MS)
        list(fold.close(START_MS + (minute + 1) * STEP_MS))


def test_slots_of_members_that_are_gone_are_used_again() -> None:
    """Pods come and go for a day; state stays as large as what is alive at once."""
    fold = Fold(Detect())
    sizes = []
    for hour in range(24):
        for pod in range(20):
            samples = every(f"r_total:{hour}-{pod}", 30_000, [0, 5], first_ms=hour * 3_600_000)
            put(fold, samples)
        forward(fold, range(hour * 60, hour * 60 + 60))
        roster = fold.roster
        sizes.append((len(roster.table), roster.strand_slots.used, roster.member_slots.used))
    assert sizes[3] == sizes[-1]
    assert len(fold.roster.member_slot) <= 41
    assert "r_total" in {signal.title for signal in fold.roster.signal_slot}


def test_a_signal_is_forgotten_after_thirty_days() -> None:
    fold = Fold(Detect())
    put(fold, every("r_total:a", 30_000, [0, 5, 9]))
    forward(fold, range(3))
    day = 24 * 60
    forward(fold, range(day, 29 * day, 60))
    assert len(fold.roster.signal_slot) == 3
    forward(fold, range(29 * day, 32 * day, 60))
    assert [signal.metric for signal in fold.roster.signal_slot] == [PRESENCE, "alive"]
    put(fold, every("new_total:a", 30_000, [0, 5], first_ms=32 * day * STEP_MS))
    assert fold.roster.signal_slots.used == 3


def test_members_beyond_the_limit_are_folded_as_one() -> None:
    fold = Fold(Detect(members_per_entity=10))
    samples = [
        sample for pod in range(100) for sample in every(f"r_total:{pod}", 30_000, [0, 30, 60])
    ]
    put(fold, samples)
    assert told(fold, list(fold.close(START_MS + 2 * STEP_MS)))["r_total"][0] == 100.0
    assert len(fold.roster.names) == 11
    assert OTHERS in fold.roster.names
    assert fold.roster.left_out.refused["members_per_entity", "workload/c/n/w"].times == 90


def test_signals_and_entities_beyond_the_limit_are_dropped_by_name() -> None:
    fold = Fold(Detect(signals_per_entity=2, entities=1))
    put(fold, [(f"metric{i}_total:a", 0, 1.0) for i in range(5)])
    fold.learn([label_set("x_total:b", entity="workload/c/n/other")], START_MS)
    assert len(fold.roster.signal_slot) == 3
    assert fold.roster.left_out.refused["signals_per_entity", "workload/c/n/w"].times == 3
    assert fold.roster.left_out.refused["entities", "workload/c/n/other"].times == 1
    assert {entry.reason for entry in fold.roster.left_out.unwatched} == {
        "signals_per_entity",
        "entities",
    }


def test_new_series_beyond_the_rate_wait_for_the_next_telling() -> None:
    fold = Fold(Detect(new_series_per_minute=100))
    sets = [label_set(f"r_total:{i}") for i in range(1_000)]
    fold.learn(sets, START_MS)
    assert len(fold.roster.table) == 100
    fold.learn(sets, START_MS + 30_000)
    assert len(fold.roster.table) == 100
    fold.learn(sets, START_MS + 60_000)
    assert len(fold.roster.table) == 200
    assert fold.roster.left_out.refused["new_series_per_minute", "workload/c/n/w"].times == 2_600
