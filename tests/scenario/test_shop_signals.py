"""What befalls a platform, as signals: pods that come, go, restart, are ill, or are missed."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from shop_signals import (
    MINUTE_MS,
    Sent,
    Told,
    frames_of,
    is_data,
    kept,
    kinds_of,
    newest_ms,
    told,
    without,
)
from small_shop import PLAIN
from watchkeep.detectors.absence import Gone
from watchkeep.detectors.cells import Cell
from watchkeep.detectors.fold import Fold
from watchkeep.schemas.frame import Frame, SenderTime
from watchkeep.schemas.window import Direction
from watchkeep.shop.blueprint import SMALL, Blueprint, Service
from watchkeep.shop.kinds import Dial, Effect, Kind, Target
from watchkeep.shop.model import Shop
from watchkeep.shop.strikes import workload

DEPLOYS = kinds_of("idle-deploy", "planned-restart")
NOISY = replace(SMALL, lean=False)
FIFTY = Blueprint(
    nodes=4,
    users=120.0,
    lean=True,
    services={
        "frontend": Service(2, 0.03, 0.004, calls={"cart": 4.0}),
        "cart": Service(50, 0.008, 0.002),
    },
)
# Pods show these first when there is something to count, so new pods show nothing of them.
APPEAR = ("http_requests_total{", "istio_requests_total{", "http_client_requests_total{")


def whole_minute(time_ms: int) -> int:
    return time_ms // MINUTE_MS * MINUTE_MS


@pytest.mark.parametrize(("blueprint", "seed"), [(SMALL, 1), (SMALL, 2), (SMALL, 3), (NOISY, 4)])
def test_a_deploy_loses_no_history_of_any_signal(blueprint: Blueprint, seed: int) -> None:
    shop = Shop(seed, 0.17, blueprint=blueprint, kinds=DEPLOYS)
    changes = [c for c in shop.changes if c.kind in {"deploy", "restart"}]
    assert changes
    seen, cells, due = Told(), [], [c.at_ms for c in changes]
    for shard, frame in frames_of(shop, 500 if blueprint.lean else 2_000):
        seen.apply(shard, frame)
        if due and frame.gateway_ms >= due[0]:
            due.pop(0)
            cells.append(seen.cells())
    cells.append(seen.cells())
    end_ms = max(max(values) for values in seen.values.values() if values)
    for change in changes:
        begin_ms = whole_minute(change.at_ms)
        before = range(begin_ms - 30 * MINUTE_MS, begin_ms, MINUTE_MS)
        after = range(begin_ms, end_ms, MINUTE_MS)
        signals = {
            name: values
            for name, values in seen.of(workload(change.what)).items()
            if all(at_ms in values for at_ms in before) and not any(a in name for a in APPEAR)
        }
        assert len(signals) >= (5 if blueprint.lean else 40)
        missing = {n: [a for a in after if a not in values] for n, values in signals.items()}
        assert not {name: times for name, times in missing.items() if times}
    for earlier, later in pairwise(cells):
        assert not [seen.signals[s] for s, count in earlier.items() if later[s] < count]
    # The members of before are forgotten by the end, and the signals are not.
    first = changes[0]
    assert end_ms - first.at_ms > 71 * MINUTE_MS
    now = {
        member
        for s in seen.shards.values()
        for c in s.clusters.values()
        for member in c.fold.roster.names
    }
    old = {
        p.name
        for p in shop.plan.pods
        if p.workload == first.what and p.end_ms <= first.at_ms + 5 * MINUTE_MS
    }
    assert old
    assert not old & now


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_deploy_opens_no_window_but_for_memory_that_is_less(seed: int) -> None:
    seen = told(frames_of(Shop(seed, 0.17, blueprint=SMALL, kinds=DEPLOYS)))
    assert not [
        (window.entity, evidence.signal, evidence.peak_score)
        for window in seen.windows
        for evidence in window.evidence
        if evidence.metric != "container_memory_working_set_bytes"
        or evidence.direction is not Direction.BELOW
    ]


@pytest.fixture
def cells(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Fold, Cell]]:
    """Keep what closes."""
    closed: list[tuple[Fold, Cell]] = []
    close = Fold.close

    def closing(self: Fold, time_ms: int) -> Iterator[Cell]:
        for cell in close(self, time_ms):
            closed.append((self, cell))
            yield cell

    monkeypatch.setattr(Fold, "close", closing)
    return closed


def farthest_of(folds: list[tuple[Fold, Cell]]) -> str:
    """Name who is farthest from the others in cells of one time, over all signals and entities."""
    found = [
        (abs(distance), fold.roster.member_of(strand))
        for fold, cell in folds
        for distance, strand in zip(
            cell.siblings.distance.tolist(), cell.siblings.strand.tolist(), strict=True
        )
        if strand >= 0
    ]
    return max(found)[1]


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_one_bad_pod_of_fifty_is_ranked_first_and_named(
    seed: int, cells: list[tuple[Fold, Cell]]
) -> None:
    shop = Shop(seed, 0.15, blueprint=FIFTY, kinds=kinds_of("bad-pod", among=("cart",)))
    strike = shop.strikes[0]
    (bad,) = [p.name for p in shop.plan.pods if (p.workload, p.slot) == (strike.where, strike.slot)]
    seen = told(frames_of(shop, 5_000))
    by_time: dict[int, list[tuple[Fold, Cell]]] = {}
    for fold, cell in cells:
        if strike.onset_ms <= cell.begin_ms and cell.end_ms <= strike.end_ms:
            by_time.setdefault(cell.begin_ms, []).append((fold, cell))
    first = [farthest_of(folds) for folds in by_time.values()]
    assert len(first) >= 19
    assert first == [bad] * len(first)
    assert {(entity, member) for entity, member, _ in seen.seen("member")} == {
        (workload("cart"), bad)
    }
    (window,) = seen.opened()
    assert strike.onset_ms - MINUTE_MS <= window.onset_ms < strike.onset_ms + 2 * MINUTE_MS
    assert window.evidence[0].member == bad


def test_a_container_s_restart_gives_no_spike() -> None:
    kind = Kind(
        name="restarts",
        title="A container restarts now and then",
        target=Target.POD,
        among=("catalog",),
        minutes=(50, 50),
        effects=(Effect(what=Dial.RESTARTS, size=4),),
    )
    shop = Shop(5, 0.16, blueprint=NOISY, kinds={"restarts": kind})
    (strike,) = shop.strikes
    again = [
        life.start_ms
        for life in shop.plan.lives
        if life.restarts and shop.plan.pods[life.pod].workload == "catalog"
    ]
    assert len(again) >= 3
    signals = told(frames_of(shop, 2_000)).of(workload("catalog"))
    took = "http_request_duration_seconds"
    names = [
        "rate(http_requests_total{code=2xx})",
        "rate(container_cpu_usage_seconds_total)",
        "rate(process_cpu_seconds_total)",
        "rate(container_network_receive_bytes_total)",
        *(f"{folding}({took})" for folding in ("rate", "p50", "p99", "average")),
    ]
    calm = range(strike.onset_ms - 90 * MINUTE_MS, strike.onset_ms - MINUTE_MS)
    for name in names:
        values = signals[name]
        ordinary = [value for at_ms, value in values.items() if at_ms in calm]
        room = (max(ordinary) - min(ordinary)) / 2
        around = [values[whole_minute(t) + i * MINUTE_MS] for t in again for i in range(-2, 4)]
        assert len(ordinary) > 80
        assert min(ordinary) - room <= min(around), name
        assert max(around) <= max(ordinary) + room, name


SCALED = Blueprint(
    nodes=3,
    users=120.0,
    services={
        "frontend": Service(2, 0.03, 0.004, calls={"cart": 4.0}),
        "cart": Service(2, 0.008, 0.006, pods_max=9),
    },
)
CART = workload("cart")


@pytest.fixture(scope="module")
def scaled() -> tuple[Shop, list[Sent]]:
    """A shop that scales in at night by itself."""
    shop = Shop(6, 0.15, blueprint=SCALED, kinds={})
    return shop, list(frames_of(shop, 2_000))


def members_after(shop: Shop, time_ms: int) -> list[str]:
    return [p.name for p in shop.plan.pods if p.workload == "cart" and p.end_ms > time_ms]


def test_a_scale_down_is_no_absence(scaled: tuple[Shop, list[Sent]]) -> None:
    shop, sent = scaled
    scales = [change.detail for change in shop.changes if change.kind == "scale"]
    assert len(scales) >= 2
    seen = told(sent)
    assert not seen.seen("absence")
    counts = list(seen.of(CART)["mean(watchkeep_members)"].values())
    assert counts[60] - counts[-1] == len(scales)


def test_a_pod_that_is_missing_though_it_is_wanted_is_an_absence(
    scaled: tuple[Shop, list[Sent]],
) -> None:
    shop, sent = scaled
    from_ms = shop.start_ms + 120 * MINUTE_MS
    lost = members_after(shop, shop.end_ms - 1)[:1]
    seen = told(without(sent, CART, set(lost), from_ms))
    assert set(seen.seen("absence")) == {(CART, "", Gone.MEMBER)}
    opened = [w for w in seen.opened() if any(e.channel == "absence" for e in w.evidence)]
    assert len(opened) == 1
    evidence = next(e for e in opened[0].evidence if e.channel == "absence")
    assert evidence.expected - evidence.observed == 1
    assert from_ms < opened[0].detected_ms <= from_ms + 20 * MINUTE_MS


def test_an_entity_whose_members_all_vanish_is_an_absence(
    scaled: tuple[Shop, list[Sent]],
) -> None:
    shop, sent = scaled
    from_ms = shop.start_ms + 120 * MINUTE_MS
    seen = told(without(sent, CART, set(members_after(shop, from_ms)), from_ms))
    assert set(seen.seen("absence")) == {(CART, "", Gone.ENTITY)}
    (window,) = [w for w in seen.opened() if any(e.channel == "absence" for e in w.evidence)]
    assert window.detected_ms <= from_ms + 12 * MINUTE_MS
    evidence = next(e for e in window.evidence if e.channel == "absence")
    assert (evidence.observed, evidence.expected) == (0, len(members_after(shop, shop.end_ms - 1)))


def of_replica(frame: Frame, name: str) -> bool:
    return frame.senders[0].replica == name


def stopped(sent: list[Sent], name: str, from_ms: int, until_ms: int) -> Iterator[Sent]:
    """Have a replica send nothing for a time."""
    for shard, frame in sent:
        if not from_ms <= frame.gateway_ms < until_ms:
            yield shard, frame
        elif is_data(frame):
            if not of_replica(frame, name):
                yield shard, frame
        else:
            senders = tuple(
                sender._replace(newest_ms=min(sender.newest_ms, from_ms), heard_ms=from_ms)
                if sender.replica == name
                else sender
                for sender in frame.senders
            )
            yield shard, replace(frame, senders=senders)


def test_a_pair_is_folded_as_one_sender() -> None:
    one = told(frames_of(Shop(7, 0.1, blueprint=SMALL, kinds={})))
    sent = list(frames_of(Shop(7, 0.1, blueprint=SMALL, kinds={}, replicas=2)))
    pair = told(sent)
    names = {s.replica for _, frame in sent for s in frame.senders}
    assert len(names) == 2
    standby = [frame for _, frame in sent if is_data(frame) and not of_replica(frame, min(names))]
    assert pair.drops() == {"standby_replica": sum(len(f.series_id) for f in standby)}
    assert not one.drops()
    for signal_id, values in one.values.items():
        # A pair's log ends with other frames, so the last cell may not have closed.
        common = sorted(values.keys() & pair.values[signal_id].keys())
        assert len(common) >= len(values) - 2
        assert [pair.values[signal_id][t] for t in common] == pytest.approx(
            [values[t] for t in common], rel=1e-9
        )


def test_when_the_elected_one_stops_the_other_takes_over_without_gap_or_double() -> None:
    shop = Shop(7, 0.1, blueprint=SMALL, kinds={}, replicas=2)
    sent = list(frames_of(shop))
    first = min(s.replica for _, frame in sent for s in frame.senders)
    from_ms = shop.start_ms + 60 * MINUTE_MS + 7_000
    until_ms = from_ms + 10 * MINUTE_MS
    whole, cut = told(sent), told(stopped(sent, first, from_ms, until_ms))
    assert 0 < cut.drops()["standby_replica"] < whole.drops()["standby_replica"] * 1.1
    assert set(cut.drops()) <= {"standby_replica", "not_newer"}
    around = range(whole_minute(from_ms) - MINUTE_MS, until_ms + 5 * MINUTE_MS, MINUTE_MS)
    compared = 0
    for name, signal_id in {
        (row.entity, row.metric, row.folding, *row.labels.items()): s
        for s, row in whole.signals.items()
    }.items():
        expected, values = whole.values[signal_id], cut.values[signal_id]
        if not all(at_ms in expected for at_ms in around):
            continue
        assert all(at_ms in values for at_ms in around), name
        mine, theirs = ([v[t] for t in around] for v in (values, expected))
        # They are scraped at other times, which moves what is counted by a scrape at each end.
        steady = np.ptp(theirs) <= 0.5 * np.mean(theirs)
        if steady and np.mean(theirs) > 0:
            assert np.mean(mine) == pytest.approx(np.mean(theirs), rel=0.05), name
            assert min(mine) >= 0.5 * min(theirs), name
            assert max(mine) <= 1.5 * max(theirs), name
            compared += 1
    assert compared >= 20
    assert not cut.windows


def late(sent: list[Sent], until_ms: int) -> Iterator[Sent]:
    """Have all until a time arrive at once, at that time."""
    for shard, frame in sent:
        if frame.gateway_ms >= until_ms:
            yield shard, frame
        elif is_data(frame):
            senders = tuple(s._replace(heard_ms=until_ms) for s in frame.senders)
            yield shard, replace(frame, gateway_ms=until_ms, senders=senders)


def test_a_backlog_is_folded_whole_and_pages_nobody() -> None:
    kinds = kinds_of(*PLAIN, minutes=(12, 15))
    shop = Shop(8, 0.19, blueprint=SMALL, kinds=kinds)
    first, second, *_ = shop.strikes
    until_ms = first.end_ms + 20 * MINUTE_MS
    assert until_ms < second.onset_ms
    sent = list(frames_of(shop))
    live, backlog = told(sent), told(late(sent, until_ms))
    assert backlog.values.keys() == live.values.keys()
    for signal_id, values in live.values.items():
        assert backlog.values[signal_id] == pytest.approx(values, rel=1e-9)
    assert not backlog.drops()
    assert {w.backlog for w in live.windows} == {False}
    flags = {w.onset_ms < until_ms: w.backlog for w in backlog.windows}
    assert flags == {True: True, False: False}
    assert {w.window_id for w in backlog.windows} == {w.window_id for w in live.windows}


def test_a_sample_from_the_future_is_refused_and_told_whose_it_was() -> None:
    sent = list(frames_of(Shop(9, 0.06, blueprint=SMALL, kinds={})))
    places = [i for i, (_, f) in enumerate(sent) if is_data(f) and len(f.series_id)]
    at = places[len(places) // 2]
    shard, frame = sent[at]
    known = {s.series_id: s for _, f in sent[:at] for s in f.label_sets}
    whose = next(known[i] for i in frame.series_id.tolist() if known[i].member)
    row = frame.series_id.tolist().index(whose.series_id)
    time_ms = frame.time_ms.copy()
    time_ms[row] += 60 * MINUTE_MS
    tolerance_ms = frame.gateway_ms + MINUTE_MS
    (sender,) = frame.senders
    ahead = SenderTime(sender.cluster, sender.replica, tolerance_ms, sender.heard_ms)
    odd = replace(frame, time_ms=time_ms, senders=(ahead,))
    seen = told([*sent[:at], (shard, odd), *sent[at + 1 :]])
    missed = np.arange(len(time_ms)) != row
    expected = told([*sent[:at], (shard, kept(frame, missed)), *sent[at + 1 :]])
    assert seen.drops() == {"clock_ahead": 1}
    (cluster,) = seen.shards[shard].clusters.values()
    assert cluster.fold.blamed["clock_ahead"] == (
        f"{whose.entity} {whose.member}",
        tolerance_ms,
    )
    assert cluster.fold.roster.series["last_ms"].max() < newest_ms(sent[-1][1]) + MINUTE_MS
    assert {k: dict(v) for k, v in seen.values.items()} == {
        k: dict(v) for k, v in expected.values.items()
    }
