"""A shop's samples through detection in this process: frames in, alerts out, days in seconds.

The log has 64 parts, each with a `Shard` of its own, so that many processes can share the work.
Entities know nothing of those in other parts, so one `Shard` that is given what all parts hold
finds the same, with a tenth of the steps.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import groupby
from typing import Final

import numpy as np

from watchkeep.enrichers.incidents import advance
from watchkeep.enrichers.template import alert_of
from watchkeep.schemas.alert import Alert, AlertState, Incident
from watchkeep.schemas.entity import Entity, EntityKind, EntityRules
from watchkeep.schemas.frame import Frame, FrameKind, decode, shard_of
from watchkeep.schemas.settings import Detect
from watchkeep.schemas.window import Window
from watchkeep.shop.blueprint import CLUSTER
from watchkeep.shop.frames import Record, frames
from watchkeep.shop.model import Shop
from watchkeep.streams.demo_report import incidents_of
from watchkeep.streams.pipeline import Shard

_SAMPLES: Final = 20_000  # Of the whole shop, what comes in two minutes.
_SENDER: Final = Entity(EntityKind.SENDER, CLUSTER, "", "prometheus-0").key


class RefusedError(Exception):
    """A limit of the settings kept a part of the samples out, so nothing can be measured."""


def alerts(shop: Shop, settings: Detect) -> list[Alert]:
    """Give what people are paged about, by time: the newest revision of each alert.

    Args:
        shop: whose days before it is sent are taken in first.
        settings: of detection.

    Raises:
        RefusedError: the shop is larger than the settings allow.
    """
    shard, incidents = Shard(settings, shard_of(_SENDER)), Incidents()
    for before in (True, False):
        for frame in writes(frames(shop, _SAMPLES, before=before)):
            for window in shard.apply(frame).windows:
                incidents.take(window)
    if refused := shard.refusals():
        raise RefusedError(f"detection's limits refused a part of the shop: {dict(refused)}")
    return incidents.paged()


def writes(records: Iterable[Record]) -> Iterator[Frame]:
    """Join what a gateway writes at once into the parts of the log: one frame a write."""
    for _, written in groupby(records, key=lambda record: record.clock_ms):
        parts = [decode(record.value) for record in written]
        data = [part for part in parts if part.kind is FrameKind.DATA]
        if data:
            yield _joined(data)


def _joined(parts: list[Frame]) -> Frame:
    sender = parts[0].senders[0]
    assert all(part.senders[0].replica == sender.replica for part in parts)
    # A part that is cut along time tells of less than the write has.
    newest_ms = max(part.senders[0].newest_ms for part in parts)
    return replace(
        parts[0],
        senders=(sender._replace(newest_ms=newest_ms),),
        series_id=np.concatenate([part.series_id for part in parts]),
        time_ms=np.concatenate([part.time_ms for part in parts]),
        value=np.concatenate([part.value for part in parts]),
        label_sets=tuple(entry for part in parts for entry in part.label_sets),
    )


class Incidents:
    """What the incidents stage keeps, without its log and its database."""

    def __init__(self) -> None:
        self._firing: dict[str, Incident] = {}
        self._newest: dict[str, Incident] = {}

    def take(self, window: Window) -> None:
        """Take in a window's revision."""
        incident = advance(self._firing.pop(window.entity, None), window)
        self._newest[incident.incident_id] = incident
        if incident.state is AlertState.FIRING:
            self._firing[window.entity] = incident

    def paged(self) -> list[Alert]:
        """List the alerts that people are paged about."""
        return incidents_of(alert_of(incident) for incident in self._newest.values())


def entities(shop: Shop) -> list[Entity]:
    """List all that people may be paged about."""
    rules = EntityRules()
    return sorted({rules.place(labels, CLUSTER).entity for labels, _ in shop.series})
