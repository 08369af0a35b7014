"""Tell a gain from luck: a paired bootstrap over records."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from corpora import Floats

_ROUNDS = 10_000


class Interval(NamedTuple):
    """A difference of two runs, and where 95% of the resampled differences lie."""

    difference: float
    low: float
    high: float


def paired(
    now: Floats, before: Floats, metric: Callable[[Floats], Floats], seed: int = 1
) -> Interval:
    """Compare two runs on the same records, drawn again and again with replacement.

    Few records make a coarse interval: it speaks of records like these, and of no others. A
    threshold that was chosen on all of them stays as it is.

    Args:
        now: float64[records, parts], counts that the metric is computed from once they are summed.
        before: likewise, of the same records in the same order.
        metric: float64[..., parts] -> float64[...].
        seed: the same draws for the same seed.
    """
    assert now.shape == before.shape
    records = len(now)
    dice = np.random.default_rng(seed)
    drawn = dice.multinomial(records, np.full(records, 1 / records), size=_ROUNDS).astype(float)
    spread = metric(drawn @ now) - metric(drawn @ before)
    low, high = np.nanquantile(spread, [0.025, 0.975])
    difference = metric(now.sum(axis=0)) - metric(before.sum(axis=0))
    return Interval(float(difference), float(low), float(high))
