"""How well a demo went: alerts against the ground truth."""

import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from rich.markup import escape
from rich.table import Table

from watchkeep.schemas.alert import Alert
from watchkeep.schemas.entity import Entity
from watchkeep.schemas.text import clock_time, duration
from watchkeep.shop.times import DAY_MS, MINUTE_MS
from watchkeep.shop.truth import Truth

_AFTER_MS = 10 * MINUTE_MS


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault, or what only looks like one, and the first alert that told of it, if any."""

    truth: Truth
    alert: Alert | None

    @property
    def delay_s(self) -> float | None:
        """From the onset to the alert, in event time."""
        if self.alert is None:
            return None
        return (self.alert.detected_ms - self.truth.onset_ms) / 1000


@dataclass(frozen=True, slots=True)
class Result:
    """What `--json` prints.

    Attributes:
        found: faults whose root, or an entity they really affected, alerted between their onset
            and ten minutes after their end.
        non_faults_paged: what only looks like a fault, and was alerted about all the same.
        false_alerts: all paged incidents after warm-up that tell of no fault.
        false_alerts_per_service_week: by the shop's workloads, and the time after warm-up.
        median_delay_s: over the faults that were found, in event time; None when none was.
        samples_per_s: acknowledged samples by wall time, while sending.
        pss_mb: the largest sum of all processes' proportional memory seen.
    """

    faults: int
    found: int
    non_faults: int
    non_faults_paged: int
    false_alerts: int
    false_alerts_per_service_week: float
    median_delay_s: float | None
    samples: int
    samples_per_s: int
    pss_mb: int

    def json(self) -> str:
        """Write it as one line."""
        return json.dumps(asdict(self))


def incidents_of(alerts: Iterable[Alert]) -> list[Alert]:
    """Take the newest revision of each incident that paged, in the order of detection."""
    newest: dict[str, Alert] = {}
    for alert in alerts:
        known = newest.get(alert.alert_id)
        if known is None or known.revision < alert.revision:
            newest[alert.alert_id] = alert
    return sorted((a for a in newest.values() if a.pages), key=lambda a: a.detected_ms)


def match(truths: Sequence[Truth], incidents: Sequence[Alert]) -> list[Finding]:
    """Find the first incident that tells of each fault, and of each that only looks like one.

    An alert that tells of a fault tells of nothing else.
    """
    faults = [truth for truth in truths if truth.fault]
    findings = []
    for truth in truths:
        telling = [alert for alert in incidents if _tells(alert, truth)]
        if not truth.fault:
            telling = [alert for alert in telling if not any(_tells(alert, f) for f in faults)]
        # Of several in the same cell, the root's own is the one to look at.
        telling.sort(key=lambda alert: (alert.detected_ms, alert.entity != truth.root))
        findings.append(Finding(truth, telling[0] if telling else None))
    return findings


def false_alerts(
    truths: Sequence[Truth], incidents: Sequence[Alert], warm_until_ms: int
) -> list[Alert]:
    """List the incidents after warm-up that tell of no fault."""
    faults = [truth for truth in truths if truth.fault]
    return [
        alert
        for alert in incidents
        if alert.detected_ms >= warm_until_ms and not any(_tells(alert, f) for f in faults)
    ]


def _tells(alert: Alert, truth: Truth) -> bool:
    in_time = truth.onset_ms <= alert.detected_ms <= truth.end_ms + _AFTER_MS
    return in_time and alert.entity in {truth.root, *truth.affected}


def a_service_week(count: int, services: int, span_ms: int) -> float:
    """Tell how often something came, by service and week."""
    weeks = services * span_ms / (7 * DAY_MS)
    return round(count / weeks, 3) if weeks else 0.0


def median_delay_s(findings: Iterable[Finding]) -> float | None:
    """Tell the median delay of the faults that were found."""
    delays = [f.delay_s for f in findings if f.truth.fault and f.delay_s is not None]
    return statistics.median(delays) if delays else None


def table(findings: Sequence[Finding]) -> Table:
    """Show what was put in, and how each was found."""
    shown = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for heading in ("what", "where", "began", "lasted", "paged"):
        shown.add_column(heading, no_wrap=True)
    shown.add_column("first alert", no_wrap=True, overflow="ellipsis")
    for finding in findings:
        truth, alert = finding.truth, finding.alert
        good = truth.fault == (alert is not None)
        paged = f"after {finding.delay_s:.0f} s" if finding.delay_s is not None else "no"
        shown.add_row(
            escape(truth.kind),
            Entity.from_key(truth.root).title,
            clock_time(truth.onset_ms)[11:16],
            duration((truth.end_ms - truth.onset_ms) / 1000),
            f"[{'green' if good else 'red'}]{paged}[/]",
            escape(alert.title) if alert else "",
        )
    return shown
