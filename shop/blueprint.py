"""What the shop is made of: services and who calls whom, stores, nodes, cron jobs.

It is shaped like Online Boutique (github.com/GoogleCloudPlatform/microservices-demo), with a
database, a cache and a queue of its own, and a worker behind the queue.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Final

CLUSTER: Final = "demo"
NAMESPACE: Final = "shop"


class Role(StrEnum):
    """What a workload is, for fault kinds that only fit some."""

    SERVICE = "service"
    DATABASE = "database"
    CACHE = "cache"
    QUEUE = "queue"


@dataclass(frozen=True, slots=True)
class Service:
    """One workload that serves requests.

    Attributes:
        pods: how many it has on a quiet day; `pods_max`: how far it may be scaled out.
        latency_s: mean time to serve a request, without what it waits for.
        cpu_s: CPU time a request costs; `idle_cores`: what each pod takes with no request.
        limit_cores, limit_bytes: what a container may use.
        memory: working set of a fresh container, as a share of its limit.
        disk: how much of its latency is waiting for the node's disk.
        calls: requests to other workloads for each request served.
    """

    pods: int
    latency_s: float
    cpu_s: float
    limit_cores: float = 1.0
    limit_bytes: float = 256e6
    memory: float = 0.5
    idle_cores: float = 0.01
    pods_max: int = 0
    disk: float = 0.0
    role: Role = Role.SERVICE
    calls: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CronJob:
    """A job that runs at fixed times.

    Attributes:
        every_h: hours between runs; `at_h`: the first of the day.
        minutes: how long it runs; `cores`: what it uses.
        on: the workload that it works on, and `load_cores`: what it costs that one.
    """

    every_h: int
    at_h: float
    minutes: float
    cores: float
    on: str
    load_cores: float


@dataclass(frozen=True)
class Blueprint:
    """A shop that could be built.

    Attributes:
        services: callers stand before whom they call.
        queue: the workload that holds messages, who writes them and who works on them.
        users: requests a second at noon on a weekday, all in all.
        lean: show only a few series of each, with tame noise and no chance failures, for tests that
            want a shop and not its size.
    """

    services: Mapping[str, Service]
    nodes: int
    users: float
    cron_jobs: Mapping[str, CronJob] = field(default_factory=dict)
    queue: tuple[str, str, str] | None = None
    lean: bool = False

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Name the workloads that serve requests, callers first."""
        return tuple(self.services)

    @cached_property
    def edges(self) -> tuple[tuple[str, str, float], ...]:
        """List who calls whom, and how often for each request served."""
        return tuple(
            (caller, callee, calls)
            for caller, service in self.services.items()
            for callee, calls in service.calls.items()
        )


FULL: Final = Blueprint(
    nodes=5,
    users=240.0,
    queue=("rabbitmq", "checkout", "orders"),
    services={
        "frontend": Service(
            2,
            0.018,
            0.0048,
            limit_bytes=320e6,
            pods_max=9,
            calls={
                "ad": 0.6,
                "cart": 0.8,
                "catalog": 2.0,
                "currency": 1.2,
                "recommendation": 0.5,
                "shipping": 0.15,
                "checkout": 0.08,
            },
        ),
        "recommendation": Service(
            3, 0.012, 0.0052, limit_cores=0.6, limit_bytes=450e6, calls={"catalog": 1.0}
        ),
        "checkout": Service(
            3,
            0.03,
            0.009,
            limit_cores=0.5,
            calls={
                "cart": 1.0,
                "catalog": 1.0,
                "currency": 1.0,
                "payment": 1.0,
                "shipping": 1.0,
                "rabbitmq": 1.0,
            },
        ),
        "ad": Service(2, 0.006, 0.0028, limit_bytes=420e6, memory=0.55),
        "cart": Service(3, 0.004, 0.0018, calls={"redis": 1.5}),
        "catalog": Service(2, 0.005, 0.0024, pods_max=8, calls={"postgres": 0.6}),
        "currency": Service(3, 0.003, 0.0021, limit_bytes=128e6),
        "payment": Service(2, 0.04, 0.006, limit_cores=0.3, limit_bytes=128e6),
        "shipping": Service(2, 0.006, 0.0022, limit_cores=0.4, limit_bytes=96e6),
        "orders": Service(2, 0.05, 0.012, limit_bytes=300e6, calls={"email": 1.0, "postgres": 3.0}),
        "email": Service(2, 0.07, 0.008, limit_cores=0.4, limit_bytes=200e6),
        "rabbitmq": Service(
            1, 0.0015, 0.0009, limit_bytes=600e6, idle_cores=0.06, disk=0.3, role=Role.QUEUE
        ),
        "redis": Service(
            1, 0.0004, 0.00012, limit_bytes=512e6, memory=0.4, idle_cores=0.02, role=Role.CACHE
        ),
        "postgres": Service(
            2,
            0.0025,
            0.0016,
            limit_cores=2.0,
            limit_bytes=2e9,
            memory=0.7,
            idle_cores=0.05,
            disk=0.6,
            role=Role.DATABASE,
        ),
    },
    cron_jobs={
        "backup": CronJob(24, 2.0, 18, 0.6, "postgres", 0.35),
        "report": CronJob(1, 0.1, 4, 0.3, "postgres", 0.12),
    },
)

SMALL: Final = Blueprint(
    nodes=2,
    users=120.0,
    lean=True,
    services={
        "frontend": Service(3, 0.03, 0.004, calls={"catalog": 1.5, "cart": 0.6, "checkout": 0.15}),
        "checkout": Service(2, 0.05, 0.006, calls={"cart": 1.0, "payment": 1.0, "catalog": 0.5}),
        "cart": Service(2, 0.008, 0.002),
        "catalog": Service(3, 0.015, 0.003),
        "payment": Service(2, 0.09, 0.003),
    },
)
