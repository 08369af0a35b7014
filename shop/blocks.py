"""Stretches of time that are computed at once, and who is there in each."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from watchkeep.shop.plan import Life, Plan, hits
from watchkeep.shop.strikes import Strike
from watchkeep.shop.times import MINUTE_MS, Times

# Who has just gone belongs to a block still, as its series end with a marker.
BEFORE_MS: Final = 2 * MINUTE_MS

Bools = npt.NDArray[np.bool_]
Indexes = npt.NDArray[np.intp]


@dataclass(slots=True)
class Block:
    """A stretch of time, and who is there in it.

    Attributes:
        times: int64[t], the grid.
        which: the numbers of the container runs that meet the stretch, cron jobs' too.
        alive, ready: bool[t, lives].
    """

    times: Times
    which: Indexes
    lives: list[Life]
    alive: Bools
    ready: Bools


class Calendar:
    """Finds who is there at a time."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._starts = np.array([life.start_ms for life in plan.lives], np.int64)
        self._ends = np.array([life.end_ms for life in plan.lives], np.int64)

    def block(self, times: Times, without: Strike | None = None) -> Block:
        """Make a block; `without` a strike, none of its pods' containers ends early."""
        before_ms, after_ms = int(times[0]) - BEFORE_MS, int(times[-1])
        which = np.flatnonzero((self._starts <= after_ms) & (self._ends > before_ms))
        lives = [self._plan.lives[i] for i in which.tolist()]
        if without is not None:
            which, lives = self._whole(without, which, lives)
        starts, ends, readies = (
            np.array([getattr(life, name) for life in lives], np.int64)
            for name in ("start_ms", "end_ms", "ready_ms")
        )
        now = times[:, None]
        return Block(
            times, which, lives, (now >= starts) & (now < ends), (now >= readies) & (now < ends)
        )

    def _whole(
        self, strike: Strike, which: Indexes, lives: list[Life]
    ) -> tuple[Indexes, list[Life]]:
        """Let the first life of each struck pod last as long as the pod."""
        kept: list[tuple[int, Life]] = []
        for number, life in zip(which.tolist(), lives, strict=True):
            pod = self._plan.pods[life.pod]
            if not hits(strike, pod):
                kept.append((number, life))
            elif life.end_ms > strike.onset_ms and life.pod not in {done.pod for _, done in kept}:
                kept.append((number, life._replace(end_ms=pod.end_ms)))
        return np.array([number for number, _ in kept], np.intp), [life for _, life in kept]
