"""What the stages need from outside: a log, a store and a clock.

Live they are Kafka (`kafka.py`) and Postgres (`store.py`); in memory (`memory.py`) they serve tests
and anyone who embeds Watchkeep. The stages know only these.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from watchkeep.schemas.alert import Alert, Incident
from watchkeep.schemas.window import Window


@dataclass(slots=True)
class Record:
    """One record of a log.

    Attributes:
        value: its bytes; a reader that holds many records drops them by setting None.
        ack: tell the log that this record and all before it need not be delivered again. Acks are
            given in the order of the offsets.
    """

    topic: str
    partition: int
    offset: int
    value: bytes | None
    ack: Callable[[], None]


class Source(Protocol):
    """The partitions of one topic that this process owns."""

    def records(self) -> AsyncIterator[Record]:
        """Deliver records, each partition in the order of its offsets, at least once."""
        ...

    async def read(self, partition: int, offset: int) -> bytes | None:
        """Read one record by its place; None when the log doesn't hold it."""
        ...

    def when_revoked(self, callback: Callable[[set[int]], Awaitable[None]]) -> None:
        """Have a callback told which partitions go to another worker, before they go."""
        ...


class Sink(Protocol):
    """Where records are written to."""

    async def send(
        self,
        topic: str,
        value: bytes | None,
        *,
        partition: int = 0,
        key: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Write a record; returns only when the log has acknowledged it.

        Raises:
            LogError: it has not.
        """
        ...


class Clock(Protocol):
    """The time of day, in milliseconds since 1970."""

    def now_ms(self) -> int:
        """Tell the time."""
        ...


class Snapshot(NamedTuple):
    """The state of one partition of detect, and the place in the log that it covers.

    Attributes:
        applied_offset: the last record that the state holds.
        record_hash: xxh3-64 of that record, in hex: a log made anew has another there.
        settings: the version of the detection settings that made the state.
        state: the state's bytes.
    """

    partition: int
    applied_offset: int
    record_hash: str
    settings: str
    state: bytes


class SignalRow(NamedTuple):
    """A signal's name, for whoever reads rollups."""

    signal_id: int
    entity: str
    metric: str
    labels: Mapping[str, str]
    unit: str


@dataclass(frozen=True, slots=True)
class Rollups:
    """Closed cells, as columns of equal length.

    Attributes:
        at_ms: int64, the begin of the cell.
        signal_id: uint64.
        value: float64, the signal in the cell.
        members: int32, members it is folded over.
        expected, spread: float64, the baseline before this cell; NaN while it has none.
        score: float64, the strongest channel's score; NaN while it can't be scored.
        threshold: float64, what the score has to pass.
        warmup: float64, from 0 (new) to 1 (may open windows).
        signals: the names of signals that are new since the last rollups.
    """

    step_s: int
    channel: str
    at_ms: npt.NDArray[np.int64]
    signal_id: npt.NDArray[np.uint64]
    value: npt.NDArray[np.float64]
    members: npt.NDArray[np.int32]
    expected: npt.NDArray[np.float64]
    spread: npt.NDArray[np.float64]
    score: npt.NDArray[np.float64]
    threshold: npt.NDArray[np.float64]
    warmup: npt.NDArray[np.float64]
    signals: tuple[SignalRow, ...] = ()


class Delivery(NamedTuple):
    """One line of the delivery log.

    Attributes:
        channel: the receiver's name; never its URL, which holds secrets.
        reason: why it was sent: `new` or `resolved`.
        outcome: `sent` or `failed`.
        error: what the last attempt said, empty when it was sent.
    """

    alert_id: str
    revision: int
    channel: str
    reason: str
    outcome: str
    attempts: int
    error: str


class Lease(NamedTuple):
    """The right to be the active one.

    Attributes:
        token: grows each time the lease changes hands; writes are fenced by it.
    """

    name: str
    holder: str
    token: int


class DetectStore(Protocol):
    """What detect keeps."""

    async def load_snapshot(self, partition: int) -> Snapshot | None:
        """Read a partition's last snapshot."""
        ...

    async def save_snapshots(self, snapshots: Sequence[Snapshot]) -> None:
        """Keep snapshots, all or none."""
        ...

    async def write_rollups(self, batches: Sequence[Rollups]) -> None:
        """Write closed cells; the same cell again overwrites."""
        ...


class IncidentStore(Protocol):
    """What incidents keeps."""

    async def window_revision(self, window_id: str) -> int:
        """Tell the highest revision taken of a window; 0 for none."""
        ...

    async def incident_of(self, entity: str) -> Incident | None:
        """Read the entity's open incident."""
        ...

    async def record(self, lease: Lease, window: Window, incident: Incident, alert: Alert) -> None:
        """Keep a window's revision, its incident and the alert to publish, in one transaction.

        Raises:
            LeaseLostError: the lease is another process's by now; nothing was kept.
        """
        ...

    async def unpublished(self) -> Sequence[Alert]:
        """Read the outbox: alerts that the topic doesn't have yet, oldest first."""
        ...

    async def published(self, alerts: Sequence[Alert]) -> None:
        """Take alerts out of the outbox."""
        ...

    async def save_progress(self, log_time_ms: Mapping[int, int]) -> None:
        """Keep how far detect has come, by shard."""
        ...


class NotifyStore(Protocol):
    """What notify keeps."""

    async def deliveries(self, alert_id: str) -> Sequence[Delivery]:
        """Read what was sent about an alert, oldest first."""
        ...

    async def log_delivery(self, delivery: Delivery) -> None:
        """Keep the outcome of a send."""
        ...


class LeaseStore(Protocol):
    """Who is active."""

    async def acquire_lease(self, name: str, holder: str, ttl_s: float) -> Lease | None:
        """Take a lease that is free or has run out, or take one's own again; None otherwise."""
        ...

    async def renew_lease(self, lease: Lease, ttl_s: float) -> bool:
        """Hold it longer; False when another process has it."""
        ...

    async def release_lease(self, lease: Lease) -> None:
        """Give it back, so that the standby needn't wait."""
        ...


Handler = Callable[[Source], Awaitable[None]]
