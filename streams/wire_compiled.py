"""Reading remote write with the compiled part, `_wire.c`."""

import secrets

import numpy as np

from watchkeep.streams._wire import Reader
from watchkeep.streams.wire import (
    LIMITS,
    SCATTERED,
    UNKNOWN,
    V1,
    Columns,
    Ints,
    Limits,
    refusal,
)


class CompiledReader:
    """Reads requests; see `wire.Reader`."""

    def __init__(self, limits: Limits = LIMITS) -> None:
        self._limits = limits
        self._reader = self._new()

    def _new(self) -> Reader:
        # Who doesn't know the seed can't make label sets that all meet in one place.
        return Reader(secrets.randbits(64), *self._limits)

    def read(self, plain: bytes, version: int) -> Columns:
        """Take a request apart; see the protocol."""
        told = self._reader.read(plain, version)
        if isinstance(told, int):
            raise refusal(told, self._limits)
        *columns, spans, others, drawn = told
        slot, samples, exemplars, kind, time_ms = (
            np.frombuffer(column, np.int64) for column in columns[:5]
        )
        unknown: list[tuple[int, bytes]] = []
        if len(slot) and slot.min() < 0:
            slot = slot.copy()
            lie = np.frombuffer(spans, np.int64).reshape(-1, 2)
            unknown = self._unknown(slot, lie, plain if version == V1 else drawn, drawn)
        rest = np.frombuffer(others, np.int64).reshape(-1, 3).tolist()
        return Columns(
            slot,
            samples,
            exemplars,
            kind,
            time_ms,
            np.frombuffer(columns[5], np.float64),
            unknown,
            [(row, plain[begin:end]) for row, begin, end in rest if row >= 0],
            [plain[begin:end] for row, begin, end in rest if row < 0],
        )

    @staticmethod
    def _unknown(slot: Ints, spans: Ints, plain: bytes, drawn: bytes) -> list[tuple[int, bytes]]:
        """Gather the label sets that are not known, most where they lie in the request."""
        unknown = []
        for row in np.flatnonzero((slot == UNKNOWN) | (slot == SCATTERED)).tolist():
            begin, end = spans[row].tolist()
            source = drawn if slot[row] == SCATTERED else plain
            unknown.append((row, source[begin:end]))
        slot[slot == SCATTERED] = UNKNOWN
        return unknown

    def learn(self, labels: bytes) -> int:
        """Give a label set the next slot; see the protocol."""
        return self._reader.learn(labels)

    def keep(self, slots: Ints) -> None:
        """Forget all slots but some; see the protocol."""
        old, self._reader = self._reader, self._new()
        for slot in slots.tolist():
            self._reader.learn(old.labels(slot))
