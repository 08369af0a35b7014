"""Deployments and nodes that are removed aren't missed."""

from collections.abc import Iterable, Iterator

import numpy as np
import pytest

from shop_signals import MINUTE_MS, Sent, frames_of, kept, told
from watchkeep.detectors.absence import Gone
from watchkeep.schemas.entity import Entity, EntityKind
from watchkeep.schemas.labels import METRIC_NAME, parse
from watchkeep.shop.blueprint import CLUSTER, Blueprint, Service
from watchkeep.shop.model import Shop
from watchkeep.shop.strikes import workload

TINY = Blueprint(
    nodes=2,
    users=120.0,
    services={
        "frontend": Service(2, 0.03, 0.004, calls={"cart": 4.0}),
        "cart": Service(2, 0.008, 0.009),
    },
)
CART = workload("cart")
NODE = Entity(EntityKind.NODE, CLUSTER, "", "node-1").key
SHOP = Shop(6, 0.11, blueprint=TINY, kinds={})


def silent(sent: Iterable[Sent], entity: str, but: tuple[str, ...] = ()) -> Iterator[Sent]:
    """Leave out what is told of an entity from two hours on, but by metrics that begin so."""
    gone: set[int] = set()
    for shard, frame in sent:
        gone |= {
            form.series_id
            for form in frame.label_sets
            if form.entity == entity and not parse(form.labels)[METRIC_NAME].startswith(but)
        }
        cut = np.isin(frame.series_id, np.array(sorted(gone), np.uint64))
        yield shard, kept(frame, ~cut | (frame.time_ms < SHOP.start_ms + 120 * MINUTE_MS))


@pytest.mark.parametrize("entity", [CART, NODE], ids=["deployment", "node"])
def test_what_is_removed_is_not_missed(entity: str) -> None:
    assert not told(silent(frames_of(SHOP, 2_000, entity), entity)).seen("absence")


def test_a_deployment_that_kubernetes_still_tells_of_is_missed() -> None:
    """A node that is lost is told of by its condition."""
    seen = told(silent(frames_of(SHOP, 2_000, CART), CART, ("kube_deployment_",))).seen("absence")
    assert set(seen) == {(CART, "", Gone.ENTITY)}
