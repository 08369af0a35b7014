"""A small shop on Kubernetes: five services with pods, two nodes, a day's rhythm, noise, faults.

Users call the frontend, services call each other; what a fault does to one spreads along the
calls: errors and latency to the callers, missing traffic to the callees. Requests are counted, so
counts are Poisson; loads and latencies carry autocorrelated noise with fat tails. Everything
follows from the seed.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from watchkeep.schemas.entity import Entity, EntityKind
from watchkeep.schemas.frame import MetricKind
from watchkeep.shop.faults import EFFECTS, HOUR_MS, Effect, Fault, FaultKind, place

Floats = npt.NDArray[np.float64]

CLUSTER: Final = "demo"
NAMESPACE: Final = "shop"
SCRAPE_MS: Final = 30_000
START_MS: Final = 1_772_409_600_000  # Monday, 2026-03-02 00:00 UTC
WARMUP_MS: Final = 2 * HOUR_MS
DAY_MS: Final = 24 * HOUR_MS
NODES: Final = ("node-a", "node-b")

_ALPHABET: Final = "bcdfghjklmnpqrstvwxz2456789"
# Noise: its memory from scrape to scrape, and the degrees of freedom of its tails.
_PHI: Final = 0.7
_TAILS: Final = 5
_MOVED: Final = 0.03


@dataclass(frozen=True, slots=True)
class Service:
    """One service.

    Attributes:
        calls: requests to other services for each request served.
        latency_s: mean time to serve a request, without what it waits for.
        cpu_s: CPU time a request costs.
    """

    pods: int
    latency_s: float
    cpu_s: float
    memory_bytes: float
    calls: dict[str, float] = field(default_factory=dict)


# Callers stand before whom they call.
SERVICES: Final = {
    "frontend": Service(3, 0.03, 0.004, 220e6, {"catalog": 1.5, "cart": 0.6, "checkout": 0.15}),
    "checkout": Service(2, 0.05, 0.006, 180e6, {"cart": 1.0, "payment": 1.0, "catalog": 0.5}),
    "cart": Service(2, 0.008, 0.002, 140e6),
    "catalog": Service(3, 0.015, 0.003, 160e6),
    "payment": Service(2, 0.09, 0.003, 120e6),
}
_USERS: Final = 120.0
_BACKGROUND_ERRORS: Final = 0.002


class Drivers(NamedTuple):
    """What moves the signals, without noise: by service, float64[scrapes]."""

    rate: dict[str, Floats]
    errors: dict[str, Floats]
    latency: dict[str, Floats]
    cpu: dict[str, Floats]


class Batch(NamedTuple):
    """Samples in the order of time.

    Attributes:
        series: int32[n], indexes into `Shop.series`.
        time_ms: int64[n].
        value: float64[n].
    """

    series: npt.NDArray[np.int32]
    time_ms: npt.NDArray[np.int64]
    value: Floats


def workload(service: str) -> str:
    """Name a service's entity."""
    return Entity(EntityKind.WORKLOAD, CLUSTER, NAMESPACE, service).key


def node(name: str) -> str:
    """Name a node's entity."""
    return Entity(EntityKind.NODE, CLUSTER, "", name).key


class Shop:
    """The shop over some days.

    Attributes:
        series: labels and kind of each series.
        faults: the ground truth.
        start_ms, warm_until_ms, end_ms: alerts count from `warm_until_ms` on.
    """

    def __init__(self, seed: int, days: float) -> None:
        self._rng = np.random.default_rng(seed)
        self.start_ms = START_MS
        self.warm_until_ms = START_MS + WARMUP_MS
        self.end_ms = START_MS + round(days * DAY_MS)
        self._count = (self.end_ms - self.start_ms) // SCRAPE_MS
        self._times = self.start_ms + SCRAPE_MS * np.arange(self._count)
        self._users = self._traffic()
        placed = place(
            self._rng,
            [name for name in SERVICES if name != "frontend"],
            self.warm_until_ms + HOUR_MS,
            self.end_ms - HOUR_MS,
        )
        self._pods = self._schedule()
        self.faults = tuple(self._fault(*entry) for entry in placed)
        self.series: list[tuple[dict[str, str], MetricKind]] = []
        self._offsets: list[int] = []
        self._values: list[Floats] = []
        self._expose(self._drivers(self.faults))

    @property
    def samples(self) -> int:
        """How many samples there are."""
        return len(self.series) * int(self._count)

    def _traffic(self) -> Floats:
        """Users: the day's rhythm, noise, and a short small burst now and then."""
        hours = (self._times - START_MS) / HOUR_MS
        rhythm = 1 + 0.45 * np.sin(2 * np.pi * (hours - 9) / 24)
        bursts = np.zeros(self._count)
        for begin in np.flatnonzero(self._rng.random(self._count) < 1 / 480):
            bursts[begin : begin + int(self._rng.integers(2, 7))] += self._rng.uniform(0.03, 0.12)
        return np.asarray(_USERS * rhythm * (1 + bursts) * self._noise(0.02))

    def _noise(self, spread: float) -> Floats:
        """Make a factor around 1: an AR(1) process with Student's t for its steps."""
        steps = self._rng.standard_t(_TAILS, self._count) / np.sqrt(_TAILS / (_TAILS - 2))
        steps *= spread * np.sqrt(1 - _PHI**2)
        memory = 40
        kernel = _PHI ** np.arange(memory)
        level = np.convolve(np.concatenate([np.zeros(memory - 1), steps]), kernel, "valid")
        return np.asarray(np.exp(level))

    def _schedule(self) -> list[tuple[str, str, str, float]]:
        """Name the pods, and put them on nodes: service, pod, node, share of the load."""
        pods: list[tuple[str, str, str, float]] = []
        for name, service in SERVICES.items():
            letters = self._rng.choice(list(_ALPHABET), 9)
            shares = self._rng.uniform(0.9, 1.1, service.pods)
            for i, share in enumerate(shares / shares.sum()):
                own = "".join(self._rng.choice(list(_ALPHABET), 5))
                where = NODES[(i + len(pods)) % len(NODES)]
                pods.append((name, f"{name}-{''.join(letters)}-{own}", where, float(share)))
        return pods

    def _fault(self, kind: FaultKind, service: str, onset_ms: int, end_ms: int) -> Fault:
        """Find out what a fault moves, by comparing the shop with it and without."""
        bare = Fault(kind, service, workload(service), (), onset_ms, end_ms)
        calm, ill = self._drivers(()), self._drivers((bare,))
        moved = [
            name
            for name in SERVICES
            if any(
                _moves(with_[name], without[name]) for with_, without in zip(ill, calm, strict=True)
            )
        ]
        nodes = [
            name for name in NODES if _moves(self._node_cpu(name, ill), self._node_cpu(name, calm))
        ]
        affected = (*(workload(name) for name in moved), *(node(name) for name in nodes))
        return Fault(kind, service, workload(service), affected, onset_ms, end_ms)

    def _drivers(self, faults: tuple[Fault, ...]) -> Drivers:
        rate = {name: np.zeros(self._count) for name in SERVICES}
        rate["frontend"] = self._users
        for name, service in SERVICES.items():
            rate[name] = rate[name] * self._factor(faults, name, "rate")
            for callee, calls in service.calls.items():
                rate[callee] = rate[callee] + calls * rate[name]
        errors: dict[str, Floats] = {}
        latency: dict[str, Floats] = {}
        for name, service in reversed(SERVICES.items()):
            own = _BACKGROUND_ERRORS + self._factor(faults, name, "errors") - 1
            served = 1 - own
            slow = service.latency_s * self._factor(faults, name, "latency")
            for callee, calls in service.calls.items():
                served = served * (1 - errors[callee] * min(calls, 1))
                slow = slow + calls * latency[callee]
            errors[name], latency[name] = 1 - served, slow
        cpu = {
            name: rate[name] * service.cpu_s * self._factor(faults, name, "cpu")
            for name, service in SERVICES.items()
        }
        return Drivers(rate, errors, latency, cpu)

    def _factor(self, faults: tuple[Fault, ...], service: str, what: str) -> Floats:
        """Give what faults do to a service over time; errors as 1 + share."""
        factor = np.ones(self._count)
        for fault in faults:
            if fault.service == service:
                effect: Effect = EFFECTS[fault.kind]
                during = (self._times >= fault.onset_ms) & (self._times < fault.end_ms)
                factor[during] = 1 + effect.errors if what == "errors" else getattr(effect, what)
        return factor

    def _node_cpu(self, name: str, drivers: Drivers) -> Floats:
        used = np.full(self._count, 0.15)
        for service, _, where, share in self._pods:
            if where == name:
                used = used + share * drivers.cpu[service]
        return used

    def _expose(self, drivers: Drivers) -> None:
        """Make the series that exporters would show."""
        for service, pod, where, share in self._pods:
            self._expose_pod(service, pod, where, share, drivers)
        for name in NODES:
            self._expose_node(name, self._node_cpu(name, drivers))

    def _expose_pod(
        self, service: str, pod: str, where: str, share: float, drivers: Drivers
    ) -> None:
        seconds = SCRAPE_MS / 1000
        rate = share * drivers.rate[service] * self._noise(0.03)
        served = self._rng.poisson(rate * (1 - drivers.errors[service]) * seconds)
        failed = self._rng.poisson(rate * drivers.errors[service] * seconds)
        latency = drivers.latency[service] * self._noise(0.05)
        cpu = share * drivers.cpu[service] * self._noise(0.04)
        memory = SERVICES[service].memory_bytes * self._noise(0.01)
        http = {"namespace": NAMESPACE, "pod": pod, "service": service, "job": service}
        http["instance"] = f"{pod}:8080"
        kubelet = {"namespace": NAMESPACE, "pod": pod, "container": service, "node": where}
        kubelet |= {"job": "kubelet", "instance": where}
        offset = int(self._rng.integers(SCRAPE_MS))
        counter, gauge = MetricKind.COUNTER, MetricKind.GAUGE
        self._add("up", http, gauge, np.ones(self._count), offset)
        requests = "http_requests_total"
        self._add(requests, http | {"code": "200"}, counter, np.cumsum(served), offset)
        self._add(requests, http | {"code": "500"}, counter, np.cumsum(failed), offset)
        took = "http_request_duration_seconds"
        histogram = MetricKind.HISTOGRAM
        self._add(f"{took}_count", http, histogram, np.cumsum(served + failed), offset)
        self._add(f"{took}_sum", http, histogram, np.cumsum((served + failed) * latency), offset)
        p99 = latency * 3.2 * self._noise(0.05)
        quantile = http | {"quantile": "0.99"}
        self._add("app_request_latency_seconds", quantile, MetricKind.SUMMARY, p99, offset)
        offset = int(self._rng.integers(SCRAPE_MS))
        used = np.cumsum(cpu * seconds)
        self._add("container_cpu_usage_seconds_total", kubelet, counter, used, offset)
        self._add("container_memory_working_set_bytes", kubelet, gauge, memory, offset)

    def _expose_node(self, name: str, cpu: Floats) -> None:
        seconds = SCRAPE_MS / 1000
        labels = {"job": "node-exporter", "instance": f"{name}:9100"}
        offset = int(self._rng.integers(SCRAPE_MS))
        cores = 4.0
        user = cpu * 0.8 * self._noise(0.03)
        system = cpu * 0.2 * self._noise(0.04)
        wait = 0.02 * self._noise(0.2)
        counter, gauge = MetricKind.COUNTER, MetricKind.GAUGE
        modes = {
            "user": user,
            "system": system,
            "iowait": wait,
            "idle": cores - user - system - wait,
        }
        for mode, used in modes.items():
            total = np.cumsum(used * seconds)
            self._add("node_cpu_seconds_total", labels | {"mode": mode}, counter, total, offset)
        self._add("node_memory_MemAvailable_bytes", labels, gauge, 9e9 * self._noise(0.01), offset)
        self._add("up", labels, gauge, np.ones(self._count), offset)

    def _add(
        self, name: str, labels: dict[str, str], kind: MetricKind, value: Floats, offset_ms: int
    ) -> None:
        sent = {"cluster": CLUSTER, "prometheus_replica": "prometheus-0"}
        self.series.append(({"__name__": name} | labels | sent, kind))
        self._values.append(np.asarray(value, np.float64))
        self._offsets.append(offset_ms)

    def batches(self, samples_max: int) -> Iterator[Batch]:
        """Give all samples, scrape after scrape, in batches of whole scrapes."""
        offsets = np.array(self._offsets)
        order = np.argsort(offsets, kind="stable").astype(np.int32)
        values = np.stack(self._values)[order].T
        times = self._times[:, None] + offsets[order]
        scrapes = max(samples_max // len(order), 1)
        for begin in range(0, int(self._count), scrapes):
            part = slice(begin, begin + scrapes)
            count = len(times[part])
            yield Batch(np.tile(order, count), times[part].ravel(), values[part].ravel())


def _moves(with_: Floats, without: Floats) -> bool:
    return bool(np.max(np.abs(with_ - without) / np.maximum(without, 1e-9)) > _MOVED)
