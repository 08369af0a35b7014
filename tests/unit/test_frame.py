"""Frames carry columns and label sets to the bit, and refuse what is no frame."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

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
from watchkeep.schemas.histograms import NO_HISTOGRAMS, Histograms
from watchkeep.schemas.labels import canonical, parse, series_id

STALE_NAN_BITS = 0x7FF0000000000002
STALE = float(np.array([STALE_NAN_BITS], np.uint64).view(np.float64)[0])
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
        histograms([[(-2.0, -1.0, 1.0), (-0.5, 0.5, 2.0), (1.0, 2.0, 4.5)], [], STALE]),
    )


def histograms(given: list[list[tuple[float, float, float]] | float]) -> Histograms:
    """Make histograms of series 0, 1, ...: each of its buckets, or of its count alone."""
    own = [buckets if isinstance(buckets, list) else [] for buckets in given]
    count = [1e9 if isinstance(buckets, list) else buckets for buckets in given]
    flat = np.array([bucket for buckets in own for bucket in buckets], np.float64).reshape(-1, 3)
    return Histograms(
        np.arange(len(given), dtype=np.uint64),
        np.arange(len(given), dtype=np.int64),
        np.array(count, np.float64),
        np.arange(len(given), dtype=np.float64),
        np.array([len(buckets) for buckets in own], np.uint32),
        *flat.T,
    )


def of_histograms(given: Histograms) -> Frame:
    return Frame(FrameKind.DATA, "g", 5, "r", (SENDER,), histograms=given)


def same(a: Frame, b: Frame) -> bool:
    columns = [(getattr(a, n), getattr(b, n)) for n in ("series_id", "time_ms", "value")]
    columns += zip(a.histograms, b.histograms, strict=True)
    rest = ("kind", "gateway", "gateway_ms", "rules", "senders", "label_sets")
    return all(x.dtype == y.dtype and x.tobytes() == y.tobytes() for x, y in columns) and all(
        getattr(a, n) == getattr(b, n) for n in rest
    )


@st.composite
def any_histograms(draw: st.DrawFn) -> Histograms:
    """Draw histograms that are sane, and as odd as sane ones can be."""
    h = draw(st.integers(0, 6))
    finite = st.floats(allow_nan=False, allow_infinity=False)
    own = []
    for _ in range(h):
        edges = draw(st.lists(st.floats(allow_nan=False), max_size=12, unique=True))
        own.append(sorted({edge + 0.0 for edge in edges}))
    buckets = np.array([max(len(edges) - 1, 0) for edges in own], np.uint32)
    k = int(buckets.sum())
    count = draw(hnp.arrays(np.float64, h, elements=finite.map(abs)))
    count[(buckets == 0) & draw(hnp.arrays(bool, h))] = STALE
    return Histograms(
        draw(hnp.arrays(np.uint64, h)),
        draw(hnp.arrays(np.int64, h)),
        count,
        draw(hnp.arrays(np.float64, h)),
        buckets,
        np.array([edge for edges in own for edge in edges[:-1]], np.float64),
        np.array([edge for edges in own for edge in edges[1:]], np.float64),
        draw(hnp.arrays(np.float64, k, elements=finite.map(abs).filter(bool))),
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


@given(any_histograms())
def test_histograms_are_read_back_to_the_bit(given: Histograms) -> None:
    assert same(decode(encode(of_histograms(given))), of_histograms(given))


def test_columns_are_views_of_the_record() -> None:
    frame = decode(encode(a_frame()))
    assert not any(column.flags.owndata for column in (frame.value, *frame.histograms))
    assert all(column.flags.aligned for column in (frame.value, *frame.histograms))


@given(any_histograms(), st.data())
def test_histograms_are_picked_with_their_buckets(given: Histograms, data: st.DataObject) -> None:
    h = len(given.series_id)
    numbers = st.lists(st.integers(0, h - 1), max_size=8) if h else st.just([])
    which = data.draw(numbers)
    ends = np.cumsum(given.buckets)
    picked = given.pick(np.array(which, np.int64))
    assert picked.series_id.tolist() == [given.series_id[i] for i in which]
    uppers = [given.upper[ends[i] - given.buckets[i] : ends[i]].tolist() for i in which]
    assert picked.upper.tolist() == [bound for own in uppers for bound in own]
    assert len(picked.lower) == len(picked.value) == picked.buckets.sum()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([np.nan], "a histogram's count"),
        ([np.inf], "a histogram's count"),
        ([-1.0], "a histogram's count"),
        ([[(0.0, 1.0, 0.0)]], "a bucket's count"),
        ([[(0.0, 1.0, np.nan)]], "a bucket's count"),
        ([[(0.0, 1.0, np.inf)]], "a bucket's count"),
        ([[(0.0, np.nan, 1.0)]], "don't ascend"),
        ([[(np.nan, 1.0, 1.0)]], "don't ascend"),
        ([[(np.inf, np.inf, 1.0)]], "don't ascend"),
        ([[(-np.inf, -np.inf, 1.0)]], "don't ascend"),
        ([[(2.0, 1.0, 1.0)]], "don't ascend"),
        ([[(0.0, 2.0, 1.0), (0.5, 1.0, 1.0)]], "don't ascend"),
        ([[], [(0.0, 2.0, 1.0), (0.5, 2.0, 1.0)]], "don't ascend"),
    ],
)
def test_histograms_that_cannot_be_are_refused(
    given: list[list[tuple[float, float, float]] | float], words: str
) -> None:
    with pytest.raises(FrameError, match=words):
        decode(encode(of_histograms(histograms(given))))


@pytest.mark.parametrize("own", [[2, 0], [0, 2], [2**32 - 1, 2], [2, 2**32 - 1]])
def test_buckets_that_do_not_add_up_are_refused(own: list[int]) -> None:
    given = histograms([[(0.0, 1.0, 1.0)], [(0.0, 1.0, 1.0), (1.0, 2.0, 1.0)]])
    record = bytearray(encode(of_histograms(given)))
    record[-8:] = struct.pack("<II", *own)
    with pytest.raises(FrameError, match="add up"):
        decode(bytes(record))


@pytest.mark.parametrize(("h", "k"), [(2**32 - 1, 0), (0, 2**32 - 1), (0, 0), (2, 3)])
def test_numbers_of_histograms_that_lie_are_refused(h: int, k: int) -> None:
    record = bytearray(encode(a_frame()))
    record[32:40] = struct.pack("<II", h, k)
    with pytest.raises(FrameError, match="where the header tells of"):
        decode(bytes(record))


def test_buckets_of_no_histogram_are_refused() -> None:
    # As many bytes as three buckets take.
    record = bytearray(encode(of_histograms(NO_HISTOGRAMS)))
    record[32:40] = struct.pack("<II", 0, 3)
    with pytest.raises(FrameError, match="add up"):
        decode(bytes(record) + b"\0" * 72)


def test_a_frame_of_version_1_is_refused_by_name() -> None:
    with pytest.raises(FrameError, match="version 1"):
        decode(b"WKF1" + encode(a_frame())[4:])


@given(st.integers(0, 1_000))
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
