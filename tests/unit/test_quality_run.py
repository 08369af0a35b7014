"""A benchmark of detection, run as a person runs it, on a small corpus."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import controls
import quality_run
from bench_kpi import KpiBench
from bench_nab import NabBench
from bench_smd import SmdBench
from corpora import npz_corpus

HOUR = 60  # Rows.


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two entities of three metrics, each with one fault in its scored half."""
    dice = np.random.default_rng(5)
    made = tmp_path / "corpus"
    made.mkdir()
    for name in ("a", "b"):
        value = dice.normal(size=(48 * HOUR, 3))
        label = np.zeros(len(value), np.int8)
        value[36 * HOUR : 36 * HOUR + 20] += 1_000
        label[36 * HOUR : 36 * HOUR + 20] = 1
        np.savez(made / f"{name}.npz", value=value, label=label, split=24 * HOUR, step_s=60)
    return made


@pytest.fixture
def nab_folder(tmp_path: Path) -> Path:
    """A series with one window in each of two categories."""
    made, windows = tmp_path / "nab", {}
    profile = {"CostMatrix": {"tpWeight": 1.0, "fpWeight": 0.11, "fnWeight": 1.0}}
    for category in ("one", "two"):
        (made / "data" / category).mkdir(parents=True)
        rows = "".join(
            f"2014-04-{1 + row // 288:02d} {row // 12 % 24:02d}:{row % 12 * 5:02d}:00,"
            f"{1_000 if row == 1_500 else row % 7}\n"
            for row in range(2_000)
        )
        (made / "data" / category / "a.csv").write_text("timestamp,value\n" + rows)
        windows[f"{category}/a.csv"] = [["2014-04-06 04:00:00.000000", "2014-04-06 08:00:00.0"]]
    (made / "labels").mkdir()
    (made / "labels" / "combined_windows.json").write_text(json.dumps(windows))
    names = ("standard", "reward_low_FP_rate", "reward_low_FN_rate")
    (made / "profiles.json").write_text(json.dumps(dict.fromkeys(names, profile)))
    return made


def run(
    monkeypatch: pytest.MonkeyPatch, bench: quality_run.QualityBench, *arguments: str | Path
) -> int:
    monkeypatch.setattr(sys, "argv", ["bench", *map(str, arguments)])
    return quality_run.main(bench, "What it measures.")


def figures(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return found


@pytest.mark.parametrize("bench", [KpiBench(), SmdBench()])
def test_a_fault_that_can_be_seen_is_found(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    folder: Path,
    bench: quality_run.QualityBench,
) -> None:
    assert run(monkeypatch, bench, "--data", folder) == 0
    found = figures(capsys)
    assert found["recall"] == 1
    assert {"event_f1", "false_alerts_per_week", "fa_at_0_3", "fa_at_3", "fa_at_10"} <= set(found)
    assert {"within_factor_3", "delay7_f1", "recall_at_10"} <= set(found)
    assert list(found["budgets"]) == ["0.3", "1", "3", "10"]
    assert found["controls"]["always_on"]["false_alerts_per_week"] > 300
    assert found["controls"]["random"]["event_f1"] < 0.5


def test_nab_has_its_scores(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    nab_folder: Path,
    tmp_path: Path,
) -> None:
    pytest.importorskip("matplotlib", reason="the extra `plots` is not installed")
    plots = tmp_path / "plots"
    assert run(monkeypatch, NabBench(), "--data", nab_folder, "--plots", plots) == 0
    found = figures(capsys)
    # The spike is five hours into April 6, a quarter of the window after its begin.
    for name in ("standard", "low_fp", "low_fn", "standard_loco"):
        assert 90 < found[name] < 100
    assert found["controls"]["always_on"]["standard"] == 0
    assert (plots / "one--a.png").stat().st_size > 10_000


def test_a_run_may_be_compared_with_itself(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    folder: Path,
    tmp_path: Path,
) -> None:
    saved = tmp_path / "run.npz"
    assert run(monkeypatch, KpiBench(), "--data", folder, "--save", saved) == 0
    assert run(monkeypatch, KpiBench(), "--data", folder, "--compare", saved) == 0
    compared = figures(capsys)["compared"]
    assert compared["figure"] == "event_f1"
    assert (compared["difference"], compared["low"], compared["high"]) == (0, 0, 0)


def test_a_saved_run_is_read_as_it_was(folder: Path, tmp_path: Path) -> None:
    records = npz_corpus(folder)
    kept = controls.random(records)
    quality_run.save(tmp_path / "run.npz", records, kept)
    for was, now in zip(kept, quality_run.load(tmp_path / "run.npz", records), strict=True):
        assert (was == now).all()


def test_plots_are_drawn_of_every_record_and_of_the_corpus(
    monkeypatch: pytest.MonkeyPatch, folder: Path, tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib", reason="the extra `plots` is not installed")
    plots = tmp_path / "deep" / "plots"
    assert run(monkeypatch, SmdBench(), "--data", folder, "--plots", plots) == 0
    drawn = {path.name for path in plots.iterdir()}
    assert drawn == {"a.png", "b.png", "budgets.png", "precision-recall.png"}


def test_what_cannot_be_done_is_told(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    folder: Path,
    tmp_path: Path,
) -> None:
    assert run(monkeypatch, KpiBench(), "--data", tmp_path / "none") == 2
    assert "--data FOLDER" in capsys.readouterr().err
    assert run(monkeypatch, NabBench(), "--data", folder) == 2
    assert "--data FOLDER" in capsys.readouterr().err
    assert run(monkeypatch, KpiBench(), "--data", folder, "--only", "nothing") == 2
    assert "--only" in capsys.readouterr().err
    assert run(monkeypatch, KpiBench(), "--data", folder, "--compare", tmp_path / "none") == 2
    assert "--compare" in capsys.readouterr().err
