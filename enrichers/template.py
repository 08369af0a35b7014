"""The explanation without a model: a fixed text, filled in from the evidence.

It tells what was observed and nothing about causes. Names are untrusted, so each goes through
`plain`.
"""

from typing import Final

from watchkeep.schemas.alert import Alert, AlertState, Explanation, Incident
from watchkeep.schemas.entity import Entity
from watchkeep.schemas.text import clock_time, duration, plain
from watchkeep.schemas.window import Direction, Evidence

LINES_MAX: Final = 8


def alert_of(incident: Incident) -> Alert:
    """Write the alert of an incident's revision."""
    entity = Entity.from_key(incident.entity)
    return Alert(
        alert_id=incident.incident_id,
        revision=incident.revision,
        state=incident.state,
        pages=not incident.backlog,
        entity=incident.entity,
        cluster=entity.cluster,
        namespace=entity.namespace,
        title=plain(entity.title),
        onset_ms=incident.onset_ms,
        detected_ms=incident.detected_ms,
        at_ms=incident.at_ms,
        ended_ms=incident.ended_ms,
        duration_s=_duration_s(incident),
        strength=incident.strength,
        explanation=explain(incident),
        evidence=incident.evidence,
    )


def explain(incident: Incident) -> Explanation:
    """Tell what was observed, expected, since when, how strong, and in which signals."""
    title = plain(Entity.from_key(incident.entity).title)
    strongest, *others = incident.evidence
    if incident.state is AlertState.RESOLVED:
        summary = (
            f"{title} is back to normal after {duration(_duration_s(incident) or 0)}. "
            f"At its peak, {clock_time(strongest.peak_ms)}, {_name(strongest)} was "
            f"{_number(strongest.peak, strongest.unit)}, {_strength(strongest)}."
        )
    else:
        also = f"; {_signals(len(others))} more did too" if others else ""
        summary = (
            f"{title} is abnormal since {clock_time(incident.onset_ms)}: {_name(strongest)} "
            f"reached {_number(strongest.peak, strongest.unit)} where {_band(strongest)} was "
            f"expected, {_strength(strongest)}{also}."
        )
    lines = [_line(evidence) for evidence in incident.evidence[:LINES_MAX]]
    if len(incident.evidence) > LINES_MAX:
        lines.append(f"and in {_signals(len(incident.evidence) - LINES_MAX)} more")
    return Explanation(state="template", summary=summary, lines=tuple(lines))


def _duration_s(incident: Incident) -> float | None:
    if incident.ended_ms is None:
        return None
    return (incident.ended_ms - incident.onset_ms) / 1000


def _line(evidence: Evidence) -> str:
    return (
        f"{_name(evidence)}: now {_number(evidence.observed, evidence.unit)}, expected "
        f"{_band(evidence)}, peak {_number(evidence.peak, evidence.unit)} "
        f"({_strength(evidence)}), since {clock_time(evidence.since_ms)}, over "
        f"{evidence.members} member{'s' if evidence.members != 1 else ''}"
    )


def _name(evidence: Evidence) -> str:
    return plain(evidence.signal)


def _band(evidence: Evidence) -> str:
    low = max(evidence.low, 0.0) if evidence.observed >= 0 <= evidence.expected else evidence.low
    return f"{low:.4g} to {_number(evidence.high, evidence.unit)}"


def _number(value: float, unit: str) -> str:
    return f"{value:.4g} {unit}".rstrip()


def _strength(evidence: Evidence) -> str:
    side = "above" if evidence.direction is Direction.ABOVE else "below"
    return f"{abs(evidence.peak_score):.0f} standard deviations {side} the recent mean"


def _signals(count: int) -> str:
    return f"{count} signal{'s' if count != 1 else ''}"
