"""A model of River beside the channels: for chosen signals, over restarts, and in words."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from detect_runs import SETTINGS, SHARDS, a_log, cut_log, grow, quick_bank
from watchkeep.detectors.arrays import Arrays
from watchkeep.detectors.channel import Span
from watchkeep.enrichers.template import finding
from watchkeep.schemas.errors import ConfigError
from watchkeep.schemas.frame import Frame, FrameKind, LabelSet, MetricKind, SenderTime
from watchkeep.schemas.labels import canonical, series_id
from watchkeep.schemas.settings import Detect, RiverModel
from watchkeep.schemas.signal import Role
from watchkeep.schemas.signal_rules import SignalRule
from watchkeep.schemas.window import ColdStart, Evidence, decode
from watchkeep.streams import pipeline, snapshot
from watchkeep.streams.cli import main
from watchkeep.streams.config import load, show
from watchkeep.streams.memory_store import MemoryStore
from watchkeep.streams.pipeline import Outcome, Shard
from watchkeep.streams.river_adapter import River, chosen_by
from watchkeep.streams.runtime import Worker
from watchkeep.streams.topics import ANOMALIES, METRICS

MINUTE_MS = 60_000
BEGIN_MS = 1_772_409_600_000
CELLS = 90
NAMES = ("queue_depth", "request_latency", "job_latency")
ENTITY = "workload/c/shop/cart"
RULE = SignalRule(why="It is the test's.", when={"__name__": "|".join(NAMES)}, role=Role.PAGE)
TREES = {
    "model": "HalfSpaceTrees",
    "signals": ["*latency*"],
    "parameters": {"n_trees": 4, "height": 4, "window_size": 10},
    "memory_cells": 20,
    "warmup_cells": 10,
}
DEVIATION = TREES | {"model": "StandardAbsoluteDeviation", "parameters": {}}

needs_river = pytest.mark.usefixtures("river")


@pytest.fixture
def quickly_warm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let detect be warm after a few cells."""
    monkeypatch.setattr(pipeline, "Bank", quick_bank)


def settings(river: dict[str, Any] | None) -> Detect:
    own = {} if river is None else {"river": river}
    return Detect.model_validate({"rules": (RULE,), "grace_s": 1.0, "step_s": 60} | own)


def frames() -> list[Frame]:
    """Write gauges that all jump at the same time, a sample a minute."""
    forms = [canonical({"__name__": name, "pod": "p"}.items()) for name in NAMES]
    sets = tuple(LabelSet(series_id(f), MetricKind.GAUGE, ENTITY, "p", f) for f in forms)
    values = np.random.default_rng(1).normal(100, 1, (CELLS, len(NAMES)))
    values[70:73] += 300
    written = []
    for cell, row in enumerate(values):
        now_ms = BEGIN_MS + cell * MINUTE_MS + 30_000
        written.append(
            Frame(
                FrameKind.DATA,
                "gateway-0",
                now_ms,
                "rules",
                (SenderTime("c", "", now_ms, now_ms),),
                np.array([entry.series_id for entry in sets], np.uint64),
                np.full(len(sets), now_ms, np.int64),
                row,
                sets if cell % 10 == 0 else (),
            )
        )
    return written


def told(outcomes: list[Outcome]) -> tuple[list[str], str]:
    windows = [window.model_dump_json() for outcome in outcomes for window in outcome.windows]
    return windows, repr([rollups for outcome in outcomes for rollups in outcome.rollups])


def evidence(outcomes: list[Outcome]) -> list[Evidence]:
    return [shown for outcome in outcomes for w in outcome.windows for shown in w.evidence]


@needs_river
@pytest.mark.usefixtures("quickly_warm")
def test_only_chosen_signals_are_seen_by_the_model() -> None:
    shard = Shard(settings(DEVIATION))
    outcomes = [shard.apply(frame) for frame in frames()]
    by_model = {shown.metric for shown in evidence(outcomes) if shown.channel == "river"}
    assert by_model == {"request_latency", "job_latency"}
    assert "queue_depth" in {shown.metric for shown in evidence(outcomes)}
    (cluster,) = shard.clusters.values()
    chosen = {
        cluster.ids["id"][slot]
        for slot, watched in enumerate(cluster.fold.roster.watched)
        if watched and watched.signal.metric in by_model
    }
    for rollups in (rollups for outcome in outcomes for rollups in outcome.rollups):
        seen = np.isfinite(rollups.channels["river"])
        assert set(rollups.signal_id[seen].tolist()) <= chosen


@needs_river
@pytest.mark.usefixtures("quickly_warm")
@pytest.mark.parametrize("river", [TREES, DEVIATION], ids=["trees", "deviation"])
def test_a_restart_from_a_snapshot_changes_nothing(river: dict[str, Any]) -> None:
    one, other = Shard(settings(river)), Shard(settings(river))
    undisturbed, restarted = [], []
    for i, frame in enumerate(frames()):
        undisturbed.append(one.apply(frame))
        if i in {5, 27, 40, 71}:
            manifest, blocks = snapshot.cut(snapshot.capture(other), b"")
            other = snapshot.load(manifest, blocks, settings(river))
        restarted.append(other.apply(frame))
    assert told(restarted) == told(undisturbed)
    assert "river" in {shown.channel for shown in evidence(undisturbed)}


def test_it_is_off_by_default_and_leaves_no_trace() -> None:
    shard = Shard(settings(None))
    for frame in frames()[:5]:
        shard.apply(frame)
    (cluster,) = shard.clusters.values()
    assert not any(name.startswith("river") for name in cluster.bank.dump())


@needs_river
def test_who_is_not_chosen_has_no_state_and_slots_are_used_again() -> None:
    channel = chosen_by(RiverModel.model_validate(DEVIATION))
    assert channel is not None
    channel.grow(1_000)
    channel.take(np.array([7, 900]))
    channel.free(np.array([7, 8]))
    channel.take(np.array([500]))
    taken = channel.named()["river-slots"]["slot"]
    assert taken[[7, 8, 500, 900]].tolist() == [-1, -1, 0, 1]
    assert len(channel.named()["river"]["ring"]) < 100
    slots = np.array([3, 900])
    scores, rarity = channel.step(Span(0, 1), slots, np.array([1.0, 2.0]), np.zeros(2))
    assert scores.warmup[0] != scores.warmup[0]
    assert scores.warmup[1] == 0
    assert np.isnan(rarity).all()
    assert channel.named()["river"]["seen"][[0, 1]].tolist() == [0, 1]
    assert np.isnan(channel.levels(slots, 0.0)).all()


@needs_river
def test_days_that_are_excluded_teach_it_nothing() -> None:
    channel, slot = River("GaussianScorer", memory_cells=10), np.array([0])
    state = Arrays(channel.fields)
    state.grow(1)
    for i in range(30):
        channel.step(state, slot, Span(i, 1), np.array([float(i % 3)]))
    before = {name: column.tobytes() for name, column in state.dump().items()}
    holiday = Span(30, 1, teaches=False)
    scores = [channel.step(state, slot, holiday, np.array([9.0])).score[0] for _ in range(3)]
    assert scores == scores[:1] * 3
    assert {name: column.tobytes() for name, column in state.dump().items()} == before


@needs_river
async def test_to_turn_it_on_starts_cold_and_once() -> None:
    """A state from before has no columns for it."""
    whole, store = await a_log(), MemoryStore()
    log = await cut_log(whole, 0)
    on = SETTINGS.model_copy(update={"river": RiverModel.model_validate(DEVIATION)})
    cold = []
    for start, used in enumerate((SETTINGS, SETTINGS, on, on), 1):
        await grow(log, whole, 5 * start)
        known = len(log.values(ANOMALIES))
        worker = Worker(log.source(METRICS, "detect"), log, store, used)
        await worker.adopt_assigned()
        await worker.save_all()
        anomalies = [decode(value or b"") for value in log.values(ANOMALIES)[known:]]
        cold.append(sum(isinstance(anomaly, ColdStart) for anomaly in anomalies))
    assert cold == [0, 0, len(SHARDS), 0]


def test_other_settings_of_it_are_another_state_and_none_is_as_before() -> None:
    on = settings(TREES)
    assert settings({"model": "", "signals": ["*"]}).state_version == settings(None).state_version
    others: list[dict[str, Any]] = [
        {},
        {"signals": ["x"]},
        {"memory_cells": 30},
        {"parameters": {"n_trees": 5}},
    ]
    assert len({settings(TREES | other).state_version for other in others}) == len(others)
    assert on.state_version != settings(None).state_version
    assert Detect.model_validate_json(on.model_dump_json()) == on


@pytest.mark.parametrize(
    ("globs", "title", "metric", "chosen"),
    [
        (["*latency*"], "p99(request_latency)", "request_latency", True),
        (["request_latency"], "p99(request_latency)", "request_latency", True),
        (["p99(*)"], "p99(request_latency)", "request_latency", True),
        (["p50(*)", 'x{code="5xx"}'], 'x{code="5xx"}', "x", True),
        (["latency"], "request_latency", "request_latency", False),
        (["*Latency"], "request_latency", "request_latency", False),
    ],
)
def test_signals_are_chosen_by_title_or_metric(
    globs: list[str], title: str, metric: str, *, chosen: bool
) -> None:
    model = RiverModel.model_validate({"model": "X", "signals": globs})
    assert model.chooses(title, metric) == chosen


GOOD = """[detect.river]
model = "HalfSpaceTrees"
signals = ["*latency*"]
"""


def test_it_is_a_table_that_is_shown_and_read_back(tmp_path: Path) -> None:
    file = tmp_path / "watchkeep.toml"
    file.write_text(GOOD + "parameters = { n_trees = 10, limits = { value = [0, 1] } }\n")
    found = load(file)
    assert found.detect.river.parameters == {"n_trees": 10, "limits": {"value": [0, 1]}}
    shown = show(found)
    assert "the slow path" in shown
    file.write_text(shown)
    assert load(file).detect == found.detect


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[detect.river]\nmodel = "X"', ":1: detect.river: it says of no signals; set signals"),
        ('[detect.river]\nsignals = ["*"]', ":1: detect.river: it names no model; set model"),
        (
            '[detect.river]\nmodle = "X"',
            ":2: detect.river.modle: no setting has this name; did",
        ),
        (GOOD + "memory_cells = 1", ":4: detect.river.memory_cells: should be greater than or eq"),
        (GOOD + "parameters = 5", ":4: detect.river.parameters: should be a valid dictionary"),
        ('[detect.river]\nmodel = "X"\nsignals = [""]', ":3: detect.river.signals[0]: String sho"),
        (
            '[detect.river]\nmodel = "X"\nsignals = "*"',
            ":3: detect.river.signals: should be a list",
        ),
    ],
)
def test_a_mistake_in_its_table_is_told_with_its_line(
    tmp_path: Path, text: str, message: str
) -> None:
    file = tmp_path / "watchkeep.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as refused:
        load(file)
    assert message in str(refused.value)


def checked(tmp_path: Path, text: str) -> tuple[int, str]:
    file = tmp_path / "watchkeep.toml"
    file.write_text(text)
    told = CliRunner().invoke(main, ["--config", str(file), "config", "check"])
    return told.exit_code, told.output


@needs_river
@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        (GOOD, 0, "the settings are fine"),
        (GOOD.replace("Trees", "Forest"), 2, "detect.river.model: River has no model 'HalfSpaceF"),
        (GOOD + "parameters = { trees = 3 }", 2, "detect.river.parameters: HalfSpaceTrees refus"),
        (GOOD + 'parameters = { n_trees = "3" }', 2, "detect.river.parameters: HalfSpaceTrees"),
    ],
)
def test_what_the_model_refuses_is_told_at_the_start(
    tmp_path: Path, text: str, code: int, message: str
) -> None:
    exit_code, output = checked(tmp_path, text)
    assert (exit_code, message in output) == (code, True)


def test_that_river_is_missing_is_told_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "river", None)
    monkeypatch.delitem(sys.modules, "river.anomaly", raising=False)
    exit_code, output = checked(tmp_path, GOOD)
    assert exit_code == 2
    assert "detect.river.model: River isn't installed; pip install 'watchkeep[river]'" in output


@needs_river
@pytest.mark.usefixtures("quickly_warm")
def test_its_evidence_is_told_in_words() -> None:
    shard = Shard(settings(DEVIATION))
    outcomes = [shard.apply(frame) for frame in frames()]
    shown = next(shown for shown in evidence(outcomes) if shown.channel == "river")
    assert "_latency showed " in finding(shown)
    assert "which the River model finds odd, not seen in the 1 h 10 min known; " in finding(shown)
    assert finding(shown).endswith("; mostly it was 98.16 to 101.1")
