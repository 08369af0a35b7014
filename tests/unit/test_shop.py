"""The simulated shop: the same for a seed, sent whole, and ill where the truth says so."""

import numpy as np
import pytest

from watchkeep.schemas.entity import EntityRules
from watchkeep.schemas.settings import Settings
from watchkeep.shop.faults import HOUR_MS, MINUTE_MS, Fault
from watchkeep.shop.model import CLUSTER, NAMESPACE, SERVICES, Floats, Shop, node, workload
from watchkeep.shop.remote_write import encode, requests
from watchkeep.streams.intake import EventClock, Intake
from watchkeep.streams.remote_write import decode

BODY_BYTES_MAX = 2**25
COUNTED = ("_total", "_count", "_sum")


def rate_per_s(shop: Shop, fault: Fault, name: str, **labels: str) -> tuple[float, float]:
    """Measure counters in what is sent: the rate in the hour before a fault, and during it."""
    (batch,) = shop.batches(shop.samples)
    rates = np.zeros(2)
    spans_ms = [(fault.onset_ms - HOUR_MS, fault.onset_ms), (fault.onset_ms, fault.end_ms)]
    for i, (own, _) in enumerate(shop.series):
        if own | labels | {"__name__": name} != own:
            continue
        time_ms, value = batch.time_ms[batch.series == i], batch.value[batch.series == i]
        for j, (begin_ms, end_ms) in enumerate(spans_ms):
            inside: Floats = value[(time_ms >= begin_ms) & (time_ms < end_ms)]
            rates[j] += (inside[-1] - inside[0]) / ((end_ms - begin_ms) / 1000)
    return float(rates[0]), float(rates[1])


def fault_of(shop: Shop, kind: str) -> Fault:
    return next(fault for fault in shop.faults if fault.kind == kind)


def test_the_same_seed_is_the_same_day() -> None:
    one, same, other = (Shop(seed, 0.5) for seed in (1, 1, 2))
    bodies = [[request.body for request in requests(s, 5_000)] for s in (one, same, other)]
    assert bodies[0] == bodies[1] != bodies[2]
    assert one.faults == same.faults != other.faults


def test_requests_hold_every_sample_as_it_is_in_the_order_of_time() -> None:
    shop = Shop(3, 0.5)
    index = {tuple(sorted(labels.items())): i for i, (labels, _) in enumerate(shop.series)}
    for batch in shop.batches(5_000):
        assert np.all(np.diff(batch.time_ms) >= 0)
        sent = {
            (index[tuple((label.name, label.value) for label in series.labels)], s.timestamp): s
            for series in decode(encode(batch, shop.series), BODY_BYTES_MAX).timeseries
            for s in series.samples
        }
        rows = zip(batch.series.tolist(), batch.time_ms.tolist(), batch.value.tolist(), strict=True)
        assert {key: s.value for key, s in sent.items()} == {(i, at): v for i, at, v in rows}


def test_counters_never_fall_and_series_are_scraped_evenly() -> None:
    shop = Shop(3, 0.5)
    (batch,) = shop.batches(shop.samples)
    assert len(batch.value) == shop.samples
    for i, (labels, _) in enumerate(shop.series):
        mine = batch.series == i
        assert set(np.diff(batch.time_ms[mine]).tolist()) == {30_000}
        if labels["__name__"].endswith(COUNTED):
            assert np.all(np.diff(batch.value[mine]) >= 0)
    assert shop.start_ms <= batch.time_ms[0] <= batch.time_ms[-1] < shop.end_ms


def test_a_gateway_learns_the_kind_of_every_series() -> None:
    shop, settings = Shop(3, 0.5), Settings(clock="event")
    intake = Intake(settings.gateway, EntityRules(), EventClock())
    kinds: dict[str, int] = {}
    for request in requests(shop, 5_000):
        assert not intake.take(decode(request.body, BODY_BYTES_MAX))
        kinds |= {dict(key)["__name__"]: s.labels.kind for key, s in intake._series.items()}
        intake.drain()
    assert kinds == {labels["__name__"]: kind for labels, kind in shop.series}


def test_pods_belong_to_their_services() -> None:
    rules = EntityRules()
    for labels, _ in Shop(3, 0.5).series:
        entity = rules.place(labels, CLUSTER).entity
        if labels.get("namespace") == NAMESPACE:
            assert entity.name in SERVICES
        elif labels["__name__"].startswith("node_"):
            assert entity.key in {node("node-a"), node("node-b")}


@pytest.mark.parametrize("seed", range(5))
def test_faults_lie_apart_in_the_scored_part(seed: int) -> None:
    shop = Shop(seed, 1.0)
    faults = sorted(shop.faults, key=lambda fault: fault.onset_ms)
    assert len({fault.kind for fault in faults}) == len({fault.root for fault in faults}) == 3
    ends = [shop.warm_until_ms, *(fault.end_ms for fault in faults)]
    begins = [*(fault.onset_ms for fault in faults), shop.end_ms]
    assert all(begin - end >= HOUR_MS // 2 for end, begin in zip(ends, begins, strict=True))
    assert all(20 <= (f.end_ms - f.onset_ms) / MINUTE_MS <= 40 for f in faults)
    assert all(fault.root in fault.affected for fault in faults)


@pytest.mark.parametrize("seed", range(5))
def test_errors_show_at_the_service_and_knock_on_to_the_frontend(seed: int) -> None:
    shop = Shop(seed, 1.0)
    fault = fault_of(shop, "errors")
    for service in (fault.service, "frontend"):
        before, during = rate_per_s(shop, fault, "http_requests_total", service=service, code="500")
        assert 0 < 3 * before < during
        assert workload(service) in fault.affected


@pytest.mark.parametrize("seed", range(5))
def test_what_a_fault_is_not_said_to_affect_stays_as_it_was(seed: int) -> None:
    shop = Shop(seed, 1.0)
    fault = fault_of(shop, "partition")
    before, during = rate_per_s(shop, fault, "http_requests_total", service=fault.service)
    assert during < 0.5 * before
    for service in SERVICES:
        if workload(service) not in fault.affected:
            before, during = rate_per_s(shop, fault, "http_requests_total", service=service)
            assert during == pytest.approx(before, rel=0.4)  # The day's rhythm goes on.


@pytest.mark.parametrize("seed", range(5))
def test_saturation_costs_cpu_at_the_service_and_time_at_its_callers(seed: int) -> None:
    shop = Shop(seed, 1.0)
    fault = fault_of(shop, "saturation")
    cpu = "container_cpu_usage_seconds_total"
    before, during = rate_per_s(shop, fault, cpu, container=fault.service)
    assert during > 1.5 * before
    callers = [name for name, service in SERVICES.items() if fault.service in service.calls]
    assert {workload(name) for name in callers} <= set(fault.affected)
    for name in callers:
        sums = rate_per_s(shop, fault, "http_request_duration_seconds_sum", service=name)
        counts = rate_per_s(shop, fault, "http_request_duration_seconds_count", service=name)
        assert sums[1] / counts[1] > sums[0] / counts[0]
