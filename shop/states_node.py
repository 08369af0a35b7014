"""What node-exporter reads of a node: what runs there, and what that takes."""

from functools import cached_property
from typing import Final

import numpy as np

from watchkeep.shop.blocks import Bools, Indexes
from watchkeep.shop.load import CORES
from watchkeep.shop.plan import DRAIN_MS
from watchkeep.shop.scene import STEP_S, Scene
from watchkeep.shop.times import Floats

CONDITIONS: Final = ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure")
MODES: Final = ("user", "system", "iowait", "softirq", "irq", "nice", "steal", "idle")
CORE_COUNT: Final = round(CORES)
MEMORY_BYTES: Final = 16.0 * 2**30
DISK_BYTES: Final = 1.0e11
_SYSTEM_BYTES: Final = 1.4e9


class Nodes:
    """Nodes of a scene."""

    def __init__(self, scene: Scene, nodes: Indexes) -> None:
        self.scene = scene
        self.rng = scene.rng
        self.at = nodes

    @cached_property
    def present(self) -> Bools:
        """Tell when nodes are there."""
        spans = np.array([self.scene.plan.nodes[i] for i in self.at.tolist()], np.int64)
        now = self.scene.block.times[:, None]
        return np.asarray((now >= spans[:, 0]) & (now < spans[:, 1]))

    @property
    def resets(self) -> list[tuple[int, int]]:
        """Nothing begins anew."""
        return []

    def const(self, value: float) -> Floats:
        """Show the same of all, always."""
        return np.full((len(self.scene.block.times), len(self.at)), value)

    def of_pods(self, by_pod: Floats) -> Floats:
        """Sum over the pods of each node."""
        mine = self.scene.hosts[:, None] == self.at
        return np.asarray(by_pod @ mine.astype(np.float64))

    @cached_property
    def cpu(self) -> Floats:
        """Cores used."""
        return np.asarray(self.scene.load.node_cpu[:, self.at])

    @cached_property
    def slow(self) -> Floats:
        """How much longer a disk operation takes than it should."""
        return np.asarray(self.scene.load.node_disk[:, self.at])

    @cached_property
    def requests(self) -> Floats:
        """Requests a second that its pods serve."""
        return self.of_pods(self.scene.requests)

    @cached_property
    def pods(self) -> Floats:
        """How many run there."""
        return self.of_pods(self.scene.alive.astype(np.float64))

    @cached_property
    def loss(self) -> Floats:
        """The share of packets that its pods lose, at most."""
        mine = self.scene.hosts[:, None] == self.at
        return np.asarray((self.scene.loss[:, :, None] * mine).max(axis=1, initial=0.0))

    @cached_property
    def used_bytes(self) -> Floats:
        """Memory in use."""
        used = self.of_pods(self.scene.memory_bytes) + _SYSTEM_BYTES
        return np.minimum(used, 0.95 * MEMORY_BYTES)

    @cached_property
    def writes(self) -> Floats:
        """Disk writes a second."""
        own = np.array([service.disk for service in self.scene.services])
        return 4 + 0.05 * self.pods + self.of_pods(self.scene.requests * own * 0.8)

    @cached_property
    def io_s(self) -> Floats:
        """The share of time that the disk is busy."""
        return np.clip(0.004 + 0.0008 * self.writes * self.slow, 0.0, 1.0)

    @cached_property
    def modes(self) -> Floats:
        """CPU seconds of a step by mode, over all cores: float64[t, n, MODES]."""
        wait = 0.05 + np.minimum(0.9 * self.io_s * self.slow / 4, 2.0)
        busy = np.minimum(self.cpu, CORES - 0.1)
        none = 0 * busy
        used = [0.72 * busy, 0.24 * busy, wait, 0.04 * busy, none, none, none]
        idle = np.maximum(CORES - sum(used), 0.02)
        return STEP_S * np.stack([*used, idle], axis=2)

    @cached_property
    def by_core(self) -> Floats:
        """CPU seconds of a step by core and mode: float64[t, n, cores x modes]."""
        lean = 1 + 0.08 * np.sin(1 + np.arange(CORE_COUNT))  # No core does just its share.
        share = lean / lean.sum()
        by_core = self.modes[:, :, None, :] * share[:, None]
        return np.asarray(by_core.reshape(*self.modes.shape[:2], -1))

    def load(self, minutes: float) -> Floats:
        """Give the load average, as the sum of what runs and waits."""
        runs = self.cpu * (1 + np.maximum(self.cpu / CORES - 0.6, 0)) + self.io_s * self.slow / 2
        keep = np.exp(-STEP_S / (60 * minutes))
        levels = self.scene.lasting.levels.setdefault(minutes, {})
        level = np.array([levels.get(n, runs[0, i]) for i, n in enumerate(self.at.tolist())])
        out = np.empty(runs.shape)
        for i, row in enumerate(runs):
            level = keep * level + (1 - keep) * row
            out[i] = level
        levels.update(zip(self.at.tolist(), level.tolist(), strict=True))
        return out

    @property
    def created_s(self) -> Floats:
        """When each joined the cluster."""
        start_ms = self.scene.plan.start_ms
        begins = [self.scene.plan.nodes[i][0] for i in self.at.tolist()]
        old_ms = 9 * 86_400_000
        made = [begin - (old_ms if begin == start_ms else 0) for begin in begins]
        return np.asarray(self.const(0) + np.array(made) // 1000)

    @property
    def drained(self) -> Floats:
        """1 from when a node takes no more pods."""
        ends = np.array([self.scene.plan.nodes[i][1] for i in self.at.tolist()], np.int64)
        going = (self.scene.now_ms >= ends - DRAIN_MS) & (ends < self.scene.plan.end_ms)
        return np.asarray(going, np.float64)

    @property
    def conditions(self) -> Floats:
        """Show CONDITIONS, each as true, false, unknown."""
        full = np.asarray(self.used_bytes > 0.94 * MEMORY_BYTES, np.float64)
        none = self.const(0)
        return np.stack(
            [part for on in (none + 1, full, none, none) for part in (on, 1 - on, none)], axis=2
        )
