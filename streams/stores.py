"""What the stages need kept: each sees its own part of the store.

Live it is PostgreSQL (`store/`); in memory (`memory_store.py`) it serves tests and anyone who
embeds Watchkeep.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from watchkeep.schemas.alert import Alert, Incident
from watchkeep.schemas.window import Window
from watchkeep.streams.catalogue import Catalogue
from watchkeep.streams.ports import Place, Step


class Snapshot(NamedTuple):
    """The state of one partition of detect, and the place in the log that it covers.

    Attributes:
        token: the right to write it; see `Claim`.
        before: the applied offset of the snapshot that this one replaces, -1 for the first.
        settings: the version of the detection settings that made the state.
        manifest: the digests of all its blocks.
        blocks: by number, those that differ from the snapshot before.
    """

    partition: int
    token: int
    before: int
    place: Place
    settings: str
    manifest: bytes
    blocks: Mapping[int, bytes]


class Write(NamedTuple):
    """One write of rollups, so that the store can tell whether it has those before.

    Attributes:
        writer: the process, by a name that no other ever has.
        number: from 1; a write that failed is tried again with the same.
    """

    writer: str
    number: int


class Claim(NamedTuple):
    """The right to write a partition's snapshots, and what the last one was.

    Attributes:
        token: one more than that of the claim before. Writes with an older one are refused.
        unsaved: claims in a row without a snapshot between them, this one included.
        place, settings, manifest: of the last snapshot; its blocks are loaded on their own.
    """

    token: int
    unsaved: int
    place: Place
    settings: str
    manifest: bytes


class Attempts(NamedTuple):
    """How often in a row a stage has died of one record, as far as it is known."""

    place: Place
    deaths: int


class Trouble(NamedTuple):
    """Something about Watchkeep itself that its operators must know; told once by its name."""

    name: str
    title: str
    text: str


class SignalRow(NamedTuple):
    """A signal's name, for whoever reads rollups.

    Attributes:
        folding, role, why: what `schemas.signal` says of it.
        step_s: the width of its cells.
    """

    signal_id: int
    entity: str
    metric: str
    labels: Mapping[str, str]
    unit: str
    folding: str = "mean"
    role: str = "evidence"
    why: str = ""
    step_s: int = 60


# The channels whose rarities rollups tell; the last is there if it is set.
CHANNELS: Final = ("spike", "envelope", "hour", "member", "river")


@dataclass(frozen=True, slots=True)
class Rollups:
    """Closed cells, as columns of equal length.

    Attributes:
        at_ms: int64, the begin of the cell.
        signal_id: uint64.
        value: float64, the signal in the cell.
        members: int32, members it is folded over.
        expected: float64, what was expected of this cell; `low`, `high`: the band around it that
            is left less than ten times a week. NaN while that isn't known.
        rarity: float64, how rare the cell was for the signal's entity; NaN while that isn't known.
        threshold: float64, the rarity from which on the entity's window opens.
        warmup: float64, from 0 (new) to 1 (may open windows).
        channels: by each of `CHANNELS`, float64, how rare the signal was to it; NaN where it
            didn't look.
        signals: the names of signals that are new since the last rollups.
    """

    step_s: int
    at_ms: npt.NDArray[np.int64]
    signal_id: npt.NDArray[np.uint64]
    value: npt.NDArray[np.float64]
    members: npt.NDArray[np.int32]
    expected: npt.NDArray[np.float64]
    low: npt.NDArray[np.float64]
    high: npt.NDArray[np.float64]
    rarity: npt.NDArray[np.float64]
    threshold: npt.NDArray[np.float64]
    warmup: npt.NDArray[np.float64]
    channels: Mapping[str, npt.NDArray[np.float64]]
    signals: tuple[SignalRow, ...] = ()

    @property
    def nbytes(self) -> int:
        """Tell about how much memory it takes."""
        return 60 * len(self.at_ms) + 500 * len(self.signals)


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


class TroubleStore(Protocol):
    """What every stage that reads a log keeps of records that end it."""

    async def attempts(self, stage: str, partitions: Collection[int]) -> dict[int, Attempts]:
        """Read, at a start, which record the stage has died of in each partition, and how often.

        The record that was noted last, and not called calm, is taken for the one.
        """
        ...

    async def note_attempt(self, stage: str, partition: int, place: Place) -> None:
        """Note that the stage is about to try a record, or is about to die of it."""
        ...

    async def calm(self, stage: str, partition: int) -> None:
        """Note that no record is being tried that the stage may die of."""
        ...

    async def report(self, trouble: Trouble) -> None:
        """Have the operators told; the same name again changes nothing."""
        ...


class DetectStore(TroubleStore, Protocol):
    """What detect keeps.

    Every method raises StoreError when the database can't be reached; nothing was kept then, or
    the same call again does no harm.
    """

    async def claim(self, partitions: Collection[int]) -> dict[int, Claim]:
        """Take the right to write partitions' snapshots from whoever has it."""
        ...

    async def load_blocks(self, partition: int) -> Mapping[int, bytes]:
        """Read the blocks of a partition's last snapshot."""
        ...

    async def save_snapshots(self, snapshots: Sequence[Snapshot]) -> set[int]:
        """Keep snapshots in one transaction.

        Returns:
            The partitions whose snapshot was refused: another worker has claimed them, or the last
            snapshot is not the one that this replaces.
        """
        ...

    async def write_rollups(self, batches: Sequence[Rollups], write: Write) -> None:
        """Write closed cells; the same cell again overwrites.

        Raises:
            StoreAnewError: the write before this one is not there; nothing was kept.
        """
        ...

    async def write_catalogue(self, catalogues: Sequence[Catalogue]) -> None:
        """Replace what is known of shards, in one transaction."""
        ...


class PlaceStore(TroubleStore, Protocol):
    """How far a stage has come that reads one partition, and whose lease it holds."""

    async def place(self, stage: str) -> Place:
        """Read how far the stage has come."""
        ...

    async def advance(self, lease: Lease, step: Step) -> None:
        """Move the place of the lease's stage.

        Raises:
            LeaseLostError: the lease is another process's, or the place isn't where the
                step begins.
        """
        ...


class IncidentStore(PlaceStore, Protocol):
    """What incidents keeps. What is written with a place moves the stage there, all or nothing."""

    async def window_revision(self, window_id: str) -> int:
        """Tell the highest revision taken of a window; 0 for none."""
        ...

    async def incident_of(self, entity: str) -> Incident | None:
        """Read the entity's open incident."""
        ...

    async def open_windows(self) -> Sequence[Window]:
        """Read the last revision of each window that is open, oldest first."""
        ...

    async def record(
        self,
        lease: Lease,
        step: Step,
        told: tuple[Window, Incident, Alert],
    ) -> None:
        """Keep a window's revision, its incident and the alert to publish.

        Raises:
            LeaseLostError: see `advance`; nothing was kept.
        """
        ...

    async def unpublished(self) -> Sequence[Alert]:
        """Read the outbox: alerts that the topic doesn't have yet, oldest first."""
        ...

    async def published(self, alerts: Sequence[Alert]) -> None:
        """Take alerts out of the outbox."""
        ...

    async def changed_since(self, seconds: float) -> Sequence[Incident]:
        """Read the incidents that have changed in so many seconds, or are still open."""
        ...

    async def republish(self, lease: Lease, told: Sequence[tuple[Incident, Alert]]) -> None:
        """Keep incidents with the alerts to publish for them once more.

        Raises:
            LeaseLostError: the lease is another process's by now; nothing was kept.
        """
        ...

    async def save_progress(self, lease: Lease, step: Step, log_time_ms: Mapping[int, int]) -> None:
        """Keep how far detect has come, by shard.

        Raises:
            LeaseLostError: see `advance`; nothing was kept.
        """
        ...


class NotifyStore(PlaceStore, Protocol):
    """What notify keeps."""

    async def deliveries(self, lease: Lease, alert_id: str) -> Sequence[Delivery]:
        """Read what was sent about an alert, oldest first.

        Raises:
            LeaseLostError: the lease is another process's by now: nothing may be sent.
        """
        ...

    async def log_delivery(self, delivery: Delivery) -> None:
        """Keep the outcome of a send."""
        ...

    async def troubles(self) -> Sequence[Trouble]:
        """Read what the operators are still to be told, oldest first."""
        ...

    async def told(self, troubles: Sequence[Trouble]) -> None:
        """Take note that the operators were told."""
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
