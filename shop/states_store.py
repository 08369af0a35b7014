"""What the exporters of stores read: a database, a cache or a queue."""

from functools import cached_property

import numpy as np

from watchkeep.shop.scene import STEP_S
from watchkeep.shop.states import Pods
from watchkeep.shop.times import Floats


class Stores(Pods):
    """Pods of a database, a cache or a queue."""

    @cached_property
    def counts(self) -> Floats:
        """Operations of a step that are done, and those that fail: float64[t, n, 2]."""
        expected = self.rate * STEP_S
        good = self.rng.poisson(expected * (1 - self.errors))
        return np.stack([good, self.rng.poisson(expected * self.errors)], axis=2).astype(float)

    @property
    def done(self) -> Floats:
        """Operations of a step that are done."""
        return np.asarray(self.counts[:, :, 0])

    @property
    def busy(self) -> Floats:
        """How many operations go on at once."""
        return self.rate * self.latency_s

    @property
    def backends(self) -> Floats:
        """Open connections to a database: clients keep pools, and ask for more when it is slow."""
        return np.minimum(24 + 2 * self.busy + 0.04 * self.rate, 199)

    @property
    def slow(self) -> Floats:
        """How much longer a disk operation takes than it should."""
        return np.asarray(self.scene.load.node_disk[:, self.scene.hosts[self.at]])

    def every(self, seconds: float) -> Floats:
        """Count what is done at fixed times, since the container started."""
        return np.maximum(np.floor((self.scene.now_ms / 1e3 - self.start_s) / seconds), 0.0)

    @property
    def waiting(self) -> Floats:
        """Messages that wait in the queue."""
        return self.scene.load.backlog[:, None] + self.rng.poisson(1 + 0 * self.rate)

    @property
    def taken(self) -> Floats:
        """Messages of a step that go to the queue's consumers."""
        return self.rng.poisson(self._consumed * STEP_S).astype(np.float64)

    @property
    def unacked(self) -> Floats:
        """Messages that consumers work on."""
        return 1 + 0.2 * self._consumed

    @property
    def consumers(self) -> Floats:
        """How many take messages from the queue."""
        name = self._worker()
        mine = np.array([self.scene.plan.pods[i].workload == name for i in self.scene.pods])
        return np.asarray(self.const(0) + 4.0 * self.scene.ready[:, mine].sum(axis=1)[:, None])

    @property
    def _consumed(self) -> Floats:
        index = self.scene.blueprint.names.index(self._worker())
        return self.const(0) + self.scene.load.asked[:, index, None]

    def _worker(self) -> str:
        queue = self.scene.blueprint.queue
        assert queue is not None
        return queue[2]
