"""What every channel promises, whatever it looks for. A new channel need only join CHANNELS."""

from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from random import Random
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from watchkeep.detectors import compiled
from watchkeep.detectors.arrays import Arrays
from watchkeep.detectors.channel import Channel, Span
from watchkeep.detectors.envelope import Envelope
from watchkeep.detectors.ewma import Ewma
from watchkeep.detectors.half_space import Forest, HalfSpaceTrees
from watchkeep.detectors.half_space_lags import HalfSpace
from watchkeep.detectors.robust_z import RobustZ
from watchkeep.detectors.rolling_z import RollingZ
from watchkeep.detectors.spike import Spike
from watchkeep.streams.river_adapter import River

Floats = np.ndarray[Any, np.dtype[np.float64]]


class Case(NamedTuple):
    """A channel, and what is particular to it.

    Attributes:
        cells: after so many cells of noise it is warm and knows the signal.
        high: what it scores a clear departure at least; and a constant never.
        step_ms: the width of its cells.
        seasonal: it looks at the time, so a gap changes what it sees.
    """

    channel: Channel
    cells: int
    high: float
    step_ms: int = 60_000
    seasonal: bool = False


CHANNELS = [
    Case(Ewma(memory_cells=20, warmup_cells=10, far=6.0), 60, 6.0),
    Case(RollingZ(window_cells=20, warmup_cells=10, far=6.0), 60, 6.0),
    Case(RobustZ(window_cells=20, warmup_cells=10, every_cells=3), 60, 6.0),
    Case(HalfSpace(lags=(1, 3), warmup_cells=10, trees=5, window=100), 200, 0.6),
]
if find_spec("river"):  # It is in CI: see test_river_adapter.py.
    gaussian = River("GaussianScorer", {"grace_period": 10}, memory_cells=30, warmup_cells=20)
    CHANNELS.append(Case(gaussian, 60, 3))
CHANNELS += [
    Case(Spike(), 60, 4.0, seasonal=True),
    Case(Envelope(), 220, 5.0, 300_000, seasonal=True),
    Case(Envelope("hour", looks=12), 240, 2.0, 300_000, seasonal=True),
]
SIGNALS = 4
FIELDS = ("score", "expected", "spread", "warmup")
STEPS_MS = {case.channel.name: case.step_ms for case in CHANNELS}

every_channel = pytest.mark.parametrize("case", CHANNELS, ids=lambda case: case.channel.name)
timeless_channels = pytest.mark.parametrize(
    "case", [case for case in CHANNELS if not case.seasonal], ids=lambda case: case.channel.name
)

ODD = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e300, -1e300, 9e149, -9e149, 1e-300, 5e-324]


def noise(cells: int, signals: int = SIGNALS, seed: int = 1) -> Floats:
    return np.random.default_rng(seed).normal(100, 5, (cells, signals))


@st.composite
def tables(draw: st.DrawFn, odd: Sequence[float] = ODD) -> Floats:
    """Draw values [cell, signal]: noise, constants, gaps, steps, and what is no value at all."""
    cells = draw(st.integers(4, 90))
    rows = noise(cells, seed=draw(st.integers(0, 1_000)))
    rows[:, draw(st.integers(0, SIGNALS - 1))] = draw(st.floats(-1e6, 1e6))
    for _ in range(draw(st.integers(0, 8))):
        begin, signal = draw(st.integers(0, cells - 1)), draw(st.integers(0, SIGNALS - 1))
        length = draw(st.sampled_from([1, 2, 25, cells]))
        rows[begin : begin + length, signal] = draw(st.sampled_from(odd) | st.floats(-1e9, 1e9))
    return rows


def fresh(channel: Channel, size: int = SIGNALS) -> Arrays:
    state = Arrays(channel.fields)
    state.grow(size)
    return state


def run(
    channel: Channel,
    rows: Floats,
    state: Arrays | None = None,
    begin: int = 0,
    orders: Callable[[], Sequence[Sequence[int]]] | None = None,
) -> Floats:
    """Step through rows [cell, signal], slot i being column i: [cell, field, signal].

    The fields are score, expected, spread and warmup.

    Args:
        channel: the channel.
        rows: values.
        state: where it begins.
        begin: the number of the first cell.
        orders: gives the slots of each call of a cell.
    """
    state = state or fresh(channel, rows.shape[1])
    result = np.full((len(rows), len(FIELDS), rows.shape[1]), -1.0)
    step_ms = STEPS_MS[channel.name]
    for i, row in enumerate(rows):
        for order in orders() if orders else [range(rows.shape[1])]:
            slots = np.array(order, np.int64)
            given_row = row[slots]
            scores = channel.step(state, slots, Span((begin + i) * step_ms, step_ms), given_row)
            told = [column for column in scores if column is not None]
            assert all(c.shape == slots.shape and c.dtype == np.float64 for c in told)
            np.testing.assert_array_equal(given_row, row[slots], "the caller's values are its own")
            for j, name in enumerate(FIELDS):
                result[i, j, slots] = getattr(scores, name)
    return result


def stored(state: Arrays) -> dict[str, bytes]:
    return {name: column.tobytes() for name, column in state.dump().items()}


def restored(channel: Channel, state: Arrays) -> Arrays:
    """Put a state through bytes, as a snapshot does."""
    back = Arrays(channel.fields)
    columns = {
        name: np.frombuffer(column.tobytes(), column.dtype).reshape(column.shape)
        for name, column in state.dump().items()
    }
    back.restore(columns)
    return back


same = partial(np.testing.assert_array_equal, strict=True)
few = settings(max_examples=20)


@every_channel
@few
@given(tables(), st.randoms(use_true_random=False))
def test_neither_the_order_of_signals_nor_the_split_of_a_cell_matters(
    case: Case, rows: Floats, dice: Random
) -> None:
    def orders() -> list[list[int]]:
        order = dice.sample(range(SIGNALS), SIGNALS)
        cut = dice.randint(0, SIGNALS)
        return [order[:cut], order[cut:]]

    one, other = fresh(case.channel), fresh(case.channel)
    same(run(case.channel, rows, one), run(case.channel, rows, other, orders=orders))
    assert stored(one) == stored(other)


@every_channel
@few
@given(tables(), st.integers(0, SIGNALS - 1))
def test_a_signal_depends_on_itself_alone_and_not_on_its_slot(
    case: Case, rows: Floats, signal: int
) -> None:
    together = run(case.channel, rows)[:, :, [signal]]
    same(run(case.channel, rows[:, [signal]]), together)


@every_channel
@few
@given(tables(), st.integers(0, 90), st.integers(0, 300))
def test_neither_a_snapshot_nor_growth_changes_anything(
    case: Case, rows: Floats, cut: int, size: int
) -> None:
    state = fresh(case.channel)
    before = run(case.channel, rows[:cut], state)
    state = restored(case.channel, state)
    state.grow(size)
    state.reset(np.arange(SIGNALS, max(size, SIGNALS)))
    after = run(case.channel, rows[cut:], state, cut)
    same(np.concatenate([before, after]), run(case.channel, rows))


@every_channel
@few
@given(tables(), tables(), st.integers(0, 90))
def test_the_future_does_not_change_the_past(
    case: Case, rows: Floats, other: Floats, cut: int
) -> None:
    turned = np.concatenate([rows[:cut], other])
    same(run(case.channel, turned)[: len(rows[:cut])], run(case.channel, rows)[:cut])


@every_channel
@few
@given(tables(), tables())
def test_a_freed_slot_begins_anew(case: Case, rows: Floats, other: Floats) -> None:
    state = fresh(case.channel)
    run(case.channel, rows, state)
    state.reset(np.arange(1, SIGNALS))
    same(run(case.channel, other, state)[:, :, 1:], run(case.channel, other)[:, :, 1:])


@every_channel
@few
@given(tables())
def test_whatever_comes_scores_are_finite_or_not_told(case: Case, rows: Floats) -> None:
    state = fresh(case.channel)
    score, expected, spread, warmup = run(case.channel, rows, state).transpose(1, 0, 2)
    for column in (score, expected, spread):
        assert not np.isinf(column).any()
    assert not np.isfinite(score[~np.isfinite(rows)]).any()
    assert (warmup >= 0).all()
    assert (warmup <= 1).all()
    later = run(case.channel, noise(case.cells), state, len(rows))
    assert np.isfinite(later[-10:, 0]).all()


@timeless_channels
@few
@given(tables(odd=[np.nan, np.inf, 1e300]), st.integers(0, 3))
def test_what_is_no_value_is_as_if_the_cell_were_not_there(
    case: Case, rows: Floats, every: int
) -> None:
    gaps = np.repeat(rows, every + 1, axis=0)
    gaps[np.arange(len(gaps)) % (every + 1) > 0] = np.nan
    same(run(case.channel, gaps)[:: every + 1], run(case.channel, rows))


@timeless_channels
@few
@given(st.floats(-1e149, 1e149), st.integers(1, 60))
def test_a_constant_signal_has_no_score_and_to_be_told_of_it_is_to_have_seen_it(
    case: Case, value: float, cells: int
) -> None:
    seen, told = fresh(case.channel, 1), fresh(case.channel, 1)
    scores = run(case.channel, np.full((cells, 1), value), seen)
    assert np.isnan(scores[:, 0]).all()
    case.channel.seed(told, np.array([0]), np.array([value]), np.array([cells]))
    rows = noise(120, 1)
    same(run(case.channel, rows, told, cells), run(case.channel, rows, seen, cells))


@every_channel
def test_to_be_told_of_no_value_is_to_have_seen_none(case: Case) -> None:
    told = fresh(case.channel)
    values = np.array([np.nan, np.inf, 1e300, -np.inf])
    case.channel.seed(told, np.arange(4), values, np.full(4, 9))
    assert stored(told) == stored(fresh(case.channel))


@every_channel
@pytest.mark.parametrize("departure", [200.0, 0.0])
def test_a_clear_departure_scores_high_on_its_side_and_calm_does_not(
    case: Case, departure: float
) -> None:
    state = fresh(case.channel)
    calm = run(case.channel, noise(case.cells), state)[-20:, 0]
    assert (np.abs(calm) < case.high).mean() > 0.9
    rows = np.full((1, SIGNALS), departure)
    score, expected, _, warmup = run(case.channel, rows, state, case.cells)[0]
    assert (warmup == 1).all()
    assert (score * np.sign(departure - 100) > case.high).all()
    assert expected == pytest.approx(100, abs=8)


@pytest.mark.parametrize("case", CHANNELS[:2], ids=lambda case: case.channel.name)
@few
@given(tables())
def test_compiled_loops_do_what_numpy_does_to_the_last_bit(case: Case, rows: Floats) -> None:
    """Where numba is missing its loops run as plain Python."""
    results = []
    for available in (False, True):
        with pytest.MonkeyPatch.context() as patch, np.errstate(all="ignore"):
            patch.setattr(compiled, "AVAILABLE", available)
            state = fresh(case.channel)
            results.append((run(case.channel, rows, state).tobytes(), stored(state)))
    assert results[0] == results[1]


@pytest.mark.parametrize("case", CHANNELS[:2], ids=lambda case: case.channel.name)
def test_a_fault_is_not_learnt_until_it_is_the_new_normal(case: Case) -> None:
    calm, fault = noise(60, 1), noise(200, 1) + 100
    scores = run(case.channel, np.concatenate([calm, fault]))[60:, 0]
    assert (scores[:20] > 6).all()
    assert (np.abs(scores[-50:]) < 6).all()


@given(st.integers(2, 60), st.integers(0, 1_000), st.sampled_from([0.0, 1e3, 1e9]))
def test_rolling_z_knows_mean_and_deviation_of_its_window(
    window: int, seed: int, base: float
) -> None:
    """Also after values that are larger by many orders have left it."""
    dice = np.random.default_rng(seed)
    rows = base + dice.normal(size=(200, SIGNALS)) * 10.0 ** dice.integers(-3, 4, (200, SIGNALS))
    rows[dice.integers(0, 200, 3), 0] = 10.0 ** dice.integers(20, 149, 3)
    never = RollingZ(window_cells=window, warmup_cells=1_000, far=6.0)
    _, expected, spread, _ = run(never, rows).transpose(1, 0, 2)
    for i in range(window, 200):
        seen = rows[i - window : i]
        floor = 0.02 * np.abs(seen.mean(0))
        deviation = seen.std(0, ddof=1)
        np.testing.assert_allclose(spread[i], np.maximum(deviation, floor), rtol=1e-4)
        np.testing.assert_allclose(
            expected[i], seen.mean(0), rtol=1e-9, atol=1e-5 * deviation.max()
        )


@given(st.integers(1, 40), st.lists(st.integers(-5, 5), min_size=1, max_size=90))
def test_robust_z_knows_median_and_median_distance_of_its_window(
    window: int, values: list[int]
) -> None:
    channel = RobustZ(window_cells=window, warmup_cells=1, every_cells=1)
    rows = np.array([*values, 0], float)[:, None]
    _, expected, spread, _ = run(channel, rows)[-1, :, 0]
    seen = np.array(values[-window:], float)
    median = np.median(seen)
    away = np.sort(np.abs(seen - median))
    assert expected == median
    if (distance := away[len(away) // 2]) > 0:
        assert spread == pytest.approx(max(1.4826 * distance, 0.02 * abs(median)))
    elif away.any():
        assert spread == pytest.approx(max(1.2533 * away.mean(), 0.02 * abs(median)))


def test_one_value_beyond_all_does_not_blind_half_space_trees() -> None:
    """Their ranges grow to twice their width at most."""
    trees = HalfSpaceTrees(Forest(features=2, window=100))
    state = Arrays(trees.fields)
    state.grow(1)
    rows = noise(400, 2)
    scores = [float(trees.step(state, np.array([0]), row[None])[0]) for row in rows]
    assert 0 <= np.nanmin(scores) <= np.nanmax(scores) <= 1
    width = (state["high"] - state["low"])[0]
    trees.step(state, np.array([0]), np.array([[1e100, -1e100]]))
    wider = (state["high"] - state["low"])[0]
    assert (wider > 1.3 * width).all()
    assert (wider <= 2 * width).all()
    usual = trees.step(state, np.array([0]), np.array([[100.0, 100.0]]))
    missing = trees.step(state, np.array([0]), np.array([[np.nan, 100.0]]))
    far = trees.step(state, np.array([0]), np.array([[500.0, -300.0]]))
    assert max(usual[0], missing[0]) < 0.5
    assert far[0] > 0.8


@pytest.mark.parametrize(("height", "window"), [(9, 100), (0, 100), (6, 256), (6, 1)])
def test_a_forest_that_does_not_fit_its_counts_is_refused(height: int, window: int) -> None:
    with pytest.raises(ValueError, match="at most 8 and 255"):
        Forest(features=1, height=height, window=window)
