"""Calls between workloads: an HTTP client's metrics, and those of Istio's proxies."""

from typing import Final

from watchkeep.schemas.frame import MetricKind
from watchkeep.shop.exposed import Family, by, counter
from watchkeep.shop.states_calls import LE_MS, Made, Served

_CLIENT: Final = "http_client_request_duration_seconds"
_CLIENT_HELP: Final = "How long calls to other services took."
_MESH: Final = "istio_request_duration_milliseconds"
_MESH_HELP: Final = "Duration of requests."

CLIENT: Final[tuple[Family[Made], ...]] = (
    counter(
        "http_client_requests_total",
        "Calls to other services, by peer and status code.",
        lambda s: s.counts,
        variants=by("code", "200", "503"),
        appears=True,
    ),
    Family(
        f"{_CLIENT}_sum",
        MetricKind.HISTOGRAM,
        _CLIENT_HELP,
        lambda s: s.count * s.latency_s,
        spread=0.04,
    ),
    Family(f"{_CLIENT}_count", MetricKind.HISTOGRAM, _CLIENT_HELP, lambda s: s.count),
)

MESH: Final[tuple[Family[Served], ...]] = (
    counter(
        "istio_requests_total",
        "Total number of requests.",
        lambda s: s.counts,
        variants=by("response_code", "200", "503"),
        appears=True,
    ),
    Family(
        f"{_MESH}_bucket",
        MetricKind.HISTOGRAM,
        _MESH_HELP,
        lambda s: s.buckets,
        variants=by("le", *map(str, LE_MS), "+Inf"),
    ),
    Family(
        f"{_MESH}_sum",
        MetricKind.HISTOGRAM,
        _MESH_HELP,
        lambda s: 1000 * s.count * s.latency_s,
        spread=0.03,
    ),
    Family(f"{_MESH}_count", MetricKind.HISTOGRAM, _MESH_HELP, lambda s: s.count),
    counter(
        "istio_request_bytes_sum",
        "Size of requests.",
        lambda s: 640 * s.count,
        spread=0.05,
        whole=True,
    ),
    counter(
        "istio_response_bytes_sum",
        "Size of responses.",
        lambda s: 3_100 * s.count,
        spread=0.08,
        whole=True,
    ),
)
