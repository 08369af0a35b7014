"""A fleet of services as label sets, for benchmarks that need very many series.

Each service has twelve pods. A pod shows what an ordinary web service and the cluster's exporters
show of it: two in three of its series are buckets of histograms, as of most targets (of an idle
Kubernetes API server's, four in five), and the labels of requests are folded away.
"""

from collections.abc import Iterator, Mapping
from itertools import product
from typing import Final

from watchkeep.schemas.frame import MetricKind

_PODS: Final = 12
_LE: Final = ("0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10", "+Inf")
_ROUTES: Final = ("/", "/cart", "/items", "/items/{id}", "/login", "/orders")
_CODES: Final = ("200", "304", "404", "500")
_PEERS: Final = ("cache", "database", "payments", "search")
_GAUGES: Final = (
    *(f"go_memstats_{what}_bytes" for what in ("alloc", "heap_idle", "heap_inuse", "stack_inuse")),
    *("go_goroutines", "go_threads", "process_open_fds", "process_resident_memory_bytes"),
    *(f"container_memory_{what}" for what in ("working_set_bytes", "rss", "cache", "usage_bytes")),
    *("container_threads", "container_sockets", "container_file_descriptors"),
    *("kube_pod_container_status_ready", "kube_pod_status_ready", "db_pool_connections_in_use"),
)
_COUNTERS: Final = (
    *("process_cpu_seconds_total", "container_cpu_usage_seconds_total"),
    *(f"container_cpu_cfs_{what}periods_total" for what in ("", "throttled_")),
    *(f"container_network_{way}_bytes_total" for way in ("receive", "transmit")),
    *(f"container_fs_{way}_bytes_total" for way in ("reads", "writes")),
    *("go_memstats_frees_total", "go_memstats_mallocs_total", "kube_pod_container_restarts_total"),
)

Labelled = tuple[dict[str, str], MetricKind]


def fleet() -> Iterator[Labelled]:
    """Give the series of one service after the other, without an end."""
    service = 0
    while True:
        for pod in range(_PODS):
            name = f"service-{service}-7d9c5b8f6d-{_suffix(pod)}"
            place = {"namespace": "bench", "pod": name, "container": "server", "job": "pods"}
            for labels, kind in _shown():
                yield labels | place, kind
        service += 1


def _suffix(pod: int) -> str:
    return "".join("bcdfghjklmnpqrst"[pod >> shift & 15] for shift in (12, 8, 4, 0, 0))


def _shown() -> Iterator[Labelled]:
    for route, code in product(_ROUTES, _CODES):
        labels = {"route": route, "code": code, "method": "GET"}
        yield from _histogram("http_server_request_duration_seconds", labels)
        yield {"__name__": "http_server_requests_total", **labels}, MetricKind.COUNTER
    for peer in _PEERS:
        yield from _histogram("rpc_client_duration_seconds", {"peer": peer})
    for name in _GAUGES:
        yield {"__name__": name}, MetricKind.GAUGE
    for name in _COUNTERS:
        yield {"__name__": name}, MetricKind.COUNTER


def _histogram(name: str, labels: Mapping[str, str]) -> Iterator[Labelled]:
    for le in _LE:
        yield {"__name__": f"{name}_bucket", "le": le, **labels}, MetricKind.HISTOGRAM
    for suffix in ("_count", "_sum"):
        yield {"__name__": name + suffix, **labels}, MetricKind.HISTOGRAM
