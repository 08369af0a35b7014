"""Who shows what: targets with their labels, and the groups of series that each shows."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from watchkeep.shop.blocks import Indexes
from watchkeep.shop.blueprint import NAMESPACE, Blueprint, Role
from watchkeep.shop.exposed import Cumulator, Family, Group, State, Thing
from watchkeep.shop.families_app import APP
from watchkeep.shop.families_calls import CLIENT, MESH
from watchkeep.shop.families_container import CONTAINER, NETWORK, Containers, Sandboxes
from watchkeep.shop.families_device import DEVICE, OBJECT
from watchkeep.shop.families_kube import POD, PodObjects
from watchkeep.shop.families_node import NODE
from watchkeep.shop.families_queue import RABBITMQ
from watchkeep.shop.families_store import POSTGRES, REDIS
from watchkeep.shop.families_workload import (
    AUTOSCALER,
    CRON_JOB,
    DEPLOYMENT,
    JOB_RUN,
    STATEFUL_SET,
)
from watchkeep.shop.plan import Plan, Pod
from watchkeep.shop.scene import Scene
from watchkeep.shop.states import Apps
from watchkeep.shop.states_calls import Made, Served
from watchkeep.shop.states_kube import KEPT_MS, CronJobs, Runs, Workloads
from watchkeep.shop.states_node import Nodes
from watchkeep.shop.states_store import Stores
from watchkeep.shop.states_target import CERTIFICATE, TARGET, Certificates, Scraped, Target
from watchkeep.shop.strikes import node_name

_EXPORTERS: Final = {
    Role.DATABASE: (POSTGRES, "postgres-exporter", 9187),
    Role.CACHE: (REDIS, "redis-exporter", 9121),
    Role.QUEUE: (RABBITMQ, "rabbitmq", 15692),
}
Make = Callable[[Scene, Indexes], State]


class Exhibit(NamedTuple):
    """A group, and how its state is made of a scene for some of its things."""

    group: Group[Any]
    state: Make


class Exhibits:
    """All that is shown in a shop.

    Attributes:
        targets: what is scraped.
        shown: the groups; the first is about the targets themselves.
        series: how many there are; `own`: how many of them, the first, are about targets.
        zeroed: bool[series], those that are 0 when a scrape fails.
    """

    def __init__(self, blueprint: Blueprint, plan: Plan, rng: np.random.Generator) -> None:
        self._blueprint, self._plan, self._rng = blueprint, plan, rng
        self._lean = blueprint.lean
        self.targets: list[Target] = []
        self._span = (plan.start_ms, plan.end_ms)
        self._ports = {i: self._port(i, pod) for i, pod in self._pods()}
        self._kubelets = [self._kubelet(i) for i in range(len(plan.nodes))]
        self._exporters = [self._exporter(i) for i in range(len(plan.nodes))]
        shown = [*self._of_pods(), *self._of_nodes()]
        if not self._lean:
            shown += [*self._of_calls(), *self._of_objects(), self._certificates()]
        self._count_series(shown)
        self.shown = [self._of_targets(), *(e for e in shown if e.group.columns)]
        self.series = 0
        for group, _ in self.shown:
            group.base = self.series
            self.series += group.columns * len(group.things)
        own = self.shown[0].group
        self.own = own.columns * len(own.things)
        self.zeroed = np.zeros(self.series, bool)
        for column, family in enumerate(own.families):
            self.zeroed[column : self.own : own.columns] = family.name != "scrape_duration_seconds"

    def _add(self, labels: Mapping[str, str], pod: int, start_ms: int, end_ms: int) -> int:
        self.targets.append(Target(dict(labels), pod, start_ms, end_ms))
        return len(self.targets) - 1

    def _group(self, families: Sequence[Family[Any]], things: Sequence[Thing]) -> Group[Any]:
        return Group(families, things, self._rng, lean=self._lean)

    def _pods(self, *roles: Role) -> Iterator[tuple[int, Pod]]:
        """List the pods of services, or of workloads with some roles."""
        for i, pod in enumerate(self._plan.pods):
            service = self._blueprint.services.get(pod.workload)
            if service is not None and (not roles or service.role in roles):
                yield i, pod

    def _port(self, number: int, pod: Pod) -> int:
        """Make the target of a pod's own metrics."""
        role = self._blueprint.services[pod.workload].role
        job, port = (pod.workload, 8080) if role is Role.SERVICE else _EXPORTERS[role][1:]
        labels = {"namespace": NAMESPACE, "pod": pod.name, "service": pod.workload, "job": job}
        labels |= {"instance": f"{pod.ip}:{port}", "container": pod.workload}
        if role is Role.SERVICE:
            labels["version"] = pod.version
        return self._add(labels, number, pod.start_ms, pod.end_ms)

    def _kubelet(self, number: int) -> int:
        name = node_name(number)
        labels = {"job": "kubelet", "node": name, "instance": f"{_ip(number)}:10250"}
        labels["metrics_path"] = "/metrics/cadvisor"
        return self._add(labels, -1, *self._plan.nodes[number])

    def _exporter(self, number: int) -> int:
        name = node_name(number)
        labels = {"job": "node-exporter", "node": name, "instance": f"{name}:9100"}
        return self._add(labels, -1, *self._plan.nodes[number])

    def _of_targets(self) -> Exhibit:
        things = [
            Thing(target.labels, i, (i, 0), target.start_ms, target.end_ms)
            for i, target in enumerate(self.targets)
        ]
        targets = self.targets
        return Exhibit(
            self._group(TARGET, things), lambda scene, which: Scraped(scene, targets, which)
        )

    def _of_pods(self) -> Iterator[Exhibit]:
        apps = self._group(APP, [self._thing(i, pod) for i, pod in self._pods(Role.SERVICE)])
        cycles = Cumulator(len(apps.things), 1)
        yield Exhibit(apps, lambda scene, which: Apps(scene, apps.keys(which)[0], cycles, which))
        for role, (families, _, _) in _EXPORTERS.items():
            stores = self._group(families, [self._thing(i, pod) for i, pod in self._pods(role)])
            yield self._by_pod(stores, Stores)
        pods = list(enumerate(self._plan.pods))
        seen = [self._contained(i, pod, container=True) for i, pod in pods]
        yield self._by_pod(self._group(CONTAINER, seen), Containers)
        seen = [self._contained(i, pod, container=False) for i, pod in pods]
        yield self._by_pod(self._group(NETWORK, seen), Sandboxes)

    @staticmethod
    def _by_pod(
        group: Group[Any], state: type[Stores | Containers | Sandboxes | PodObjects]
    ) -> Exhibit:
        return Exhibit(group, lambda scene, which: state(scene, group.keys(which)[0]))

    def _thing(self, number: int, pod: Pod) -> Thing:
        target = self._ports[number]
        labels = self.targets[target].labels
        return Thing(labels, target, (number, 0), pod.start_ms, pod.end_ms)

    def _contained(self, number: int, pod: Pod, *, container: bool) -> Thing:
        target = self._kubelets[pod.node]
        labels = {"namespace": NAMESPACE, "pod": pod.name, **self.targets[target].labels}
        if container:
            labels["container"] = pod.workload
            labels["image"] = f"registry.shop.example/{pod.workload}:{pod.version}"
        return Thing(labels, target, (number, 0), pod.start_ms, pod.end_ms)

    def _of_nodes(self) -> Iterator[Exhibit]:
        things = [
            Thing(self.targets[target].labels, target, (i, 0), *self._plan.nodes[i])
            for i, target in enumerate(self._exporters)
        ]
        group = self._group((*NODE, *DEVICE), things)
        yield Exhibit(group, lambda scene, which: Nodes(scene, group.keys(which)[0]))

    def _of_calls(self) -> Iterator[Exhibit]:
        edges = self._blueprint.edges
        made = [
            Thing(
                {**self.targets[self._ports[i]].labels, "peer": edge[1]},
                self._ports[i],
                (i, e),
                pod.start_ms,
                pod.end_ms,
            )
            for i, pod in self._pods(Role.SERVICE)
            for e, edge in enumerate(edges)
            if edge[0] == pod.workload
        ]
        client = self._group(CLIENT, made)
        yield Exhibit(client, lambda scene, which: Made(scene, *client.keys(which)))
        proxies = {i: self._proxy(i, pod) for i, pod in self._pods()}
        served = [
            Thing(
                {**self.targets[proxies[i]].labels, **_mesh(edge[0], edge[1])},
                proxies[i],
                (i, e),
                pod.start_ms,
                pod.end_ms,
            )
            for i, pod in self._pods()
            for e, edge in enumerate(edges)
            if edge[1] == pod.workload
        ]
        mesh = self._group(MESH, served)
        yield Exhibit(mesh, lambda scene, which: Served(scene, *mesh.keys(which)))

    def _proxy(self, number: int, pod: Pod) -> int:
        labels = {"namespace": NAMESPACE, "pod": pod.name, "job": "istio-proxies"}
        labels |= {"instance": f"{pod.ip}:15020", "container": "istio-proxy"}
        return self._add(labels, number, pod.start_ms, pod.end_ms)

    def _of_objects(self) -> Iterator[Exhibit]:
        """Show what kube-state-metrics tells of pods, workloads, cron jobs and nodes."""
        own = {"namespace": "monitoring", "pod": "kube-state-metrics-6d9f8c7b54-x2kqv"}
        own |= {"job": "kube-state-metrics", "instance": "10.8.0.9:8080"}
        target = self._add(own | {"container": "kube-state-metrics"}, -1, *self._span)
        common = {"job": "kube-state-metrics", "instance": "10.8.0.9:8080"}
        things = [
            Thing(common | self._object(pod), target, (i, 0), pod.start_ms, pod.end_ms)
            for i, pod in enumerate(self._plan.pods)
        ]
        yield self._by_pod(self._group(POD, things), PodObjects)
        for label, families, names in self._controllers():
            things = [
                Thing(
                    common | {"namespace": NAMESPACE, label: name},
                    target,
                    (self._blueprint.names.index(name), 0),
                    *self._span,
                )
                for name in names
            ]
            yield self._by_workload(self._group(families, things))
        yield from self._jobs(common, target)
        things = [
            Thing(common | {"node": node_name(i)}, target, (i, 0), *span)
            for i, span in enumerate(self._plan.nodes)
        ]
        nodes = self._group(OBJECT, things)
        yield Exhibit(nodes, lambda scene, which: Nodes(scene, nodes.keys(which)[0]))

    @staticmethod
    def _by_workload(group: Group[Any]) -> Exhibit:
        return Exhibit(group, lambda scene, which: Workloads(scene, group.keys(which)[0]))

    def _controllers(self) -> Iterator[tuple[str, Sequence[Family[Workloads]], list[str]]]:
        services = self._blueprint.services
        stateful = [n for n, service in services.items() if service.role is not Role.SERVICE]
        yield "deployment", DEPLOYMENT, [name for name in services if name not in stateful]
        yield "statefulset", STATEFUL_SET, stateful
        scaled = [name for name, service in services.items() if service.pods_max]
        yield "horizontalpodautoscaler", AUTOSCALER, scaled

    def _jobs(self, common: Mapping[str, str], target: int) -> Iterator[Exhibit]:
        own = {**common, "namespace": NAMESPACE}
        names = list(self._blueprint.cron_jobs)
        things = [
            Thing(own | {"cronjob": name}, target, (i, 0), *self._span)
            for i, name in enumerate(names)
        ]
        jobs = self._group(CRON_JOB, things)
        yield Exhibit(jobs, lambda scene, which: CronJobs(scene, jobs.keys(which)[0]))
        things = [
            Thing(
                own | {"job_name": f"{run.job}-{run.number}"},
                target,
                (i, 0),
                run.start_ms,
                run.end_ms + KEPT_MS,
            )
            for i, run in enumerate(self._plan.runs)
        ]
        runs = self._group(JOB_RUN, things)
        yield Exhibit(runs, lambda scene, which: Runs(scene, runs.keys(which)[0]))

    def _object(self, pod: Pod) -> dict[str, str]:
        labels = {"namespace": NAMESPACE, "pod": pod.name, "container": pod.workload}
        return labels | {"node": node_name(pod.node)}

    def _certificates(self) -> Exhibit:
        own = {"namespace": "cert-manager", "pod": "cert-manager-7c5d9f4b88-kq6tz"}
        own |= {"job": "cert-manager", "instance": "10.8.0.14:9402", "container": "cert-manager"}
        target = self._add(own, -1, *self._span)
        common = {"job": "cert-manager", "instance": "10.8.0.14:9402", "namespace": NAMESPACE}
        common |= {"issuer_kind": "ClusterIssuer", "issuer_name": "shop-ca"}
        things = [
            Thing(common | {"name": f"{name}-tls", "app": name}, target, (i, 0), *self._span)
            for i, name in enumerate(self._blueprint.names)
        ]
        group = self._group(CERTIFICATE, things)
        return Exhibit(group, lambda scene, which: Certificates(scene, group.keys(which)[0]))

    def _count_series(self, shown: Sequence[Exhibit]) -> None:
        count = np.zeros(len(self.targets), np.int64)
        for group, _ in shown:
            np.add.at(count, group.targets, group.columns)
        for i, series in enumerate(count.tolist()):
            self.targets[i] = self.targets[i]._replace(series=series)


def _ip(node: int) -> str:
    return f"10.0.0.{10 + node}"


def _mesh(caller: str, callee: str) -> dict[str, str]:
    return {
        "reporter": "destination",
        "source_workload": caller,
        "source_workload_namespace": NAMESPACE,
        "destination_workload": callee,
        "destination_workload_namespace": NAMESPACE,
        "destination_service": f"{callee}.{NAMESPACE}.svc.cluster.local",
        "request_protocol": "http",
    }
