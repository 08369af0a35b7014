"""What kind each metric is, as metadata of version 1.0 tells: for a cluster, by family."""

from collections.abc import Iterable

from watchkeep.schemas.frame import MetricKind
from watchkeep.schemas.remote_write_pb2 import MetricMetadata

_SUFFIXES = ("", "_bucket", "_count", "_sum", "_total")
# More names than any platform has; who sends more sends them at random.
_FAMILIES_MAX = 200_000


class MetricKinds:
    """Kinds by cluster and family."""

    def __init__(self) -> None:
        self._kinds: dict[tuple[str, str], MetricKind] = {}

    def of(self, cluster: str, metric: str) -> MetricKind:
        """Tell the kind of a metric; a histogram's has its suffixes."""
        for suffix in _SUFFIXES:
            if metric.endswith(suffix):
                kind = self._kinds.get((cluster, metric.removesuffix(suffix)))
                if kind is not None:
                    return kind
        return MetricKind.UNKNOWN

    def learn(self, metadata: Iterable[MetricMetadata], clusters: Iterable[str]) -> set[str]:
        """Take in metadata, for every cluster; return the metrics whose kind may be another now.

        It comes in requests of its own, without labels: nothing tells whose it is.
        """
        changed = set()
        clusters = list(clusters)
        for entry in metadata:
            kind = kind_of(entry.type)
            for cluster in clusters:
                key = (cluster, entry.metric_family_name)
                if self._kinds.get(key) is kind or len(self._kinds) >= _FAMILIES_MAX:
                    continue
                self._kinds[key] = kind
                changed |= {entry.metric_family_name + suffix for suffix in _SUFFIXES}
        return changed


def kind_of(number: int) -> MetricKind:
    """Read a metric type; one that is newer than this program is as good as unknown."""
    return MetricKind(number) if number in set(MetricKind) else MetricKind.UNKNOWN
