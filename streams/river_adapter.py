"""Any anomaly model of River as a channel: the slow path.

A model of River sees one signal and one cell at a time, in Python: some thousand cells a second and
core, where the channels of detectors/ do millions. It is for trying a model on chosen signals, not
for all of them: `[detect.river]` in the settings says which model, and for which signals.

**Restarts change nothing.** Models are Python objects. To pickle them would put code into the store
and bind snapshots to River's version; so the state holds a signal's last values instead, and a
model is nothing but what those make of a new one. That bounds what it remembers: each
`memory_cells` cells a new model takes over that has learnt the last `memory_cells` values, so a
model knows the last one to two times as many.
"""

import math
from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from inspect import signature
from typing import Any, ClassVar, Final, NamedTuple, TypeGuard
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from watchkeep.detectors.arrays import Arrays, Field, SlotArray
from watchkeep.detectors.channel import Scores, Span
from watchkeep.detectors.chosen import Chosen
from watchkeep.detectors.restraint import CELLS_MAX, SCORE_MAX, Floats, usable
from watchkeep.schemas.errors import ConfigError
from watchkeep.schemas.settings import RiverModel

_FEATURE: Final = "value"
# Models of slots that weren't stepped for so many calls are dropped; they can be made again.
_KEPT_CALLS: Final = 1_000
# The band of what is usual has this share of the remembered values on either side of it.
_OUTSIDE: Final = 0.01
# Scores of these end at 1, and what is as rare as a hundredth of that apart is rare differently.
_END_AT_ONE: Final = frozenset({"GaussianScorer", "HalfSpaceTrees", "PredictiveAnomalyDetection"})
# So near to 1 floats still tell scores apart.
_NEAREST: Final = 1e-12
# A model learns and scores these at the start: some take any parameters until they work with them.
_TRIED: Final = (0.0, 1.0, 0.5)


class _Model(NamedTuple):
    """A model of one signal, as two functions of a value."""

    learn: Callable[[float], object]
    score: Callable[[float], float]


class _Kept(NamedTuple):
    """A model at hand, and what it must have seen for it to be the one that a state means."""

    model: _Model
    seen: int
    last: float
    call: int


class River:
    """The channel.

    Its score is the model's, or what is left of it to 1 on a log scale if it ends there, with the
    sign of the side of the mean of the remembered values that the value is on. Its unit is the
    model's own, so `spread` is 0: the band is where the remembered values are, whatever the score.
    """

    name: ClassVar[str] = "river"

    def __init__(
        self,
        model: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        memory_cells: int = 500,
        warmup_cells: int = 250,
        scaled: bool = True,
    ) -> None:
        """Find the model.

        Args:
            model: its name in river.anomaly: "HalfSpaceTrees".
            parameters: its arguments. Chance is made repeatable by a `seed` of 0 if it takes one.
            memory_cells: what it remembers; 16 bytes of state a signal for each.
            warmup_cells: cells until a signal is warm.
            scaled: put values on a scale from 0 to 1 first, as half-space trees want.

        Raises:
            ConfigError: River isn't installed, has no such model, or that refuses its parameters;
                the message names the setting.
        """
        self.memory_cells = memory_cells
        self.warmup_cells = warmup_cells
        self._make = _maker(model, dict(parameters or {}), scaled=scaled)
        self._kept: WeakKeyDictionary[Arrays, dict[int, _Kept]] = WeakKeyDictionary()
        self._calls = 0

    @property
    def fields(self) -> Mapping[str, Field]:
        """The columns of its state: a ring of the last values."""
        return {"ring": Field("f8", 0.0, (2 * self.memory_cells,)), "seen": Field("i4", 0)}

    def seed(
        self,
        state: Arrays,
        slots: SlotArray,
        value: Floats,
        cells: npt.NDArray[np.int64],
    ) -> None:
        """Learn that signals had one value all along; see the contract."""
        known = usable(value) & (cells > 0)
        state["ring"][slots[known]] = value[known, None]
        state["seen"][slots[known]] = np.minimum(cells[known], CELLS_MAX)
        kept = self._kept.get(state, {})
        for slot in slots.tolist():
            kept.pop(slot, None)

    def step(
        self,
        state: Arrays,
        slots: SlotArray,
        span: Span,
        value: Floats,
    ) -> Scores:
        """Score one cell, then learn from it; see the contract. A loop over signals: slow."""
        self._calls += 1
        rows, seen = state["ring"][slots], state["seen"][slots]
        filled = np.arange(rows.shape[1]) < seen[:, None]
        count = np.where(seen > 0, filled.sum(axis=1), np.nan)
        expected = np.where(filled, rows, 0.0).sum(axis=1) / count
        moved = (filled & (rows != rows[:, :1])).any(axis=1)
        score = np.full(len(slots), np.nan)
        for i in np.flatnonzero(usable(value)).tolist():
            told = self._step_one(state, int(slots[i]), float(value[i]), teaches=span.teaches)
            if moved[i]:
                score[i] = told
        if self._calls % _KEPT_CALLS == 0:
            self._forget(state)
        score = np.where(np.isfinite(score), np.clip(score, -SCORE_MAX, SCORE_MAX), np.nan)
        return Scores(
            np.where(value < expected, -score, score),
            expected,
            np.zeros(len(slots)),
            np.minimum(seen / self.warmup_cells, 1.0),
            *_band(rows, filled),
        )

    def _step_one(self, state: Arrays, slot: int, value: float, *, teaches: bool) -> float:
        ring, seen = state["ring"][slot], int(state["seen"][slot])
        model = self._model(state, slot, ring, seen)
        score = model.score(value)
        if not teaches:
            return score
        model.learn(value)
        ring[seen % len(ring)] = value
        state["seen"][slot] = min(seen + 1, CELLS_MAX)
        self._kept.setdefault(state, {})[slot] = _Kept(model, seen + 1, value, self._calls)
        return score

    def _forget(self, state: Arrays) -> None:
        """Drop models of signals that don't come any more."""
        kept = self._kept.get(state, {})
        for slot in [slot for slot, k in kept.items() if k.call <= self._calls - _KEPT_CALLS]:
            del kept[slot]

    def _model(self, state: Arrays, slot: int, ring: Floats, seen: int) -> _Model:
        """Give the model of a slot: the one at hand, or one made from the last values."""
        kept = self._kept.get(state, {}).get(slot)
        same = kept is not None and (kept.seen, kept.last) == (seen, ring[(seen - 1) % len(ring)])
        if kept is not None and same and seen % self.memory_cells:
            return kept.model
        model = self._make()
        first = max((seen // self.memory_cells - 1) * self.memory_cells, 0)
        for value in ring[np.arange(first, seen) % len(ring)].tolist():
            model.learn(value)
        return model


def chosen_by(settings: RiverModel) -> Chosen | None:
    """Make what the settings ask for; None if that is nothing.

    Raises:
        ConfigError: see River.
    """
    if not settings.model:
        return None
    return Chosen(
        River(
            settings.model,
            settings.parameters,
            memory_cells=settings.memory_cells,
            warmup_cells=settings.warmup_cells,
        )
    )


def _band(rows: Floats, filled: npt.NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Tell between which values most of those that are filled lie; NaN where none is."""
    order = np.sort(np.where(filled, rows, np.inf), axis=1)
    count = filled.sum(axis=1)
    out = (_OUTSIDE * count).astype(np.int64)
    at = np.arange(len(rows))
    low, high = order[at, out], order[at, np.maximum(count - 1, 0) - out]
    return np.where(count > 0, low, np.nan), np.where(count > 0, high, np.nan)


def _stretched(score: float) -> float:
    """Put what ends at 1 on a scale without an end."""
    return -math.log10(max(1.0 - score, _NEAREST))


def _maker(name: str, parameters: dict[str, Any], *, scaled: bool) -> Callable[[], _Model]:
    """Give what makes models.

    Raises:
        ConfigError: see River.
    """
    try:
        anomaly = import_module("river.anomaly")
        scaler = import_module("river.preprocessing").MinMaxScaler
    except ImportError as error:
        raise ConfigError(
            "detect.river.model: River isn't installed; pip install 'watchkeep[river]'"
        ) from error
    kind = getattr(anomaly, name, None)
    if not _is_model(kind):
        known = ", ".join(other for other in anomaly.__all__ if _is_model(getattr(anomaly, other)))
        raise ConfigError(f"detect.river.model: River has no model {name!r}; it has {known}")
    if "seed" in signature(kind).parameters:
        parameters.setdefault("seed", 0)
    supervised = "y" in signature(kind.score_one).parameters

    def plain() -> _Model:
        model = kind(**parameters)
        if supervised:  # It watches a target, which is the value here.
            return _Model(partial(model.learn_one, {}), partial(model.score_one, {}))
        chain = scaler() | model if scaled else model
        return _Model(
            lambda value: chain.learn_one({_FEATURE: value}),
            lambda value: chain.score_one({_FEATURE: value}),
        )

    def make() -> _Model:
        learn, score = plain()
        if name not in _END_AT_ONE:
            return _Model(learn, score)
        return _Model(learn, lambda value: _stretched(score(value)))

    try:
        model = make()
        for value in _TRIED:
            float(model.score(value))
            model.learn(value)
    # What arithmetic and containers do with parameters that a model can't use.
    except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as error:
        raise ConfigError(
            f"detect.river.parameters: {name} refuses them: {type(error).__name__}: {error}"
        ) from error
    return make


def _is_model(kind: object) -> TypeGuard[Any]:
    """Tell whether it scores by itself; filters want a model to wrap."""
    return (
        isinstance(kind, type)
        and hasattr(kind, "score_one")
        and "anomaly_detector" not in signature(kind).parameters
    )
