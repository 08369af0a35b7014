"""Times of the shop, and the rhythm of its users."""

from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Times = npt.NDArray[np.int64]

SECOND_MS: Final = 1_000
MINUTE_MS: Final = 60_000
HOUR_MS: Final = 60 * MINUTE_MS
DAY_MS: Final = 24 * HOUR_MS
START_MS: Final = 1_772_409_600_000  # Monday, 2026-03-02 00:00 UTC
SCRAPE_MS: Final = 30_000
WARMUP_MS: Final = 2 * HOUR_MS

_WEEKEND: Final = 0.82


def rhythm(time_ms: Times) -> Floats:
    """Give the share of the users of a busy weekday evening who are there at a time.

    The day has a peak at noon, a higher one at eight in the evening, and its low at five.
    """
    hours = (time_ms - START_MS) / HOUR_MS
    day = np.exp(
        0.5 * np.cos(2 * np.pi * (hours - 17.5) / 24) + 0.2 * np.cos(4 * np.pi * (hours - 20) / 24)
    )
    weekend = (hours // 24 % 7) >= 5
    return np.asarray(day / np.exp(0.68) * np.where(weekend, _WEEKEND, 1.0))
