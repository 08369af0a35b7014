"""Log time: how far a shard's log has come, a function of its records only.

Senders report their newest sample time in every frame. Log time is the smallest of these over the
senders heard in the last minute of tick time, so that it never runs ahead of data that is still on
its way. A sender far behind is backlog and doesn't hold the others back. Tick time is the largest
gateway clock seen: nobody here looks at a clock.

Of replicas that send the same, one is elected, and another takes over when it is half a minute
ahead in what it sends. Replicas belong together if their names differ in the last part only:
`monitoring/k8s/prometheus-0` and `monitoring/k8s/prometheus-1`. Who has no name sends something of
its own.
"""

from collections.abc import Iterable, Mapping

from watchkeep.schemas.frame import SenderTime

HEARD_MS = 60_000
BACKLOG_MS = 600_000
FAILOVER_MS = 30_000

Group = tuple[str, str]


def group_of(sender: SenderTime) -> Group:
    """Name the replicas that a sender belongs to."""
    return sender.cluster, sender.replica.rpartition("/")[0]


class LogTime:
    """What the senders of one shard have reported.

    Attributes:
        senders: by (cluster, replica), the newest report.
        elected: by group, the replica whose samples count.
        tick_ms: tick time.
    """

    def __init__(
        self,
        senders: Iterable[SenderTime] = (),
        elected: Mapping[Group, str] | None = None,
        tick_ms: int = 0,
    ) -> None:
        self.senders = {(sender.cluster, sender.replica): sender for sender in senders}
        self.elected = dict(elected or {})
        self.tick_ms = tick_ms

    def hear(self, gateway_ms: int, senders: Iterable[SenderTime]) -> None:
        """Take over what a frame reports; times never go back."""
        self.tick_ms = max(self.tick_ms, gateway_ms)
        for sender in senders:
            key = (sender.cluster, sender.replica)
            known = self.senders.get(key, sender)
            self.senders[key] = sender._replace(
                newest_ms=max(sender.newest_ms, known.newest_ms),
                heard_ms=max(sender.heard_ms, known.heard_ms),
            )

    def elects(self, sender: SenderTime) -> bool:
        """Tell whether a sender's samples count; elect it if its predecessor has fallen behind."""
        if not sender.replica:
            return True
        group = group_of(sender)
        elected = self.elected.setdefault(group, sender.replica)
        if elected == sender.replica:
            return True
        before = self.senders.get((sender.cluster, elected))
        if before is not None and sender.newest_ms - before.newest_ms <= FAILOVER_MS:
            return False
        self.elected[group] = sender.replica
        return True

    def now_ms(self) -> int | None:
        """Tell the shard's log time; None before any sender was heard."""
        return min((s.newest_ms for s in self._live() if not self._behind(s)), default=None)

    def cluster_ms(self, cluster: str) -> int | None:
        """Tell how far a cluster's cells may be closed: its own elected senders decide.

        A cluster whose senders are all backlog goes by them, so that it is folded in order.
        """
        live = [s for s in self._live() if s.cluster == cluster and self.counts(s)]
        keeping_up = [sender for sender in live if not self._behind(sender)]
        return min((sender.newest_ms for sender in keeping_up or live), default=None)

    def in_backlog(self, time_ms: int) -> bool:
        """Tell whether data of that time came too late to page anyone."""
        return self.tick_ms - time_ms > BACKLOG_MS

    def counts(self, sender: SenderTime) -> bool:
        """Tell whether a sender is the one of its group whose samples count."""
        return self.elected.get(group_of(sender), sender.replica) == sender.replica

    def _live(self) -> list[SenderTime]:
        return [s for s in self.senders.values() if self.tick_ms - s.heard_ms <= HEARD_MS]

    def _behind(self, sender: SenderTime) -> bool:
        return self.in_backlog(sender.newest_ms)
