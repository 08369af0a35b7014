"""What families of pods read: a scene's arrays for the things of one group."""

from collections.abc import Sequence
from functools import cached_property
from typing import Final

import numpy as np

from watchkeep.shop.blocks import Bools, Indexes
from watchkeep.shop.exposed import Cumulator
from watchkeep.shop.scene import STEP_S, Scene
from watchkeep.shop.times import Floats

# Latencies are log-logistic: with this shape the 99th percentile is 3.8 times the mean.
_SHAPE: Final = 3.0
_MEDIAN: Final = 0.827  # of the mean, at that shape
LE: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
# How requests divide: method, code, share of those that are served or of those that fail.
CODES: Final = (
    ("GET", "200", 0.82, False),
    ("POST", "200", 0.176, False),
    ("GET", "404", 0.004, False),
    ("GET", "500", 0.7, True),
    ("POST", "500", 0.15, True),
    ("GET", "503", 0.15, True),
)


def quantile(mean_s: Floats, share: float) -> Floats:
    """Give a quantile of latencies around a mean."""
    return np.asarray(mean_s * _MEDIAN * (share / (1 - share)) ** (1 / _SHAPE))


def within(mean_s: Floats, limits_s: Sequence[float]) -> Floats:
    """Give the share of requests within limits: float64[t, n, limits]."""
    ratio = np.asarray(limits_s) / np.maximum(mean_s * _MEDIAN, 1e-9)[:, :, None]
    return np.asarray(1 / (1 + ratio**-_SHAPE))


def counted(rng: np.random.Generator, expected: Floats, shares: Floats) -> Floats:
    """Draw how many fall under each limit, and in all: float64[t, n, limits + 1], rising."""
    parts = np.diff(shares, axis=2, prepend=0.0, append=1.0)
    return np.cumsum(rng.poisson(expected[:, :, None] * parts), axis=2, dtype=np.float64)


def divided(rng: np.random.Generator, count: Floats, errors: Floats) -> Floats:
    """Divide requests by method and code: float64[t, n, CODES]."""
    failed = rng.binomial(count.astype(np.int64), np.clip(errors, 0.0, 1.0))
    left = {True: failed, False: count.astype(np.int64) - failed}
    rest = {True: 1.0, False: 1.0}
    parts = []
    for _, _, share, fails in CODES:
        part = rng.binomial(left[fails], min(share / rest[fails], 1.0))
        left[fails] = left[fails] - part
        rest[fails] = max(rest[fails] - share, 1e-9)
        parts.append(part)
    for fails in (True, False):  # What rounding leaves belongs to the first of its kind.
        first = next(i for i, code in enumerate(CODES) if code[3] is fails)
        parts[first] = parts[first] + left[fails]
    return np.stack(parts, axis=2).astype(np.float64)


class Pods:
    """Some pods of a scene."""

    def __init__(self, scene: Scene, pods: Indexes) -> None:
        self.scene = scene
        self.rng = scene.rng
        self.at = scene.column[pods]
        self.services = [scene.services[i] for i in self.at.tolist()]
        self.limit_cores = np.array([service.limit_cores for service in self.services])
        self.limit_bytes = np.array([service.limit_bytes for service in self.services])

    @property
    def present(self) -> Bools:
        """Tell when containers run."""
        return np.asarray(self.scene.alive[:, self.at])

    @cached_property
    def resets(self) -> list[tuple[int, int]]:
        """List where containers started again."""
        steps: dict[int, list[int]] = {}
        for column, step in self.scene.resets:
            steps.setdefault(column, []).append(step)
        return [(i, s) for i, at in enumerate(self.at.tolist()) for s in steps.get(at, ())]

    def of(self, by_pod: Floats) -> Floats:
        """Take these pods' columns."""
        return np.asarray(by_pod[:, self.at])

    def const(self, value: float) -> Floats:
        """Show the same of all, always."""
        return np.full((len(self.scene.block.times), len(self.at)), value)

    def each(self, values: Floats) -> Floats:
        """Show a number of each thing, always."""
        return np.broadcast_to(values, (len(self.scene.block.times), len(self.at)))

    @cached_property
    def rate(self) -> Floats:
        """Requests a second."""
        return self.of(self.scene.requests)

    @cached_property
    def errors(self) -> Floats:
        """The share of them that fail."""
        return self.of(self.scene.errors)

    @cached_property
    def latency_s(self) -> Floats:
        """How long they take."""
        return self.of(self.scene.latency_s)

    @cached_property
    def cpu(self) -> Floats:
        """Cores used."""
        return self.of(self.scene.cpu)

    @cached_property
    def cpu_s(self) -> Floats:
        """CPU seconds used in a step."""
        return self.cpu * STEP_S

    @cached_property
    def memory(self) -> Floats:
        """Working set, bytes."""
        return self.of(self.scene.memory_bytes)

    @cached_property
    def start_s(self) -> Floats:
        """When the container started."""
        return self.of(self.scene.of_life([life.start_ms for life in self.scene.block.lives])) / 1e3


class Apps(Pods):
    """Pods that serve requests and tell of it."""

    def __init__(self, scene: Scene, pods: Indexes, cycles: Cumulator, which: Indexes) -> None:
        super().__init__(scene, pods)
        self._cycles, self._which = cycles, which

    @cached_property
    def buckets(self) -> Floats:
        """Requests of a step by latency: float64[t, n, LE + 1], rising."""
        return counted(self.rng, self.rate * STEP_S, within(self.latency_s, LE))

    @cached_property
    def count(self) -> Floats:
        """Requests of a step."""
        if self.scene.blueprint.lean:
            return self.rng.poisson(self.rate * STEP_S).astype(np.float64)
        return np.asarray(self.buckets[:, :, -1])

    @cached_property
    def codes(self) -> Floats:
        """Requests of a step by method and code."""
        return divided(self.rng, self.count, self.errors)

    @cached_property
    def flying(self) -> Floats:
        """How many are served at once: Little's law, on average."""
        return self.rate * self.latency_s

    @cached_property
    def heap(self) -> Floats:
        """Bytes that survive a garbage collection."""
        return 0.32 * self.memory

    @cached_property
    def allocated(self) -> Floats:
        """Bytes allocated in a step: a part by the clock, most by requests."""
        a_request = 2e7 * np.array([service.cpu_s for service in self.services])
        return np.asarray((2e5 + self.rate * a_request) * STEP_S * self.present)

    @property
    def pause_s(self) -> Floats:
        """How long a garbage collection stops all: longer where CPU is short."""
        return np.asarray(6e-5 * (1 + 5 * self.of(self.scene.throttled)))

    @cached_property
    def cycles(self) -> Floats:
        """Garbage collections since the start: one each time that the heap has doubled."""
        turns = self.allocated / np.maximum(self.heap, 1e6)
        return self._cycles.sums(turns[:, :, None], self._which, self.resets)[:, :, 0]

    @cached_property
    def heap_now(self) -> Floats:
        """The heap: a saw between its live part and twice that."""
        return self.heap * (1 + self.cycles % 1)
