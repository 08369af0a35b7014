"""The explanation without a model: a fixed text, filled in from the evidence.

It tells what was observed and nothing about causes. Names are untrusted, so each goes through
`plain`.
"""

from collections.abc import Sequence
from typing import Final

from watchkeep.schemas.alert import Alert, AlertState, Explanation, Incident
from watchkeep.schemas.entity import Entity
from watchkeep.schemas.text import clock_time, duration, how_often, plain
from watchkeep.schemas.window import Evidence, known_ms

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
    # That somebody is missing says more than how unusual the count is.
    seen = sorted(_told_once(incident.evidence), key=lambda evidence: not evidence.reason)
    strongest, *others = seen
    if incident.state is AlertState.RESOLVED:
        summary = (
            f"{title} is back to normal after {duration(_duration_s(incident) or 0)}. "
            f"At its peak, {clock_time(strongest.peak_ms)}, {_peak(strongest)}."
        )
    else:
        also = f"; {_signals(len(others))} more {_do(len(others))} unusual too" if others else ""
        since = clock_time(incident.onset_ms)
        summary = f"{title} is abnormal since {since}: {finding(strongest)}{also}."
        if others and incident.strength > strongest.peak_score:
            summary += f" Together that is {how_often(incident.strength, known_ms(seen))}."
    over = incident.state is AlertState.RESOLVED
    lines = [_line(evidence, over=over) for evidence in seen[:LINES_MAX]]
    if len(seen) > LINES_MAX:
        lines.append(f"and in {_signals(len(seen) - LINES_MAX)} more")
    return Explanation(state="template", summary=summary, lines=tuple(lines))


def _told_once(evidence: Sequence[Evidence]) -> list[Evidence]:
    """Leave out the bare counts of members whose absence is told in words."""
    absent = {each.signal for each in evidence if each.reason}
    return [each for each in evidence if each.reason or each.signal not in absent]


def _duration_s(incident: Incident) -> float | None:
    if incident.ended_ms is None:
        return None
    return (incident.ended_ms - incident.onset_ms) / 1000


def finding(evidence: Evidence) -> str:
    """Tell what is wrong, at its worst so far."""
    if evidence.reason:
        return _missing(evidence, evidence.peak)
    if evidence.member:
        return _unlike(evidence, evidence.peak, evidence.expected)
    if evidence.channel == "river":  # What it finds odd may lie between values that aren't.
        return (
            f"{_name(evidence)} showed {_number(evidence.peak, evidence.unit)}, which the River "
            f"model finds odd, {_strength(evidence)}; mostly it was {_band(evidence)}"
        )
    # What was looked at is the mean of an hour.
    reached = "averaged" if evidence.channel == "hour" else "reached"
    return (
        f"{_name(evidence)} {reached} {_number(evidence.peak, evidence.unit)} where "
        f"{_band(evidence)} was expected, {_strength(evidence)}"
    )


def _peak(evidence: Evidence) -> str:
    """Tell what was wrong, now that it is over."""
    if evidence.reason:
        return _missing(evidence, evidence.peak, "were")
    if evidence.member:
        return _unlike(evidence, evidence.peak, None)
    was = _number(evidence.peak, evidence.unit)
    return f"{_name(evidence)} was {was}, {_strength(evidence)}"


def _line(evidence: Evidence, *, over: bool) -> str:
    since = f"since {clock_time(evidence.since_ms)}"
    if over and (evidence.reason or evidence.member):
        return f"{_peak(evidence)}, {since}"
    if evidence.reason:
        return f"{_missing(evidence, evidence.observed)}, {since}"
    if evidence.member:
        peak = _number(evidence.peak, evidence.unit)
        unlike = _unlike(evidence, evidence.observed, evidence.expected)
        return f"{unlike}, peak {peak}, {since}"
    return (
        f"{_name(evidence)}: now {_number(evidence.observed, evidence.unit)}, "
        f"{'mostly' if evidence.channel == 'river' else 'expected'} "
        f"{_band(evidence)}, peak {_number(evidence.peak, evidence.unit)} "
        f"({_strength(evidence)}), {since}, over "
        f"{evidence.members} member{'s' if evidence.members != 1 else ''}"
    )


def _missing(evidence: Evidence, present: float, are: str = "are") -> str:
    if evidence.unit == "s":
        return f"{plain(evidence.reason)}, for {duration(present)}"
    return f"{present:.0f} of {evidence.expected:.0f} members {are} there: {plain(evidence.reason)}"


def _unlike(evidence: Evidence, shown: float, usual: float | None) -> str:
    """Tell of one that differs from the others; one that was ill is told of without them."""
    others = evidence.members - 1
    siblings = f"its {others} siblings" if others != 1 else "its sibling"
    name, member = _name(evidence), plain(evidence.member)
    if usual is None:
        value = _number(shown, evidence.unit)
        return f"{member} was unlike {siblings} in {name}: {value}"
    return (
        f"{member} is unlike {siblings} in {name}: {_number(shown, evidence.unit)} "
        f"where they show {_number(usual, evidence.unit)}"
    )


def _name(evidence: Evidence) -> str:
    return plain(evidence.signal)


def _band(evidence: Evidence) -> str:
    low = max(evidence.low, 0.0) if evidence.observed >= 0 <= evidence.expected else evidence.low
    return f"{low:.4g} to {_number(evidence.high, evidence.unit)}"


def _number(value: float, unit: str) -> str:
    return f"{value:.4g} {unit}".rstrip()


def _strength(evidence: Evidence) -> str:
    return how_often(evidence.peak_score, evidence.known_ms)


def _do(count: int) -> str:
    return "is" if count == 1 else "are"


def _signals(count: int) -> str:
    return f"{count} signal{'s' if count != 1 else ''}"
