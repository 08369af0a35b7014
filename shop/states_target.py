"""What Prometheus tells of its targets, and cert-manager of certificates."""

from typing import Final, NamedTuple

import numpy as np

from watchkeep.shop.blocks import Bools, Indexes
from watchkeep.shop.exposed import Family, Size, gauge
from watchkeep.shop.kinds import Dial, Effect
from watchkeep.shop.scene import Scene
from watchkeep.shop.times import DAY_MS, Floats


class Target(NamedTuple):
    """What Prometheus scrapes.

    Attributes:
        pod: whose container must run for an answer; -1 for what always answers.
        series: how many it shows, about.
    """

    labels: dict[str, str]
    pod: int
    start_ms: int
    end_ms: int
    series: int = 0


class Scraped:
    """Targets, by number."""

    def __init__(self, scene: Scene, targets: list[Target], which: Indexes) -> None:
        self.scene = scene
        self.targets = [targets[i] for i in which.tolist()]

    @property
    def present(self) -> Bools:
        """Tell when targets are known, be they up or down."""
        starts = np.array([target.start_ms for target in self.targets], np.int64)
        ends = np.array([target.end_ms for target in self.targets], np.int64)
        now = self.scene.block.times[:, None]
        return np.asarray((now >= starts) & (now < ends))

    @property
    def resets(self) -> list[tuple[int, int]]:
        """Nothing begins anew."""
        return []

    @property
    def up(self) -> Floats:
        """1 while a target answers."""
        out = np.ones((len(self.scene.block.times), len(self.targets)))
        for i, target in enumerate(self.targets):
            if target.pod >= 0:
                out[:, i] = self.scene.alive[:, self.scene.column[target.pod]]
        return out

    @property
    def series(self) -> Floats:
        """How many series it shows."""
        return np.asarray(self.up * np.array([float(target.series) for target in self.targets]))


class Certificates:
    """Certificates of workloads."""

    def __init__(self, scene: Scene, works: Indexes) -> None:
        self.scene = scene
        self._works = works

    @property
    def present(self) -> Bools:
        """They are always there."""
        return np.ones((len(self.scene.block.times), len(self._works)), bool)

    @property
    def resets(self) -> list[tuple[int, int]]:
        """Nothing begins anew."""
        return []

    @property
    def expires_s(self) -> Floats:
        """When each expires: the one that a strike lets expire was known to, and is renewed."""
        plan, names = self.scene.plan, self.scene.blueprint.names
        out = np.empty(self.present.shape)
        for i, work in enumerate(self._works.tolist()):
            out[:, i] = plan.start_ms + (20 + 7 * work % 60) * DAY_MS
            due = [s for s in plan.strikes if s.where == names[work] and _expires(s.kind.effects)]
            for strike in reversed(due):
                out[self.scene.block.times < strike.end_ms, i] = strike.onset_ms
            for strike in due[-1:]:
                after = self.scene.block.times >= strike.end_ms
                out[after, i] = strike.end_ms + 90 * DAY_MS
        return out // 1000


def _expires(effects: tuple[Effect, ...]) -> bool:
    return any(effect.what is Dial.CERTIFICATE for effect in effects)


def _ready(s: Certificates) -> Floats:
    good = np.asarray(s.expires_s * 1000 > s.scene.now_ms, np.float64)
    return np.stack([good, 1 - good, 0 * good], axis=2)


TARGET: Final[tuple[Family[Scraped], ...]] = (
    gauge("up", "", lambda s: s.up, size=Size.BOTH),
    gauge("scrape_duration_seconds", "", lambda s: 0.002 + 2e-5 * s.series, spread=0.3),
    gauge("scrape_samples_scraped", "", lambda s: s.series),
)

CERTIFICATE: Final[tuple[Family[Certificates], ...]] = (
    gauge(
        "certmanager_certificate_expiration_timestamp_seconds",
        "The timestamp after which the certificate expires, expressed in Unix Epoch Time.",
        lambda s: s.expires_s,
    ),
    gauge(
        "certmanager_certificate_ready_status",
        "The ready status of the certificate.",
        _ready,
        variants=({"condition": "True"}, {"condition": "False"}, {"condition": "Unknown"}),
    ),
)
