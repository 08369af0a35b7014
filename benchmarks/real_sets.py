"""Signals of real systems, for `realism.py` to measure.

Every reader takes the folder of one data set and yields each of its signals on a regular grid. What
is missing, what is labelled as an anomaly, and what somebody made up to fill a gap is NaN there, so
that only the healthy system is measured.
"""

import csv
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from signal_measures import Floats

Bools = NDArray[np.bool_]

_SAMPLES_MIN: Final = 100  # Of a signal, lest what is measured is chance.
_MISSING_MAX: Final = 0.3  # A series with more gaps than this on its grid was not sampled evenly.
_FILLED_MIN: Final = 3  # As many points in a row on one line are a filled gap; fewer may be chance.
_RECOVERY_S: Final = (
    1_800  # In Nezha, the pod of the last fault began anew, and took this to warm up.
)

# The kinds of Nezha's columns, by how their names begin; every other column is a latency.
_NEZHA_KINDS: Final = {
    "Cpu": "cpu",
    "Memory": "memory",
    "Syscall": "syscalls",
    "Network": "network",
    "Node": "node",
    "PodWorkload": "workload",
    "PodSuccess": "success",
}


class Signal(NamedTuple):
    """One signal of a real system.

    Attributes:
        group: its data set, and where that holds several kinds of signals, "set/kind".
        name: which it is in its set.
        step_s: the grid.
        value: float64[n], NaN where nothing healthy was measured.
    """

    group: str
    name: str
    step_s: float
    value: Floats


def read(data: Path) -> Iterator[Signal]:
    """Read every set there is in a folder.

    Args:
        data: a folder with one or more of `kpi`, `nab`, `nezha-ob-2022-08-22`, `petshop-train` and
            `smd`, each laid out as its authors published it.
    """
    for name, reader in READERS.items():
        if (data / name).is_dir():
            for signal in reader(data / name):
                if np.isfinite(signal.value).sum() >= _SAMPLES_MIN:
                    yield signal


def kpi(folder: Path) -> Iterator[Signal]:
    """Read the AIOps-2018 KPIs: months of 29 business and machine figures, every 1 or 5 minutes.

    The copy they came from filled gaps with straight lines, which would pass for very calm hours.

    Source: NetManAIOps/KPI-Anomaly-Detection.
    """
    for path in sorted(folder.glob("*.npz")):
        with np.load(path) as file:
            value = file["value"].astype(np.float64)
            step_s = float(np.median(np.diff(file["timestamp"])))
            value[filled(value) | (file["label"] == 1)] = np.nan
        yield Signal("kpi", path.stem, step_s, value)


def filled(value: Floats) -> Bools:
    """Tell which samples were interpolated.

    Args:
        value: float64[n].

    Returns:
        bool[n], the inner points of slopes too straight to have been measured. Level stretches are
        not told from real ones.
    """
    step = np.diff(value)
    inner = np.zeros(len(value), np.bool_)
    inner[1:-1] = np.isclose(step[1:], step[:-1], rtol=1e-6, atol=0.0) & (step[1:] != 0.0)
    edges = np.diff(np.concatenate(([0], inner.astype(np.int8), [0])))
    for begin, end in zip(np.flatnonzero(edges == 1), np.flatnonzero(edges == -1), strict=True):
        if end - begin < _FILLED_MIN:
            inner[begin:end] = False
    return inner


def smd(folder: Path) -> Iterator[Signal]:
    """Read the Server Machine Dataset: 38 metrics a machine for five weeks, scaled to 0-1.

    Source: Su et al., "Robust Anomaly Detection for Multivariate Time Series through Stochastic
    Recurrent Neural Network", KDD 2019.
    """
    for path in sorted(folder.glob("*.npz")):
        with np.load(path) as file:
            value = file["value"].astype(np.float64)
            value[file["label"] == 1] = np.nan
            step_s = float(file["step_s"])
        for column in range(value.shape[1]):
            yield Signal("smd", f"{path.stem}/{column}", step_s, value[:, column].copy())


def nab(folder: Path) -> Iterator[Signal]:
    """Read the real series of the Numenta Anomaly Benchmark; made-up ones are nobody's measure.

    Source: Ahmad et al., "Unsupervised real-time anomaly detection for streaming data",
    Neurocomputing 262, 2017.
    """
    windows = json.loads((folder / "labels" / "combined_windows.json").read_text())
    for path in sorted((folder / "data").glob("real*/*.csv")):
        header, *rows = _rows(path)
        assert header == ["timestamp", "value"], path
        time_s = np.array([_seconds(row[0]) for row in rows])
        value = np.array([float(row[1]) for row in rows])
        for begin, end in windows[f"{path.parent.name}/{path.name}"]:
            value[(time_s >= _seconds(begin)) & (time_s <= _seconds(end))] = np.nan
        step_s = float(np.median(np.diff(time_s)))
        cell = np.round((time_s - time_s[0]) / step_s).astype(np.int64)
        grid = np.full(cell.max() + 1, np.nan)
        grid[cell] = value
        if 1 - len(np.unique(cell)) / len(grid) > _MISSING_MAX:
            continue
        machine = "AWS" in path.parent.name or path.name.startswith(("cpu_", "ec2_"))
        yield Signal("nab/machines" if machine else "nab/others", path.stem, step_s, grid)


def nezha(folder: Path) -> Iterator[Signal]:
    """Read the metrics of Online Boutique's pods for 16 hours, at one minute and a steady load.

    The faults follow each other so closely in the first four hours that those are left out whole.

    Source: Yu et al., "Nezha: Interpretable Fine-Grained Root Causes Analysis for Microservices on
    Multi-modal Observability Data", ESEC/FSE 2023.
    """
    step_s = 60.0
    faults = json.loads((folder / "faults.json").read_text())
    injected_s = [_seconds(fault["inject_time"]) for hour in faults.values() for fault in hour]
    for path in sorted((folder / "metric").glob("*_metric.csv")):
        header, *rows = _rows(path)
        # TimeStamp, in the next column, is wrong in its first digits.
        time_s = np.array([_seconds(row[0][: len("2022-08-22 03:51:19")]) for row in rows])
        cell = np.round((time_s - time_s[0]) / step_s).astype(np.int64)
        ill = time_s < max(injected_s) + _RECOVERY_S
        for column in range(header.index("PodName") + 1, len(header)):
            grid = np.full(cell.max() + 1, np.nan)
            grid[cell] = np.where(ill, np.nan, [_number(row[column]) for row in rows])
            metric = header[column]
            kinds = (kind for prefix, kind in _NEZHA_KINDS.items() if metric.startswith(prefix))
            pod = path.name.split("-")[0]
            yield Signal(f"nezha/{next(kinds, 'latency')}", f"{pod}/{metric}", step_s, grid)


def petshop(folder: Path) -> Iterator[Signal]:
    """Read the two days without an issue of each traffic of PetShop, at five minutes.

    Source: Hardt et al., "The PetShop Dataset: Finding Causes of Performance Issues across
    Microservices", CLeaR 2024.
    """
    for path in sorted(folder.glob("*_traffic/noissue/metrics.csv")):
        services, metrics, statistics, _, *rows = _rows(path)
        step_s = float(np.median(np.diff([float(row[0]) for row in rows])))
        assert np.ptp(np.diff([float(row[0]) for row in rows])) == 0.0, path
        for column in range(1, len(services)):
            name = f"{path.parts[-3]}/{services[column]}/{statistics[column]}"
            value = np.array([_number(row[column]) for row in rows])
            yield Signal(f"petshop/{metrics[column]}", name, step_s, value)


READERS: Final[dict[str, Callable[[Path], Iterator[Signal]]]] = {
    "kpi": kpi,
    "nab": nab,
    "nezha-ob-2022-08-22": nezha,
    "petshop-train": petshop,
    "smd": smd,
}


def _rows(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def _number(cell: str) -> float:
    return float(cell or "nan")


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()
