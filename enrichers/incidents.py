"""Incidents: windows that belong together.

Provisional: the windows of one entity are one incident, which is resolved when all are closed.
"""

from collections.abc import Iterable

from watchkeep.schemas.alert import AlertState, Incident
from watchkeep.schemas.window import EVIDENCE_MAX, Evidence, Window, WindowState


def advance(incident: Incident | None, window: Window) -> Incident:
    """Take a window's revision into its entity's incident.

    Args:
        incident: the entity's firing incident; None opens a new one.
        window: a revision that was not taken before.
    """
    if incident is None:
        incident = _begun(window)
    others = tuple(name for name in incident.open_windows if name != window.window_id)
    closed = window.state is WindowState.CLOSED
    still_open = others if closed else (*others, window.window_id)
    resolved = not still_open
    return incident.model_copy(
        update={
            "revision": incident.revision + 1,
            "state": AlertState.RESOLVED if resolved else AlertState.FIRING,
            "onset_ms": min(incident.onset_ms, window.onset_ms),
            "at_ms": max(incident.at_ms, window.at_ms),
            "ended_ms": window.ended_ms if resolved else None,
            "backlog": incident.backlog and window.backlog,
            "strength": max(incident.strength, window.strength),
            "windows": incident.windows | {window.window_id: window.revision},
            "open_windows": still_open,
            "evidence": merged(incident.evidence, window.evidence),
        }
    )


def _begun(window: Window) -> Incident:
    return Incident(
        incident_id=window.window_id,
        revision=0,
        state=AlertState.FIRING,
        entity=window.entity,
        onset_ms=window.onset_ms,
        detected_ms=window.detected_ms,
        at_ms=window.at_ms,
        ended_ms=None,
        backlog=window.backlog,
        strength=window.strength,
        windows={},
        open_windows=(),
        evidence=(),
    )


def merged(known: Iterable[Evidence], new: Iterable[Evidence]) -> tuple[Evidence, ...]:
    """Merge evidence by signal and channel: latest observation, earliest begin, highest peak.

    Returns:
        At most `EVIDENCE_MAX` signals, the strongest first.
    """
    by_name = {(evidence.signal, evidence.channel): evidence for evidence in known}
    for evidence in new:
        name = (evidence.signal, evidence.channel)
        before = by_name.get(name, evidence)
        highest = max(before, evidence, key=lambda e: abs(e.peak_score))
        by_name[name] = evidence.model_copy(
            update={
                "since_ms": min(before.since_ms, evidence.since_ms),
                "peak": highest.peak,
                "peak_ms": highest.peak_ms,
                "peak_score": highest.peak_score,
                "direction": highest.direction,
                "member": highest.member,
            }
        )
    ordered = sorted(by_name.values(), key=lambda e: (-abs(e.peak_score), e.signal, e.channel))
    return tuple(ordered[:EVIDENCE_MAX])
