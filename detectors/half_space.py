"""Half-Space Trees: how little was seen lately of where a point lies, for many models at once.

Tan, Ting and Liu, "Fast anomaly detection for streaming data" (IJCAI 2011). Each tree halves the
space of features again and again and counts the points of a window in its leaves; where the window
before had few points for the space they took, a new one is abnormal. What differs from the paper:

- Trees are oblivious: all nodes of a level halve the same feature, so a leaf's number is made of
  bits of the point's features, and no tree is walked. (Trees whose nodes choose by themselves, such
  as River's, are more diverse for the same number.) All models share one forest.
- A tree halves each of a few features at least twice, rather than any at random.
- A table with the score of each leaf is made once a window, at the pivot.
- A model's first pivots come at 32, 64 and 128 points, so that it needn't wait for a window; and
  its first window is shorter by chance, so that models don't all pivot at once.
- A tree scores from 0 (dense) to 1 (empty), in 255 steps, and the forest is their mean. The paper
  adds up how dense trees are, where those that find a point usual outvote those that don't.

Features are scaled to [0, 1] by a running range that is wider at once (at most twice as wide a
point) and narrows slowly. A feature takes part once it has moved for a while; then its model begins
anew. Before, and where it is missing, it counts as in the middle.
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from random import Random
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from watchkeep.detectors.arrays import Arrays, Field, SlotArray, where
from watchkeep.detectors.restraint import CELLS_MAX, FLOOR, LARGEST, Flags, Floats

Leaves = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint16]

# A node with fewer points of the window than this part is not divided further, as in the paper.
_SMALL: Final = 0.1
_FIRST_PIVOT: Final = 32
# A feature takes part after so many points since it first moved: its range has settled.
_SETTLED: Final = 32
# Points further out than this many ranges are in the outermost leaf of any tree.
_OUTSIDE: Final = 8.0
_STEPS: Final = 255
_COUNT: Final = np.uint16(0xFF)
HEIGHT_MAX: Final = 8
WINDOW_MAX: Final = 255


@dataclass(frozen=True)
class Forest:
    """A forest's shape, and what is made of it by chance.

    Attributes:
        features: how many each model has.
        trees: how many.
        height: the number of levels, at most 8; a tree has 2**height leaves.
        window: points between two pivots, at most 255.
        seed: chooses features and places; models of one state share it for good.
    """

    features: int
    trees: int = 10
    height: int = 6
    window: int = 250
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what doesn't fit the counts."""
        if not 1 <= self.height <= HEIGHT_MAX or not 2 <= self.window <= WINDOW_MAX:
            raise ValueError(
                f"height is {self.height}, window {self.window}: at most "
                f"{HEIGHT_MAX} and {WINDOW_MAX}"
            )

    @property
    def leaves(self) -> int:
        """Tell how many leaves a tree has."""
        return 1 << self.height

    @cached_property
    def levels(self) -> npt.NDArray[np.intp]:
        """Give the feature that each level halves: [trees, height].

        A tree has few enough features to halve each twice: what is out of a feature's range can't
        be told from what is at its end by one cut. They are dealt so that each is in as many trees.
        """
        dice = Random(self.seed)  # noqa: S311 - Trees want chance that is the same each time.
        few = min(max(self.height // 2, 1), self.features)
        deck: list[int] = []
        chosen = []
        for _ in range(self.trees):
            if len(set(deck)) < few:
                deck += dice.sample(range(self.features), self.features)
            hand = list(dict.fromkeys(deck))[:few]
            for feature in hand:
                deck.remove(feature)
            chosen.append([hand[level % few] for level in range(self.height)])
        return np.array(chosen, np.intp)

    @cached_property
    def centres(self) -> npt.NDArray[np.float64]:
        """Give where each tree first halves each feature, in its range: [trees, features]."""
        dice = Random(self.seed + 1)  # noqa: S311 - See above.
        places = [[dice.random() for _ in range(self.features)] for _ in range(self.trees)]
        return np.array(places)


class HalfSpaceTrees:
    """Many models of one shape, in columns.

    A model takes trees * 2**height * 2 bytes, 1.3 kB for 10 trees of height 6, and 17 bytes a
    feature. A leaf is a word: its score in the window before in the high byte, its points in this
    one in the low byte; so a point costs a tree one word, read and written.
    """

    def __init__(self, forest: Forest) -> None:
        self.forest = forest
        self.first_pivot = min(_FIRST_PIVOT, forest.window // 2)
        self._cuts = _Cuts(forest)
        shape, each = (forest.trees, forest.leaves), (forest.features,)
        self.fields = {
            "leaves": Field("u2", 0, shape),
            "low": Field("f8", np.nan, each),
            "high": Field("f8", np.nan, each),
            "settled": Field("u1", 0, each),
            "cells": Field("i4", 0),
            "filled": Field("u1", 0),
            "pivot": Field("u1", self.first_pivot),
            "window": Field("u1", 0),
        }

    def step(self, state: Arrays, slots: SlotArray, features: Floats) -> Floats:
        """Score one point of each model, then learn from it.

        Args:
            state: the columns `fields`; changed in place.
            slots: int64[n], each at most once.
            features: float64[n, features]; NaN, and what is too large to square, is missing.

        Returns:
            float64[n] from 0 to 1, more for what is more abnormal; 0.5 is as dense as if points
            were spread evenly. NaN before the first pivot, and where all features are missing.
        """
        usable = np.abs(features) < LARGEST
        ranges = _Ranges(*(state[name].take(slots, axis=0) for name in _Ranges._fields))
        settled = ranges.settled >= _SETTLED
        scaled = _scaled(features, ranges, usable & settled)
        counts = np.bitwise_or.reduce(settled, axis=1) & np.bitwise_or.reduce(usable, axis=1)
        steps = self._points(state, slots, scaled, counts)
        score = steps / (_STEPS * self.forest.trees)
        score[~counts | (state["cells"].take(slots) < self.first_pivot)] = np.nan
        self._count(state, slots if counts.all() else slots[counts])
        self._widen(state, slots, features, usable, ranges)
        return score

    def _points(
        self, state: Arrays, slots: SlotArray, scaled: npt.NDArray[np.float32], counts: Flags
    ) -> npt.NDArray[np.uint32]:
        """Add up the scores of the leaves that points are in, and count those that `counts`."""
        flat = self._cuts.leaves(scaled)
        flat += (slots * (self.forest.trees * self.forest.leaves))[:, None]
        # One-dimensional indices are assigned faster.
        words = state["leaves"].reshape(-1).take(flat)
        at = slice(None) if counts.all() else where(counts)
        state["leaves"].reshape(-1)[flat[at].reshape(-1)] = words[at].reshape(-1) + np.uint16(1)
        # Sums over long rows are faster, and so are those of narrow numbers.
        sums: npt.NDArray[np.uint32] = (words >> 8).T.copy().sum(axis=0, dtype=np.uint32)
        return sums

    def _count(self, state: Arrays, slots: SlotArray) -> None:
        state["cells"][slots] = np.minimum(state["cells"].take(slots) + 1, CELLS_MAX)
        filled = state["filled"].take(slots) + np.uint8(1)
        state["filled"][slots] = filled
        due = where(filled == state["pivot"].take(slots))
        if len(due):
            self._turn(state, slots[due], filled[due])

    def _turn(self, state: Arrays, slots: SlotArray, filled: npt.NDArray[np.uint8]) -> None:
        """Make the tables of models anew, and begin a window where one is over."""
        window = state["window"][slots]
        over = filled >= window
        done = slots[over]
        counts = state["leaves"][slots] & _COUNT
        score = _tables(counts, filled)
        counts[over] = 0
        state["leaves"][slots] = (score << 8) | counts
        state["filled"][done] = 0
        state["window"][done] = self.forest.window
        # Until the first window is over, what is known of it is used at each doubling.
        doubled = np.minimum(filled.astype(np.int64) * 2, window)
        state["pivot"][slots] = np.where(over, self.forest.window, doubled)

    def _widen(
        self, state: Arrays, slots: SlotArray, features: Floats, usable: Flags, ranges: "_Ranges"
    ) -> None:
        """Learn ranges, and have features take part that have settled."""
        low, high, settled = ranges
        width = high - low
        reach = np.where(width > 0, width / 2, np.inf)
        slowly = 1.0 / self.forest.window
        point = np.where(usable, features, low)
        new = np.isnan(low)
        # One that is far counts as half a range away.
        near = np.minimum(np.maximum(point, low - reach), high + reach)
        lower = np.minimum(near, low + (near - low) * slowly)
        higher = np.maximum(near, high - (high - near) * slowly)
        state["low"][slots] = np.where(new, point, np.where(usable, lower, low))
        state["high"][slots] = np.where(new, point, np.where(usable, higher, high))
        if settled.min(initial=_SETTLED) < _SETTLED:
            self._settle(state, slots, settled, usable & (lower < higher))

    def _settle(
        self, state: Arrays, slots: SlotArray, settled: npt.NDArray[np.uint8], moved: Flags
    ) -> None:
        after = np.minimum(settled + moved, _SETTLED).astype(np.uint8)
        state["settled"][slots] = after
        joined = where(((after == _SETTLED) & (settled < _SETTLED)).any(axis=1))
        if len(joined):
            self._begin(state, slots[joined])

    def _begin(self, state: Arrays, slots: SlotArray) -> None:
        """Begin models anew, their first window shorter by chance: by the bits of their ranges."""
        for name in ("leaves", "cells", "filled"):
            state[name][slots] = 0
        bits = np.bitwise_xor.reduce(state["high"][slots].view(np.uint64), axis=1)
        mixed = (bits * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(32)
        half = self.forest.window // 2
        state["window"][slots] = half + (mixed % np.uint64(self.forest.window - half + 1))
        state["pivot"][slots] = self.first_pivot


class _Ranges(NamedTuple):
    """The running ranges of features, and how long they have moved: [n, features] each."""

    low: Floats
    high: Floats
    settled: npt.NDArray[np.uint8]


def _scaled(features: Floats, ranges: _Ranges, taking: Flags) -> npt.NDArray[np.float32]:
    """Put features where they are in their range, 0 to 1 within it; those not taking, at 0.5."""
    middle = ranges.low + (ranges.high - ranges.low) / 2
    width = np.maximum(ranges.high - ranges.low, FLOOR * np.abs(middle))
    away = np.zeros(features.shape)
    with np.errstate(over="ignore"):  # A range may be next to nothing.
        np.divide(features - middle, width, out=away, where=taking & (width > 0))
    return (np.minimum(np.maximum(away, -_OUTSIDE), _OUTSIDE) + 0.5).astype(np.float32)


class _Cuts:
    """Where the trees of a forest cut the space, and so the leaves that points lie in.

    A tree halves a feature first at its centre s, then halves the halves, of the range
    s - 2m to s + 2m where m is max(s, 1 - s), as in the paper. The place of a point in that range,
    in steps of the finest cut of that feature, has as its bits the halves that the point is in.
    """

    def __init__(self, forest: Forest) -> None:
        self._forest = forest
        pairs = [
            (tree, feature, int(uses))
            for tree, levels in enumerate(forest.levels)
            for feature, uses in enumerate(np.bincount(levels, minlength=forest.features))
            if uses
        ]
        tree, feature, uses = np.array(pairs).T
        centre = forest.centres[tree, feature]
        reach = 2 * np.maximum(centre, 1 - centre)
        steps = 2.0**uses
        self._feature = feature
        self._last = (steps - 1).astype(np.float32)[:, None]
        self._scale = (steps / (2 * reach)).astype(np.float32)[:, None]
        self._begin = ((reach - centre) * steps / (2 * reach)).astype(np.float32)[:, None]
        self._levels = self._numbered({pair[:2]: i for i, pair in enumerate(pairs)}, uses)
        self._offset = np.arange(forest.trees) * forest.leaves

    def _numbered(
        self, place: dict[tuple[int, int], int], uses: npt.NDArray[np.int64]
    ) -> list[tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8]]]:
        """Give, for each level, where each tree's place is, and which of its bits to take."""
        left = uses.copy()
        levels = []
        for features in self._forest.levels.T:
            at = np.array([place[tree, int(feature)] for tree, feature in enumerate(features)])
            left[at] -= 1
            levels.append((at, left[at].astype(np.uint8)[:, None]))
        return levels

    def leaves(self, scaled: npt.NDArray[np.float32]) -> Leaves:
        """Give the leaves of points, numbered over all trees of a model: int64[n, trees]."""
        places = scaled.T[self._feature] * self._scale
        places += self._begin
        np.maximum(places, 0, out=places)
        steps = np.minimum(places, self._last, out=places).astype(np.uint8)
        if self._forest.features == 1:
            leaf = steps
        else:
            leaf = np.zeros((self._forest.trees, len(scaled)), np.uint8)
            for at, bit in self._levels:
                leaf = (leaf << 1) | ((steps[at] >> bit) & 1)
        numbers: Leaves = leaf.T + self._offset
        return numbers


def _tables(counts: Words, total: npt.NDArray[np.uint8]) -> Words:
    """Score leaves by how dense they are: 255 / (1 + density), 1 being as if spread evenly.

    The density is that of the leaf, or of the first node on the way to it that is small.

    Args:
        counts: uint16[n, trees, leaves], points in each leaf.
        total: uint8[n], points in all of a tree's.
    """
    few = (total * _SMALL).astype(np.uint16).repeat(counts.shape[1])
    _, trees, leaves = counts.shape
    # Leaves come first, so that sums run over long rows; a count times 256 nodes fits its word.
    nodes = [np.ascontiguousarray(counts.transpose(2, 0, 1)).reshape(leaves, -1)]
    while len(nodes[-1]) > 1:
        nodes.append(nodes[-1][0::2] + nodes[-1][1::2])
    nodes.reverse()
    dense = nodes[0]
    for above, node in pairwise(nodes):
        # Where the node above is small its density stands.
        small = (above <= few).repeat(2, axis=0)
        dense = np.where(small, dense.repeat(2, axis=0), node * np.uint16(len(node)))
    score = _STEPS / (1.0 + dense / total.astype(np.float32).repeat(trees))
    return np.rint(score, out=score).astype(np.uint16).T.reshape(-1, trees, leaves)
