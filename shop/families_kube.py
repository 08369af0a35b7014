"""What kube-state-metrics tells of pods."""

from functools import cached_property
from typing import Final

import numpy as np

from watchkeep.shop.blocks import Bools
from watchkeep.shop.exposed import Family, by, counter, gauge
from watchkeep.shop.states import Pods
from watchkeep.shop.times import Floats

_PHASES: Final = ("Pending", "Running", "Succeeded", "Failed", "Unknown")


class PodObjects(Pods):
    """Pods as the API server knows them."""

    @property
    def present(self) -> Bools:
        """Tell when pods are there."""
        return np.asarray(self.scene.exists[:, self.at])

    @cached_property
    def resets(self) -> list[tuple[int, int]]:
        """Nothing begins anew."""
        return []

    @cached_property
    def running(self) -> Floats:
        """1 while the container runs."""
        return np.asarray(self.scene.alive[:, self.at], np.float64)

    @cached_property
    def ready(self) -> Floats:
        """1 while it is ready."""
        return np.asarray(self.scene.ready[:, self.at], np.float64)

    @cached_property
    def begun(self) -> Floats:
        """1 once a container has run."""
        pods = [self.scene.plan.pods[i] for i in self.scene.pods[self.at].tolist()]
        starts = np.array([pod.start_ms for pod in pods])
        late = (self.scene.now_ms - starts) > 12_000
        return np.asarray(np.maximum(self.running, late))

    @cached_property
    def created_s(self) -> Floats:
        """When the pod was made."""
        pods = [self.scene.plan.pods[i] for i in self.scene.pods[self.at].tolist()]
        return self.each(np.array([pod.start_ms // 1000 for pod in pods], np.float64))

    @property
    def looping(self) -> Floats:
        """1 while the container waits to be started again."""
        return np.asarray((1 - self.running) * self.begun)

    def ended(self, reason: str) -> Floats:
        """1 where the last container ended for a reason."""
        ended = self.scene.ended.get(reason)
        return self.const(0) if ended is None else self.of(ended.astype(np.float64))

    @property
    def phases(self) -> Floats:
        """The pod's phase, as 1 at one of them."""
        none = self.const(0)
        return np.stack([1 - self.begun, self.begun, none, none, none], axis=2)

    @property
    def asked_cores(self) -> Floats:
        """What a container asks of its node."""
        return self.each(np.round(self.limit_cores / 4, 3))


def _pair(true: Floats) -> Floats:
    """Show a condition as kube-state-metrics does: true, false, unknown."""
    return np.stack([true, 1 - true, 0 * true], axis=2)


_CONDITION: Final = by("condition", "true", "false", "unknown")
_RESOURCES: Final = (
    {"resource": "cpu", "unit": "core"},
    {"resource": "memory", "unit": "byte"},
)
_WHY: Final = by("reason", "CrashLoopBackOff")

POD: Final[tuple[Family[PodObjects], ...]] = (
    gauge("kube_pod_info", "Information about pod.", lambda s: s.const(1)),
    gauge("kube_pod_created", "Unix creation timestamp", lambda s: s.created_s),
    gauge("kube_pod_start_time", "Start time in unix timestamp for a pod.", lambda s: s.created_s),
    gauge("kube_pod_owner", "Information about the Pod's owner.", lambda s: s.const(1)),
    gauge(
        "kube_pod_status_phase",
        "The pods current phase.",
        lambda s: s.phases,
        variants=by("phase", *_PHASES),
    ),
    gauge(
        "kube_pod_status_ready",
        "Describes whether the pod is ready to serve requests.",
        lambda s: _pair(s.ready),
        variants=_CONDITION,
    ),
    gauge(
        "kube_pod_status_scheduled",
        "Describes the status of the scheduling process for the pod.",
        lambda s: _pair(s.const(1)),
        variants=_CONDITION,
    ),
    gauge(
        "kube_pod_restart_policy",
        "Describes the restart policy in use by this pod.",
        lambda s: s.const(1),
        variants=by("type", "Always"),
    ),
    gauge(
        "kube_pod_container_info",
        "Information about a container in a pod.",
        lambda s: s.const(1),
    ),
    gauge(
        "kube_pod_container_status_running",
        "Describes whether the container is currently in running state.",
        lambda s: s.running,
    ),
    gauge(
        "kube_pod_container_status_waiting",
        "Describes whether the container is currently in waiting state.",
        lambda s: 1 - s.running,
    ),
    gauge(
        "kube_pod_container_status_ready",
        "Describes whether the containers readiness check succeeded.",
        lambda s: s.ready,
    ),
    gauge(
        "kube_pod_container_status_terminated",
        "Describes whether the container is currently in terminated state.",
        lambda s: s.const(0),
    ),
    gauge(
        "kube_pod_container_status_waiting_reason",
        "Describes the reason the container is currently in waiting state.",
        lambda s: s.looping,
        variants=_WHY,
        appears=True,
    ),
    gauge(
        "kube_pod_container_status_last_terminated_reason",
        "Describes the last reason the container was in terminated state.",
        lambda s: np.stack([s.ended("Error"), s.ended("OOMKilled")], axis=2),
        variants=by("reason", "Error", "OOMKilled"),
        appears=True,
    ),
    counter(
        "kube_pod_container_status_restarts_total",
        "The number of container restarts per container.",
        lambda s: s.of(s.scene.restarts),
        total=True,
    ),
    gauge(
        "kube_pod_container_state_started",
        "Start time in unix timestamp for a pod container.",
        lambda s: np.floor(s.start_s),
        appears=True,
    ),
    gauge(
        "kube_pod_container_resource_requests",
        "The number of requested request resource by a container.",
        lambda s: np.stack([s.asked_cores, s.each(s.limit_bytes / 2)], axis=2),
        variants=_RESOURCES,
    ),
    gauge(
        "kube_pod_container_resource_limits",
        "The number of requested limit resource by a container.",
        lambda s: np.stack([s.each(s.limit_cores), s.each(s.limit_bytes)], axis=2),
        variants=_RESOURCES,
    ),
)
