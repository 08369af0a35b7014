"""The window: an abnormal stretch of one entity with its evidence, published as revisions."""

from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated, Final, Literal

import xxhash
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from watchkeep.schemas.errors import RecordError


def _six_digits(value: float) -> float:
    """Round to 6 significant digits: numpy's last bits differ between kinds of machine."""
    return float(f"{value:.6g}")


Number = Annotated[float, AfterValidator(_six_digits)]


# What a revision shows at most, the strongest first: a record has to fit into the log.
EVIDENCE_MAX: Final = 50


class WindowState(StrEnum):
    """Whether the entity is still abnormal."""

    OPEN = "open"
    CLOSED = "closed"


class Direction(StrEnum):
    """Which way a signal left its expected band."""

    ABOVE = "above"
    BELOW = "below"


class Evidence(BaseModel):
    """What one signal showed.

    Attributes:
        signal: its metric and kept labels, as in PromQL.
        observed: the value in the cell that this revision is about.
        expected: the baseline's mean at that time.
        low, high: the expected band.
        score: the strength in the channel's own unit; `threshold` is what it had to pass.
        since_ms: the begin of the signal's first abnormal cell in this window.
        peak: the observed value farthest from what was expected, at `peak_ms`.
        peak_score: the score there.
        members: how many members the value is folded over.
        member: the one that it is about; empty if it is about all.
        reason: what is wrong in words, where the number alone doesn't tell.
        known_ms: for how long the signal has been known; 0 if that isn't.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    signal: str
    metric: str
    labels: dict[str, str]
    unit: str
    channel: str
    direction: Direction
    observed: Number
    expected: Number
    low: Number
    high: Number
    score: Number
    threshold: Number
    since_ms: int
    peak: Number
    peak_ms: int
    peak_score: Number
    members: int
    member: str = ""
    reason: str = ""
    known_ms: int = 0


def known_ms(evidence: Iterable[Evidence]) -> int:
    """Tell for how long that is known of evidence which is known longest."""
    return max((each.known_ms for each in evidence), default=0)


class Window(BaseModel):
    """One revision of a window; readers keep the highest and take each (id, revision) once.

    Attributes:
        onset_ms: the begin of the first abnormal cell.
        detected_ms: the end of the cell that opened it.
        at_ms: the end of the cell that this revision is about.
        ended_ms: the end of the last abnormal cell, once the window is closed.
        settings: the version of the detection settings at onset.
        backlog: it was found in data more than ten minutes late; stored, never paged.
        strength: the strongest score of any signal so far.
        evidence: strongest signal first.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: Literal["window"] = "window"
    window_id: str
    revision: int = Field(ge=1)
    state: WindowState
    entity: str
    onset_ms: int
    detected_ms: int
    at_ms: int
    ended_ms: int | None
    settings: str
    backlog: bool
    strength: Number
    evidence: tuple[Evidence, ...]


class Progress(BaseModel):
    """How far detect has come: log time by shard. Written beside the windows."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: Literal["progress"] = "progress"
    log_time_ms: dict[int, int]


class ColdStart(BaseModel):
    """A shard's state was lost: nobody will close the windows that it had open."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: Literal["cold_start"] = "cold_start"
    shard: int


Anomaly = Window | Progress | ColdStart


def window_id(entity: str, onset_ms: int, settings: str) -> str:
    """Name a window so that the same log yields the same name."""
    return xxhash.xxh3_64_hexdigest(f"{entity}\n{onset_ms}\n{settings}".encode())


class _Anomaly(BaseModel):
    record: Annotated[Anomaly, Field(discriminator="type")]


def decode(record: bytes) -> Anomaly:
    """Read a record of the anomalies topic.

    Raises:
        RecordError: it follows none of the schemas.
    """
    try:
        return _Anomaly.model_validate_json(b'{"record":' + record + b"}").record
    except ValidationError as error:
        raise RecordError(f"no window: {error.errors()[0]['msg']}") from error
