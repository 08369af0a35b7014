"""A stage that dies is started again, later each time, until it has died too often."""

from watchkeep.streams.up import Deaths


def test_the_wait_doubles() -> None:
    deaths = Deaths()
    assert [deaths.backoff_s(float(s)) for s in range(4)] == [0.5, 1.0, 2.0, 4.0]


def test_five_deaths_in_a_minute_are_too_many() -> None:
    deaths = Deaths()
    assert [deaths.backoff_s(float(s * 14)) is None for s in range(5)] == [False] * 4 + [True]


def test_deaths_that_lie_far_apart_are_forgotten() -> None:
    deaths = Deaths()
    assert [deaths.backoff_s(s * 61.0) for s in range(20)] == [0.5] * 20
