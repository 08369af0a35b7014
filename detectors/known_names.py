"""Metrics that mean something to the fold itself, told by their canonical label sets."""

from collections.abc import Mapping
from typing import Final

from watchkeep.schemas.labels import METRIC_NAME, SEPARATOR, canonical, parse, series_id

_NAME: Final = METRIC_NAME.encode() + SEPARATOR
_META: Final = tuple(
    _NAME + name + SEPARATOR
    for name in (
        b"up",
        b"scrape_duration_seconds",
        b"scrape_samples_scraped",
        b"scrape_samples_post_metric_relabeling",
        b"scrape_series_added",
    )
)
_WANTED: Final = tuple(
    _NAME + name + SEPARATOR
    for name in (
        b"kube_deployment_spec_replicas",
        b"kube_statefulset_replicas",
        b"kube_daemonset_status_desired_number_scheduled",
    )
)
_NODE: Final = _NAME + b"kube_node_status_condition" + SEPARATOR
_JOBS: Final = (_NAME + b"kube_job_", _NAME + b"kube_cronjob_")

_POD_LABELS: Final = (
    "pod",
    "exported_pod",
    "pod_name",
    "kubernetes_pod_name",
    "k8s_pod_name",
    "k8s.pod.name",
)


def is_meta(form: bytes) -> bool:
    """Tell whether Prometheus says it of a scrape, also of one that failed."""
    return form.startswith(_META)


def tells_wanted(form: bytes) -> bool:
    """Tell whether it is how many members Kubernetes wants of a workload."""
    return form.startswith(_WANTED)


def tells_node(form: bytes) -> bool:
    """Tell whether Kubernetes says by it that a node is one of the cluster's."""
    return form.startswith(_NODE)


def is_of_jobs(form: bytes) -> bool:
    """Tell whether it is of jobs, whose pods are meant to end."""
    return form.startswith(_JOBS)


def is_pod(name: str, labels: Mapping[str, str]) -> bool:
    """Tell whether a member is a pod by its labels, not an exporter that tells of its entity."""
    return any(labels.get(label) == name for label in _POD_LABELS)


def totals(form: bytes) -> tuple[int, int]:
    """Name the count and the sum that a native histogram has in its classic form."""
    labels = parse(form)
    names = (labels[METRIC_NAME] + "_count", labels[METRIC_NAME] + "_sum")
    one, other = (series_id(canonical((labels | {METRIC_NAME: n}).items())) for n in names)
    return one, other
