"""Two shops without faults, of what often makes detection page falsely.

In one, each service is deployed once, and its new pods show 20 metrics that nobody has seen before;
beside it runs the same shop whose new pods show what the old ones did. In the other are cron jobs
that run every hour.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

import numpy as np

from shop_detection import alerts
from watchkeep.schemas.alert import Alert
from watchkeep.schemas.frame import MetricKind
from watchkeep.schemas.settings import Detect
from watchkeep.shop.blocks import Indexes
from watchkeep.shop.blueprint import Blueprint, CronJob, Role, Service
from watchkeep.shop.exhibits import Exhibit, Exhibits
from watchkeep.shop.exposed import Family, Group, Thing, by, counter, gauge
from watchkeep.shop.kinds import Kind, Target
from watchkeep.shop.model import Shop
from watchkeep.shop.plan import Plan, Planner
from watchkeep.shop.scene import STEP_S, Scene
from watchkeep.shop.states import Pods, counted, within
from watchkeep.shop.strikes import Strike, workload
from watchkeep.shop.times import DAY_MS, HOUR_MS, MINUTE_MS, Floats

WEEK_DAYS: Final = 7
_LE: Final = (0.05, 0.1, 0.25, 0.5, 1.0)
_FIRST_DEPLOY_MS: Final = 2 * HOUR_MS
_DEPLOYS_MS: Final = 8 * HOUR_MS
_DEPLOY_DAYS: Final = WEEK_DAYS + 0.5
_DEPLOY: Final = Kind(
    name="adds-metrics",
    title="A deploy adds metrics",
    fault=False,
    target=Target.SERVICE,
    minutes=(10, 10),
    change="deploy",
)


def services(count: int) -> Blueprint:
    """Plan a shop of a front and services behind it, each of two pods."""
    behind = {
        f"service-{i:02d}": Service(
            2, latency_s=0.004 * 1.2 ** (i % 12), cpu_s=0.001 + 0.0004 * (i % 7)
        )
        for i in range(count - 1)
    }
    calls = {name: 0.1 * (1 + i % 9) for i, name in enumerate(behind)}
    return Blueprint({"front": Service(4, 0.01, 0.003, calls=calls), **behind}, 4, users=150.0)


def jobs(count: int) -> Blueprint:
    """Plan a shop of a front, a database, and cron jobs that take about six minutes an hour."""
    hourly = {
        f"hourly-{i:02d}": CronJob(
            1,
            at_h=i / count,
            minutes=4 + 4 * i / count,
            cores=0.1 + 0.5 * (i % 5) / 5,
            on="database",
            load_cores=0.02,
        )
        for i in range(count)
    }
    standing = {
        "front": Service(2, 0.01, 0.003, calls={"database": 0.5}),
        "database": Service(1, 0.003, 0.002, limit_cores=4.0, role=Role.DATABASE),
    }
    return Blueprint(standing, 3, users=50.0, cron_jobs=hourly)


class Fresh(Pods):
    """Pods that show the new metrics, with chance of their own: it moves nothing else."""

    def __init__(self, scene: Scene, pods: Indexes, rng: np.random.Generator) -> None:
        super().__init__(scene, pods)
        self.rng = rng

    def drawn(self, expected: Floats) -> Floats:
        """Draw counts."""
        return self.rng.poisson(expected).astype(np.float64)

    @property
    def orders(self) -> Floats:
        """Orders that are expected in a step."""
        return 0.3 * self.rate * STEP_S

    @property
    def buckets(self) -> Floats:
        """Orders of a step by how long they took."""
        return counted(self.rng, self.orders, within(6 * self.latency_s, _LE))

    @property
    def hours(self) -> Floats:
        """How many hours each pod has run."""
        return np.maximum(self.scene.now_ms / 1e3 - self.start_s, 0) / 3_600


ADDED: Final[tuple[Family[Fresh], ...]] = (
    counter(
        "orders_requests_total",
        "Orders asked for.",
        lambda s: np.stack([s.drawn(s.orders), s.drawn(0.002 * s.orders)], axis=2),
        variants=by("status", "accepted", "refused"),
    ),
    Family(
        "orders_request_duration_seconds_bucket",
        MetricKind.HISTOGRAM,
        "How long orders took.",
        lambda s: s.buckets,
        variants=by("le", *(f"{le:g}" for le in _LE), "+Inf"),
    ),
    counter("orders_request_errors_total", "Orders lost.", lambda s: s.drawn(0.001 * s.orders)),
    gauge(
        "orders_requests_in_flight",
        "Orders being worked on.",
        lambda s: s.drawn(6 * s.rate * s.latency_s),
    ),
    gauge("orders_pool_pending", "Orders without a connection.", lambda s: s.drawn(s.const(0.03))),
    counter("stock_requests_total", "Questions to the stock.", lambda s: s.drawn(2 * s.orders)),
    gauge("stock_requests_in_progress", "Open questions.", lambda s: s.drawn(0.02 * s.rate)),
    counter("stock_requests_timeouts_total", "Late answers.", lambda s: s.drawn(s.const(0.002))),
    gauge("orders_queue_depth", "Orders that wait.", lambda s: s.drawn(0.5 + 0.05 * s.rate)),
    gauge("orders_open_sessions", "Sessions.", lambda s: 40 + 9 * s.rate, spread=0.05, whole=True),
    counter("orders_cache_hits_total", "Found in the cache.", lambda s: s.drawn(0.9 * s.orders)),
    counter("orders_cache_misses_total", "Not found there.", lambda s: s.drawn(0.1 * s.orders)),
    gauge(
        "orders_cache_entries",
        "The cache's size; it is emptied every six hours.",
        lambda s: 9_000 * (1 - np.exp(-(s.hours % 6))),
        spread=0.02,
        whole=True,
    ),
    gauge("orders_batch_size", "The last batch.", lambda s: s.rng.lognormal(3, 0.8, s.rate.shape)),
    gauge("orders_workers", "Threads that work.", lambda s: s.const(16)),
    gauge("orders_new_checkout_enabled", "Whether a switch is on.", lambda s: s.const(1)),
    counter("orders_retries_total", "Second tries.", lambda s: s.drawn(0.01 * s.orders)),
    counter("orders_written_bytes_total", "Bytes.", lambda s: 900 * s.orders, spread=0.1),
    gauge("orders_price_index", "What a basket costs.", lambda s: s.const(100), spread=0.1),
    gauge(
        "orders_oldest_age_seconds",
        "How old the oldest is.",
        lambda s: 2 + s.rng.exponential(9, s.rate.shape),
    ),
)


class _Grown(Exhibits):
    """Exhibits in which each service's pods show new metrics from its deploy on."""

    def __init__(
        self, blueprint: Blueprint, plan: Plan, rng: np.random.Generator, seed: int
    ) -> None:
        super().__init__(blueprint, plan, rng)
        since_ms = {strike.where: strike.onset_ms for strike in plan.strikes}
        things = [
            self._thing(i, pod)
            for i, pod in self._pods(Role.SERVICE)
            if pod.start_ms >= since_ms.get(pod.workload, plan.end_ms)
        ]
        self._show(things, np.random.default_rng([seed, 4]))

    def _show(self, things: list[Thing], rng: np.random.Generator) -> None:
        group = Group(ADDED, things, rng, lean=False)
        group.base = self.series
        self.shown.append(
            Exhibit(group, lambda scene, which: Fresh(scene, _pods(group, which), rng))
        )
        added = group.columns * len(things)
        self.series += added
        self.zeroed = np.append(self.zeroed, np.zeros(added, bool))


def _pods(group: Group[Fresh], which: Indexes) -> Indexes:
    return group.keys(which)[0]


class DeployShop(Shop):
    """A shop where each service is deployed within the first hours that it is sent.

    Attributes:
        deployed_ms: when each service was.
    """

    def __init__(
        self, seed: int, blueprint: Blueprint, days_before: int, *, grows: bool, days: float
    ) -> None:
        self._grows = grows
        super().__init__(seed, days, blueprint=blueprint, kinds={}, days_before=days_before)
        first_ms = self.live_ms + _FIRST_DEPLOY_MS
        pause_ms = _DEPLOYS_MS // len(blueprint.names)
        self.deployed_ms = {name: first_ms + i * pause_ms for i, name in enumerate(blueprint.names)}
        self.strikes = tuple(
            Strike(_DEPLOY, name, at_ms, at_ms + 10 * MINUTE_MS)
            for name, at_ms in self.deployed_ms.items()
        )
        rng = np.random.default_rng([seed, 0])
        span_ms = (self.start_ms, self.end_ms)
        self.plan = Planner(rng, blueprint, self.strikes, span_ms).make()
        self._layout = self._new_layout()

    def _new_layout(self) -> Exhibits:
        if not self._grows:
            return super()._new_layout()
        rng = np.random.default_rng([self.seed, 1])
        return _Grown(self.blueprint, self.plan, rng, self.seed)


class Special(NamedTuple):
    """What a special shop led to.

    Attributes:
        by_entity: the false alerts of each entity that it is about.
        weeks: how many entities it is about, times weeks.
    """

    name: str
    by_entity: dict[str, int]
    weeks: float

    @property
    def false_a_week(self) -> float:
        """Tell the false alerts an entity and week."""
        return round(sum(self.by_entity.values()) / self.weeks, 3)


def deploy(
    name: str, days_before: int, settings: Detect, *, grows: bool, count: int = 16
) -> Special:
    """Count the alerts of each service in the week after its deploy."""
    shop = DeployShop(1, services(count), days_before, grows=grows, days=_DEPLOY_DAYS)
    spans = {
        workload(each): (at_ms, at_ms + WEEK_DAYS * DAY_MS)
        for each, at_ms in shop.deployed_ms.items()
    }
    return _special(name, alerts(shop, settings), spans)


def cron_hourly(name: str, days_before: int, settings: Detect, count: int = 24) -> Special:
    """Count the alerts of hourly cron jobs after warm-up."""
    shop = Shop(1, WEEK_DAYS, blueprint=jobs(count), kinds={}, days_before=days_before)
    spans = {workload(each): (shop.warm_until_ms, shop.end_ms) for each in shop.blueprint.cron_jobs}
    return _special(name, alerts(shop, settings), spans)


def _special(name: str, paged: list[Alert], spans: Mapping[str, tuple[int, int]]) -> Special:
    by_entity = dict.fromkeys(spans, 0)
    for alert in paged:
        begin_ms, end_ms = spans.get(alert.entity, (0, 0))
        if begin_ms <= alert.detected_ms < end_ms:
            by_entity[alert.entity] += 1
    length_ms = sum(end_ms - begin_ms for begin_ms, end_ms in spans.values())
    return Special(name, by_entity, length_ms / (WEEK_DAYS * DAY_MS))
