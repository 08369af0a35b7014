"""What services tell of themselves: requests, calls to others, their process, Go's runtime.

The names are those of common instrumentation for HTTP servers and clients, and of Prometheus' Go
client.
"""

from typing import Final

import numpy as np

from watchkeep.schemas.frame import MetricKind
from watchkeep.shop.exposed import Family, Size, by, counter, gauge
from watchkeep.shop.states import CODES, LE, Apps, quantile

_TOOK: Final = "http_request_duration_seconds"
_TOOK_HELP: Final = "How long requests took to serve."
_BOTH: Final = Size.BOTH
_GC: Final = ("0", "0.25", "0.5", "0.75", "1")

REQUESTS: Final[tuple[Family[Apps], ...]] = (
    counter(
        "http_requests_total",
        "Requests served, by method and status code.",
        lambda s: s.codes,
        variants=tuple({"method": method, "code": code} for method, code, _, _ in CODES),
        size=_BOTH,
        appears=True,
    ),
    Family(
        f"{_TOOK}_bucket",
        MetricKind.HISTOGRAM,
        _TOOK_HELP,
        lambda s: s.buckets,
        variants=by("le", *(f"{le:g}" for le in LE), "+Inf"),
    ),
    Family(
        f"{_TOOK}_sum",
        MetricKind.HISTOGRAM,
        _TOOK_HELP,
        lambda s: s.count * s.latency_s,
        spread=0.03,
        size=_BOTH,
    ),
    Family(f"{_TOOK}_count", MetricKind.HISTOGRAM, _TOOK_HELP, lambda s: s.count, size=_BOTH),
    gauge(
        "http_requests_in_flight",
        "Requests that are being served.",
        lambda s: s.rng.poisson(s.flying).astype(np.float64),
    ),
    Family(
        "app_request_latency_seconds",
        MetricKind.SUMMARY,
        "Quantiles of the last minute's request latencies.",
        lambda s: np.stack([quantile(s.latency_s, 0.5), quantile(s.latency_s, 0.9)], axis=2),
        variants=by("quantile", "0.5", "0.9"),
        spread=0.06,
        total=True,
    ),
    Family(
        "app_request_latency_seconds",
        MetricKind.SUMMARY,
        "Quantiles of the last minute's request latencies.",
        lambda s: quantile(s.latency_s, 0.99),
        variants=by("quantile", "0.99"),
        spread=0.08,
        size=_BOTH,
        total=True,
    ),
)

PROCESS: Final[tuple[Family[Apps], ...]] = (
    counter(
        "process_cpu_seconds_total",
        "Total user and system CPU time spent in seconds.",
        lambda s: 0.97 * s.cpu_s,
        spread=0.05,
    ),
    gauge(
        "process_resident_memory_bytes",
        "Resident memory size in bytes.",
        lambda s: 0.93 * s.memory,
        spread=0.004,
        whole=True,
    ),
    gauge(
        "process_virtual_memory_bytes",
        "Virtual memory size in bytes.",
        lambda s: s.each(6 * s.limit_bytes),
    ),
    gauge(
        "process_open_fds",
        "Number of open file descriptors.",
        lambda s: 14 + 0.4 * np.sqrt(s.rate) + s.flying,
        spread=0.05,
        whole=True,
    ),
    gauge("process_max_fds", "Maximum number of open file descriptors.", lambda s: s.const(2**20)),
    gauge(
        "process_start_time_seconds",
        "Start time of the process since unix epoch in seconds.",
        lambda s: s.start_s,
    ),
)

GO: Final[tuple[Family[Apps], ...]] = (
    gauge(
        "go_goroutines",
        "Number of goroutines that currently exist.",
        lambda s: 22 + 3 * s.flying + 0.5 * np.sqrt(s.rate),
        spread=0.05,
        whole=True,
    ),
    gauge(
        "go_threads",
        "Number of OS threads created.",
        lambda s: 8 + 4 * np.sqrt(s.limit_cores) + 0 * s.rate,
        whole=True,
    ),
    gauge("go_info", "Information about the Go environment.", lambda s: s.const(1)),
    Family(
        "go_gc_duration_seconds",
        MetricKind.SUMMARY,
        "A summary of the wall-time pause (stop-the-world) duration in garbage collection cycles.",
        lambda s: s.pause_s[:, :, None] * np.array([0.3, 0.6, 1.0, 1.6, 7.0]),
        variants=by("quantile", *_GC),
        spread=0.2,
        total=True,
    ),
    Family(
        "go_gc_duration_seconds_sum",
        MetricKind.SUMMARY,
        "A summary of the wall-time pause (stop-the-world) duration in garbage collection cycles.",
        lambda s: s.pause_s * s.allocated / np.maximum(s.heap, 1e6),
        spread=0.1,
    ),
    Family(
        "go_gc_duration_seconds_count",
        MetricKind.SUMMARY,
        "A summary of the wall-time pause (stop-the-world) duration in garbage collection cycles.",
        lambda s: np.floor(s.cycles),
        total=True,
    ),
    gauge(
        "go_memstats_heap_alloc_bytes",
        "Number of heap bytes allocated and currently in use.",
        lambda s: s.heap_now,
        spread=0.002,
        whole=True,
    ),
    counter(
        "go_memstats_alloc_bytes_total",
        "Total number of bytes allocated in heap until now, even if released already.",
        lambda s: np.rint(s.allocated),
    ),
    counter(
        "go_memstats_mallocs_total",
        "Total number of heap objects allocated, both live and gc-ed.",
        lambda s: np.rint(s.allocated / 96),
    ),
    gauge(
        "go_memstats_heap_inuse_bytes",
        "Number of heap bytes that are in use.",
        lambda s: 1.08 * s.heap_now,
        spread=0.002,
        whole=True,
    ),
    gauge(
        "go_memstats_heap_objects",
        "Number of currently allocated objects.",
        lambda s: s.heap_now / 96,
        spread=0.01,
        whole=True,
    ),
    gauge(
        "go_memstats_heap_sys_bytes",
        "Number of heap bytes obtained from system.",
        lambda s: s.each(0.7 * s.limit_bytes),
    ),
    gauge(
        "go_memstats_next_gc_bytes",
        "Number of heap bytes when next garbage collection will take place.",
        lambda s: 2 * s.heap,
        spread=0.003,
        whole=True,
    ),
    gauge(
        "go_memstats_stack_inuse_bytes",
        "Number of bytes in use by the stack allocator.",
        lambda s: 6e5 + 8_192 * s.flying,
        spread=0.03,
        whole=True,
    ),
)

APP: Final = REQUESTS + PROCESS + GO
