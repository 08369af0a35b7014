"""What befalls the shop shows in its signals, and the truth says where."""

from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest

from watchkeep.shop.batches import Batch
from watchkeep.shop.blueprint import FULL, SMALL
from watchkeep.shop.kinds import shipped
from watchkeep.shop.model import Shop
from watchkeep.shop.strikes import node, workload
from watchkeep.shop.times import HOUR_MS, MINUTE_MS, Floats

KINDS = shipped()
FAULTS = sorted(name for name, kind in KINDS.items() if kind.fault)
HARMLESS = sorted(name for name, kind in KINDS.items() if not kind.fault)


class Seen:
    """A shop that only one kind befalls, with its samples."""

    def __init__(self, kind: str, seed: int = 1) -> None:
        self.shop = Shop(seed, 0.25, kinds={kind: KINDS[kind]})
        self.truth = self.shop.truth[0]
        self.strike = self.shop.strikes[0]
        series, time_ms, value = next(self.shop.batches(10**9))
        kept = ~np.isnan(value)
        self.batch = Batch(series[kept], time_ms[kept], value[kept])

    def during(self) -> tuple[int, int]:
        """Give the time in which all of it shows."""
        return self.truth.onset_ms + MINUTE_MS, self.truth.end_ms

    def before(self) -> tuple[int, int]:
        """Give the half hour before it."""
        return self.truth.onset_ms - HOUR_MS // 2, self.truth.onset_ms

    def each(self, span_ms: tuple[int, int], name: str, **labels: str) -> Iterator[Floats]:
        """Give the values of each series in a stretch of time."""
        inside = (self.batch.time_ms >= span_ms[0]) & (self.batch.time_ms < span_ms[1])
        series, values = self.batch.series[inside], self.batch.value[inside]
        for i, (own, _) in enumerate(self.shop.series):
            if own | labels | {"__name__": name} == own and (mine := values[series == i]).size:
                yield mine

    def rate(self, span_ms: tuple[int, int], name: str, **labels: str) -> float:
        """Sum the rates of counters, resets or not."""
        added = sum(
            float(np.maximum(np.diff(own), 0).sum()) for own in self.each(span_ms, name, **labels)
        )
        return added / ((span_ms[1] - span_ms[0]) / 1000)

    def rates(self, name: str, **labels: str) -> tuple[float, float]:
        """Sum the rates of counters before and during it."""
        return self.rate(self.before(), name, **labels), self.rate(self.during(), name, **labels)

    def highest(self, name: str, **labels: str) -> tuple[float, float]:
        """Find the largest value before and during it."""
        before, during = (
            max((float(own.max()) for own in self.each(span, name, **labels)), default=0.0)
            for span in (self.before(), self.during())
        )
        return before, during


def test_at_least_the_promised_kinds_ship() -> None:
    assert len(FAULTS) >= 14
    assert len(HARMLESS) >= 6
    assert all(kind.title for kind in KINDS.values())


@pytest.mark.parametrize("kind", ["errors", "bad-deploy", "bad-config", "certificate-expiry"])
def test_failed_requests_are_counted_where_they_fail_and_at_callers(kind: str) -> None:
    seen = Seen(kind, seed=4)
    name = seen.strike.where
    before, during = seen.rates(
        "istio_requests_total", destination_workload=name, response_code="503"
    )
    assert during > 5 * before
    callers = [workload(caller) for caller, callee, _ in FULL.edges if callee == name]
    assert set(callers) <= set(seen.truth.affected)


def test_a_certificate_was_known_to_expire_and_is_renewed() -> None:
    seen = Seen("certificate-expiry")
    name = "certmanager_certificate_expiration_timestamp_seconds"
    app = seen.strike.where
    (before,) = seen.each(seen.before(), name, app=app)
    assert set(before) == {seen.truth.onset_ms // 1000}
    after_ms = (seen.truth.end_ms + MINUTE_MS, seen.truth.end_ms + 20 * MINUTE_MS)
    (after,) = seen.each(after_ms, name, app=app)
    assert after.min() > seen.truth.end_ms / 1000 + 86_400


def test_cpu_is_taken() -> None:
    seen = Seen("cpu")
    name = "container_cpu_usage_seconds_total"
    before, during = seen.rates(name, container=seen.strike.where)
    assert during > 1.5 * before


def test_memory_leaks_until_containers_are_killed() -> None:
    seen = Seen("memory-leak", seed=2)
    pod = {"container": seen.strike.where}
    before, during = seen.highest("container_memory_working_set_bytes", **pod)
    assert during > 1.3 * before
    reasons = seen.highest(
        "kube_pod_container_status_last_terminated_reason", reason="OOMKilled", **pod
    )
    assert reasons == (0, 1)
    assert seen.highest("kube_pod_container_status_restarts_total", **pod)[1] >= 1


def test_a_crash_loop_shows_in_restarts_reasons_and_events() -> None:
    seen = Seen("crash-loop")
    pod = {"container": seen.strike.where}
    assert seen.highest("kube_pod_container_status_restarts_total", **pod)[1] >= 5
    waiting = {"reason": "CrashLoopBackOff"} | pod
    assert seen.highest("kube_pod_container_status_waiting_reason", **waiting) == (0, 1)
    told = Counter(event["reason"] for event in seen.shop.events)
    assert told["BackOff"] >= 5


def test_a_slow_edge_is_slow_for_its_caller() -> None:
    seen = Seen("edge-latency")
    where = {"service": seen.strike.caller, "peer": seen.strike.where}
    sums = seen.rates("http_client_request_duration_seconds_sum", **where)
    counts = seen.rates("http_client_request_duration_seconds_count", **where)
    assert sums[1] / counts[1] > sums[0] / counts[0] + 0.2
    assert workload(seen.strike.caller) in seen.truth.affected


def test_traffic_that_drops_is_missing_at_the_callee() -> None:
    seen = Seen("traffic-drop")
    where = {"destination_workload": seen.strike.where}
    before, during = seen.rates("istio_requests_total", **where)
    assert during < 0.5 * before


def test_one_bad_pod_is_unlike_its_siblings() -> None:
    seen = Seen("bad-pod")
    pods = [
        pod.name
        for pod in seen.shop.plan.pods
        if pod.workload == seen.strike.where
        and pod.start_ms <= seen.truth.onset_ms
        and pod.end_ms >= seen.truth.end_ms
    ]
    ill = next(
        pod.name
        for pod in seen.shop.plan.pods
        if (pod.workload, pod.slot) == (seen.strike.where, seen.strike.slot)
        and pod.start_ms <= seen.truth.onset_ms < pod.end_ms
    )
    failing = {
        name: seen.rate(seen.during(), "istio_requests_total", pod=name, response_code="503")
        for name in pods
    }
    assert all(failing[ill] > 5 * failing[name] for name in pods if name != ill)


@pytest.mark.parametrize("kind", ["slow-disk", "noisy-neighbour", "packet-loss"])
def test_what_befalls_a_node_shows_there(kind: str) -> None:
    seen = Seen(kind)
    name, modes = {
        "slow-disk": ("node_disk_io_time_weighted_seconds_total", {}),
        "noisy-neighbour": ("node_cpu_seconds_total", {"mode": "user"}),
        "packet-loss": ("node_network_receive_drop_total", {}),
    }[kind]
    before, during = seen.rates(name, node=f"node-{seen.strike.slot + 1}", **modes)
    assert during > 2 * before
    assert seen.truth.root == node(seen.strike.slot)


def test_a_dependency_that_is_gone_fails_its_callers() -> None:
    seen = Seen("dependency-gone")
    where = {"service": seen.strike.caller, "peer": seen.strike.where}
    good = seen.rates("http_client_requests_total", code="200", **where)
    bad = seen.rates("http_client_requests_total", code="503", **where)
    assert good[1] < 0.05 * good[0]
    assert bad[1] > 0.5 * good[0]


def test_messages_pile_up_where_nobody_takes_them() -> None:
    seen = Seen("queue-backlog")
    before, during = seen.highest("rabbitmq_queue_messages_ready")
    assert during > 20 * before
    assert workload("rabbitmq") in seen.truth.affected


def test_saturation_costs_cpu_and_time() -> None:
    seen = Seen("saturation")
    cpu = seen.rates("container_cpu_usage_seconds_total", container=seen.strike.where)
    assert cpu[1] > 1.5 * cpu[0]
    where = {"destination_workload": seen.strike.where}
    sums = seen.rates("istio_request_duration_milliseconds_sum", **where)
    counts = seen.rates("istio_request_duration_milliseconds_count", **where)
    assert sums[1] / counts[1] > 1.5 * sums[0] / counts[0]


@pytest.mark.parametrize("kind", ["planned-restart", "idle-deploy"])
def test_a_change_that_does_no_harm_replaces_the_pods(kind: str) -> None:
    seen = Seen(kind)
    assert seen.truth.affected == (seen.truth.root,)
    made = {"planned-restart": "restart", "idle-deploy": "deploy"}[kind]
    assert (seen.truth.onset_ms, made) in {(c.at_ms, c.kind) for c in seen.shop.changes}
    ready = [
        float(own.min())
        for own in seen.each(
            (seen.truth.onset_ms, seen.truth.end_ms),
            "kube_deployment_status_replicas_available",
            deployment=seen.strike.where,
        )
    ]
    assert ready[0] >= 1
    told = Counter(event["reason"] for event in seen.shop.events)
    assert told["ScalingReplicaSet"] >= 2
    assert told["Killing"] >= 2


@pytest.mark.parametrize("kind", ["sale", "holiday"])
def test_users_come_and_stay_away(kind: str) -> None:
    shop = Shop(1, 0.4, kinds={kind: KINDS[kind]})
    truth = shop.truth[0]
    assert not truth.fault
    assert set(truth.affected) >= {workload(name) for name in FULL.names if name != "currency"}


@pytest.mark.parametrize("seed", range(5))
def test_strikes_lie_apart_in_the_scored_part(seed: int) -> None:
    shop = Shop(seed, 2.0)
    ends = [shop.warm_until_ms, *(strike.end_ms for strike in shop.strikes)]
    begins = [*(strike.onset_ms for strike in shop.strikes), shop.end_ms]
    apart = [begin - end for end, begin in zip(ends, begins, strict=True)]
    assert all(gap >= 30 * MINUTE_MS for gap in apart[:-1])
    assert apart[-1] >= 0
    assert len({strike.kind.name for strike in shop.strikes}) >= 20
    assert all(truth.root == truth.affected[0] for truth in shop.truth)


def test_a_small_shop_takes_the_kinds_that_fit() -> None:
    shop = Shop(1, 3.0, blueprint=SMALL)
    names = {strike.kind.name for strike in shop.strikes}
    assert "errors" in names
    assert "queue-backlog" not in names
