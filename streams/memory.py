"""In-memory ports: a log and a store with the semantics of the real ones.

They serve the tests, and anyone who embeds Watchkeep in a program of their own.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from watchkeep.schemas.alert import Alert, AlertState, Incident
from watchkeep.schemas.errors import LeaseLostError
from watchkeep.schemas.window import Window
from watchkeep.streams.ports import Clock, Delivery, Lease, Record, Rollups, SignalRow, Snapshot


class Entry(NamedTuple):
    """A record as it was written."""

    key: bytes | None
    value: bytes | None
    headers: Mapping[str, str]


class MemoryLog:
    """Topics of partitions of records; it is a Sink, and makes Sources."""

    def __init__(self) -> None:
        self.partitions: dict[tuple[str, int], list[Entry]] = defaultdict(list)
        self.committed: dict[tuple[str, str, int], int] = {}

    async def send(
        self,
        topic: str,
        value: bytes | None,
        *,
        partition: int = 0,
        key: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Write a record."""
        await asyncio.sleep(0)  # As with a real log, others run meanwhile.
        self.partitions[topic, partition].append(Entry(key, value, dict(headers or {})))

    def values(self, topic: str) -> list[bytes | None]:
        """Read a topic's values, partition after partition."""
        return [
            entry.value
            for (name, _), entries in sorted(self.partitions.items())
            if name == topic
            for entry in entries
        ]

    def source(self, topic: str, group: str) -> "MemorySource":
        """Make a source that ends when the group has read all there is."""
        return MemorySource(self, topic, group)


@dataclass
class MemorySource:
    """What a group has not committed yet of a topic."""

    log: MemoryLog
    topic: str
    group: str
    revoked: list[Callable[[set[int]], Awaitable[None]]] = field(default_factory=list)

    def when_revoked(self, callback: Callable[[set[int]], Awaitable[None]]) -> None:
        """Take note of a callback; here partitions stay."""
        self.revoked.append(callback)

    async def records(self) -> AsyncIterator[Record]:
        """Deliver from the committed offsets on, one partition after the other, and end."""
        for name, partition in sorted(self.log.partitions):
            if name != self.topic:
                continue
            entries = self.log.partitions[name, partition]
            offset = self.log.committed.get((self.group, name, partition), 0)
            while offset < len(entries):
                value, ack = entries[offset].value, self._acker(partition, offset)
                yield Record(name, partition, offset, value, ack)
                offset += 1

    def _acker(self, partition: int, offset: int) -> Callable[[], None]:
        def ack() -> None:
            place = (self.group, self.topic, partition)
            self.log.committed[place] = max(offset + 1, self.log.committed.get(place, 0))

        return ack

    async def read(self, partition: int, offset: int) -> bytes | None:
        """Read one record by its place; None when the log doesn't hold it."""
        entries = self.log.partitions.get((self.topic, partition), [])
        return entries[offset].value if 0 <= offset < len(entries) else None


class ManualClock:
    """A clock that is set by hand."""

    def __init__(self, now_ms: int = 0) -> None:
        self.time_ms = now_ms

    def now_ms(self) -> int:
        """Tell the time that was set."""
        return self.time_ms


class MemoryStore:
    """All that the stages keep, in dictionaries.

    Attributes:
        rollups: by signal id and cell: value, expected and score.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or ManualClock()
        self.snapshots: dict[int, Snapshot] = {}
        self.signals: dict[int, SignalRow] = {}
        self.rollups: dict[tuple[int, int], tuple[float, float, float]] = {}
        self.windows: dict[tuple[str, int], Window] = {}
        self.incidents: dict[str, Incident] = {}
        self.alerts: list[Alert] = []
        self._outbox: list[Alert] = []
        self._deliveries: list[Delivery] = []
        self._leases: dict[str, tuple[Lease, int]] = {}
        self._progress: dict[int, int] = {}

    async def load_snapshot(self, partition: int) -> Snapshot | None:
        """Read a partition's last snapshot."""
        return self.snapshots.get(partition)

    async def save_snapshots(self, snapshots: Sequence[Snapshot]) -> None:
        """Keep snapshots, all or none."""
        self.snapshots.update({snapshot.partition: snapshot for snapshot in snapshots})

    async def write_rollups(self, batches: Sequence[Rollups]) -> None:
        """Write closed cells; the same cell again overwrites."""
        for batch in batches:
            self.signals.update({signal.signal_id: signal for signal in batch.signals})
            keys = zip(batch.signal_id.tolist(), batch.at_ms.tolist(), strict=True)
            columns = (batch.value, batch.expected, batch.score)
            rows = zip(*(column.tolist() for column in columns), strict=True)
            self.rollups.update(zip(keys, rows, strict=True))

    async def window_revision(self, window_id: str) -> int:
        """Tell the highest revision taken of a window; 0 for none."""
        return max((revision for name, revision in self.windows if name == window_id), default=0)

    async def incident_of(self, entity: str) -> Incident | None:
        """Read the entity's open incident."""
        firing = (i for i in self.incidents.values() if i.state is AlertState.FIRING)
        return next((incident for incident in firing if incident.entity == entity), None)

    async def record(self, lease: Lease, window: Window, incident: Incident, alert: Alert) -> None:
        """Keep a window's revision, its incident and the alert to publish, all or none.

        A revision that was taken before changes nothing.

        Raises:
            LeaseLostError: the lease is another process's by now; nothing was kept.
        """
        held = self._leases.get(lease.name)
        if held is None or held[0].token != lease.token:
            raise LeaseLostError(f"the lease {lease.name} is another process's now")
        if (window.window_id, window.revision) in self.windows:
            return
        firing = await self.incident_of(incident.entity)
        assert (
            firing is None
            or firing.incident_id == incident.incident_id
            or incident.state is not AlertState.FIRING
        ), "an entity has one firing incident"
        self.windows[window.window_id, window.revision] = window
        known = self.incidents.get(incident.incident_id)
        if known is None or incident.revision > known.revision:
            self.incidents[incident.incident_id] = incident
        self.alerts.append(alert)
        self._outbox.append(alert)

    async def unpublished(self) -> Sequence[Alert]:
        """Read the outbox: alerts that the topic doesn't have yet, oldest first."""
        return list(self._outbox)

    async def published(self, alerts: Sequence[Alert]) -> None:
        """Take alerts out of the outbox."""
        self._outbox = [alert for alert in self._outbox if alert not in alerts]

    async def save_progress(self, log_time_ms: Mapping[int, int]) -> None:
        """Keep how far detect has come, by shard."""
        self._progress.update(log_time_ms)

    async def log_times(self) -> dict[int, int]:
        """Read how far detect has come, by shard, in ms."""
        return dict(self._progress)

    async def deliveries(self, alert_id: str) -> Sequence[Delivery]:
        """Read what was sent about an alert, oldest first."""
        return [delivery for delivery in self._deliveries if delivery.alert_id == alert_id]

    async def log_delivery(self, delivery: Delivery) -> None:
        """Keep the outcome of a send."""
        self._deliveries.append(delivery)

    async def acquire_lease(self, name: str, holder: str, ttl_s: float) -> Lease | None:
        """Take a lease that is free or has run out, or take one's own again; None otherwise."""
        held, until_ms = self._leases.get(name, (Lease(name, "", 0), 0))
        ended = until_ms <= self._clock.now_ms()
        if held.holder != holder and not ended:
            return None
        lease = Lease(name, holder, held.token + (held.holder != holder or ended))
        self._leases[name] = (lease, self._until_ms(ttl_s))
        return lease

    async def renew_lease(self, lease: Lease, ttl_s: float) -> bool:
        """Hold it longer; False when another process has it."""
        if not self._is_held(lease):
            return False
        self._leases[lease.name] = (lease, self._until_ms(ttl_s))
        return True

    async def release_lease(self, lease: Lease) -> None:
        """Give it back, so that the standby needn't wait."""
        if self._is_held(lease):
            self._leases[lease.name] = (lease, self._clock.now_ms())

    def _is_held(self, lease: Lease) -> bool:
        return lease.name in self._leases and self._leases[lease.name][0] == lease

    def _until_ms(self, ttl_s: float) -> int:
        return self._clock.now_ms() + round(ttl_s * 1000)
