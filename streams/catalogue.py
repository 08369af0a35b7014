"""What is watched, and what isn't and why: detect tells it now and then, people look it up."""

from typing import NamedTuple


class FeedRow(NamedTuple):
    """What a signal is folded from now.

    Attributes:
        series: how many feed it.
        asleep: they were constant up to now, so that it isn't scored.
        value, at_ms: its last cell; None and 0 before the first.
        folded: the labels that are folded away.
        example: one of the series, as people write it.
    """

    signal_id: int
    series: int
    members: int
    asleep: bool
    value: float | None
    at_ms: int
    folded: tuple[str, ...]
    example: str


class DroppedRow(NamedTuple):
    """Series of an entity that aren't watched; see `schemas.signal.Dropped`.

    Attributes:
        entity, metric: empty when there is too much to tell it of each.
    """

    entity: str
    metric: str
    reason: str
    why: str
    series: int
    example: str


class RefusalRow(NamedTuple):
    """What a limit has refused, or a reason for which samples are dropped.

    Attributes:
        entity: empty when it isn't about one.
        limit: the limit's setting in `detect`, or the reason.
        what: for example, which member, metric or sender.
        at_ms: the last time.
    """

    entity: str
    limit: str
    count: int  # type: ignore[assignment]  # It hides a tuple's count, which nobody needs here.
    what: str
    at_ms: int


class SenderRow(NamedTuple):
    """How far a sender has come in a shard, and whether it is the one of its pair that counts."""

    cluster: str
    replica: str
    newest_ms: int
    heard_ms: int
    elected: bool


class Catalogue(NamedTuple):
    """What a shard watches, and what it doesn't: all of it, as of now."""

    shard: int
    feeds: tuple[FeedRow, ...] = ()
    dropped: tuple[DroppedRow, ...] = ()
    refusals: tuple[RefusalRow, ...] = ()
    senders: tuple[SenderRow, ...] = ()
