"""The series that a gateway knows: what its label sets mean, by slot.

All of it can be forgotten at any time: it saves work, and label sets in the log. A label set that
is refused is known as such, so that it is looked at once.
"""

import json
from collections import defaultdict
from collections.abc import Iterable
from typing import Final

import numpy as np
import numpy.typing as npt
from google.protobuf.message import DecodeError

from watchkeep.schemas.entity import EntityRules
from watchkeep.schemas.frame import LabelSet, MetricKind, shard_of
from watchkeep.schemas.labels import METRIC_NAME, canonical, series_id
from watchkeep.schemas.remote_write_pb2 import TimeSeries
from watchkeep.schemas.settings import Gateway
from watchkeep.streams.metric_kinds import MetricKinds
from watchkeep.streams.relabel import Relabel
from watchkeep.streams.wire import LIMITS

Ints = npt.NDArray[np.int64]
Sender = tuple[str, str]

NEVER: Final = np.iinfo(np.int64).min // 2
_REPLICA_MAX: Final = 256
# A label that differs from series to series isn't the name of a cluster.
_SENDERS_MAX: Final = 1_000
# A tick names all of them, and must fit into a record.
_SENDER_BYTES_MAX: Final = 512 * 1024
_FIRST: Final = 1_024
# What a series is refused for; 0 is nothing.
FINE: Final = 0
DROPPED: Final = "dropped by a rule"
TOO_LARGE: Final = f"labels of more than {LIMITS.label_bytes} bytes"


class _RefusedError(Exception):
    """A label set that can't be taken; the message is one of few."""


class KnownSeries:
    """What is known of each slot.

    Attributes:
        series_id: uint64, by slot.
        place: uint16, by slot: the number of its shard and sender; what is of one place goes into
            one frame.
        refused: uint8, by slot: why it is refused, the number of one of `reasons`.
        sent_ms: int64, by slot: when the log was last told its label set.
        seen_ms: int64, by slot: when it last had a sample.
        kind: uint8, by slot, its MetricKind.
        labels: what the log is told of it; None for refused ones.
        places: by number, the shard and the sender.
        reasons: by number.
    """

    def __init__(self, settings: Gateway, rules: EntityRules) -> None:
        self._settings = settings
        self._rules = rules
        self._relabel = Relabel(settings.relabel)
        self.kinds = MetricKinds()
        self.places: list[tuple[int, Sender]] = []
        self.reasons: list[str] = [""]
        self._place_numbers: dict[tuple[int, Sender], int] = {}
        self._senders: set[Sender] = set()
        self._sender_bytes = 0
        self.labels: list[LabelSet | None] = []
        self.series_id = np.zeros(_FIRST, np.uint64)
        self.place = np.zeros(_FIRST, np.uint16)
        self.refused = np.zeros(_FIRST, np.uint8)
        self.sent_ms = np.full(_FIRST, NEVER, np.int64)
        self.seen_ms = np.full(_FIRST, NEVER, np.int64)
        self.kind = np.zeros(_FIRST, np.uint8)
        self._by_metric: dict[str, list[int]] = defaultdict(list)

    def __len__(self) -> int:
        """Count the slots."""
        return len(self.labels)

    def learn(self, slot: int, text: bytes) -> None:
        """Take in a label set that has the next slot.

        Args:
            slot: it.
            text: the label set, as fields of version 1.0; untrusted.
        """
        assert slot == len(self.labels)
        if slot >= len(self.place):
            self._grow()
        try:
            labels, sender = self._read(text)
        except _RefusedError as error:
            self.labels.append(None)
            self.refused[slot] = self._reason(str(error))
            return
        self.labels.append(labels)
        self.refused[slot] = FINE
        self.series_id[slot], self.kind[slot] = labels.series_id, labels.kind
        self.place[slot] = self._place_number((shard_of(labels.entity), sender))
        self.sent_ms[slot] = self.seen_ms[slot] = NEVER

    def _read(self, text: bytes) -> tuple[LabelSet, Sender]:
        try:
            pairs = [(label.name, label.value) for label in TimeSeries.FromString(text).labels]
        except DecodeError as error:
            raise _RefusedError("labels that are no UTF-8") from error
        labels = {_honest(name): _honest(value) for name, value in pairs}
        if len(labels) != len(pairs):
            raise _RefusedError("duplicate label name")
        if "" in labels:
            raise _RefusedError("label without a name")
        kept = self._relabel.apply(labels)
        if kept is None:
            raise _RefusedError(DROPPED)
        labels = kept
        if not labels.get(METRIC_NAME):
            raise _RefusedError("no metric name")
        cluster = labels.get(self._settings.cluster_label) or "default"
        sender = cluster, self._replica(labels)
        form = canonical(labels.items())
        if len(form) > LIMITS.label_bytes:
            raise _RefusedError(TOO_LARGE)
        self._know_sender(sender)
        place = self._rules.place(labels, cluster)
        metric = labels[METRIC_NAME]
        self._by_metric[metric].append(len(self.labels))
        kind = self.kinds.of(cluster, metric)
        return LabelSet(series_id(form), kind, place.entity.key, place.member, form), sender

    def _replica(self, labels: dict[str, str]) -> str:
        """Take the labels that name the replica out of a label set, and name it."""
        found = [labels.pop(name, "") for name in self._settings.replica_labels]
        replica = next(filter(None, found), "").replace("/", "_")[:_REPLICA_MAX]
        if not replica:
            return ""
        # One is elected among those that differ in the last part.
        pair = [labels[name] for name in self._settings.pair_labels if labels.get(name)]
        return "/".join([*(name[:_REPLICA_MAX] for name in pair), replica])

    def _reason(self, words: str) -> int:
        if words not in self.reasons:
            self.reasons.append(words)
        return self.reasons.index(words)

    def _know_sender(self, sender: Sender) -> None:
        if sender in self._senders:
            return
        if len(self._senders) >= _SENDERS_MAX:
            raise _RefusedError(f"more than {_SENDERS_MAX} clusters and replicas")
        size = len(json.dumps(sender, ensure_ascii=False).encode())
        if self._sender_bytes + size > _SENDER_BYTES_MAX:
            raise _RefusedError("names of clusters and replicas are too long")
        self._sender_bytes += size
        self._senders.add(sender)

    def _place_number(self, place: tuple[int, Sender]) -> int:
        if place not in self._place_numbers:
            self._place_numbers[place] = len(self.places)
            self.places.append(place)
        return self._place_numbers[place]

    def dropped(self, slots: Ints) -> npt.NDArray[np.bool_]:
        """Tell which slots' series a rule drops: bool[n]."""
        if DROPPED not in self.reasons:
            return np.zeros(len(slots), bool)
        why: npt.NDArray[np.bool_] = self.refused.take(slots) == self.reasons.index(DROPPED)
        return why

    def _grow(self) -> None:
        for name in ("series_id", "place", "refused", "sent_ms", "seen_ms", "kind"):
            column = getattr(self, name)
            setattr(self, name, np.concatenate([column, np.zeros_like(column)]))

    def know_kinds(self, metrics: Iterable[str]) -> None:
        """Tell the kinds of metrics anew, after metadata of version 1.0."""
        for metric in metrics:
            for slot in self._by_metric.get(metric, ()):
                _, (cluster, _) = self.places[self.place[slot]]
                self.know_kind(slot, self.kinds.of(cluster, metric))

    def know_kind(self, slot: int, kind: MetricKind) -> None:
        """Take in the kind of a series; the log is told if it is another."""
        labels = self.labels[slot]
        if labels is None or labels.kind is kind:
            return
        self.labels[slot] = labels._replace(kind=kind)
        self.kind[slot] = kind
        self.sent_ms[slot] = NEVER

    def keep(self, slots: Ints) -> None:
        """Forget all slots but some, which become 0, 1, 2 ... in that order."""
        renamed = {old: new for new, old in enumerate(slots.tolist())}
        self.labels = [self.labels[slot] for slot in renamed]
        for name in ("series_id", "place", "refused", "sent_ms", "seen_ms", "kind"):
            column = getattr(self, name)
            kept = column.take(slots)
            column[: len(kept)] = kept
        by_metric = self._by_metric
        self._by_metric = defaultdict(list)
        for metric, own in by_metric.items():
            if left := [renamed[slot] for slot in own if slot in renamed]:
                self._by_metric[metric] = left


def _honest(text: str) -> str:
    """Replace what PostgreSQL's texts can't have, and no honest label has."""
    return text.replace("\0", "\ufffd")
