"""Requests of both versions of remote write, written from one draft; and drafts at random.

Version 2.0 is written by hand here, field by field, as its specification has it: what reads it must
not be tested by itself.
"""

import struct
from typing import NamedTuple

from hypothesis import strategies as st

from watchkeep.schemas.remote_write_pb2 import Label, Sample, TimeSeries

Labels = tuple[tuple[str, str], ...]


class DraftSeries(NamedTuple):
    """A series of a request.

    Attributes:
        kind: a type, which only version 2.0 tells here.
        exemplars: how many; they are empty.
        histograms: messages.
    """

    labels: Labels
    samples: tuple[tuple[int, float], ...]
    kind: int = 0
    exemplars: int = 0
    histograms: tuple[bytes, ...] = ()


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
        histograms = b"".join(_bytes(4, message) for message in one.histograms)
        parts.append(_bytes(1, series.SerializeToString() + exemplars + histograms))
    return b"".join(parts)


def encode_v2(draft: Draft) -> bytes:
    """Write a request of version 2.0."""
    symbols = {"": 0}
    series = []
    for one in draft:
        texts = [text for label in one.labels for text in label]
        references = [symbols.setdefault(text, len(symbols)) for text in texts]
        packed = b"".join(_varint(reference) for reference in references)
        body = _bytes(1, packed) if packed else b""
        for time_ms, value in one.samples:
            sample = (
                b"\x09" + struct.pack("<d", value) if struct.pack("<d", value) != bytes(8) else b""
            )
            sample += b"\x10" + _varint(time_ms % 2**64) if time_ms else b""
            body += _bytes(2, sample)
        body += b"".join(_bytes(3, message) for message in one.histograms)
        body += _bytes(4, b"") * one.exemplars
        if one.kind:
            body += _bytes(5, b"\x08" + _varint(one.kind))
        series.append(_bytes(5, body))
    if not draft:
        return b""
    return b"".join(_bytes(4, symbol.encode()) for symbol in symbols) + b"".join(series)


def _bytes(number: int, body: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(body)) + body


def _varint(value: int) -> bytes:
    parts = bytearray()
    while value >= 0x80:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)
