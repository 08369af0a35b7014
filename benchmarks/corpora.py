"""Labelled recordings of real systems, as one kind of record.

The corpora differ in how they are laid out; a folder is read by its layout, never by its name, so
that any other corpus of the same layout can be scored.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Longs = NDArray[np.int64]
Bools = NDArray[np.bool_]

WEEK_MS: Final = 7 * 24 * 3_600_000

_TIMELESS_FROM_MS: Final = 1_577_836_800_000  # 2020-01-01, a midnight, where no times are told.
_PROBATION_SHARE: Final = 0.15
_PROBATION_ROWS_MAX: Final = 750


@dataclass(frozen=True)
class Recorded:
    """One entity's signals and what is known to have been abnormal.

    Attributes:
        name: which it is in its corpus.
        group: its category in the corpus; empty where there are none.
        step_ms: the usual distance of two rows.
        time_ms: int64[T], since 1970; not always rising, because real clocks are set back.
        value: float64[T, signals].
        segments: int64[n, 2], rows [begin, end) that are abnormal; ascending and disjoint.
        split: the first row that is scored. Those before are seen without their labels.
    """

    name: str
    group: str
    step_ms: int
    time_ms: Longs
    value: Floats
    segments: Longs
    split: int

    def __post_init__(self) -> None:
        rows = len(self.time_ms)
        assert self.value.ndim == 2, self.name
        assert len(self.value) == rows, self.name
        assert self.segments.shape[1:] == (2,), self.name
        assert (np.diff(self.segments.ravel()) >= 0).all(), self.name
        assert 0 <= self.split <= rows, self.name

    @property
    def label(self) -> Bools:
        """Tell of each row if it is abnormal: bool[T]."""
        edges = np.zeros(len(self.time_ms) + 1, np.int64)
        np.add.at(edges, self.segments[:, 0], 1)
        np.add.at(edges, self.segments[:, 1], -1)
        return np.asarray(edges[:-1].cumsum() > 0)

    @property
    def scored_weeks(self) -> float:
        """Tell how long the scored part is; rows that were never sent don't count."""
        return (len(self.time_ms) - self.split) * self.step_ms / WEEK_MS

    @property
    def scored_segments(self) -> Longs:
        """Count segments from the first scored row, without those that end before: int64[n, 2]."""
        kept = self.segments[self.segments[:, 1] > self.split]
        return np.maximum(kept - self.split, 0)


class LayoutError(Exception):
    """A folder does not hold what its corpus should."""


def runs(label: Bools) -> Longs:
    """Find the runs of true rows: bool[T] -> int64[n, 2], rows [begin, end)."""
    edges = np.diff(label.astype(np.int8), prepend=0, append=0)
    return np.stack([np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)], axis=1)


def npz_corpus(folder: Path) -> list[Recorded]:
    """Read a folder of .npz files, one entity each.

    Each holds `value` [T] or [T, signals], `label` [T] where other than 0 is abnormal, `split`, and
    either `timestamp` [T] in seconds or `step_s`.
    """
    paths = sorted(folder.glob("*.npz"))
    if not paths:
        raise LayoutError(f"{folder} holds no .npz files")
    return [_npz_record(path) for path in paths]


def _npz_record(path: Path) -> Recorded:
    with np.load(path) as file:
        missing = {"value", "label", "split"} - set(file.files)
        if missing or not {"timestamp", "step_s"} & set(file.files):
            raise LayoutError(f"{path} lacks {', '.join(sorted(missing)) or 'timestamp or step_s'}")
        value = file["value"].astype(np.float64).reshape(len(file["label"]), -1)
        if "timestamp" in file:
            time_ms = file["timestamp"].astype(np.int64) * 1000
        else:
            time_ms = _TIMELESS_FROM_MS + np.arange(len(value)) * round(1000 * file["step_s"])
        return Recorded(
            path.stem,
            "",
            _step_ms(time_ms),
            time_ms,
            value,
            runs(file["label"] != 0),
            int(file["split"]),
        )


def nab_corpus(folder: Path) -> list[Recorded]:
    """Read a folder laid out as the Numenta Anomaly Benchmark, one signal a file.

    That is `data/<category>/<file>.csv` with the columns timestamp and value, and the windows of
    each in `labels/combined_windows.json`. Files which that doesn't name have no labels, and are
    left out.
    """
    windows = json_file(folder / "labels" / "combined_windows.json")
    records = [
        _nab_record(path, name, windows[name])
        for path, name in _nab_files(folder / "data")
        if name in windows
    ]
    if not records:
        raise LayoutError(f"{folder} holds no data/**/*.csv that combined_windows.json names")
    return records


def json_file(path: Path) -> dict[str, Any]:
    """Read an object from a file that must be there."""
    try:
        found: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        raise LayoutError(f"{path} is missing") from None
    return found


def _nab_files(data: Path) -> Iterator[tuple[Path, str]]:
    for path in sorted(data.rglob("*.csv")):
        yield path, path.relative_to(data).as_posix()


def _nab_record(path: Path, name: str, windows: list[list[str]]) -> Recorded:
    rows = [line.split(",") for line in path.read_text().splitlines()[1:] if line]
    time_ms = _times_ms([row[0] for row in rows])
    limits = _times_ms([edge for window in windows for edge in window]).reshape(-1, 2)
    return Recorded(
        name,
        name.partition("/")[0],
        _step_ms(time_ms),
        time_ms,
        np.array([[float(row[1] or "nan")] for row in rows]),
        _rows_within(time_ms, limits),
        min(int(_PROBATION_SHARE * len(rows)), _PROBATION_ROWS_MAX),
    )


def _times_ms(texts: list[str]) -> Longs:
    """Read times like 2014-04-10 07:15:00, with or without parts of a second: int64[n]."""
    return np.array(texts, dtype="datetime64[us]").astype("datetime64[ms]").astype(np.int64)


def _rows_within(time_ms: Longs, limits: Longs) -> Longs:
    """Find windows' rows: int64[n, 2], times, both inclusive -> int64[m, 2], rows [begin, end)."""
    inside = [
        np.flatnonzero((time_ms >= first_ms) & (time_ms <= last_ms)) for first_ms, last_ms in limits
    ]
    found = [(rows[0], rows[-1] + 1) for rows in inside if len(rows)]
    return np.array(found, np.int64).reshape(-1, 2)


def _step_ms(time_ms: Longs) -> int:
    return int(np.median(np.diff(time_ms)))
