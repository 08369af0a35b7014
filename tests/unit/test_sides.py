"""Which way the usual exporters' signals must go to page."""

import pytest

from watchkeep.schemas.entity import EntityKind
from watchkeep.schemas.signal import Folding, Side
from watchkeep.schemas.signal_rules import SignalRules

RULES = SignalRules()
WORKLOAD, NODE = EntityKind.WORKLOAD, EntityKind.NODE
RATE, MEAN, P50, P99, AVERAGE = Folding
ABOVE, BELOW, BOTH = Side

SIDES = [
    ("http_requests_total", {}, RATE, WORKLOAD, BELOW),
    ("http_requests_total", {"code": "2xx"}, RATE, WORKLOAD, BELOW),
    ("http_requests_total", {"code": "5xx"}, RATE, WORKLOAD, ABOVE),
    ("http_requests_total", {"status": "4xx"}, RATE, WORKLOAD, ABOVE),
    ("istio_requests_total", {"response_code": "5xx"}, RATE, WORKLOAD, ABOVE),
    ("grpc_server_handled_total", {"grpc_code": "OK"}, RATE, WORKLOAD, BELOW),
    ("grpc_server_handled_total", {"grpc_code": "Unavailable"}, RATE, WORKLOAD, ABOVE),
    ("http_request_duration_seconds", {}, RATE, WORKLOAD, BELOW),
    ("http_request_duration_seconds", {"code": "5xx"}, RATE, WORKLOAD, ABOVE),
    ("http_request_duration_seconds", {}, P99, WORKLOAD, ABOVE),
    ("apiserver_request_total", {"code": "2xx"}, RATE, WORKLOAD, BELOW),
    ("apiserver_current_inflight_requests", {}, MEAN, WORKLOAD, ABOVE),
    ("requests_failed_total", {}, RATE, WORKLOAD, ABOVE),
    ("container_network_receive_bytes_total", {}, RATE, WORKLOAD, BELOW),
    ("container_cpu_usage_seconds_total", {}, RATE, WORKLOAD, ABOVE),
    ("kube_pod_status_ready", {"condition": "true"}, MEAN, WORKLOAD, BELOW),
    ("kube_pod_container_status_restarts_total", {}, RATE, WORKLOAD, ABOVE),
    ("kubelet_volume_stats_available_bytes", {}, MEAN, WORKLOAD, BELOW),
    ("node_cpu_seconds_total", {"mode": "idle"}, RATE, NODE, BELOW),
    ("node_cpu_seconds_total", {"mode": "iowait"}, RATE, NODE, ABOVE),
    ("node_memory_MemAvailable_bytes", {}, MEAN, NODE, BELOW),
    ("node_filesystem_avail_bytes", {"mountpoint": "/"}, MEAN, NODE, BELOW),
    ("node_network_receive_errs_total", {}, RATE, NODE, ABOVE),
    ("redis_commands_processed_total", {}, RATE, WORKLOAD, BELOW),
    ("redis_memory_used_bytes", {}, MEAN, WORKLOAD, ABOVE),
    ("redis_connected_clients", {}, MEAN, WORKLOAD, BOTH),
    ("rabbitmq_queue_messages_ready", {}, MEAN, WORKLOAD, ABOVE),
    ("rabbitmq_queue_consumers", {}, MEAN, WORKLOAD, BELOW),
    ("prometheus_tsdb_head_series", {}, MEAN, WORKLOAD, BOTH),
]  # fmt: skip


@pytest.mark.parametrize(("metric", "labels", "folding", "entity", "side"), SIDES)
def test_a_signal_pages_on_the_side_that_is_worse(
    metric: str, labels: dict[str, str], folding: Folding, entity: EntityKind, side: Side
) -> None:
    kept = tuple(labels.items())
    assert RULES.side(metric, kept, folding, entity) is side
