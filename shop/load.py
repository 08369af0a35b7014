"""The load: what users ask for, what it costs, and how that spreads along the calls.

Traffic flows from callers to whom they call, errors and time flow back. A workload near the limit
of its CPU is slow, and a node near its own slows whoever is on it; so what a strike does to one
place is seen in others, without a table of symptoms.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np

from watchkeep.shop.blocks import Block, Indexes
from watchkeep.shop.blueprint import Blueprint, Service
from watchkeep.shop.kinds import FACTORS, Dial, Effect, Shape, Target
from watchkeep.shop.plan import Plan, Pod, hits
from watchkeep.shop.strikes import Strike, course, during, turned
from watchkeep.shop.times import Floats, rhythm

CORES: Final = 8.0
BACKGROUND_ERRORS: Final = 0.0015
_NODE_CORES: Final = 0.35
_BUSY: Final = 0.8
_TIMEOUT_S: Final = 5.0
_RESEND_S: Final = 0.2
_MESSAGES_MAX: Final = 50_000.0


@dataclass(slots=True)
class Load:
    """What happens in a block: float64[t, lives], [t, workloads], [t, edges], [t, nodes].

    Attributes:
        asked: requests a second of a workload.
        rate: requests a second that reach a container; `errors`: the share that fails there or
            further on; `own_s`: the time it takes itself; `latency_s`: with what it waits for.
        cpu: cores used; `throttled`: the share of its time that it was held back.
        memory: working set as a share of the limit.
        loss: share of its packets that are lost.
        edge_rate, edge_errors, edge_s: as the caller sees the callee; `edge_arrived`: requests a
            second that reach it.
        node_cpu: cores used; `node_disk`: a factor on the time of a disk operation.
        backlog: float64[t], messages that wait in the queue.
    """

    asked: Floats
    rate: Floats
    errors: Floats
    own_s: Floats
    latency_s: Floats
    cpu: Floats
    throttled: Floats
    memory: Floats
    loss: Floats
    edge_rate: Floats
    edge_arrived: Floats
    edge_errors: Floats
    edge_s: Floats
    node_cpu: Floats
    node_disk: Floats
    backlog: Floats


@dataclass(slots=True)
class Wobble:
    """What is random in the load, as factors: users float64[t], lives float64[t, lives]."""

    users: Floats
    rate: Floats
    cost: Floats
    time: Floats


@dataclass(slots=True)
class _Dials:
    """What the strikes of a block turn, by dial; where nothing is turned there is no array."""

    users: Floats
    lives: dict[Dial, Floats] = field(default_factory=dict)
    works: dict[Dial, Floats] = field(default_factory=dict)
    edges: dict[Dial, Floats] = field(default_factory=dict)
    nodes: dict[Dial, Floats] = field(default_factory=dict)
    knock_on: Floats = field(default_factory=lambda: np.ones((0, 0)))


class _Who(NamedTuple):
    """What a block's computation needs everywhere.

    Attributes:
        works, hosts: the numbers of each container's workload (-1 for a cron job's) and node.
    """

    block: Block
    pods: list[Pod]
    works: Indexes
    hosts: Indexes
    w: Wobble
    dials: _Dials


class Model:
    """Computes loads block by block; only the queue's backlog goes on from one to the next."""

    def __init__(self, blueprint: Blueprint, plan: Plan, strikes: Sequence[Strike]) -> None:
        self._blueprint = blueprint
        self._plan = plan
        self._strikes = strikes
        self._index = {name: i for i, name in enumerate(blueprint.names)}
        self._backlog = 0.0

    def load(self, block: Block, wobble: Wobble | None) -> Load:
        """Compute a block's load; without wobble it is what is expected."""
        who = self._who(block, wobble)
        dials, works = who.dials, who.works
        count, lives = len(block.times), len(block.lives)
        share = self._shares(who)
        users = self._blueprint.users * rhythm(block.times) * dials.users * who.w.users
        asked, backlog = self._asked(block, users, dials)
        rate = np.where(works >= 0, asked[:, works], 0.0) * share
        wanted = self._wanted(who, rate)
        limits = np.array([self._service(pod.workload).limit_cores for pod in who.pods])
        cpu = np.minimum(wanted, limits) * block.alive
        node_cpu = self._node_cpu(who, cpu)
        disk = dials.nodes.get(Dial.DISK, np.ones((count, len(self._plan.nodes))))
        own_s, own_errors = self._serving(who, wanted / limits, node_cpu, disk)
        felt_s, felt_errors = self._felt(who, share, own_s, own_errors)
        edge_s, edge_errors, wait_s, failing = self._along_calls(felt_s, felt_errors, dials)
        waits = np.where(works >= 0, wait_s[:, works], 0.0)
        errors = 1 - (1 - own_errors) * (1 - np.where(works >= 0, failing[:, works], 0.0))
        edges = self._blueprint.edges
        callers = [self._index[caller] for caller, _, _ in edges]
        calls = np.array([calls for _, _, calls in edges])
        arriving = dials.works.get(Dial.TRAFFIC, np.ones((count, len(self._index))))
        callees = [self._index[callee] for _, callee, _ in edges]
        tried = asked[:, callers] * calls * arriving[:, callees]
        return Load(
            asked=asked,
            rate=rate,
            errors=errors,
            own_s=own_s,
            latency_s=np.minimum(own_s + waits, _TIMEOUT_S),
            cpu=cpu,
            throttled=np.clip(wanted / limits - _BUSY, 0.0, 1.0),
            memory=self._memory(who, rate),
            loss=dials.lives.get(Dial.PACKET_LOSS, np.zeros((count, lives))),
            edge_rate=tried,
            edge_arrived=tried * (1 - dials.edges.get(Dial.ERRORS, 0.0)),
            edge_errors=edge_errors,
            edge_s=edge_s,
            node_cpu=node_cpu,
            node_disk=disk,
            backlog=backlog,
        )

    def _who(self, block: Block, wobble: Wobble | None) -> _Who:
        pods = [self._plan.pods[life.pod] for life in block.lives]
        works = np.array([self._index.get(pod.workload, -1) for pod in pods], np.intp)
        hosts = np.array([pod.node for pod in pods], np.intp)
        still = np.ones((len(block.times), len(pods)))
        w = wobble or Wobble(np.ones(len(block.times)), still, still, still)
        return _Who(block, pods, works, hosts, w, self._dials(block))

    def _service(self, name: str) -> Service:
        services = self._blueprint.services
        return services.get(name, JOB)

    def _dials(self, block: Block) -> _Dials:
        times = block.times
        count = len(times)
        dials = _Dials(np.ones(count))
        dials.knock_on = np.ones((count, len(self._blueprint.names)))
        for strike in during(self._strikes, int(times[0]), int(times[-1]) + 1):
            for effect in strike.kind.effects:
                self._turn(dials, block, strike, effect)
        return dials

    def _turn(self, dials: _Dials, block: Block, strike: Strike, effect: Effect) -> None:
        strength = course(strike, effect, block.times)
        made = turned(effect, strength)
        target, what = strike.kind.target, effect.what
        if target is Target.USERS:
            dials.users = dials.users * made
        elif target is Target.EDGE:
            names = [(caller, callee) for caller, callee, _ in self._blueprint.edges]
            _put(dials.edges, what, made, len(names), [names.index((strike.caller, strike.where))])
        elif target is Target.NODE and what in {Dial.CPU_CORES, Dial.DISK}:
            _put(dials.nodes, what, made, len(self._plan.nodes), [strike.slot])
        elif what in {Dial.TRAFFIC, Dial.CONSUMERS}:
            work = self._index[strike.where]
            _put(dials.works, what, made, len(self._index), [work])
        elif what not in {Dial.RESTARTS, Dial.CERTIFICATE}:
            pods = [self._plan.pods[life.pod] for life in block.lives]
            struck = [i for i, pod in enumerate(pods) if hits(strike, pod)]
            if what is Dial.MEMORY and effect.shape is Shape.RAMP:
                # What had leaked is gone when a container starts again.
                begun = np.array([block.lives[i].start_ms for i in struck], np.int64)
                leaked = made[:, None] - turned(effect, course(strike, effect, begun))
                made = np.maximum(leaked, 0.0)
            _put(dials.lives, what, made, len(block.lives), struck)
        if effect.knock_on < 1 and target in {Target.SERVICE, Target.POD}:
            felt = 1 - (1 - effect.knock_on) * (strength > 0)
            dials.knock_on[:, self._index[strike.where]] *= felt

    def _shares(self, who: _Who) -> Floats:
        """Give the share of its workload's requests that each container gets."""
        block, works = who.block, who.works
        weight = block.ready * who.w.rate
        if (unready := who.dials.lives.get(Dial.UNREADY)) is not None:
            # Probes fail now and then; while they do, no requests come.
            phase = (np.arange(len(block.times))[:, None] * 0.37 + block.which * 0.61) % 1
            weight = weight * (phase >= unready)
        whole = np.zeros((len(block.times), len(self._index)))
        for i in range(len(self._index)):
            whole[:, i] = weight[:, works == i].sum(axis=1)
        return np.asarray(
            np.divide(weight, whole[:, works], out=np.zeros_like(weight), where=whole[:, works] > 0)
        )

    def _asked(self, block: Block, users: Floats, dials: _Dials) -> tuple[Floats, Floats]:
        """Follow the calls down: requests a second that each workload is asked for."""
        asked = np.zeros((len(block.times), len(self._index)))
        asked[:, 0] = users
        backlog = np.zeros(len(block.times))
        traffic = dials.works.get(Dial.TRAFFIC)
        none = np.zeros((len(block.times), len(self._blueprint.edges)))
        lost = dials.edges.get(Dial.ERRORS, none)  # Such calls fail on their way.
        queue = self._blueprint.queue
        for name, i in self._index.items():
            if queue and name == queue[2]:
                writes = asked[:, self._index[queue[1]]]
                asked[:, i], backlog = self._consumed(block, writes, dials)
            if traffic is not None:
                asked[:, i] *= traffic[:, i]
            for e, (caller, callee, calls) in enumerate(self._blueprint.edges):
                if caller == name:
                    asked[:, self._index[callee]] += calls * asked[:, i] * (1 - lost[:, e])
        return asked, backlog

    def _consumed(self, block: Block, writes: Floats, dials: _Dials) -> tuple[Floats, Floats]:
        """Let the workers behind the queue take what waits, as fast as they can."""
        assert self._blueprint.queue is not None
        work = self._blueprint.queue[2]
        able = dials.works.get(Dial.CONSUMERS)
        own = [self._plan.pods[life.pod].workload == work for life in block.lives]
        ready = block.ready[:, np.array(own, bool)].sum(axis=1)
        service = self._blueprint.services[work]
        most = 0.9 * ready * service.limit_cores / service.cpu_s
        if able is not None:
            most = most * able[:, self._index[work]]
        step_s = float(np.diff(block.times[:2])[0]) / 1000
        taken, backlog = np.empty(len(writes)), np.empty(len(writes))
        for i, (written, able_now) in enumerate(zip(writes.tolist(), most.tolist(), strict=True)):
            taken[i] = min(able_now, written + self._backlog / step_s)
            self._backlog += (written - taken[i]) * step_s
            self._backlog = backlog[i] = min(max(self._backlog, 0.0), _MESSAGES_MAX)
        return taken, backlog

    def _wanted(self, who: _Who, rate: Floats) -> Floats:
        block, pods, dials = who.block, who.pods, who.dials
        cost = np.array([self._service(pod.workload).cpu_s for pod in pods])
        idle = np.array([self._idle(pod.workload) for pod in pods])
        wanted = (idle + rate * cost * dials.lives.get(Dial.CPU, 1.0)) * who.w.cost
        if (cores := dials.lives.get(Dial.CPU_CORES)) is not None:
            wanted = wanted + cores
        for run in self._plan.runs:
            job = self._blueprint.cron_jobs[run.job]
            on = np.array([pod.workload == job.on and pod.slot == 0 for pod in pods])
            if on.any():
                now = (block.times >= run.start_ms) & (block.times < run.end_ms)
                wanted = wanted + job.load_cores * now[:, None] * on
        return np.asarray(wanted * block.alive)

    def _idle(self, name: str) -> float:
        jobs = self._blueprint.cron_jobs
        return jobs[name].cores if name in jobs else self._service(name).idle_cores

    def _node_cpu(self, who: _Who, cpu: Floats) -> Floats:
        used = np.full((len(cpu), len(self._plan.nodes)), _NODE_CORES)
        for host in np.unique(who.hosts):
            used[:, host] += cpu[:, who.hosts == host].sum(axis=1)
        used = used + who.dials.nodes.get(Dial.CPU_CORES, 0.0)
        return np.asarray(np.minimum(used, CORES))

    def _serving(
        self, who: _Who, busy: Floats, node_cpu: Floats, disk: Floats
    ) -> tuple[Floats, Floats]:
        """Tell how long each container takes for a request, and which share it fails."""
        pods, hosts, dials = who.pods, who.hosts, who.dials
        base = np.array([self._service(pod.workload).latency_s for pod in pods])
        on_disk = np.array([self._service(pod.workload).disk for pod in pods])
        crowded = 1 + 8 * np.maximum(node_cpu / CORES - _BUSY, 0.0)
        # A queue in front of a server: the busier it is, the longer one waits (M/M/1).
        own_s = base * who.w.time * (0.85 + 0.15 / (1 - np.minimum(busy, 0.97)))
        own_s = own_s * crowded[:, hosts] * dials.lives.get(Dial.LATENCY, 1.0)
        own_s = own_s * (1 + on_disk * (disk[:, hosts] - 1))
        own_s = own_s + dials.lives.get(Dial.LATENCY_S, 0.0)
        loss = dials.lives.get(Dial.PACKET_LOSS, 0.0)
        own_s = own_s + _RESEND_S * loss
        overload = np.maximum(1 - 1 / np.maximum(busy, 1e-9), 0.0) * (busy > 1)
        timed_out = np.clip(own_s / _TIMEOUT_S - 0.8, 0.0, 1.0)
        failing = dials.lives.get(Dial.ERRORS, 0.0)
        kept = (1 - BACKGROUND_ERRORS) * (1 - overload) * (1 - timed_out) * (1 - failing)
        return np.minimum(own_s, _TIMEOUT_S), np.asarray(1 - kept * (1 - loss**2))

    def _felt(
        self, who: _Who, share: Floats, own_s: Floats, own_errors: Floats
    ) -> tuple[Floats, Floats]:
        """Give what the callers of each workload feel of its containers, on average."""
        dials = who.dials
        felt_s = np.zeros((len(share), len(self._index)))
        felt_errors = np.zeros_like(felt_s)
        for name, i in self._index.items():
            own = who.works == i
            part = share[:, own]
            felt_s[:, i] = (part * own_s[:, own]).sum(axis=1)
            # Where nobody is ready, nobody answers.
            felt_errors[:, i] = 1 - (part * (1 - own_errors[:, own])).sum(axis=1)
            calm_s = self._blueprint.services[name].latency_s
            felt_s[:, i] = calm_s + dials.knock_on[:, i] * (felt_s[:, i] - calm_s)
            more = felt_errors[:, i] - BACKGROUND_ERRORS
            felt_errors[:, i] = BACKGROUND_ERRORS + dials.knock_on[:, i] * more
        return felt_s, np.clip(felt_errors, 0.0, 1.0)

    def _along_calls(
        self, felt_s: Floats, felt_errors: Floats, dials: _Dials
    ) -> tuple[Floats, Floats, Floats, Floats]:
        """Follow the calls back up: what each caller waits for, and what fails for it."""
        edges = self._blueprint.edges
        edge_s = np.zeros((len(felt_s), len(edges)))
        edge_errors, wait_s = np.zeros_like(edge_s), np.zeros_like(felt_s)
        served = np.ones_like(felt_s)
        slow = dials.edges.get(Dial.LATENCY_S, np.zeros_like(edge_s))
        broken = dials.edges.get(Dial.ERRORS, np.zeros_like(edge_s))
        # Callees stand behind their callers, so from the last on everything below is known.
        for caller in reversed(self._blueprint.names):
            i = self._index[caller]
            for e, (name, callee, calls) in enumerate(edges):
                if name != caller:
                    continue
                j = self._index[callee]
                edge_s[:, e] = np.minimum(felt_s[:, j] + wait_s[:, j] + slow[:, e], _TIMEOUT_S)
                late = np.clip(edge_s[:, e] / _TIMEOUT_S - 0.8, 0.0, 1.0)
                kept = (1 - felt_errors[:, j]) * served[:, j] * (1 - broken[:, e]) * (1 - late)
                edge_errors[:, e] = 1 - kept
                wait_s[:, i] += calls * edge_s[:, e]
                served[:, i] *= 1 - min(calls, 1.0) * (1 - kept)
        return edge_s, edge_errors, wait_s, 1 - served

    def _memory(self, who: _Who, rate: Floats) -> Floats:
        block, pods, dials = who.block, who.pods, who.dials
        base = np.array([self._service(pod.workload).memory for pod in pods])
        begun = np.array([life.start_ms for life in block.lives])
        hours = np.maximum(block.times[:, None] - begun, 0) / 3.6e6
        # A fresh container fills its caches in its first hour.
        filled = 0.82 + 0.18 * (1 - np.exp(-hours / 0.4))
        leaked = dials.lives.get(Dial.MEMORY, 0.0)
        return np.asarray(np.clip(base * filled + 2e-4 * rate + leaked, 0.01, 0.99))


JOB: Final = Service(1, 0.1, 0.0, memory=0.4)


def _put(dials: dict[Dial, Floats], what: Dial, made: Floats, width: int, where: list[int]) -> None:
    """Turn a dial at some places; what turns it already stays."""
    factor = what in FACTORS
    now = dials.setdefault(what, np.full((len(made), width), 1.0 if factor else 0.0))
    if made.ndim == 1:
        made = made[:, None]
    now[:, where] = now[:, where] * made if factor else now[:, where] + made
