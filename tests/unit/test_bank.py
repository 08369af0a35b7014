"""What a bank tells of entities, whatever the order, the split, or what comes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from watchkeep.detectors.arrays import Arrays, Field, SlotArray
from watchkeep.detectors.bank import Bank, Part
from watchkeep.detectors.channel import Scores, Span
from watchkeep.detectors.rarity import Rarity
from watchkeep.detectors.tails import LogExponential, Pareto

Floats = np.ndarray[Any, np.dtype[np.float64]]

CELL_MS = 300_000
# Three entities: one of a single signal, one of three, one of two.
ENTITY = np.array([0, 1, 1, 1, 2, 2])
SIGNALS = len(ENTITY)
few = settings(max_examples=15)


@dataclass(frozen=True)
class Echo:
    """A channel that is warm at once, and whose score is the value."""

    name: str
    fields: ClassVar[Mapping[str, Field]] = {"steps": Field("i4", 0)}

    def seed(
        self, state: Arrays, slots: SlotArray, value: Floats, cells: np.ndarray[Any, Any]
    ) -> None:
        """Learn nothing."""

    def step(self, state: Arrays, slots: SlotArray, span: Span, value: Floats) -> Scores:
        """Give the value back, of a cell that has a width."""
        assert span.end_ms > span.begin_ms
        state["steps"][slots] += 1
        none = np.full(len(slots), np.nan)
        return Scores(np.where(np.isfinite(value), value, np.nan), none, none, np.ones(len(slots)))


def _quick(parts: str = "sudden slow") -> Callable[[], Bank]:
    """Give banks that are warm in no time: scores are values, and blocks are short."""
    tail = Rarity(Pareto(), block_cells=2, warm_blocks=3, refit_ms=4 * CELL_MS)
    novel = Rarity(LogExponential(), block_cells=2, warm_blocks=3, refit_ms=0)
    known = {
        "sudden": Part(Echo("sudden"), tail, slow=False),
        "slow": Part(Echo("slow"), novel, slow=True),
    }
    fused = replace(tail, tail=Pareto(trust=None))
    return lambda: Bank(tuple(known[name] for name in parts.split()), fused)


# The true one is seldom warm in these; for it, see the tests of days.
MADE = {"quick": _quick(), "true": Bank}
every_bank = pytest.mark.parametrize("make", MADE.values(), ids=MADE)


class Told(NamedTuple):
    """What a bank told: rarities [cell, entity], and those of signals [cell, signal]."""

    rarity: Floats
    alone: Floats


def placed(bank: Bank, entity: SlotArray = ENTITY) -> Bank:
    bank.place(np.arange(len(entity)), entity, entity % 3 / 3)
    return bank


def run(
    bank: Bank,
    rows: Floats,
    begin: int = 0,
    calls: Callable[[], Sequence[Sequence[int]]] | None = None,
    entity: SlotArray = ENTITY,
) -> Told:
    """Step through values [cell, signal], slot i being column i."""
    told = Told(np.full((len(rows), int(entity.max()) + 1), np.nan), np.full(rows.shape, np.nan))
    for i, row in enumerate(rows):
        for call in calls() if calls else [range(len(row))]:
            slots = np.array(call, np.int64)
            decision = bank.step(Span((begin + i) * CELL_MS, CELL_MS), slots, row[slots])
            assert decision.entity.tolist() == sorted(set(entity[slots].tolist()))
            told.rarity[i, decision.entity] = decision.rarity
            told.alone[i, slots] = decision.alone
    return told


def same(one: Told, other: Told) -> None:
    for left, right in zip(one, other, strict=True):
        np.testing.assert_array_equal(left, right, strict=True)


def stored(bank: Bank) -> dict[str, bytes]:
    return {name: column.tobytes() for name, column in bank.dump().items()}


def back(make: Callable[[], Bank], bank: Bank) -> Bank:
    """Put a bank through bytes, as a snapshot does."""
    other = make()
    columns = {
        name: np.frombuffer(column.tobytes(), column.dtype).reshape(column.shape)
        for name, column in bank.dump().items()
    }
    other.restore(columns)
    return other


def noise(cells: int, signals: int = SIGNALS, seed: int = 1) -> Floats:
    return np.random.default_rng(seed).normal(0, 5, (cells, signals))


@st.composite
def tables(draw: st.DrawFn, low: int = 4) -> Floats:
    """Draw values [cell, signal]: noise, constants, zeros, gaps, and what is no value at all."""
    cells = draw(st.integers(low, 60))
    rows = noise(cells, seed=draw(st.integers(0, 1_000)))
    rows[:, draw(st.integers(0, SIGNALS - 1))] = draw(st.just(0.0) | st.floats(-1e6, 1e6))
    for _ in range(draw(st.integers(0, 8))):
        begin, signal = draw(st.integers(0, cells - 1)), draw(st.integers(0, SIGNALS - 1))
        length = draw(st.sampled_from([1, 2, 25, cells]))
        odd = st.sampled_from([np.nan, np.inf, -np.inf, 0.0, 1e300, -1e300, 9e149, 5e-324])
        rows[begin : begin + length, signal] = draw(odd | st.floats(-1e9, 1e9))
    return rows


def test_a_quick_bank_is_warm_in_no_time() -> None:
    """What follows would show little if it weren't."""
    told = run(placed(_quick()()), noise(30))
    assert all(np.isfinite(column[20:]).all() for column in told)


@every_bank
@few
@given(tables(), st.randoms(use_true_random=False))
def test_neither_the_order_of_slots_nor_the_split_by_entities_matters(
    make: Callable[[], Bank], rows: Floats, dice: Random
) -> None:
    def calls() -> list[list[int]]:
        order = dice.sample(range(SIGNALS), SIGNALS)
        first = dice.sample(range(3), dice.randint(1, 2))
        return [
            [slot for slot in order if ENTITY[slot] in first],
            [slot for slot in order if ENTITY[slot] not in first],
        ]

    one, other = placed(make()), placed(make())
    same(run(one, rows), run(other, rows, calls=calls))
    assert stored(one) == stored(other)


@every_bank
@few
@given(tables(), st.integers(0, 60), st.integers(0, 40))
def test_neither_a_snapshot_nor_growth_changes_anything(
    make: Callable[[], Bank], rows: Floats, cut: int, more: int
) -> None:
    bank = placed(make())
    before = run(bank, rows[:cut])
    bank = back(make, bank)
    bank.place(np.arange(more) + SIGNALS, np.arange(more) + 3, np.zeros(more))
    after = run(bank, rows[cut:], cut)
    whole = run(placed(make()), rows)
    same(Told(*map(np.concatenate, zip(before, after, strict=True))), whole)


@every_bank
@few
@given(tables(), tables(), st.integers(0, 60))
def test_the_future_does_not_change_the_past(
    make: Callable[[], Bank], rows: Floats, other: Floats, cut: int
) -> None:
    past = len(rows[:cut])
    turned = run(placed(make()), np.concatenate([rows[:cut], other]))
    whole = run(placed(make()), rows)
    same(Told(turned.rarity[:past], turned.alone[:past]), Told(*(told[:past] for told in whole)))


@every_bank
@few
@given(tables(), st.integers(0, 2))
def test_an_entity_depends_on_its_own_signals_alone_and_not_on_their_slots(
    make: Callable[[], Bank], rows: Floats, entity: int
) -> None:
    """They lie in the middle of others here."""
    own = np.flatnonzero(np.equal(ENTITY, entity))
    bank = make()
    bank.place(own + 7, np.full(len(own), 5), np.full(len(own), entity / 3))
    whole = run(placed(make()), rows)
    for i, row in enumerate(rows):
        told = bank.step(Span(i * CELL_MS, CELL_MS), own + 7, row[own])
        np.testing.assert_array_equal(told.rarity, whole.rarity[i, [entity]])
        np.testing.assert_array_equal(told.alone, whole.alone[i, own])


@every_bank
@few
@given(tables())
def test_an_entity_of_one_signal_is_as_rare_as_that(make: Callable[[], Bank], rows: Floats) -> None:
    told = run(placed(make()), rows)
    np.testing.assert_array_equal(told.rarity[:, 0], told.alone[:, 0])


@every_bank
@few
@given(tables(), tables())
def test_what_is_freed_begins_anew_and_the_rest_goes_on(
    make: Callable[[], Bank], rows: Floats, other: Floats
) -> None:
    """The first entity and the last lose their signals; slots never placed are passed over."""
    bank = placed(make())
    run(bank, rows)
    untouched = back(make, bank)
    bank.free(np.array([5, 0, 4, 10, 10_000]))
    bank.place(np.array([0, 4, 5]), ENTITY[[0, 4, 5]], ENTITY[[0, 4, 5]] / 3)
    after = run(bank, other, len(rows))
    anew = run(placed(make()), other, len(rows))
    goes_on = run(untouched, other, len(rows))
    np.testing.assert_array_equal(after.rarity[:, [0, 2]], anew.rarity[:, [0, 2]])
    np.testing.assert_array_equal(after.alone[:, [0, 4, 5]], anew.alone[:, [0, 4, 5]])
    np.testing.assert_array_equal(after.rarity[:, 1], goes_on.rarity[:, 1])


def test_an_entity_is_as_many_signals_as_it_has_left() -> None:
    """Of two, one is freed: its past goes on, and the other alone decides."""
    bank = placed(_quick()())
    run(bank, noise(40))
    bank.free(np.array([5]))
    row = noise(1, seed=2)[0, :5]
    told = bank.step(Span(40 * CELL_MS, CELL_MS), np.arange(5), row)
    assert told.rarity[2] == told.alone[4]
    assert told.rarity[1] != np.fmax.reduce(told.alone[1:4])


def test_no_signals_at_all_are_no_trouble() -> None:
    none = np.empty(0, np.int64)
    bank = Bank()
    bank.place(none, none, np.empty(0))
    bank.free(none)
    told = bank.step(Span(0, CELL_MS), none, np.empty(0))
    assert [len(column) for column in told[:3]] == [0, 0, 0]
    back(Bank, bank)


@every_bank
@few
@given(tables(), st.integers(0, 40_000))
def test_whatever_comes_rarities_are_finite_or_not_told(
    make: Callable[[], Bank], rows: Floats, gap: int
) -> None:
    """Also after a gap of up to months, and of signals that come as late as that."""
    bank = placed(make())
    early = run(bank, rows, calls=lambda: [range(4)])
    late = run(bank, rows, len(rows) + gap)
    for told in (*early, *late):
        assert not np.isinf(told).any()


def test_days_of_signals_that_show_nothing_and_of_odd_ones_are_survived() -> None:
    """A constant entity is never rare; one jump of its signals is."""
    rows = np.full((4_500, SIGNALS), 7.0)
    rows[:, 4:] = noise(4_500, 2)
    rows[::600, 4] = [np.nan, np.inf, 1e300, -1e300, 0, 1e149, 1e31, -np.inf]
    rows[3_000:4_000, 5] = np.nan
    bank = placed(Bank())
    told = run(bank, rows)
    for column in told:
        assert not np.isinf(column).any()
    assert not (told.rarity[:, :2] > 0).any()
    assert np.isfinite(told.rarity[-1, 1:]).all()
    jump = rows[:1].copy()
    jump[0, 1:4] = 9
    after = [run(bank, jump, 4_500 + i).rarity[0, 1] for i in range(3)]
    assert max(after) > 0


def test_signals_that_agree_are_rarer_than_one_that_is_alone() -> None:
    """Three of one entity show the same as one of another, whose pasts are alike."""
    bank = Bank()
    entity = np.repeat([0, 1], 3)
    bank.place(np.arange(6), entity, np.zeros(6))
    rows = np.tile(noise(1_500, 3), 2)
    rows[-1, [0, 1, 2, 3]] = 60
    told = run(bank, rows, entity=entity).rarity[-1]
    assert told[0] > told[1] + 0.5


def test_what_signals_show_one_after_the_other_adds_up_over_three_cells() -> None:
    bank = Bank()
    entity = np.repeat([0, 1, 2], 3)
    bank.place(np.arange(9), entity, np.zeros(9))
    rows = np.tile(noise(1_500, 3), 3)
    rows[-1, [0, 1, 2]] = 60  # At once.
    rows[[-1, -2, -3], [3, 4, 5]] = 60
    rows[[-1, -2, -4], [6, 7, 8]] = 60  # The first of these is over.
    at_once, in_turn, too_late = run(bank, rows, entity=entity).rarity[-1]
    assert in_turn > too_late + 0.2
    assert at_once == pytest.approx(in_turn, abs=0.5)


def test_a_signal_counts_on_its_own_side_alone() -> None:
    """Three entities whose signals page above, below and on both sides, and go up by the same."""
    bank = Bank()
    entity = np.repeat([0, 1, 2], 3)
    side = np.repeat(np.array([1, -1, 0], np.int8), 3)
    bank.place(np.arange(9), entity, np.zeros(9), side=side)
    rows = np.tile(noise(1_500, 3), 3)
    rows[-1] = 60
    above, below, both = run(bank, rows, entity=entity).rarity[-1]
    assert above > 0
    assert above > below + 2
    assert above == pytest.approx(both, abs=0.7)


def test_one_signal_beside_the_sum_pages_only_where_its_worse_side_is_known() -> None:
    """Of two entities of ten signals one signal moves; neither sum shows much of it."""
    bank = Bank()
    entity = np.repeat([0, 1, 2], 10)
    side = np.repeat(np.array([1, 0, -1], np.int8), 10)
    bank.place(np.arange(30), entity, np.zeros(30), side=side)
    rows = np.tile(noise(1_500, 10), 3)
    rows[-1, [0, 10, 20]] = 60
    decision = run(bank, rows, entity=entity)
    above, both, below = decision.rarity[-1]
    # What it escalates by gains nothing here, and it counts as one of ten.
    assert above == pytest.approx(decision.alone[-1, 0] + 0.1 - 1.2 - 1, abs=0.01)
    assert above > both > below


def test_what_goes_the_other_way_is_ordinary_and_not_unknown() -> None:
    """What so many calm signals add is reckoned by all whose rarity is known."""
    bank = Bank()
    bank.place(np.arange(2), np.zeros(2, np.int64), np.zeros(2), side=np.array([1, -1], np.int8))
    rows = noise(400, 2)
    run(bank, rows, entity=np.zeros(2, np.int64))
    decision = bank.step(Span(400 * CELL_MS, CELL_MS), np.arange(2), np.array([60.0, 60.0]))
    assert decision.alone[0] > 0
    assert decision.alone[1] < -3


def _escalations(levels: Mapping[int, float], cells: int) -> list[int]:
    """Tell at which cells one slow signal counted, of which the values are given; else 1 to 2."""
    rows = 1 + np.random.default_rng(1).random((cells, 1))
    rows[0] = 2
    for cell, value in levels.items():
        rows[cell] = value
    bank = _quick("slow")()
    bank.place(np.array([0]), np.array([0]), np.array([0.0]))
    alone = run(bank, rows, entity=np.array([0])).alone[:, 0]
    return [cell for cell in levels if alone[cell] > 0]


def test_an_escalation_counts_once_and_again_only_when_it_is_stronger() -> None:
    levels = {1_000: 2.3, 1_001: 2.2, 1_003: 2.2, 1_005: 80, 1_006: 40}
    assert _escalations(levels, 1_010) == [1_000, 1_005]


def test_an_escalation_counts_again_after_a_twentieth_of_the_life() -> None:
    """The same level is less rare the second time, but rarer than what came in between."""
    assert _escalations({1_000: 20, 1_040: 20, 1_120: 20}, 1_130) == [1_000, 1_120]


def test_a_rarity_of_a_slow_channel_stays_in_the_sum_until_its_next_look() -> None:
    bank = Bank()
    bank.place(np.arange(2), np.zeros(2, np.int64), np.zeros(2))
    rows = noise(400, 2)
    for i, row in enumerate(rows):
        bank.step(Span(i * CELL_MS, CELL_MS), np.arange(2), row)
    slow = bank.dump()["signals/slow"][:2]
    assert np.isfinite(slow).all()
    bank.step(Span(400 * CELL_MS, 60_000), np.arange(2), rows[0])
    np.testing.assert_array_equal(bank.dump()["signals/slow"][:2], slow)
    bank.step(Span(401 * CELL_MS - 60_000, 60_000), np.arange(2), rows[0] + 90)
    assert (bank.dump()["signals/slow"][:2] > slow).all()


def test_memory_is_that_of_the_columns() -> None:
    bank = placed(Bank())
    assert bank.nbytes == sum(column.nbytes for column in bank.dump().values())


def test_a_signal_is_known_from_its_first_cell_on() -> None:
    bank = placed(Bank())
    bank.step(Span(7 * CELL_MS, CELL_MS), np.array([2]), np.array([1.0]))
    bank.step(Span(8 * CELL_MS, CELL_MS), np.array([2]), np.array([1.0]))
    assert bank.known_ms(2, 10 * CELL_MS) == 3 * CELL_MS
    assert bank.known_ms(3, 10 * CELL_MS) == 0
