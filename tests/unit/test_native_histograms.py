"""Native histograms are read with their bounds, and refused in words where they are none."""

import math
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from native import STALE, native
from watchkeep.schemas.errors import DecodeError
from watchkeep.schemas.frame import Frame, FrameKind, SenderTime, decode, encode
from watchkeep.schemas.remote_write_pb2 import Histogram
from watchkeep.streams.native_histograms import BUCKETS_MAX, GAUGE, bounds, columns, read

FLOAT_MAX = 1.7976931348623157e308
TINY = 2.0**-128


def buckets(message: Histogram) -> list[tuple[float, float, float]]:
    found = read(message).buckets
    columns = (found.lower.tolist(), found.upper.tolist(), found.value.tolist())
    return list(zip(*columns, strict=True))


def custom(bounds: list[float], counts: list[int]) -> Histogram:
    return altered(
        native(dict(enumerate(counts)), schema=-53, threshold=0),
        lambda message: message.custom_values.extend(bounds),
    )


def fractions(positive: dict[int, float], count: float, schema: int = 0) -> Histogram:
    message = native(positive, schema=schema, is_float=True)
    return altered(message, having(count_float=count))


def altered(message: Histogram, alter: Callable[[Histogram], object]) -> Histogram:
    alter(message)
    return message


def having(**fields: object) -> Callable[[Histogram], object]:
    def alter(message: Histogram) -> None:
        for name, value in fields.items():
            setattr(message, name, value)

    return alter


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (native({0: 3, 1: 1, 4: 2}), [(0.5, 1, 3), (1, 2, 1), (8, 16, 2)]),
        (native({-2: 1}), [(0.125, 0.25, 1)]),
        (native({1: 2, 2: 1}, schema=-1), [(1, 4, 2), (4, 16, 1)]),
        (native({0: 5}, schema=-4), [(2.0**-16, 1, 5)]),
        (native({1: 2, 2: 7}, schema=1), [(1, math.sqrt(2), 2), (math.sqrt(2), 2, 7)]),
        (native({1: 1}, {0: 2, 3: 4}), [(-8, -4, 4), (-1, -0.5, 2), (1, 2, 1)]),
        (native({1: 1}, {1: 2}, zero=3), [(-2, -1, 2), (-TINY, TINY, 3), (1, 2, 1)]),
        (native({}, zero=3, threshold=0), [(0, 0, 3)]),
        (native({1: 0.5, 3: 0.25}, is_float=True), [(1, 2, 0.5), (4, 8, 0.25)]),
        (native({1: 1, 2: 0, 3: 1}), [(1, 2, 1), (4, 8, 1)]),
        (native({}), []),
        (native({1: 3, 16: 1, 17: 2}, schema=8), [(1, 2**0.0625, 4), (2**0.0625, 2**0.125, 2)]),
        (native({0: 3, 1: 1}, schema=5), [(2**-0.0625, 1, 3), (1, 2**0.0625, 1)]),
        (custom([1, 2.5], [3, 0, 4]), [(-math.inf, 1, 3), (2.5, math.inf, 4)]),
        (custom([], [3]), [(-math.inf, math.inf, 3)]),
    ],
)  # fmt: skip
def test_buckets_have_their_own_counts_between_bounds(
    message: Histogram, expected: list[tuple[float, float, float]]
) -> None:
    assert buckets(message) == expected
    assert read(message).count == sum(value for _, _, value in expected)
    assert read(message).sum == 1.5


@given(
    st.integers(-4, 8),
    st.lists(st.floats(-90, 90).map(lambda x: 2.0**x), min_size=1, max_size=60),
)
def test_every_observation_lies_in_its_bucket(schema: int, observed: list[float]) -> None:
    # Where it lies is uncertain at a bound itself, as logarithms are.
    places = [math.log2(value) * 2.0**schema for value in observed]
    sure = [at for at in places if abs(at - round(at)) > 1e-6]
    message = native(Counter(math.ceil(at) for at in sure), schema=schema)
    scale = 2.0**-schema
    values = [2.0 ** (at * scale) for at in sure]
    found = buckets(message)
    for lower, upper, value in found:
        assert sum(lower < number <= upper for number in values) == value
    assert sum(value for _, _, value in found) == len(values)


def test_the_same_bound_has_the_same_bits_in_all_schemas() -> None:
    index = np.arange(-1000, 1001)
    for schema in range(-4, 4):
        finer = bounds(index << 1, schema + 1)
        assert bounds(index, schema).tobytes() == finer.tobytes()


def test_bounds_are_those_of_the_senders_but_for_the_last_bit() -> None:
    """Prometheus has them in a table, this is its schema 3."""
    eighths = [
        *(0.5, 0.5452538663326288, 0.5946035575013605, 0.6484197773255048),
        *(0.7071067811865475, 0.7711054127039704, 0.8408964152537144, 0.9170040432046711),
    ]
    assert bounds(np.arange(-8, 0), 3).tolist() == pytest.approx(eighths, rel=2.3e-16)


def test_one_bucket_follows_another_without_a_gap() -> None:
    index = np.arange(-16_000, 16_000)
    assert np.all(np.diff(bounds(index, 4)) > 0)
    assert bounds(index - 1, 4)[1:].tobytes() == bounds(index, 4)[:-1].tobytes()


@pytest.mark.parametrize("schema", range(-4, 9))
def test_the_largest_numbers_and_infinity_have_buckets_of_their_own(schema: int) -> None:
    top = int(1024 * 2.0**schema)
    *_, last, infinite = buckets(native({top: 1, top + 1: 2}, schema=schema))
    assert last[1:] == (FLOAT_MAX, 1)
    assert infinite == (FLOAT_MAX, math.inf, 2)
    first, *_ = buckets(native({}, {top: 1, top + 1: 2}, schema=schema))
    assert first == (-math.inf, -FLOAT_MAX, 2)


@given(
    st.integers(-4, 8),
    st.dictionaries(st.integers(-(2**31), 2**31 - 2), st.integers(1, 9), max_size=8),
)
def test_indexes_beyond_all_numbers_are_survived(schema: int, counts: dict[int, int]) -> None:
    chosen = {i: counts[i] for i in sorted(counts) if i - min(counts) < 2**31}
    found = read(native(chosen, schema=schema)).buckets
    assert np.all(np.diff(found.upper) > 0)
    assert np.all(found.lower <= found.upper)
    assert found.value.sum() == sum(chosen.values())


def test_buckets_within_the_zero_bucket_are_a_part_of_it() -> None:
    message = native({-1: 1, 0: 2, 1: 4}, {0: 8, 2: 16}, zero=32, threshold=1.0)
    assert buckets(message) == [(-4, -2, 16), (-1, 1, 43), (1, 2, 4)]


def test_a_stale_marker_has_no_buckets_and_keeps_its_bits() -> None:
    found = read(Histogram(sum=STALE, timestamp=7))
    assert np.array([found.count, found.sum]).view(np.uint64).tolist() == [0x7FF0000000000002] * 2
    assert (len(found.buckets.value), found.time_ms) == (0, 7)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -3.0])
def test_a_sum_may_be_any_number(value: float) -> None:
    found = read(altered(native({1: 1}), lambda message: setattr(message, "sum", value)))
    np.testing.assert_equal(found.sum, value)
    assert found.count == 1


def test_what_is_no_number_is_counted_in_no_bucket() -> None:
    message = altered(native({1: 1}), lambda message: setattr(message, "count_int", 3))
    with pytest.raises(DecodeError, match="less in its buckets than its count"):
        read(message)
    message.sum = math.nan
    assert (read(message).count, buckets(message)) == (3, [(1, 2, 1)])


def test_rounded_counts_may_be_a_little_less_than_their_buckets() -> None:
    message = native(dict.fromkeys(range(10), 0.1), is_float=True)
    message.count_float = 0.9999999999999
    assert len(buckets(message)) == 10


A = {0: 1, 1: 1, 5: 1}


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (altered(native(A), having(reset_hint=Histogram.GAUGE)), GAUGE),
        (altered(native(A), lambda m: m.positive_deltas.append(0)), "spans and buckets"),
        (altered(native(A), lambda m: m.negative_deltas.append(0)), "spans and buckets"),
        (altered(native(A), lambda m: m.positive_deltas.pop()), "spans and buckets"),
        (altered(native(A), lambda m: m.positive_spans.add(length=2**32 - 1)), "spans and buckets"),
        (altered(native(A), having(count_float=3.0)), "spans and buckets"),
        (altered(native(A), lambda m: m.positive_spans.add(offset=-1)), "a negative offset"),
        (native({1: 1, 2: -1, 3: 1}), "a bucket without a sane count"),
        (native({1: 2}, {2: -1}), "a bucket without a sane count"),
        (fractions({1: 1}, math.nan), "without a sane count"),
        (fractions({1: 1}, math.inf), "without a sane count"),
        (fractions({1: 1}, -1.0), "without a sane count"),
        (fractions({1: math.nan}, 1.0), "a bucket without a sane count"),
        (fractions({1: math.inf}, 1.0), "a bucket without a sane count"),
        (fractions({1: 1e308, 2: 1e308}, 1e308), "more in its buckets than its count"),
        (fractions({1: 1e308, 2: 1e308}, 1.0, schema=8), "more in its buckets than its count"),
        (fractions({1: FLOAT_MAX, 2: FLOAT_MAX}, FLOAT_MAX), "more in its buckets than its count"),
        (altered(native(A), having(count_int=2)), "more in its buckets than its count"),
        (fractions({1: 2.0}, 1.99), "more in its buckets than its count"),
        (altered(native({}, zero=2), having(count_int=1)), "more in its buckets than its count"),
        (altered(native(A), having(zero_count_float=math.nan)), "zero count"),
        (altered(native(A), having(zero_count_float=-1.0)), "zero count"),
        (native(A, threshold=-1.0), "zero threshold"),
        (native(A, threshold=math.nan), "zero threshold"),
        (native(A, threshold=math.inf), "zero threshold"),
        (native(A, schema=9), "an unknown schema"),
        (native(A, schema=-5), "an unknown schema"),
        (native(A, schema=-54), "an unknown schema"),
        (native(dict.fromkeys(range(BUCKETS_MAX + 1), 1)), "more than 10000 buckets"),
        (custom([float(i) for i in range(BUCKETS_MAX + 1)], [1]), "more than 10000 buckets"),
        (custom([1.0, 1.0], [1]), "don't ascend"),
        (custom([2.0, 1.0], [1]), "don't ascend"),
        (custom([1.0, math.nan], [1]), "don't ascend"),
        (custom([1.0, math.inf], [1]), "don't ascend"),
        (custom([1.0], [1, 1, 1]), "beyond its custom bounds"),
        (native({-1: 1}, schema=-53, threshold=0), "beyond its custom bounds"),
        (native({0: 1}, schema=-53), "a zero bucket"),
        (native({0: 1}, schema=-53, threshold=0, zero=1), "a zero bucket"),
        (native({0: 1}, {0: 1}, schema=-53, threshold=0), "negative buckets"),
    ],
)  # fmt: skip
def test_what_is_no_histogram_is_refused_in_words(message: Histogram, words: str) -> None:
    with pytest.raises(DecodeError, match=words):
        read(message)


def test_as_many_buckets_as_allowed_are_read() -> None:
    many = dict.fromkeys(range(-5000, 5000), 1)
    assert len(buckets(native(many, schema=4, threshold=0))) == BUCKETS_MAX


ANY_FLOAT = st.one_of(st.sampled_from([0.0, 1.0, FLOAT_MAX, 5e-324, STALE]), st.floats())
ANY_COUNTS = st.lists(st.one_of(st.floats(0, allow_infinity=False), ANY_FLOAT), max_size=6)
ANY_DELTAS = st.lists(st.one_of(st.integers(0, 9), st.integers(-(2**63), 2**63 - 1)), max_size=6)


@st.composite
def any_message(draw: st.DrawFn) -> Histogram:
    """Draw a histogram that is often nearly a sane one."""
    made = Histogram(
        sum=draw(ANY_FLOAT),
        schema=draw(st.sampled_from([-53, -4, -1, 0, 3, 4, 5, 8, 9])),
        zero_threshold=draw(ANY_FLOAT),
        custom_values=draw(st.one_of(st.lists(ANY_FLOAT, max_size=6), st.just([1.0, 2.0, 3.0]))),
    )
    if draw(st.booleans()):
        made.count_float = draw(st.one_of(st.just(FLOAT_MAX), ANY_FLOAT))
        made.zero_count_float = draw(ANY_FLOAT)
    else:
        made.count_int = draw(st.one_of(st.just(2**64 - 1), st.integers(0, 99)))
        made.zero_count_int = draw(st.one_of(st.integers(0, 2**64 - 1), st.integers(0, 99)))
    indexes = st.one_of(st.integers(-3, 3), st.integers(-(2**31), 2**31 - 1))
    for spans, counts, deltas in (
        (made.positive_spans, made.positive_counts, made.positive_deltas),
        (made.negative_spans, made.negative_counts, made.negative_deltas),
    ):
        counts.extend(draw(ANY_COUNTS))
        deltas.extend(draw(ANY_DELTAS))
        given = len(counts if made.WhichOneof("count") == "count_float" else deltas)
        while given > 0:
            length = draw(st.integers(1, given))
            spans.add(offset=draw(st.integers(0, 40_000) if spans else indexes), length=length)
            given -= length
    return made


@given(any_message())
def test_what_is_taken_can_be_read_from_the_log(message: Histogram) -> None:
    """A frame that can't be read would be lost as a whole."""
    try:
        found = columns(np.array([1], np.uint64), [read(message)])
    except DecodeError:
        return
    sender = SenderTime("c", "a", 0, 0)
    record = encode(Frame(FrameKind.DATA, "g", 0, "r", (sender,), histograms=found))
    assert decode(record).histograms.value.tobytes() == found.value.tobytes()
