"""Frames and folds for tests: a few series of one entity, named `metric:pod` or `x{le=1}:pod`."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from watchkeep.detectors.cells import Cell
from watchkeep.detectors.columns import PRESENCE
from watchkeep.detectors.fold import Fold
from watchkeep.schemas.frame import Frame, FrameKind, LabelSet, MetricKind, SenderTime
from watchkeep.schemas.labels import canonical, series_id
from watchkeep.schemas.remote_write_pb2 import Histogram
from watchkeep.schemas.settings import Detect
from watchkeep.streams.native_histograms import columns, read

STEP_MS = 60_000
START_MS = 1_700_000_040_000 // STEP_MS * STEP_MS
FAR_MS = START_MS + 60 * STEP_MS
STALE = float(np.array([0x7FF0000000000002], np.uint64).view(np.float64)[0])

Sample = tuple[str, int, float]  # series, time in ms after the start, value
Native = tuple[str, int, Histogram]


def label_set(
    name: str, kind: MetricKind = MetricKind.UNKNOWN, entity: str = "workload/c/n/w"
) -> LabelSet:
    """`requests_total:a` is that metric of the pod a; `x_bucket{le=1}:a` has a label more."""
    metric, _, pod = name.partition(":")
    metric, _, more = metric.partition("{")
    labels = {"__name__": metric, "pod": pod}
    labels |= dict(pair.split("=") for pair in more.rstrip("}").split(",") if pair)
    form = canonical(labels.items())
    return LabelSet(series_id(form), kind, entity, pod, form)


def a_frame(samples: Sequence[Sample], kinds: dict[str, MetricKind] | None = None) -> Frame:
    """Make a frame of samples and the labels of their series."""
    names = [name for name, _, _ in samples]
    kinds = kinds or {}
    sets = {
        name: label_set(name, kinds.get(name.partition(":")[0], MetricKind.UNKNOWN))
        for name in sorted(set(names))
    }
    return Frame(
        FrameKind.DATA,
        "g",
        START_MS,
        "r",
        (SenderTime("c", "", FAR_MS, FAR_MS),),
        np.array([sets[name].series_id for name in names], np.uint64),
        np.array([START_MS + ms for _, ms, _ in samples], np.int64),
        np.array([value for _, _, value in samples], np.float64),
        label_sets=tuple(sets.values()),
    )


def native_frame(
    told: Sequence[Native],
    samples: Sequence[Sample] = (),
    kinds: dict[str, MetricKind] | None = None,
) -> Frame:
    """Make a frame of native histograms, and of samples."""
    frame = a_frame(samples, kinds)
    sets = {name: label_set(name, MetricKind.HISTOGRAM) for name in sorted({t[0] for t in told})}
    readings = []
    for _, ms, message in told:
        message.timestamp = START_MS + ms
        readings.append(read(message))
    ids = np.array([sets[name].series_id for name, _, _ in told], np.uint64)
    return replace(
        frame, histograms=columns(ids, readings), label_sets=(*frame.label_sets, *sets.values())
    )


def put_native(
    fold: Fold,
    told: Sequence[Native],
    samples: Sequence[Sample] = (),
    kinds: dict[str, MetricKind] | None = None,
) -> None:
    """Have a fold learn and add a frame of native histograms, and of samples."""
    frame = native_frame(told, samples, kinds)
    fold.learn(frame.label_sets, frame.gateway_ms)
    fold.add(frame, FAR_MS)


def put(fold: Fold, samples: Sequence[Sample], kinds: dict[str, MetricKind] | None = None) -> None:
    """Have a fold learn and add a frame of samples."""
    frame = a_frame(samples, kinds)
    fold.learn(frame.label_sets, frame.gateway_ms)
    fold.add(frame, FAR_MS)


def folded(
    frames: Sequence[Sequence[Sample]],
    until_ms: int = 10 * STEP_MS,
    kinds: dict[str, MetricKind] | None = None,
    settings: Detect | None = None,
) -> dict[str, dict[int, float]]:
    """Fold frames: by signal, its value by minutes after the start."""
    fold = Fold(settings or Detect())
    for samples in frames:
        if samples:
            put(fold, samples, kinds)
    return told(fold, list(fold.close(START_MS + until_ms)))


def told(fold: Fold, cells: Sequence[Cell]) -> dict[str, dict[int, float]]:
    """Write cells as people read them, without the count of members."""
    signals: dict[str, dict[int, float]] = {}
    for cell in cells:
        minute = (cell.begin_ms - START_MS) / STEP_MS
        for slot, value in zip(cell.slots.tolist(), cell.value.tolist(), strict=True):
            title = fold.roster.signal(slot).title
            if title == PRESENCE:
                continue
            signals.setdefault(title, {})[int(minute) if minute == int(minute) else minute] = value  # type: ignore[index]
    return signals


def every(name: str, step_ms: int, data: Sequence[float], first_ms: int = 0) -> list[Sample]:
    """Sample a series at equal times."""
    return [(name, first_ms + i * step_ms, value) for i, value in enumerate(data)]
