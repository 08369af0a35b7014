"""What befalls a platform, as signals: pods that come, go, restart, are ill, or are missed."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

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
from watchkeep.schemas.frame import Frame, MetricKind
from watchkeep.shop.blueprint import SMALL, Blueprint, Service
from watchkeep.shop.kinds import Dial, Effect, Kind, Target
from watchkeep.shop.model import Shop
from watchkeep.shop.plan import Change
from watchkeep.shop.strikes import workload

NOISY = Blueprint(
    nodes=2,
    users=120.0,
    services={
        "frontend": Service(2, 0.03, 0.004, calls={"catalog": 1.5}),
        "catalog": Service(3, 0.015, 0.003),
    },
)
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


class Deployed(NamedTuple):
    """A shop whose pods are replaced now and then, and what was told of it.

    Attributes:
        changes: the replacements; `cells`: what the channel had learnt at each, and at the end.
    """

    shop: Shop
    changes: list[Change]
    told: Told
    cells: list[dict[int, int]]


@pytest.fixture(
    scope="module",
    params=[(SMALL, 1), (SMALL, 2), (NOISY, 4)],
    ids=["lean 1", "lean 2", "noisy 4"],
)
def deployed(request: pytest.FixtureRequest) -> Deployed:
    blueprint, seed = request.param
    shop = Shop(seed, 0.165, blueprint=blueprint, kinds=kinds_of("idle-deploy", "planned-restart"))
    changes = [c for c in shop.changes if c.kind in {"deploy", "restart"}]
    seen, cells, due = Told(), [], [c.at_ms for c in changes]
    for shard, frame in frames_of(shop, 500 if blueprint.lean else 2_000):
        seen.apply(shard, frame)
        if due and frame.gateway_ms >= due[0]:
            due.pop(0)
            cells.append(seen.cells())
    return Deployed(shop, changes, seen, [*cells, seen.cells()])


def test_a_deploy_loses_no_history_of_any_signal(deployed: Deployed) -> None:
    shop, changes, seen, cells = deployed
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
        assert len(signals) >= (5 if shop.blueprint.lean else 40)
        missing = {n: [a for a in after if a not in values] for n, values in signals.items()}
        assert not {name: times for name, times in missing.items() if times}
    assert len(cells) >= 2
    for earlier, later in pairwise(cells):
        assert not [seen.signals[s] for s, count in earlier.items() if later[s] < count]
        learnt = [s for s, count in earlier.items() if count]
        assert len([s for s in learnt if later[s] > earlier[s]]) > 0.9 * len(learnt)
    # By the end the pods of before are forgotten.
    first = changes[0]
    assert end_ms - first.at_ms > 71 * MINUTE_MS
    by_ms = first.at_ms + 5 * MINUTE_MS
    pods = {p.name: p.end_ms <= by_ms for p in shop.plan.pods if p.workload == first.what}
    assert any(pods.values())
    assert {name for name, gone in pods.items() if not gone} <= seen.members()
    assert not {name for name, gone in pods.items() if gone} & seen.members()


def test_a_deploy_opens_no_window(deployed: Deployed) -> None:
    """Noise opens windows of its own, at other times."""
    opened = [
        [(evidence.signal, evidence.peak_score) for evidence in window.evidence]
        for window in deployed.told.windows
        if any(
            c.at_ms - MINUTE_MS <= window.onset_ms <= c.at_ms + 10 * MINUTE_MS
            and window.entity == workload(c.what)
            for c in deployed.changes
        )
    ]
    assert not opened


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


@pytest.mark.usefixtures("quickly_warm_here")
@pytest.mark.parametrize("seed", [1, 3, 5])
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
    telling = [w for w in seen.opened() if bad in {entry.member for entry in w.evidence}]
    assert telling[0].entity == workload("cart")
    assert strike.onset_ms - MINUTE_MS <= telling[0].onset_ms < strike.onset_ms + 2 * MINUTE_MS


def begun_anew(sent: list[Sent], entity: str) -> int:
    """Count how often counters fell, with no stale marker in between."""
    counters = {
        known.series_id
        for _, frame in sent
        for known in frame.label_sets
        if known.entity == entity and known.kind in {MetricKind.COUNTER, MetricKind.HISTOGRAM}
    }
    last: dict[int, float] = {}
    falls = 0
    for _, frame in sent:
        for series_id, value in zip(frame.series_id.tolist(), frame.value.tolist(), strict=True):
            if series_id in counters:
                falls += value < last.get(series_id, -np.inf)
                last[series_id] = value
    return falls


@pytest.mark.parametrize("seed", [8, 12])
def test_a_container_s_restart_gives_no_spike(seed: int) -> None:
    kind = Kind(
        name="restarts",
        title="A container restarts now and then",
        target=Target.POD,
        among=("catalog",),
        minutes=(50, 50),
        effects=(Effect(what=Dial.RESTARTS, size=4),),
    )
    shop = Shop(seed, 0.155, blueprint=NOISY, kinds={"restarts": kind})
    (strike,) = shop.strikes
    again = [
        life.start_ms
        for life in shop.plan.lives
        if life.restarts and shop.plan.pods[life.pod].workload == "catalog"
    ]
    assert len(again) >= 3
    catalog = workload("catalog")
    sent = list(frames_of(shop, 2_000, catalog))
    assert begun_anew(sent, catalog) > 40
    signals = told(sent).of(catalog)
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
        # What a pod counted between its last scrape and its end is lost, and it was down.
        lost = 1 / 3 if name.startswith("rate(") else 0
        assert (1 - lost) * min(ordinary) - room <= min(around), name
        assert max(around) <= max(ordinary) + room, name


SCALED = Blueprint(
    nodes=2,
    users=120.0,
    services={
        "frontend": Service(2, 0.03, 0.004, calls={"cart": 4.0}),
        "cart": Service(2, 0.008, 0.009, pods_max=9),
    },
)
CART = workload("cart")


@pytest.fixture(scope="module")
def scaled() -> tuple[Shop, list[Sent]]:
    """A shop that scales in at night by itself."""
    shop = Shop(6, 0.13, blueprint=SCALED, kinds={})
    return shop, list(frames_of(shop, 2_000, CART))


def members_until(shop: Shop, time_ms: int) -> list[str]:
    return [p.name for p in shop.plan.pods if p.workload == "cart" and p.end_ms >= time_ms]


def test_a_scale_down_is_no_absence(scaled: tuple[Shop, list[Sent]]) -> None:
    shop, sent = scaled
    scales = [change.detail for change in shop.changes if change.kind == "scale"]
    assert len(scales) >= 2
    seen = told(sent)
    assert not seen.seen("absence")
    counts = list(seen.of(CART)["mean(watchkeep_members)"].values())
    assert counts[0] - counts[-1] == len(scales)


def test_a_pod_that_is_missing_though_it_is_wanted_is_an_absence(
    scaled: tuple[Shop, list[Sent]],
) -> None:
    shop, sent = scaled
    from_ms = shop.start_ms + 120 * MINUTE_MS
    lost = members_until(shop, shop.end_ms)[:1]
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
    seen = told(without(sent, CART, set(members_until(shop, from_ms)), from_ms))
    assert set(seen.seen("absence")) == {(CART, "", Gone.ENTITY)}
    (window,) = [w for w in seen.opened() if any(e.channel == "absence" for e in w.evidence)]
    assert window.detected_ms <= from_ms + 12 * MINUTE_MS
    evidence = next(e for e in window.evidence if e.channel == "absence")
    assert evidence.observed == 0
    assert len(members_until(shop, shop.end_ms)) <= evidence.expected <= 9


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


def alone(sent: list[Sent], name: str) -> Iterator[Sent]:
    """Leave out all that others than one replica send."""
    for shard, frame in sent:
        if of_replica(frame, name) or not is_data(frame):
            yield (
                shard,
                replace(frame, senders=tuple(s for s in frame.senders if s.replica == name)),
            )


def test_a_pair_is_folded_as_one_sender() -> None:
    sent = list(frames_of(Shop(7, 0.06, blueprint=SMALL, kinds={}, replicas=2)))
    names = {s.replica for _, frame in sent for s in frame.senders}
    assert len(names) == 2
    pair, one = told(sent), told(alone(sent, min(names)))
    standby = [frame for _, frame in sent if is_data(frame) and not of_replica(frame, min(names))]
    assert pair.drops() == {"standby_replica": sum(len(f.series_id) for f in standby)}
    assert not one.drops()
    assert len(one.values) > 30
    assert pair.values == one.values
    other = told(frames_of(Shop(7, 0.06, blueprint=SMALL, kinds={})))
    for signal_id, values in other.values.items():
        # Its frames are cut at other times, and a cell is filled up with what was said last.
        mean = np.mean(list(values.values()))
        assert np.mean(list(pair.values[signal_id].values())) == pytest.approx(mean, rel=0.01)


def test_when_the_elected_one_stops_the_other_takes_over_without_gap_or_double() -> None:
    shop = Shop(7, 0.06, blueprint=SMALL, kinds={}, replicas=2)
    sent = list(frames_of(shop))
    first = min(s.replica for _, frame in sent for s in frame.senders)
    from_ms = shop.start_ms + 50 * MINUTE_MS + 7_000
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


@pytest.mark.usefixtures("quickly_warm_here")
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
    odd = replace(frame, time_ms=time_ms)
    seen = told([*sent[:at], (shard, odd), *sent[at + 1 :]])
    missed = np.arange(len(time_ms)) != row
    expected = told([*sent[:at], (shard, kept(frame, missed)), *sent[at + 1 :]])
    assert seen.drops() == {"clock_ahead": 1}
    (cluster,) = seen.shards[shard].clusters.values()
    assert cluster.fold.blamed["clock_ahead"] == (
        f"{whose.entity} {whose.member}",
        frame.senders[0].newest_ms,
    )
    assert cluster.fold.roster.series["last_ms"].max() < newest_ms(sent[-1][1]) + MINUTE_MS
    assert seen.values == expected.values
