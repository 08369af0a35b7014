"""The detector that the quality benchmarks judge: the bank as it is, with nothing set.

Records are independent of each other, so those with the same step go through one bank side by side,
each from its own time of day on. A row is a cell of the grid, whatever its clock says: some clocks
are set back.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from itertools import groupby
from typing import Final, NamedTuple

import numpy as np

from corpora import Floats, Longs, Recorded
from watchkeep.detectors.bank import PARTS, Bank
from watchkeep.detectors.channel import Span

_DAY_MS: Final = 86_400_000


class _Lane(NamedTuple):
    """A record's place among those beside it: its cells, and its signals' slots."""

    cells: slice
    slots: slice


def rarities(
    records: Sequence[Recorded], progress: Callable[[str], None], without: str = ""
) -> list[Floats]:
    """Tell of each row how rare what it shows is, from that row and those before it only.

    Args:
        records: what was recorded; labels and `split` are not looked at.
        progress: is told the name of each record that is done.
        without: a channel to leave out.

    Returns:
        float64[T] of each record: -log10 of the alerts a week that are expected at this level or
        above. An alarm at a budget of B alerts a week is a rarity of at least -log10(B). NaN or
        -inf where the detector isn't warm.
    """
    found: list[Floats] = [np.empty(0)] * len(records)
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        jobs = {
            pool.submit(_side_by_side, [records[i] for i in part], without): part
            for part in _parts(records)
        }
        for job in as_completed(jobs):
            for i, rarity in zip(jobs[job], job.result(), strict=True):
                found[i] = rarity
                progress(records[i].name)
    return found


def _parts(records: Sequence[Recorded]) -> Iterator[list[int]]:
    """Split records into parts of one step, one for each processor."""
    order = sorted(range(len(records)), key=lambda i: (records[i].step_ms, len(records[i].time_ms)))
    workers = os.cpu_count() or 1
    for _, group in groupby(order, key=lambda i: records[i].step_ms):
        same = list(group)
        yield from (part for first in range(workers) if (part := same[first::workers]))


def _side_by_side(records: Sequence[Recorded], without: str) -> list[Floats]:
    step_ms = records[0].step_ms
    lanes = list(_lanes(records))
    count = max(lane.cells.stop for lane in lanes)
    value = np.full((count, lanes[-1].slots.stop), np.nan)
    entity = np.empty(value.shape[1], np.int64)
    begin, end = np.empty_like(entity), np.empty_like(entity)
    for number, (record, lane) in enumerate(zip(records, lanes, strict=True)):
        value[lane.cells, lane.slots] = record.value
        entity[lane.slots] = number
        begin[lane.slots], end[lane.slots] = lane.cells.start, lane.cells.stop
    bank = Bank(tuple(part for part in PARTS if part.channel.name != without))
    bank.place(np.arange(len(entity)), entity, entity % 64 / 64)
    rarity = _run(bank, value, step_ms, begin, end)
    return [rarity[lane.cells, number] for number, lane in enumerate(lanes)]


def _lanes(records: Sequence[Recorded]) -> Iterator[_Lane]:
    slots = 0
    for record in records:
        first = int(record.time_ms[0]) % _DAY_MS // record.step_ms
        rows, signals = record.value.shape
        yield _Lane(slice(first, first + rows), slice(slots, slots + signals))
        slots += signals


def _run(bank: Bank, value: Floats, step_ms: int, begin: Longs, end: Longs) -> Floats:
    """Step through the cells; each signal takes part from its first to its last."""
    rarity = np.full((len(value), value.shape[1]), np.nan)
    changes = {*begin.tolist(), *end.tolist()}
    slots = np.empty(0, np.int64)
    for number, row in enumerate(value):
        if number in changes:
            slots = np.flatnonzero((begin <= number) & (number < end))
        decision = bank.step(Span(number * step_ms, step_ms), slots, row.take(slots))
        rarity[number, decision.entity] = decision.rarity
    return rarity
