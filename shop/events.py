"""Kubernetes events of a plan: core/v1 Event objects as the API server gives them."""

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, Final, NamedTuple

import numpy as np
import xxhash

from watchkeep.shop.blueprint import NAMESPACE, Blueprint, Role
from watchkeep.shop.kinds import Dial
from watchkeep.shop.plan import DRAIN_MS, Life, Plan, Pod, Rollout, hits
from watchkeep.shop.strikes import course, node_name
from watchkeep.shop.times import MINUTE_MS, SECOND_MS

Event = dict[str, Any]

_BACKOFF_S: Final = 10
_API: Final = {
    "Deployment": "apps/v1",
    "StatefulSet": "apps/v1",
    "HorizontalPodAutoscaler": "autoscaling/v2",
    "CronJob": "batch/v1",
    "Job": "batch/v1",
}


class _Said(NamedTuple):
    """What is particular to one event."""

    at_ms: int
    kind: str
    name: str
    reason: str
    message: str
    by: str
    host: str = ""
    warning: bool = False
    container: str = ""
    times: int = 1


def events(blueprint: Blueprint, plan: Plan) -> list[Event]:
    """List what the controllers, the scheduler and the kubelets say, by time."""
    said = [
        *_of_pods(plan),
        *_of_probes(plan),
        *_of_workloads(blueprint, plan),
        *_of_runs(plan),
        *_of_nodes(plan),
    ]
    within = [s for s in said if plan.start_ms < s.at_ms < plan.end_ms]
    return [_event(number, said) for number, said in enumerate(sorted(within), 1)]


def _of_pods(plan: Plan) -> Iterator[_Said]:
    """Pods are scheduled, their containers start, crash, and are stopped."""
    lives: dict[int, list[Life]] = {}
    for life in plan.lives:
        lives.setdefault(life.pod, []).append(life)
    for number, pod in enumerate(plan.pods):
        yield _scheduled(pod)
        own = lives.get(number, [])
        for life, following in zip(own, [*own[1:], None], strict=True):
            yield from _started(pod, life)
            if following is not None:
                yield from _backs_off(pod, life, following)
        if own and own[-1].reason != "Completed":
            yield _of_kubelet(pod, pod.end_ms, "Killing", f"Stopping container {pod.workload}")


def _scheduled(pod: Pod) -> _Said:
    message = f"Successfully assigned {NAMESPACE}/{pod.name} to {node_name(pod.node)}"
    return _Said(pod.start_ms, "Pod", pod.name, "Scheduled", message, "default-scheduler")


def _of_kubelet(pod: Pod, at_ms: int, reason: str, message: str) -> _Said:
    host = node_name(pod.node)
    return _Said(at_ms, "Pod", pod.name, reason, message, "kubelet", host, container=pod.workload)


def _warning(pod: Pod, at_ms: int, reason: str, message: str, count: int) -> _Said:
    said = _of_kubelet(pod, at_ms, reason, message)
    return said._replace(warning=True, times=count)


def _started(pod: Pod, life: Life) -> Iterator[_Said]:
    image = f"registry.shop.example/{pod.workload}:{pod.version}"
    at_ms = life.start_ms
    pulled = f'Container image "{image}" already present on machine'
    if not life.restarts:
        pulled = f'Successfully pulled image "{image}" in {800 + at_ms % 2_000} ms'
    yield _of_kubelet(pod, at_ms - SECOND_MS, "Pulled", pulled)
    yield _of_kubelet(pod, at_ms - 400, "Created", f"Created container {pod.workload}")
    yield _of_kubelet(pod, at_ms, "Started", f"Started container {pod.workload}")


def _backs_off(pod: Pod, life: Life, following: Life) -> Iterator[_Said]:
    if following.start_ms - life.end_ms < _BACKOFF_S * SECOND_MS:
        return
    message = f"Back-off restarting failed container {pod.workload} in pod {pod.name}"
    count = following.restarts
    yield _warning(pod, life.end_ms + SECOND_MS, "BackOff", message, count)


def _of_probes(plan: Plan) -> Iterator[_Said]:
    """Probes fail where a strike says so: once a minute, by pod."""
    for strike in plan.strikes:
        for effect in strike.kind.effects:
            if effect.what is not Dial.UNREADY:
                continue
            times = np.arange(strike.onset_ms, strike.end_ms, MINUTE_MS)
            failing = times[course(strike, effect, times) * effect.size > 0].tolist()
            for pod in plan.pods:
                if not hits(strike, pod):
                    continue
                seen = [at_ms for at_ms in failing if pod.start_ms <= at_ms < pod.end_ms]
                for count, at_ms in enumerate(seen, 1):
                    message = "Readiness probe failed: HTTP probe failed with statuscode: 503"
                    yield _warning(pod, at_ms, "Unhealthy", message, count)


def _of_workloads(blueprint: Blueprint, plan: Plan) -> Iterator[_Said]:
    """Deployments scale their replica sets, autoscalers deployments."""
    for name, service in blueprint.services.items():
        if service.role is not Role.SERVICE:
            continue
        rollouts = plan.rollouts[name]
        for before, after in pairwise(rollouts):
            pods = _wanted(plan, name, after.at_ms)
            yield _scaled(name, after, f"up replica set {name}-{after.template} to {pods}")
            yield _scaled(name, after, f"down replica set {name}-{before.template} to 0", late=True)
        for at_ms, pods in plan.desired[name][1:]:
            message = f"New size: {pods}; reason: cpu resource utilization differs from target"
            yield _Said(
                at_ms,
                "HorizontalPodAutoscaler",
                name,
                "SuccessfulRescale",
                message,
                "horizontal-pod-autoscaler",
            )
            now = next(r for r in reversed(rollouts) if r.at_ms <= at_ms)
            up = "up" if pods > _wanted(plan, name, at_ms - 1) else "down"
            change = Rollout(at_ms + SECOND_MS, "scale", now.template, now.version)
            yield _scaled(name, change, f"{up} replica set {name}-{now.template} to {pods}")


def _scaled(name: str, rollout: Rollout, what: str, *, late: bool = False) -> _Said:
    at_ms = rollout.at_ms + (MINUTE_MS if late else 0)
    controller = "deployment-controller"
    return _Said(at_ms, "Deployment", name, "ScalingReplicaSet", f"Scaled {what}", controller)


def _wanted(plan: Plan, name: str, at_ms: int) -> int:
    return [pods for begin_ms, pods in plan.desired[name] if begin_ms <= at_ms][-1]


def _of_runs(plan: Plan) -> Iterator[_Said]:
    """Cron jobs make jobs, and jobs pods."""
    for run in plan.runs:
        job, pod = f"{run.job}-{run.number}", plan.pods[run.pod].name
        by, made = "cronjob-controller", "SuccessfulCreate"
        yield _Said(run.start_ms, "CronJob", run.job, made, f"Created job {job}", by)
        yield _Said(run.start_ms, "Job", job, made, f"Created pod: {pod}", "job-controller")
        yield _Said(run.end_ms, "Job", job, "Completed", "Job completed", "job-controller")
        message = f"Saw completed job: {job}, status: Complete"
        yield _Said(run.end_ms + SECOND_MS, "CronJob", run.job, "SawCompletedJob", message, by)


def _of_nodes(plan: Plan) -> Iterator[_Said]:
    """Nodes are drained and removed, and others come."""
    for number, (begin_ms, end_ms) in enumerate(plan.nodes):
        name, by = node_name(number), "node-controller"
        if begin_ms > plan.start_ms:
            joined = f"Node {name} event: Registered Node {name} in Controller"
            yield _Said(begin_ms, "Node", name, "RegisteredNode", joined, by)
            ready = f"Node {name} status is now: NodeReady"
            yield _Said(
                begin_ms + 20 * SECOND_MS, "Node", name, "NodeReady", ready, "kubelet", name
            )
        if end_ms < plan.end_ms:
            closed = f"Node {name} status is now: NodeNotSchedulable"
            drained_ms = end_ms - DRAIN_MS
            yield _Said(drained_ms, "Node", name, "NodeNotSchedulable", closed, "kubelet", name)
            gone = f"Node {name} status is now: NodeNotReady"
            yield _Said(end_ms, "Node", name, "NodeNotReady", gone, by, warning=True)
            left = f"Node {name} event: Removing Node {name} from Controller"
            yield _Said(end_ms + 40 * SECOND_MS, "Node", name, "RemovingNode", left, by)


def _event(number: int, said: _Said) -> Event:
    namespace = "default" if said.kind == "Node" else NAMESPACE
    when = _time(said.at_ms)
    about = {
        "kind": said.kind,
        "namespace": namespace,
        "name": said.name,
        "uid": _uid(said.kind, said.name),
        "apiVersion": _API.get(said.kind, "v1"),
    }
    if said.kind == "Node":
        del about["namespace"]
    if said.container:
        about["fieldPath"] = f"spec.containers{{{said.container}}}"
    name = f"{said.name}.{xxhash.xxh3_64_hexdigest(str(number).encode())}"
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "uid": _uid("Event", name),
            "resourceVersion": str(100_000 + number),
            "creationTimestamp": when,
        },
        "involvedObject": about,
        "reason": said.reason,
        "message": said.message,
        "source": {"component": said.by} | ({"host": said.host} if said.host else {}),
        "firstTimestamp": when,
        "lastTimestamp": when,
        "count": said.times,
        "type": "Warning" if said.warning else "Normal",
        "eventTime": None,
        "reportingComponent": said.by,
        "reportingInstance": said.host,
    }


def _uid(kind: str, name: str) -> str:
    return str(uuid.UUID(int=xxhash.xxh3_128_intdigest(f"{kind}/{name}".encode()), version=4))


def _time(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
