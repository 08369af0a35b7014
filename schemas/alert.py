"""The incident and the alert that tells of it.

An incident is windows that belong together; an alert is what is published about it: always a full
record, with a growing revision, keyed by the incident's id.
"""

from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from watchkeep.schemas.errors import RecordError
from watchkeep.schemas.window import Evidence, Number

SCHEMA_VERSION: Literal[1] = 1


class AlertState(StrEnum):
    """Whether the incident goes on."""

    FIRING = "firing"
    RESOLVED = "resolved"


class Incident(BaseModel):
    """Windows that belong together, and how far the story has come.

    Attributes:
        revision: grows with every change; the alert of that revision carries the same number.
        windows: the highest revision seen of each window, by window id.
        open_windows: those that are not closed yet.
        evidence: of all windows, the strongest first.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    incident_id: str
    revision: int
    state: AlertState
    entity: str
    onset_ms: int
    detected_ms: int
    at_ms: int
    ended_ms: int | None
    backlog: bool
    strength: Number
    windows: dict[str, int]
    open_windows: tuple[str, ...]
    evidence: tuple[Evidence, ...]


class Explanation(BaseModel):
    """The words, and where they come from.

    Attributes:
        state: `template` when a fixed text was filled in from the evidence.
        summary: what was observed, in a sentence or two.
        lines: one line a signal, the strongest first.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    state: Literal["template"]
    summary: str
    lines: tuple[str, ...]


class Alert(BaseModel):
    """One revision of an alert: the record of the alerts topic.

    Attributes:
        alert_id: the incident's id.
        entity: the entity's key; `title` is how a person calls it.
        pages: whether a person is to be told; windows found in a backlog are only stored.
        onset_ms: when it began. `detected_ms`: when it was found.
        ended_ms: when it was last abnormal, once resolved. `duration_s`: from onset to then.
        strength: the strongest score so far.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = SCHEMA_VERSION
    alert_id: str
    revision: int = Field(ge=1)
    state: AlertState
    pages: bool
    entity: str
    cluster: str
    namespace: str
    title: str
    onset_ms: int
    detected_ms: int
    at_ms: int
    ended_ms: int | None
    duration_s: Number | None
    strength: Number
    explanation: Explanation
    evidence: tuple[Evidence, ...]


def decode(record: bytes) -> Alert:
    """Read a record of the alerts topic.

    Raises:
        RecordError: it doesn't follow the schema.
    """
    try:
        return Alert.model_validate_json(record)
    except ValidationError as error:
        first = error.errors()[0]
        raise RecordError(f"no alert: {first['loc']}: {first['msg']}") from error
