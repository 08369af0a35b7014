"""Series of real exporters feed the signals that people need, and no more."""

import math
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from watchkeep.schemas.entity import EntityKind
from watchkeep.schemas.frame import MetricKind
from watchkeep.schemas.labels import METRIC_NAME
from watchkeep.schemas.signal import Dropped, Feed, Folding, Part, Role
from watchkeep.schemas.signal_rules import SignalRule, SignalRules, shipped_rules

RULES = SignalRules()
WORKLOAD, NODE = EntityKind.WORKLOAD, EntityKind.NODE
UNKNOWN, COUNTER, GAUGE = MetricKind.UNKNOWN, MetricKind.COUNTER, MetricKind.GAUGE
HISTOGRAM, SUMMARY = MetricKind.HISTOGRAM, MetricKind.SUMMARY
RATE, MEAN, P50, P99, AVERAGE = Folding
PAGE, EVIDENCE = Role

# A pod's own labels, as a scrape adds them; none of them may tell signals apart.
TARGET = {"namespace": "shop", "pod": "cart-7d9c5b8f6d-x2x4z", "instance": "10.0.1.2:8080"}


def feed(text: str, kind: MetricKind = UNKNOWN, entity: EntityKind = WORKLOAD) -> Feed | Dropped:
    """Ask for a series as people write it: ``up{job="x"}``."""
    name, _, rest = text.partition("{")
    pairs = [pair.split("=", 1) for pair in rest.removesuffix("}").split(",") if pair]
    labels = {label: value.strip('"') for label, value in pairs}
    return RULES.feed({METRIC_NAME: name} | TARGET | labels, kind, entity)


# The series, its kind as the sender tells it, what it is, and the signal it feeds.
FEEDS = [
    ('http_request_duration_seconds_bucket{le="0.1",code="200"}', HISTOGRAM, Part.BUCKET,
     ("http_request_duration_seconds", {"code": "2xx"})),
    ('http_request_duration_seconds_bucket{le="+Inf"}', UNKNOWN, Part.BUCKET,
     ("http_request_duration_seconds", {})),
    ("http_request_duration_seconds_count", HISTOGRAM, Part.COUNT,
     ("http_request_duration_seconds", {})),
    ("http_request_duration_seconds_sum", UNKNOWN, Part.SUM,
     ("http_request_duration_seconds", {})),
    ("http_request_duration_seconds", HISTOGRAM, Part.NATIVE,
     ("http_request_duration_seconds", {})),
    ('s3_objects_bucket{bucket="a"}', GAUGE, Part.GAUGE, ("s3_objects_bucket", {})),
    ('go_gc_duration_seconds{quantile="0.5"}', SUMMARY, Part.GAUGE,
     ("go_gc_duration_seconds", {"quantile": "0.5"})),
    ('rpc_durations_seconds{quantile="0.990"}', UNKNOWN, Part.GAUGE,
     ("rpc_durations_seconds", {"quantile": "0.99"})),
    ("go_gc_duration_seconds_count", SUMMARY, Part.COUNT, ("go_gc_duration_seconds", {})),
    # A gauge's name may end like that of a histogram's part; then only its kind tells.
    ("pg_stat_activity_count", GAUGE, Part.GAUGE, ("pg_stat_activity_count", {})),
    ("kube_node_status_capacity_pods_count", UNKNOWN, Part.UNKNOWN,
     ("kube_node_status_capacity_pods_count", {})),
    ("istio_request_bytes_sum", COUNTER, Part.COUNTER, ("istio_request_bytes_sum", {})),
    ("machine_cpu_cores", GAUGE, None, "rule"),
    ("etcd_mvcc_keys_total", GAUGE, Part.GAUGE, ("etcd_mvcc_keys_total", {})),
    ("orders_created_total", UNKNOWN, Part.COUNTER, ("orders_created_total", {})),
    ("orders_created", COUNTER, Part.COUNTER, ("orders_created", {})),
    ("http_requests_created", GAUGE, None, "created"),
    ("jobs_waiting", UNKNOWN, Part.UNKNOWN, ("jobs_waiting", {})),
    ("requests_sizes", MetricKind.GAUGE_HISTOGRAM, None, "gauge_histogram"),
    ("target_info", UNKNOWN, None, "info"),
    ("kube_pod_info", GAUGE, None, "info"),
    ("feature", MetricKind.STATE_SET, None, "info"),
    ("process_start_time_seconds", GAUGE, None, "timestamp"),
    ("kube_cronjob_status_last_schedule_time", GAUGE, None, "timestamp"),
    ('container_last_seen{container="server"}', GAUGE, None, "timestamp"),
    ("certmanager_certificate_expiration_timestamp_seconds", GAUGE, None, "timestamp"),
    ("push_time_seconds", UNKNOWN, None, "timestamp"),
    ("redis_uptime_in_seconds", GAUGE, None, "rule"),
    ('go_gc_duration_seconds{quantile="0.75"}', SUMMARY, None, "quantile"),
    ('go_gc_duration_seconds{quantile="x"}', SUMMARY, None, "quantile"),
    ('http_request_duration_seconds_bucket{le="x"}', HISTOGRAM, None, "bucket"),
    ('http_request_duration_seconds_bucket{le="NaN"}', HISTOGRAM, None, "bucket"),
    ('ALERTS{alertname="x",alertstate="firing"}', GAUGE, None, "rule"),
    ("namespace:container_cpu:rate5m", UNKNOWN, None, "rule"),
    # What the usual exporters tell apart.
    ('http_requests_total{method="GET",code="503"}', COUNTER, Part.COUNTER,
     ("http_requests_total", {"code": "5xx"})),
    ('http_requests_total{status="user 4711 is unknown"}', COUNTER, Part.COUNTER,
     ("http_requests_total", {"status": "other"})),
    ('grpc_server_handled_total{grpc_code="Unavailable",grpc_method="Get"}', COUNTER, Part.COUNTER,
     ("grpc_server_handled_total", {"grpc_code": "Unavailable"})),
    ('apiserver_request_total{verb="LIST",resource="pods",code="409"}', COUNTER, Part.COUNTER,
     ("apiserver_request_total", {"code": "4xx"})),
    ('apiserver_request_duration_seconds_bucket{le="1",verb="LIST",resource="pods"}', HISTOGRAM,
     Part.BUCKET, ("apiserver_request_duration_seconds", {})),
    ('apiserver_request_duration_seconds_bucket{le="1",verb="WATCH"}', HISTOGRAM, None, "rule"),
    ('istio_requests_total{reporter="source",response_code="200",source_workload="a"}', COUNTER,
     Part.COUNTER, ("istio_requests_total", {"reporter": "source", "response_code": "2xx"})),
    ('kube_node_status_condition{condition="Ready",status="true"}', GAUGE, Part.GAUGE,
     ("kube_node_status_condition", {"condition": "Ready", "status": "true"})),
    ('kube_node_status_condition{condition="Ready",status="false"}', GAUGE, None, "rule"),
    ('kube_pod_status_phase{phase="Pending",uid="1"}', GAUGE, Part.GAUGE,
     ("kube_pod_status_phase", {"phase": "Pending"})),
    ('kube_pod_container_resource_limits{resource="cpu",container="a"}', GAUGE, Part.GAUGE,
     ("kube_pod_container_resource_limits", {"resource": "cpu"})),
    ('kube_pod_container_status_waiting_reason{reason="CrashLoopBackOff"}', GAUGE, Part.GAUGE,
     ("kube_pod_container_status_waiting_reason", {"reason": "CrashLoopBackOff"})),
    ('container_cpu_usage_seconds_total{container="server",id="/x"}', COUNTER, Part.COUNTER,
     ("container_cpu_usage_seconds_total", {})),
    ('container_cpu_usage_seconds_total{container="POD"}', COUNTER, None, "rule"),
    ("container_memory_working_set_bytes", GAUGE, None, "rule"),
    ('container_network_receive_bytes_total{interface="eth0"}', COUNTER, Part.COUNTER,
     ("container_network_receive_bytes_total", {})),
    ('kubelet_volume_stats_available_bytes{persistentvolumeclaim="data-db-0"}', GAUGE, Part.GAUGE,
     ("kubelet_volume_stats_available_bytes", {"persistentvolumeclaim": "data-db-0"})),
    ('node_cpu_seconds_total{cpu="7",mode="iowait"}', COUNTER, Part.COUNTER,
     ("node_cpu_seconds_total", {"mode": "iowait"})),
    ('node_filesystem_avail_bytes{mountpoint="/",device="/dev/sda1",fstype="ext4"}', GAUGE,
     Part.GAUGE, ("node_filesystem_avail_bytes", {"mountpoint": "/"})),
    ('node_filesystem_avail_bytes{mountpoint="/run",fstype="tmpfs"}', GAUGE, None, "rule"),
    ('node_network_receive_bytes_total{device="eth0"}', COUNTER, Part.COUNTER,
     ("node_network_receive_bytes_total", {})),
    ('node_network_receive_bytes_total{device="veth12ab"}', COUNTER, None, "rule"),
    ('node_disk_io_time_seconds_total{device="dm-0"}', COUNTER, None, "rule"),
    ("node_netstat_Tcp_RetransSegs", UNKNOWN, Part.COUNTER, ("node_netstat_Tcp_RetransSegs", {})),
    ("node_netstat_Tcp_CurrEstab", UNKNOWN, Part.UNKNOWN, ("node_netstat_Tcp_CurrEstab", {})),
    ('pg_stat_activity_count{datname="a",state="active"}', GAUGE, Part.GAUGE,
     ("pg_stat_activity_count", {"state": "active"})),
    ('pg_stat_database_xact_commit{datname="a"}', UNKNOWN, Part.COUNTER,
     ("pg_stat_database_xact_commit", {})),
    ('rabbitmq_queue_messages_ready{queue="orders",vhost="/"}', GAUGE, Part.GAUGE,
     ("rabbitmq_queue_messages_ready", {})),
    ('coredns_dns_responses_total{rcode="NXDOMAIN",zone="."}', COUNTER, Part.COUNTER,
     ("coredns_dns_responses_total", {"rcode": "NXDOMAIN"})),
    ('up{job="cart"}', GAUGE, Part.GAUGE, ("up", {})),
]  # fmt: skip


@pytest.mark.parametrize(("series", "kind", "part", "told"), FEEDS)
def test_a_series_feeds_its_signal(
    series: str, kind: MetricKind, part: Part | None, told: object
) -> None:
    found = feed(series, kind)
    if part is None:
        assert isinstance(found, Dropped)
        assert found.reason == told
        assert found.why.endswith(".")
    else:
        assert isinstance(found, Feed)
        assert (found.part, (found.metric, dict(found.labels))) == (part, told)
        assert math.isnan(found.le) == (part is not Part.BUCKET)
        assert found.step_s == 60


@pytest.mark.parametrize(("le", "bound"), [("0.25", 0.25), ("+Inf", math.inf), ("1e3", 1000.0)])
def test_a_bucket_has_its_upper_bound(le: str, bound: float) -> None:
    found = feed(f'x_seconds_bucket{{le="{le}"}}', HISTOGRAM)
    assert isinstance(found, Feed)
    assert found.le == bound


# A signal, as metric, kept labels and folding, and whether it may page.
ROLES = [
    ("http_requests_total", {"code": "5xx"}, RATE, WORKLOAD, PAGE),
    ("http_request_duration_seconds", {}, P99, WORKLOAD, PAGE),
    ("http_request_duration_seconds", {}, P50, WORKLOAD, EVIDENCE),
    ("http_request_duration_seconds", {}, AVERAGE, WORKLOAD, PAGE),
    ("http_server_request_duration_seconds", {}, P99, WORKLOAD, PAGE),
    ("http.server.request.duration", {}, P99, WORKLOAD, PAGE),
    ("http_server_requests_seconds", {}, RATE, WORKLOAD, PAGE),
    ("app_request_latency_seconds", {"quantile": "0.99"}, MEAN, WORKLOAD, PAGE),
    ("app_request_latency_seconds", {"quantile": "0.5"}, MEAN, WORKLOAD, EVIDENCE),
    ("http_client_request_duration_seconds", {}, P99, WORKLOAD, EVIDENCE),
    ("http.client.request.duration", {}, P99, WORKLOAD, EVIDENCE),
    ("rest_client_requests_total", {"code": "5xx"}, RATE, WORKLOAD, EVIDENCE),
    ("grpc_server_handled_total", {"grpc_code": "Internal"}, RATE, WORKLOAD, PAGE),
    ("grpc_server_handling_seconds", {}, P99, WORKLOAD, PAGE),
    ("istio_requests_total", {"reporter": "destination"}, RATE, WORKLOAD, PAGE),
    ("istio_request_duration_milliseconds", {"reporter": "destination"}, P50, WORKLOAD, EVIDENCE),
    ("apiserver_request_total", {"code": "5xx"}, RATE, WORKLOAD, PAGE),
    ("apiserver_request_duration_seconds", {}, P99, WORKLOAD, PAGE),
    ("apiserver_request_filter_duration_seconds", {}, P99, WORKLOAD, EVIDENCE),
    ("workqueue_depth", {}, MEAN, WORKLOAD, PAGE),
    ("etcd_server_has_leader", {}, MEAN, WORKLOAD, PAGE),
    ("etcd_disk_wal_fsync_duration_seconds", {}, P99, WORKLOAD, PAGE),
    ("coredns_dns_request_duration_seconds", {}, P99, WORKLOAD, PAGE),
    ("nginx_ingress_controller_requests", {"status": "5xx"}, RATE, WORKLOAD, PAGE),
    ("nginx_ingress_controller_request_duration_seconds", {}, P99, WORKLOAD, PAGE),
    ("nginx_ingress_controller_request_duration_seconds", {}, P50, WORKLOAD, EVIDENCE),
    ("nginx_http_requests_total", {}, RATE, WORKLOAD, PAGE),
    ("traefik_service_requests_total", {"code": "5xx"}, RATE, WORKLOAD, PAGE),
    ("kube_pod_status_phase", {"phase": "Pending"}, MEAN, WORKLOAD, PAGE),
    ("kube_pod_status_phase", {"phase": "Running"}, MEAN, WORKLOAD, EVIDENCE),
    ("kube_deployment_status_replicas_unavailable", {}, MEAN, WORKLOAD, EVIDENCE),
    ("kube_pod_status_ready", {"condition": "true"}, MEAN, WORKLOAD, PAGE),
    ("kube_node_status_condition", {"condition": "Ready", "status": "true"}, MEAN, NODE, PAGE),
    ("container_memory_working_set_bytes", {}, MEAN, WORKLOAD, PAGE),
    ("container_threads", {}, MEAN, WORKLOAD, EVIDENCE),
    ("kubelet_volume_stats_available_bytes", {}, MEAN, WORKLOAD, PAGE),
    ("node_cpu_seconds_total", {"mode": "idle"}, RATE, NODE, PAGE),
    ("node_cpu_seconds_total", {"mode": "nice"}, RATE, NODE, EVIDENCE),
    ("node_memory_Slab_bytes", {}, MEAN, NODE, EVIDENCE),
    ("pg_stat_database_numbackends", {}, MEAN, WORKLOAD, PAGE),
    ("redis_evicted_keys_total", {}, RATE, WORKLOAD, PAGE),
    ("rabbitmq_queue_messages_ready", {}, MEAN, WORKLOAD, PAGE),
    ("certmanager_certificate_ready_status", {"condition": "True"}, MEAN, WORKLOAD, PAGE),
    ("go_goroutines", {}, MEAN, WORKLOAD, EVIDENCE),
    ("go_gc_duration_seconds", {"quantile": "0.99"}, MEAN, WORKLOAD, EVIDENCE),
    ("jvm_gc_pause_seconds", {}, AVERAGE, WORKLOAD, EVIDENCE),
    ("up", {}, MEAN, EntityKind.JOB, EVIDENCE),
    ("probe_success", {}, MEAN, EntityKind.JOB, PAGE),
    ("jobs_waiting", {}, MEAN, WORKLOAD, EVIDENCE),
]


@pytest.mark.parametrize(("metric", "labels", "folding", "entity", "role"), ROLES)
def test_a_signal_has_its_role(
    metric: str, labels: dict[str, str], folding: Folding, entity: EntityKind, role: Role
) -> None:
    found, why = RULES.role(metric, tuple(sorted(labels.items())), folding, entity)
    assert found is role
    assert why.endswith(".")


def test_a_rule_of_the_user_comes_before_the_shipped_ones() -> None:
    rule = SignalRule(
        why="The orders' queue may page.",
        when={METRIC_NAME: "rabbitmq_queue_messages", "queue": "orders"},
        keep=("queue",),
        role=Role.PAGE,
        step_s=10,
    )
    rules = SignalRules((rule,))
    labels = {METRIC_NAME: "rabbitmq_queue_messages", "queue": "orders", "vhost": "/"}
    found = rules.feed(labels, GAUGE, WORKLOAD)
    assert found == Feed(Part.GAUGE, labels[METRIC_NAME], (("queue", "orders"),), math.nan, 10)
    assert rules.role(labels[METRIC_NAME], (("queue", "orders"),), MEAN, WORKLOAD) == (
        Role.PAGE,
        rule.why,
    )
    other = rules.feed(labels | {"queue": "mails"}, GAUGE, WORKLOAD)
    assert isinstance(other, Feed)
    assert (other.labels, other.step_s) == ((), 60)
    assert rules.hash != RULES.hash


def test_for_each_thing_the_first_rule_that_speaks_of_it_decides() -> None:
    name = {METRIC_NAME: "x"}
    rules = SignalRules(
        (
            SignalRule(why="a", when=name, step_s=30),
            SignalRule(why="b", when=name, step_s=10, keep=("q",), kind="counter"),
            SignalRule(why="c", when=name, keep=(), role=Role.PAGE, entity=(NODE,)),
        )
    )
    found = rules.feed(name | {"q": "1"}, GAUGE, WORKLOAD)
    assert isinstance(found, Feed)
    assert (found.part, found.labels, found.step_s) == (Part.COUNTER, (("q", "1"),), 30)
    assert rules.role("x", (), RATE, NODE) == (Role.PAGE, "c")
    assert rules.role("x", (), RATE, WORKLOAD)[0] is Role.EVIDENCE


@pytest.mark.parametrize("name", ["build_info", "x_last_run_time", "a:b", "x_created"])
def test_a_user_may_have_watched_what_is_left_out_by_its_name(name: str) -> None:
    rules = SignalRules((SignalRule(why="It moves.", when={METRIC_NAME: name}, drop=False),))
    assert isinstance(RULES.feed({METRIC_NAME: name}, GAUGE, WORKLOAD), Dropped)
    found = rules.feed({METRIC_NAME: name}, GAUGE, WORKLOAD)
    assert isinstance(found, Feed)
    assert found.part is Part.GAUGE


def test_a_rule_names_a_histogram_once_for_all_its_series() -> None:
    when = {METRIC_NAME: "request_seconds"}
    rules = SignalRules((SignalRule(why="By route.", when=when, keep=("route",)),))
    for name in ("request_seconds_bucket", "request_seconds_count", "request_seconds_sum"):
        found = rules.feed({METRIC_NAME: name, "route": "/", "le": "1"}, HISTOGRAM, WORKLOAD)
        assert isinstance(found, Feed)
        assert found.labels == (("route", "/"),)


def test_long_texts_are_cut() -> None:
    rules = SignalRules((SignalRule(why="a", when={METRIC_NAME: "x+"}, keep=("q",)),))
    found = rules.feed({METRIC_NAME: "x" * 999 + "_count", "q": "y" * 999}, HISTOGRAM, WORKLOAD)
    assert isinstance(found, Feed)
    assert found.part is Part.COUNT
    assert len(found.metric) <= 128
    assert found.labels == (("q", "y" * 128),)


@pytest.mark.parametrize("name", ["http_", "requests_", "_last_", "kube_", "request_time_", "a_"])
def test_no_name_takes_long(name: str) -> None:
    rules, text = SignalRules(), (name * 128)[:127] + "!"
    begin = time.process_time()
    assert isinstance(rules.feed({METRIC_NAME: text}, GAUGE, WORKLOAD), Feed)
    rules.role(text, (), P99, WORKLOAD)
    assert time.process_time() - begin < 0.1


def test_remembered_names_are_bounded() -> None:
    rules = SignalRules()
    for number in range(9_000):
        rules.feed({METRIC_NAME: f"up{number}"}, GAUGE, WORKLOAD)
    assert 0 < len(rules._plans) <= 8_192


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({}, "it decides nothing; set role, side, keep, drop, step_s or kind"),
        ({"step_s": 70}, "step_s must divide an hour, and 70 doesn't"),
        ({"step_s": 5}, "greater than or equal to 10"),
        ({"keep": ("le",)}, "le can't be kept: it is part of how a signal is folded"),
        ({"keep": ("a",), "folding": ("p99",)}, "folding is for role and side"),
        ({"role": "pager"}, "'page' or 'evidence'"),
        ({"kind": "Gauge"}, "'gauge'"),
        ({"drop": True, "why": ""}, "at least 1 character"),
        ({"drop": True, "when": {}}, "at least 1 item"),
        ({"drop": True, "when": {"a": "("}}, "'\\(' is no regular expression"),
        ({"drop": True, "wen": {"a": "b"}}, "Extra inputs are not permitted"),
    ],
)
def test_a_wrong_rule_is_refused(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        SignalRule.model_validate({"why": "x", "when": {METRIC_NAME: "x"}} | wrong)


def test_shipped_rules_of_roles_ask_only_for_labels_that_are_kept() -> None:
    kept = {label for rule in shipped_rules() for label in rule.keep or ()} | {"quantile"}
    for rule in shipped_rules():
        if rule.role is not None and rule.drop is None:
            assert {label for label, _ in rule.asks} <= kept, rule.why
        assert rule.why.endswith(".")
        assert METRIC_NAME in rule.when


NAMES = st.sampled_from(sorted({row[0].partition("{")[0] for row in FEEDS})) | st.text()
LABELS = st.dictionaries(
    st.sampled_from(["le", "quantile", "code", "status", "mode", "phase", "pod", "id", "x"])
    | st.text(),
    st.text() | st.sampled_from(["0.5", "+Inf", "-Inf", "nan", "503", "1_0", "٣", "\x00"]),
)


@given(NAMES, LABELS, st.sampled_from(MetricKind), st.sampled_from(EntityKind))
def test_any_labels_are_survived_and_nothing_else_counts(
    name: str, labels: dict[str, str], kind: MetricKind, entity: EntityKind
) -> None:
    series = labels | {METRIC_NAME: name}
    found = RULES.feed(series, kind, entity)
    assert repr(found) == repr(SignalRules().feed(dict(reversed(series.items())), kind, entity))
    if isinstance(found, Dropped):
        assert found.reason.islower()
        return
    assert 0 < len(found.metric) <= 128
    assert list(found.labels) == sorted(found.labels)
    assert all(0 < len(value) <= 128 for _, value in found.labels)
    kept = [label for label, _ in found.labels]
    assert len(set(kept)) == len(kept) <= 9
    assert "le" not in kept
    assert math.isnan(found.le) == (found.part is not Part.BUCKET)
    for folding in Folding:
        role, why = RULES.role(found.metric, found.labels, folding, entity)
        assert (role, why) == RULES.role(found.metric, found.labels, folding, entity)


def test_a_chatty_exporter_has_few_signals() -> None:
    """An API server tells each verb, resource, scope, ... apart; people need a few signals."""
    fed: set[object] = set()
    series = 0
    resources, verbs = [f"r{i}" for i in range(40)], ["GET", "LIST", "POST", "PATCH", "WATCH"]
    for resource in resources:
        for verb in verbs:
            labels = TARGET | {"resource": resource, "verb": verb, "scope": "cluster"}
            total = {METRIC_NAME: "apiserver_request_total", "code": str(200 + len(resource))}
            fed.add(RULES.feed(labels | total, COUNTER, WORKLOAD)[1:3])
            for le in range(20):
                bucket = {METRIC_NAME: "apiserver_request_sli_duration_seconds_bucket"}
                found = RULES.feed(labels | bucket | {"le": str(le)}, HISTOGRAM, WORKLOAD)
                fed.add(found[1:3] if isinstance(found, Feed) else "dropped")
                series += 1
    assert len(fed) <= 3 < series / 1000
