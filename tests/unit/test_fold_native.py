"""Native histograms become the rate, quantiles and average of what was observed."""

import math
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from folding import (
    FAR_MS,
    START_MS,
    STEP_MS,
    Native,
    Sample,
    a_frame,
    every,
    label_set,
    native_frame,
    put,
    put_native,
    told,
)
from folding import STALE as STALE_VALUE
from native import STALE, native
from watchkeep.detectors.fold import Fold
from watchkeep.detectors.native import BUCKETS_MAX, LIMIT
from watchkeep.schemas.frame import MetricKind
from watchkeep.schemas.remote_write_pb2 import Histogram
from watchkeep.schemas.settings import Detect
from watchkeep.streams.pipeline import Cluster
from watchkeep.streams.snapshot_state import State, capture_cluster, load_cluster

SCHEMA = 3
WIDTH = 2.0**2.0**-SCHEMA  # From where a bucket begins to where it ends.
SCRAPE_MS = 15_000
ENDED = Histogram(sum=STALE)

Signals = dict[str, dict[int, float]]


class Observed:
    """What a program has observed since it began."""

    def __init__(self, values: Iterable[float] = (), schema: int = SCHEMA) -> None:
        self.schema = schema
        self._positive: Counter[int] = Counter()
        self._negative: Counter[int] = Counter()
        self._sum = 0.0
        self.zeros = 0
        self.observe(values)

    def observe(self, values: Iterable[float]) -> Histogram:
        """Observe more, and tell all."""
        for value in values:
            self._sum += value
            if not value:
                self.zeros += 1
                continue
            side = self._positive if value > 0 else self._negative
            side[math.ceil(math.log2(abs(value)) * 2**self.schema)] += 1
        made = native(self._positive, self._negative, schema=self.schema, zero=self.zeros)
        made.sum = self._sum
        return made


def scrapes(name: str, parts: Sequence[Sequence[float]], first_ms: int = 0) -> list[Native]:
    """Scrape a program that observes a part before each scrape."""
    program = Observed()
    return [
        (name, first_ms + SCRAPE_MS * i, program.observe(values)) for i, values in enumerate(parts)
    ]


def closed(fold: Fold, minutes: float = 10) -> Signals:
    return told(fold, list(fold.close(START_MS + round(minutes * STEP_MS) + 15_000)))


def folded(frames: Sequence[Sequence[Native]], minutes: float = 10) -> Signals:
    fold = Fold(Detect())
    put(fold, [("first:z", 0, 1.0)])  # The grid begins with the first frame.
    for frame in frames:
        if frame:
            put_native(fold, frame)
    return closed(fold, minutes)


def within_a_bucket(found: float, true: float) -> bool:
    return bool(true / WIDTH <= found <= true * WIDTH)


def some(seed: int, count: int) -> list[float]:
    dice = random.Random(seed)
    return [dice.lognormvariate(-2, 1) for _ in range(count)]


def test_signals_are_those_of_what_was_observed() -> None:
    """Of two members, told in frames of all members and in frames of one."""
    one, other = ([some(seed + i, 200) for i in range(5)] for seed in (10, 20))
    programs = scrapes("s:a", one), scrapes("s:b", other)
    true = sorted(value for parts in (one, other) for values in parts[1:] for value in values)
    for frames in (programs, [programs[0] + programs[1]], zip(*programs, strict=True)):
        signals = folded(list(frames), 1)
        assert signals["s"] == pytest.approx({0: len(true) / 60})
        assert signals["average(s)"] == pytest.approx({0: np.mean(true)})
        assert within_a_bucket(signals["p50(s)"][0], true[len(true) // 2])
        assert within_a_bucket(signals["p99(s)"][0], true[len(true) * 99 // 100])


def test_members_are_told_apart_by_their_rate() -> None:
    fold = Fold(Detect())
    put_native(fold, scrapes("s:a", [[1.0]] * 5) + scrapes("s:b", [[1.0, 1.0]] * 5))
    (cell, *_) = fold.close(START_MS + STEP_MS + 15_000)
    titles = [fold.roster.signal(slot).title for slot in cell.slots.tolist()]
    assert dict(zip(titles, cell.members.tolist(), strict=True))["p99(s)"] == 2
    assert told(fold, [cell])["s"] == {0: 12 / 60}


def test_a_bucket_that_appears_counts_from_nothing() -> None:
    parts = [[1.0] * 1_000, [1.0] * 2, [1.0] + [64.0] * 3, [1.0] * 2, [1.0] * 2]
    signals = folded([[scrape] for scrape in scrapes("s:a", parts)], 1)
    # Of the ten that came since the first, three were slow.
    assert within_a_bucket(signals["p50(s)"][0], 1.0)
    assert within_a_bucket(signals["p99(s)"][0], 64.0)


def test_what_was_counted_before_the_first_sample_is_not_told() -> None:
    parts = [[64.0] * 1_000, [1.0], [1.0], [1.0], [1.0]]
    assert folded([scrapes("s:a", parts)], 1)["p99(s)"][0] <= 1.0


def test_values_below_nothing_and_around_it_are_folded() -> None:
    parts = [[-4.0, 0.0, 4.0], *[[-4.0] * 2 + [0.0] + [4.0] * 2] * 4]
    signals = folded([scrapes("s:a", parts)], 1)
    assert signals["p50(s)"][0] == pytest.approx(0, abs=1e-30)
    assert within_a_bucket(signals["p99(s)"][0], 4.0)


@pytest.mark.parametrize("at_once", [True, False])
def test_a_reset_is_no_spike(at_once: bool) -> None:
    """A container begins anew in its pod: buckets that are gone come back one by one."""
    before = scrapes("s:a", [[1.0] * 1_000 + [64.0] * 100, *[[1.0] * 15] * 3])
    after = scrapes("s:a", [[1.0] * 15] * 4 + [[64.0] * 15], first_ms=4 * SCRAPE_MS)
    whole = before + after
    signals = folded([whole] if at_once else [[scrape] for scrape in whole], 2)
    assert signals["s"] == pytest.approx({0: 1.0, 1: 1.0})
    assert signals["average(s)"] == pytest.approx({0: 1.0, 1: (45 + 15 * 64) / 60})
    assert within_a_bucket(signals["p99(s)"][0], 1.0)
    # The slow ones after the restart are told in full: a quarter of all.
    assert within_a_bucket(signals["p50(s)"][1], 1.0)
    assert within_a_bucket(signals["p99(s)"][1], 64.0)


def test_the_stale_marker_ends_it() -> None:
    """What comes later is not what was counted in between."""
    ending = [*scrapes("s:a", [[1.0] * 15] * 5), ("s:a", 4 * SCRAPE_MS + 1, ENDED)]
    again = scrapes("s:a", [[64.0] * 100 + [1.0] * 90, *[[1.0] * 15] * 4], first_ms=3 * STEP_MS)
    signals = folded([ending, again], 4)
    assert signals["s"] == pytest.approx({0: 1.0, 3: 1.0})
    assert list(signals["p99(s)"]) == [0, 3]
    assert signals["p99(s)"][3] <= 1.0


def test_a_bucket_that_vanishes_is_silent_at_once() -> None:
    fold = Fold(Detect())
    put_native(fold, scrapes("s:a", [[64.0], [64.0], [64.0]]))
    put_native(fold, scrapes("s:a", [[1.0]], first_ms=3 * SCRAPE_MS))
    assert closed(fold, 3)["p99(s)"] == pytest.approx(
        {0: pytest.approx(64, rel=0.1), 1: pytest.approx(1, rel=0.1), 2: pytest.approx(1, rel=0.1)}
    )


@pytest.mark.parametrize("at_once", [True, False])
def test_bounds_that_are_drawn_anew_are_no_spike(at_once: bool) -> None:
    """A program that has too many buckets halves its resolution and keeps its counts."""
    old = [some(1, 50) + [64.0] * 1_000, *[[1.0] * 15] * 2]
    coarse = Observed([value for part in old for value in part], schema=SCHEMA - 1)
    later = [("s:a", SCRAPE_MS * i, coarse.observe([1.0] * 15)) for i in range(3, 6)]
    whole = scrapes("s:a", old) + later
    signals = folded([whole] if at_once else [[scrape] for scrape in whole], 2)
    assert signals["s"] == pytest.approx({0: 1.0, 1: 1.0})
    for minute in (0, 1):
        assert signals["p99(s)"][minute] <= 1.0


def test_custom_bounds_are_folded() -> None:
    def custom(*counts: int) -> Histogram:
        made = native(dict(enumerate(counts)), schema=-53, threshold=0)
        made.custom_values.extend([0.1, 0.4])
        return made

    frame = [("s:a", 0, custom(1, 1, 1)), ("s:a", STEP_MS, custom(61, 101, 1))]
    signals = folded([frame], 1)
    assert signals["p50(s)"] == pytest.approx({0: 0.1 + 0.3 * 20 / 100})
    assert folded([[("s:a", 0, custom(0, 0, 1)), ("s:a", STEP_MS, custom(0, 0, 9))]], 1)[
        "p99(s)"
    ] == pytest.approx({0: 0.4})


def test_a_family_that_is_sent_both_ways_is_counted_once() -> None:
    scraped = scrapes("s:a", [[1.0] * 15] * 5)
    kinds = dict.fromkeys(("s_count", "s_sum", "s_bucket"), MetricKind.HISTOGRAM)

    def classic(first: int, last: int) -> list[Sample]:
        return [
            (f"{name}:a", SCRAPE_MS * i, 15.0 * i)
            for i in range(first, last)
            for name in ("s_count", "s_sum", "s_bucket{le=64}", "s_bucket{le=+Inf}")
        ]

    together, native_first, classic_first = Fold(Detect()), Fold(Detect()), Fold(Detect())
    put_native(together, scraped, classic(0, 5), kinds)
    put_native(native_first, scraped)
    put(native_first, classic(0, 5), kinds)
    put(classic_first, classic(0, 5), kinds)
    put_native(classic_first, scraped)
    for fold in (together, native_first, classic_first):
        signals = closed(fold, 1)
        assert signals["s"] == {0: 1.0}
        assert signals["average(s)"] == {0: 1.0}
        assert signals["p99(s)"][0] <= 1.0
    assert "not_newer" not in together.drops
    assert "not_newer" not in classic_first.drops


def test_the_native_form_goes_on_where_the_classic_ends() -> None:
    """What is between the classic form's last sample and the first after its end is lost."""
    fold = Fold(Detect())
    kinds = {"s_count": MetricKind.HISTOGRAM}
    scraped = scrapes("s:a", [[1.0] * 15] * 13)
    put_native(fold, scraped[:5], [("s_count:a", i * SCRAPE_MS, 15.0 * i) for i in range(5)], kinds)
    put_native(fold, scraped[5:6], [("s_count:a", 5 * SCRAPE_MS, STALE_VALUE)], kinds)
    put_native(fold, scraped[6:])
    assert closed(fold, 3)["s"] == pytest.approx({0: 1.0, 1: 0.5, 2: 1.0})


def test_what_is_not_folded_is_counted_by_its_reason() -> None:
    fold = Fold(Detect())
    program = Observed([1.0])
    late = program.observe([])
    frame = native_frame([("s:a", 0, late)])
    fold.add(frame, FAR_MS)
    assert fold.drops == {"unknown_series": 1}
    put(fold, every("other:a", 30_000, [1, 2]))
    fold.add(frame, FAR_MS)
    assert fold.drops == {"unknown_series": 2}
    fold.drops.clear()
    scraped = scrapes("s:a", [[1.0]] * 5)
    put_native(fold, [scraped[i] for i in (1, 3, 2, 2, 3, 4, 4)])
    put_native(fold, scraped)
    assert fold.drops == {"not_newer": 9}
    put_native(fold, [("s:a", FAR_MS + 1 - START_MS, late), ("s:a", -START_MS - 5, late)])
    assert fold.drops == {"not_newer": 9, "clock_ahead": 1, "before_1970": 1}
    put_native(fold, [("s:a", 1, late)])
    fold.learn([label_set("odd:a")], START_MS)
    fold.add(native_frame([("odd:a", 0, late)]), FAR_MS)
    assert fold.drops["no_histogram"] == 1


def test_order_within_a_frame_is_that_of_time() -> None:
    """What is not newer changes nothing, and hides nothing."""
    scraped = scrapes("s:a", [[1.0] * 15, [2.0] * 15, [4.0] * 15, [8.0] * 15, [1.0] * 15])
    clean = folded([scraped], 1)
    assert folded([[scraped[i] for i in (0, 1, 0, 2, 1, 2, 3, 3, 0, 4)]], 1) == clean


_PARTS = st.lists(st.sampled_from([-8.0, 0.0, 0.25, 1.0, 1.1, 2.0, 64.0]), max_size=4)
_LIVES = st.lists(st.lists(_PARTS, min_size=1, max_size=5), min_size=1, max_size=4)


@st.composite
def histories(draw: st.DrawFn) -> list[Native]:
    """Pods whose programs begin anew, end, and are scraped out of order."""
    whole: list[Native] = []
    for pod in "ab":
        at = 0
        for parts in draw(_LIVES):
            program = Observed(schema=draw(st.sampled_from([2, 3])))
            for values in parts:
                at += draw(st.sampled_from([1_000, SCRAPE_MS, SCRAPE_MS, 2 * STEP_MS]))
                whole.append((f"s:{pod}", at, program.observe(values)))
            if draw(st.booleans()):
                at += 1
                whole.append((f"s:{pod}", at, ENDED))
    if draw(st.booleans()):
        whole.sort(key=lambda sample: sample[1])
    for _ in range(draw(st.integers(0, 3))):
        whole.insert(draw(st.integers(0, len(whole))), draw(st.sampled_from(whole)))
    return whole


_CUTS = st.lists(st.integers(0, 40), max_size=6)


def cut_at(whole: Sequence[Native], cuts: Sequence[int]) -> list[Sequence[Native]]:
    return [
        whole[a:b] for a, b in pairwise([0, *sorted(min(c, len(whole)) for c in cuts), len(whole)])
    ]


@settings(max_examples=60)
@given(histories(), _CUTS)
def test_the_split_of_frames_changes_nothing(whole: list[Native], cuts: list[int]) -> None:
    one, other = folded([whole], 60), folded(cut_at(whole, cuts), 60)
    assert one.keys() == other.keys()
    for title, values in one.items():
        assert other[title] == pytest.approx(values, rel=1e-6, abs=1e-9), title


@settings(max_examples=40)
@given(histories(), st.integers(0, 40), st.integers(0, 8))
def test_a_restart_changes_nothing(whole: list[Native], cut: int, minutes: int) -> None:
    """Not even the last bit."""

    def run(*, restarted: bool) -> str:
        cluster = Cluster(Detect())
        cells = []
        for number, part in enumerate(cut_at(whole, [cut])):
            if part:
                put_native(cluster.fold, part)
            if not number:
                cells += list(cluster.fold.close(START_MS + minutes * STEP_MS))
                if restarted:
                    head, columns = capture_cluster(cluster)
                    cluster = load_cluster(State(head, columns), Detect())
        cells += list(cluster.fold.close(START_MS + 40 * STEP_MS))
        return repr([told(cluster.fold, cells), sorted(cluster.fold.drops.items())])

    assert run(restarted=True) == run(restarted=False)


@settings(max_examples=40)
@given(histories())
def test_whatever_comes_signals_are_numbers(whole: list[Native]) -> None:
    fold = Fold(Detect())
    put_native(fold, whole)
    for title, values in closed(fold, 60).items():
        assert np.isfinite(list(values.values())).all(), title


def alive(fold: Fold, minutes: Iterable[int]) -> None:
    for minute in minutes:
        samples = every("alive:z", 30_000, [minute % 7, minute % 5], first_ms=minute * STEP_MS)
        fold.learn([label_set("alive:z")], START_MS)
        fold.add(a_frame(samples), START_MS + (minute + 1) * STEP_MS)
        list(fold.close(START_MS + (minute + 1) * STEP_MS))


def test_nothing_is_left_of_what_is_gone() -> None:
    """Its slots are used again, and the histogram that stays doesn't take them for its own."""
    fold = Fold(Detect())
    alive(fold, range(1))
    sizes = len(fold.roster.table), len(fold.roster.member_slot), fold.roster.version
    for pod in "abc":
        put_native(fold, scrapes(f"s:{pod}", [some(i, 50) for i in range(4)], first_ms=STEP_MS))
    assert len(fold.roster.natives) == 3
    roster = fold.roster
    alive(fold, range(2, 150))
    assert not roster.natives
    assert (len(roster.table), len(roster.member_slot)) == sizes[:2]
    used = roster.strand_slots.used - len(roster.strand_slots.free)
    assert used == 1
    assert len(roster.signal_slot) == 6


def test_buckets_that_are_gone_leave_the_histogram() -> None:
    """Their slots go to others, which must not end with it."""
    fold = Fold(Detect())
    put_native(fold, scrapes("s:a", [some(1, 200), some(2, 200)]))
    (own,) = fold.roster.natives
    for minute in range(2, 150):
        scraped = [("s:a", minute * STEP_MS, native({0: minute}))]
        frame = native_frame(scraped)
        fold.learn(frame.label_sets, frame.gateway_ms)
        fold.add(frame, START_MS + minute * STEP_MS)
        list(fold.close(START_MS + minute * STEP_MS))
    assert len(fold.roster.natives[own].buckets) == 1
    assert len(fold.roster.table) == 4


def test_buckets_beyond_the_limit_are_refused_by_name() -> None:
    """A hostile sender has other bounds each time."""
    fold = Fold(Detect())
    for i in range(50):
        made = native(dict.fromkeys(range(200), 5 + i), schema=-53, threshold=0)
        made.custom_values.extend(sorted(random.Random(i).sample(range(10**6), 200)))
        put_native(fold, [("s:a", i * 1_000, made), ("t:a", i * 1_000, native({0: i + 1}))])
    roster = fold.roster
    assert len(roster.table) == 2 + 2 * 2 + BUCKETS_MAX + 1
    refused = roster.left_out.refused[LIMIT, "workload/c/n/w"]
    assert refused.times == 50 * 200 - BUCKETS_MAX
    assert refused.example == "p99(s)"
    signals = closed(fold, 1)
    assert signals["t"][0] == pytest.approx(1.0)
    assert signals["p99(t)"][0] <= 1.0


@pytest.mark.parametrize("value", [1e300, 1e-300, 2.0**1023, 3.5e38, 1e30])
def test_odd_bounds_do_no_harm(value: float) -> None:
    signals = folded([scrapes("s:a", [[value, -value, 1.0]] * 5)], 1)
    assert all(np.isfinite(list(values.values())).all() for values in signals.values())


@pytest.mark.parametrize("total", [math.nan, math.inf, -math.inf, -1.0, 1e308])
def test_odd_sums_do_no_harm(total: float) -> None:
    scraped = scrapes("s:a", [[1.0] * 15] * 5)
    scraped[2][2].sum = total
    signals = folded([scraped], 1)
    assert signals["s"] == {0: 1.0}
    assert all(np.isfinite(list(values.values())).all() for values in signals.values())
