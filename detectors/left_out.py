"""What isn't watched and why, and what limits have refused: named, counted, and bounded itself."""

from collections.abc import Iterable
from typing import Final, NamedTuple

from watchkeep.schemas.frame import LabelSet
from watchkeep.schemas.labels import METRIC_NAME, parse, text
from watchkeep.schemas.signal import Dropped

# So many kinds of dropped and refused series are told apart.
_NAMED_MAX: Final = 2_000
_SHOWN_MAX: Final = 300


class Unwatched(NamedTuple):
    """Series of one metric of an entity that are dropped for one reason."""

    entity: str
    metric: str
    reason: str
    why: str
    example: bytes


class Refused(NamedTuple):
    """How much a limit has refused for an entity, when last; `example` names one of it."""

    times: int
    example: str
    at_ms: int


class LeftOut:
    """What a roster leaves out.

    Attributes:
        unwatched: what is dropped; a series of entry i has the strand -2 - i.
        refused: by limit and entity.
    """

    def __init__(self) -> None:
        self.unwatched: list[Unwatched] = []
        self._at: dict[tuple[str, str, str], int] = {}
        self.refused: dict[tuple[str, str], Refused] = {}

    def drop(self, entry: LabelSet, metric: str, dropped: Dropped) -> int:
        """Note why a series is dropped; return its strand."""
        key = (entry.entity, metric, dropped.reason)
        if key not in self._at and len(self.unwatched) >= _NAMED_MAX:
            key = ("", "", dropped.reason)
        at = self._at.setdefault(key, len(self.unwatched))
        if at == len(self.unwatched):
            self.unwatched.append(Unwatched(*key, dropped.why, entry.labels))
        return -2 - at

    def refuse(self, limit: str, entity: str, example: str, at_ms: int, times: int = 1) -> None:
        """Count what is beyond a limit; the first of an entity is its example."""
        if (limit, entity) not in self.refused and len(self.refused) >= _NAMED_MAX:
            entity = ""
        known = self.refused.get((limit, entity), Refused(0, example, 0))
        self.refused[limit, entity] = Refused(known.times + times, known.example, at_ms)

    def recall(self, entries: Iterable[Unwatched]) -> None:
        """Take over what a snapshot says is dropped."""
        self.unwatched = list(entries)
        self._at = {entry[:3]: i for i, entry in enumerate(self.unwatched)}


def shown(form: bytes) -> str:
    """Write a label set as people do, and not without end."""
    labels = parse(form)
    name = labels.pop(METRIC_NAME, "")
    return (name + text(labels))[:_SHOWN_MAX]
