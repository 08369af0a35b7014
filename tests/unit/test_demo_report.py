"""Alerts are counted against the ground truth as the demo says."""

import json

import pytest

from watchkeep.schemas.alert import Alert, AlertState, Explanation
from watchkeep.shop.faults import HOUR_MS, MINUTE_MS, Fault
from watchkeep.shop.model import START_MS, Shop, node, workload
from watchkeep.shop.remote_write import encode
from watchkeep.streams.demo_report import (
    Result,
    false_alerts,
    incidents_of,
    match,
    median_delay_s,
)
from watchkeep.streams.remote_write import decode

FAULT = Fault(
    "errors",
    "cart",
    workload("cart"),
    (workload("cart"), workload("frontend")),
    START_MS + 3 * HOUR_MS,
    START_MS + 4 * HOUR_MS,
)
WARM_MS = START_MS + 2 * HOUR_MS


def alert(
    entity: str, detected_ms: int, name: str = "a", revision: int = 1, *, pages: bool = True
) -> Alert:
    return Alert(
        alert_id=name,
        revision=revision,
        state=AlertState.FIRING,
        pages=pages,
        entity=entity,
        cluster="demo",
        namespace="shop",
        title=entity,
        onset_ms=detected_ms,
        detected_ms=detected_ms,
        at_ms=detected_ms,
        ended_ms=None,
        duration_s=None,
        strength=9,
        explanation=Explanation(state="template", summary="", lines=()),
        evidence=(),
    )


@pytest.mark.parametrize(
    ("entity", "after_ms", "found"),
    [
        (workload("cart"), 0, True),
        (workload("frontend"), MINUTE_MS, True),
        (workload("cart"), HOUR_MS + 10 * MINUTE_MS, True),
        (workload("cart"), -1, False),
        (workload("cart"), HOUR_MS + 10 * MINUTE_MS + 1, False),
        (workload("payment"), MINUTE_MS, False),
        (node("node-a"), MINUTE_MS, False),
    ],
)
def test_a_fault_is_found_by_whom_it_affects_and_in_its_time(
    entity: str, after_ms: int, found: bool
) -> None:
    seen = [alert(entity, FAULT.onset_ms + after_ms)]
    (finding,) = match([FAULT], seen)
    assert (finding.alert is not None) is found
    assert len(false_alerts([FAULT], seen, WARM_MS)) == (0 if found else 1)


def test_the_root_s_own_alert_is_named_before_others_of_the_same_time() -> None:
    at_ms = FAULT.onset_ms + MINUTE_MS
    seen = [alert(workload("frontend"), at_ms, "a"), alert(workload("cart"), at_ms, "b")]
    (finding,) = match([FAULT], seen)
    assert finding.alert is seen[1]
    assert median_delay_s([finding]) == 60
    assert median_delay_s(match([FAULT], [])) is None


def test_before_warm_up_and_without_a_page_nothing_is_false() -> None:
    early, silent = alert("x", WARM_MS - 1), alert("y", WARM_MS, "b", pages=False)
    assert false_alerts([], incidents_of([early, silent]), WARM_MS) == []


def test_an_incident_counts_once_with_its_newest_revision() -> None:
    first, second = alert("x", WARM_MS), alert("x", WARM_MS, revision=2)
    assert incidents_of([first, second, first]) == [second]


def test_the_result_is_one_json_object() -> None:
    keys = "faults found false_alerts median_delay_s samples samples_per_s pss_mb"
    assert list(json.loads(Result(3, 3, 0, None, 1, 1, 1).json())) == keys.split()


def test_the_same_seed_is_the_same_day() -> None:
    one, same, other = (Shop(seed, 0.5) for seed in (1, 1, 2))
    bodies = [[encode(b, s.series) for b in s.batches(5_000)] for s in (one, same, other)]
    assert bodies[0] == bodies[1] != bodies[2]
    assert one.faults == same.faults != other.faults


def test_requests_hold_every_sample_in_order_and_counters_never_fall() -> None:
    shop = Shop(3, 0.5)
    last: dict[str, tuple[int, float]] = {}
    count = 0
    for batch in shop.batches(5_000):
        for series in decode(encode(batch, shop.series), 2**25).timeseries:
            labels = {label.name: label.value for label in series.labels}
            name = repr(sorted(labels.items()))
            for sample in series.samples:
                before = last.get(name, (0, 0.0))
                assert sample.timestamp > before[0]
                if labels["__name__"].endswith(("_total", "_count", "_sum")):
                    assert sample.value >= before[1]
                last[name] = (sample.timestamp, sample.value)
                count += 1
    assert count == shop.samples


@pytest.mark.parametrize("seed", range(5))
def test_faults_lie_apart_in_the_scored_part_and_spread(seed: int) -> None:
    shop = Shop(seed, 1.0)
    faults = sorted(shop.faults, key=lambda fault: fault.onset_ms)
    assert len({fault.kind for fault in faults}) == len({fault.root for fault in faults}) == 3
    ends = [shop.warm_until_ms, *(fault.end_ms for fault in faults)]
    begins = [*(fault.onset_ms for fault in faults), shop.end_ms]
    assert all(begin - end >= HOUR_MS // 2 for end, begin in zip(ends, begins, strict=True))
    assert all(fault.root in fault.affected for fault in faults)
    errors = next(fault for fault in faults if fault.kind == "errors")
    assert workload("frontend") in errors.affected
