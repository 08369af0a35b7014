"""Reading remote write in Python, where the compiled part was not built; it says the same.

Most series have one sample, and the bytes of that have one form, so the label set is what stands
before it: no label is looked at. It may be trusted only if it is known, that is, was found to be a
row of labels and nothing else when it was seen first.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Final, NamedTuple

import numpy as np

from watchkeep.streams.wire import (
    BAD_NUMBER,
    BAD_TYPE,
    HALF_A_LABEL,
    LIMITS,
    NO_EMPTY_SYMBOL,
    NO_SYMBOL,
    OTHER_MESSAGE,
    TOO_LARGE,
    TOO_MANY_LABELS,
    TOO_MANY_SAMPLES,
    TOO_MANY_SERIES,
    TRUNCATED,
    UNKNOWN,
    V1,
    Columns,
    Ints,
    Limits,
    refusal,
)

_VARINT: Final = 0
_FIXED64: Final = 1
_BYTES: Final = 2
_FIXED32: Final = 5
_VARINT_BYTES: Final = 10

# A sample whose time takes six bytes, as from 2004 to 2109, with a value and with one of 0.
_SAMPLE: Final = b"\x12\x10\x09"
_ZERO: Final = b"\x12\x07\x10"
_KEPT_BYTES: Final = 256
_NOTHING: Final = bytes(8)
_SIX: Final = np.array([1, 2**7, 2**14, 2**21, 2**28, 2**35], np.int64)


class _Wrong(Exception):  # noqa: N818 - It names what is wrong by number, and stays in here.
    """A request that can't be read."""

    def __init__(self, wrong: int) -> None:
        super().__init__(wrong)
        self.wrong = wrong


@dataclass(slots=True)
class _Request:
    """What is found in a request."""

    slot: list[int] = field(default_factory=list)
    samples: list[int] = field(default_factory=list)
    exemplars: list[int] = field(default_factory=list)
    kind: list[int] = field(default_factory=list)
    time_ms: list[int] = field(default_factory=list)
    value: list[bytes] = field(default_factory=list)
    unknown: list[tuple[int, bytes]] = field(default_factory=list)
    histograms: list[tuple[int, bytes]] = field(default_factory=list)
    metadata: list[bytes] = field(default_factory=list)

    def columns(self) -> Columns:
        return Columns(
            np.array(self.slot, np.int64),
            np.array(self.samples, np.int64),
            np.array(self.exemplars, np.int64),
            np.array(self.kind, np.int64),
            np.array(self.time_ms, np.int64),
            np.frombuffer(b"".join(self.value), np.float64),
            self.unknown,
            self.histograms,
            self.metadata,
        )


class _Field(NamedTuple):
    """A field: its number, its wire type, and where what follows its tag begins and ends."""

    number: int
    wire: int
    begin: int
    end: int


def _number(plain: bytes, at: int, end: int) -> tuple[int, int]:
    """Read a varint: it, and where it ends."""
    value = shift = 0
    for i in range(at, min(at + _VARINT_BYTES, end)):
        byte = plain[i]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >= 1 << 64:
                break
            return value, i + 1
        shift += 7
    raise _Wrong(TRUNCATED if at + _VARINT_BYTES > end and shift < 70 else BAD_NUMBER)


def _fields(plain: bytes, at: int, end: int) -> Iterator[_Field]:
    while at < end:
        tag = plain[at]
        if tag < 0x80:
            at += 1
        else:
            tag, at = _number(plain, at, end)
        if not 8 <= tag < 1 << 32:
            raise _Wrong(BAD_NUMBER)
        wire = tag & 7
        if wire == _BYTES:
            size, begin = _number(plain, at, end)
            at = begin + size
        elif wire == _VARINT:
            begin = at
            _, at = _number(plain, at, end)
        elif wire in (_FIXED64, _FIXED32):
            begin = at
            at += 8 if wire == _FIXED64 else 4
        else:
            raise _Wrong(BAD_TYPE)
        if at > end:
            raise _Wrong(TRUNCATED)
        yield _Field(tag >> 3, wire, begin, at)


def _number_bytes(value: int) -> bytes:
    parts = bytearray()
    while value >= 0x80:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)


class PlainReader:
    """Reads requests; see `wire.Reader`."""

    def __init__(self, limits: Limits = LIMITS) -> None:
        self._limits = limits
        self._slots: dict[bytes, int] = {}

    def learn(self, labels: bytes) -> int:
        """Give a label set the next slot; see the protocol."""
        return self._slots.setdefault(labels, len(self._slots))

    def keep(self, slots: Ints) -> None:
        """Forget all slots but some; see the protocol."""
        labels = list(self._slots)
        self._slots = {labels[slot]: new for new, slot in enumerate(slots.tolist())}

    def read(self, plain: bytes, version: int) -> Columns:
        """Take a request apart; see the protocol."""
        try:
            if version == V1:
                return self._usual_v1(plain) or self._read_v1(plain).columns()
            return self._read_v2(plain).columns()
        except _Wrong as error:
            raise refusal(error.wrong, self._limits) from None

    def _usual_v1(self, plain: bytes) -> Columns | None:
        """Read series that are known, with samples as they usually are; None for anything else."""
        slots: list[int] = []
        counts: list[int] = []
        values: list[bytes] = []
        times: list[bytes] = []
        try:
            for begin, end in _usual_series(plain):
                samples = end - 18
                slot = self._slots.get(plain[begin:samples])
                if slot is None:
                    samples = _behind_labels(plain, begin, end)
                    slot = self._slots[plain[begin:samples]]
                slots.append(slot)
                counts.append(_usual_samples(plain, samples, end, values, times))
        except (IndexError, KeyError):
            return None
        six = np.frombuffer(b"".join(times), np.uint8).reshape(-1, 6)
        strange = (six[:, :5] < 0x80).any() or (six[:, 5] >= 0x80).any()
        if strange or len(slots) > self._limits.series or len(times) > self._limits.samples:
            return None
        nothing = np.zeros(len(slots), np.int64)
        return Columns(
            np.array(slots, np.int64),
            np.array(counts, np.int64),
            nothing,
            nothing,
            (six & np.uint8(0x7F)).astype(np.int64) @ _SIX,
            np.frombuffer(b"".join(values), np.float64),
            [],
            [],
            [],
        )

    def _read_v1(self, plain: bytes) -> _Request:
        request = _Request()
        for found in _fields(plain, 0, len(plain)):
            if found.number in (4, 5):
                raise _Wrong(OTHER_MESSAGE)
            if found.number not in (1, 3):
                continue
            _need(found, _BYTES)
            if found.number == 1:
                self._series_v1(plain, found, request)
            else:
                self._set_aside(request)
                request.metadata.append(plain[found.begin : found.end])
        return request

    def _series_v1(self, plain: bytes, series: _Field, request: _Request) -> None:
        before = self._begin_series(request)
        labels, size, at = [], 0, series.begin
        for found in _fields(plain, series.begin, series.end):
            if found.number <= 4:
                _need(found, _BYTES)
            if found.number == 1:
                # Of what is too large only that is kept.
                if size <= self._limits.label_bytes:
                    labels.append(plain[at : found.end])
                size += found.end - at
            elif found.number <= 4:
                self._part(plain, found, request, (2, 3, 4).index(found.number))
            at = found.end
        self._end_series(request, b"".join(labels), before, UNKNOWN)

    def _begin_series(self, request: _Request) -> int:
        if len(request.slot) >= self._limits.series:
            raise _Wrong(TOO_MANY_SERIES)
        request.exemplars.append(0)
        request.kind.append(0)
        return len(request.time_ms)

    def _end_series(self, request: _Request, labels: bytes, before: int, verdict: int) -> None:
        if verdict == UNKNOWN:
            too_large = len(labels) > self._limits.label_bytes
            verdict = TOO_LARGE if too_large else self._slots.get(labels, UNKNOWN)
            if verdict == UNKNOWN:
                request.unknown.append((len(request.slot), labels))
        request.slot.append(verdict)
        request.samples.append(len(request.time_ms) - before)

    def _set_aside(self, request: _Request) -> None:
        if len(request.histograms) + len(request.metadata) >= self._limits.series:
            raise _Wrong(TOO_MANY_SERIES)

    def _part(self, plain: bytes, found: _Field, request: _Request, what: int) -> None:
        """Take in a sample (0), an exemplar (1) or a native histogram (2)."""
        if what == 0:
            self._sample(plain, found, request)
        elif what == 1:
            request.exemplars[-1] += 1
        else:
            self._set_aside(request)
            series = len(request.exemplars) - 1
            request.histograms.append((series, plain[found.begin : found.end]))

    def _sample(self, plain: bytes, sample: _Field, request: _Request) -> None:
        if len(request.time_ms) >= self._limits.samples:
            raise _Wrong(TOO_MANY_SAMPLES)
        time_ms, value = 0, _NOTHING
        begin, end = sample.begin, sample.end
        if plain[begin : begin + 1] == b"\x09" and plain[begin + 9 : begin + 10] == b"\x10":
            # As it usually is: a value, then a time and nothing else.
            time_ms, at = _number(plain, begin + 10, end)
            if at == end:
                request.time_ms.append(time_ms - (1 << 64) if time_ms >> 63 else time_ms)
                request.value.append(plain[begin + 1 : begin + 9])
                return
        for found in _fields(plain, sample.begin, sample.end):
            if found.number == 1:
                _need(found, _FIXED64)
                value = plain[found.begin : found.end]
            elif found.number == 2:
                _need(found, _VARINT)
                time_ms, _ = _number(plain, found.begin, found.end)
        request.time_ms.append(time_ms - (1 << 64) if time_ms >> 63 else time_ms)
        request.value.append(value)

    def _read_v2(self, plain: bytes) -> _Request:
        symbols: list[bytes] = []
        series: list[_Field] = []
        for found in _fields(plain, 0, len(plain)):
            if found.number in (1, 3):
                raise _Wrong(OTHER_MESSAGE)
            if found.number in (4, 5):
                _need(found, _BYTES)
                if found.number == 4:
                    if len(symbols) >= self._limits.samples:
                        raise _Wrong(TOO_MANY_LABELS)
                    symbols.append(plain[found.begin : found.end])
                else:
                    if len(series) >= self._limits.series:
                        raise _Wrong(TOO_MANY_SERIES)
                    series.append(found)
        if plain and (not symbols or symbols[0]):
            raise _Wrong(NO_EMPTY_SYMBOL)
        # A label is a name and a value, each with its tag and length before it.
        labels = _LabelTexts([_number_bytes(len(symbol)) + symbol for symbol in symbols])
        request, drawn = _Request(), 0
        for found in series:
            drawn += self._series_v2(plain, found, labels, request)
            if drawn > self._limits.drawn_bytes:
                raise _Wrong(TOO_MANY_LABELS)
        return request

    def _series_v2(
        self, plain: bytes, series: _Field, texts: "_LabelTexts", request: _Request
    ) -> int:
        """Take in a series; return how many bytes its label set was written down with."""
        before = self._begin_series(request)
        references: list[int] = []
        for found in _fields(plain, series.begin, series.end):
            if found.number == 1:
                for reference in _references(plain, found):
                    # Far more than there is room for; the labels are too large then.
                    if len(references) < self._limits.label_bytes:
                        references.append(reference)
            elif found.number <= 5:
                _need(found, _BYTES)
                if found.number == 5:
                    request.kind[-1] = _kind(plain, found)
                else:
                    self._part(plain, found, request, (2, 4, 3).index(found.number))
        labels, verdict = texts.drawn(references, self._limits.label_bytes)
        self._end_series(request, labels, before, verdict)
        return len(labels)


class _LabelTexts(dict[tuple[int, int], bytes]):
    """Labels of a request of version 2.0, by two references, as version 1.0 writes them."""

    def __init__(self, texts: list[bytes]) -> None:
        super().__init__()
        self._texts = texts

    def __missing__(self, pair: tuple[int, int]) -> bytes:
        name, value = pair
        inner = b"\x0a" + self._texts[name] + b"\x12" + self._texts[value]
        text = b"\x0a" + _number_bytes(len(inner)) + inner
        # Long ones are rare in an honest request, and could fill the memory in another.
        if len(text) <= _KEPT_BYTES:
            self[pair] = text
        return text

    def drawn(self, references: list[int], bytes_max: int) -> tuple[bytes, int]:
        """Write a label set down: what is written, and what is wrong."""
        labels = bytearray()
        for name, value in zip_longest(references[::2], references[1::2]):
            if name >= len(self._texts):
                return bytes(labels), NO_SYMBOL
            if value is None:
                return bytes(labels), HALF_A_LABEL
            if value >= len(self._texts):
                return bytes(labels), NO_SYMBOL
            if len(self._texts[name]) + len(self._texts[value]) > bytes_max:
                return bytes(labels), TOO_LARGE
            label = self[name, value]
            if len(labels) + len(label) > bytes_max:
                return bytes(labels), TOO_LARGE
            labels += label
        return bytes(labels), UNKNOWN


def _usual_series(plain: bytes) -> Iterator[tuple[int, int]]:
    """Tell where series begin and end.

    Raises:
        IndexError: something else is there, or the request ends in the middle of it.
    """
    at, end = 0, len(plain)
    while at < end:
        size, begin = plain[at + 1], at + 2
        if size >= 0x80:
            size, begin = size & 0x7F | plain[begin] << 7, begin + 1
        if plain[at] != 0x0A or size >= 1 << 14 or begin + size > end:
            raise IndexError
        at = begin + size
        yield begin, at


def _behind_labels(plain: bytes, at: int, end: int) -> int:
    """Find where the labels of a series end, if they are the first of it."""
    while at < end and plain[at] == 0x0A:
        size = plain[at + 1]
        if size >= 0x80:
            size = (size & 0x7F | plain[at + 2] << 7) + 1
        at += 2 + size
    return at


def _usual_samples(plain: bytes, at: int, end: int, values: list[bytes], times: list[bytes]) -> int:
    """Take in samples as they usually are, and count them.

    Raises:
        IndexError: one isn't.
    """
    count = 0
    while at < end:
        tag = plain[at : at + 3]
        if tag == _SAMPLE and plain[at + 11] == 0x10:
            values.append(plain[at + 3 : at + 11])
            at += 18
        elif tag == _ZERO:
            values.append(_NOTHING)
            at += 9
        else:
            raise IndexError
        times.append(plain[at - 6 : at])
        count += 1
    if at != end:
        raise IndexError
    return count


def _need(found: _Field, wire: int) -> None:
    if found.wire != wire:
        raise _Wrong(BAD_TYPE)


def _references(plain: bytes, found: _Field) -> Iterator[int]:
    if found.wire not in (_BYTES, _VARINT):
        raise _Wrong(BAD_TYPE)
    value = shift = 0
    for byte in plain[found.begin : found.end]:
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >= 1 << 64:
                raise _Wrong(BAD_NUMBER)
            yield value
            value = shift = 0
        else:
            shift += 7
            if shift >= 7 * _VARINT_BYTES:
                raise _Wrong(BAD_NUMBER)
    if shift:
        raise _Wrong(TRUNCATED)


def _kind(plain: bytes, metadata: _Field) -> int:
    kind = 0
    for found in _fields(plain, metadata.begin, metadata.end):
        if found.number == 1 and found.wire == _VARINT:
            kind, _ = _number(plain, found.begin, found.end)
    return kind if kind < 256 else 0
