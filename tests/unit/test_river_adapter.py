"""Models of River behind the channel contract; that contract is tested in test_channels.py."""

import sys

import numpy as np
import pytest

from watchkeep.detectors.arrays import Arrays
from watchkeep.detectors.channel import Span
from watchkeep.schemas.errors import ConfigError
from watchkeep.streams.river_adapter import River

needs_river = pytest.mark.usefixtures("river")


def scores(channel: River, values: list[float], state: Arrays | None = None) -> list[float]:
    if state is None:
        state = Arrays(channel.fields)
        state.grow(1)
    slot = np.array([0])
    return [
        float(channel.step(state, slot, Span(i, 1), np.array([value])).score[0])
        for i, value in enumerate(values)
    ]


def noise(cells: int) -> list[float]:
    values: list[float] = np.random.default_rng(1).normal(100, 5, cells).tolist()
    return values


@needs_river
@pytest.mark.parametrize(
    ("model", "parameters"),
    [
        ("HalfSpaceTrees", {"n_trees": 5, "window_size": 40}),
        ("GaussianScorer", {"grace_period": 20}),
        ("StandardAbsoluteDeviation", {}),
    ],
)
def test_a_departure_scores_higher_than_most_of_what_was_usual(
    model: str, parameters: dict[str, object]
) -> None:
    channel = River(model, parameters, memory_cells=100)
    *usual, high, low = scores(channel, [*noise(150), 200.0, 0.0])
    assert high > np.nanquantile(np.abs(usual[100:]), 0.9)
    assert low < 0


@needs_river
def test_a_model_of_chance_is_the_same_after_a_restart_of_the_process() -> None:
    """Nothing but columns of numbers goes through the snapshot."""

    def new() -> River:
        return River("HalfSpaceTrees", {"n_trees": 5, "window_size": 20}, memory_cells=50)

    values = noise(260)
    for cut in (10, 50, 77, 100, 149):
        state, later = Arrays(new().fields), Arrays(new().fields)
        state.grow(1)
        first = scores(new(), values[:cut], state)
        later.restore(state.dump())
        both = first + scores(new(), values[cut:], later)
        np.testing.assert_array_equal(both, scores(new(), values))


@needs_river
def test_models_of_signals_that_are_gone_are_dropped() -> None:
    channel = River("GaussianScorer", memory_cells=10)
    state = Arrays(channel.fields)
    state.grow(2)
    for i in range(2_000):
        slots = np.array([0, 1] if i < 5 else [0])
        channel.step(state, slots, Span(i, 1), np.full(len(slots), float(i % 7)))
    assert list(channel._kept[state]) == [0]
    del state
    assert not channel._kept


@needs_river
@pytest.mark.parametrize(
    ("model", "parameters", "message"),
    [
        ("HalfSpaceForest", {}, "no model 'HalfSpaceForest'; it has .*HalfSpaceTrees"),
        ("QuantileFilter", {}, "no model 'QuantileFilter'"),
        ("HalfSpaceTrees", {"trees": 3}, "river.parameters: HalfSpaceTrees refuses .*trees"),
        ("HalfSpaceTrees", {"n_trees": "ten"}, "river.parameters: HalfSpaceTrees refuses .*str"),
    ],
)
def test_a_wrong_model_is_told_in_a_line(
    model: str, parameters: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        River(model, parameters)


def test_without_river_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "river", None)
    monkeypatch.delitem(sys.modules, "river.anomaly", raising=False)
    with pytest.raises(ConfigError, match=r"pip install 'watchkeep\[river\]'"):
        River("HalfSpaceTrees")
