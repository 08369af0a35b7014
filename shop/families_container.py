"""What the kubelet's cAdvisor tells of containers and of pods' networks."""

from functools import cached_property
from typing import Final

import numpy as np

from watchkeep.shop.blocks import Bools
from watchkeep.shop.exposed import Family, Size, by, counter, gauge
from watchkeep.shop.scene import STEP_S
from watchkeep.shop.states import Pods
from watchkeep.shop.times import Floats

_DEVICE: Final = by("device", "/dev/nvme0n1")


class Containers(Pods):
    """Containers, with what follows from their load."""

    @cached_property
    def disk_bytes(self) -> Floats:
        """What a container writes to its node's disk in a step."""
        own = np.array([service.disk for service in self.services])
        return (1_200 + 24_000 * own * self.rate) * STEP_S

    @cached_property
    def swept(self) -> Floats:
        """The file cache: what a store reads stays there for a while."""
        own = np.array([service.disk for service in self.services])
        return np.asarray(self.memory * (0.04 + 0.3 * own))

    @cached_property
    def sockets(self) -> Floats:
        """Open connections."""
        return 6 + 2 * self.rate * self.latency_s + 0.3 * np.sqrt(self.rate)


class Sandboxes(Containers):
    """Pods' networks: they stay when the container starts again."""

    @property
    def present(self) -> Bools:
        """Tell when pods are there."""
        return np.asarray(self.scene.exists[:, self.at])

    @cached_property
    def resets(self) -> list[tuple[int, int]]:
        """Nothing begins anew."""
        return []


def _throttled(s: Containers) -> Floats:
    return np.clip(s.of(s.scene.throttled) * 1.5, 0, 1)


CONTAINER: Final[tuple[Family[Containers], ...]] = (
    counter(
        "container_cpu_usage_seconds_total",
        "Cumulative cpu time consumed in seconds.",
        lambda s: s.cpu_s,
        variants=by("cpu", "total"),
        spread=0.06,
        size=Size.BOTH,
    ),
    counter(
        "container_cpu_user_seconds_total",
        "Cumulative user cpu time consumed in seconds.",
        lambda s: 0.8 * s.cpu_s,
        spread=0.07,
    ),
    counter(
        "container_cpu_system_seconds_total",
        "Cumulative system cpu time consumed in seconds.",
        lambda s: 0.2 * s.cpu_s,
        spread=0.1,
    ),
    counter(
        "container_cpu_cfs_periods_total",
        "Number of elapsed enforcement period intervals.",
        lambda s: np.rint(10 * STEP_S * np.clip(0.2 + 2 * s.cpu / s.limit_cores, 0, 1)),
    ),
    counter(
        "container_cpu_cfs_throttled_periods_total",
        "Number of throttled period intervals.",
        lambda s: s.rng.poisson(10 * STEP_S * _throttled(s) + 0.02).astype(float),
    ),
    counter(
        "container_cpu_cfs_throttled_seconds_total",
        "Total time duration the container has been throttled.",
        lambda s: STEP_S * 0.6 * _throttled(s) + 1e-4,
        spread=0.3,
    ),
    gauge(
        "container_memory_working_set_bytes",
        "Current working set in bytes.",
        lambda s: s.memory,
        spread=0.008,
        whole=True,
        size=Size.BOTH,
    ),
    gauge(
        "container_memory_rss",
        "Size of RSS in bytes.",
        lambda s: 0.9 * s.memory,
        spread=0.005,
        whole=True,
    ),
    gauge(
        "container_memory_cache",
        "Number of bytes of page cache memory.",
        lambda s: s.swept,
        spread=0.02,
        whole=True,
    ),
    gauge(
        "container_memory_usage_bytes",
        "Current memory usage in bytes, including all memory regardless of when it was accessed",
        lambda s: s.memory + s.swept,
        spread=0.01,
        whole=True,
    ),
    gauge(
        "container_memory_mapped_file",
        "Size of memory mapped files in bytes.",
        lambda s: 0.02 * s.each(s.limit_bytes),
        spread=0.001,
        whole=True,
    ),
    gauge("container_memory_swap", "Container swap usage in bytes.", lambda s: s.const(0)),
    counter(
        "container_memory_failcnt",
        "Number of memory usage hits limits",
        lambda s: s.rng.poisson(40 * (s.memory > 0.95 * s.limit_bytes)).astype(float),
    ),
    counter(
        "container_memory_failures_total",
        "Cumulative count of memory allocation failures.",
        lambda s: np.stack(
            [s.rng.poisson(40 + 9_000 * s.cpu), s.rng.poisson(0.01 + 0 * s.cpu)], axis=2
        ).astype(float),
        variants=(
            {"failure_type": "pgfault", "scope": "container"},
            {"failure_type": "pgmajfault", "scope": "container"},
        ),
    ),
    counter(
        "container_oom_events_total",
        "Count of out of memory events observed for the container",
        lambda s: s.of(s.scene.kills),
        total=True,
    ),
    counter(
        "container_fs_reads_bytes_total",
        "Cumulative count of bytes read",
        lambda s: np.rint(0.05 * s.disk_bytes),
        variants=_DEVICE,
        spread=0.3,
        whole=True,
    ),
    counter(
        "container_fs_writes_bytes_total",
        "Cumulative count of bytes written",
        lambda s: np.rint(s.disk_bytes),
        variants=_DEVICE,
        spread=0.15,
        whole=True,
    ),
    counter(
        "container_fs_reads_total",
        "Cumulative count of reads completed",
        lambda s: s.rng.poisson(s.disk_bytes / 3e5).astype(float),
        variants=_DEVICE,
    ),
    counter(
        "container_fs_writes_total",
        "Cumulative count of writes completed",
        lambda s: s.rng.poisson(s.disk_bytes / 1.5e4).astype(float),
        variants=_DEVICE,
    ),
    gauge(
        "container_fs_usage_bytes",
        "Number of bytes that are consumed by the container on this filesystem.",
        lambda s: 0.1 * s.each(s.limit_bytes) + 400 * (s.scene.now_ms / 1e3 - s.start_s),
        variants=_DEVICE,
        whole=True,
    ),
    gauge(
        "container_fs_limit_bytes",
        "Number of bytes that can be consumed by the container on this filesystem.",
        lambda s: s.const(1.0e11),
        variants=_DEVICE,
    ),
    gauge(
        "container_threads",
        "Number of threads running inside the container",
        lambda s: 9 + 4 * np.sqrt(s.limit_cores) + 0.2 * s.sockets,
        spread=0.02,
        whole=True,
    ),
    gauge(
        "container_threads_max",
        "Maximum number of threads allowed inside the container, infinity if value is zero",
        lambda s: s.const(0),
    ),
    gauge(
        "container_sockets",
        "Number of open sockets for the container.",
        lambda s: s.sockets,
        spread=0.06,
        whole=True,
    ),
    gauge(
        "container_file_descriptors",
        "Number of open file descriptors for the container.",
        lambda s: 14 + 1.2 * s.sockets,
        spread=0.05,
        whole=True,
    ),
    gauge(
        "container_processes",
        "Number of processes running inside the container.",
        lambda s: s.const(1),
    ),
    gauge(
        "container_start_time_seconds",
        "Start time of the container since unix epoch in seconds.",
        lambda s: s.start_s,
    ),
    gauge(
        "container_last_seen",
        "Last time a container was seen by the exporter",
        lambda s: np.rint(s.scene.now_ms / 1e3) + s.const(0),
    ),
    gauge(
        "container_spec_cpu_quota",
        "CPU quota of the container.",
        lambda s: s.each(1e5 * s.limit_cores),
    ),
    gauge("container_spec_cpu_period", "CPU period of the container.", lambda s: s.const(100_000)),
    gauge(
        "container_spec_cpu_shares",
        "CPU share of the container.",
        lambda s: s.each(np.rint(512 * s.limit_cores)),
    ),
    gauge(
        "container_spec_memory_limit_bytes",
        "Memory limit for the container.",
        lambda s: s.each(s.limit_bytes),
    ),
    counter(
        "container_pressure_cpu_waiting_seconds_total",
        "Total time duration tasks in the container have waited due to CPU congestion.",
        lambda s: STEP_S * np.clip(0.02 * s.cpu + _throttled(s), 0, 1),
        spread=0.25,
    ),
)


def _packets(s: Sandboxes, share: float) -> Floats:
    return s.rng.poisson((0.5 + s.rate * share) * STEP_S).astype(np.float64)


_ETH: Final = by("interface", "eth0")

NETWORK: Final[tuple[Family[Sandboxes], ...]] = (
    counter(
        "container_network_receive_bytes_total",
        "Cumulative count of bytes received",
        lambda s: np.rint((120 + 1_900 * s.rate) * STEP_S),
        variants=_ETH,
        spread=0.08,
        whole=True,
    ),
    counter(
        "container_network_transmit_bytes_total",
        "Cumulative count of bytes transmitted",
        lambda s: np.rint((90 + 4_600 * s.rate) * STEP_S),
        variants=_ETH,
        spread=0.08,
        whole=True,
    ),
    counter(
        "container_network_receive_packets_total",
        "Cumulative count of packets received",
        lambda s: _packets(s, 4.2),
        variants=_ETH,
    ),
    counter(
        "container_network_transmit_packets_total",
        "Cumulative count of packets transmitted",
        lambda s: _packets(s, 5.1),
        variants=_ETH,
    ),
    counter(
        "container_network_receive_errors_total",
        "Cumulative count of errors encountered while receiving",
        lambda s: s.const(0),
        variants=_ETH,
    ),
    counter(
        "container_network_transmit_errors_total",
        "Cumulative count of errors encountered while transmitting",
        lambda s: s.const(0),
        variants=_ETH,
    ),
    counter(
        "container_network_receive_packets_dropped_total",
        "Cumulative count of packets dropped while receiving",
        lambda s: s.rng.poisson(s.of(s.scene.loss) * s.rate * 4.2 * STEP_S).astype(float),
        variants=_ETH,
    ),
    counter(
        "container_network_transmit_packets_dropped_total",
        "Cumulative count of packets dropped while transmitting",
        lambda s: s.rng.poisson(s.of(s.scene.loss) * s.rate * 5.1 * STEP_S).astype(float),
        variants=_ETH,
    ),
)
