"""Series of real exporters find the entity that a person would be paged about."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from watchkeep.schemas.entity import Entity, EntityKind, EntityRule, EntityRules
from watchkeep.schemas.errors import RecordError
from watchkeep.schemas.names import workload_of

CLUSTER = "prod"
# Label sets as exporters write them under the usual scrape configurations, and where they belong.
CASES = json.loads((Path(__file__).parents[1] / "fixtures" / "entities.json").read_text())


@pytest.mark.parametrize("case", CASES, ids=[case["about"] for case in CASES])
def test_a_series_finds_its_entity_and_member(case: dict[str, Any]) -> None:
    place = EntityRules().place(case["labels"], CLUSTER)
    kind = EntityKind(case["kind"])
    assert place.entity == Entity(kind, CLUSTER, case["namespace"], case["name"])
    assert place.member == case["member"]


def test_all_that_feeds_a_service_meets_at_one_entity() -> None:
    told = [case for case in CASES if "cart" in case["name"] and case["namespace"] == "shop"]
    rules = EntityRules()
    entities = {rules.place(case["labels"], CLUSTER).entity.key for case in told}
    assert entities == {"workload/prod/shop/cart", "workload/prod/shop/cart-v2"}
    assert len(told) > 30


def test_where_a_series_belongs_depends_on_nothing_that_was_asked_before() -> None:
    rules = EntityRules()
    places = [rules.place(case["labels"], CLUSTER) for case in CASES]
    again = [rules.place(case["labels"], CLUSTER) for case in reversed(CASES)]
    assert places == again[::-1]
    assert places == [EntityRules().place(case["labels"], CLUSTER) for case in CASES]


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


@pytest.mark.parametrize(
    ("claim", "workload"),
    [
        ("data-postgres-0", "postgres"),
        ("redis-data-redis-master-0", "redis-master"),
        ("prometheus-k8s-db-prometheus-k8s-0", "prometheus-k8s"),
        ("elasticsearch-data-elasticsearch-es-default-2", "elasticsearch-es-default"),
        ("storage-loki-0", "loki"),
        ("postgres-pvc", "postgres"),
        ("my-data-0", "my"),
        ("grafana", "grafana"),
    ],
)
def test_a_volume_claim_tells_whose_it_is(claim: str, workload: str) -> None:
    assert workload_of(claim, "claim") == workload


@pytest.mark.parametrize("namespace", ["shop", "kube-systems"])
def test_only_the_control_plane_has_static_pods(namespace: str) -> None:
    labels = {"namespace": namespace, "pod": "etcd-node-2"}
    assert EntityRules().place(labels, CLUSTER).entity.name == "etcd-node"


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


def test_a_rule_without_a_name_is_refused() -> None:
    with pytest.raises(ValidationError, match="it gives no name; set name or called"):
        EntityRule(kind=EntityKind.JOB, when={"team": "a"})
