"""The plan: which pods live when and where, what is rolled out, scaled, replaced and restarted.

All that happens in steps is decided here, before the first sample is made.
"""

from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

import numpy as np

from watchkeep.shop.blueprint import Blueprint, Role, Service
from watchkeep.shop.kinds import Dial, Effect, Shape, Target
from watchkeep.shop.strikes import Strike, course, node_name, turned
from watchkeep.shop.times import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS, rhythm

_ALPHABET: Final = "bcdfghjklmnpqrstvwxz2456789"
_DEPLOYS_A_DAY: Final = 0.4
_RESTARTS_A_DAY: Final = 0.05
_NODES_A_DAY: Final = 0.4
_NODES_LEFT: Final = 2  # A shop with fewer nodes that are well has none to spare.
_BUSY: Final = 0.35
DRAIN_MS: Final = 5 * MINUTE_MS
_SCALE_MS: Final = 5 * MINUTE_MS
_SCALE_DOWN: Final = 6  # Steps that a smaller number must last before pods go.
_ROLL_MS: Final = 25 * SECOND_MS
_BACKOFF_S: Final = (10, 20, 40, 80, 160, 300)
_FULL: Final = 0.97  # The share of its limit at which a leaking container is killed.

_End = tuple[int, int, str]
ChangeKind = Literal["deploy", "rollback", "config", "restart", "scale", "node"]


@dataclass(slots=True)
class Pod:
    """One pod, from its creation until it is gone."""

    workload: str
    slot: int
    name: str
    node: int
    ip: str
    version: str
    start_ms: int
    end_ms: int


class Life(NamedTuple):
    """One run of a pod's container; `restarts`: how often it had been restarted before.

    `reason` is why it ended, as Kubernetes names it; empty while its pod lives as long.
    """

    pod: int
    start_ms: int
    ready_ms: int
    end_ms: int
    restarts: int
    reason: str = ""


class Run(NamedTuple):
    """One run of a cron job: `pod` is an index, `number` is in its job's name."""

    job: str
    pod: int
    number: int
    start_ms: int
    end_ms: int


class Change(NamedTuple):
    """What somebody, or something, did to a workload or a node."""

    at_ms: int
    kind: ChangeKind
    what: str
    detail: str


class Rollout(NamedTuple):
    """All pods of a workload are replaced, one after the other."""

    at_ms: int
    kind: ChangeKind
    template: str
    version: str


@dataclass(slots=True)
class Plan:
    """All that is decided.

    Attributes:
        nodes: from when to when each node lives.
        desired: by workload, the times at which the wanted number of pods changes.
    """

    start_ms: int
    end_ms: int
    strikes: tuple[Strike, ...]
    nodes: list[tuple[int, int]] = field(default_factory=list)
    pods: list[Pod] = field(default_factory=list)
    lives: list[Life] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    desired: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    rollouts: dict[str, list[Rollout]] = field(default_factory=dict)


class Planner:
    """Makes a plan, piece by piece."""

    def __init__(
        self,
        rng: np.random.Generator,
        blueprint: Blueprint,
        strikes: tuple[Strike, ...],
        span_ms: tuple[int, int],
    ) -> None:
        self._rng = rng
        self._blueprint = blueprint
        self._plan = Plan(*span_ms, strikes)
        self._drains: list[tuple[int, int, int]] = []
        self._turn = 0

    def make(self) -> Plan:
        """Make the plan."""
        self._nodes()
        for name, service in self._blueprint.services.items():
            self._plan.desired[name] = self._desired(name, service)
            self._plan.rollouts[name] = self._rollouts(name, service)
            self._pods(name, service)
        self._cron_jobs()
        self._plan.changes.sort()
        return self._plan

    def _nodes(self) -> None:
        """Have nodes, of which now and then one is drained and another takes its place."""
        plan = self._plan
        plan.nodes = [(plan.start_ms, plan.end_ms) for _ in range(self._blueprint.nodes)]
        struck = {s.slot for s in plan.strikes if s.kind.target is Target.NODE}
        calm = [n for n in range(self._blueprint.nodes) if n not in struck]
        days = (plan.end_ms - plan.start_ms) / DAY_MS
        if plan.end_ms - plan.start_ms <= 4 * HOUR_MS or len(calm) < _NODES_LEFT:
            return
        self._rng.shuffle(calm)
        for gone in calm[: min(self._rng.poisson(_NODES_A_DAY * days), len(calm) // 2)]:
            at_ms = int(self._rng.integers(plan.start_ms + 3 * HOUR_MS, plan.end_ms - HOUR_MS))
            plan.nodes[gone] = (plan.start_ms, at_ms + DRAIN_MS)
            plan.nodes.append((at_ms - 3 * MINUTE_MS, plan.end_ms))
            self._drains.append((at_ms, gone, len(plan.nodes) - 1))
            detail = f"{node_name(gone)} is drained for {node_name(len(plan.nodes) - 1)}"
            plan.changes.append(Change(at_ms, "node", node_name(gone), detail))
        self._drains.sort()

    def _desired(self, name: str, service: Service) -> list[tuple[int, int]]:
        """Scale out and in with the load, as an autoscaler would that sees no noise."""
        plan = self._plan
        if not service.pods_max:
            return [(plan.start_ms, service.pods)]
        times = np.arange(plan.start_ms, plan.end_ms, _SCALE_MS)
        load = rhythm(times)
        for strike in plan.strikes:
            for effect in strike.kind.effects:
                if strike.kind.target is Target.USERS and effect.what is Dial.TRAFFIC:
                    load = load * turned(effect, course(strike, effect, times))
        load = load * _inflow(self._blueprint)[name] * service.cpu_s
        wanted = np.ceil(load / (_BUSY * service.limit_cores))
        pods = np.clip(wanted, service.pods, service.pods_max).astype(int).tolist()
        steps = [(plan.start_ms, pods[0])]
        for i, time_ms in enumerate(times.tolist()):
            # It scales out at once, and in when it has been enough for a while.
            settled = max(pods[max(0, i - _SCALE_DOWN) : i + 1])
            if settled != steps[-1][1]:
                detail = f"from {steps[-1][1]} to {settled} pods"
                plan.changes.append(Change(time_ms, "scale", name, detail))
                steps.append((time_ms, settled))
        return steps

    def _rollouts(self, name: str, service: Service) -> list[Rollout]:
        plan, rng = self._plan, self._rng
        due: list[tuple[int, ChangeKind]] = []
        if service.role is Role.SERVICE:
            days = (plan.end_ms - plan.start_ms) / DAY_MS
            for _ in range(rng.poisson(_DEPLOYS_A_DAY * days)):
                day_ms = int(rng.integers(int(days) + 1)) * DAY_MS
                at_ms = plan.start_ms + day_ms + int(rng.uniform(8, 17) * HOUR_MS)
                due.append((at_ms, "deploy"))
        for strike in plan.strikes:
            if strike.where == name and strike.kind.change != "none":
                due.append((strike.onset_ms, strike.kind.change))
                if strike.kind.fault:
                    due.append((strike.end_ms, "rollback"))
        newest = minor = before = int(rng.integers(4, 40))
        made = [Rollout(plan.start_ms, "deploy", self._letters(9), f"1.{minor}.0")]
        for at_ms, kind in sorted(due):
            if at_ms >= plan.end_ms:
                continue
            newest += kind == "deploy"
            minor, before = {"deploy": (newest, minor), "rollback": (before, before)}.get(
                kind, (minor, before)
            )
            made.append(Rollout(at_ms, kind, self._letters(9), f"1.{minor}.0"))
            plan.changes.append(Change(at_ms, kind, name, f"version 1.{minor}.0"))
        return made

    def _pods(self, name: str, service: Service) -> None:
        steps = self._plan.desired[name]
        self._turn = int(self._rng.integers(64))
        for slot in range(max(pods for _, pods in steps)):
            begun_ms: int | None = None
            for at_ms, pods in [*steps, (self._plan.end_ms, 0)]:
                if slot < pods and begun_ms is None:
                    begun_ms = at_ms
                elif slot >= pods and begun_ms is not None:
                    self._slot(name, service, slot, (begun_ms, at_ms))
                    begun_ms = None

    def _slot(self, name: str, service: Service, slot: int, span_ms: tuple[int, int]) -> None:
        """Fill a place among a workload's pods: each rollout or drain brings the next pod."""
        rollouts = self._plan.rollouts[name]
        turn = self._turn + slot
        where = self._somewhere(span_ms[0], turn)
        cuts = {r.at_ms + slot * _ROLL_MS for r in rollouts[1:]}
        begun_ms = span_ms[0]
        for cut_ms in [*sorted(c for c in cuts if span_ms[0] < c < span_ms[1]), span_ms[1]]:
            for at_ms, gone, new in self._drains:
                moved_ms = at_ms + slot * _ROLL_MS
                if where == gone and begun_ms < moved_ms < cut_ms:
                    self._pod(name, service, slot, where, (begun_ms, moved_ms))
                    begun_ms, where = moved_ms, new
            self._pod(name, service, slot, where, (begun_ms, cut_ms))
            begun_ms = cut_ms
            turn += 2
            where = self._somewhere(cut_ms, turn)

    def _pod(
        self, name: str, service: Service, slot: int, where: int, span_ms: tuple[int, int]
    ) -> None:
        rollouts = self._plan.rollouts[name]
        # Slots are rolled out one after the other; the first rollout is there from the beginning.
        begun = [r for r in rollouts[1:] if r.at_ms + slot * _ROLL_MS <= span_ms[0]]
        now = begun[-1] if begun else rollouts[0]
        stateful = service.role is not Role.SERVICE
        start_ms, end_ms = span_ms
        if end_ms < self._plan.end_ms and not stateful:
            end_ms += int(self._rng.integers(12, 35)) * SECOND_MS  # It ends when the next is ready.
        if start_ms > self._plan.start_ms and stateful:
            start_ms += int(self._rng.integers(8, 25)) * SECOND_MS  # It begins when the last ended.
        pod_name = f"{name}-{slot}" if stateful else f"{name}-{now.template}-{self._letters(5)}"
        ip = f"10.{8 + where}.{self._rng.integers(256)}.{self._rng.integers(2, 255)}"
        pod = Pod(name, slot, pod_name, where, ip, now.version, start_ms, end_ms)
        self._plan.pods.append(pod)
        self._lives(len(self._plan.pods) - 1, pod)

    def _lives(self, index: int, pod: Pod) -> None:
        """Start the pod's container, and each time that it ends start it again."""
        old = pod.start_ms == self._plan.start_ms
        begun_ms = pod.start_ms + (0 if old else int(self._rng.integers(3, 12)) * SECOND_MS)
        restarts = 0
        for end_ms, down_s, reason in [*self._ends(pod), (pod.end_ms, 0, "")]:
            if end_ms <= begun_ms:
                continue
            ready_ms = begun_ms + (0 if old else int(self._rng.integers(4, 15)) * SECOND_MS)
            life = Life(index, begun_ms, min(ready_ms, end_ms), end_ms, restarts, reason)
            self._plan.lives.append(life)
            begun_ms, old, restarts = end_ms + down_s * SECOND_MS, False, restarts + 1

    def _ends(self, pod: Pod) -> list[_End]:
        """List when the container ends before its pod does, for how many seconds, and why."""
        days = (pod.end_ms - pod.start_ms) / DAY_MS
        random = self._rng.integers(
            pod.start_ms,
            max(pod.end_ms, pod.start_ms + 1),
            0 if self._blueprint.lean else self._rng.poisson(_RESTARTS_A_DAY * days),
        )
        ends: list[_End] = [(int(at_ms), 2, "Error") for at_ms in random]
        memory = self._blueprint.services[pod.workload].memory
        for strike in self._plan.strikes:
            if not hits(strike, pod):
                continue
            for effect in strike.kind.effects:
                if effect.what is Dial.RESTARTS and effect.size:
                    ends += _crashes(strike, effect)
                if effect.what is Dial.MEMORY and effect.shape is Shape.RAMP:
                    ends += _kills(strike, effect, memory)
        return sorted(end for end in ends if pod.start_ms < end[0] < pod.end_ms)

    def _cron_jobs(self) -> None:
        plan = self._plan
        for name, job in self._blueprint.cron_jobs.items():
            first_ms = plan.start_ms + round(job.at_h * HOUR_MS)
            for start_ms in range(first_ms, plan.end_ms, job.every_h * HOUR_MS):
                end_ms = start_ms + round(job.minutes * self._rng.uniform(0.9, 1.15) * MINUTE_MS)
                number = start_ms // MINUTE_MS
                pod_name = f"{name}-{number}-{self._letters(5)}"
                where = self._somewhere(start_ms, int(self._rng.integers(64)))
                ip = f"10.{8 + where}.{self._rng.integers(256)}.{self._rng.integers(2, 255)}"
                plan.pods.append(Pod(name, 0, pod_name, where, ip, "1", start_ms, end_ms))
                plan.runs.append(Run(name, len(plan.pods) - 1, number, start_ms, end_ms))
                life = Life(len(plan.pods) - 1, start_ms, start_ms, end_ms, 0, "Completed")
                plan.lives.append(life)

    def _somewhere(self, at_ms: int, turn: int) -> int:
        """Choose a node; pods with turns one after the other stand on different ones."""
        at_ms = min(at_ms, self._plan.end_ms - 1)
        able = [n for n, (begin, end) in enumerate(self._plan.nodes) if begin <= at_ms < end]
        gone = {gone for drained_ms, gone, _ in self._drains if drained_ms <= at_ms}
        able = [n for n in able if n not in gone]
        return able[turn % len(able)]

    def _letters(self, count: int) -> str:
        return "".join(self._rng.choice(list(_ALPHABET), count))


def hits(strike: Strike, pod: Pod) -> bool:
    """Tell whether a strike on a workload, a pod or a node is felt in a pod."""
    kind = strike.kind
    if kind.target is Target.NODE:
        return pod.node == strike.slot
    if kind.target not in {Target.SERVICE, Target.POD} or strike.where != pod.workload:
        return False
    if kind.change in {"deploy", "config"} and pod.start_ms < strike.onset_ms:
        return False  # What was rolled out is at fault, and this pod is older.
    return kind.target is Target.SERVICE or strike.slot == pod.slot


def _crashes(strike: Strike, effect: Effect) -> list[_End]:
    """List a crash loop's ends: the container runs for a moment, and is down ever longer."""
    length_ms = strike.end_ms - strike.onset_ms
    now_ms = strike.onset_ms + effect.begins * length_ms
    until_ms = strike.onset_ms + effect.ends * length_ms
    pause_s = 3_600 / effect.size
    crashes: list[_End] = []
    while now_ms < until_ms:
        down_s = round(min(_BACKOFF_S[min(len(crashes), len(_BACKOFF_S) - 1)], 0.8 * pause_s))
        crashes.append((round(now_ms), down_s, "Error"))
        now_ms += pause_s * SECOND_MS
    return crashes


def _kills(strike: Strike, effect: Effect, memory: float) -> list[_End]:
    """List when a leak has filled a container: it is killed, and begins to leak anew."""
    length_ms = strike.end_ms - strike.onset_ms
    pace_ms = (_FULL - memory) / max(effect.size, 1e-9) * (effect.ends - effect.begins) * length_ms
    begin_ms = strike.onset_ms + effect.begins * length_ms
    until_ms = strike.onset_ms + effect.ends * length_ms
    count = int((until_ms - begin_ms) / max(pace_ms, MINUTE_MS))
    return [(round(begin_ms + i * pace_ms), 3, "OOMKilled") for i in range(1, count + 1)]


def _inflow(blueprint: Blueprint) -> dict[str, float]:
    """Tell how many requests a second each workload gets on a quiet day's peak."""
    inflow = dict.fromkeys(blueprint.names, 0.0) | {blueprint.names[0]: blueprint.users}
    for name, service in blueprint.services.items():
        for callee, calls in service.calls.items():
            inflow[callee] += calls * inflow[name]
    return inflow
