"""What families of calls read: a pod and one edge, seen from either end."""

from functools import cached_property
from typing import Final

import numpy as np

from watchkeep.shop.blocks import Indexes
from watchkeep.shop.scene import STEP_S, Scene
from watchkeep.shop.states import Pods, counted, within
from watchkeep.shop.times import Floats

LE_MS: Final = (1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000)


class Calls(Pods):
    """Requests along edges that begin or end at some pods.

    Attributes:
        edges: the number of each thing's edge.
    """

    def __init__(self, scene: Scene, pods: Indexes, edges: Indexes) -> None:
        super().__init__(scene, pods)
        self.edges = edges

    def part(self, end: int) -> Floats:
        """Give an edge's requests as a share of all of the workload at one of its ends."""
        index = {name: i for i, name in enumerate(self.scene.blueprint.names)}
        ends = [index[str(edge[end])] for edge in self.scene.blueprint.edges]
        load = self.scene.load
        whole, own = load.asked[:, ends], load.edge_arrived if end else load.edge_rate
        part = np.divide(own, whole, out=np.zeros_like(whole), where=whole > 0)
        return np.asarray(part[:, self.edges])

    @cached_property
    def counts(self) -> Floats:
        """Requests of a step that are answered, and those that fail: float64[t, n, 2]."""
        expected = self.rate * STEP_S
        good = self.rng.poisson(expected * (1 - self.errors))
        bad = self.rng.poisson(expected * self.errors)
        return np.stack([good, bad], axis=2).astype(np.float64)

    @property
    def count(self) -> Floats:
        """Requests of a step."""
        return np.asarray(self.counts.sum(axis=2))


class Made(Calls):
    """Requests as their caller sees them."""

    @cached_property
    def rate(self) -> Floats:
        """Calls a second."""
        return self.of(self.scene.requests) * self.part(0)

    @cached_property
    def errors(self) -> Floats:
        """The share of them that fail."""
        return np.asarray(self.scene.load.edge_errors[:, self.edges])

    @cached_property
    def latency_s(self) -> Floats:
        """How long they take."""
        return np.asarray(self.scene.load.edge_s[:, self.edges])


class Served(Calls):
    """Requests as a proxy in front of the callee sees them."""

    @cached_property
    def rate(self) -> Floats:
        """Requests a second."""
        return self.of(self.scene.requests) * self.part(1)

    @cached_property
    def buckets(self) -> Floats:
        """Requests of a step by latency: float64[t, n, LE_MS + 1], rising."""
        shares = within(1000 * self.latency_s, LE_MS)
        return counted(self.rng, self.rate * STEP_S, shares)

    @cached_property
    def counts(self) -> Floats:
        """Requests of a step that are answered, and those that fail."""
        whole = self.buckets[:, :, -1]
        bad = self.rng.binomial(whole.astype(np.int64), np.clip(self.errors, 0.0, 1.0))
        return np.stack([whole - bad, bad], axis=2)
