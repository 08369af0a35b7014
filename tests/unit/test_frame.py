"""Frames carry columns and label sets to the bit, and refuse what is no frame."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchkeep.schemas.errors import FrameError
from watchkeep.schemas.frame import (
    Frame,
    FrameKind,
    LabelSet,
    MetricKind,
    SenderTime,
    decode,
    encode,
)
from watchkeep.schemas.labels import canonical, parse, series_id

STALE_NAN_BITS = 0x7FF0000000000002
SENDER = SenderTime("prod", "a", 1_700_000_000_000, 1_700_000_000_500)


def a_frame() -> Frame:
    labels = canonical({"__name__": "up", "pod": "größe"}.items())
    return Frame(
        FrameKind.DATA,
        "gateway-0",
        1_700_000_000_600,
        "rules",
        (SENDER,),
        np.array([series_id(labels), 2**64 - 1], np.uint64),
        np.array([1_700_000_000_000, -(2**63)], np.int64),
        np.array([1.5, np.inf]),
        (LabelSet(series_id(labels), MetricKind.GAUGE, "job/prod//x", "x:1", labels),),
    )


def same(a: Frame, b: Frame) -> bool:
    columns = ("series_id", "time_ms", "value")
    rest = ("kind", "gateway", "gateway_ms", "rules", "senders", "label_sets")
    return all(getattr(a, n).tobytes() == getattr(b, n).tobytes() for n in columns) and all(
        getattr(a, n) == getattr(b, n) for n in rest
    )


def test_a_frame_is_read_back() -> None:
    assert same(decode(encode(a_frame())), a_frame())


def test_a_tick_is_read_back() -> None:
    tick = Frame(FrameKind.TICK, "g", 5, "r", (SENDER, SENDER._replace(replica="b")))
    assert same(decode(encode(tick)), tick)


def test_the_bits_of_a_stale_marker_survive() -> None:
    value = np.array([STALE_NAN_BITS], np.uint64).view(np.float64)
    ids, times = np.array([1], np.uint64), np.array([1], np.int64)
    frame = Frame(FrameKind.DATA, "g", 5, "r", (SENDER,), ids, times, value)
    assert decode(encode(frame)).value.view(np.uint64)[0] == STALE_NAN_BITS


@given(st.integers(0, 400))
def test_a_truncated_frame_is_refused(length: int) -> None:
    record = encode(a_frame())
    if length < len(record):
        with pytest.raises(FrameError):
            decode(record[:length])


@given(st.data())
def test_damage_is_refused_or_read_and_nothing_else(data: st.DataObject) -> None:
    record = bytearray(encode(a_frame()))
    at = data.draw(st.integers(0, len(record) - 1))
    record[at] ^= data.draw(st.integers(1, 255))
    try:
        decode(bytes(record))
    except FrameError:
        return


@given(st.binary(max_size=200))
def test_any_bytes_are_refused(record: bytes) -> None:
    with pytest.raises(FrameError):
        decode(record)


def test_lengths_that_lie_are_refused() -> None:
    record = bytearray(encode(a_frame()))
    record[8:12] = struct.pack("<I", 2**32 - 1)
    with pytest.raises(FrameError, match="where the header tells of"):
        decode(bytes(record))


def test_a_data_frame_has_one_sender() -> None:
    frame = Frame(FrameKind.DATA, "g", 5, "r", ())
    with pytest.raises(FrameError, match="one is needed"):
        decode(encode(frame))


@given(st.dictionaries(st.text(min_size=1), st.text()))
def test_label_sets_are_read_back_without_empty_values(labels: dict[str, str]) -> None:
    assert parse(canonical(labels.items())) == {k: v for k, v in labels.items() if v}


def test_a_series_has_one_id_in_any_order_of_labels() -> None:
    assert canonical([("b", "2"), ("a", "1")]) == canonical([("a", "1"), ("b", "2"), ("c", "")])


@pytest.mark.parametrize("form", [b"a", b"a\xff", b"a\xffb", b"\x80\xffb\xff"])
def test_what_is_no_label_set_is_refused(form: bytes) -> None:
    with pytest.raises(FrameError):
        parse(form)
