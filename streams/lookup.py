"""What people look up about what is watched: the reading side of `catalogue`."""

from collections.abc import Collection, Sequence
from typing import NamedTuple, Protocol

from watchkeep.streams.catalogue import DroppedRow, FeedRow, RefusalRow
from watchkeep.streams.stores import SignalRow


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
