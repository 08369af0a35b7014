"""What detect makes of real exporters' series is what a real Prometheus answers for them.

How the two are compared, and why that is exact, is told in `exporter_signals.py`.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

import exporter_capture
from conftest import absent
from exporter_run import running
from exporter_signals import (
    INCREMENTS_MIN,
    OBSERVATIONS_MIN,
    SMOOTH_GAUGES,
    Difference,
    Folded,
    Oracle,
    fold,
    spread,
)
from real_servers import exporters_missing
from watchkeep.schemas.settings import Detect
from watchkeep.schemas.signal import Folding

pytestmark = [pytest.mark.prometheus]

STEP_S = 30
CELLS = 4


@pytest.fixture(scope="module")
def folded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Folded]:
    """Run the exporters for some cells, and fold what they sent; Prometheus stays to be asked."""
    if what := exporters_missing():
        absent(what)
    detect = Detect(step_s=STEP_S)
    with running(tmp_path_factory.mktemp("exporters")) as run:
        run.record(detect, CELLS)
        yield fold(run, detect)


@pytest.fixture(scope="module")
def oracle(folded: Folded) -> Oracle:
    return Oracle(folded)


def check(found: Sequence[Difference], *, least: int, worst: float, median: float) -> None:
    """Hold differences against what is allowed, and tell the farthest."""
    farthest = sorted(found, key=lambda one: (np.isfinite(one.relative), -one.relative))[:10]
    told = "\n".join([str(spread(found)), *map(str, farthest)])
    assert len(found) >= least, told
    relative = np.array([one.relative for one in found])
    assert (relative <= worst).all(), told
    assert np.median(relative) <= median, told


def test_each_series_is_heard_of(folded: Folded, oracle: Oracle) -> None:
    """The gateway has told the labels of as many series as Prometheus keeps."""
    counts = {job: count["series"] for job, count in folded.counts().items()}
    assert counts == {job: oracle.series(job) for job in folded.run.jobs}
    assert min(counts.values()) > 100


def test_a_capture_keeps_every_sample(folded: Folded, tmp_path: Path) -> None:
    frames = [frame for shard in folded.run.frames.values() for frame in shard]
    exporter_capture.save(tmp_path / "capture.npz", frames)
    kept = exporter_capture.load(tmp_path / "capture.npz")
    assert len(kept.time_ms) == len(kept.value) == len(kept.series)
    assert {"go_goroutines", "up"} <= {labels["__name__"] for labels in kept.labels}
    sent = np.concatenate([frame.series_id for frame in frames])
    assert np.array_equal(kept.series_id[kept.series], sent)


def test_the_api_servers_series_become_few_signals(folded: Folded) -> None:
    count = folded.counts()["apiserver"]
    assert count["signals"] < 0.05 * count["series"], count


def test_rates_are_those_of_promql(oracle: Oracle) -> None:
    """The mean rate over all cells is PromQL's within 1%, and nearly always the same number.

    PromQL is asked for the increase from one instant to another, each between two scrapes, which is
    exact but for scrapes off their beat: one that is 50 ms late moves 1% of one of 24 increases to
    the next. The plain `rate` spans one scrape in 24 less, so it is off by a 24th of what a
    scrape's increase differs from the others; under a steady load that is little for most.
    """
    found = list(oracle.rates(INCREMENTS_MIN))
    check(found, least=60, worst=0.01, median=1e-5)
    assert np.median([one.relative_plain for one in found]) <= 0.01, spread(found)


@pytest.mark.parametrize("folding", [Folding.P50, Folding.P99, Folding.AVERAGE])
def test_families_are_those_of_promql(oracle: Oracle, folding: Folding) -> None:
    """What a cell tells of a histogram is what PromQL makes of the same rates, within 2%."""
    found = list(oracle.families(folding, OBSERVATIONS_MIN))
    check(found, least=60, worst=0.02, median=1e-4)


def test_means_of_smooth_gauges_are_those_of_promql(oracle: Oracle) -> None:
    """The mean of a gauge in a cell is `avg_over_time` within 5%."""
    check(list(oracle.means(SMOOTH_GAUGES)), least=50, worst=0.05, median=0.01)
