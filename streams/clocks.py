"""The clocks of a gateway: the time of day, and the time of what it is sent."""

import time


class WallClock:
    """The time of day."""

    def now_ms(self) -> int:
        """Tell the time."""
        return time.time_ns() // 1_000_000


class EventClock:
    """A clock that stands at the newest sample time seen, for replays and the demo."""

    def __init__(self) -> None:
        self._now_ms = 0

    def now_ms(self) -> int:
        """Tell the newest sample time."""
        return self._now_ms

    def advance(self, time_ms: int) -> None:
        """Take note of a sample's time."""
        self._now_ms = max(self._now_ms, time_ms)
