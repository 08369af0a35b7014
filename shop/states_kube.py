"""What kube-state-metrics reads of workloads, cron jobs and their runs."""

from functools import cached_property

import numpy as np

from watchkeep.shop.blocks import Bools, Indexes
from watchkeep.shop.scene import Scene
from watchkeep.shop.times import HOUR_MS, SECOND_MS, Floats


class Workloads:
    """Deployments and stateful sets, by workload."""

    def __init__(self, scene: Scene, works: Indexes) -> None:
        self.scene = scene
        self.names = [scene.blueprint.names[i] for i in works.tolist()]
        self._works = works
        self.services = [scene.blueprint.services[name] for name in self.names]

    @property
    def present(self) -> Bools:
        """They are always there."""
        return np.ones((len(self.scene.block.times), len(self.names)), bool)

    @property
    def resets(self) -> list[tuple[int, int]]:
        """Nothing begins anew."""
        return []

    def const(self, value: float) -> Floats:
        """Show the same of all, always."""
        return np.full(self.present.shape, value)

    def each(self, values: Floats) -> Floats:
        """Show a number of each, always."""
        return np.broadcast_to(values, self.present.shape)

    def count(self, pods: Bools) -> Floats:
        """Count pods by workload."""
        mine = self.scene.workloads[:, None] == self._works
        return np.asarray(pods.astype(np.float64) @ mine.astype(np.float64))

    @cached_property
    def wanted(self) -> Floats:
        """How many pods there should be."""
        out = np.empty(self.present.shape)
        for i, name in enumerate(self.names):
            steps = self.scene.plan.desired[name]
            at = np.array([at_ms for at_ms, _ in steps])
            pods = np.array([float(pods) for _, pods in steps])
            out[:, i] = pods[np.searchsorted(at, self.scene.block.times, "right") - 1]
        return out

    @cached_property
    def there(self) -> Floats:
        """How many there are."""
        return self.count(self.scene.exists)

    @cached_property
    def ready(self) -> Floats:
        """How many of them are ready."""
        return self.count(self.scene.ready)

    @cached_property
    def missing(self) -> Floats:
        """How many are not ready of those that should be there."""
        return np.maximum(self.wanted - self.ready, 0.0)

    @cached_property
    def updated(self) -> Floats:
        """How many run what was rolled out last."""
        out = np.empty(self.present.shape)
        pods = [self.scene.plan.pods[i] for i in self.scene.pods.tolist()]
        starts = np.array([pod.start_ms for pod in pods])
        mine = self.scene.workloads[:, None] == self._works
        for i in range(len(self.names)):
            turns = np.searchsorted(self._rolled_at(i), self.scene.block.times, "right")
            since = self._rolled[turns - 1, i]
            newer = self.scene.exists & (starts >= since[:, None])
            out[:, i] = newer[:, mine[:, i]].sum(axis=1)
        return np.minimum(out, self.wanted)

    @cached_property
    def _rolled(self) -> Floats:
        longest = max(len(self.scene.plan.rollouts[name]) for name in self.names)
        out = np.full((longest, len(self.names)), np.inf)
        for i in range(len(self.names)):
            at = self._rolled_at(i)
            out[: len(at), i] = at
        return out

    def _rolled_at(self, i: int) -> Floats:
        return np.array([r.at_ms for r in self.scene.plan.rollouts[self.names[i]]], np.float64)

    def generation(self, late_s: float = 0.0) -> Floats:
        """How often it was changed; its controller sees that a little later."""
        now = self.scene.block.times - late_s * SECOND_MS
        out = np.empty(self.present.shape)
        for i, name in enumerate(self.names):
            steps = np.array([at_ms for at_ms, _ in self.scene.plan.desired[name]])
            out[:, i] = np.searchsorted(self._rolled_at(i), now, "right")
            out[:, i] += np.searchsorted(steps, now, "right") - 1
        return np.maximum(out, 1.0)

    @property
    def pods_min(self) -> Floats:
        """What an autoscaler may not go below; `pods_max`: not above."""
        return self.each(np.array([float(service.pods) for service in self.services]))

    @property
    def pods_max(self) -> Floats:
        """What an autoscaler may not go above."""
        return self.each(np.array([float(service.pods_max) for service in self.services]))

    @property
    def busy(self) -> Floats:
        """How much of what they asked for pods use, in percent."""
        asked = np.array([service.limit_cores / 4 for service in self.services])
        return np.asarray(np.rint(100 * self._cpu / np.maximum(self.ready, 1) / asked))

    @property
    def _cpu(self) -> Floats:
        mine = self.scene.workloads[:, None] == self._works
        return np.asarray(self.scene.cpu @ mine.astype(np.float64))


class Runs:
    """Cron jobs' runs, and the cron jobs: by number of the run, or of the cron job."""

    def __init__(self, scene: Scene, numbers: Indexes) -> None:
        self.scene = scene
        self.runs = [scene.plan.runs[i] for i in numbers.tolist()]
        self.start_ms = np.array([run.start_ms for run in self.runs], np.float64)
        self.end_ms = np.array([run.end_ms for run in self.runs], np.float64)

    @property
    def present(self) -> Bools:
        """Tell when they are there: a finished run is kept for some hours."""
        now = self.scene.now_ms
        return np.asarray((now >= self.start_ms) & (now < self.end_ms + KEPT_MS))

    @property
    def resets(self) -> list[tuple[int, int]]:
        """Nothing begins anew."""
        return []

    def const(self, value: float) -> Floats:
        """Show the same of all, always."""
        return np.full(self.present.shape, value)

    @property
    def active(self) -> Floats:
        """1 while it runs."""
        return np.asarray(self.scene.now_ms < self.end_ms, np.float64)

    @property
    def start_s(self) -> Floats:
        """When it began."""
        return np.broadcast_to(self.start_ms / 1000, self.present.shape)

    @property
    def end_s(self) -> Floats:
        """When it ended; 0 before."""
        return np.asarray((1 - self.active) * self.end_ms / 1000)


KEPT_MS = 2 * HOUR_MS


class CronJobs:
    """Cron jobs."""

    def __init__(self, scene: Scene, numbers: Indexes) -> None:
        self.scene = scene
        names = list(scene.blueprint.cron_jobs)
        self.names = [names[i] for i in numbers.tolist()]

    @property
    def present(self) -> Bools:
        """They are always there."""
        return np.ones((len(self.scene.block.times), len(self.names)), bool)

    @property
    def resets(self) -> list[tuple[int, int]]:
        """Nothing begins anew."""
        return []

    def const(self, value: float) -> Floats:
        """Show the same of all, always."""
        return np.full(self.present.shape, value)

    @cached_property
    def last_s(self) -> Floats:
        """When each ran last; 0 before its first run."""
        out = self.const(0)
        for run in self.scene.plan.runs:
            after = self.scene.block.times >= run.start_ms
            out[after, self.names.index(run.job)] = run.start_ms / 1000
        return out

    @cached_property
    def active(self) -> Floats:
        """1 while a run of it goes on."""
        out = self.const(0)
        for run in self.scene.plan.runs:
            now = (self.scene.block.times >= run.start_ms) & (self.scene.block.times < run.end_ms)
            out[now, self.names.index(run.job)] = 1
        return out

    @property
    def next_s(self) -> Floats:
        """When each will run next."""
        jobs = [self.scene.blueprint.cron_jobs[name] for name in self.names]
        every_s = np.array([job.every_h * 3600.0 for job in jobs])
        first_s = self.scene.plan.start_ms / 1e3 + np.array([job.at_h * 3600 for job in jobs])
        turns = np.floor((self.scene.now_ms / 1e3 - first_s) / every_s) + 1
        return np.asarray(np.rint(first_s + np.maximum(turns, 0) * every_s))
