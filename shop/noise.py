"""Noise with memory and fat tails, made block by block."""

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from watchkeep.shop.load import Wobble
from watchkeep.shop.times import DAY_MS, MINUTE_MS, Floats, Times

_TAILS: Final = 3.5
_SLOW: Final = 0.995
# Steps from one level to another, a column and scrape: about one a day.
_JUMPS: Final = 1 / 2_880
_JUMP: Final = 2.0

_BURSTS_A_DAY: Final = 8.0
_USERS: Final = 0.1
_SPREADS: Final = np.array([0.06, 0.09, 0.14])  # Of a pod's share, of what requests cost, of time.
_TAME: Final = 0.4

Columns = slice | npt.NDArray[np.intp]


class Noise:
    """Columns of noise with a variance of about one, each going on where the last block ended.

    Each column mixes, at shares of its own, an AR(1) process with Student's t for its steps (Box
    and Jenkins, Time Series Analysis), and a level that wanders and now and then jumps; tame noise
    wanders little and never jumps.
    """

    def __init__(self, rng: np.random.Generator, columns: int, *, tame: bool = False) -> None:
        self._rng = rng
        self._jumps = 0.0 if tame else _JUMPS
        self._fast = rng.standard_normal(columns)
        self._level = rng.standard_normal(columns)
        self._memory = rng.uniform(0.0, 0.6, columns)
        self._share = rng.uniform(0.02, 0.2 if tame else 0.75, columns)

    def block(self, count: int, columns: Columns) -> Floats:
        """Make the next block: float64[count, columns chosen]."""
        rng = self._rng
        fast, level = self._fast[columns], self._level[columns]
        memory, share = self._memory[columns], self._share[columns]
        steps = rng.standard_t(_TAILS, (count, len(fast)))
        steps *= np.sqrt((_TAILS - 2) / _TAILS) * np.sqrt(1 - memory**2)
        drift = rng.standard_normal((count, len(fast))) * np.sqrt(1 - _SLOW**2)
        drift += _jumps(rng, self._jumps, drift.shape)
        made = np.empty_like(steps)
        for i in range(count):
            fast = memory * fast + steps[i]
            level = _SLOW * level + drift[i]
            made[i] = fast
            drift[i] = level
        self._fast[columns], self._level[columns] = fast, level
        return np.asarray(np.sqrt(1 - share) * made + np.sqrt(share) * drift)


def _jumps(rng: np.random.Generator, often: float, shape: tuple[int, int]) -> Floats:
    jumps = np.zeros(shape)
    count = int(rng.poisson(often * jumps.size))
    jumps.ravel()[rng.integers(jumps.size, size=count)] = _JUMP * rng.standard_normal(count)
    return jumps


class _Burst(NamedTuple):
    begin_ms: int
    end_ms: int
    size: float


class Wobbles:
    """What is random in the load: users who come in bursts, pods that differ, costs and times."""

    def __init__(
        self, rng: np.random.Generator, pods: int, span_ms: tuple[int, int], *, tame: bool
    ) -> None:
        self._calm = _TAME if tame else 1.0
        self._users = Noise(rng, 1, tame=tame)
        self._pods = Noise(rng, 3 * pods, tame=tame)
        # Pods of a workload never get quite the same share, nor do they run on equal cores.
        self._own = np.exp(0.04 * rng.standard_normal((2, pods)))
        count = 0 if tame else rng.poisson(_BURSTS_A_DAY * (span_ms[1] - span_ms[0]) / DAY_MS)
        self._bursts = [self._burst(rng, at) for at in rng.integers(*span_ms, count).tolist()]

    @staticmethod
    def _burst(rng: np.random.Generator, at_ms: int) -> _Burst:
        size = min(0.08 * (1 + float(rng.pareto(2.2))), 0.6)
        return _Burst(at_ms, at_ms + round(rng.uniform(1, 7) * MINUTE_MS), size)

    def block(self, times: Times, pods: npt.NDArray[np.intp]) -> Wobble:
        """Make the wobble of a block, for containers of these pods."""
        users = np.exp(_USERS * self._calm * self._users.block(len(times), slice(0, 1))[:, 0])
        for burst in self._bursts:
            users[(times >= burst.begin_ms) & (times < burst.end_ms)] *= 1 + burst.size
        some, where = np.unique(pods, return_inverse=True)
        columns = (3 * some[:, None] + np.arange(3)).ravel()
        noise = self._pods.block(len(times), columns).reshape(len(times), len(some), 3)
        noise = np.clip(noise * _SPREADS * self._calm, -1.0, 1.0)
        rate, cost, time = np.moveaxis(np.exp(noise), 2, 0)
        return Wobble(
            users,
            rate[:, where] * self._own[0, pods],
            cost[:, where] * self._own[1, pods],
            time[:, where],
        )
