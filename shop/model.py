"""The shop: services with pods on nodes, users with their days, noise, and what befalls them.

Time is computed in blocks of an hour: a plan says who is there, the load says what happens to
them, families say what exporters make of that, and scrapes say what of it is sent. Everything
follows from the seed.
"""

from collections.abc import Iterator, Mapping
from functools import cached_property

import numpy as np

from watchkeep.schemas.frame import MetricKind
from watchkeep.shop.batches import Batch, cut
from watchkeep.shop.blueprint import CLUSTER, FULL, Blueprint
from watchkeep.shop.events import Event, events
from watchkeep.shop.exhibits import Exhibits
from watchkeep.shop.kinds import Kind, shipped
from watchkeep.shop.plan import Change, Plan, Planner
from watchkeep.shop.run import Run
from watchkeep.shop.strikes import place
from watchkeep.shop.times import DAY_MS, SCRAPE_MS, START_MS, WARMUP_MS
from watchkeep.shop.truth import Truth, truths

Series = list[tuple[dict[str, str], MetricKind]]


class Shop:
    """The shop over some days.

    Attributes:
        strikes: what befalls it, by time; `changes`: what is rolled out, scaled, replaced.
        series: labels and kind of each series that may be sent.
        start_ms, live_ms, warm_until_ms, end_ms: it begins, is sent from `live_ms` on, and alerts
            count from `warm_until_ms` on.
    """

    def __init__(  # noqa: PLR0913 - Each tells something else of the shop.
        self,
        seed: int,
        days: float,
        *,
        blueprint: Blueprint = FULL,
        kinds: Mapping[str, Kind] | None = None,
        replicas: int = 1,
        days_before: int = 0,
    ) -> None:
        self.seed = seed
        self.blueprint = blueprint
        self.start_ms = START_MS
        self.live_ms = self.start_ms + days_before * DAY_MS
        self.warm_until_ms = self.live_ms + WARMUP_MS
        self.end_ms = self.live_ms + round(days * DAY_MS) // SCRAPE_MS * SCRAPE_MS
        span_ms = (self.start_ms, self.end_ms)
        rng = np.random.default_rng([seed, 0])
        every = shipped() if kinds is None else kinds
        self.strikes = place(rng, every, blueprint, self.warm_until_ms, self.end_ms)
        self.plan: Plan = Planner(rng, blueprint, self.strikes, span_ms).make()
        self._replicas = replicas
        self._layout = self._new_layout()

    def _new_layout(self) -> Exhibits:
        return Exhibits(self.blueprint, self.plan, np.random.default_rng([self.seed, 1]))

    @property
    def changes(self) -> list[Change]:
        """List what was done to workloads and nodes, by time."""
        return self.plan.changes

    @cached_property
    def truth(self) -> tuple[Truth, ...]:
        """Tell what each strike really moves."""
        return truths(self.blueprint, self.plan)

    @cached_property
    def events(self) -> list[Event]:
        """List the Kubernetes events, by time."""
        return events(self.blueprint, self.plan)

    @property
    def families(self) -> dict[str, tuple[MetricKind, str]]:
        """Tell TYPE and HELP of each family."""
        return {
            family.base: (family.kind, family.help)
            for group, _ in self._layout.shown
            for family in group.families
        }

    @cached_property
    def series(self) -> Series:
        """List labels and kind of each series that may be sent."""
        made: Series = []
        for number in range(self._replicas):
            sent = {"cluster": CLUSTER, "prometheus_replica": f"prometheus-{number}"}
            for group, _ in self._layout.shown:
                made += [({**labels, **sent}, kind) for labels, kind in group.labels()]
        return made

    def batches(self, samples_max: int, *, before: bool = False) -> Iterator[Batch]:
        """Give all samples as they arrive, in batches of a size; the last may be smaller.

        Args:
            samples_max: in a batch.
            before: give the days before it is sent, instead of those when it is.
        """
        # Counters and noise go on within a run, so each begins with a layout of its own.
        run = Run(self.blueprint, self.plan, self._new_layout(), self.seed, self._replicas)
        span_ms = (self.start_ms, self.live_ms) if before else (self.live_ms, self.end_ms)
        return cut(run.blocks(*span_ms), samples_max)
