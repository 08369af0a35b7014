"""Scrapes: at which offset each target is read, which reads fail, and when Prometheus is down."""

from typing import Final

import numpy as np

from watchkeep.shop.blocks import Bools, Indexes
from watchkeep.shop.times import DAY_MS, MINUTE_MS, SCRAPE_MS, Times

STALE: Final = np.uint64(0x7FF0_0000_0000_0002).view(np.float64)
SKEW_MS: Final = 1_300

_MISSED: Final = 1 / 4_000
_STOPS_A_DAY: Final = 1.0
_STOP_MS: Final = (2 * MINUTE_MS, 5 * MINUTE_MS)


class Scrapes:
    """One Prometheus.

    Attributes:
        offset_ms: int64[targets], when in each interval a target is scraped.
        skew_ms: how far its clock is ahead.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        targets: int,
        span_ms: tuple[int, int],
        *,
        skew_ms: int,
        tidy: bool,
    ) -> None:
        self._rng = rng
        self._tidy = tidy
        self.skew_ms = skew_ms
        self.offset_ms = rng.integers(SCRAPE_MS, size=targets)
        self._stops = [] if tidy else _stops(rng, span_ms)

    def running(self, times: Times) -> Bools:
        """Tell at which steps it runs: bool[t]."""
        up = np.ones(len(times), bool)
        for begin_ms, end_ms in self._stops:
            up &= (times < begin_ms) | (times >= end_ms)
        return up

    def missed(self, times: Times) -> Bools:
        """Draw which scrapes fail: bool[t, targets]."""
        shape = (len(times), len(self.offset_ms))
        if self._tidy:
            return np.zeros(shape, bool)
        return np.asarray(self._rng.random(shape, np.float32) < _MISSED)


def _stops(rng: np.random.Generator, span_ms: tuple[int, int]) -> list[tuple[int, int]]:
    begin_ms, end_ms = span_ms
    count = rng.poisson(_STOPS_A_DAY * (end_ms - begin_ms) / DAY_MS)
    begins = rng.integers(begin_ms, end_ms, count).tolist()
    return [(at_ms, at_ms + int(rng.integers(*_STOP_MS))) for at_ms in begins]


class Sent:
    """What one Prometheus showed of each series last, to know when one has ended."""

    def __init__(self, series: int) -> None:
        self._there = np.zeros(series, bool)

    def ended(self, series: Indexes, present: Bools, running: Bools) -> Bools:
        """Tell where series that were there have ended: bool[t, columns]."""
        before = np.empty_like(present)
        before[0] = self._there[series]
        before[1:] = present[:-1]
        stopped = ~running
        ended = before & ~present
        ended[stopped] = False
        # After a stop it knows of no series that it could miss.
        ended[np.flatnonzero(stopped[:-1]) + 1] = False
        self._there[series] = present[-1] & running[-1]
        return ended
