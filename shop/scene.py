"""One block of the shop as exporters see it: the load of containers, by pod.

A pod shows one container; when that starts again, its series go on and its counters begin anew.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np

from watchkeep.shop.blocks import BEFORE_MS, Block, Bools, Indexes
from watchkeep.shop.blueprint import Blueprint, Service
from watchkeep.shop.load import JOB, Load
from watchkeep.shop.plan import Life, Plan
from watchkeep.shop.times import SCRAPE_MS, Floats, Times

STEP_S: Final = SCRAPE_MS / 1000


class Lasting:
    """What all scenes of a run share, by pod.

    Attributes:
        life: the number of the container run that was seen last, -1 for none.
        again: all runs of the pods that have more than one, or one that ended early.
        levels: by minutes, each node's load average so far.
    """

    def __init__(self, plan: Plan) -> None:
        self.life = np.full(len(plan.pods), -1)
        self.levels: dict[float, dict[int, float]] = {}
        self._starts = np.array([pod.start_ms for pod in plan.pods], np.int64)
        self._ends = np.array([pod.end_ms for pod in plan.pods], np.int64)
        ill = {life.pod for life in plan.lives if life.restarts or life.reason}
        self.again: dict[int, list[Life]] = {pod: [] for pod in sorted(ill)}
        for life in plan.lives:
            if life.pod in self.again:
                self.again[life.pod].append(life)

    def pods(self, times: Times) -> Indexes:
        """Find the pods that meet a block, or have just gone."""
        begin_ms, end_ms = int(times[0]) - BEFORE_MS, int(times[-1])
        return np.flatnonzero((self._starts <= end_ms) & (self._ends > begin_ms))

    def exists(self, pods: Indexes, times: Times) -> Bools:
        """Tell when pods are there: bool[t, pods]."""
        now = times[:, None]
        return np.asarray((now >= self._starts[pods]) & (now < self._ends[pods]))


@dataclass
class Scene:
    """One block, by pod.

    Attributes:
        pods: the numbers of the pods that meet the block, or have just gone.
        column: where a pod's number stands in `pods`, by number.
    """

    blueprint: Blueprint
    plan: Plan
    block: Block
    load: Load
    rng: np.random.Generator
    lasting: Lasting

    def __post_init__(self) -> None:
        """Find each pod's container at each step."""
        lives = self.block.lives
        owners = np.array([life.pod for life in lives], np.intp)
        self.pods: Indexes = self.lasting.pods(self.block.times)
        self.column = np.full(len(self.plan.pods), -1)
        self.column[self.pods] = np.arange(len(self.pods))
        self._life = np.full((len(self.block.times), len(self.pods)), -1)
        for i, owner in enumerate(self.column[owners].tolist()):
            self._life[self.block.alive[:, i], owner] = i
        self.alive: Bools = self._life >= 0
        self.resets = self._resets()

    def _resets(self) -> list[tuple[int, int]]:
        """List where a pod's container is another than the one that was seen last."""
        found: list[tuple[int, int]] = []
        numbers = np.where(self.alive, self.block.which[self._life], -1)
        for column, pod in enumerate(self.pods.tolist()):
            mine = numbers[:, column]
            last = int(self.lasting.life[pod])
            present = mine[mine >= 0]
            if not len(present) or (present[0] == present[-1] == last):
                continue
            for number in dict.fromkeys(present.tolist()):
                if number not in {last, -1} and last >= 0:
                    found.append((column, int(np.argmax(mine == number))))
                last = number
            self.lasting.life[pod] = last
        return found

    def merged(self, by_life: Floats) -> Floats:
        """Turn what is known of container runs into what is known of pods: float64[t, pods]."""
        taken = np.take_along_axis(by_life, np.maximum(self._life, 0), axis=1)
        return np.asarray(taken * self.alive)

    def of_life(self, values: Sequence[float]) -> Floats:
        """Spread a number of each container run over time and pods; 0 where none runs."""
        return np.asarray(np.where(self.alive, np.array(values, np.float64)[self._life], 0.0))

    @property
    def now_ms(self) -> Floats:
        """The grid as a column: float64[t, 1]."""
        return self.block.times[:, None].astype(np.float64)

    @cached_property
    def exists(self) -> Bools:
        """Tell when each pod is there: bool[t, pods]."""
        return self.lasting.exists(self.pods, self.block.times)

    @cached_property
    def services(self) -> list[Service]:
        """Look up what each pod runs."""
        services = self.blueprint.services
        return [services.get(self.plan.pods[i].workload, JOB) for i in self.pods.tolist()]

    @cached_property
    def workloads(self) -> Indexes:
        """Give the number of each pod's workload; -1 for a cron job's."""
        index = {name: i for i, name in enumerate(self.blueprint.names)}
        return np.array([index.get(self.plan.pods[i].workload, -1) for i in self.pods.tolist()])

    @cached_property
    def hosts(self) -> Indexes:
        """Give the number of each pod's node."""
        return np.array([self.plan.pods[i].node for i in self.pods.tolist()], np.intp)

    @cached_property
    def ready(self) -> Bools:
        """Tell when each pod is ready: bool[t, pods]."""
        return np.asarray(self.merged(self.block.ready.astype(np.float64)) > 0)

    @cached_property
    def restarts(self) -> Floats:
        """Count how often each pod's container was started again: float64[t, pods]."""
        seen = np.zeros(self.alive.shape)
        for column, life in self._again():
            seen[self.block.times >= life.start_ms, column] = life.restarts
        return seen

    @cached_property
    def ended(self) -> dict[str, Bools]:
        """Tell when a pod's last end was for a reason, by that reason."""
        found: dict[str, Bools] = {}
        for column, life in self._again():
            after = self.block.times >= life.end_ms
            if life.reason and after.any():
                for other in found.values():
                    other[after, column] = False
                gone = found.setdefault(life.reason, np.zeros(self.alive.shape, bool))
                gone[after, column] = True
        return found

    @cached_property
    def kills(self) -> Floats:
        """Count how often each pod's container was killed for its memory: float64[t, pods]."""
        count = np.zeros(self.alive.shape)
        for column, life in self._again():
            if life.reason == "OOMKilled":
                count[self.block.times >= life.end_ms, column] += 1
        return count

    def _again(self) -> Iterator[tuple[int, Life]]:
        for column, pod in enumerate(self.pods.tolist()):
            for life in self.lasting.again.get(pod, ()):
                yield column, life

    @cached_property
    def requests(self) -> Floats:
        """Give the requests a second that reach each pod: float64[t, pods], as all that follows."""
        return self.merged(self.load.rate)

    @cached_property
    def errors(self) -> Floats:
        """Give the share of requests that fail."""
        return self.merged(self.load.errors)

    @cached_property
    def latency_s(self) -> Floats:
        """Give the time of a request, with what it waits for."""
        return self.merged(self.load.latency_s)

    @cached_property
    def cpu(self) -> Floats:
        """Give the cores used."""
        return self.merged(self.load.cpu)

    @cached_property
    def throttled(self) -> Floats:
        """Give the share of its time that a container was held back."""
        return self.merged(self.load.throttled)

    @cached_property
    def loss(self) -> Floats:
        """Give the share of packets that are lost."""
        return self.merged(self.load.loss)

    @cached_property
    def memory_bytes(self) -> Floats:
        """Give the working set."""
        limits = np.array([service.limit_bytes for service in self.services])
        return np.asarray(self.merged(self.load.memory) * limits)
