"""Rarity means what it says, and depends on a signal's own past alone."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from watchkeep.detectors.arrays import Arrays
from watchkeep.detectors.channel import Span
from watchkeep.detectors.rarity import WEEK_MS, Rarity
from watchkeep.detectors.tails import LogExponential, Pareto, Prior

Floats = np.ndarray[Any, np.dtype[np.float64]]

SIGNALS = 4
HALF_HOUR_MS, HOUR_MS = 1_800_000, 3_600_000
BUDGETS = (0.1, 0.3, 1.0, 3.0, 10.0)
ODD = [np.nan, np.inf, -np.inf, 0.0, 1e300, -1e300, 1e6, 1e-300, 5e-324]

USUAL = Prior(blocks=24, median=1.0, high=3.0, known=8)
WITH_PRIOR = Rarity(Pareto(prior=USUAL), block_cells=1, warm_blocks=2, settled_blocks=24)

# Small blocks, fitted often; one forgets so fast that its weights are scaled down now and then.
SMALL = [
    Rarity(Pareto(), block_cells=2, warm_blocks=3, refit_ms=5 * HALF_HOUR_MS),
    Rarity(Pareto(memory_weeks=0.003, trust=None), 2, warm_blocks=3, refit_ms=0),
    Rarity(LogExponential(), block_cells=3, warm_blocks=2, refit_ms=0),
    Rarity(Pareto(prior=USUAL), 2, warm_blocks=2, refit_ms=5 * HALF_HOUR_MS, settled_blocks=6),
]
KINDS = ["pareto", "forgetful", "logexponential", "prior"]
every_kind = pytest.mark.parametrize("rarity", SMALL, ids=KINDS)
few = settings(max_examples=25)


def fresh(rarity: Rarity, size: int = SIGNALS) -> Arrays:
    state = Arrays(rarity.fields)
    state.grow(size)
    return state


def run(
    rarity: Rarity,
    rows: Floats,
    state: Arrays | None = None,
    begin: int = 0,
    *,
    orders: Callable[[], Sequence[Sequence[int]]] | None = None,
    step_ms: int = HALF_HOUR_MS,
) -> Floats:
    """Step through scores [cell, signal], slot i being column i: rarities [cell, signal]."""
    state = state or fresh(rarity, rows.shape[1])
    result = np.full(rows.shape, -1.0)
    for i, row in enumerate(rows):
        for order in orders() if orders else [range(rows.shape[1])]:
            slots = np.array(order, np.int64)
            span = Span((begin + i) * step_ms, step_ms)
            result[i, slots] = rarity.step(state, slots, span, row[slots], slots % 5 / 5)
    return result


def stored(state: Arrays) -> dict[str, bytes]:
    return {name: column[:SIGNALS].tobytes() for name, column in state.dump().items()}


def level(rarity: Rarity, state: Arrays, wanted: float) -> float:
    """Find the score of the first signal that is so rare."""
    sizes = np.geomspace(1e-3, 1e5, 4_000)
    copies = fresh(rarity, len(sizes))
    copies.restore({name: column[[0] * len(sizes)] for name, column in state.dump().items()})
    slots = np.arange(len(sizes))
    rarities = rarity.step(copies, slots, Span(0, HALF_HOUR_MS), sizes, np.zeros(len(slots)))
    return float(sizes[np.argmax(rarities >= wanted)])


@st.composite
def tables(draw: st.DrawFn) -> Floats:
    """Draw scores [cell, signal]: noise, nothing, gaps, and what is no score at all."""
    cells = draw(st.integers(4, 80))
    dice = np.random.default_rng(draw(st.integers(0, 1_000)))
    rows: Floats = dice.normal(size=(cells, SIGNALS)) * dice.lognormal(0, 2, SIGNALS)
    for _ in range(draw(st.integers(0, 8))):
        begin, signal = draw(st.integers(0, cells - 1)), draw(st.integers(0, SIGNALS - 1))
        length = draw(st.sampled_from([1, 2, 25, cells]))
        rows[begin : begin + length, signal] = draw(st.sampled_from(ODD) | st.floats(-1e9, 1e9))
    return rows


DRAWS: dict[str, Callable[[np.random.Generator, tuple[int, ...]], Floats]] = {
    "exponential": lambda dice, shape: dice.exponential(size=shape),
    "half-normal": lambda dice, shape: np.abs(dice.normal(size=shape)),
    "log-normal": lambda dice, shape: dice.lognormal(size=shape),
    "pareto": lambda dice, shape: (dice.random(shape) ** -0.15 - 1) / 0.15,
}


TAILS: dict[str, Pareto | LogExponential] = {"pareto": Pareto(), "logexponential": LogExponential()}


@cache
def weekly(tail: str, scores: str) -> dict[float, float]:
    """Count the blocks a week that are rarer than each budget, in two of four months of noise."""
    step_ms, of = (HALF_HOUR_MS, 30) if tail == "pareto" else (HOUR_MS, 12)
    week = WEEK_MS // step_ms
    dice = np.random.default_rng(1)
    rows = np.array([DRAWS[scores](dice, (of, 30)).max(axis=0) for _ in range(16 * week)])
    rarities = run(Rarity(TAILS[tail], block_cells=1, warm_blocks=24), rows, step_ms=step_ms)
    later = rarities[8 * week :]
    return {budget: (later > -np.log10(budget)).mean() * week for budget in BUDGETS}


@pytest.mark.parametrize("scores", DRAWS)
def test_log_exponential_lets_through_about_what_the_budget_allows(scores: str) -> None:
    assert 1 / 3 < weekly("logexponential", scores)[1.0] < 2
    assert 1 < weekly("logexponential", scores)[3.0] < 6


@pytest.mark.parametrize("scores", ["log-normal", "pareto"])
def test_pareto_lets_through_about_what_the_budget_allows_of_heavy_tails(scores: str) -> None:
    assert 1 / 2 < weekly("pareto", scores)[1.0] < 2
    assert 3 / 2 < weekly("pareto", scores)[3.0] < 6


@pytest.mark.parametrize("scores", ["exponential", "half-normal"])
def test_pareto_is_shy_of_light_tails(scores: str) -> None:
    """Its shape is that of real residuals, so thinner tails stay well below their budget."""
    assert weekly("pareto", scores)[1.0] < 0.2
    assert 3 < weekly("pareto", scores)[10.0] < 10


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("scores", DRAWS)
def test_a_larger_budget_lets_through_more(tail: str, scores: str) -> None:
    counts = list(weekly(tail, scores).values())
    assert counts == sorted(counts)
    assert counts[-1] > counts[2]


@every_kind
@few
@given(tables(), st.lists(st.floats(0, 1e9), min_size=2, max_size=20))
def test_a_larger_score_is_never_less_rare(
    rarity: Rarity, rows: Floats, sizes: list[float]
) -> None:
    state = fresh(rarity)
    run(rarity, rows, state)
    rarities = []
    for size in sorted(sizes):
        copy = fresh(rarity)
        copy.restore(state.dump())
        rarities.append(run(rarity, np.full((1, SIGNALS), size), copy, len(rows))[0])
    steps = np.diff(rarities, axis=0)
    assert (steps[np.isfinite(steps)] >= -1e-9).all()


@every_kind
def test_a_score_is_as_rare_below_as_above(rarity: Rarity) -> None:
    rows = np.random.default_rng(1).normal(size=(60, SIGNALS))
    np.testing.assert_array_equal(run(rarity, rows), run(rarity, -rows))


def test_anomalies_in_the_past_hardly_move_paretos_thresholds() -> None:
    """Two blocks of a hundred are a thousand times as high."""
    rarity = Rarity(Pareto(), block_cells=1, warm_blocks=24)
    dice = np.random.default_rng(1)
    calm = dice.lognormal(size=(6 * 336, 30, 1)).max(axis=1)
    marred = np.where(dice.random(calm.shape) < 0.02, 1_000 * calm, calm)
    levels = []
    for rows in (calm, marred):
        state = fresh(rarity, 1)
        run(rarity, rows, state)
        levels.append([level(rarity, state, wanted) for wanted in (0.0, 1.0)])
    ratios = np.divide(levels[1], levels[0])
    assert ratios == pytest.approx(1, abs=0.15)


def test_log_exponential_knows_the_oldest_block_as_well_as_the_newest() -> None:
    rarity = Rarity(LogExponential(), block_cells=1, warm_blocks=24, refit_ms=0)
    rows = np.random.default_rng(1).lognormal(size=(3_000, SIGNALS))
    rows[0] = 500
    one, other = fresh(rarity), fresh(rarity)
    run(rarity, rows, one)
    run(rarity, rows[::-1], other)
    assert stored(one) == stored(other)
    assert (one["blocks"][:SIGNALS].sum(axis=1) == 3_000).all()


def test_with_pareto_a_block_counts_half_after_its_memory() -> None:
    rarity = Rarity(Pareto(), block_cells=1, warm_blocks=24)
    state = fresh(rarity, 1)
    run(rarity, np.array([[5.0]]), state)
    run(rarity, np.zeros((8 * 336, 1)), state)
    blocks = state["blocks"][0] / state["weight"][0]
    assert blocks[1:].sum() == pytest.approx(0.5, rel=1e-3)


@pytest.mark.parametrize("shown", [0, 1, 3])
def test_where_next_to_nothing_happens_nothing_is_not_rare_but_something_is(shown: int) -> None:
    """For months, but for a few blocks in their middle."""
    rarity = Rarity(Pareto(), block_cells=1, warm_blocks=24)
    rows = np.zeros((14 * 336, 2))
    rows[1_000 : 1_000 + shown, 0] = 7.0
    rows[1_000 : 1_000 + 90 * shown : 90, 1] = 0.5
    state = fresh(rarity, 2)
    rarities = run(rarity, rows, state)[24:]
    assert not np.isnan(rarities).any()
    assert (rarities[rows[24:] == 0] < 0).all()
    assert (run(rarity, np.full((1, 2), 100.0), state, len(rows)) > 1).all()


def test_a_short_past_claims_less() -> None:
    """The same tail is known from few blocks, then from many."""
    rows = np.random.default_rng(1).exponential(size=(60, 1))
    by_trust = []
    for trust in (0.25, None):
        rarity = Rarity(Pareto(trust=trust), block_cells=1, warm_blocks=24, refit_ms=0)
        state = fresh(rarity, 1)
        run(rarity, rows, state)
        by_trust.append(run(rarity, np.array([[50.0]]), state, 60).item())
    assert by_trust[0] < by_trust[1] - 1


def test_a_prior_is_as_many_blocks_as_it_counts_and_has_its_quantiles() -> None:
    """A fit of nothing else is the prior's alone."""
    bins = Pareto.bins
    blocks = Pareto(prior=USUAL).with_prior(np.zeros((1, len(bins.low))))
    assert blocks.min() >= 0
    assert blocks.sum() == pytest.approx(USUAL.blocks)
    sums = blocks.cumsum(axis=1)
    for share, score in ((0.5, USUAL.median), (0.9, USUAL.high)):
        found = bins.quantile(blocks, sums, np.array([share * USUAL.blocks])).item()
        assert found == pytest.approx(score, rel=0.02)


@pytest.mark.parametrize("ratio", [0.2, 1.0, 3.0])
def test_with_a_prior_two_blocks_claim_neither_too_much_nor_too_little(ratio: float) -> None:
    """Signals may show a few times more or less than what is usual."""
    dice = np.random.default_rng(1)
    rows = ratio * dice.lognormal(0, 0.5, (48, 200))
    rarities = run(WITH_PRIOR, rows)
    assert np.isnan(rarities[:2]).all()
    assert np.isfinite(rarities[2:]).all()
    assert (rarities[2:] > 0).mean() * 336 < 3  # Alerts a week, of a budget of 1.
    state = fresh(WITH_PRIOR, 1)
    run(WITH_PRIOR, rows[:2, :1], state)
    assert 5 < level(WITH_PRIOR, state, 0.0) < 30


def test_without_a_prior_the_same_few_blocks_see_nothing_or_everything() -> None:
    rows = np.random.default_rng(1).lognormal(0, 0.5, (2, 1))
    state = fresh(WITH_PRIOR, 1)
    run(replace(WITH_PRIOR, tail=Pareto()), rows, state)
    assert not 1 < level(WITH_PRIOR, state, 0.0) < 1_000


@pytest.mark.parametrize("ratio", [0.1, 1.0, 10.0])
def test_a_long_past_outweighs_the_prior(ratio: float) -> None:
    rows = ratio * np.random.default_rng(1).lognormal(size=(8 * 336, 30, 1)).max(axis=1)
    levels = []
    for tail in (Pareto(prior=USUAL), Pareto()):
        rarity, state = replace(WITH_PRIOR, tail=tail), fresh(WITH_PRIOR, 1)
        run(rarity, rows, state)
        levels.append([level(rarity, state, wanted) for wanted in (0.0, 1.0)])
    assert np.array(levels[0]) / levels[1] == pytest.approx(1, abs=0.1)


def test_with_a_prior_a_signal_that_shows_nothing_is_silent_but_not_deaf() -> None:
    """From the second block on, for a day; then it jumps."""
    state = fresh(WITH_PRIOR, 1)
    for begin in range(48):
        told = run(WITH_PRIOR, np.zeros((1, 1)), state, begin)
        assert begin < 2 or told < 0
        assert begin < 2 or level(WITH_PRIOR, state, 0.0) < 30


@every_kind
def test_it_tells_nothing_before_it_is_warm(rarity: Rarity) -> None:
    cells = rarity.block_cells * rarity.warm_blocks
    rows = np.random.default_rng(1).normal(size=(cells + 1, SIGNALS))
    rarities = run(rarity, rows)
    assert np.isnan(rarities[:cells]).all()
    assert np.isfinite(rarities[cells]).all()


def test_after_the_first_fit_each_slot_is_fitted_at_its_own_time_of_day() -> None:
    rarity = Rarity(Pareto(), block_cells=1, warm_blocks=4)
    rows = np.random.default_rng(1).exponential(size=(4 + 3 * 48, SIGNALS))
    state = fresh(rarity)
    fits: list[list[int]] = [[] for _ in range(SIGNALS)]
    for i in range(len(rows)):
        before = state["refit_ms"].copy()
        run(rarity, rows[[i]], state, i)
        for slot in (state["refit_ms"] != before).nonzero()[0]:
            fits[slot].append(i)
    for slot, at in enumerate(fits):
        second = 3 + max(1, int(np.ceil(slot / 5 * 48)))
        assert at[:3] == [3, second, second + 48]


@every_kind
@few
@given(tables(), st.randoms(use_true_random=False))
def test_neither_the_order_of_signals_nor_the_split_of_a_cell_matters(
    rarity: Rarity, rows: Floats, dice: Random
) -> None:
    def orders() -> list[list[int]]:
        order = dice.sample(range(SIGNALS), SIGNALS)
        cut = dice.randint(0, SIGNALS)
        return [order[:cut], order[cut:]]

    one, other = fresh(rarity), fresh(rarity)
    split = run(rarity, rows, other, orders=orders)
    np.testing.assert_array_equal(run(rarity, rows, one), split)
    assert stored(one) == stored(other)


@every_kind
@few
@given(tables(), st.permutations(range(SIGNALS)))
def test_a_signal_depends_on_itself_alone_and_not_on_its_slot(
    rarity: Rarity, rows: Floats, places: list[int]
) -> None:
    """The stagger stays with the signal."""
    cells = [Span(i * HALF_HOUR_MS, HALF_HOUR_MS) for i in range(len(rows))]
    slots, stagger = np.array(places), np.arange(SIGNALS) / 5
    moved = fresh(rarity, SIGNALS + 3)
    told = [
        rarity.step(moved, slots + 3, *given, stagger) for given in zip(cells, rows, strict=True)
    ]
    np.testing.assert_array_equal(told, run(rarity, rows))
    alone = run(rarity, rows[:, [0]])
    np.testing.assert_array_equal(np.array(told)[:, [0]], alone)


@every_kind
@few
@given(tables(), st.integers(0, 80), st.integers(0, 300))
def test_neither_a_snapshot_nor_growth_changes_anything(
    rarity: Rarity, rows: Floats, cut: int, size: int
) -> None:
    state = fresh(rarity)
    before = run(rarity, rows[:cut], state)
    back = Arrays(rarity.fields)
    back.restore(state.dump())
    back.grow(size)
    after = run(rarity, rows[cut:], back, cut)
    np.testing.assert_array_equal(np.concatenate([before, after]), run(rarity, rows))


@every_kind
@few
@given(tables(), tables(), st.integers(0, 80))
def test_the_future_does_not_change_the_past(
    rarity: Rarity, rows: Floats, other: Floats, cut: int
) -> None:
    turned = np.concatenate([rows[:cut], other])
    np.testing.assert_array_equal(
        run(rarity, turned)[: len(rows[:cut])], run(rarity, rows)[: len(rows[:cut])]
    )


@pytest.mark.parametrize("rarity", SMALL[1:3])
@few
@given(tables(), st.integers(1, 3))
def test_what_is_no_score_is_neither_told_nor_learnt(
    rarity: Rarity, rows: Floats, every: int
) -> None:
    gaps = np.repeat(rows, every + 1, axis=0)
    gaps[np.arange(len(gaps)) % (every + 1) > 0] = np.nan
    rarities = run(rarity, gaps)
    np.testing.assert_array_equal(rarities[:: every + 1], run(rarity, rows))
    assert np.isnan(rarities[np.isnan(gaps)]).all()


@every_kind
@few
@given(tables(), st.integers(0, 10_000))
def test_whatever_comes_rarities_are_finite_or_not_told(
    rarity: Rarity, rows: Floats, gap: int
) -> None:
    """Also after a gap of up to months."""
    state = fresh(rarity)
    first = run(rarity, rows, state)
    second = run(rarity, rows, state, len(rows) + gap)
    assert not np.isinf(first).any()
    assert not np.isinf(second).any()
    usual = np.random.default_rng(1).normal(size=(20, SIGNALS))
    assert np.isfinite(run(rarity, usual, state, 20_000)[-5:]).all()
