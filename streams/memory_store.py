"""The in-memory store: it keeps the promises of the one on PostgreSQL, for as long as it lives."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from watchkeep.schemas.alert import Alert, AlertState, Incident
from watchkeep.schemas.errors import LeaseLostError, StoreAnewError
from watchkeep.schemas.window import Window, WindowState
from watchkeep.streams.lookup import Alerting, Channel
from watchkeep.streams.memory import ManualClock
from watchkeep.streams.memory_cells import MemoryCells
from watchkeep.streams.ports import NOWHERE, Clock, Place, Step
from watchkeep.streams.snapshot import count
from watchkeep.streams.stores import (
    Attempts,
    Claim,
    Delivery,
    Lease,
    Rollups,
    Snapshot,
    Trouble,
    Write,
)


@dataclass(slots=True)
class Saved:
    """A partition's snapshot, and the claims on it; see `stores.Claim`."""

    token: int = 0
    unsaved: int = 0
    place: Place = NOWHERE
    settings: str = ""
    manifest: bytes = b""
    blocks: Mapping[int, bytes] = field(default_factory=dict)


class MemoryStore(MemoryCells):
    """All that the stages keep, in dictionaries.

    Attributes:
        rollups: by signal id and cell: value, expected and score.
        delivered: the delivery log.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        super().__init__(clock or ManualClock())
        self.snapshots: dict[int, Saved] = {}
        self.rollups: dict[tuple[int, int], tuple[float, float, float]] = {}
        self.incidents: dict[str, Incident] = {}
        self.alerts: list[Alert] = []
        self._outbox: list[Alert] = []
        self.delivered: list[Delivery] = []
        self._writes: dict[str, int] = {}
        self._leases: dict[str, tuple[Lease, int]] = {}
        self._progress: dict[int, int] = {}
        self._places: dict[str, Place] = {}
        self._attempts: dict[tuple[str, int], Attempts] = {}
        self._trying: dict[tuple[str, int], Place] = {}
        self._troubles: dict[str, tuple[Trouble, bool]] = {}

    async def claim(self, partitions: Collection[int]) -> dict[int, Claim]:
        """Take the right to write partitions' snapshots from whoever has it."""
        return {partition: self._claim(partition) for partition in partitions}

    def _claim(self, partition: int) -> Claim:
        kept = self.snapshots.setdefault(partition, Saved())
        kept.token += 1
        kept.unsaved += 1
        return Claim(kept.token, kept.unsaved, kept.place, kept.settings, kept.manifest)

    async def load_blocks(self, partition: int) -> Mapping[int, bytes]:
        """Read the blocks of a partition's last snapshot."""
        return dict(self.snapshots[partition].blocks)

    async def save_snapshots(self, snapshots: Sequence[Snapshot]) -> set[int]:
        """Keep snapshots; return the partitions that were refused."""
        refused = set()
        for saved in snapshots:
            kept = self.snapshots[saved.partition]
            if (kept.token, kept.place.offset) != (saved.token, saved.before):
                refused.add(saved.partition)
                continue
            blocks = {**kept.blocks, **saved.blocks}
            self.snapshots[saved.partition] = Saved(
                saved.token,
                0,
                saved.place,
                saved.settings,
                saved.manifest,
                {i: blocks[i] for i in range(count(saved.manifest))},
            )
        return refused

    async def write_rollups(self, batches: Sequence[Rollups], write: Write) -> None:
        """Write closed cells; the same cell again overwrites."""
        if self._writes.get(write.writer, 0) not in {write.number - 1, write.number}:
            raise StoreAnewError("this store lacks what the process has written")
        self._writes[write.writer] = write.number
        for batch in batches:
            self._note(batch)
            keys = zip(batch.signal_id.tolist(), batch.at_ms.tolist(), strict=True)
            columns = (batch.value, batch.expected, batch.rarity)
            rows = zip(*(column.tolist() for column in columns), strict=True)
            self.rollups.update(zip(keys, rows, strict=True))

    async def window_revision(self, window_id: str) -> int:
        """Tell the highest revision taken of a window; 0 for none."""
        return max((revision for name, revision in self.windows if name == window_id), default=0)

    async def incident_of(self, entity: str) -> Incident | None:
        """Read the entity's open incident."""
        firing = (i for i in self.incidents.values() if i.state is AlertState.FIRING)
        return next((incident for incident in firing if incident.entity == entity), None)

    async def open_windows(self) -> Sequence[Window]:
        """Read the last revision of each window that is open, oldest first."""
        last = {name: window for (name, _), window in sorted(self.windows.items())}
        return [window for window in last.values() if window.state is WindowState.OPEN]

    async def record(self, lease: Lease, step: Step, told: tuple[Window, Incident, Alert]) -> None:
        """Keep a window's revision, its incident and the alert to publish, all or none.

        A revision that was taken before changes nothing but the place.
        """
        window, incident, alert = told
        self._hold(lease, step.before)
        if (window.window_id, window.revision) in self.windows:
            self._places[lease.name] = step.here
            return
        firing = await self.incident_of(incident.entity)
        assert (
            firing is None
            or firing.incident_id == incident.incident_id
            or incident.state is not AlertState.FIRING
        ), "an entity has one firing incident"
        self._places[lease.name] = step.here
        self.windows[window.window_id, window.revision] = window
        self._keep(incident, alert)

    def _keep(self, incident: Incident, alert: Alert) -> None:
        known = self.incidents.get(incident.incident_id)
        if known is None or incident.revision > known.revision:
            self.incidents[incident.incident_id] = incident
        if alert not in self.alerts:
            self.alerts.append(alert)
        if alert not in self._outbox:
            self._outbox.append(alert)

    def _hold(self, lease: Lease, before: Place | None = None) -> None:
        if not self._is_held(lease):
            raise LeaseLostError(f"the lease {lease.name} is another process's now")
        if before is not None and self._places.get(lease.name, Place()) != before:
            raise LeaseLostError(f"the place of {lease.name} is not where it was left")

    async def place(self, stage: str) -> Place:
        """Read how far the stage has come."""
        return self._places.get(stage, Place())

    async def advance(self, lease: Lease, step: Step) -> None:
        """Move the place of the lease's stage."""
        self._hold(lease, step.before)
        self._places[lease.name] = step.here

    async def attempts(self, stage: str, partitions: Collection[int]) -> dict[int, Attempts]:
        """Read, at a start, which record the stage has died of in each partition, and how often."""
        for key in [(stage, partition) for partition in partitions]:
            tried = self._trying.pop(key, None)
            if tried is not None:
                before = self._attempts.get(key)
                deaths = before.deaths if before is not None and before.place == tried else 0
                self._attempts[key] = Attempts(tried, deaths + 1)
        return {n: self._attempts[stage, n] for n in partitions if (stage, n) in self._attempts}

    async def note_attempt(self, stage: str, partition: int, place: Place) -> None:
        """Note that the stage is about to try a record, or is about to die of it."""
        self._trying[stage, partition] = place

    async def calm(self, stage: str, partition: int) -> None:
        """Note that no record is being tried that the stage may die of."""
        self._trying.pop((stage, partition), None)

    async def report(self, trouble: Trouble) -> None:
        """Have the operators told; the same name again changes nothing."""
        self._troubles.setdefault(trouble.name, (trouble, False))

    async def troubles(self) -> Sequence[Trouble]:
        """Read what the operators are still to be told, oldest first."""
        return [trouble for trouble, told in self._troubles.values() if not told]

    async def told(self, troubles: Sequence[Trouble]) -> None:
        """Take note that the operators were told."""
        for trouble in troubles:
            self._troubles[trouble.name] = (trouble, True)

    async def unpublished(self) -> Sequence[Alert]:
        """Read the outbox: alerts that the topic doesn't have yet, oldest first."""
        return list(self._outbox)

    async def published(self, alerts: Sequence[Alert]) -> None:
        """Take alerts out of the outbox."""
        self._outbox = [alert for alert in self._outbox if alert not in alerts]

    async def changed_since(self, seconds: float) -> Sequence[Incident]:
        """Read the incidents that have changed in so many seconds; here, all."""
        del seconds
        return list(self.incidents.values())

    async def republish(self, lease: Lease, told: Sequence[tuple[Incident, Alert]]) -> None:
        """Keep incidents with the alerts to publish for them once more."""
        self._hold(lease)
        for incident, alert in told:
            self._keep(incident, alert)

    async def save_progress(self, lease: Lease, step: Step, log_time_ms: Mapping[int, int]) -> None:
        """Keep how far detect has come, by shard."""
        await self.advance(lease, step)
        for shard, time_ms in log_time_ms.items():
            self._progress[shard] = max(time_ms, self._progress.get(shard, time_ms))

    async def log_times(self) -> dict[int, int]:
        """Read how far detect has come, by shard, in ms."""
        return dict(self._progress)

    async def deliveries(self, lease: Lease, alert_id: str) -> Sequence[Delivery]:
        """Read what was sent about an alert, oldest first."""
        self._hold(lease)
        return [delivery for delivery in self.delivered if delivery.alert_id == alert_id]

    async def channels(self) -> Sequence[Channel]:
        """Read how deliveries went, by receiver; here, all of them now."""
        found = []
        for name in sorted({delivery.channel for delivery in self.delivered}):
            own = [delivery for delivery in self.delivered if delivery.channel == name]
            sent = sum(delivery.outcome == "sent" for delivery in own)
            last = own[-1]
            works = last.outcome == "sent"
            now_ms = self._clock.now_ms()
            found.append(Channel(name, sent, len(own) - sent, works, last.error, now_ms))
        return found

    async def alerting(self) -> Alerting:
        """Count incidents and alerts; here, all of them were written now."""
        firing = sum(one.state is AlertState.FIRING for one in self.incidents.values())
        last_ms = self._clock.now_ms() if self.alerts else None
        return Alerting(len(self.incidents), firing, len(self.alerts), len(self._outbox), last_ms)

    async def log_delivery(self, delivery: Delivery) -> None:
        """Keep the outcome of a send."""
        self.delivered.append(delivery)

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

    async def active(self) -> dict[str, str]:
        """Tell who holds which lease."""
        now_ms = self._clock.now_ms()
        return {name: own.holder for name, (own, until) in self._leases.items() if until > now_ms}

    def _is_held(self, lease: Lease) -> bool:
        return lease.name in self._leases and self._leases[lease.name][0] == lease

    def _until_ms(self, ttl_s: float) -> int:
        return self._clock.now_ms() + round(ttl_s * 1000)
