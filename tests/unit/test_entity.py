"""Series of real exporters find the entity that a person would be paged about."""

import pytest
from pydantic import ValidationError

from watchkeep.schemas.entity import Entity, EntityKind, EntityRule, EntityRules
from watchkeep.schemas.errors import RecordError
from watchkeep.schemas.names import workload_of

CLUSTER = "prod"
NODE_EXPORTER = {"job": "node-exporter", "namespace": "monitoring", "pod": "node-exporter-x2x4z"}

# Label sets as these exporters write them, and the (kind, namespace, name, member) they belong to.
CASES = {
    "cadvisor, container of a deployment's pod": (
        {
            "__name__": "container_cpu_usage_seconds_total",
            "namespace": "shop",
            "pod": "cart-7d9c5b8f6d-x2x4z",
            "container": "server",
            "instance": "10.0.0.7:10250",
            "job": "kubelet",
            "node": "n1",
        },
        ("workload", "shop", "cart", "cart-7d9c5b8f6d-x2x4z"),
    ),
    "cadvisor, a node's root cgroup": (
        {
            "__name__": "container_cpu_usage_seconds_total",
            "id": "/",
            "instance": "n1",
            "job": "kubelet",
        },
        ("node", "", "n1", "n1"),
    ),
    "kube-state-metrics about a deployment, labels honoured": (
        {
            "__name__": "kube_deployment_status_replicas",
            "namespace": "shop",
            "deployment": "cart-v2",
            "job": "kube-state-metrics",
            "instance": "10.1.2.3:8080",
        },
        ("workload", "shop", "cart-v2", ""),
    ),
    "kube-state-metrics about a pod, labels not honoured": (
        {
            "__name__": "kube_pod_container_status_restarts_total",
            "namespace": "monitoring",
            "pod": "kube-state-metrics-5d4f8c7b9-qwrtz",
            "exported_namespace": "shop",
            "exported_pod": "db-0",
        },
        ("workload", "shop", "db", "db-0"),
    ),
    "kube-state-metrics about a CronJob's job": (
        {
            "__name__": "kube_job_status_failed",
            "namespace": "shop",
            "job_name": "backup-29384721",
            "job": "kube-state-metrics",
        },
        ("workload", "shop", "backup", "backup-29384721"),
    ),
    "kube-state-metrics about a replica set": (
        {
            "__name__": "kube_replicaset_status_replicas",
            "namespace": "shop",
            "replicaset": "cart-7d9c5b8f6d",
        },
        ("workload", "shop", "cart", ""),
    ),
    "kube-state-metrics about a node": (
        {"__name__": "kube_node_status_condition", "node": "n1", "condition": "Ready"},
        ("node", "", "n1", "n1"),
    ),
    "node-exporter, in a pod": (
        {"__name__": "node_load1", "instance": "10.0.0.7:9100"} | NODE_EXPORTER,
        ("node", "", "10.0.0.7", "10.0.0.7:9100"),
    ),
    "node-exporter, IPv6": (
        {"__name__": "node_load1", "instance": "[fe80::1]:9100", "job": "node"},
        ("node", "", "fe80::1", "[fe80::1]:9100"),
    ),
    "a mesh, seen from the client": (
        {
            "__name__": "istio_requests_total",
            "namespace": "shop",
            "pod": "frontend-6b7c9d8f5-bcdfg",
            "reporter": "source",
            "destination_workload": "cart",
            "destination_workload_namespace": "shop",
        },
        ("workload", "shop", "cart", "frontend-6b7c9d8f5-bcdfg"),
    ),
    "an HTTP server found through its pod": (
        {
            "__name__": "http_requests_total",
            "namespace": "shop",
            "pod": "api-0",
            "service": "api",
            "instance": "10.0.1.2:8080",
            "job": "api",
        },
        ("workload", "shop", "api", "api-0"),
    ),
    "an HTTP server found through its service": (
        {
            "__name__": "http_requests_total",
            "namespace": "shop",
            "service": "api",
            "instance": "10.0.1.2:8080",
            "job": "api",
        },
        ("workload", "shop", "api", "10.0.1.2:8080"),
    ),
    "a static pod": (
        {
            "__name__": "apiserver_request_total",
            "namespace": "kube-system",
            "pod": "kube-apiserver-n1",
            "node": "n1",
        },
        ("workload", "kube-system", "kube-apiserver", "kube-apiserver-n1"),
    ),
    "Prometheus itself, a plain job": (
        {"__name__": "prometheus_tsdb_head_series", "job": "prometheus", "instance": "p:9090"},
        ("job", "", "prometheus", "p:9090"),
    ),
    "a recording rule without any place": (
        {"__name__": "cluster:cpu:rate5m"},
        ("job", "", "unplaced", ""),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_series_finds_its_entity_and_member(case: str) -> None:
    labels, (kind, namespace, name, member) = CASES[case]
    place = EntityRules().place(labels, CLUSTER)
    assert place.entity == Entity(EntityKind(kind), CLUSTER, namespace, name)
    assert place.member == member


@pytest.mark.parametrize(
    ("pod", "workload"),
    [
        ("cart-7d9c5b8f6d-x2x4z", "cart"),
        ("cart-7d9c5b8f6d-bcdfg", "cart"),
        ("my-db-12", "my-db"),
        ("fluentd-x2x4z", "fluentd"),
        ("backup-29384721-x2x4z", "backup"),
        ("train-3-x2x4z", "train"),
        ("plain", "plain"),
        ("two-words", "two-words"),
    ],
)
def test_what_controllers_add_to_pod_names_is_stripped(pod: str, workload: str) -> None:
    assert workload_of(pod) == workload


def test_a_deploy_changes_the_member_and_not_the_entity() -> None:
    rules = EntityRules()
    labels = {"__name__": "up", "namespace": "shop"}
    before = rules.place(labels | {"pod": "cart-7d9c5b8f6d-x2x4z"}, CLUSTER)
    after = rules.place(labels | {"pod": "cart-5c8f7d6b9-qwrtz"}, CLUSTER)
    assert before.entity == after.entity
    assert before.member != after.member


@pytest.mark.parametrize("name", ["cart", "a/b", "50%", "Größe", "x\ny", "workload"])
def test_a_key_is_read_back(name: str) -> None:
    entity = Entity(EntityKind.WORKLOAD, "c/1", "name space", name)
    assert Entity.from_key(entity.key) == entity


@pytest.mark.parametrize("key", ["", "workload/c/n", "pod/c/n/x", "workload/c/n/x/y"])
def test_what_is_no_key_is_refused(key: str) -> None:
    with pytest.raises(RecordError):
        Entity.from_key(key)


def test_rules_from_the_configuration_are_tried_first_to_last() -> None:
    rule = EntityRule(kind=EntityKind.JOB, when={"team": "a|b"}, name=("team",))
    rules = EntityRules((rule,))
    assert rules.place({"team": "a"}, CLUSTER).entity.name == "a"
    assert rules.place({"team": "c"}, CLUSTER).entity.name == "unplaced"
    assert rules.hash != EntityRules().hash


def test_a_rule_with_a_broken_pattern_is_refused() -> None:
    with pytest.raises(ValidationError, match="no regular expression"):
        EntityRule(kind=EntityKind.JOB, when={"team": "("}, name=("team",))
