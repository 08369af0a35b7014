"""Both readers of remote write take a request apart alike, whatever its bytes are."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from second_version import Draft, drafts, encode_v1, encode_v2, text_of
from watchkeep.schemas.errors import RemoteWriteError
from watchkeep.streams import wire
from watchkeep.streams.wire import V1, V2, Columns, Limits, Reader
from watchkeep.streams.wire_plain import PlainReader

SMALL = Limits(series=5, samples=9, label_bytes=300, drawn_bytes=900)
ENCODE = {V1: encode_v1, V2: encode_v2}


def make_compiled(limits: Limits = wire.LIMITS) -> Reader:
    from watchkeep.streams.wire_compiled import CompiledReader  # noqa: PLC0415 - It may be absent.

    return CompiledReader(limits)


@pytest.fixture(scope="session", autouse=True)
def compiled_part(compiled: None) -> None:
    """Need the compiled part."""


def seen(reader: Reader, plain: bytes, version: int) -> tuple[object, ...]:
    """Tell what a reader makes of a request, in a form that can be compared.

    What a request is refused for depends on where one looks first, if several things are wrong.
    """
    try:
        columns = reader.read(plain, version)
    except RemoteWriteError:
        return ("refused",)
    arrays = [column.tolist() for column in columns[:5]]
    return arrays, columns.value.view(np.uint64).tolist(), columns[6:]


def learned(reader: Reader, columns: Columns) -> None:
    for _, labels in columns.unknown:
        reader.learn(labels)


@pytest.mark.parametrize("version", [V1, V2])
@pytest.mark.parametrize("make", [PlainReader, make_compiled], ids=["plain", "compiled"])
@given(request=drafts())
def test_a_request_is_read_as_it_was_written(
    make: Callable[[], Reader], version: int, request: Draft
) -> None:
    reader = make()
    plain = ENCODE[version](request)
    first = reader.read(plain, version)
    assert [row for row, _ in first.unknown] == list(range(len(request)))
    assert [text_of(labels) for _, labels in first.unknown] == [one.labels for one in request]
    learned(reader, first)
    again = reader.read(plain, version)
    numbers: dict[tuple[tuple[str, str], ...], int] = {}
    assert again.slot.tolist() == [numbers.setdefault(s.labels, len(numbers)) for s in request]
    for columns in (first, again):
        assert columns.samples.tolist() == [len(one.samples) for one in request]
        assert columns.exemplars.tolist() == [one.exemplars for one in request]
        told = list(zip(columns.time_ms, columns.value.view(np.uint64), strict=True))
        assert told == [(t, np.float64(v).view(np.uint64)) for s in request for t, v in s.samples]
        assert [row for row, _ in columns.histograms] == [
            row for row, one in enumerate(request) for _ in one.histograms
        ]
        if version == V2:
            assert columns.kind.tolist() == [one.kind for one in request]


@st.composite
def broken(draw: st.DrawFn, version: int) -> bytes:
    """Draw a request that somebody has meddled with."""
    plain = ENCODE[version](draw(drafts()))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(plain)))
        cut = draw(st.integers(0, 12))
        put = draw(st.one_of(st.binary(max_size=12), st.just(plain[at:])))
        plain = plain[:at] + put + plain[at + cut :]
    return plain


@pytest.mark.parametrize("version", [V1, V2])
@given(data=st.data())
def test_readers_agree_on_broken_requests(version: int, data: st.DataObject) -> None:
    readers = [PlainReader(SMALL), make_compiled(SMALL)]
    known = PlainReader().read(encode_v1(data.draw(drafts(), "known")), V1)
    plain = data.draw(broken(version), "request")
    one, other = (seen(reader, plain, version) for reader in readers)
    assert one == other
    for reader in readers:
        learned(reader, known)
    one, other = (seen(reader, plain, version) for reader in readers)
    assert one == other


@pytest.mark.parametrize("version", [V1, V2])
@settings(max_examples=20)
@given(request=drafts())
def test_readers_agree_wherever_a_request_ends(version: int, request: Draft) -> None:
    plain = ENCODE[version](request)
    readers = [PlainReader(SMALL), make_compiled(SMALL)]
    for end in range(len(plain)):
        one, other = (seen(reader, plain[:end], version) for reader in readers)
        assert one == other


@pytest.mark.parametrize("version", [V1, V2])
@given(plain=st.binary(max_size=200))
def test_readers_agree_on_any_bytes(version: int, plain: bytes) -> None:
    assert seen(PlainReader(SMALL), plain, version) == seen(make_compiled(SMALL), plain, version)


@pytest.fixture(params=[PlainReader, make_compiled], ids=["plain", "compiled"])
def reader(request: pytest.FixtureRequest) -> Reader:
    made: Reader = request.param()
    return made


def test_slots_that_are_kept_are_numbered_anew(reader: Reader) -> None:
    texts = [f"label {i}".encode() * (i + 1) for i in range(3_000)]
    assert [reader.learn(text) for text in texts] == list(range(3_000))
    kept = np.arange(2_999, 0, -7)
    reader.keep(kept)
    assert [reader.learn(texts[slot]) for slot in kept.tolist()] == list(range(len(kept)))
    assert reader.learn(b"another") == len(kept)
    assert reader.learn(texts[1_000]) == len(kept) + (1_000 not in kept)


@pytest.mark.parametrize(
    ("plain", "version", "words"),
    [
        (b"\x0a\x80", V1, "ends in the middle"),
        (b"\x0a" + b"\xff" * 10, V1, "a number that is none"),
        (b"\x00", V1, "a number that is none"),
        (b"\x08\x01", V1, "another type"),
        (b"\x0b", V1, "another type"),
        (b"\x22\x00", V1, "the other version"),
        (b"\x0a\x00", V2, "the other version"),
        (b"\x2a\x00", V2, "the first symbol must be the empty one"),
        (b"\x22\x01a", V2, "the first symbol must be the empty one"),
    ],
)
def test_what_cannot_be_read_is_told_in_words(
    reader: Reader, plain: bytes, version: int, words: str
) -> None:
    with pytest.raises(RemoteWriteError, match=words) as refused:
        reader.read(plain, version)
    assert refused.value.status == 400
