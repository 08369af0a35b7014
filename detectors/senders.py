"""Senders: each is an entity of its own, so that a lost Prometheus is one page.

It goes by tick time, as the cells of a cluster stand still while nobody sends. Every shard hears of
every sender; the one that the sender's entity belongs to tells of it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from watchkeep.detectors.logtime import LogTime
from watchkeep.schemas.entity import Entity, EntityKind
from watchkeep.schemas.frame import SenderTime, shard_of
from watchkeep.schemas.settings import Detect
from watchkeep.schemas.window import Direction, Evidence, Window, WindowState, window_id

_SILENT_MS: Final = 180_000
_REVISION_MS: Final = 600_000
# Who is silent for a day was switched off.
_FORGOTTEN_MS: Final = 86_400_000
_LOOK_MS: Final = 10_000
_SIGNAL: Final = "watchkeep_sender_silence_seconds"
# Where that is among what is rare: no question of how often.
_RARITY: Final = 3.0
_REASON: Final = "nothing comes from it any more"
_UNNAMED: Final = "prometheus"

Name = tuple[str, str]


@dataclass(slots=True)
class Silent:
    """The open window of a sender.

    Attributes:
        since_ms: when it was heard last.
        told_ms: the time of the last revision.
    """

    since_ms: int
    detected_ms: int
    revision: int = 0
    told_ms: int = 0


class Senders:
    """The senders that one shard tells of.

    Attributes:
        silent: by (cluster, replica).
        looked: when it was looked last, in units of ten seconds of tick time.
    """

    def __init__(self, settings: Detect, shard: int) -> None:
        self._settings = settings
        self._shard = shard
        self.silent: dict[Name, Silent] = {}
        self.looked = 0

    def look(self, time: LogTime) -> list[Window]:
        """Find who has fallen silent, and who is back; return the revisions to tell."""
        if time.tick_ms // _LOOK_MS == self.looked:
            return []
        self.looked = time.tick_ms // _LOOK_MS
        told: list[Window] = []
        for name, sender in list(time.senders.items()):
            silent_ms = time.tick_ms - sender.heard_ms
            if silent_ms > _FORGOTTEN_MS:
                del time.senders[name]
            if shard_of(_entity(sender)) == self._shard:
                told += self._tell(name, sender, time.tick_ms, silent_ms)
        return told

    def _tell(
        self, name: Name, sender: SenderTime, tick_ms: int, silent_ms: int
    ) -> Iterable[Window]:
        window = self.silent.get(name)
        if silent_ms <= _SILENT_MS or silent_ms > _FORGOTTEN_MS:
            if window is not None:
                del self.silent[name]
                yield self._revision(sender, window, tick_ms, WindowState.CLOSED)
            return
        if window is None:
            window = self.silent[name] = Silent(sender.heard_ms, tick_ms)
        if not window.revision or tick_ms - window.told_ms >= _REVISION_MS:
            yield self._revision(sender, window, tick_ms, WindowState.OPEN)

    def _revision(
        self, sender: SenderTime, window: Silent, tick_ms: int, state: WindowState
    ) -> Window:
        entity = _entity(sender)
        window.revision += 1
        window.told_ms = tick_ms
        closed = state is WindowState.CLOSED
        silent_s = (tick_ms - window.since_ms) / 1000
        evidence = Evidence(
            signal=_SIGNAL,
            metric=_SIGNAL,
            labels={},
            unit="s",
            channel="absence",
            direction=Direction.ABOVE,
            observed=0.0 if closed else silent_s,
            expected=0.0,
            low=0.0,
            high=_SILENT_MS / 1000,
            score=0.0 if closed else _RARITY,
            threshold=self._settings.opens_at(entity),
            since_ms=window.since_ms,
            peak=silent_s,
            peak_ms=tick_ms,
            peak_score=_RARITY,
            members=0,
            reason=_REASON,
        )
        return Window(
            window_id=window_id(entity, window.since_ms, self._settings.version),
            revision=window.revision,
            state=state,
            entity=entity,
            onset_ms=window.since_ms,
            detected_ms=window.detected_ms,
            at_ms=tick_ms,
            ended_ms=tick_ms if closed else None,
            settings=self._settings.version,
            backlog=False,
            strength=_RARITY,
            evidence=(evidence,),
        )

    def dump(self) -> dict[str, Any]:
        """Give the state, for a snapshot."""
        fields = [
            [*name, w.since_ms, w.detected_ms, w.revision, w.told_ms]
            for name, w in self.silent.items()
        ]
        return {"looked": self.looked, "silent": fields}

    def restore(self, state: dict[str, Any]) -> None:
        """Take over the state of a snapshot."""
        self.looked = state["looked"]
        self.silent = {(cluster, name): Silent(*rest) for cluster, name, *rest in state["silent"]}


def _entity(sender: SenderTime) -> str:
    return Entity(EntityKind.SENDER, sender.cluster, "", sender.replica or _UNNAMED).key
