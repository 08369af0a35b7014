"""Whose a name is: what controllers and kubelets add to the names of what they make is stripped."""

import re
from typing import Literal

Strip = Literal["pod", "replicaset", "job", "ordinal", "policy", "claim"]

_HASH = "[bcdfghjklmnpqrstvwxz2456789]"  # The alphabet of Kubernetes' generated names.
_VOLUME = "(?:data|datadir|pgdata|storage|db|volume|vol|pvc|claim|www|home|logs?|wal|cache|config)"
_GENERATED: dict[Strip, tuple[re.Pattern[str], ...]] = {
    "pod": (
        re.compile(rf"(.+)-\d{{8,10}}-{_HASH}{{5}}"),  # CronJob: scheduled time and pod
        re.compile(rf"(.+)-{_HASH}{{6,10}}-{_HASH}{{5}}"),  # Deployment: replica set and pod
        re.compile(rf"(.+)-\d+-{_HASH}{{5}}"),  # indexed Job
        re.compile(rf"(.+)-{_HASH}{{5}}"),  # DaemonSet, Job
        re.compile(r"(.+)-\d+"),  # StatefulSet
    ),
    "replicaset": (re.compile(rf"(.+)-{_HASH}{{6,10}}"),),
    "job": (re.compile(r"(.+)-\d{8,10}"),),
    "ordinal": (re.compile(r"(.+)-\d+"),),
    "policy": (re.compile(r"keda-hpa-(.+)"), re.compile(r"(.+)-(?:hpa|vpa|pdb)")),
    "claim": (
        # A stateful set's: its template, its name, a number.
        re.compile(rf"(?:.+?-)?{_VOLUME}-(.+)-\d+"),
        re.compile(rf"(.+)-{_VOLUME}(?:-\d+)?"),
        re.compile(r"(.+)-\d+"),
    ),
}
# A kubelet adds its node's name to these, and few series tell that name.
_STATIC = re.compile(r"(kube-apiserver|kube-controller-manager|kube-scheduler|kube-vip|etcd)-.+")
_SYSTEM = re.compile(r"kube-system|openshift-.+")
_DEPLOYED = re.compile(rf".+-{_HASH}{{6,10}}-{_HASH}{{5}}")


def static_pod(pod: str, namespace: str) -> str:
    """Name the part of the control plane that a static pod is; nothing for other pods."""
    if not _SYSTEM.fullmatch(namespace) or _DEPLOYED.fullmatch(pod):
        return ""
    found = _STATIC.fullmatch(pod)
    return found.group(1) if found else ""


def workload_of(name: str, whose: Strip = "pod", node: str = "") -> str:
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


def host_of(instance: str) -> str:
    """Strip the port: ``10.0.0.7:9100`` and ``[fe80::1]:9100`` become their host."""
    host, colon, port = instance.rpartition(":")
    if colon and port.isdigit() and (":" not in host or host.startswith("[")):
        return host.strip("[]")
    return instance
