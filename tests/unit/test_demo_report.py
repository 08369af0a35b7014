"""Alerts are counted against the ground truth as the demo says."""

import json
from dataclasses import replace

import pytest

from watchkeep.schemas.alert import Alert, AlertState, Explanation
from watchkeep.shop.strikes import node, workload
from watchkeep.shop.times import HOUR_MS, MINUTE_MS, START_MS
from watchkeep.shop.truth import Truth
from watchkeep.streams.demo_report import (
    Result,
    a_service_week,
    false_alerts,
    incidents_of,
    match,
    median_delay_s,
)

FAULT = Truth(
    kind="errors",
    title="Requests fail",
    fault=True,
    root=workload("cart"),
    affected=(workload("cart"), workload("frontend")),
    onset_ms=START_MS + 3 * HOUR_MS,
    end_ms=START_MS + 4 * HOUR_MS,
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
        (node(0), MINUTE_MS, False),
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
    keys = (
        "faults found non_faults non_faults_paged false_alerts false_alerts_per_service_week "
        "median_delay_s samples samples_per_s pss_mb"
    )
    assert list(json.loads(Result(3, 3, 1, 0, 0, 0.0, None, 1, 1, 1).json())) == keys.split()


def test_what_only_looks_like_a_fault_is_a_false_alert_unless_a_fault_is_told() -> None:
    sale = replace(FAULT, kind="sale", fault=False)
    seen = [alert(workload("cart"), FAULT.onset_ms + MINUTE_MS)]
    assert [finding.alert is not None for finding in match([sale], seen)] == [True]
    assert false_alerts([sale], seen, WARM_MS) == seen
    assert [finding.alert is not None for finding in match([sale, FAULT], seen)] == [False, True]
    assert false_alerts([sale, FAULT], seen, WARM_MS) == []
    assert median_delay_s(match([sale], seen)) is None


def test_false_alerts_are_counted_by_service_and_week() -> None:
    assert a_service_week(3, services=14, span_ms=12 * HOUR_MS) == 3.0
    assert a_service_week(3, services=0, span_ms=0) == 0
