"""Requests of both versions of remote write, written from one draft; and drafts at random.

Version 2.0 is written by hand here, field by field, as its specification has it: what reads it must
not be tested by itself.
"""

import struct
from typing import NamedTuple

from hypothesis import strategies as st

from watchkeep.schemas.remote_write_pb2 import Label, Sample, TimeSeries

Labels = tuple[tuple[str, str], ...]


class Exemplar(NamedTuple):
    """What an exemplar of version 2.0 says."""

    labels: Labels = ()
    value: float = 0.0
    time_ms: int = 0


class DraftSeries(NamedTuple):
    """A series of a request.

    Attributes:
        kind: a type, which only version 2.0 tells here, as all that stands below it but histograms.
        exemplars: how many; in version 1.0 they are empty.
        histograms: messages.
        exemplar: what each of them says.
        about: the texts of help and unit.
        created_ms: when its counter began, as the third draft of version 2.0 tells it.
    """

    labels: Labels
    samples: tuple[tuple[int, float], ...]
    kind: int = 0
    exemplars: int = 0
    histograms: tuple[bytes, ...] = ()
    exemplar: Exemplar = Exemplar()
    about: tuple[str, str] = ("", "")
    created_ms: int = 0


Draft = list[DraftSeries]

# Times of every length, and the usual one above all; values that take no byte, and odd ones.
_TIMES = st.one_of(
    st.integers(1_700_000_000_000, 1_900_000_000_000),
    st.integers(-(2**63), 2**63 - 1),
    st.sampled_from([0, 127, 128, 2**35 - 1, 2**35, 2**42 - 1, 2**42]),
)
_VALUES = st.one_of(st.just(0.0), st.floats())
_TEXTS = st.one_of(st.sampled_from(["", "__name__", "up", "le"]), st.text(max_size=20))
_LABELS = st.lists(st.tuples(_TEXTS, _TEXTS), max_size=4).map(tuple)


def drafts() -> st.SearchStrategy[Draft]:
    """Draw requests."""
    return st.lists(
        st.builds(
            DraftSeries,
            labels=_LABELS,
            samples=st.lists(st.tuples(_TIMES, _VALUES), max_size=4).map(tuple),
            kind=st.integers(0, 9),
            exemplars=st.integers(0, 1),
            histograms=st.integers(0, 1).map(lambda count: (b"",) * count),
        ),
        max_size=6,
    )


def text_of(labels: bytes) -> Labels:
    """Read labels as version 1.0 writes them."""
    return tuple((label.name, label.value) for label in TimeSeries.FromString(labels).labels)


def encode_v1(draft: Draft) -> bytes:
    """Write a request of version 1.0."""
    parts = []
    for one in draft:
        # Senders leave an empty text out, or write it; both readers must do with both.
        labels = [Label(name=name, value=value) for name, value in one.labels]
        samples = [Sample(timestamp=time_ms, value=value) for time_ms, value in one.samples]
        series = TimeSeries(labels=labels, samples=samples)
        exemplars = b"\x1a\x00" * one.exemplars
        histograms = b"".join(field(4, message) for message in one.histograms)
        parts.append(field(1, series.SerializeToString() + exemplars + histograms))
    return b"".join(parts)


def encode_v2(draft: Draft) -> bytes:
    """Write a request of version 2.0."""
    symbols = {"": 0}
    series = [field(5, _series_v2(one, symbols)) for one in draft]
    if not draft:
        return b""
    return b"".join(field(4, symbol.encode()) for symbol in symbols) + b"".join(series)


def _series_v2(one: DraftSeries, symbols: dict[str, int]) -> bytes:
    body = _references(one.labels, symbols)
    for time_ms, value in one.samples:
        body += field(2, _double(1, value) + _number(2, time_ms))
    body += b"".join(field(3, message) for message in one.histograms)
    told = one.exemplar
    exemplar = _references(told.labels, symbols) + _double(2, told.value) + _number(3, told.time_ms)
    body += field(4, exemplar) * one.exemplars
    texts = [symbols.setdefault(text, len(symbols)) for text in one.about]
    metadata = _number(1, one.kind) + _number(3, texts[0]) + _number(4, texts[1])
    body += field(5, metadata) if metadata else b""
    return body + _number(6, one.created_ms)


def _references(labels: Labels, symbols: dict[str, int]) -> bytes:
    texts = [text for label in labels for text in label]
    packed = b"".join(varint(symbols.setdefault(text, len(symbols))) for text in texts)
    return field(1, packed) if packed else b""


def _double(number: int, value: float) -> bytes:
    bits = struct.pack("<d", value)
    return varint(number << 3 | 1) + bits if bits != bytes(8) else b""


def _number(number: int, value: int) -> bytes:
    return varint(number << 3) + varint(value % 2**64) if value else b""


def field(number: int, body: bytes) -> bytes:
    """Write a field that has a length."""
    return varint(number << 3 | 2) + varint(len(body)) + body


def varint(value: int) -> bytes:
    """Write a number."""
    parts = bytearray()
    while value >= 0x80:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)
