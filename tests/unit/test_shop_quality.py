"""The benchmark of detection on the shop: what it counts and prints, and its special shops."""

import json
import shutil
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

import bench_shop_quality
from shop_detection import entities, writes
from shop_figures import figures, judged
from shop_specials import ADDED, DeployShop, cron_hourly, jobs, services
from small_shop import PLAIN, small_shop
from watchkeep.schemas.alert import Alert, AlertState, Explanation
from watchkeep.schemas.entity import EntityRules
from watchkeep.schemas.frame import decode
from watchkeep.schemas.settings import Detect
from watchkeep.schemas.signal import Feed, Folding, Role
from watchkeep.schemas.signal_rules import SignalRules
from watchkeep.shop.blueprint import CLUSTER, SMALL
from watchkeep.shop.frames import frames
from watchkeep.shop.model import Shop
from watchkeep.shop.strikes import workload
from watchkeep.shop.times import DAY_MS, HOUR_MS, MINUTE_MS
from watchkeep.streams.pipeline import Outcome, Shard

DAYS = 0.06
Cell = tuple[int, int, float]
FAULTS = Path(__file__).parents[2] / "shop" / "faults"


def alert(entity: str, at_ms: int) -> Alert:
    return Alert(
        alert_id=f"{entity} {at_ms}",
        revision=1,
        state=AlertState.FIRING,
        pages=True,
        entity=entity,
        cluster=CLUSTER,
        namespace="shop",
        title=entity,
        onset_ms=at_ms,
        detected_ms=at_ms,
        at_ms=at_ms,
        ended_ms=None,
        duration_s=None,
        strength=9,
        explanation=Explanation(state="template", summary="", lines=()),
        evidence=(),
    )


def found(outcomes: Iterable[Outcome]) -> tuple[set[Cell], set[str]]:
    """Give the values of all cells, and the windows that began."""
    cells, windows = set[Cell](), set[str]()
    for outcome in outcomes:
        for rollups in outcome.rollups:
            columns = (rollups.signal_id, rollups.at_ms, rollups.value)
            cells.update(zip(*(column.tolist() for column in columns), strict=True))
        windows.update(
            window.model_dump_json() for window in outcome.windows if window.revision == 1
        )
    return {cell for cell in cells if np.isfinite(cell[2])}, windows


def test_one_shard_finds_what_all_do() -> None:
    shop = small_shop(11, DAYS)
    records = list(frames(shop, 2_000))
    filled = {record.shard for record in records if record.samples}
    records = [record for record in records if record.shard in filled]
    one, each = Shard(Detect()), [Shard(Detect(), number) for number in range(64)]
    together = found(one.apply(frame) for frame in writes(records))
    assert together == found(each[of.shard].apply(decode(of.value)) for of in records)
    assert together[0]


def test_figures_count_what_was_found_and_what_was_false() -> None:
    shop = small_shop(11, 0.5)
    first, last = shop.truth[0], shop.truth[-1]
    calm_ms = first.onset_ms - 10 * MINUTE_MS
    told = [
        alert(first.root, first.onset_ms + 2 * MINUTE_MS),
        alert(first.root, calm_ms),
        alert(first.root, shop.warm_until_ms - 1),
    ]
    run = judged(shop, told, entities(shop))
    got = figures([run, run])
    assert first is not last
    assert got["faults"] == 2 * len(shop.truth)
    assert got["found_share"] == pytest.approx(1 / len(shop.truth), abs=1e-4)
    assert got["median_delay_s"] == 120
    assert got["false_alerts"] == 2
    weeks = 2 * len(SMALL.services) * (shop.end_ms - shop.warm_until_ms) / (7 * DAY_MS)
    assert got["false_alerts_per_week"] == pytest.approx(2 / weeks, rel=1e-3)
    assert got["by_fault_kind"][first.kind]["found"] == 2
    assert got["false_alerts_by_entity_kind"]["workload"]["false_alerts"] == 2
    assert 0 < got["found_by_chance_share"] < 1
    assert json.loads(json.dumps(got)) == got


def test_what_only_looks_like_a_fault_is_false() -> None:
    calm = Shop(11, 0.5, blueprint=SMALL, kinds={})
    run = judged(calm, [alert(workload("cart"), calm.end_ms - 1)], entities(calm))
    got = figures([run])
    assert got["found_share"] is got["median_delay_s"] is got["found_by_chance_share"] is None
    assert got["false_alerts"] == 1


def test_the_deploy_s_metrics_are_twenty_of_which_some_may_page() -> None:
    assert len({family.base for family in ADDED}) == 20
    shop = DeployShop(1, services(3), 0, grows=True, days=0.5)
    rules, places = SignalRules(), EntityRules()
    paging = set[str]()
    for labels, kind in shop.series:
        if labels["__name__"] not in {family.name for family in ADDED}:
            continue
        entity = places.place(labels, CLUSTER).entity
        assert entity.key == workload(labels["service"])
        feed = rules.feed(labels, kind, entity.kind)
        assert isinstance(feed, Feed)
        for folding in Folding:
            role, _ = rules.role(feed.metric, feed.labels, folding, entity.kind)
            if role is Role.PAGE:
                paging.add(feed.metric)
    assert 6 <= len(paging) <= 12


def test_new_metrics_come_with_the_deploy_and_move_nothing_else() -> None:
    grown, plain = (DeployShop(1, services(2), 0, grows=g, days=0.3) for g in (True, False))
    new = len(grown.series) - len(plain.series)
    assert new > 0
    assert grown.series[:-new] == plain.series
    both = [list(shop.batches(100_000)) for shop in (grown, plain)]
    (series, times, values), (_, plain_times, plain_values) = (
        tuple(np.concatenate(column) for column in zip(*parts, strict=True)) for parts in both
    )
    is_new = series >= len(plain.series)
    assert (times[is_new] > min(grown.deployed_ms.values())).all()
    assert np.isin(np.arange(len(plain.series), len(grown.series)), series).all()
    np.testing.assert_array_equal(times[~is_new], plain_times)
    np.testing.assert_array_equal(values[~is_new], plain_values)


def test_cron_jobs_run_every_hour_for_minutes() -> None:
    shop = Shop(1, 0.5, blueprint=jobs(4), kinds={})
    runs = Counter(run.job for run in shop.plan.runs)
    assert set(runs) == set(shop.blueprint.cron_jobs)
    assert set(runs.values()) == {12}
    assert all(2 < (r.end_ms - r.start_ms) / MINUTE_MS < 10 for r in shop.plan.runs)
    named = {entity.key for entity in entities(shop)}
    assert named >= {workload(name) for name in shop.blueprint.cron_jobs}


def test_a_special_shop_tells_by_entity_and_week(monkeypatch: pytest.MonkeyPatch) -> None:
    paged = [workload("hourly-00"), workload("hourly-01"), workload("front")]

    def found(shop: Shop, _: Detect) -> list[Alert]:
        return [alert(entity, shop.end_ms - HOUR_MS) for entity in paged]

    monkeypatch.setattr("shop_specials.alerts", found)
    told = cron_hourly("cron_hourly", 0, Detect(), count=2)
    assert told.by_entity == {workload("hourly-00"): 1, workload("hourly-01"): 1}
    assert told.false_a_week == pytest.approx(1, rel=0.02)


@pytest.fixture
def plain_faults(tmp_path: Path) -> Path:
    for name in PLAIN:
        shutil.copy(FAULTS / f"{name}.toml", tmp_path)
    return tmp_path


def test_the_command_prints_one_json_object_and_draws(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], plain_faults: Path
) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(bench_shop_quality, "FULL", SMALL)
    plots = plain_faults / "plots"
    asked = ["--seeds", "1", "--days", "0.2", "--days-before", "0", "--workers", "1"]
    asked += ["--no-special", "--faults", str(plain_faults), "--plots", str(plots)]
    assert bench_shop_quality.main(asked) == 0
    got = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert 0 <= got["found_share"] <= 1
    assert got["false_alerts_per_week"] >= 0
    assert got["budget"] == 1
    assert set(got["by_fault_kind"]) <= set(PLAIN)
    drawn = {path.name for path in plots.iterdir()}
    assert drawn == {"false-alerts.png", "faults.png", "seed-1.png"}


def test_a_wrong_folder_of_faults_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench_shop_quality.main(["--faults", "nowhere"]) == 2
    assert "--faults: nowhere is no folder" in capsys.readouterr().err
