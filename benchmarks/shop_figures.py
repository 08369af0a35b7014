"""How well detection did on shops: figures over several seeds, for JSON and for people."""

import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

from rich.table import Table

from watchkeep.schemas.alert import Alert
from watchkeep.schemas.entity import Entity
from watchkeep.shop.model import Shop
from watchkeep.shop.times import DAY_MS
from watchkeep.streams.demo_report import (
    Finding,
    a_service_week,
    false_alerts,
    match,
    median_delay_s,
)

_TURNS: Final = 8


class Judged(NamedTuple):
    """One shop, judged.

    Attributes:
        paged: the alerts after warm-up; `false`: those of them that tell of no fault.
        services: how many workloads serve requests; false alerts are told by these.
        entities: how many there are by kind.
        span_ms: from the end of warm-up to the shop's end.
    """

    seed: int
    findings: list[Finding]
    paged: list[Alert]
    false: list[Alert]
    services: int
    entities: dict[str, int]
    span_ms: tuple[int, int]

    @property
    def length_ms(self) -> int:
        """For how long alerts counted."""
        return self.span_ms[1] - self.span_ms[0]

    @property
    def faults(self) -> list[Finding]:
        """List the faults, found or not."""
        return [finding for finding in self.findings if finding.truth.fault]

    @property
    def false_a_week(self) -> float:
        """Tell the false alerts a service and week."""
        return a_service_week(len(self.false), self.services, self.length_ms)


def judged(shop: Shop, alerts: Sequence[Alert], entities: Iterable[Entity]) -> Judged:
    """Judge the alerts of a shop; what was paged before warm-up ended counts for nothing."""
    paged = [alert for alert in alerts if alert.detected_ms >= shop.warm_until_ms]
    return Judged(
        shop.seed,
        match(shop.truth, paged),
        paged,
        false_alerts(shop.truth, paged, shop.warm_until_ms),
        len(shop.blueprint.services),
        dict(Counter(str(entity.kind) for entity in entities)),
        (shop.warm_until_ms, shop.end_ms),
    )


def figures(runs: Sequence[Judged]) -> dict[str, Any]:
    """Sum several seeds up, for JSON."""
    findings = [finding for run in runs for finding in run.findings]
    faults = [finding for finding in findings if finding.truth.fault]
    others = [finding for finding in findings if not finding.truth.fault]
    found = sum(finding.alert is not None for finding in faults)
    false = sum(len(run.false) for run in runs)
    weeks = sum(run.services * run.length_ms for run in runs) / (7 * DAY_MS)
    return {
        "found_share": round(found / len(faults), 4) if faults else None,
        "false_alerts_per_week": round(false / weeks, 3) if weeks else None,
        "median_delay_s": _rounded(median_delay_s(findings)),
        "found_by_chance_share": _by_chance(runs),
        "faults": len(faults),
        "found": found,
        "by_fault_kind": _by_fault_kind(faults),
        "non_faults": len(others),
        "non_faults_paged": sum(finding.alert is not None for finding in others),
        "non_faults_paged_by_kind": _paged_by_kind(others),
        "false_alerts": false,
        "service_weeks": round(weeks, 1),
        "false_alerts_per_week_by_seed": {str(run.seed): run.false_a_week for run in runs},
        "false_alerts_by_entity_kind": _by_entity_kind(runs),
    }


def _by_chance(runs: Sequence[Judged]) -> float | None:
    """Tell the share of faults that false alerts would find, were they as many at other times."""
    faults = sum(len(run.faults) for run in runs)
    if not faults:
        return None
    found = sum(
        finding.alert is not None
        for run in runs
        for turn in range(1, _TURNS)
        for finding in match([f.truth for f in run.faults], _turned(run, turn / _TURNS))
    )
    return round(found / faults / (_TURNS - 1), 4)


def _turned(run: Judged, share: float) -> list[Alert]:
    """Move false alerts by a share of the time that counts; what leaves it comes in again."""
    begin_ms, _ = run.span_ms
    moved_ms = [
        begin_ms + (alert.detected_ms - begin_ms + round(share * run.length_ms)) % run.length_ms
        for alert in run.false
    ]
    pairs = zip(run.false, moved_ms, strict=True)
    return [alert.model_copy(update={"detected_ms": at_ms}) for alert, at_ms in pairs]


def _by_fault_kind(faults: Sequence[Finding]) -> dict[str, dict[str, Any]]:
    told = {}
    for kind in sorted({finding.truth.kind for finding in faults}):
        own = [finding for finding in faults if finding.truth.kind == kind]
        delays = [finding.delay_s for finding in own if finding.delay_s is not None]
        told[kind] = {
            "found": len(delays),
            "total": len(own),
            "median_delay_s": _rounded(statistics.median(delays) if delays else None),
        }
    return told


def _paged_by_kind(others: Sequence[Finding]) -> dict[str, dict[str, int]]:
    total = Counter(finding.truth.kind for finding in others)
    paged = Counter(finding.truth.kind for finding in others if finding.alert is not None)
    return {kind: {"paged": paged[kind], "total": total[kind]} for kind in sorted(total)}


def _by_entity_kind(runs: Sequence[Judged]) -> dict[str, dict[str, float]]:
    """Tell the false alerts of each kind of entity, by all of that kind, services or not."""
    false = Counter(str(kind_of(alert)) for run in runs for alert in run.false)
    told = {}
    for kind in sorted({kind for run in runs for kind in run.entities} | set(false)):
        weeks = sum(run.entities.get(kind, 0) * run.length_ms for run in runs) / (7 * DAY_MS)
        told[kind] = {"false_alerts": false[kind], "entity_weeks": round(weeks, 1)}
        if weeks:
            told[kind]["per_entity_week"] = round(false[kind] / weeks, 3)
    return told


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)


def kind_of(alert: Alert) -> str:
    """Tell what kind of entity an alert is about."""
    return str(Entity.from_key(alert.entity).kind)


def tables(told: dict[str, Any]) -> list[Table]:
    """Lay the figures out for a person."""
    faults = _table("fault", "found", "of", "median delay")
    for kind, row in told["by_fault_kind"].items():
        delay_s = row["median_delay_s"]
        delay = "" if delay_s is None else f"{delay_s / 60:.1f} min"
        faults.add_row(kind, str(row["found"]), str(row["total"]), delay)
    others = _table("no fault", "paged", "of")
    for kind, row in told["non_faults_paged_by_kind"].items():
        others.add_row(kind, str(row["paged"]), str(row["total"]))
    false = _table("false alerts of", "count", "an entity and week")
    for kind, row in told["false_alerts_by_entity_kind"].items():
        false.add_row(f"{kind}s", str(row["false_alerts"]), f"{row.get('per_entity_week', '')}")
    return [faults, others, false]


def _table(first: str, *others: str) -> Table:
    shown = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    shown.add_column(first)
    for heading in others:
        shown.add_column(heading, justify="right")
    return shown
