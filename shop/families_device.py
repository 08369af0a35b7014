"""What node-exporter tells of disks and networks, and kube-state-metrics of nodes."""

from typing import Final

import numpy as np

from watchkeep.shop.exposed import Family, by, counter, gauge
from watchkeep.shop.scene import STEP_S
from watchkeep.shop.states_node import CONDITIONS, CORE_COUNT, DISK_BYTES, MEMORY_BYTES, Nodes
from watchkeep.shop.times import Floats

_ETH: Final = by("device", "eth0")
_DISK: Final = by("device", "nvme0n1")
_ROOT: Final = ({"device": "/dev/nvme0n1p1", "fstype": "ext4", "mountpoint": "/"},)
_RESOURCES: Final = (
    {"resource": "cpu", "unit": "core"},
    {"resource": "memory", "unit": "byte"},
    {"resource": "pods", "unit": "integer"},
)


def _poisson(s: Nodes, expected: Floats) -> Floats:
    return s.rng.poisson(expected).astype(np.float64)


DISK: Final[tuple[Family[Nodes], ...]] = (
    counter(
        "node_disk_io_time_seconds_total",
        "Total seconds spent doing I/Os.",
        lambda s: STEP_S * s.io_s,
        variants=_DISK,
        spread=0.1,
    ),
    counter(
        "node_disk_io_time_weighted_seconds_total",
        "The weighted # of seconds spent doing I/Os.",
        lambda s: STEP_S * s.io_s * s.slow,
        variants=_DISK,
        spread=0.15,
    ),
    counter(
        "node_disk_read_bytes_total",
        "The total number of bytes read successfully.",
        lambda s: _poisson(s, 0.2 * s.writes * STEP_S) * 16_384,
        variants=_DISK,
    ),
    counter(
        "node_disk_written_bytes_total",
        "The total number of bytes written successfully.",
        lambda s: _poisson(s, s.writes * STEP_S) * 12_288,
        variants=_DISK,
        spread=0.1,
        whole=True,
    ),
    counter(
        "node_disk_reads_completed_total",
        "The total number of reads completed successfully.",
        lambda s: _poisson(s, 0.2 * s.writes * STEP_S),
        variants=_DISK,
    ),
    counter(
        "node_disk_writes_completed_total",
        "The total number of writes completed successfully.",
        lambda s: _poisson(s, s.writes * STEP_S),
        variants=_DISK,
    ),
    counter(
        "node_disk_read_time_seconds_total",
        "The total number of seconds spent by all reads.",
        lambda s: 0.0004 * s.writes * s.slow * STEP_S,
        variants=_DISK,
        spread=0.2,
    ),
    counter(
        "node_disk_write_time_seconds_total",
        "This is the total number of seconds spent by all writes.",
        lambda s: 0.0009 * s.writes * s.slow * STEP_S,
        variants=_DISK,
        spread=0.2,
    ),
    gauge(
        "node_disk_io_now",
        "The number of I/Os currently in progress.",
        lambda s: _poisson(s, s.io_s * s.slow),
        variants=_DISK,
    ),
    gauge(
        "node_filesystem_size_bytes",
        "Filesystem size in bytes.",
        lambda s: s.const(DISK_BYTES),
        variants=_ROOT,
    ),
    gauge(
        "node_filesystem_avail_bytes",
        "Filesystem space available to non-root users in bytes.",
        lambda s: s.const(0.55 * DISK_BYTES) - 900 * (s.scene.now_ms - s.scene.plan.start_ms) / 1e3,
        variants=_ROOT,
        spread=0.0005,
        whole=True,
    ),
    gauge(
        "node_filesystem_free_bytes",
        "Filesystem free space in bytes.",
        lambda s: s.const(0.6 * DISK_BYTES) - 900 * (s.scene.now_ms - s.scene.plan.start_ms) / 1e3,
        variants=_ROOT,
        spread=0.0005,
        whole=True,
    ),
    gauge(
        "node_filesystem_files",
        "Filesystem total file nodes.",
        lambda s: s.const(6.5e6),
        variants=_ROOT,
    ),
    gauge(
        "node_filesystem_files_free",
        "Filesystem total free file nodes.",
        lambda s: s.const(6.1e6),
        variants=_ROOT,
        spread=0.0002,
        whole=True,
    ),
    gauge(
        "node_filesystem_readonly",
        "Filesystem read-only status.",
        lambda s: s.const(0),
        variants=_ROOT,
    ),
)

NETWORK: Final[tuple[Family[Nodes], ...]] = (
    counter(
        "node_network_receive_bytes_total",
        "Network device statistic receive_bytes.",
        lambda s: np.rint((4e3 + 2_000 * s.requests) * STEP_S),
        variants=_ETH,
        spread=0.08,
        whole=True,
    ),
    counter(
        "node_network_transmit_bytes_total",
        "Network device statistic transmit_bytes.",
        lambda s: np.rint((6e3 + 4_800 * s.requests) * STEP_S),
        variants=_ETH,
        spread=0.08,
        whole=True,
    ),
    counter(
        "node_network_receive_packets_total",
        "Network device statistic receive_packets.",
        lambda s: _poisson(s, (30 + 4.4 * s.requests) * STEP_S),
        variants=_ETH,
    ),
    counter(
        "node_network_transmit_packets_total",
        "Network device statistic transmit_packets.",
        lambda s: _poisson(s, (30 + 5.3 * s.requests) * STEP_S),
        variants=_ETH,
    ),
    counter(
        "node_network_receive_errs_total",
        "Network device statistic receive_errs.",
        lambda s: s.const(0),
        variants=_ETH,
    ),
    counter(
        "node_network_transmit_errs_total",
        "Network device statistic transmit_errs.",
        lambda s: s.const(0),
        variants=_ETH,
    ),
    counter(
        "node_network_receive_drop_total",
        "Network device statistic receive_drop.",
        lambda s: _poisson(s, s.loss * (30 + 4.4 * s.requests) * STEP_S),
        variants=_ETH,
    ),
    counter(
        "node_network_transmit_drop_total",
        "Network device statistic transmit_drop.",
        lambda s: _poisson(s, s.loss * (30 + 5.3 * s.requests) * STEP_S),
        variants=_ETH,
    ),
    gauge(
        "node_network_up",
        "Value is 1 if operstate is 'up', 0 otherwise.",
        lambda s: s.const(1),
        variants=_ETH,
    ),
    gauge(
        "node_network_mtu_bytes",
        "Network device property: mtu_bytes.",
        lambda s: s.const(1_450),
        variants=_ETH,
    ),
    gauge(
        "node_netstat_Tcp_CurrEstab",
        "Statistic TcpCurrEstab.",
        lambda s: 60 + 4 * s.pods + 0.6 * s.requests,
        spread=0.04,
        whole=True,
    ),
    counter(
        "node_netstat_Tcp_ActiveOpens",
        "Statistic TcpActiveOpens.",
        lambda s: _poisson(s, (2 + 0.1 * s.requests) * STEP_S),
    ),
    counter(
        "node_netstat_Tcp_PassiveOpens",
        "Statistic TcpPassiveOpens.",
        lambda s: _poisson(s, (2 + 0.1 * s.requests) * STEP_S),
    ),
    counter(
        "node_netstat_Tcp_InSegs",
        "Statistic TcpInSegs.",
        lambda s: _poisson(s, (40 + 5 * s.requests) * STEP_S),
    ),
    counter(
        "node_netstat_Tcp_OutSegs",
        "Statistic TcpOutSegs.",
        lambda s: _poisson(s, (40 + 6 * s.requests) * STEP_S),
    ),
    counter(
        "node_netstat_Tcp_RetransSegs",
        "Statistic TcpRetransSegs.",
        lambda s: _poisson(s, (0.002 + s.loss) * 5 * s.requests * STEP_S),
    ),
    gauge(
        "node_sockstat_TCP_inuse",
        "Number of TCP sockets in state inuse.",
        lambda s: 70 + 5 * s.pods + 0.6 * s.requests,
        spread=0.04,
        whole=True,
    ),
    gauge(
        "node_sockstat_TCP_tw",
        "Number of TCP sockets in state tw.",
        lambda s: 20 + 0.4 * s.requests,
        spread=0.15,
        whole=True,
    ),
    gauge(
        "node_timex_offset_seconds",
        "Time offset in between local system and reference clock.",
        lambda s: s.const(2e-5),
        spread=0.4,
    ),
    gauge(
        "node_timex_sync_status",
        "Is clock synchronized to a reliable server (1 = yes, 0 = no).",
        lambda s: s.const(1),
    ),
)

OBJECT: Final[tuple[Family[Nodes], ...]] = (
    gauge(
        "kube_node_info",
        "Information about a cluster node.",
        lambda s: s.const(1),
    ),
    gauge(
        "kube_node_created",
        "Unix creation timestamp",
        lambda s: s.created_s,
    ),
    gauge(
        "kube_node_spec_unschedulable",
        "Whether a node can schedule new pods.",
        lambda s: s.drained,
    ),
    gauge(
        "kube_node_status_condition",
        "The condition of a cluster node.",
        lambda s: s.conditions,
        variants=tuple(
            {"condition": c, "status": v} for c in CONDITIONS for v in ("true", "false", "unknown")
        ),
    ),
    gauge(
        "kube_node_status_capacity",
        "The total amount of resources available for a node.",
        lambda s: np.stack([s.const(CORE_COUNT), s.const(MEMORY_BYTES), s.const(110)], axis=2),
        variants=_RESOURCES,
    ),
    gauge(
        "kube_node_status_allocatable",
        "The amount of resources allocatable for pods (after reserving some for system daemons).",
        lambda s: np.stack(
            [s.const(CORE_COUNT - 0.1), s.const(0.93 * MEMORY_BYTES), s.const(110)], axis=2
        ),
        variants=_RESOURCES,
    ),
)

DEVICE: Final = DISK + NETWORK
