"""A sender that falls silent is told once, by one shard."""

from watchkeep.detectors.logtime import LogTime
from watchkeep.detectors.senders import Senders
from watchkeep.enrichers.incidents import advance
from watchkeep.enrichers.template import explain
from watchkeep.schemas.entity import Entity
from watchkeep.schemas.frame import SHARDS, SenderTime
from watchkeep.schemas.settings import Detect
from watchkeep.schemas.window import Window, WindowState

NOW_MS = 1_700_000_000_000
MINUTE_MS = 60_000


class Everyone:
    """All shards, each with its own view of the same log."""

    def __init__(self) -> None:
        self.times = [LogTime() for _ in range(SHARDS)]
        self.senders = [Senders(Detect(), number) for number in range(SHARDS)]

    def hear(self, minute: float, *names: str) -> list[Window]:  # noqa: D102
        now_ms = NOW_MS + round(minute * MINUTE_MS)
        told = [SenderTime("c", name, now_ms, now_ms) for name in names]
        windows = []
        for time, senders in zip(self.times, self.senders, strict=True):
            time.hear(now_ms, told)
            windows += senders.look(time)
        return windows


def test_a_lost_sender_is_one_window_and_closes_when_it_is_back() -> None:
    shards = Everyone()
    assert not shards.hear(0, "a", "b")
    assert not shards.hear(2, "b")
    (window,) = shards.hear(4, "b")
    assert Entity.from_key(window.entity).title == "sender a"
    assert (window.state, window.revision, window.onset_ms) == (WindowState.OPEN, 1, NOW_MS)
    assert not shards.hear(5, "b")
    (again,) = shards.hear(14, "b")
    assert (again.window_id, again.revision) == (window.window_id, 2)
    (closed,) = shards.hear(15, "a", "b")
    assert (closed.state, closed.revision) == (WindowState.CLOSED, 3)


def test_a_sender_that_is_gone_for_a_day_is_forgotten() -> None:
    shards = Everyone()
    shards.hear(0, "a", "b")
    for minute in range(1, 24 * 60):
        shards.hear(minute, "b")
    (closed,) = shards.hear(24 * 60 + 1, "b")
    assert closed.state is WindowState.CLOSED
    assert all(("c", "a") not in time.senders for time in shards.times)


def test_the_state_survives_a_snapshot() -> None:
    shards = Everyone()
    shards.hear(0, "a")
    (window,) = shards.hear(4)
    for number, senders in enumerate(shards.senders):
        state = senders.dump()
        shards.senders[number] = Senders(Detect(), number)
        shards.senders[number].restore(state)
    (closed,) = shards.hear(6, "a")
    assert (closed.window_id, closed.revision) == (window.window_id, 2)


def test_a_lost_sender_is_told_in_words() -> None:
    shards = Everyone()
    shards.hear(0, "a", "b")
    (window,) = shards.hear(4, "b")
    summary = explain(advance(None, window)).summary
    assert summary.startswith("sender a is abnormal since 2023-11-14 22:13 UTC: ")
    assert summary.endswith(": nothing comes from it any more, for 4 min.")
