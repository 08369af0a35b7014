"""Log time follows what frames report, and nothing else."""

from watchkeep.detectors.logtime import LogTime
from watchkeep.schemas.frame import SenderTime

HOUR_MS = 3_600_000
NOW_MS = 1_700_000_000_000


def sender(newest_ms: int, heard_ms: int, cluster: str = "a", replica: str = "") -> SenderTime:
    return SenderTime(cluster, replica, newest_ms, heard_ms)


def test_it_is_unknown_before_any_sender() -> None:
    time = LogTime()
    time.hear(NOW_MS, ())
    assert time.now_ms() is None


def test_the_slowest_sender_that_is_heard_decides() -> None:
    time = LogTime()
    time.hear(NOW_MS, (sender(NOW_MS, NOW_MS), sender(NOW_MS - 9_000, NOW_MS, "b")))
    assert time.now_ms() == NOW_MS - 9_000


def test_a_sender_that_falls_silent_stops_holding_the_others() -> None:
    time = LogTime()
    time.hear(NOW_MS, (sender(NOW_MS, NOW_MS), sender(NOW_MS - 9_000, NOW_MS, "b")))
    time.hear(NOW_MS + 61_000, (sender(NOW_MS + 60_000, NOW_MS + 61_000),))
    assert time.now_ms() == NOW_MS + 60_000


def test_backlog_does_not_hold_the_others_and_goes_by_its_own_time() -> None:
    time = LogTime()
    time.hear(NOW_MS, (sender(NOW_MS, NOW_MS), sender(NOW_MS - HOUR_MS, NOW_MS, "b")))
    assert time.now_ms() == NOW_MS
    assert time.cluster_ms("b") == NOW_MS - HOUR_MS
    assert time.in_backlog(NOW_MS - HOUR_MS)
    assert not time.in_backlog(NOW_MS)


def test_in_a_pair_the_replica_in_backlog_does_not_hold_its_cluster() -> None:
    time = LogTime()
    late = sender(NOW_MS - HOUR_MS, NOW_MS, replica="1")
    time.hear(NOW_MS, (sender(NOW_MS, NOW_MS, replica="0"), late))
    assert time.cluster_ms("a") == NOW_MS


def test_times_never_go_back() -> None:
    time = LogTime()
    time.hear(NOW_MS, (sender(NOW_MS, NOW_MS),))
    time.hear(NOW_MS - 5_000, (sender(NOW_MS - 5_000, NOW_MS - 5_000),))
    assert time.now_ms() == NOW_MS
    assert time.tick_ms == NOW_MS


def test_of_a_pair_one_is_elected_until_it_falls_half_a_minute_behind() -> None:
    time = LogTime()
    a, b = sender(NOW_MS, NOW_MS, replica="k8s/0"), sender(NOW_MS, NOW_MS, replica="k8s/1")
    time.hear(NOW_MS, (a, b))
    assert time.elects(a)
    assert not time.elects(b)
    later = sender(NOW_MS + 30_000, NOW_MS + 30_000, replica="k8s/1")
    time.hear(NOW_MS + 30_000, (later,))
    assert not time.elects(later)
    latest = sender(NOW_MS + 31_000, NOW_MS + 31_000, replica="k8s/1")
    time.hear(NOW_MS + 31_000, (latest,))
    assert time.elects(latest)
    assert not time.elects(a)


def test_only_the_elected_replica_decides_how_far_its_cluster_is() -> None:
    time = LogTime()
    a, b = sender(NOW_MS, NOW_MS, replica="0"), sender(NOW_MS - 20_000, NOW_MS, replica="1")
    time.hear(NOW_MS, (a, b))
    time.elects(a)
    time.elects(b)
    assert time.cluster_ms("a") == NOW_MS


def test_pairs_of_one_cluster_are_elected_apart() -> None:
    time = LogTime()
    for name in ("monitoring/k8s/0", "team/x/0"):
        one = sender(NOW_MS, NOW_MS, replica=name)
        time.hear(NOW_MS, (one,))
        assert time.elects(one)


def test_senders_without_a_name_are_never_elected_away() -> None:
    time = LogTime()
    for one in (sender(NOW_MS, NOW_MS, replica="a"), sender(NOW_MS, NOW_MS)):
        time.hear(NOW_MS, (one,))
        assert time.elects(one)
