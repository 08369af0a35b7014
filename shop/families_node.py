"""What node-exporter tells of a node's CPU and memory."""

from typing import Final

import numpy as np

from watchkeep.shop.exposed import Family, Size, by, counter, gauge
from watchkeep.shop.scene import STEP_S
from watchkeep.shop.states_node import CORE_COUNT, MEMORY_BYTES, MODES, Nodes
from watchkeep.shop.times import Floats


def _poisson(s: Nodes, expected: Floats) -> Floats:
    return s.rng.poisson(expected).astype(np.float64)


CPU: Final[tuple[Family[Nodes], ...]] = (
    counter(
        "node_cpu_seconds_total",
        "Seconds the CPUs spent in each mode.",
        lambda s: s.by_core,
        variants=tuple({"cpu": str(n), "mode": mode} for n in range(CORE_COUNT) for mode in MODES),
        spread=0.03,
    ),
    counter(
        "node_cpu_seconds_total",
        "Seconds the CPUs spent in each mode.",
        lambda s: s.modes,
        variants=by("mode", *MODES),
        spread=0.03,
        size=Size.LEAN,
    ),
    gauge(
        "node_load1",
        "1m load average.",
        lambda s: s.load(1),
        spread=0.06,
    ),
    gauge(
        "node_load5",
        "5m load average.",
        lambda s: s.load(5),
        spread=0.03,
    ),
    gauge(
        "node_load15",
        "15m load average.",
        lambda s: s.load(15),
        spread=0.015,
    ),
    counter(
        "node_context_switches_total",
        "Total number of context switches.",
        lambda s: _poisson(s, (4_000 + 9_000 * s.cpu) * STEP_S),
        spread=0.05,
        whole=True,
    ),
    counter(
        "node_intr_total",
        "Total number of interrupts serviced.",
        lambda s: _poisson(s, (2_500 + 4_000 * s.cpu) * STEP_S),
        spread=0.04,
        whole=True,
    ),
    counter(
        "node_forks_total",
        "Total number of forks.",
        lambda s: _poisson(s, (2 + 0.1 * s.pods) * STEP_S),
    ),
    gauge(
        "node_procs_running",
        "Number of processes in runnable state.",
        lambda s: 1 + s.cpu,
        spread=0.25,
        whole=True,
    ),
    gauge(
        "node_procs_blocked",
        "Number of processes blocked waiting for I/O to complete.",
        lambda s: _poisson(s, s.io_s * s.slow),
    ),
    gauge(
        "node_boot_time_seconds",
        "Node boot time, in unixtime.",
        lambda s: s.const(s.scene.plan.start_ms / 1000 - 9 * 86_400),
    ),
    gauge(
        "node_time_seconds",
        "System time in seconds since epoch (1970).",
        lambda s: s.scene.now_ms / 1e3 + s.const(0),
    ),
    gauge(
        "node_entropy_available_bits",
        "Bits of available entropy.",
        lambda s: s.const(256),
    ),
    gauge(
        "node_filefd_allocated",
        "File descriptor statistics: allocated.",
        lambda s: 1_400 + 60 * s.pods + 0.5 * s.requests,
        spread=0.02,
        whole=True,
    ),
    gauge(
        "node_filefd_maximum",
        "File descriptor statistics: maximum.",
        lambda s: s.const(2**20),
    ),
    gauge(
        "node_nf_conntrack_entries",
        "Number of currently allocated flow entries for connection tracking.",
        lambda s: 400 + 30 * s.pods + 2 * s.requests,
        spread=0.05,
        whole=True,
    ),
    gauge(
        "node_nf_conntrack_entries_limit",
        "Maximum size of connection tracking table.",
        lambda s: s.const(262_144),
    ),
    counter(
        "node_pressure_cpu_waiting_seconds_total",
        "Total time in seconds that processes have waited for CPU time",
        lambda s: STEP_S * np.clip(0.004 * s.cpu + (s.cpu / CORE_COUNT - 0.8) * 3, 0.002, 1),
        spread=0.2,
    ),
    counter(
        "node_pressure_io_waiting_seconds_total",
        "Total time in seconds that processes have waited due to IO congestion",
        lambda s: STEP_S * np.clip(0.3 * s.io_s * s.slow, 0, 1),
        spread=0.2,
    ),
    counter(
        "node_pressure_io_stalled_seconds_total",
        "Total time in seconds no process could make progress due to IO congestion",
        lambda s: STEP_S * np.clip(0.2 * s.io_s * s.slow, 0, 1),
        spread=0.2,
    ),
    counter(
        "node_pressure_memory_waiting_seconds_total",
        "Total time in seconds that processes have waited for memory",
        lambda s: STEP_S * np.clip(s.used_bytes / MEMORY_BYTES - 0.9, 0, 1),
    ),
)

MEMORY: Final[tuple[Family[Nodes], ...]] = (
    gauge(
        "node_memory_MemTotal_bytes",
        "Memory information field MemTotal_bytes.",
        lambda s: s.const(MEMORY_BYTES),
    ),
    gauge(
        "node_memory_MemAvailable_bytes",
        "Memory information field MemAvailable_bytes.",
        lambda s: MEMORY_BYTES - s.used_bytes,
        spread=0.008,
        whole=True,
        size=Size.BOTH,
    ),
    gauge(
        "node_memory_MemFree_bytes",
        "Memory information field MemFree_bytes.",
        lambda s: 0.35 * (MEMORY_BYTES - s.used_bytes),
        spread=0.03,
        whole=True,
    ),
    gauge(
        "node_memory_Cached_bytes",
        "Memory information field Cached_bytes.",
        lambda s: 0.55 * (MEMORY_BYTES - s.used_bytes),
        spread=0.015,
        whole=True,
    ),
    gauge(
        "node_memory_Buffers_bytes",
        "Memory information field Buffers_bytes.",
        lambda s: s.const(2.1e8),
        spread=0.01,
        whole=True,
    ),
    gauge(
        "node_memory_Active_bytes",
        "Memory information field Active_bytes.",
        lambda s: 0.8 * s.used_bytes,
        spread=0.01,
        whole=True,
    ),
    gauge(
        "node_memory_Inactive_bytes",
        "Memory information field Inactive_bytes.",
        lambda s: 0.4 * s.used_bytes,
        spread=0.01,
        whole=True,
    ),
    gauge(
        "node_memory_AnonPages_bytes",
        "Memory information field AnonPages_bytes.",
        lambda s: 0.75 * s.used_bytes,
        spread=0.006,
        whole=True,
    ),
    gauge(
        "node_memory_Slab_bytes",
        "Memory information field Slab_bytes.",
        lambda s: s.const(4.6e8),
        spread=0.008,
        whole=True,
    ),
    gauge(
        "node_memory_Dirty_bytes",
        "Memory information field Dirty_bytes.",
        lambda s: 4e5 + 6e4 * s.writes * s.slow,
        spread=0.4,
        whole=True,
    ),
    gauge(
        "node_memory_Writeback_bytes",
        "Memory information field Writeback_bytes.",
        lambda s: 2e4 * np.maximum(s.slow - 1, 0) * s.writes,
        spread=0.5,
        whole=True,
    ),
    gauge(
        "node_memory_SwapTotal_bytes",
        "Memory information field SwapTotal_bytes.",
        lambda s: s.const(0),
    ),
    gauge(
        "node_memory_SwapFree_bytes",
        "Memory information field SwapFree_bytes.",
        lambda s: s.const(0),
    ),
    gauge(
        "node_memory_Committed_AS_bytes",
        "Memory information field Committed_AS_bytes.",
        lambda s: 1.6 * s.used_bytes,
        spread=0.004,
        whole=True,
    ),
    counter(
        "node_vmstat_pgfault",
        "/proc/vmstat information field pgfault.",
        lambda s: _poisson(s, (900 + 7_000 * s.cpu) * STEP_S),
        spread=0.06,
        whole=True,
    ),
    counter(
        "node_vmstat_pgmajfault",
        "/proc/vmstat information field pgmajfault.",
        lambda s: _poisson(s, 0.02 * STEP_S + 0 * s.cpu),
    ),
    counter(
        "node_vmstat_oom_kill",
        "/proc/vmstat information field oom_kill.",
        lambda s: s.const(0),
    ),
)

NODE: Final = CPU + MEMORY
