"""What exporters show: metric families, the things they are shown of, and counters that carry on.

A family is one line: its name, kind and help, and a formula that reads a state's arrays. A group
computes all its families for all its things at once, a stretch of time after the other.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeVar

import numpy as np

from watchkeep.schemas.frame import MetricKind
from watchkeep.shop.blocks import Bools, Indexes
from watchkeep.shop.noise import Noise
from watchkeep.shop.times import Floats

_SUFFIXES: Final = ("_bucket", "_count", "_sum")


class Size(StrEnum):
    """In which shops a family is shown."""

    FULL = "full"
    LEAN = "lean"
    BOTH = "both"


class State(Protocol):
    """What formulas read: arrays over time and things."""

    @property
    def present(self) -> Bools:
        """Tell when each thing shows its series: bool[t, n]."""

    @property
    def resets(self) -> Sequence[tuple[int, int]]:
        """List where counters begin anew: thing and step."""


S = TypeVar("S", bound=State)


@dataclass(frozen=True, slots=True)
class Family(Generic[S]):
    """One metric.

    Attributes:
        value: float64[t, n], or [t, n, variants]; a counter's increments, or what a gauge shows.
        variants: the labels that tell its series of one thing apart.
        spread: how far noise moves it, about as a share of its value.
        total: the formula of a counter gives its value, not increments.
        whole: its values are whole numbers.
        appears: shown only while it is more than zero.
    """

    name: str
    kind: MetricKind
    help: str
    value: Callable[[S], Floats]
    variants: tuple[Mapping[str, str], ...] = ({},)
    spread: float = 0.0
    size: Size = Size.FULL
    total: bool = False
    whole: bool = False
    appears: bool = False

    @property
    def base(self) -> str:
        """The name that HELP and TYPE stand under."""
        if self.kind in {MetricKind.HISTOGRAM, MetricKind.SUMMARY}:
            for suffix in _SUFFIXES:
                if self.name.endswith(suffix):
                    return self.name.removesuffix(suffix)
        return self.name

    @property
    def adds(self) -> bool:
        """Tell whether its formula gives increments."""
        counts = self.kind in {MetricKind.COUNTER, MetricKind.HISTOGRAM} or (
            self.kind is MetricKind.SUMMARY and self.name.endswith(_SUFFIXES)
        )
        return counts and not self.total


def gauge(name: str, text: str, value: Callable[[S], Floats], **more: Any) -> Family[S]:  # noqa: ANN401 - They are Family's attributes.
    """Make a gauge."""
    return Family(name, MetricKind.GAUGE, text, value, **more)


def counter(name: str, text: str, value: Callable[[S], Floats], **more: Any) -> Family[S]:  # noqa: ANN401 - They are Family's attributes.
    """Make a counter."""
    return Family(name, MetricKind.COUNTER, text, value, **more)


def by(label: str, *values: str) -> tuple[dict[str, str], ...]:
    """List the variants of one label."""
    return tuple({label: value} for value in values)


class Thing(NamedTuple):
    """What series are about.

    Attributes:
        target: the number of the target whose scrapes show it.
        keys: numbers by which its state is found.
    """

    labels: Mapping[str, str]
    target: int
    keys: tuple[int, int]
    start_ms: int
    end_ms: int


class Filled(NamedTuple):
    """What a group shows in a block: [t, things, columns] and bool of the same shape."""

    value: Floats
    present: Bools


class Cumulator:
    """Counters: sums that go on from block to block, and begin anew where their thing does."""

    def __init__(self, things: int, columns: int) -> None:
        self._carry = np.zeros((things, columns))

    def sums(self, added: Floats, which: Indexes, resets: Sequence[tuple[int, int]]) -> Floats:
        """Sum increments up in place: float64[t, n, columns]."""
        np.cumsum(added, axis=0, out=added)
        added += self._carry[which]
        for thing, step in resets:
            before = added[step - 1, thing].copy() if step else self._carry[which[thing]]
            added[step:, thing] -= before
        self._carry[which] = added[-1]
        return added


class Group(Generic[S]):
    """Families and the things that show them.

    Attributes:
        columns: how many series each thing has.
        base: the number of its first series; set when all groups are known.
    """

    def __init__(
        self,
        families: Sequence[Family[S]],
        things: Sequence[Thing],
        rng: np.random.Generator,
        *,
        lean: bool,
    ) -> None:
        left = Size.FULL if lean else Size.LEAN
        shown = [family for family in families if family.size is not left]
        # Counters come first, so that they are summed in one go.
        self.families = sorted(shown, key=lambda family: not family.adds)
        self.things = list(things)
        ends = np.cumsum([0, *(len(family.variants) for family in self.families)]).tolist()
        self.columns: int = ends[-1]
        self.base = 0
        self._slices = [slice(a, b) for a, b in pairwise(ends)]
        self._counters = sum(len(f.variants) for f in self.families if f.adds)
        self._noisy = [i for i, family in enumerate(self.families) if family.spread]
        self._noise = Noise(rng, len(self.things) * len(self._noisy), tame=lean)
        self._cumulator = Cumulator(len(self.things), self._counters)
        self._starts = np.array([thing.start_ms for thing in things], np.int64)
        self._ends = np.array([thing.end_ms for thing in things], np.int64)
        self._keys = np.array([thing.keys for thing in things], np.intp).reshape(-1, 2)
        self.targets = np.array([thing.target for thing in things], np.intp)

    def who(self, begin_ms: int, end_ms: int) -> Indexes:
        """Find the things of a stretch of time."""
        return np.flatnonzero((self._starts < end_ms) & (self._ends > begin_ms))

    def keys(self, which: Indexes) -> tuple[Indexes, Indexes]:
        """Give the numbers by which the things' state is found."""
        return self._keys[which, 0], self._keys[which, 1]

    def fill(self, state: S, which: Indexes) -> Filled:
        """Compute all families over a block."""
        there = state.present
        out = np.empty((*there.shape, self.columns))
        for family, where in zip(self.families, self._slices, strict=True):
            value = family.value(state)
            out[:, :, where] = value if value.ndim == 3 else value[:, :, None]
        self._shake(out, which)
        added = out[:, :, : self._counters]
        added *= there[:, :, None]
        self._cumulator.sums(added, which, state.resets)
        present = np.repeat(there[:, :, None], self.columns, axis=2)
        for family, where in zip(self.families, self._slices, strict=True):
            if family.whole:
                np.rint(out[:, :, where], out=out[:, :, where])
            if family.appears:
                present[:, :, where] &= out[:, :, where] > 0
        return Filled(out, present)

    def _shake(self, out: Floats, which: Indexes) -> None:
        count = len(self._noisy)
        if not count or not len(which):
            return
        columns = (which[:, None] * count + np.arange(count)).ravel()
        noise = self._noise.block(len(out), columns).reshape(len(out), len(which), count)
        noise *= np.array([self.families[i].spread for i in self._noisy])
        # However rare a step is, no value leaves what its exporter could show.
        np.exp(np.clip(noise, -1.5, 1.5, out=noise), out=noise)
        for n, i in enumerate(self._noisy):
            out[:, :, self._slices[i]] *= noise[:, :, n, None]

    def labels(self) -> list[tuple[dict[str, str], MetricKind]]:
        """List the labels of all series, thing after thing."""
        heads = [
            ({"__name__": family.name, **variant}, family.kind)
            for family in self.families
            for variant in family.variants
        ]
        return [({**head, **thing.labels}, kind) for thing in self.things for head, kind in heads]
