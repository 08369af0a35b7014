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
from watchkeep.shop.faults import MINUTE_MS, Fault

_AFTER_MS = 10 * MINUTE_MS


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault, and the first alert that told of it; None when none did."""

    fault: Fault
    alert: Alert | None

    @property
    def delay_s(self) -> float | None:
        """From the fault's onset to the alert, in event time."""
        if self.alert is None:
            return None
        return (self.alert.detected_ms - self.fault.onset_ms) / 1000


@dataclass(frozen=True, slots=True)
class Result:
    """What `--json` prints.

    Attributes:
        found: faults whose root, or an entity they really affected, alerted between their onset
            and ten minutes after their end.
        false_alerts: all other paged incidents after warm-up.
        median_delay_s: over the faults that were found, in event time; None when none was.
        samples_per_s: acknowledged samples by wall time, while sending.
        pss_mb: the largest sum of all processes' proportional memory seen.
    """

    faults: int
    found: int
    false_alerts: int
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


def match(faults: Sequence[Fault], incidents: Sequence[Alert]) -> list[Finding]:
    """Find the first incident that tells of each fault."""
    findings = []
    for fault in faults:
        telling = [alert for alert in incidents if _tells(alert, fault)]
        # Of several in the same cell, the root's own is the one to look at.
        telling.sort(key=lambda alert: (alert.detected_ms, alert.entity != fault.root))
        findings.append(Finding(fault, telling[0] if telling else None))
    return findings


def false_alerts(
    faults: Sequence[Fault], incidents: Sequence[Alert], warm_until_ms: int
) -> list[Alert]:
    """List the incidents after warm-up that tell of no fault."""
    return [
        alert
        for alert in incidents
        if alert.detected_ms >= warm_until_ms and not any(_tells(alert, f) for f in faults)
    ]


def _tells(alert: Alert, fault: Fault) -> bool:
    in_time = fault.onset_ms <= alert.detected_ms <= fault.end_ms + _AFTER_MS
    return in_time and alert.entity in {fault.root, *fault.affected}


def median_delay_s(findings: Iterable[Finding]) -> float | None:
    """Tell the median delay of the faults that were found."""
    delays = [finding.delay_s for finding in findings if finding.delay_s is not None]
    return statistics.median(delays) if delays else None


def table(findings: Sequence[Finding]) -> Table:
    """Show the faults, and how each was found."""
    shown = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for heading in ("fault", "at", "began", "lasted", "found", "after", "first alert"):
        shown.add_column(heading, no_wrap=True)
    for finding in findings:
        fault, alert = finding.fault, finding.alert
        shown.add_row(
            fault.kind,
            Entity.from_key(fault.root).title,
            clock_time(fault.onset_ms)[5:16],
            duration((fault.end_ms - fault.onset_ms) / 1000),
            "[green]yes[/]" if alert else "[red]no[/]",
            f"{finding.delay_s:.0f} s" if finding.delay_s is not None else "",
            escape(alert.title) if alert else "",
        )
    return shown
