"""What people look up about what is watched: the reading side of `catalogue`."""

from collections.abc import Collection, Sequence
from typing import NamedTuple, Protocol

from watchkeep.streams.catalogue import DroppedRow, FeedRow, RefusalRow
from watchkeep.streams.stores import SignalRow, Trouble


def by_name(watched: "Watched") -> tuple[object, ...]:
    """Give the order in which signals are told."""
    signal = watched.signal
    return (signal.entity, signal.metric, sorted(signal.labels.items()), signal.folding)


class Count(NamedTuple):
    """What is watched of one entity.

    Attributes:
        page: signals that may page.
        series: those that feed signals; one that feeds two quantiles counts once.
        members: the most that any signal has.
        dropped: series that aren't watched.
    """

    entity: str
    signals: int
    page: int
    series: int
    members: int
    dropped: int


class LastCell(NamedTuple):
    """The last cell of a signal that was stored; see `stores.Rollups`. None where that has NaN.

    Attributes:
        alone: how rare it was to the channel that found it rarest.
    """

    at_ms: int
    value: float
    expected: float | None
    low: float | None
    high: float | None
    alone: float | None
    rarity: float | None
    threshold: float | None
    warmup: float


class Watched(NamedTuple):
    """A signal, what it is folded from, and what became of it last."""

    signal: SignalRow
    feed: FeedRow
    last: LastCell | None


class Heard(NamedTuple):
    """A sender, over all shards.

    Attributes:
        elected: the shards in which it is the one that is folded.
        shards: those that have heard it.
        told_ms: when detect told this last, by the store's clock.
    """

    cluster: str
    replica: str
    newest_ms: int
    heard_ms: int
    elected: int
    shards: int
    told_ms: int


class Warmth(NamedTuple):
    """How far the signals are that may page.

    Attributes:
        page: how many there are.
        asleep: those that were constant up to now.
        warm: those that could open a window.
        next_s: in how much time the next one will be warm; None where that can't be told.
    """

    page: int
    asleep: int
    warm: int
    next_s: int | None


class Alerting(NamedTuple):
    """What incidents has made of windows.

    Attributes:
        alerts: revisions of alerts, `unpublished` of them still to be written to the topic.
        last_ms: when the last one was written; None before the first.
    """

    incidents: int
    firing: int
    alerts: int
    unpublished: int
    last_ms: int | None


class Channel(NamedTuple):
    """How deliveries to a receiver went.

    Attributes:
        name: the receiver's, which tells no secret.
        works: the last one was sent; `error` says why it wasn't.
    """

    name: str
    sent: int
    failed: int
    works: bool
    error: str
    at_ms: int


class CatalogueStore(Protocol):
    """What is watched, for people who ask; signals that nothing feeds any more are left out."""

    async def counts(self) -> Sequence[Count]:
        """Count what is watched and what isn't, by entity, in the order of their keys."""
        ...

    async def watched(self, entities: Collection[str]) -> Sequence[Watched]:
        """Read the signals of entities, in the order of entity, metric, labels and folding."""
        ...

    async def dropped(self, entity: str) -> Sequence[DroppedRow]:
        """Read what isn't watched of an entity, most series first.

        Args:
            entity: its key; "" for what detect doesn't tell the entity of, as there is too much.
        """
        ...

    async def refusals(self) -> Sequence[RefusalRow]:
        """Read what was refused, most first."""
        ...

    async def senders(self) -> Sequence[Heard]:
        """Read who sends, in the order of cluster and replica."""
        ...

    async def newest_cell_ms(self) -> int | None:
        """Tell the begin of the newest cell that was stored; None before the first."""
        ...


class DoctorStore(CatalogueStore, Protocol):
    """What the doctor asks of the store."""

    async def warmth(self, cells: int) -> Warmth:
        """Count the signals that may page by how far they are.

        Args:
            cells: so many make a signal warm.
        """
        ...

    async def active(self) -> dict[str, str]:
        """Tell who holds which lease."""
        ...

    async def alerting(self) -> Alerting:
        """Count incidents and alerts."""
        ...

    async def channels(self) -> Sequence[Channel]:
        """Read how deliveries went, by receiver, in the order of their names."""
        ...

    async def troubles(self) -> Sequence[Trouble]:
        """Read what the operators are still to be told, oldest first."""
        ...
