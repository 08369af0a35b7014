"""What detect makes of real exporters' series, beside what Prometheus answers for the same.

Watchkeep splits the increase between two scrapes at the edges of its cells, as if the counter had
grown evenly between them. Prometheus' `rate` knows only the scrapes inside its range and leaves the
rest to extrapolation: the plain `rate(m[1m])` of a cell is measured over one scrape less, and is
off by as much as the load wavers. But PromQL can say the same split. With a scrape every S seconds,
the last one before the cell's end E at E - w S, the increase in a cell of C seconds is, at E + S,

    (1 - w) * (m offset S - m offset (C + S)) + w * (m - m offset C)

Both differences are from scrape to scrape, and the line between the two is the line between
scrapes. What is left are scrapes some milliseconds off their beat. It knows nothing of resets, so
the exporters live as long as the run. Two answers of `rate`, weighed, would be the same but for
counters so young that `rate` takes them to begin inside the range.
"""

import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from exporter_run import SCRAPE_S, Run
from watchkeep.schemas.frame import LabelSet
from watchkeep.schemas.labels import METRIC_NAME, parse
from watchkeep.schemas.settings import Detect
from watchkeep.schemas.signal import Folding, Role, Signal
from watchkeep.streams.pipeline import Shard
from watchkeep.streams.stores import SignalRow

Floats = npt.NDArray[np.float64]

# What is worth a comparison: few increments are all chance, and so are quantiles of few.
INCREMENTS_MIN: Final = 200
OBSERVATIONS_MIN: Final = 100
# Gauges that move little from scrape to scrape: Watchkeep has each sample stand for the time
# before it, where Prometheus' `avg_over_time` weighs all alike.
SMOOTH_GAUGES: Final = frozenset(
    {
        "etcd_mvcc_db_total_size_in_bytes",
        "go_goroutines",
        "go_memstats_heap_sys_bytes",
        "node_filesystem_avail_bytes",
        "node_load5",
        "node_memory_MemAvailable_bytes",
        "process_open_fds",
        "process_resident_memory_bytes",
        "prometheus_tsdb_head_series",
    }
)
_FAMILY: Final = ("", "_bucket", "_count", "_sum")
_STATUS_CLASS: Final = re.compile(r"([1-5])xx")
_QUANTILES: Final = {Folding.P50: 0.5, Folding.P99: 0.99}


class Series(NamedTuple):
    """A series as the log describes it."""

    job: str
    metric: str
    told: LabelSet


class Difference(NamedTuple):
    """One signal in one stretch of time.

    Attributes:
        ours: what Watchkeep makes of it.
        theirs: Prometheus' answer for the same stretch.
        plain: the answer of PromQL as people write it, which ends at other scrapes.
    """

    job: str
    title: str
    ours: float
    theirs: float
    plain: float

    @property
    def relative(self) -> float:
        """How far ours is from theirs."""
        return _relative(self.ours, self.theirs)

    @property
    def relative_plain(self) -> float:
        """How far ours is from PromQL as people write it."""
        return _relative(self.ours, self.plain)


@dataclass
class Folded:
    """What detect makes of a run.

    Attributes:
        series: by id, those with a sample before the end of the run's cells.
        signals: by id.
        job: by signal, the one whose series it is made of.
        cells: by signal, its values in the run's cells; NaN where there is none.
    """

    run: Run
    detect: Detect
    series: dict[int, Series] = field(default_factory=dict)
    signals: dict[int, SignalRow] = field(default_factory=dict)
    job: dict[int, str] = field(default_factory=dict)
    cells: dict[int, Floats] = field(default_factory=dict)

    def counts(self) -> dict[str, dict[str, int]]:
        """Count each job's series, signals, and signals that may page."""
        series = Counter(one.job for one in self.series.values())
        signals = Counter(self.job.values())
        page = Counter(job for i, job in self.job.items() if self.signals[i].role == Role.PAGE)
        return {
            job: {"series": series[job], "signals": signals[job], "page_signals": page[job]}
            for job in self.run.jobs
        }


def fold(run: Run, detect: Detect) -> Folded:
    """Run detect over what was recorded."""
    folded = Folded(run, detect)
    step_ms = detect.step_s * 1000
    count = (run.end_ms - run.begin_ms) // step_ms
    told: dict[int, LabelSet] = {}
    seen: set[int] = set()
    for frames in run.frames.values():
        shard = Shard(detect)
        for frame in frames:
            told.update((one.series_id, one) for one in frame.label_sets)
            seen.update(frame.series_id[frame.time_ms <= run.end_ms].tolist())
            for rollups in shard.apply(frame).rollups:
                folded.signals.update((row.signal_id, row) for row in rollups.signals)
                if rollups.step_s != detect.step_s:
                    continue  # A rule gives these signals cells of another width.
                place = (rollups.at_ms - run.begin_ms) // step_ms
                for i in np.flatnonzero((place >= 0) & (place < count)).tolist():
                    values = folded.cells.setdefault(
                        int(rollups.signal_id[i]), np.full(count, np.nan)
                    )
                    values[place[i]] = rollups.value[i]
    for series_id in seen:
        labels = parse(told[series_id].labels)
        job, name = labels.get("job", ""), labels[METRIC_NAME]
        folded.series[series_id] = Series(job, name, told[series_id])
    fed = {(s.told.entity, s.metric): s.job for s in folded.series.values()}
    for signal_id, row in folded.signals.items():
        names = (row.metric + suffix for suffix in _FAMILY)
        found = next((fed[row.entity, name] for name in names if (row.entity, name) in fed), None)
        if found is not None:
            folded.job[signal_id] = found
    return folded


class Oracle:
    """Asks Prometheus for what Watchkeep has folded."""

    def __init__(self, folded: Folded) -> None:
        self._folded = folded
        self._prometheus = folded.run.prometheus
        self._step_s = folded.detect.step_s
        self._begin_ms, self._end_ms = folded.run.begin_ms, folded.run.end_ms
        self._names: dict[str, set[str]] = defaultdict(set)
        self._kept: dict[tuple[str, str], set[str]] = defaultdict(set)
        places: dict[tuple[str, str], set[str]] = defaultdict(set)
        for one in folded.series.values():
            self._names[one.job].add(one.metric)
            places[one.job, one.metric].add(one.told.entity)
        self._scattered = {place for place, entities in places.items() if len(entities) > 1}
        for row in folded.signals.values():
            self._kept[row.entity, row.metric].update(row.labels)
        self._changing = self._find_changing()
        self._weights: dict[tuple[str, int], float] = {}

    def _find_changing(self) -> set[tuple[str, str]]:
        """Find metrics whose series come or go in the run's cells, or just before or after."""
        changing = set()
        for job in self._folded.run.jobs:
            count = f'count by (job, __name__) ({{job="{job}"}})'
            edges = (self._begin_ms - SCRAPE_S * 1000, self._end_ms + SCRAPE_S * 1000)
            before, after = (
                {labels[METRIC_NAME]: count for labels, count in self._prometheus.query(count, at)}
                for at in edges
            )
            changing |= {(job, m) for m in {*before, *after} if before.get(m) != after.get(m)}
        return changing

    def rates(self, increments_min: float) -> Iterator[Difference]:
        """Compare the mean rates over all cells, of what has counted that much meanwhile."""
        seconds = (self._end_ms - self._begin_ms) // 1000
        for signal_id, row, job in self._of(Folding.RATE):
            ours = float(self._folded.cells[signal_id].mean())
            # A summary's quantiles bear the family's own name.
            count = f"{row.metric}_count"
            name = count if count in self._names[job] else row.metric
            if not ours * seconds >= increments_min or not self._steady(job, name):
                continue
            series = self._select(row, job, name)
            split = f"sum({self._split(series, job, seconds, self._end_ms)})"
            theirs = self._ask(split, self._end_ms + SCRAPE_S * 1000)
            plain = self._ask(f"sum(rate({series}[{seconds}s]))", self._end_ms)
            yield Difference(job, title_of(row), ours, theirs, plain)

    def families(self, folding: Folding, observations_min: float) -> Iterator[Difference]:
        """Compare a quantile or average in each cell that has so many observations."""
        name = "_sum" if folding is Folding.AVERAGE else "_bucket"
        for signal_id, row, job in self._of(folding):
            if not self._steady(job, row.metric + name):
                continue
            series = self._select(row, job, row.metric + name)
            observed = self._select(row, job, f"{row.metric}_count")
            cells = self._folded.cells[signal_id].tolist()
            for ours, end_ms in zip(cells, self.ends, strict=True):
                count = self._ask(f"sum(increase({observed}[{self._step_s}s]))", end_ms)
                if not count >= observations_min:
                    continue
                split = _folded_as(
                    folding,
                    self._split(series, job, self._step_s, end_ms),
                    self._split(observed, job, self._step_s, end_ms),
                )
                plain = _folded_as(
                    folding,
                    f"rate({series}[{self._step_s}s])",
                    f"rate({observed}[{self._step_s}s])",
                )
                theirs = self._ask(split, end_ms + SCRAPE_S * 1000)
                if theirs == 0 and math.isnan(ours):
                    continue  # A sum that has never moved takes no part.
                yield Difference(job, title_of(row), ours, theirs, self._ask(plain, end_ms))

    def means(self, metrics: Collection[str]) -> Iterator[Difference]:
        """Compare some gauges in each cell."""
        for signal_id, row, job in self._of(Folding.MEAN):
            if row.metric not in metrics or not self._steady(job, row.metric):
                continue
            series = self._select(row, job, row.metric)
            mean = f"avg(avg_over_time({series}[{self._step_s}s]))"
            cells = self._folded.cells[signal_id].tolist()
            for ours, end_ms in zip(cells, self.ends, strict=True):
                if math.isnan(ours):
                    continue  # It has never moved so far, and takes no part.
                theirs = self._ask(mean, end_ms)
                yield Difference(job, title_of(row), ours, theirs, theirs)

    def series(self, job: str) -> int:
        """Count the series of a job."""
        seconds = self._end_ms // 1000  # All there ever was.
        return round(self._ask(f'count(last_over_time({{job="{job}"}}[{seconds}s]))', self._end_ms))

    @property
    def ends(self) -> range:
        """Tell the ends of the run's cells."""
        step_ms = self._step_s * 1000
        return range(self._begin_ms + step_ms, self._end_ms + 1, step_ms)

    def _of(self, folding: Folding) -> Iterator[tuple[int, SignalRow, str]]:
        """List the signals of a folding that have a value in some cell, with their jobs."""
        for signal_id, row in self._folded.signals.items():
            if row.folding == folding and signal_id in self._folded.cells:
                job = self._folded.job.get(signal_id)
                if job is not None:
                    yield signal_id, row, job

    def _steady(self, job: str, name: str) -> bool:
        """Tell whether a metric's series were there all the time, and belong to one entity."""
        return (job, name) not in self._changing | self._scattered

    def _select(self, row: SignalRow, job: str, name: str) -> str:
        """Write the selector of a signal's series; labels that it lacks are those of others."""
        matchers = [f'job="{job}"']
        for label in sorted(self._kept[row.entity, row.metric]):
            value = row.labels.get(label, "")
            found = _STATUS_CLASS.fullmatch(value)
            matchers.append(f'{label}=~"{found[1]}.."' if found else f"{label}={json.dumps(value)}")
        return f"{name}{{{','.join(matchers)}}}"

    def _split(self, series: str, job: str, seconds: int, end_ms: int) -> str:
        """Write the rate between two instants, for a query one scrape after the second."""
        weight = self._weight(job, end_ms)
        before = f"({series} offset {SCRAPE_S}s - {series} offset {seconds + SCRAPE_S}s)"
        after = f"({series} - {series} offset {seconds}s)"
        return f"({1 - weight} * {before} + {weight} * {after}) / {seconds}"

    def _weight(self, job: str, at_ms: int) -> float:
        """Tell what part of a scrape interval has passed since the last scrape."""
        if (job, at_ms) not in self._weights:
            scraped_s = self._ask(f'timestamp(up{{job="{job}"}})', at_ms)
            self._weights[job, at_ms] = (at_ms / 1000 - scraped_s) / SCRAPE_S
        return self._weights[job, at_ms]

    def _ask(self, promql: str, at_ms: int) -> float:
        """Ask for one number; NaN where there is none."""
        answer = self._folded.run.prometheus.query(promql, at_ms)
        assert len(answer) <= 1, f"{promql} has {len(answer)} answers"
        return answer[0][1] if answer else float("nan")


def _folded_as(folding: Folding, rates: str, observed: str) -> str:
    """Write what PromQL makes of rates: of buckets, or of sums and counts."""
    if folding is Folding.AVERAGE:
        return f"sum({rates}) / sum({observed})"
    return f"histogram_quantile({_QUANTILES[folding]}, sum by (le) ({rates}))"


def title_of(row: SignalRow) -> str:
    """Write a signal's name as people do."""
    return Signal(
        row.entity, row.metric, tuple(sorted(row.labels.items())), Folding(row.folding)
    ).title


def _relative(ours: float, theirs: float) -> float:
    if ours == theirs:
        return 0.0
    return abs(ours - theirs) / abs(theirs) if theirs else float("inf")


def spread(differences: Sequence[Difference]) -> dict[str, float]:
    """Sum up relative differences, for people; `beyond` are those that no ratio tells."""
    told: dict[str, float] = {"compared": len(differences)}
    for name, relative in (
        ("", [one.relative for one in differences]),
        ("plain_", [one.relative_plain for one in differences]),
    ):
        values = np.array(relative)
        finite = values[np.isfinite(values)]
        if len(finite):
            told[f"{name}median"] = float(f"{np.median(finite):.2g}")
            told[f"{name}max"] = float(f"{finite.max():.2g}")
        if len(finite) < len(values):
            told[f"{name}beyond"] = len(values) - len(finite)
    return told
