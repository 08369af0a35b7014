"""What every channel promises, whatever it looks for."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from watchkeep.detectors.arrays import Arrays
from watchkeep.detectors.channel import Channel, Scores
from watchkeep.detectors.ewma import Ewma

CHANNELS: list[Channel] = [Ewma(memory_cells=20, warmup_cells=10, far=6.0)]
STEP_MS = 60_000

every_channel = pytest.mark.parametrize("channel", CHANNELS, ids=lambda channel: channel.name)
Floats = np.ndarray[Any, np.dtype[np.float64]]

VALUES = st.lists(
    st.floats(-1e6, 1e6) | st.sampled_from([np.nan, np.inf, -np.inf, 0.0, 1e300]),
    min_size=4,
    max_size=40,
)


def fresh(channel: Channel, size: int) -> Arrays:
    state = Arrays(channel.fields)
    state.grow(size)
    return state


def run(
    channel: Channel, rows: Floats, state: Arrays | None = None, begin: int = 0
) -> list[Scores]:
    """Step through rows [time, signal]; slot i is column i."""
    state = state or fresh(channel, rows.shape[1])
    slots = np.arange(rows.shape[1])
    return [channel.step(state, slots, (begin + i) * STEP_MS, row) for i, row in enumerate(rows)]


def noise(cells: int, signals: int = 3) -> Floats:
    return np.random.default_rng(1).normal(100, 5, (cells, signals))


def same(a: Scores, b: Scores) -> None:
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x, y)


@every_channel
def test_the_order_of_signals_does_not_matter(channel: Channel) -> None:
    rows = noise(60)
    order = np.array([2, 0, 1])
    state = fresh(channel, 3)
    for i, (row, scores) in enumerate(zip(rows, run(channel, rows), strict=True)):
        turned = channel.step(state, order, i * STEP_MS, row[order])
        same(turned, Scores(*(column[order] for column in scores)))


@every_channel
def test_the_split_of_a_cell_into_calls_does_not_matter(channel: Channel) -> None:
    rows = noise(60)
    state = fresh(channel, 3)
    for i, (row, scores) in enumerate(zip(rows, run(channel, rows), strict=True)):
        for slot in range(3):
            one = channel.step(state, np.array([slot]), i * STEP_MS, row[[slot]])
            same(one, Scores(*(column[[slot]] for column in scores)))


@every_channel
def test_a_snapshot_changes_nothing(channel: Channel) -> None:
    rows = noise(60)
    state = fresh(channel, 3)
    run(channel, rows[:30], state)
    restored = fresh(channel, 0)
    restored.restore(state.dump())
    later, again = run(channel, rows[30:], state, 30), run(channel, rows[30:], restored, 30)
    for a, b in zip(later, again, strict=True):
        same(a, b)


@every_channel
def test_the_future_does_not_change_the_past(channel: Channel) -> None:
    rows = noise(60)
    other = rows.copy()
    other[40:] = 1e6
    for a, b in zip(run(channel, rows)[:40], run(channel, other)[:40], strict=True):
        same(a, b)


@every_channel
def test_growth_and_reset_leave_other_signals_alone(channel: Channel) -> None:
    rows = noise(60, 1)
    state = fresh(channel, 1)
    run(channel, rows[:30], state)
    state.grow(500)
    state.reset(np.array([7]))
    later = run(channel, rows[30:], state, 30)
    for a, b in zip(later, run(channel, rows)[30:], strict=True):
        same(a, b)


@every_channel
def test_a_freed_slot_starts_anew(channel: Channel) -> None:
    state = fresh(channel, 1)
    run(channel, noise(60, 1), state)
    state.reset(np.array([0]))
    for a, b in zip(run(channel, noise(20, 1), state), run(channel, noise(20, 1)), strict=True):
        same(a, b)


@every_channel
@settings(max_examples=50)
@given(values=VALUES)
def test_any_values_are_survived_and_later_scores_are_no_nonsense(
    channel: Channel, values: list[float]
) -> None:
    state = fresh(channel, 1)
    run(channel, np.array(values)[:, None], state)
    scores = run(channel, noise(100, 1), state, len(values))
    assert all(np.isfinite(s.score).all() for s in scores[50:])


@every_channel
def test_a_constant_signal_never_scores_high(channel: Channel) -> None:
    for value in (0.0, 1.0, 0.1, -7e9):
        scores = np.array([s.score[0] for s in run(channel, np.full((200, 1), value))])
        assert not (np.abs(scores) > 1).any()


@every_channel
def test_a_gap_is_survived(channel: Channel) -> None:
    state = fresh(channel, 1)
    run(channel, noise(60, 1), state)
    (after,) = run(channel, noise(1, 1), state, 10_000)
    assert np.isfinite(after.score).all()


@every_channel
def test_a_clear_departure_scores_high_and_on_its_side(channel: Channel) -> None:
    for departure in (200.0, 0.0):
        state = fresh(channel, 1)
        run(channel, noise(60, 1), state)
        (scores,) = run(channel, np.array([[departure]]), state, 60)
        assert scores.warmup[0] == 1
        assert scores.score[0] * np.sign(departure - 100) > 6
        assert scores.expected[0] == pytest.approx(100, abs=5)


def test_a_fault_is_not_learnt_until_it_is_the_new_normal() -> None:
    channel = Ewma(memory_cells=20, warmup_cells=10, far=6.0)
    calm, fault = noise(60, 1), noise(200, 1) + 100
    scores = [s.score[0] for s in run(channel, np.concatenate([calm, fault]))][60:]
    assert all(score > 6 for score in scores[:20])
    assert all(abs(score) < 6 for score in scores[-50:])
