"""The shop's frames through the shards' pipelines, and what comes out; no store is needed."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from watchkeep.schemas.frame import Frame, FrameKind, decode, shard_of
from watchkeep.schemas.settings import Detect
from watchkeep.schemas.window import Window
from watchkeep.shop.frames import frames
from watchkeep.shop.kinds import Kind, shipped
from watchkeep.shop.model import Shop
from watchkeep.streams.pipeline import Shard
from watchkeep.streams.stores import SignalRow

MINUTE_MS = 60_000
Sent = tuple[int, Frame]  # the shard, and what it gets


def kinds_of(*names: str, **changed: object) -> dict[str, Kind]:
    """Take shipped kinds, changed."""
    return {name: shipped()[name].model_copy(update=changed) for name in names}


def frames_of(shop: Shop, samples_max: int = 500, entity: str = "") -> Iterator[Sent]:
    """Decode the frames of shards that get samples, or of an entity's: others tell nothing."""
    busy = set()
    for record in frames(shop, samples_max):
        if record.samples and (not entity or record.shard == shard_of(entity)):
            busy.add(record.shard)
        if record.shard in busy:
            yield record.shard, decode(record.value)


def kept(frame: Frame, keep: npt.NDArray[np.bool_]) -> Frame:
    """Leave samples out of a frame."""
    return replace(
        frame,
        series_id=frame.series_id[keep],
        time_ms=frame.time_ms[keep],
        value=frame.value[keep],
    )


def without(sent: Iterable[Sent], entity: str, members: set[str], from_ms: int) -> Iterator[Sent]:
    """Leave out all that some members of an entity show from a time on."""
    gone: set[int] = set()
    for shard, frame in sent:
        gone |= {
            s.series_id for s in frame.label_sets if s.entity == entity and s.member in members
        }
        cut = np.isin(frame.series_id, np.array(sorted(gone), np.uint64))
        yield shard, kept(frame, ~cut | (frame.time_ms < from_ms))


@dataclass
class Told:
    """What shards told of the frames they were given.

    Attributes:
        values: by signal and begin of the cell.
        signals: by id, their names.
    """

    shards: dict[int, Shard] = field(default_factory=dict)
    windows: list[Window] = field(default_factory=list)
    values: dict[int, dict[int, float]] = field(default_factory=lambda: defaultdict(dict))
    signals: dict[int, SignalRow] = field(default_factory=dict)

    def apply(self, shard: int, frame: Frame) -> None:
        """Give a shard a frame."""
        outcome = self.shards.setdefault(shard, Shard(Detect())).apply(frame)
        self.windows += outcome.windows
        for rollups in outcome.rollups:
            self.signals |= {row.signal_id: row for row in rollups.signals}
            columns = (rollups.signal_id, rollups.at_ms, rollups.value)
            for signal_id, at_ms, value in zip(*(c.tolist() for c in columns), strict=True):
                assert at_ms not in self.values[signal_id], "a cell is told twice"
                self.values[signal_id][at_ms] = value

    def opened(self) -> list[Window]:
        """List the windows as they were told last."""
        return list({window.window_id: window for window in self.windows}.values())

    def seen(self, channel: str) -> list[tuple[str, str, str]]:
        """List entity, member and reason of all evidence of a channel."""
        return [
            (window.entity, evidence.member, evidence.reason)
            for window in self.windows
            for evidence in window.evidence
            if evidence.channel == channel
        ]

    def of(self, entity: str) -> dict[str, dict[int, float]]:
        """Give an entity's signals by title."""
        return {
            title(row): self.values[signal_id]
            for signal_id, row in self.signals.items()
            if row.entity == entity
        }

    def cells(self) -> dict[int, int]:
        """Tell how many cells the first channel has learnt of each signal."""
        return {
            int(signal_id): int(cells)
            for shard in self.shards.values()
            for cluster in shard.clusters.values()
            for signal_id, cells in zip(
                cluster.ids["id"], cluster.bank.dump()["spike/cells"], strict=False
            )
            if signal_id
        }

    def members(self) -> set[str]:
        """Name the members of all entities that are known now."""
        clusters = [c for shard in self.shards.values() for c in shard.clusters.values()]
        return {name for cluster in clusters for name in cluster.fold.roster.names}

    def drops(self) -> dict[str, int]:
        """Count the samples that were not folded, by reason."""
        return dict(sum((s.drops() for s in self.shards.values()), Shard(Detect()).drops()))


def title(row: SignalRow) -> str:
    """Write a signal's name with its folding."""
    labels = ",".join(f"{k}={v}" for k, v in sorted(row.labels.items()))
    return f"{row.folding}({row.metric}{{{labels}}})" if labels else f"{row.folding}({row.metric})"


def told(sent: Iterable[Sent]) -> Told:
    """Give frames to shards."""
    result = Told()
    for shard, frame in sent:
        result.apply(shard, frame)
    return result


def newest_ms(frame: Frame) -> int:
    """Tell how far a frame's senders have come."""
    return max(sender.newest_ms for sender in frame.senders)


def is_data(frame: Frame) -> bool:
    """Tell whether a frame holds samples."""
    return frame.kind is FrameKind.DATA
