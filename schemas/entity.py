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
from typing import Annotated, Any, Literal, NamedTuple, Self
from urllib.parse import quote, unquote

import xxhash
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from watchkeep.schemas.errors import RecordError
from watchkeep.schemas.labels import METRIC_NAME
from watchkeep.schemas.names import Strip, host_of, static_pod, workload_of


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
        default=(), description="labels that may hold the name; the first that is set decides"
    )
    called: str = Field(default="", description="the name, where no label holds it")
    namespace: tuple[str, ...] = Field(
        default=(), description="labels that may hold the namespace; the first that is set decides"
    )
    within: str = Field(default="", description="the namespace, where no label holds it")
    member: tuple[str, ...] = Field(
        default=(), description="labels that may hold the member's name; the first that is set"
    )
    strip: Literal[""] | Strip = Field(
        default="", description="whose name it is: what its controller added is stripped"
    )

    @model_validator(mode="after")
    def _has_name(self) -> Self:
        if not self.name and not self.called:
            raise ValueError("it gives no name; set name or called")
        return self

    @cached_property
    def asks(self) -> tuple[tuple[str, re.Pattern[str]], ...]:
        """What it asks of labels other than the metric."""
        return tuple((k, re.compile(v)) for k, v in self.when.items() if k != METRIC_NAME)

    @cached_property
    def _metric(self) -> re.Pattern[str]:
        return re.compile(self.when.get(METRIC_NAME, ".*"), re.DOTALL)

    def about(self, metric: str) -> bool:
        """Tell whether it is about a metric, for some labels."""
        return self._metric.fullmatch(metric) is not None

    def fits(self, labels: Mapping[str, str]) -> bool:
        """Tell whether a series that it is about has what it asks for, and a name."""
        for label, pattern in self.asks:
            if pattern.fullmatch(labels.get(label, "")) is None:
                return False
        return bool(self.called) or any(labels.get(label) for label in self.name)


_SET = ".+"
_OBJECT_NAMESPACE = ("exported_namespace", "namespace")


def _state(objects: str, *names: str, **more: Any) -> EntityRule:  # noqa: ANN401 - They are checked.
    """Make a rule for what kube-state-metrics says of objects.

    Its own pod is not the member. Without honorLabels the objects' labels arrive as exported_*.
    """
    return EntityRule(
        kind=more.pop("kind", EntityKind.WORKLOAD),
        when={"__name__": f"kube_({objects})_.+"},
        name=tuple(label for name in names for label in (f"exported_{name}", name)),
        namespace=more.pop("namespace", _OBJECT_NAMESPACE),
        **more,
    )


def _pod(namespace: str, pod: str, **more: str) -> EntityRule:
    return EntityRule(
        kind=EntityKind.WORKLOAD,
        when={namespace: _SET, pod: _SET} | more,
        name=(pod,),
        namespace=(namespace,),
        member=(pod,),
        strip="pod",
    )


DEFAULT_RULES: tuple[EntityRule, ...] = (
    _state("deployment", "deployment"),
    _state("statefulset", "statefulset"),
    _state("daemonset", "daemonset"),
    _state("cronjob", "cronjob"),
    _state("replicaset", "replicaset", strip="replicaset"),
    _state("replicationcontroller", "replicationcontroller", strip="ordinal"),
    _state("horizontalpodautoscaler|hpa", "horizontalpodautoscaler", "hpa", strip="policy"),
    _state("verticalpodautoscaler", "target_name", "verticalpodautoscaler", strip="policy"),
    _state("poddisruptionbudget", "poddisruptionbudget", strip="policy"),
    EntityRule(
        kind=EntityKind.WORKLOAD,
        when={"__name__": "kube_job_.+"},
        name=("job_name", "exported_job"),
        namespace=_OBJECT_NAMESPACE,
        member=("job_name", "exported_job"),
        strip="job",
    ),
    _pod("exported_namespace", "exported_pod", __name__="kube_pod_.+"),
    _pod("namespace", "pod", __name__="kube_pod_.+"),
    _state("service", "service"),
    _state("endpoint", "endpoint"),
    _state("endpointslice", "endpointslice", strip="pod"),
    _state("ingress", "ingress"),
    _state("persistentvolumeclaim", "persistentvolumeclaim", strip="claim"),
    _state("node", "node", kind=EntityKind.NODE, namespace=(), member=("exported_node", "node")),
    # What belongs to no service (quotas, volumes, secrets) stays with kube-state-metrics.
    EntityRule(
        kind=EntityKind.JOB,
        when={
            "__name__": "kube_(namespace|resourcequota|limitrange|configmap|secret|lease|role"
            "|rolebinding|clusterrole|clusterrolebinding|serviceaccount|networkpolicy"
            "|persistentvolume|storageclass|volumeattachment|ingressclass"
            "|certificatesigningrequest|(mutating|validating)webhookconfiguration)_.+|"
            "kube_resourcequota|kube_limitrange"
        },
        name=("job",),
        namespace=_OBJECT_NAMESPACE,
    ),
    EntityRule(
        kind=EntityKind.WORKLOAD,
        when={"__name__": "rollout_.+", "name": _SET},
        name=("name",),
        namespace=_OBJECT_NAMESPACE,
    ),
    # A volume is its service's, whoever measures it.
    EntityRule(
        kind=EntityKind.WORKLOAD,
        when={"__name__": "kubelet_volume_stats_.+"},
        name=("exported_persistentvolumeclaim", "persistentvolumeclaim"),
        namespace=_OBJECT_NAMESPACE,
        strip="claim",
    ),
    # node-exporter runs as a pod, and speaks about its node. Other programs use its prefix too.
    EntityRule(
        kind=EntityKind.NODE,
        when={"__name__": "node_(?!collector_|authorizer_|ipam_|lifecycle_)[^:]+"},
        name=("node", "nodename", "instance"),
        member=("instance",),
    ),
    # A mesh reports each request at the workload that served it. Only that workload's own proxy
    # is one of its members.
    EntityRule(
        kind=EntityKind.WORKLOAD,
        when={
            "__name__": "istio_.+",
            "destination_workload": "(?!unknown$).+",
            "reporter": "(?!source$).*",
        },
        name=("destination_workload",),
        namespace=("destination_workload_namespace", "namespace"),
        member=("pod", "kubernetes_pod_name"),
    ),
    EntityRule(
        kind=EntityKind.WORKLOAD,
        when={"__name__": "istio_.+", "destination_workload": "(?!unknown$).+"},
        name=("destination_workload",),
        namespace=("destination_workload_namespace", "namespace"),
    ),
    # Whose health is probed or pushed is not who probes, or whom it was pushed to.
    EntityRule(
        kind=EntityKind.JOB,
        when={"__name__": "probe_.+", "instance": _SET},
        name=("instance",),
    ),
    EntityRule(
        kind=EntityKind.JOB,
        when={"exported_job": _SET, "job": ".*push-?gateway.*"},
        name=("exported_job",),
        member=("exported_instance",),
    ),
    EntityRule(
        kind=EntityKind.JOB,
        when={"service": ".*push-?gateway.*", "job": "(?!.*push-?gateway).+"},
        name=("job",),
    ),
    # OpenTelemetry names what it measures, though a collector's own pod may stand beside it.
    EntityRule(
        kind=EntityKind.WORKLOAD,
        when={},
        name=(
            *("k8s_deployment_name", "k8s.deployment.name"),
            *("k8s_statefulset_name", "k8s.statefulset.name"),
            *("k8s_daemonset_name", "k8s.daemonset.name"),
            *("k8s_cronjob_name", "k8s.cronjob.name"),
        ),
        namespace=("k8s_namespace_name", "k8s.namespace.name", "namespace"),
        member=("k8s_pod_name", "k8s.pod.name"),
    ),
    _pod("k8s_namespace_name", "k8s_pod_name"),
    _pod("k8s.namespace.name", "k8s.pod.name"),
    # A scraper's own pod may stand beside the one that is spoken of.
    _pod("exported_namespace", "exported_pod"),
    _pod("namespace", "pod"),
    _pod("kubernetes_namespace", "kubernetes_pod_name"),
    # The API server is found through its service, whose endpoints are no pods.
    EntityRule(
        kind=EntityKind.WORKLOAD,
        when={"job": "apiserver|kube-apiserver|kubernetes-apiservers"},
        called="kube-apiserver",
        within="kube-system",
        member=("instance",),
    ),
    # What a kubelet says of a node as a whole, or of itself, has no pod.
    EntityRule(
        kind=EntityKind.NODE,
        when={"__name__": "(container|machine|kubelet)_.+"},
        name=("node", "kubernetes_io_hostname", "instance"),
        member=("instance",),
    ),
    EntityRule(
        kind=EntityKind.NODE,
        when={"job": "(.*[/-])?kubelet|kubernetes-(nodes|cadvisor|nodes-cadvisor)"},
        name=("node", "kubernetes_io_hostname", "instance"),
        member=("instance",),
    ),
    *(
        EntityRule(
            kind=EntityKind.WORKLOAD,
            when={namespace: _SET},
            name=(
                *("deployment", "statefulset", "daemonset", "service", "kubernetes_name", "app"),
                *("app_kubernetes_io_name", "service_name", "service.name", "container"),
            ),
            namespace=(namespace,),
            member=("instance",),
        )
        for namespace in (
            *("namespace", "kubernetes_namespace", "k8s_namespace_name", "k8s.namespace.name"),
            *("service_namespace", "service.namespace"),
        )
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
_UNPLACED = "unplaced"
_CACHED_MAX = 8_192
_NAME_MAX = 256


class EntityRules:
    """Rules ready for use.

    Attributes:
        hash: names this set of rules; it is in every frame, so a change can be told.
    """

    def __init__(self, rules: Sequence[EntityRule] = DEFAULT_RULES) -> None:
        self._rules = tuple(rules)
        text = "\n".join(rule.model_dump_json() for rule in self._rules)
        self._about: dict[str, tuple[EntityRule, ...]] = {}
        self.hash = xxhash.xxh3_64_hexdigest(text.encode())

    def place(self, labels: Mapping[str, str], cluster: str) -> Place:
        """Find the entity and the member of a series.

        Args:
            labels: the series' labels; untrusted, any text.
            cluster: the cluster that its sender belongs to.
        """
        metric = labels.get(METRIC_NAME, "")
        rules = self._about.get(metric)
        if rules is None:
            rules = tuple(rule for rule in self._rules if rule.about(metric))
            if len(self._about) >= _CACHED_MAX:  # Names come from outside.
                self._about.clear()
            if len(metric) <= _NAME_MAX:
                self._about[metric] = rules
        for rule in rules:
            if rule.fits(labels):
                return _apply(rule, labels, cluster)
        return Place(Entity(EntityKind.JOB, cluster, "", _UNPLACED), labels.get("instance", ""))


def _apply(rule: EntityRule, labels: Mapping[str, str], cluster: str) -> Place:
    name = _first(labels, rule.name) or rule.called
    if rule.kind is EntityKind.NODE:
        name = host_of(name)
    namespace = _first(labels, rule.namespace) or rule.within
    if rule.strip == "pod" and (static := static_pod(name, namespace)):
        name = static
    elif rule.strip:
        name = workload_of(name, rule.strip, labels.get("node", ""))
    return Place(Entity(rule.kind, cluster, namespace, name), _first(labels, rule.member))


def _first(labels: Mapping[str, str], names: Sequence[str]) -> str:
    return next((labels[name] for name in names if labels.get(name)), "")
