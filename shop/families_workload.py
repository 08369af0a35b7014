"""What kube-state-metrics tells of deployments, stateful sets, autoscalers, cron jobs and jobs."""

from typing import Final

import numpy as np

from watchkeep.shop.exposed import Family, by, gauge
from watchkeep.shop.states_kube import CronJobs, Runs, Workloads
from watchkeep.shop.times import Floats

_STATUS: Final = ("true", "false", "unknown")


def _conditions(*true: Floats) -> Floats:
    """Show conditions: each as true, false, unknown."""
    return np.stack([part for on in true for part in (on, 1 - on, 0 * on)], axis=2)


def _each(*names: str) -> tuple[dict[str, str], ...]:
    return tuple({"condition": name, "status": status} for name in names for status in _STATUS)


DEPLOYMENT: Final[tuple[Family[Workloads], ...]] = (
    gauge(
        "kube_deployment_created",
        "Unix creation timestamp",
        lambda s: s.const(s.scene.plan.start_ms / 1000 - 40 * 86_400),
    ),
    gauge(
        "kube_deployment_spec_replicas",
        "Number of desired pods for a deployment.",
        lambda s: s.wanted,
    ),
    gauge(
        "kube_deployment_status_replicas",
        "The number of replicas per deployment.",
        lambda s: s.there,
    ),
    gauge(
        "kube_deployment_status_replicas_ready",
        "The number of ready replicas per deployment.",
        lambda s: s.ready,
    ),
    gauge(
        "kube_deployment_status_replicas_available",
        "The number of available replicas per deployment.",
        lambda s: s.ready,
    ),
    gauge(
        "kube_deployment_status_replicas_unavailable",
        "The number of unavailable replicas per deployment.",
        lambda s: s.missing,
    ),
    gauge(
        "kube_deployment_status_replicas_updated",
        "The number of updated replicas per deployment.",
        lambda s: s.updated,
    ),
    gauge(
        "kube_deployment_metadata_generation",
        "Sequence number representing a specific generation of the desired state.",
        lambda s: s.generation(),
    ),
    gauge(
        "kube_deployment_status_observed_generation",
        "The generation observed by the deployment controller.",
        lambda s: s.generation(late_s=4.0),
    ),
    gauge(
        "kube_deployment_status_condition",
        "The current status conditions of a deployment.",
        lambda s: _conditions(np.where(s.missing > 0.25 * s.wanted, 0.0, 1.0), s.const(1)),
        variants=_each("Available", "Progressing"),
    ),
    gauge(
        "kube_deployment_spec_paused",
        "Whether the deployment is paused and will not be processed by the deployment controller.",
        lambda s: s.const(0),
    ),
    gauge(
        "kube_deployment_spec_strategy_rollingupdate_max_unavailable",
        "Maximum number of unavailable replicas during a rolling update of a deployment.",
        lambda s: s.const(0),
    ),
    gauge(
        "kube_deployment_spec_strategy_rollingupdate_max_surge",
        "Maximum number of replicas that can be scheduled above the desired number of replicas.",
        lambda s: s.const(1),
    ),
)

STATEFUL_SET: Final[tuple[Family[Workloads], ...]] = (
    gauge(
        "kube_statefulset_created",
        "Unix creation timestamp",
        lambda s: s.const(s.scene.plan.start_ms / 1000 - 40 * 86_400),
    ),
    gauge(
        "kube_statefulset_replicas",
        "Number of desired pods for a StatefulSet.",
        lambda s: s.wanted,
    ),
    gauge(
        "kube_statefulset_status_replicas",
        "The number of replicas per StatefulSet.",
        lambda s: s.there,
    ),
    gauge(
        "kube_statefulset_status_replicas_ready",
        "The number of ready replicas per StatefulSet.",
        lambda s: s.ready,
    ),
    gauge(
        "kube_statefulset_status_replicas_available",
        "The number of available replicas per StatefulSet.",
        lambda s: s.ready,
    ),
    gauge(
        "kube_statefulset_status_replicas_current",
        "The number of current replicas per StatefulSet.",
        lambda s: s.updated,
    ),
    gauge(
        "kube_statefulset_status_replicas_updated",
        "The number of updated replicas per StatefulSet.",
        lambda s: s.updated,
    ),
    gauge(
        "kube_statefulset_metadata_generation",
        "Sequence number representing a specific generation of the desired state.",
        lambda s: s.generation(),
    ),
    gauge(
        "kube_statefulset_status_observed_generation",
        "The generation observed by the StatefulSet controller.",
        lambda s: s.generation(late_s=4.0),
    ),
)

_HPA: Final = "kube_horizontalpodautoscaler"

AUTOSCALER: Final[tuple[Family[Workloads], ...]] = (
    gauge(
        f"{_HPA}_spec_min_replicas",
        "Lower limit for the number of pods that can be set by the autoscaler, default 1.",
        lambda s: s.pods_min,
    ),
    gauge(
        f"{_HPA}_spec_max_replicas",
        "Upper limit for the number of pods that can be set by the autoscaler.",
        lambda s: s.pods_max,
    ),
    gauge(
        f"{_HPA}_status_current_replicas",
        "Current number of replicas of pods managed by this autoscaler.",
        lambda s: s.there,
    ),
    gauge(
        f"{_HPA}_status_desired_replicas",
        "Desired number of replicas of pods managed by this autoscaler.",
        lambda s: s.wanted,
    ),
    gauge(
        f"{_HPA}_metadata_generation",
        "The generation observed by the HorizontalPodAutoscaler controller.",
        lambda s: s.const(1),
    ),
    gauge(
        f"{_HPA}_status_target_metric",
        "The current metric status used by this autoscaler when calculating the replica count.",
        lambda s: s.busy,
        variants=(
            {
                "metric_name": "cpu",
                "metric_target_type": "utilization",
            },
        ),
    ),
    gauge(
        f"{_HPA}_status_condition",
        "The condition of this autoscaler.",
        lambda s: _conditions(
            s.const(1), s.const(1), np.asarray(s.wanted >= s.pods_max, np.float64)
        ),
        variants=_each("AbleToScale", "ScalingActive", "ScalingLimited"),
    ),
)

CRON_JOB: Final[tuple[Family[CronJobs], ...]] = (
    gauge(
        "kube_cronjob_status_active",
        "Active holds pointers to currently running jobs.",
        lambda s: s.active,
    ),
    gauge(
        "kube_cronjob_status_last_schedule_time",
        "LastScheduleTime keeps information of when was the last time the job was successfully "
        "scheduled.",
        lambda s: s.last_s,
        appears=True,
    ),
    gauge(
        "kube_cronjob_next_schedule_time",
        "Next time the cronjob should be scheduled.",
        lambda s: s.next_s,
    ),
    gauge(
        "kube_cronjob_spec_suspend",
        "Suspend flag tells the controller to suspend subsequent executions.",
        lambda s: s.const(0),
    ),
    gauge("kube_cronjob_info", "Info about cronjob.", lambda s: s.const(1)),
)

JOB_RUN: Final[tuple[Family[Runs], ...]] = (
    gauge(
        "kube_job_status_active",
        "The number of actively running pods.",
        lambda s: s.active,
    ),
    gauge(
        "kube_job_status_succeeded",
        "The number of pods which reached Phase Succeeded.",
        lambda s: 1 - s.active,
    ),
    gauge(
        "kube_job_status_failed",
        "The number of pods which reached Phase Failed and the reason for failure.",
        lambda s: s.const(0),
    ),
    gauge(
        "kube_job_status_start_time",
        "StartTime represents time when the job was acknowledged by the Job Manager.",
        lambda s: s.start_s,
    ),
    gauge(
        "kube_job_status_completion_time",
        "CompletionTime represents time when the job was completed.",
        lambda s: s.end_s,
        appears=True,
    ),
    gauge(
        "kube_job_complete",
        "The job has completed its execution.",
        lambda s: 1 - s.active,
        variants=by("condition", "true"),
        appears=True,
    ),
    gauge(
        "kube_job_spec_completions",
        "The desired number of successfully finished pods the job should be run with.",
        lambda s: s.const(1),
    ),
)
