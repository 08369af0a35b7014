"""What the gateway takes in becomes frames, shard by shard: native histograms."""

from collections.abc import Iterable, Mapping

import numpy as np
import pytest

from native import STALE, native
from taking import take
from watchkeep.schemas.entity import EntityRules
from watchkeep.schemas.frame import Frame, MetricKind, decode, shard_of
from watchkeep.schemas.labels import parse
from watchkeep.schemas.remote_write_pb2 import Histogram, WriteRequest
from watchkeep.schemas.settings import Settings
from watchkeep.streams.clocks import EventClock
from watchkeep.streams.intake import Intake
from watchkeep.streams.native_histograms import BUCKETS_MAX
from watchkeep.streams.wire import V1

NOW_MS = 1_772_409_600_000
CART = {"__name__": "up", "namespace": "shop", "pod": "cart-0", "cluster": "c"}
LATENCY = CART | {"__name__": "http_request_duration_seconds"}
RECORD_BYTES_MAX = 1_000_000


@pytest.fixture
def intake() -> Intake:
    settings = Settings(clock="event")
    return Intake(settings.gateway, EntityRules(settings.entities.rules), EventClock())


def add(
    message: WriteRequest,
    labels: Mapping[str, str],
    histograms: Iterable[Histogram] = (),
    samples: Iterable[tuple[int, float]] = (),
) -> None:
    series = message.timeseries.add(histograms=histograms)
    for name, value in labels.items():
        series.labels.add(name=name, value=value)
    for ms, number in samples:
        series.samples.add(timestamp=NOW_MS + ms, value=number)


def drained(intake: Intake) -> list[Frame]:
    return [decode(record) for records in intake.drain().values() for record in records]


def test_native_histograms_go_into_a_frame_with_samples(intake: Intake) -> None:
    sent = [
        native({0: 2, 3: 1}, schema=0, time_ms=NOW_MS),
        native({1: 4}, {1: 1}, schema=0, zero=2, threshold=0.25, time_ms=NOW_MS + 15_000),
        Histogram(sum=STALE, timestamp=NOW_MS + 30_000),
    ]
    message = WriteRequest()
    add(message, CART, samples=[(0, 1.0)])
    add(message, LATENCY, sent)
    assert not take(intake, message)
    assert intake.waiting == 4
    (frame,) = drained(intake)
    (up, latency) = frame.label_sets
    assert (up.kind, latency.kind) == (MetricKind.UNKNOWN, MetricKind.HISTOGRAM)
    assert parse(latency.labels) == LATENCY
    found = frame.histograms
    assert found.series_id.tolist() == [latency.series_id] * 3
    assert found.time_ms.tolist() == [NOW_MS, NOW_MS + 15_000, NOW_MS + 30_000]
    assert found.count[:2].tolist() == [3, 7]
    assert found.count.view(np.uint64)[2] == found.sum.view(np.uint64)[2] == 0x7FF0000000000002
    assert found.sum[:2].tolist() == [1.5, 1.5]
    assert found.buckets.tolist() == [2, 3, 0]
    assert found.lower.tolist() == [0.5, 4, -2, -0.25, 1]
    assert found.upper.tolist() == [1, 8, -1, 0.25, 2]
    assert found.value.tolist() == [2, 1, 1, 2, 4]
    assert frame.senders[0].newest_ms == NOW_MS + 30_000
    assert frame.value.tolist() == [1.0]


def test_histograms_alone_are_heard_and_go_to_their_shards(intake: Intake) -> None:
    message = WriteRequest()
    for i in range(20):
        labels = LATENCY | {"pod": f"w{i}-0", "prometheus_replica": "ab"[i % 2]}
        add(message, labels, [native({i: 1}, time_ms=NOW_MS + i)])
    take(intake, message)
    uppers = {}
    for shard, records in intake.drain().items():
        for frame in map(decode, records):
            newest = {"a": NOW_MS + 18, "b": NOW_MS + 19}
            assert frame.senders[0].newest_ms == newest[frame.senders[0].replica]
            known = {labels.series_id: labels for labels in frame.label_sets}
            columns = (frame.histograms.series_id.tolist(), frame.histograms.upper.tolist())
            for series, upper in zip(*columns, strict=True):
                assert shard_of(known[series].entity) == shard
                uppers[known[series].member] = upper
    assert uppers == {f"w{i}-0": 2.0**i for i in range(20)}


def test_what_becomes_a_native_histogram_is_told_anew(intake: Intake) -> None:
    kinds = []
    for histograms in ([], [native({1: 1}, time_ms=NOW_MS)], [native({1: 1}, time_ms=NOW_MS + 1)]):
        message = WriteRequest()
        add(message, LATENCY, histograms, [] if histograms else [(0, 1.0)])
        take(intake, message)
        (frame,) = drained(intake)
        kinds.append([labels.kind for labels in frame.label_sets])
    assert kinds == [[MetricKind.UNKNOWN], [MetricKind.HISTOGRAM], []]


def test_metadata_knows_better_what_a_histogram_is(intake: Intake) -> None:
    message = WriteRequest()
    add(message, CART, samples=[(0, 1.0)])
    message.metadata.add(type="GAUGEHISTOGRAM", metric_family_name=LATENCY["__name__"])
    take(intake, message)
    drained(intake)
    message = WriteRequest()
    add(message, LATENCY, [native({1: 1}, time_ms=NOW_MS)])
    take(intake, message)
    (frame,) = drained(intake)
    assert frame.label_sets[0].kind is MetricKind.GAUGE_HISTOGRAM


def test_no_record_is_larger_than_brokers_take(intake: Intake) -> None:
    message = WriteRequest()
    many = native(dict.fromkeys(range(BUCKETS_MAX), 1), schema=4, threshold=0)
    for i in range(30):
        many.timestamp = NOW_MS + i
        add(message, LATENCY | {"path": "x" * 16_000, "i": str(i)}, [many])
    for i in range(12_000):
        add(message, CART | {"i": str(i)}, samples=[(i % 30, 1.0)])
    assert not take(intake, message)
    (records,) = intake.drain().values()
    assert max(map(len, records)) < RECORD_BYTES_MAX
    found = [decode(record) for record in records]
    assert sum(len(frame.value) for frame in found) == 12_000
    times = [time_ms for frame in found for time_ms in frame.histograms.time_ms.tolist()]
    assert times == [NOW_MS + i for i in range(30)]
    reached = [frame.senders[0].newest_ms for frame in found]
    assert reached == sorted(reached)
    assert reached[-1] == NOW_MS + 29
    known: set[int] = set()
    for frame in found:
        known |= {labels.series_id for labels in frame.label_sets}
        assert known.issuperset(frame.series_id.tolist())
        assert known.issuperset(frame.histograms.series_id.tolist())


def test_a_label_of_a_megabyte_is_refused_and_the_rest_is_taken(intake: Intake) -> None:
    message = WriteRequest()
    add(message, CART | {"path": "x" * 1_000_000}, samples=[(0, 1.0)])
    add(message, CART, samples=[(0, 2.0)])
    assert take(intake, message) == {"labels of more than 16384 bytes": 1}
    (frame,) = drained(intake)
    assert frame.value.tolist() == [2.0]


def test_replicas_of_one_pair_bear_the_pair_s_name(intake: Intake) -> None:
    message = WriteRequest()
    who = {"prometheus": "monitoring/k8s", "prometheus_replica": "prometheus-k8s-0"}
    add(message, CART | who, samples=[(0, 2.0)])
    take(intake, message)
    (frame,) = drained(intake)
    assert frame.senders[0].replica == "monitoring/k8s/prometheus-k8s-0"
    assert "prometheus_replica" not in parse(frame.label_sets[0].labels)


class _Standing:
    def now_ms(self) -> int:
        return NOW_MS


def test_a_sample_from_the_future_moves_no_time() -> None:
    """Were it to, the cells of all others would close before their samples are there."""
    settings = Settings()
    intake = Intake(settings.gateway, EntityRules(settings.entities.rules), _Standing())
    heard = []
    for samples in ([(-5_000, 1.0)], [(3_600_000, 1.0)], [(-2_000, 1.0), (3_600_000, 1.0)]):
        message = WriteRequest()
        add(message, CART, samples=samples)
        assert not take(intake, message)
        (frame,) = drained(intake)
        heard.append(frame.senders[0].newest_ms - NOW_MS)
    assert heard == [-5_000, -5_000, -2_000]


def relabelling() -> Intake:
    rules = ({"action": "drop", "source_labels": ["pod"], "regex": "cart-.*"},)
    settings = Settings.model_validate({"clock": "event", "gateway": {"relabel": rules}})
    return Intake(settings.gateway, EntityRules(settings.entities.rules), EventClock())


def test_what_a_rule_drops_is_not_written_and_its_sender_has_no_reason_to_worry() -> None:
    intake = relabelling()
    message = WriteRequest()
    add(message, CART, samples=[(0, 1.0), (1, 2.0)])
    add(message, LATENCY, [native({1: 1}, time_ms=NOW_MS)])
    for _ in range(2):
        taken = intake.take(message.SerializeToString(), V1)
        assert taken == ({"dropped by a rule": 2}, 2, 1, 0, False)
        assert not drained(intake)
    add(message, CART | {"pod": "basket-0"}, samples=[(0, 3.0)])
    assert intake.take(message.SerializeToString(), V1)[1:] == (3, 1, 0, True)
    (frame,) = drained(intake)
    assert frame.value.tolist() == [3.0]


def test_labels_that_lie_apart_are_one_label_set(intake: Intake) -> None:
    message = WriteRequest()
    add(message, CART, samples=[(0, 1.0)])
    usual = message.timeseries[0].SerializeToString()
    at = usual.index(b"\x12\x10")
    sample, labels = usual[at:], usual[:at]
    apart = labels[: 2 + labels[1]] + sample + labels[2 + labels[1] :]
    for body in (usual, apart, apart):
        assert not intake.take(b"\x0a" + bytes([len(body)]) + body, V1).refused
    (frame,) = drained(intake)
    assert len(frame.label_sets) == 1
    assert frame.value.tolist() == [1.0] * 3
    assert len(set(frame.series_id.tolist())) == 1


def test_what_came_while_a_write_failed_is_written_with_its_labels(intake: Intake) -> None:
    message = WriteRequest()
    add(message, CART, samples=[(60_000, 1.0)])
    take(intake, message)
    drained(intake)
    message.timeseries[0].samples[0].timestamp = NOW_MS
    take(intake, message)
    intake.forget()
    (frame,) = drained(intake)
    assert len(frame.label_sets) == 1
    # What is to be sent again is newer than all that the log has.
    assert frame.senders[0].newest_ms == NOW_MS


def test_what_is_dropped_is_known_for_as_long_as_it_comes() -> None:
    intake = relabelling()
    for ms in range(0, 2 * 3_600_000, 600_000):
        message = WriteRequest()
        add(message, CART, samples=[(ms, 1.0)])
        add(message, CART | {"pod": "basket-0"}, samples=[(ms, 1.0)])
        take(intake, message)
        drained(intake)
        assert intake.active_series == 2


def test_series_that_ended_are_forgotten_and_the_others_are_not(intake: Intake) -> None:
    hour_ms = 3_600_000
    for pod, ms in (("a", 0), ("b", 0), ("b", hour_ms + 1), ("c", hour_ms + 1)):
        message = WriteRequest()
        add(message, CART | {"pod": f"{pod}-0"}, samples=[(ms, 1.0)])
        take(intake, message)
    drained(intake)
    assert intake.active_series == 2
    message = WriteRequest()
    for pod in "abc":
        add(message, CART | {"pod": f"{pod}-0"}, samples=[(hour_ms + 2, 1.0)])
    take(intake, message)
    told = [parse(entry.labels)["pod"] for frame in drained(intake) for entry in frame.label_sets]
    assert told == ["a-0"]
    assert intake.active_series == 3
