"""The simulated shop's samples: the same for a seed, in order, with the flaws of real ones."""

from collections import defaultdict
from functools import cache

import numpy as np
import numpy.typing as npt
import pytest

from small_shop import small_shop
from watchkeep.schemas.entity import Entity, EntityRules
from watchkeep.schemas.frame import MetricKind
from watchkeep.shop.batches import Batch
from watchkeep.shop.blueprint import CLUSTER, FULL, NAMESPACE
from watchkeep.shop.kinds import shipped
from watchkeep.shop.model import Shop
from watchkeep.shop.scrapes import Scrapes, Sent
from watchkeep.shop.strikes import node_name
from watchkeep.shop.times import DAY_MS, HOUR_MS, SCRAPE_MS

STALE_BITS = 0x7FF0_0000_0000_0002
Values = npt.NDArray[np.float64]


@cache
def full(seed: int = 1, days: float = 0.25, replicas: int = 1) -> tuple[Shop, Batch]:
    shop = Shop(seed, days, replicas=replicas)
    (batch,) = shop.batches(10**9)
    return shop, batch


@cache
def whole_series(seed: int = 1) -> dict[int, tuple[npt.NDArray[np.int64], Values]]:
    return by_series(full(seed)[1])


def by_series(batch: Batch) -> dict[int, tuple[npt.NDArray[np.int64], Values]]:
    """Take the samples apart, without stale markers."""
    kept = batch.value.view(np.uint64) != STALE_BITS
    order = np.argsort(batch.series[kept], kind="stable")
    series, times, values = (column[kept][order] for column in batch)
    cuts = np.flatnonzero(np.diff(series)) + 1
    parts = zip(np.split(series, cuts), np.split(times, cuts), np.split(values, cuts), strict=True)
    return {int(own[0]): (time_ms, value) for own, time_ms, value in parts}


def columns(batch: Batch) -> list[bytes]:
    return [np.ascontiguousarray(column).tobytes() for column in batch]


def test_the_same_seed_gives_the_same_bytes_and_another_differs_in_all_but_structure() -> None:
    one, same, other = (Shop(seed, 0.15) for seed in (1, 1, 2))
    first, again, second = (columns(*shop.batches(10**9)) for shop in (one, same, other))
    assert first == again
    assert one.series == same.series
    assert one.events == same.events
    assert all(a != b for a, b in zip(first, second, strict=True))
    pods = [{labels.get("pod", "") for labels, _ in shop.series} for shop in (one, other)]
    shared = {pod for pod in pods[0] & pods[1] if pod and not pod[-1].isdigit()}
    assert all(pod.startswith(("kube-state-metrics", "cert-manager")) for pod in shared)
    assert one.strikes != other.strikes


def test_a_second_pass_and_other_cuts_give_the_same_samples() -> None:
    shop = Shop(1, 0.1)
    whole = columns(*shop.batches(10**9))
    cut = list(shop.batches(1_000))
    assert {len(batch.value) for batch in cut[:-1]} == {1_000}
    joined = Batch(*(np.concatenate(parts) for parts in zip(*cut, strict=True)))
    assert columns(joined) == whole


def test_samples_come_in_the_order_of_time_and_each_series_at_its_interval() -> None:
    shop, batch = full()
    assert np.all(np.diff(batch.time_ms) >= 0)
    assert shop.start_ms <= batch.time_ms[0] <= batch.time_ms[-1] < shop.end_ms
    for time_ms, _ in whole_series().values():
        gaps = np.diff(time_ms)
        assert np.all(gaps > 0)
        assert np.all(gaps % 30_000 == 0)


def test_values_are_finite_and_not_negative_but_for_stale_markers() -> None:
    _, batch = full()
    values = batch.value[batch.value.view(np.uint64) != STALE_BITS]
    assert np.all(np.isfinite(values))
    assert np.all(values >= 0)
    assert len(values) < len(batch.value)


def test_counters_fall_only_where_a_container_started_again() -> None:
    kinds = {
        name: kind for name, kind in shipped().items() if name in {"crash-loop", "memory-leak"}
    }
    shop = Shop(1, 0.2, kinds=kinds)
    (batch,) = shop.batches(10**9)
    starts: dict[str, list[int]] = defaultdict(list)
    for life in shop.plan.lives:
        starts[shop.plan.pods[life.pod].name].append(life.start_ms)
    counting = {MetricKind.COUNTER, MetricKind.HISTOGRAM}
    fallen = 0
    for i, (time_ms, value) in by_series(batch).items():
        labels, kind = shop.series[i]
        for at in np.flatnonzero(np.diff(value) < 0).tolist() if kind in counting else ():
            fallen += 1
            # A sample shows the state at the last full half minute.
            begin_ms, end_ms = int(time_ms[at]) - 30_000, int(time_ms[at + 1])
            assert any(begin_ms < s <= end_ms for s in starts[labels["pod"]]), labels
    assert fallen > 100


def test_a_histogram_is_consistent_with_its_count_and_the_requests() -> None:
    shop, seen = full()[0], whole_series()
    whole: dict[tuple[str, str], Values] = {}
    total: dict[str, float] = defaultdict(float)
    for i, (_, value) in seen.items():
        labels, _ = shop.series[i]
        name, pod = labels["__name__"], labels.get("pod", "")
        if name == "http_request_duration_seconds_bucket" and labels["le"] == "+Inf":
            whole["inf", pod] = value
        elif name == "http_request_duration_seconds_count":
            whole["count", pod] = value
        elif name == "http_requests_total":
            assert np.all(value == np.rint(value))
            total[pod] += float(value[-1])
    counts = {pod: value for (which, pod), value in whole.items() if which == "count"}
    assert len(counts) > 20
    for pod, value in counts.items():
        assert np.array_equal(value, whole["inf", pod])
        assert value[-1] == total[pod]


def test_buckets_rise_with_their_limits() -> None:
    shop, seen = full()[0], whole_series()
    buckets: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for i, (_, value) in seen.items():
        labels, _ = shop.series[i]
        if labels["__name__"] == "http_request_duration_seconds_bucket":
            buckets[labels["pod"]].append((float(labels["le"]), float(value[-1])))
    for found in buckets.values():
        counts = [count for _, count in sorted(found)]
        assert counts == sorted(counts)


def test_there_are_thousands_of_series_at_once_and_many_signals_a_workload() -> None:
    shop, batch = full()
    at_ms = shop.start_ms + 5 * HOUR_MS
    now = (batch.time_ms >= at_ms) & (batch.time_ms < at_ms + 30_000)
    assert len(np.unique(batch.series[now])) >= 3_000
    rules, signals = EntityRules(), defaultdict(set)
    for labels, _ in shop.series:
        entity = rules.place(labels, CLUSTER).entity
        signals[entity].add((labels["__name__"], labels.get("code"), labels.get("quantile")))
    for name in (*FULL.names, *FULL.cron_jobs):
        own = next(found for entity, found in signals.items() if entity.name == name)
        assert len({signal for signal in own if not signal[0].endswith("_bucket")}) >= 30, name


@pytest.mark.parametrize("shop", [Shop(3, 0.5), small_shop(3)], ids=["full", "small"])
def test_every_series_belongs_to_the_workload_or_node_it_is_about(shop: Shop) -> None:
    rules = EntityRules()
    for labels, _ in shop.series:
        entity = rules.place(labels, CLUSTER).entity
        assert entity == Entity.from_key(entity.key)
        if "destination_workload" in labels:
            assert (entity.namespace, entity.name) == (NAMESPACE, labels["destination_workload"])
        elif labels.get("namespace") == NAMESPACE:
            assert entity.namespace == NAMESPACE
            given = labels.get("pod") or labels.get("job_name") or ""
            names = {entity.name, given[: len(entity.name)]} if given else {entity.name}
            assert names <= {*shop.blueprint.names, *shop.blueprint.cron_jobs}
        elif "node" in labels:
            assert (entity.kind, entity.name) == ("node", labels["node"])
        else:
            assert entity.name in {"kube-state-metrics", "cert-manager"}


def test_help_and_type_are_told_of_every_family() -> None:
    shop, _ = full()
    for labels, kind in shop.series:
        name = labels["__name__"]
        bases = (name, *(name.removesuffix(end) for end in ("_bucket", "_sum", "_count")))
        told = [shop.families[base] for base in bases if base in shop.families]
        assert kind in {own for own, _ in told}, name
    silent = {name for name, (_, text) in shop.families.items() if not text}
    assert silent == {"up", "scrape_duration_seconds", "scrape_samples_scraped"}


def test_a_scrape_that_fails_is_down_and_ends_its_series_for_a_while() -> None:
    shop, batch = full()
    up = [i for i, (labels, _) in enumerate(shop.series) if labels["__name__"] == "up"]
    samples = whole_series()
    down = sum(int((samples[i][1] == 0).sum()) for i in up if i in samples)
    marked = np.unique(batch.series[batch.value.view(np.uint64) == STALE_BITS])
    assert down > 10
    assert len(marked) > 100
    lasting = {
        node_name(n) for n, (_, end_ms) in enumerate(shop.plan.nodes) if end_ms == shop.end_ms
    }
    about_nodes = {i for i in up if shop.series[i][0].get("node") in lasting}
    assert not about_nodes & set(marked.tolist())


def test_prometheus_stops_now_and_then_and_nothing_comes_meanwhile() -> None:
    rng = np.random.default_rng(1)
    times = np.arange(0, 20 * DAY_MS, SCRAPE_MS)
    scrapes = Scrapes(rng, 3, (0, 20 * DAY_MS), skew_ms=0, tidy=False)
    running = scrapes.running(times)
    stops = np.flatnonzero(np.diff(running.astype(int)) < 0)
    assert 8 < len(stops) < 40
    assert 2 * len(stops) < (~running).sum() < 11 * len(stops)
    there = np.ones((len(times), 1), bool)
    there[stops[0] + 1 :] = False
    # What vanishes while nobody looks gets no marker.
    assert not Sent(1).ended(np.array([0]), there, running).any()
    assert Sent(1).ended(np.array([0]), there, np.ones(len(times), bool)).sum() == 1


def test_a_pair_of_prometheus_sends_all_twice_and_one_clock_is_ahead() -> None:
    shop, batch = full(1, 0.05, 2)
    half = len(shop.series) // 2
    second = batch.series >= half
    assert 0.4 < second.mean() < 0.6
    labels = [labels["prometheus_replica"] for labels, _ in shop.series]
    assert set(labels[:half]) == {"prometheus-0"}
    assert set(labels[half:]) == {"prometheus-1"}
    ahead = batch.time_ms[second].max() - shop.end_ms
    assert 0 <= ahead < 1_300
    assert batch.time_ms[~second].max() < shop.end_ms


def test_series_of_a_gone_pod_end_with_a_marker() -> None:
    shop, batch = full()
    run = shop.plan.runs[1]
    name = shop.plan.pods[run.pod].name
    stale = batch.value.view(np.uint64) == STALE_BITS
    own = [i for i, (labels, _) in enumerate(shop.series) if labels.get("pod") == name]
    for i in own:
        mine = batch.series == i
        if mine.any():
            assert stale[mine][-1]
            assert batch.time_ms[mine][-1] < run.end_ms + 90_000
