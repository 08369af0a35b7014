"""Signals are measured by what they are known to be."""

import json
import math
from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from real_sets import filled, read
from realism import MEASURES, Measures, compare, increase, measures, plot, report
from signal_measures import Floats, tail_index

DAY = 1_440  # Samples, at one a minute.


@pytest.fixture
def dice() -> np.random.Generator:
    return np.random.default_rng(7)


def autoregressive(dice: np.random.Generator, n: int, coefficient: float) -> Floats:
    """A Gaussian AR(1) of variance 1: float64[n]."""
    value = dice.normal(size=n)
    for i in range(1, n):
        value[i] = coefficient * value[i - 1] + math.sqrt(1 - coefficient**2) * value[i]
    return value


@pytest.mark.parametrize("coefficient", [0.0, 0.7, 0.95])
def test_the_autocorrelation_is_that_of_the_process(
    dice: np.random.Generator, coefficient: float
) -> None:
    found = measures(autoregressive(dice, 14 * DAY, coefficient), 60.0)
    assert found.autocorrelation_step == pytest.approx(coefficient, abs=0.04)
    assert found.autocorrelation_10min == pytest.approx(coefficient**10, abs=0.08)


def test_gaps_change_little(dice: np.random.Generator) -> None:
    value = 10 + autoregressive(dice, 14 * DAY, 0.9)
    whole = measures(value, 60.0)
    value[dice.random(len(value)) < 0.2] = np.nan
    value[3 * DAY : 4 * DAY] = np.nan
    assert astuple(measures(value, 60.0)) == pytest.approx(astuple(whole), rel=0.15, abs=0.04)


def test_normal_noise_has_the_tails_and_the_level_of_normal_noise(
    dice: np.random.Generator,
) -> None:
    found = measures(50 + 5 * dice.normal(size=30 * DAY), 60.0)
    assert found.tail_index == pytest.approx(7.5, abs=0.5)
    assert found.tail_ratio == pytest.approx(3.29 / 2.576, abs=0.04)
    assert found.residual_cv == pytest.approx(0.1, rel=0.05)
    assert found.step_cv == pytest.approx(0.1, rel=0.05)
    assert found.season_strength < 0.06
    assert found.shifts_per_day == 0.0
    assert found.equal_share == 0.0


@pytest.mark.parametrize("freedom", [1, 2, 3])
def test_the_tail_index_of_student_t_steps_is_their_freedom(
    dice: np.random.Generator, freedom: int
) -> None:
    steps = dice.standard_t(freedom, size=60_000)
    assert tail_index(steps) == pytest.approx(freedom, rel=0.15)
    found = measures(np.cumsum(steps), 60.0)
    assert found.tail_index == pytest.approx(tail_index(steps), rel=0.01)
    # Far out, P(|step| > x) ~ x ** -freedom, so a tenth of it is as much further out.
    assert found.tail_ratio == pytest.approx(10 ** (1 / freedom), rel=0.25)


def test_few_samples_have_no_tail(dice: np.random.Generator) -> None:
    found = measures(dice.normal(size=150), 60.0)
    assert math.isnan(found.tail_index)
    assert math.isnan(found.tail_ratio)
    assert math.isfinite(found.autocorrelation_step)


@pytest.mark.parametrize("step_s", [60.0, 300.0])
def test_a_sine_and_noise_are_told_apart(dice: np.random.Generator, step_s: float) -> None:
    time_s = np.arange(0.0, 14 * 86_400, step_s)
    season = 20 * np.sin(2 * np.pi * time_s / 86_400)
    found = measures(100 + season + 10 * dice.normal(size=len(time_s)), step_s)
    assert found.season_strength == pytest.approx(200 / 300, abs=0.04)
    assert found.residual_cv == pytest.approx(0.1, rel=0.08)
    assert found.autocorrelation_10min == pytest.approx(0.0, abs=0.05)


def test_a_season_takes_two_days_to_see(dice: np.random.Generator) -> None:
    value = 100 + dice.normal(size=2 * DAY)
    assert measures(value, 60.0).season_strength < 0.1
    assert math.isnan(measures(value[:-1], 60.0).season_strength)


def test_lasting_moves_of_the_level_are_counted_and_bursts_are_not(
    dice: np.random.Generator,
) -> None:
    value = 100 + dice.normal(size=8 * DAY)
    value[2 * DAY :] += 10
    value[5 * DAY + 300 :] -= 10
    value[7 * DAY : 7 * DAY + 20] += 50
    assert measures(value, 60.0).shifts_per_day == pytest.approx(2 / 8)


@pytest.mark.parametrize("level", [0.0, 0.0046, 3e9])
def test_a_constant_has_no_other_measure(level: float) -> None:
    value = np.full(3 * DAY, level)
    value[100:200] = np.nan
    value[::7] = np.nextafter(level, np.inf) if level else level  # It was computed, and rounded.
    found = measures(value, 60.0)
    assert found.constant
    assert found.equal_share == 1.0
    assert all(math.isnan(getattr(found, name)) for name in MEASURES if name != "equal_share")


@pytest.mark.parametrize("value", [np.full(500, np.nan), np.empty(0), np.array([1.0])])
def test_nothing_known_is_nothing_measured(value: Floats) -> None:
    assert measures(value, 60.0).constant
    assert math.isnan(measures(value, 60.0).equal_share)


def test_a_counter_is_a_ramp_and_its_increase_is_a_signal(dice: np.random.Generator) -> None:
    grown = dice.poisson(0.5, size=10 * DAY).astype(np.float64)
    counter = 1e9 + np.cumsum(grown)
    ramp = measures(counter, 60.0)
    assert ramp.autocorrelation_10min > 0.99
    assert ramp.equal_share == pytest.approx(math.exp(-0.5), abs=0.02)
    counter[5 * DAY :] -= counter[5 * DAY]  # The process began anew.
    found = increase(counter)
    assert np.flatnonzero(np.isnan(found)).tolist() == [0, 5 * DAY]
    known = np.isfinite(found)
    np.testing.assert_array_equal(found[known], grown[known])
    assert measures(found, 60.0).autocorrelation_step == pytest.approx(0.0, abs=0.08)


def test_only_straight_slopes_are_taken_for_filled_gaps(dice: np.random.Generator) -> None:
    value = dice.normal(size=200)
    value[50:60] = np.linspace(value[50], value[59] + 1, 10)
    value[100:120] = value[100]
    assert np.flatnonzero(filled(value)).tolist() == list(range(51, 59))


def test_sets_are_compared_in_a_table_and_in_json(dice: np.random.Generator) -> None:
    noises = [measures(100 + dice.normal(size=2_000), 60.0) for _ in range(3)]
    flat = measures(np.ones(2_000), 60.0)
    table, summary = compare({"real": [*noises, flat], "flat": [flat]}, noises[:2])
    assert table.row_count == 3
    assert list(summary) == ["real", "flat", "simulated"]
    assert summary["real"]["series"] == 4
    assert summary["real"]["constant_share"] == 0.25
    median = sorted(of.residual_cv for of in noises)[1]
    assert summary["real"]["residual_cv"]["median"] == pytest.approx(median)
    assert summary["flat"]["residual_cv"] is None
    assert summary["real"]["season_strength"] is None  # Of less than two days.
    json.dumps(summary, allow_nan=False)
    Console(width=200, quiet=True).print(table)


@pytest.mark.parametrize("suffix", [".svg", ".png"])
def test_a_plot_is_drawn_the_same_each_time(
    dice: np.random.Generator, tmp_path: Path, suffix: str
) -> None:
    pytest.importorskip("matplotlib", reason="the extra `plots` is not installed")
    found = [measures(100 + dice.normal(size=2_000), 60.0) for _ in range(3)]
    constant: list[Measures] = [measures(np.ones(200), 60.0)]
    paths = [tmp_path / f"{i}{suffix}" for i in range(2)]
    for path in paths:
        plot({"real": found, "flat": constant}, found, path)
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_sets_that_are_there_are_read_and_labelled_parts_left_out(
    dice: np.random.Generator,
    tmp_path: Path,
) -> None:
    (tmp_path / "smd").mkdir()
    label = np.zeros(2_000, np.int8)
    label[500:600] = 1
    value = dice.random((2_000, 2)).astype(np.float32)
    np.savez(tmp_path / "smd" / "machine.npz", value=value, label=label, split=1_000, step_s=60)
    signals = list(read(tmp_path))
    assert [signal[:3] for signal in signals] == [
        ("smd", "machine/0", 60.0),
        ("smd", "machine/1", 60.0),
    ]
    assert np.flatnonzero(np.isnan(signals[1].value)).tolist() == list(range(500, 600))
    summary = report(tmp_path, [("noise", 60.0, dice.normal(size=2_000))], None)
    assert {name: of["series"] for name, of in summary.items()} == {"smd": 2, "simulated": 1}
