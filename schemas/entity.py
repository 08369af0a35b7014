"""Which entity a series belongs to, and which of its members it came from.

People are paged about workloads, nodes and jobs, not about pods: a pod's name is stripped of the
hashes that its controller added, so that a deploy changes the members and not the entity. The
rules are configuration (`[[entities.rules]]`), tried in order, the first that fits decides. The
function is pure and the gateway and kube-watch share it, so metrics and events meet at the same
entity.
"""

import re
from collections.abc import Mapping, Sequence
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Literal, NamedTuple, Self
from urllib.parse import quote, unquote

import xxhash
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from watchkeep.schemas.errors import RecordError


class EntityKind(StrEnum):
    """What sort of thing a person is paged about."""

    WORKLOAD = "workload"
    NODE = "node"
    JOB = "job"
    SENDER = "sender"


class Entity(NamedTuple):
    """What a person is paged about."""

    kind: EntityKind
    cluster: str
    namespace: str
    name: str

    @property
    def key(self) -> str:
        """Its name in topics and tables: ``workload/prod/shop/cart``, parts percent-escaped."""
        return "/".join(quote(part, safe=_PLAIN) for part in self)

    @classmethod
    def from_key(cls, key: str) -> Self:
        """Read a key back.

        Raises:
            RecordError: the text is no entity key.
        """
        parts = [unquote(part) for part in key.split("/")]
        if len(parts) != 4 or parts[0] not in set(EntityKind):
            raise RecordError(f"{key!r} is no entity: kind/cluster/namespace/name is expected")
        return cls(EntityKind(parts[0]), *parts[1:])

    @property
    def title(self) -> str:
        """How a person calls it: ``shop/cart``, ``node n1``, ``job etcd``."""
        where = f"{self.namespace}/{self.name}" if self.namespace else self.name
        return where if self.kind is EntityKind.WORKLOAD else f"{self.kind} {where}"


class Place(NamedTuple):
    """Where a series belongs."""

    entity: Entity
    member: str


def _compiles(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{pattern!r} is no regular expression: {error}") from error
    return pattern


Pattern = Annotated[str, AfterValidator(_compiles)]


class EntityRule(BaseModel):
    """One rule: the labels a series must have, and where its entity's name stands."""

    model_config = ConfigDict(frozen=True, extra="forbid", ignored_types=(cached_property,))

    kind: EntityKind = Field(description="what the entity is: workload, node or job")
    when: dict[str, Pattern] = Field(
        description="label name -> regular expression that its whole value must match"
    )
    name: tuple[str, ...] = Field(
        min_length=1, description="labels that may hold the name; the first that is set decides"
    )
    namespace: tuple[str, ...] = Field(
        default=(), description="labels that may hold the namespace; the first that is set decides"
    )
    member: tuple[str, ...] = Field(
        default=(), description="labels that may hold the member's name; the first that is set"
    )
    strip: Literal["", "pod", "replicaset", "job"] = Field(
        default="", description="whose name it is: what its controller added is stripped"
    )

    @cached_property
    def _patterns(self) -> tuple[tuple[str, re.Pattern[str]], ...]:
        return tuple((label, re.compile(pattern)) for label, pattern in self.when.items())

    def fits(self, labels: Mapping[str, str]) -> bool:
        """Tell whether a series has every label that the rule asks for, and a name."""
        return all(
            pattern.fullmatch(labels.get(label, "")) for label, pattern in self._patterns
        ) and any(labels.get(label) for label in self.name)


_SET = ".+"

DEFAULT_RULES: tuple[EntityRule, ...] = (
    # kube-state-metrics speaks about other objects: its own pod is not the member. Without
    # honorLabels the objects' namespace and pod arrive as exported_*.
    EntityRule(
        kind=EntityKind.WORKLOAD,
        when={
            "__name__": "kube_(deployment|statefulset|daemonset|cronjob|horizontalpodautoscaler)_.+"
        },
        name=(
            "deployment",
            "statefulset",
            "daemonset",
            "cronjob",
            "horizontalpodautoscaler",
            "hpa",
        ),
        namespace=("exported_namespace", "namespace"),
    ),
    EntityRule(
        kind=EntityKind.WORKLOAD,
        when={"__name__": "kube_replicaset_.+"},
        name=("replicaset",),
        namespace=("exported_namespace", "namespace"),
        strip="replicaset",
    ),
    EntityRule(
        kind=EntityKind.WORKLOAD,
        when={"__name__": "kube_job_.+"},
        name=("job_name", "exported_job"),
        namespace=("exported_namespace", "namespace"),
        member=("job_name", "exported_job"),
        strip="job",
    ),
    EntityRule(
        kind=EntityKind.WORKLOAD,
        when={"__name__": "kube_pod_.+", "exported_pod": _SET},
        name=("exported_pod",),
        namespace=("exported_namespace", "namespace"),
        member=("exported_pod",),
        strip="pod",
    ),
    EntityRule(
        kind=EntityKind.WORKLOAD,
        when={"__name__": "kube_pod_.+", "pod": _SET},
        name=("pod",),
        namespace=("namespace",),
        member=("pod",),
        strip="pod",
    ),
    EntityRule(
        kind=EntityKind.NODE,
        when={"__name__": "kube_node_.+"},
        name=("node", "exported_node"),
        member=("node", "exported_node"),
    ),
    # node-exporter runs as a pod, and speaks about its node.
    EntityRule(
        kind=EntityKind.NODE,
        when={"__name__": "node_.+"},
        name=("node", "nodename", "instance"),
        member=("instance",),
    ),
    # A mesh reports each request at the workload that served it.
    EntityRule(
        kind=EntityKind.WORKLOAD,
        when={"__name__": "istio_.+", "destination_workload": "(?!unknown$).+"},
        name=("destination_workload",),
        namespace=("destination_workload_namespace", "namespace"),
        member=("pod",),
    ),
    EntityRule(
        kind=EntityKind.WORKLOAD,
        when={"namespace": _SET, "pod": _SET},
        name=("pod",),
        namespace=("namespace",),
        member=("pod",),
        strip="pod",
    ),
    # What a kubelet says of a node as a whole has no pod.
    EntityRule(
        kind=EntityKind.NODE,
        when={"__name__": "(container|machine|kubelet)_.+"},
        name=("node", "instance"),
        member=("instance",),
    ),
    EntityRule(
        kind=EntityKind.WORKLOAD,
        when={"namespace": _SET},
        name=("deployment", "statefulset", "daemonset", "service", "app", "container"),
        namespace=("namespace",),
        member=("instance",),
    ),
    EntityRule(kind=EntityKind.NODE, when={"node": _SET}, name=("node",), member=("instance",)),
    EntityRule(
        kind=EntityKind.JOB,
        when={"job": _SET},
        name=("job",),
        namespace=("namespace",),
        member=("instance",),
    ),
)

_PLAIN = "-_.~:"
_HASH = "[bcdfghjklmnpqrstvwxz2456789]"  # The alphabet of Kubernetes' generated names.
_GENERATED = {
    "pod": (
        re.compile(rf"(.+)-\d{{8,10}}-{_HASH}{{5}}"),  # CronJob: scheduled time and pod
        re.compile(rf"(.+)-{_HASH}{{6,10}}-{_HASH}{{5}}"),  # Deployment: replica set and pod
        re.compile(rf"(.+)-\d+-{_HASH}{{5}}"),  # indexed Job
        re.compile(rf"(.+)-{_HASH}{{5}}"),  # DaemonSet, Job
        re.compile(r"(.+)-\d+"),  # StatefulSet
    ),
    "replicaset": (re.compile(rf"(.+)-{_HASH}{{6,10}}"),),
    "job": (re.compile(r"(.+)-\d{8,10}"),),
}
_UNPLACED = "unplaced"


class EntityRules:
    """Rules ready for use.

    Attributes:
        hash: names this set of rules; it is in every frame, so a change can be told.
    """

    def __init__(self, rules: Sequence[EntityRule] = DEFAULT_RULES) -> None:
        self._rules = tuple(rules)
        text = "\n".join(rule.model_dump_json() for rule in self._rules)
        self.hash = xxhash.xxh3_64_hexdigest(text.encode())

    def place(self, labels: Mapping[str, str], cluster: str) -> Place:
        """Find the entity and the member of a series.

        Args:
            labels: the series' labels; untrusted, any text.
            cluster: the cluster that its sender belongs to.
        """
        for rule in self._rules:
            if rule.fits(labels):
                return _apply(rule, labels, cluster)
        return Place(Entity(EntityKind.JOB, cluster, "", _UNPLACED), labels.get("instance", ""))


def _apply(rule: EntityRule, labels: Mapping[str, str], cluster: str) -> Place:
    name = _first(labels, rule.name)
    if rule.kind is EntityKind.NODE:
        name = _host(name)
    if rule.strip:
        name = workload_of(name, rule.strip, labels.get("node", ""))
    namespace = _first(labels, rule.namespace)
    return Place(Entity(rule.kind, cluster, namespace, name), _first(labels, rule.member))


def workload_of(name: str, whose: str = "pod", node: str = "") -> str:
    """Strip what a controller added to the name of a pod, a replica set or a CronJob's job.

    >>> workload_of("cart-7d9c5b8f6d-x2x4z")
    'cart'
    >>> workload_of("backup-29384721", "job")
    'backup'
    >>> workload_of("kube-apiserver-node-a", node="node-a")
    'kube-apiserver'
    """
    if node and name.endswith(f"-{node}"):
        return name.removesuffix(f"-{node}")
    for pattern in _GENERATED[whose]:
        if found := pattern.fullmatch(name):
            return found.group(1)
    return name


def _first(labels: Mapping[str, str], names: Sequence[str]) -> str:
    return next((labels[name] for name in names if labels.get(name)), "")


def _host(instance: str) -> str:
    """Strip the port: ``10.0.0.7:9100`` and ``[fe80::1]:9100`` become their host."""
    host, colon, port = instance.rpartition(":")
    if colon and port.isdigit() and (":" not in host or host.startswith("[")):
        return host.strip("[]")
    return instance
