"""A file of what real exporters sent: realistic input for other benchmarks.

It is an .npz of columns; `load` reads what `save` wrote.

    series_id     u64[n]
    kind          u8[n]      MetricKind, as the log last told it
    labels_bytes  u32[n]     lengths of the canonical label sets, which follow each other in
    labels        u8[...]
    series        u32[m]     the place of a sample's series among the n
    time_ms       i64[m]     per series ascending
    value         f64[m]
"""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from watchkeep.schemas.frame import Frame, LabelSet, MetricKind
from watchkeep.schemas.labels import parse


class Capture(NamedTuple):
    """What was sent, in the order of the log.

    Attributes:
        series_id: uint64[n].
        kinds, labels: of those series.
        series: uint32[m], the place of a sample's series.
        time_ms: int64[m].
        value: float64[m].
    """

    series_id: npt.NDArray[np.uint64]
    kinds: list[MetricKind]
    labels: list[dict[str, str]]
    series: npt.NDArray[np.uint32]
    time_ms: npt.NDArray[np.int64]
    value: npt.NDArray[np.float64]


def save(path: Path, frames: Iterable[Frame]) -> None:
    """Write the samples of frames, and what is known of their series."""
    told: dict[int, LabelSet] = {}
    held = []
    for frame in frames:
        told.update((one.series_id, one) for one in frame.label_sets)
        held.append((frame.series_id, frame.time_ms, frame.value))
    ids, time_ms, value = (np.concatenate(column) for column in zip(*held, strict=True))
    known, series = np.unique(ids, return_inverse=True)
    forms = [told[series_id].labels for series_id in known.tolist()]
    with path.open("wb") as file:  # numpy would add a suffix to a name.
        np.savez_compressed(
            file,
            series_id=known,
            kind=np.array([told[series_id].kind for series_id in known.tolist()], np.uint8),
            labels_bytes=np.array([len(form) for form in forms], np.uint32),
            labels=np.frombuffer(b"".join(forms), np.uint8),
            series=series.astype(np.uint32),
            time_ms=time_ms,
            value=value,
        )


def load(path: Path) -> Capture:
    """Read what `save` wrote."""
    with np.load(path) as file:
        columns = {name: file[name] for name in file.files}
    ends = np.cumsum(columns["labels_bytes"], dtype=np.int64).tolist()
    blob = columns["labels"].tobytes()
    forms = [blob[begin:end] for begin, end in zip([0, *ends[:-1]], ends, strict=True)]
    return Capture(
        columns["series_id"],
        [MetricKind(kind) for kind in columns["kind"].tolist()],
        [parse(form) for form in forms],
        columns["series"],
        columns["time_ms"],
        columns["value"],
    )
